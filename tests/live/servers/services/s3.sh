# S3: moto's server, which keeps everything in memory. It checks the signature of every request,
# since it is told to once its account is made.
# shellcheck shell=bash
s3_apt=$(pip_apt)
s3_install() { s3_tree=$(pip_env moto 'moto[s3,iam]==5.2.5' flask flask-cors); }

s3_start() {
  need_free "$(port 900)"
  mkdir -p "$LIVE_DIR/s3"
  rm -f "$LIVE_DIR/s3/account"
  INITIAL_NO_AUTH_ACTION_COUNT=1000000 spawn s3 "$s3_tree/bin/python" "$s3_tree/bin/moto_server" -H 127.0.0.1 -p "$(port 900)"
}

s3_ready() {
  http_any "http://127.0.0.1:$(port 900)/moto-api/data.json" || return 1
  [ -s "$LIVE_DIR/s3/account" ] && return 0
  "$s3_tree/bin/python" "$LIVE_HOME/tools/s3_account.py" "http://127.0.0.1:$(port 900)" sessions >"$LIVE_DIR/s3/account.new" 2>>"$LIVE_DIR/log/s3.log" &&
    mv "$LIVE_DIR/s3/account.new" "$LIVE_DIR/s3/account"
}

s3_env() {
  local key secret
  read -r key secret <"$LIVE_DIR/s3/account"
  cat <<ENV
LIVE_S3_URL=http://127.0.0.1:$(port 900)
LIVE_S3_REGION=us-east-1
LIVE_S3_BUCKET=sessions
LIVE_S3_KEY=$key
LIVE_S3_SECRET=$secret
ENV
}
