# What `up`, `down` and the services share: processes stopped by pid, readiness, packages, TLS.
# Sourced, not run. Everything listens on 127.0.0.1 only and writes below LIVE_DIR only.
# shellcheck shell=bash
set -euo pipefail

LIVE_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# All that a run writes: data, logs, pids, keys. Throw-away.
LIVE_DIR=${LIVE_DIR:-${TMPDIR:-/tmp}/mail2crm-live-$(id -u)}
LIVE_DIR=${LIVE_DIR%/}
# What takes long to make and never changes (Request Tracker's database). Kept between runs.
LIVE_CACHE=${LIVE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mail2crm-live}
# Every port is this base plus a fixed offset: two sets side by side need two bases and two folders.
LIVE_PORT_BASE=${LIVE_PORT_BASE:-23000}
# Seconds that one service may take to answer.
LIVE_TIMEOUT=${LIVE_TIMEOUT:-120}
LIVE_PASSWORD=live-pass   # of every account
LIVE_DOMAIN=example.test  # the mail domain that Dovecot serves
LIVE_ALL="dovecot postfix rt s3 gcs azurite sftp"

PATH=$PATH:/usr/sbin:/sbin
umask 022
# The servers talk to each other on loopback: never through a proxy.
export no_proxy="127.0.0.1,localhost" NO_PROXY="127.0.0.1,localhost"

say() { printf 'live: %s\n' "$*" >&2; }
die() { printf 'live: error: %s\n' "$*" >&2; exit 1; }
port() { echo $((LIVE_PORT_BASE + $1)); }
now_ms() { date +%s%3N; }
since() { local d=$(($(now_ms) - $1)); printf '%d.%01ds' $((d / 1000)) $((d % 1000 / 100)); }
am_root() { [ "$(id -u)" = 0 ]; }

# The account that owns mailboxes: not root when root starts the servers, as on a real host.
mail_user() { if am_root; then echo mail; else id -un; fi; }

# --- processes: each leads a process group of its own and is stopped by pid -----------------------

# Field 22 of /proc/PID/stat, the start time: a pid file can't name another process that got the same pid.
started_at() {
  local s
  s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086
  set -- ${s##*) }
  echo "${20}"
}

# spawn [-u USER] NAME COMMAND...: the command must stay in the foreground.
spawn() {
  local user='' name pid
  if [ "$1" = -u ]; then user=$2; shift 2; fi
  name=$1; shift
  if am_root && [ -n "$user" ]; then
    set -- setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- env HOME="$LIVE_DIR" "$@"
  fi
  setsid "$@" </dev/null >>"$LIVE_DIR/log/$name.log" 2>&1 9>&- &
  pid=$!
  echo "$pid $(started_at "$pid" || echo gone)" >"$LIVE_DIR/run/$name.pid"
}
# running NAME: true, and prints the pid, while what spawn started lives.
running() {
  local pid start
  read -r pid start 2>/dev/null <"$LIVE_DIR/run/$1.pid" || return 1
  [ "$(started_at "$pid" 2>/dev/null)" = "$start" ] || return 1
  case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in Z* | "") return 1 ;; esac # a zombie does not run
  echo "$pid"
}
# stop NAME: TERM to the process, 15 s of patience, then KILL to its group.
stop() {
  local name=$1 pid start i
  if pid=$(running "$name"); then
    kill -s TERM "$pid" 2>/dev/null || true
    for ((i = 0; i < 150; i++)); do running "$name" >/dev/null || break; sleep 0.1; done
    if running "$name" >/dev/null; then say "$name (pid $pid) does not stop on TERM: killing it"; fi
  else
    # The leader is gone but some of its group may have outlived it. While they do, nobody else gets
    # its number; so if another process has it, the group is not ours.
    read -r pid start 2>/dev/null <"$LIVE_DIR/run/$name.pid" || pid=''
    [ -z "$pid" ] || [ "$(started_at "$pid" || echo "$start")" = "$start" ] || pid=''
  fi
  if [ -n "$pid" ]; then
    kill -s KILL -- "-$pid" 2>/dev/null || true
    for ((i = 0; i < 20; i++)); do kill -0 -- "-$pid" 2>/dev/null || break; sleep 0.1; done
  fi
  rm -f "$LIVE_DIR/run/$name.pid"
}
# pids_of SERVICE: the names under run/ that are the service's own (NAME or NAME-part).
pids_of() { local f; for f in "$LIVE_DIR/run/$1.pid" "$LIVE_DIR/run/$1"-*.pid; do [ -e "$f" ] && basename "$f" .pid; done; true; }
service_up() { local n found=1; for n in $(pids_of "$1"); do running "$n" >/dev/null || return 1; found=0; done; return $found; }

# --- readiness ------------------------------------------------------------------------------------

