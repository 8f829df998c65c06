# Postfix: takes mail by SMTP (25), submission (587 STARTTLS + AUTH, 465 TLS + AUTH) and hands it to Dovecot
# (example.test), to Request Tracker's mail gate (rt.test), or to the program's own listeners: smtp.bridge.test by
# SMTP over TLS, with its certificate checked, and lmtp.bridge.test by LMTP. It sends nothing to any other host.
# Only root can run it.
# shellcheck shell=bash
postfix_apt="postfix"
postfix_needs="dovecot" # SASL and LMTP

postfix_start() {
  local d=$LIVE_DIR/postfix mailboxes u
  am_root || die "Postfix runs only when root starts it"
  need_free "$(port 25)" "$(port 587)" "$(port 465)"
  mkdir -p "$d/etc" "$d/data" "$d/spool"
  chmod 755 "$d" "$d/etc" "$d/spool"
  chown postfix "$d/data"
  mailboxes=
  for u in $dovecot_accounts; do mailboxes+=" {$u@$LIVE_DOMAIN=x}"; done
  # No lookups in DNS, and no delivery but to these domains.
  cat >"$d/etc/main.cf" <<CONF
compatibility_level = 3.6
queue_directory = $d/spool
data_directory = $d/data
maillog_file = $LIVE_DIR/log/postfix.log
maillog_file_prefixes = $LIVE_DIR
myhostname = mx.$LIVE_DOMAIN
mydomain = $LIVE_DOMAIN
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtp_dns_support_level = disabled
mydestination =
local_transport = error:5.1.1 no local mailboxes here
default_transport = error:5.4.4 nothing goes outside
relayhost =
mynetworks =
alias_maps =
alias_database =
recipient_delimiter = +
message_size_limit = 10485760
mailbox_size_limit = 0
virtual_mailbox_domains = $LIVE_DOMAIN
virtual_mailbox_maps = inline:{$(echo "${mailboxes# }" | sed 's/} {/}, {/g')}
virtual_transport = lmtp:inet:127.0.0.1:$(port 24)
relay_domains = rt.test smtp.bridge.test lmtp.bridge.test
relay_recipient_maps =
transport_maps = inline:{ {support-comment@rt.test=rtcomment:}, {rt.test=rtmail:}, {smtp.bridge.test=bridge:[localhost]:$(port 2525)}, {lmtp.bridge.test=lmtp:inet:127.0.0.1:$(port 2424)} }
rtmail_destination_recipient_limit = 1
rtcomment_destination_recipient_limit = 1
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:$(port 12)
smtpd_sasl_security_options = noanonymous
smtpd_tls_auth_only = yes
smtpd_tls_security_level = may
smtpd_tls_cert_file = $LIVE_DIR/tls/server.crt
smtpd_tls_key_file = $LIVE_DIR/tls/server.key
smtp_tls_security_level = none
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
smtpd_peername_lookup = no
# Deferred mail is tried again after seconds, not minutes.
queue_run_delay = 5s
minimal_backoff_time = 5s
maximal_backoff_time = 10s
maximal_queue_lifetime = 1h
CONF
  cat >"$d/etc/master.cf" <<CONF
127.0.0.1:$(port 25) inet n - n - - smtpd
127.0.0.1:$(port 587) inet n - n - - smtpd
  -o syslog_name=postfix/submission -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:$(port 465) inet n - n - - smtpd
  -o syslog_name=postfix/smtps -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n -  0 cleanup
qmgr      unix  n - n 5  1 qmgr
tlsmgr    unix  - - n 300 1 tlsmgr
rewrite   unix  - - n -  - trivial-rewrite
bounce    unix  - - n -  0 bounce
defer     unix  - - n -  0 bounce
trace     unix  - - n -  0 bounce
verify    unix  - - n -  1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -  - proxymap
proxywrite unix - - n -  1 proxymap
showq     unix  n - n -  - showq
error     unix  - - n -  - error
retry     unix  - - n -  - error
discard   unix  - - n -  - discard
lmtp      unix  - - n -  - lmtp
smtp      unix  - - n -  - error
relay     unix  - - n -  - error
bridge    unix  - - n -  - smtp
  -o smtp_tls_security_level=verify -o smtp_tls_CAfile=$LIVE_DIR/tls/ca.crt
anvil     unix  - - n -  1 anvil
scache    unix  - - n -  1 scache
postlog   unix-dgram n - n - 1 postlogd
rtmail    unix  - n n -  2 pipe flags=R user=nobody
  argv=/usr/bin/rt-mailgate-5 --queue ContactCenter --action correspond --url http://127.0.0.1:$(port 80)/
rtcomment unix  - n n -  2 pipe flags=R user=nobody
  argv=/usr/bin/rt-mailgate-5 --queue ContactCenter --action comment --url http://127.0.0.1:$(port 80)/
CONF
  postfix -c "$d/etc" check >>"$LIVE_DIR/log/postfix.log" 2>&1 || die "Postfix does not like its configuration; see $LIVE_DIR/log/postfix.log"
  # The master daemon itself, for its pid: `postfix start` would leave us that of a script.
  spawn postfix "$(postconf -c "$d/etc" -h daemon_directory)/master" -c "$d/etc" -s
}

postfix_ready() { tcp_banner "$(port 587)" 220 && tcp_banner "$(port 25)" 220 && tcp_open "$(port 465)"; }

postfix_env() {
  cat <<ENV
LIVE_SMTP_PORT=$(port 25)
LIVE_SUBMISSION_PORT=$(port 587)
LIVE_SUBMISSIONS_PORT=$(port 465)
LIVE_POSTFIX_ETC=$LIVE_DIR/postfix/etc
LIVE_BRIDGE_SMTP_PORT=$(port 2525)
LIVE_BRIDGE_LMTP_PORT=$(port 2424)
LIVE_RT_MAIL=support@rt.test
LIVE_RT_MAIL_COMMENT=support-comment@rt.test
ENV
}
