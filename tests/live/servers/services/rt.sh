# Request Tracker 5: a real ticket system with REST 2.0 (token) on 80, its own web server over SQLite.
# Mail reaches it through Postfix; without Postfix its own mails are kept by nobody.
# shellcheck shell=bash
# dbconfig-no-thanks keeps the packages from making a database of their own.
rt_apt="dbconfig-no-thanks rt5-db-sqlite rt5-standalone rt5-clients request-tracker5"

rt_account() { if am_root; then echo www-data; else id -un; fi; }

rt_config() { # FOLDER: RT_SiteConfig.pm for an instance there
  cat <<CONF
Set(\$rtname, 'example');
Set(\$Organization, '$LIVE_DOMAIN');
Set(\$CorrespondAddress, 'support\@rt.test');
Set(\$CommentAddress, 'support-comment\@rt.test');
Set(\$OwnerEmail, 'archive\@$LIVE_DOMAIN');
Set(\$WebDomain, '127.0.0.1');
Set(\$WebPort, $(port 80));
Set(\$WebPath, '');
Set(\$DatabaseType, 'SQLite');
Set(\$DatabaseName, '$1/rt.sqlite');
Set(\$WebSessionClass, 'Apache::Session::File');
Set(\$LogToSyslog, undef);
Set(\$LogToFile, undef);
Set(\$LogToSTDERR, 'warning');
Set(\$MailCommand, 'sendmailpipe');
Set(\$SendmailPath, '$1/sendmail');
Set(\$SendmailArguments, '-t');
Set(\$MaxAttachmentSize, 20_000_000);
# A token is hashed anew for each request: cheaply here, or each takes half a second.
Set(\$BcryptCost, 5);
Set(\$Timezone, 'UTC');
Set(\$HTMLFormatter, 'core');
Set(%GnuPG, Enable => 0);
Set(%SMIME, Enable => 0);
\$RT::VarPath = '$1/var';
\$RT::MasonDataDir = '$1/mason';
\$RT::MasonSessionDir = '$1/session';
1;
CONF
}

# Making the database takes a while: it is made once, kept in the cache, and copied from there.
rt_install() {
  local log=$LIVE_DIR/log/rt-setup.log d
  rt_kept=$LIVE_CACHE/rt-$({ cat "$LIVE_HOME/services/rt.sh" "$LIVE_HOME/tools/rt_seed.pl"; echo "$LIVE_PASSWORD $LIVE_DOMAIN"; dpkg-query -W request-tracker5; } | sha256sum | cut -c1-16)
  [ -s "$rt_kept/token" ] && return 0
  say "making Request Tracker's database"
  mkdir -p "$LIVE_CACHE"
  d=$(mktemp -d "$LIVE_CACHE/new.XXXXXX")
  mkdir -p "$d"/{var,mason,session,conf.d}
  rt_config "$d" >"$d/RT_SiteConfig.pm"
  echo "$LIVE_PASSWORD" >"$d/root-password"
  (
    export RT_SITE_CONFIG=$d/RT_SiteConfig.pm RT_SITE_CONFIG_DIR=$d/conf.d
    rt-setup-database-5 --action init --force --datadir /usr/share/request-tracker5/etc --root-password-file "$d/root-password" >"$log" 2>&1 &&
      perl "$LIVE_HOME/tools/rt_seed.pl" "$LIVE_PASSWORD" >"$d/token" 2>>"$log"
  ) || { tail -n 15 "$log" >&2; rm -rf "$d"; die "Request Tracker's database could not be made; the whole log is $log"; }
  rm -rf "$LIVE_CACHE"/rt-*
  mv "$d" "$rt_kept"
}

rt_start() {
  local d=$LIVE_DIR/rt
  need_free "$(port 80)"
  mkdir -p "$d"/{var,mason,session,conf.d}
  [ -s "$d/rt.sqlite" ] || cp "$rt_kept/rt.sqlite" "$rt_kept/token" "$d/"
  # In WAL mode the web server's workers read while one of them writes.
  perl -MDBI -e 'DBI->connect("dbi:SQLite:dbname=$ARGV[0]", "", "", { RaiseError => 1 })->do("PRAGMA journal_mode = WAL")' "$d/rt.sqlite" ||
    die "Request Tracker's database can't be opened: $d/rt.sqlite"
  rt_config "$d" >"$d/RT_SiteConfig.pm"
  printf '#!/bin/sh\nexec perl "%s" %s\n' "$LIVE_HOME/tools/sendmail.pl" "$(port 25)" >"$d/sendmail"
  chmod 755 "$d/sendmail"
  if am_root; then chown -R www-data:www-data "$d"; fi
  spawn -u "$(rt_account)" rt env RT_SITE_CONFIG="$d/RT_SiteConfig.pm" RT_SITE_CONFIG_DIR="$d/conf.d" PATH="$PATH" \
    perl /usr/share/request-tracker5/libexec/rt-server --host 127.0.0.1 --port "$(port 80)" --max-workers 4
}

rt_ready() { http_ok -H "Authorization: token $(cat "$LIVE_DIR/rt/token")" "http://127.0.0.1:$(port 80)/REST/2.0/rt"; }

rt_env() {
  cat <<ENV
LIVE_RT_URL=http://127.0.0.1:$(port 80)
LIVE_RT_TOKEN=$(cat "$LIVE_DIR/rt/token")
LIVE_RT_USER=bridge
LIVE_RT_QUEUE=ContactCenter
ENV
}
