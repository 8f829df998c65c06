# Azure Blob storage: Azurite, with a container `sessions`. It checks shared-key signatures.
# shellcheck shell=bash
azurite_apt=$(npm_apt)
azurite_key=$(printf 'live-azure-key-live-azure-key-12' | base64)
azurite_install() { azurite_tree=$(npm_tree azurite azurite@3.37.0); }

azurite_start() {
  need_free "$(port 100)"
  mkdir -p "$LIVE_DIR/azurite"
  AZURITE_ACCOUNTS="live:$azurite_key" spawn azurite node "$azurite_tree/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$(port 100)" \
    --location "$LIVE_DIR/azurite" --skipApiVersionCheck --disableTelemetry --silent
}

azurite_ready() { # the container is made when it answers
  local date key text signature status
  date=$(LC_ALL=C TZ=GMT date '+%a, %d %b %Y %H:%M:%S GMT')
  key=$(printf %s "$azurite_key" | base64 -d | od -An -tx1 | tr -d ' \n')
  text="PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:$date\nx-ms-version:2021-12-02\n/live/live/sessions\nrestype:container"
  signature=$(printf '%b' "$text" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
  status=$(curl -sS -o /dev/null -w '%{http_code}' --max-time 10 -X PUT -H "x-ms-date: $date" -H 'x-ms-version: 2021-12-02' \
    -H 'Content-Length: 0' -H "Authorization: SharedKey live:$signature" "http://127.0.0.1:$(port 100)/live/sessions?restype=container" 2>/dev/null)
  [ "$status" = 201 ] || [ "$status" = 409 ]
}

azurite_env() {
  cat <<ENV
LIVE_AZURE_URL=http://127.0.0.1:$(port 100)/live
LIVE_AZURE_ACCOUNT=live
LIVE_AZURE_KEY=$azurite_key
ENV
}