tcp_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
tcp_banner() { # PORT PREFIX: the server speaks first and says PREFIX
  local line=
  { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
  read -r -t 5 line <&3 || true
  exec 3>&- 3<&-
  [[ $line == "$2"* ]]
}
http_any() { curl -sS -o /dev/null --max-time 5 "$@" 2>/dev/null; }
http_ok() { curl -sS -o /dev/null --max-time 10 -f "$@" 2>/dev/null; }
need_free() { # PORT...: refuses to start over somebody else's listener
  local p
  for p in "$@"; do
    if tcp_open "$p"; then die "port $p is taken; set LIVE_PORT_BASE to another base than $LIVE_PORT_BASE"; fi
  done
}

# --- packages -------------------------------------------------------------------------------------

apt_missing() { local p; for p in "$@"; do [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"; done; }
apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$LIVE_DIR/log/apt.log" 2>&1; }
apt_install() { # PACKAGE...: none of their services is started by the installation
  local missing
  mapfile -t missing < <(apt_missing "$@")
  [ "${#missing[@]}" -eq 0 ] && return 0
  command -v apt-get >/dev/null || die "this needs Debian's packages ${missing[*]}, and there is no apt-get here"
  am_root || die "packages are missing; install them as root: apt-get install --no-install-recommends ${missing[*]}"
  say "installing ${missing[*]} and what they need"
  (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod 755 $policy
    fi
    # Debian's own instance of Postfix stays unused: ours has its own configuration folder.
    echo 'postfix postfix/main_mailer_type select Local only' | debconf-set-selections 2>/dev/null || true
    apt_get update && apt_get install --no-install-recommends "${missing[@]}"
  ) || { tail -n 15 "$LIVE_DIR/log/apt.log" >&2; die "apt-get could not install ${missing[*]}; the whole log is $LIVE_DIR/log/apt.log"; }
}

# What pip_env and npm_tree need from Debian, for a service's list of packages.
pip_apt() { python3 -c 'import ensurepip' 2>/dev/null || echo python3 python3-venv; }
npm_apt() { command -v npm >/dev/null || echo nodejs npm; }

# pip_env NAME PACKAGE...: a Python environment of its own in the cache; prints its path.
# It's made again when the list of packages changes.
pip_env() {
  local name=$1 dir=$LIVE_CACHE/py-$1 want; shift
  want="$*"
  if [ "$(cat "$dir/.packages" 2>/dev/null)" != "$want" ]; then
    say "installing Python packages for $name"
    rm -rf "$dir"
    python3 -m venv "$dir" >>"$LIVE_DIR/log/pip.log" 2>&1 || die "python3 -m venv failed; see $LIVE_DIR/log/pip.log"
    "$dir/bin/python" -m pip install -q --disable-pip-version-check "$@" >>"$LIVE_DIR/log/pip.log" 2>&1 ||
      { tail -n 15 "$LIVE_DIR/log/pip.log" >&2; rm -rf "$dir"; die "pip could not install $want"; }
    echo "$want" >"$dir/.packages"
  fi
  echo "$dir"
}

# npm_tree NAME PACKAGE...: likewise for npm; prints the folder that holds node_modules.
npm_tree() {
  local name=$1 dir=$LIVE_CACHE/npm-$1 want; shift
  want="$*"
  if [ "$(cat "$dir/.packages" 2>/dev/null)" != "$want" ]; then
    say "installing npm packages for $name"
    rm -rf "$dir"; mkdir -p "$dir"
    npm install --prefix "$dir" --no-audit --no-fund --no-update-notifier --loglevel=error "$@" >>"$LIVE_DIR/log/npm.log" 2>&1 ||
      { tail -n 15 "$LIVE_DIR/log/npm.log" >&2; rm -rf "$dir"; die "npm could not install $want"; }
    echo "$want" >"$dir/.packages"
  fi
  echo "$dir"
}

# --- TLS: an authority of this folder's own, and a certificate of its for localhost -----------------

make_tls() {
  local d=$LIVE_DIR/tls log=$LIVE_DIR/log/tls.log
  [ -s "$d/server.crt" ] && return 0
  rm -rf "$d"; mkdir -p "$d"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=mail2crm test authority" \
      -keyout "$d/ca.key" -out "$d/ca.crt" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign &&
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=mail2crm test server" -keyout "$d/server.key" -out "$d/server.csr" &&
    openssl x509 -req -in "$d/server.csr" -CA "$d/ca.crt" -CAkey "$d/ca.key" -CAcreateserial -days 825 -out "$d/server.new" \
      -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n')
  } >"$log" 2>&1 || die "openssl failed; see $log"
  chmod 644 "$d"/*.key # throw-away keys
  mv "$d/server.new" "$d/server.crt"
}

services_there() { (cd "$LIVE_HOME/services" && ls) | sed 's/\.sh$//' | paste -sd' '; }
load_service() {
  # shellcheck disable=SC1090
  . "$LIVE_HOME/services/$1.sh"
}
