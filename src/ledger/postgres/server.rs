//! `postgres://user@host:port/database?…` → how to connect
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>).
//!
//! TLS is verified against the system's authorities, or those of `sslrootcert`, whichever of `require`, `verify-ca` and
//! `verify-full` is said, and also if nothing is; only a server on this machine is spoken to without. Never shows a
//! password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::Tls;
use crate::secret::Secret;
use crate::tls;

/// A database on a server.
#[derive(Clone)]
pub struct Server {
    config: Config,
    password: Option<Secret>,
    authorities: Option<PathBuf>,
}

impl Server {
    /// Whether this is the address of one, rather than a path.
    pub fn is_one(state: &str) -> bool {
        ["postgres://", "postgresql://"].iter().any(|scheme| state.starts_with(scheme))
    }

    /// Reads an address. The error is a sentence without the address, which may hold a password.
    pub fn from_url(url: &str, password: Option<Secret>) -> Result<Self, String> {
        let (address, options) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut authorities, mut kept) = (None, None, Vec::new());
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", word)) => mode = Some(word.to_owned()),
                Some(("sslrootcert", path)) => authorities = Some(PathBuf::from(path)),
                _ => kept.push(option),
            }
        }
        let address = if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) };
        let mut config = Config::from_str(&address).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("the address of the database can't be read{cause}")
        })?;
        if config.get_hosts().is_empty() {
            return Err("the address of the database names no host".to_owned());
        }
        let is_here = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => tls::is_loopback(name),
            Host::Unix(_) => true,
        });
        config.ssl_mode(match mode.as_deref() {
            Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
            Some("disable") => SslMode::Disable,
            None if is_here && authorities.is_none() => SslMode::Disable,
            None => SslMode::Require,
            Some(other) => {
                return Err(format!("`sslmode` is `verify-full`, `require` (the same) or `disable`, not `{other}`"));
            }
        });
        config.application_name("mail2crm");
        config.connect_timeout(Duration::from_secs(5));
        config.tcp_user_timeout(Duration::from_secs(30));
        config.keepalives_idle(Duration::from_secs(30));
        Ok(Self { config, password, authorities })
    }

    /// The same with relative paths from this folder.
    #[must_use]
    pub fn below(mut self, base: &std::path::Path) -> Self {
        self.authorities = self.authorities.map(|path| base.join(path));
        self
    }

    /// Where the password comes from, if the configuration says so.
    pub fn secret(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// All that a connection needs. The password is read each time, so that a new one is taken up: that of the
    /// configuration, or in the address, or in `PGPASSWORD`.
    pub(super) fn how(&self) -> Result<(Config, Tls), String> {
        let mut config = self.config.clone();
        if let Some(secret) = &self.password {
            config.password(secret.reveal()?.expose_secret());
        } else if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        Ok((config, Tls(tls::client_config(self.authorities.as_deref())?)))
    }
}

impl fmt::Display for Server {
    /// `postgres://user@host:port/database`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
            let comma = if number > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or(""))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_it_needs_and_never_shows_a_password() {
        let server =
            Server::from_url("postgres://me:hunter2@db.example:6432/ledger?sslmode=require", None).expect("one");
        assert_eq!(server.to_string(), "postgres://me@db.example:6432/ledger");
        assert!(!format!("{server:?}").contains("hunter2"));
        let mode = |url: &str| Server::from_url(url, None).map(|server| server.config.get_ssl_mode());
        assert_eq!(mode("postgres://localhost/l"), Ok(SslMode::Disable));
        assert_eq!(mode("postgresql://me@%2Frun%2Fpostgresql/l"), Ok(SslMode::Disable));
        assert_eq!(mode("postgres://db.example/l"), Ok(SslMode::Require));
        assert_eq!(mode("postgres://127.0.0.1/l?sslmode=verify-full&connect_timeout=3"), Ok(SslMode::Require));
        assert_eq!(mode("postgres://db.example/l?sslmode=disable"), Ok(SslMode::Disable));
        let refused = mode("postgres://me:hunter2@db.example/l?sslmode=prefer").expect_err("refused");
        assert!(refused.contains("`prefer`") && !refused.contains("hunter2"), "{refused}");
        for wrong in ["postgres://me:hunter2@db.example:port/l", "postgres:///l", "postgres://h/l?nonsense=1"] {
            let refused = mode(wrong).expect_err("refused");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
