# SFTP: OpenSSH's server, key only, for one account. Nothing but SFTP is allowed.
# shellcheck shell=bash
sftp_apt="openssh-server openssh-client"

sftp_start() {
  local d=$LIVE_DIR/sftp user
  user=$(mail_user)
  need_free "$(port 22)"
  mkdir -p "$d/files"
  chmod 755 "$d"
  [ -s "$d/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C live-host -f "$d/host_key"
  [ -s "$d/client_key" ] || ssh-keygen -q -t ed25519 -N '' -C live-client -f "$d/client_key"
  [ -s "$d/other_key" ] || ssh-keygen -q -t ed25519 -N '' -C live-stranger -f "$d/other_key" # one that is refused
  cp "$d/client_key.pub" "$d/authorized_keys"
  chmod 644 "$d/authorized_keys"
  if am_root; then chown "$user" "$d/files"; mkdir -p /run/sshd; fi
  echo "[127.0.0.1]:$(port 22) $(cut -d' ' -f1,2 "$d/host_key.pub")" >"$d/known_hosts"
  cat >"$d/sshd_config" <<CONF
Port $(port 22)
ListenAddress 127.0.0.1
HostKey $d/host_key
PidFile none
AuthorizedKeysFile $d/authorized_keys
# The folder may lie below one that others can write to, as /tmp.
StrictModes no
AllowUsers $user
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitTTY no
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d $d/files
MaxStartups 200
MaxSessions 200
CONF
  spawn sftp /usr/sbin/sshd -D -e -f "$d/sshd_config"
}

sftp_ready() { tcp_banner "$(port 22)" "SSH-2.0"; }

sftp_env() {
  cat <<ENV
LIVE_SFTP_PORT=$(port 22)
LIVE_SFTP_USER=$(mail_user)
LIVE_SFTP_KEY=$LIVE_DIR/sftp/client_key
LIVE_SFTP_WRONG_KEY=$LIVE_DIR/sftp/other_key
LIVE_SFTP_KNOWN_HOSTS=$LIVE_DIR/sftp/known_hosts
LIVE_SFTP_HOST_KEY=$LIVE_DIR/sftp/host_key.pub
LIVE_SFTP_FILES=$LIVE_DIR/sftp/files
ENV
}
