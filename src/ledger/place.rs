//! Whether the ledger's file is still where it was opened: what is written into a file that was moved or removed is
//! not there at the next start, and so must not be acknowledged.

use std::io;
use std::path::{Path, PathBuf};

use super::Fault;

/// The file as it was opened.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    file: Option<Identity>,
}

type Identity = (u64, u64);

impl Place {
    /// Of a file that is there.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), file: identity(path).ok() }
    }

    /// A fault if another file, or none, is in its place now.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let Some(opened) = self.file else { return Ok(()) };
        match identity(&self.path) {
            Ok(now) if now == opened => Ok(()),
            Ok(_) => Err(self.fault("another one is in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.fault("it is not there")),
            // Whoever may not look may still write.
            Err(_) => Ok(()),
        }
    }

    fn fault(&self, now: &str) -> Fault {
        let path = self.path.display();
        Fault::new(format!("its file `{path}` was moved or removed ({now}): put it back, or start the service again"))
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> io::Result<Identity> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, unix))]
mod tests {
    use jiff::Timestamp;

    use crate::ledger::Ledger;

    #[tokio::test]
    async fn a_ledger_that_was_moved_takes_nothing_until_it_is_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, away) = (dir.path().join("ledger.db"), dir.path().join("away.db"));
        let ledger = Ledger::open(&path).expect("a ledger");
        let beat = async || ledger.beat(Timestamp::UNIX_EPOCH).await.map_err(|fault| fault.detail);
        assert_eq!(beat().await, Ok(()));
        std::fs::rename(&path, &away).expect("moved");
        assert!(beat().await.is_err_and(|said| said.contains("is not there")));
        std::fs::write(&path, "another").expect("written");
        assert!(beat().await.is_err_and(|said| said.contains("another one")));
        std::fs::rename(&away, &path).expect("moved back");
        assert_eq!(beat().await, Ok(()));
    }
}
