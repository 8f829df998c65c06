//! A connection to an SFTP server: SSH (RFC 4253), the server's key against the pinned ones, and the login by private
//! key, password or the server's questions (RFC 4252, RFC 4256). Never shows a credential.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key};
use russh::{MethodKind, Preferred};
use russh_sftp::client::RawSftpSession;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;

use crate::outcome::{Class, Reason, Verdict};
use crate::store::Access;
use crate::store::fresh::{reveal, unauthorized};

/// The extension that renames over a file.
pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
/// Until the login is through.
const CONNECT: Duration = Duration::from_secs(30);
/// For the answer to one request, in seconds.
const ANSWER: u64 = 60;
/// An idle connection is kept from being forgotten between here and there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Questions of a server that are answered.
const MOST_QUESTIONS: usize = 8;

/// A server with whom to be there.
pub(super) struct Server {
    user: String,
    host: String,
    port: u16,
    access: Access,
    keys: Vec<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown())
    }
}

/// A connection that is logged in.
pub(super) struct Link {
    pub(super) sftp: RawSftpSession,
    /// Renames over a file in one step.
    pub(super) replaces: bool,
    /// Flushes a file on request.
    pub(super) flushes: bool,
    ssh: Handle<Pinned>,
}

impl Link {
    pub(super) fn is_open(&self) -> bool {
        !self.ssh.is_closed()
    }
}

/// Accepts the pinned keys, and remembers the one that was shown.
struct Pinned {
    accepted: Vec<String>,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let print = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256),
            PublicKeyOrCertificate::Certificate(signed) => {
                PublicKey::from(signed.public_key().clone()).fingerprint(HashAlg::Sha256)
            }
        };
        let print = print.to_string();
        let is_known = self.accepted.contains(&print);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(print);
        Ok(is_known)
    }
}

impl Server {
    pub(super) fn new(user: &str, host: &str, port: u16, access: &Access) -> Self {
        let keys = access.host_key.as_deref().unwrap_or_default().split(',');
        let keys = keys.map(|key| key.trim().trim_end_matches('=').to_owned()).collect();
        Self { user: user.to_owned(), host: host.to_owned(), port, access: access.clone(), keys }
    }

    /// The server for messages.
    pub(super) fn shown(&self) -> String {
        format!("sftp://{}:{}", self.host, self.port)
    }

    pub(super) async fn connect(&self) -> Result<Link, Verdict> {
        let late = |_| Verdict::new(Class::Retry, Reason::Timeout, format!("{} does not answer in time", self.shown()));
        tokio::time::timeout(CONNECT, self.log_in()).await.map_err(late)?
    }

