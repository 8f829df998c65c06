//! Credentials that are read or asked for once and used for a while: a rotated one is picked up within a minute, and at
//! once when the old one is refused. Never shows them.

use std::fmt;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::outcome::{Class, Reason, Verdict};
use crate::secret::Secret;

/// How long what comes from the configuration is used before it is read again.
pub(super) const A_MINUTE: Duration = Duration::from_secs(60);

/// One value, or none yet.
pub(super) struct Fresh<T> {
    /// Held while it is made, so that those who need it together make it once.
    held: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Fresh<T> {
    /// The value; made anew, with how long it is good for, if there is none or it is too old.
    pub(super) async fn get(&self, make: impl Future<Output = Result<(T, Duration), Verdict>>) -> Result<T, Verdict> {
        let mut held = self.held.lock().await;
        if let Some((until, value)) = &*held
            && Instant::now() < *until
        {
            return Ok(value.clone());
        }
        let (value, life) = make.await?;
        *held = Some((Instant::now() + life, value.clone()));
        Ok(value)
    }

    /// It was refused.
    pub(super) async fn forget(&self) {
        *self.held.lock().await = None;
    }
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl<T> fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh")
    }
}

/// Secrets of the configuration, read off the runtime since a command can take a while.
pub(super) async fn reveal<const N: usize>(secrets: [Option<Secret>; N]) -> Result<[Option<SecretString>; N], Verdict> {
    let work = move || {
        let mut revealed = [const { None }; N];
        for (place, secret) in revealed.iter_mut().zip(secrets) {
            *place = secret.map(|secret| secret.reveal()).transpose()?;
        }
        Ok::<_, String>(revealed)
    };
    let revealed = tokio::task::spawn_blocking(work).await;
    revealed.unwrap_or_else(|_| Err("reading it was broken off".to_owned())).map_err(unauthorized)
}

/// A credential that can't be used.
pub(super) fn unauthorized(detail: impl Into<String>) -> Verdict {
    Verdict::new(Class::Pause, Reason::Unauthorized, detail)
}

/// What a secret says, for a signature.
pub(super) fn shown(secret: &SecretString) -> &str {
    secret.expose_secret()
}
