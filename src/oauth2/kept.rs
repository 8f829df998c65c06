//! The refresh tokens that a server gave in exchange, in a file beside the ledger (mode 0600) that is locked while
//! one is exchanged, so that two processes never show the same one. Written whole, synced and renamed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// Another process may take so long over one exchange.
const LOCK_TIMEOUT: Duration = Duration::from_secs(45);

/// What is kept, held under its lock.
pub(super) struct Kept {
    path: PathBuf,
    tokens: Tokens,
    /// Unlocks when it goes.
    _lock: File,
}

#[derive(Default, Clone, Serialize, Deserialize)]
struct Tokens {
    newest: Option<String>,
    before: Option<String>,
}

impl Kept {
    /// Waits for the lock and reads. The error is a sentence.
    pub(super) async fn open(path: PathBuf) -> Result<Self, String> {
        let lock_path = with(&path, ".lock");
        let failed = |what: &Path, error: &dyn std::fmt::Display| format!("can't use `{}`: {error}", what.display());
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|e| failed(&lock_path, &e))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_TIMEOUT => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(failed(&lock_path, &error)),
            }
        }
        let tokens = match std::fs::read(&path) {
            // What can't be read is as good as nothing: there is the configured token.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::NotFound => Tokens::default(),
            Err(error) => return Err(failed(&path, &error)),
        };
        Ok(Self { path, tokens, _lock: lock })
    }

    /// What to show, in this order: the newest, the one before it, the configured one.
    pub(super) fn candidates(&self, configured: &SecretString) -> Vec<SecretString> {
        let mut found: Vec<String> = Vec::new();
        let kept = [&self.tokens.newest, &self.tokens.before];
        for token in kept.into_iter().flatten().map(String::as_str).chain([configured.expose_secret()]) {
            if !found.iter().any(|known| known == token) {
                found.push(token.to_owned());
            }
        }
        found.into_iter().map(SecretString::from).collect()
    }

    /// Keeps the newest and the one that was shown for it; writes only what is new. On return it is on the disk.
    pub(super) async fn keep(
        &mut self,
        newest: &SecretString,
        shown: &SecretString,
        configured: &SecretString,
    ) -> Result<(), String> {
        let (newest, shown) = (newest.expose_secret(), shown.expose_secret());
        let known = self.tokens.newest.as_deref().unwrap_or(configured.expose_secret());
        if newest == known {
            return Ok(());
        }
        self.tokens = Tokens { newest: Some(newest.to_owned()), before: Some(shown.to_owned()) };
        let (path, tokens) = (self.path.clone(), self.tokens.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &tokens)).await;
        let failed = |why: String| format!("can't keep the new refresh token in `{}`: {why}", self.path.display());
        written.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
    }
}

fn write(path: &Path, tokens: &Tokens) -> std::io::Result<()> {
    let unfinished = with(path, ".new");
    let _ = std::fs::remove_file(&unfinished); // of a crash
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&serde_json::to_vec(tokens)?)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}