    async fn log_in(&self) -> Result<Link, Verdict> {
        let mut ssh = self.handshake().await?;
        let Access { password, private_key, passphrase, .. } = self.access.clone();
        let [password, private_key, passphrase] = reveal([password, private_key, passphrase]).await?;
        let lost = |error: russh::Error| self.lost(&error);
        let mut is_in = false;
        if let Some(key) = private_key {
            let key = decode_secret_key(key.expose_secret(), passphrase.as_ref().map(|p| p.expose_secret())).map_err(
                |_| unauthorized("`private_key` can't be used: is it a private key, and is its `passphrase` there?"),
            )?;
            let hash = ssh.best_supported_rsa_hash().await.map_err(lost)?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash.or(Some(HashAlg::Sha256)));
            is_in = ssh.authenticate_publickey(&self.user, key).await.map_err(lost)?.success();
        }
        if let Some(password) = password.filter(|_| !is_in) {
            is_in = self.by_password(&mut ssh, &password).await.map_err(lost)?;
        }
        if !is_in {
            return Err(unauthorized(format!("{} refuses the login", self.shown())));
        }
        let channel = ssh.channel_open_session().await.map_err(lost)?;
        channel.request_subsystem(true, "sftp").await.map_err(lost)?;
        let sftp = RawSftpSession::new(channel.into_stream());
        sftp.set_timeout(ANSWER);
        let no_sftp = |_| {
            let detail = format!("{} has no SFTP for this user", self.shown());
            Verdict::new(Class::Pause, Reason::BadBaseUrl, detail)
        };
        let version = sftp.init().await.map_err(no_sftp)?;
        let has = |name: &str| version.extensions.get(name).is_some_and(|version| version == "1");
        Ok(Link { replaces: has(POSIX_RENAME), flushes: has(FSYNC), sftp, ssh })
    }

    async fn by_password(&self, ssh: &mut Handle<Pinned>, password: &SecretString) -> Result<bool, russh::Error> {
        let asks = match ssh.authenticate_password(&self.user, password.expose_secret()).await? {
            AuthResult::Success => return Ok(true),
            AuthResult::Failure { remaining_methods, .. } => {
                remaining_methods.contains(&MethodKind::KeyboardInteractive)
            }
        };
        if !asks {
            return Ok(false);
        }
        let mut told = ssh.authenticate_keyboard_interactive_start(&self.user, None).await?;
        for _ in 0..MOST_QUESTIONS {
            match told {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| password.expose_secret().to_owned()).collect();
                    told = ssh.authenticate_keyboard_interactive_respond(answers).await?;
                }
            }
        }
        Ok(false)
    }

    /// A server can have several keys, of which it shows one of the kind that it is asked for first: so each kind is
    /// asked for until a pinned one is shown.
    async fn handshake(&self) -> Result<Handle<Pinned>, Verdict> {
        let all = Preferred::DEFAULT.key;
        let is_rsa = |kind: &Algorithm| matches!(kind, Algorithm::Rsa { .. });
        let is_ecdsa = |kind: &Algorithm| matches!(kind, Algorithm::Ecdsa { .. });
        let of = |is_kind: &dyn Fn(&Algorithm) -> bool| -> Vec<Algorithm> {
            all.iter().filter(|kind| is_kind(kind)).cloned().collect()
        };
        let mut others = [of(&is_ecdsa), of(&is_rsa)].into_iter();
        let mut kinds = all.to_vec();
        let mut refused = Vec::new();
        loop {
            let shown = Arc::new(Mutex::new(None));
            let pinned = Pinned { accepted: self.keys.clone(), shown: shown.clone() };
            let config = client::Config {
                preferred: Preferred { key: Cow::Owned(kinds), ..Preferred::DEFAULT },
                keepalive_interval: Some(KEEP_ALIVE),
                nodelay: true,
                ..client::Config::default()
            };
            let error = match client::connect_stream(Arc::new(config), self.dial().await?, pinned).await {
                Ok(ssh) => return Ok(ssh),
                Err(error) => error,
            };
            match shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(key) if !self.keys.contains(&key) => refused.push(key),
                // None of this kind, or another fault.
                _ if refused.is_empty() => return Err(self.lost(&error)),
                _ => {}
            }
            match others.next() {
                Some(next) => kinds = next,
                None => return Err(self.unknown(refused)),
            }
        }
    }

    fn unknown(&self, mut keys: Vec<String>) -> Verdict {
        keys.dedup();
        let detail = format!(
            "the key of {} is not the one in `host_key`: it shows {}. If its administrator confirms that, write it there",
            self.shown(),
            keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ")
        );
        Verdict::new(Class::Pause, Reason::Tls, detail)
    }

    async fn dial(&self) -> Result<TcpStream, Verdict> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|_| {
            Verdict::new(
                Class::Pause,
                Reason::Dns,
                format!("the name of the host of {} is not known to DNS", self.shown()),
            )
        })?;
        let addresses: Vec<_> = addresses.collect();
        let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| {
            let detail = format!("no connection to {}: {}", self.shown(), error.kind());
            Verdict::new(Class::Retry, Reason::Unreachable, detail)
        })?;
        stream.set_nodelay(true).ok();
        Ok(stream)
    }

    fn lost(&self, error: &russh::Error) -> Verdict {
        let (class, reason, what) = match error {
            russh::Error::NoCommonAlgo { .. } => (Class::Pause, Reason::Tls, "offers no cryptography that we take"),
            russh::Error::Version => (Class::Pause, Reason::BadBaseUrl, "does not answer in SSH"),
            _ => (Class::Retry, Reason::ConnectionLost, "broke the connection off"),
        };
        Verdict::new(class, reason, format!("{} {what}", self.shown()))
    }
}
