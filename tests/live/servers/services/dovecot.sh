# Dovecot: IMAP (143 STARTTLS, 993 TLS), POP3 (110, 995), LMTP (24) over Maildir; answers Postfix's SASL
# questions (12). Access tokens (XOAUTH2, OAUTHBEARER) are looked up at 127.0.0.1:88 (RFC 7662), where the test that
# uses them answers. Accounts: inbox, agent, archive, and full, which has room for 16 kB.
# shellcheck shell=bash
dovecot_apt="dovecot-imapd dovecot-pop3d dovecot-lmtpd"

dovecot_accounts="inbox agent archive full"

dovecot_start() {
  local d=$LIVE_DIR/dovecot user group u extra
  user=$(mail_user) group=$(id -gn "$user")
  need_free "$(port 143)" "$(port 993)" "$(port 110)" "$(port 995)" "$(port 24)" "$(port 12)"
  mkdir -p "$d/run" "$d/mail"
  chmod 755 "$d" "$d/mail"
  chown "$user:$group" "$d/mail"
  for u in $dovecot_accounts; do
    extra=''
    [ "$u" != full ] || extra="userdb_quota_rule=*:storage=16K"
    echo "$u@$LIVE_DOMAIN:{PLAIN}$LIVE_PASSWORD::::::$extra"
  done >"$d/users"
  cat >"$d/oauth2.conf" <<CONF
introspection_mode = post
introspection_url = http://127.0.0.1:$(port 88)/introspect
username_attribute = username
active_attribute = active
active_value = true
timeout_msecs = 5000
CONF
  cat >"$d/dovecot.conf" <<CONF
protocols = imap pop3 lmtp
base_dir = $d/run
state_dir = $d/run
listen = 127.0.0.1
log_path = /dev/stderr
ssl = yes
ssl_cert = <$LIVE_DIR/tls/server.crt
ssl_key = <$LIVE_DIR/tls/server.key
ssl_min_protocol = TLSv1.2
auth_mechanisms = plain login xoauth2 oauthbearer
auth_username_format = %Lu
# A wrong password is answered at once, and repeated ones are not slowed down.
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
mail_home = $d/mail/%u
mail_location = maildir:~/Maildir
mail_uid = $(id -u "$user")
mail_gid = $(id -g "$user")
first_valid_uid = 1
mail_plugins = quota
# Throw-away mail: a test puts thousands of them, and waits for no disk.
mail_fsync = never
recipient_delimiter = +
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $d/oauth2.conf
}
passdb {
  driver = passwd-file
  mechanisms = plain login
  args = $d/users
}
userdb {
  driver = passwd-file
  args = $d/users
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Processed {
    auto = create
  }
  mailbox Failed {
    auto = create
  }
}
plugin {
  quota = maildir:User quota
}
service imap-login {
  inet_listener imap {
    port = $(port 143)
  }
  inet_listener imaps {
    port = $(port 993)
  }
}
service pop3-login {
  inet_listener pop3 {
    port = $(port 110)
  }
  inet_listener pop3s {
    port = $(port 995)
  }
}
service lmtp {
  inet_listener lmtp {
    port = $(port 24)
  }
}
service auth {
  inet_listener sasl {
    port = $(port 12)
  }
}
protocol imap {
  mail_plugins = \$mail_plugins imap_quota
  mail_max_userip_connections = 1000
  imap_idle_notify_interval = 30s
}
protocol pop3 {
  mail_max_userip_connections = 1000
}
CONF
  if ! am_root; then # everything under the one account that there is, and no chroot
    cat >>"$d/dovecot.conf" <<CONF
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
service imap-login {
  chroot =
}
service pop3-login {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
CONF
  fi
  spawn dovecot dovecot -F -c "$d/dovecot.conf"
}

dovecot_ready() { tcp_banner "$(port 143)" "* OK" && tcp_banner "$(port 110)" "+OK" && tcp_banner "$(port 24)" 220 && tcp_open "$(port 993)"; }

dovecot_env() {
  cat <<ENV
LIVE_IMAP_PORT=$(port 143)
LIVE_IMAPS_PORT=$(port 993)
LIVE_POP3_PORT=$(port 110)
LIVE_POP3S_PORT=$(port 995)
LIVE_LMTP_PORT=$(port 24)
LIVE_TOKEN_PORT=$(port 88)
LIVE_MAIL_INBOX=inbox@$LIVE_DOMAIN
LIVE_MAIL_AGENT=agent@$LIVE_DOMAIN
LIVE_MAIL_ARCHIVE=archive@$LIVE_DOMAIN
LIVE_MAIL_FULL=full@$LIVE_DOMAIN
ENV
}
