//! The ledger on embedded SQLite: one writing connection on a thread of its own (`writer`), a few reading
//! ones. Write-ahead log with `synchronous = FULL`: what was committed survives a power cut
//! (<https://sqlite.org/pragma.html#pragma_synchronous>). Never a second writer inside one process.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Notify;

use super::place::Place;
use super::writer::{Transaction, Writer};
use super::{Fault, schema};

/// How long a connection waits for another process's transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reading connections that are kept open.
const READERS: usize = 2;

/// The durable tables. A handle: cloning it is cheap, the last one closes the file.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    place: Place,
    // Closed before the writer, which leaves one file behind if it is the last.
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
    due: Arc<Notify>,
    turn: AtomicUsize,
}

/// Held by the one service that runs on a ledger; dropping it (or the end of the process) lets go.
#[derive(Debug)]
pub struct Ownership {
    _lock: File,
}

impl Ledger {
    /// Opens the ledger in this file, makes it and its folder if they are not there (for the owner's eyes
    /// only), and brings its schema to the newest. Blocks for some milliseconds.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let at = |fault: Fault| Fault::new(format!("{}: {}", path.display(), fault.detail));
        create_private(path).map_err(|error| at(Fault::new(error.to_string())))?;
        let due = Arc::new(Notify::new());
        let writer =
            connect_to_write(path).and_then(|connection| Writer::start(connection, due.clone())).map_err(at)?;
        let readers = Mutex::new(Vec::new());
        let (path, place) = (path.to_owned(), Place::of(path));
        Ok(Self { inner: Arc::new(Inner { path, place, readers, writer, due, turn: AtomicUsize::new(0) }) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Claims the ledger for the service of this process: only its holder may call `recover` and dispatch.
    /// `None` if another process holds it. The lock is the kernel's on `<ledger>.lock`, so it ends with
    /// the process, however that ends; commands that read or change single rows need none.
    pub fn own(&self) -> Result<Option<Ownership>, Fault> {
        let mut path = self.inner.path.clone().into_os_string();
        path.push(".lock");
        let open = create_private(Path::new(&path)).and_then(|()| File::open(&path));
        let lock = open.map_err(|error| Fault::new(format!("its lock: {error}")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Ownership { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Fault::new(format!("its lock: {error}"))),
        }
    }

    /// Notified after each commit of this process that made a delivery due. It keeps one notice, so a
    /// dispatcher that looks first and waits then misses none.
    pub fn waiting(&self) -> Arc<Notify> {
        self.inner.due.clone()
    }

    /// Commits that changed something, since it was opened. Callers that wait together share one.
    pub fn commits(&self) -> u64 {
        self.inner.writer.commits()
    }

    /// Counts claims, so that who comes first takes turns.
    pub(super) fn turn(&self) -> usize {
        self.inner.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes the ledger; returns after the commit.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.inner.place.check()?;
        let done = self.inner.writer.write(work).await?;
        // It may have been moved meanwhile: then this is not where the next start finds it.
        self.inner.place.check()?;
        Ok(done)
    }

    /// Hands in a change that nobody waits for (see [`Writer::hand_in`]).
    pub(super) fn hand_in<F>(&self, urgent: bool, work: F)
    where
        F: FnOnce(&Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    {
        self.inner.writer.hand_in(urgent, work);
    }

    /// Reads the ledger, all of `work` from one moment of it.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let ledger = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut connection = ledger.reader()?;
            let moment = connection.transaction()?;
            let result = work(&moment)?;
            drop(moment);
            let mut readers = ledger.inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS {
                readers.push(connection);
            }
            Ok(result)
        });
        reading.await.unwrap_or_else(|_| Err(Fault::new("reading it was cut off")))
    }

    fn reader(&self) -> Result<Connection, Fault> {
        let kept = self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| connect_to_read(&self.inner.path), Ok)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// The file holds mail: nobody else reads it. What SQLite puts beside it gets the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new();
    file.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
        && !folder.exists()
    {
        let mut make = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
        make.recursive(true).create(folder)?;
    }
    file.open(path).map(drop)
}

fn connect_to_write(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // Only a new file takes the page size. Larger pages: a 50 KB mail is 4 of them, not 13, at half the CPU.
    connection.pragma_update(None, "page_size", 16_384)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is removed is personal data: its pages are overwritten.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cache_size", -4_096)?;
    // The writer checkpoints after it has answered.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(96);
    schema::migrate(&mut connection)?;
    Ok(connection)
}

fn connect_to_read(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "cache_size", -1_024)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ledger_is_made_opened_again_and_refused_when_it_is_newer() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new/folder/ledger.db");
        drop(Ledger::open(&path).expect("made"));
        drop(Ledger::open(&path).expect("opened again"));
        assert!(!path.with_extension("db-wal").exists(), "a ledger at rest is one file");
        let connection = Connection::open(&path).expect("a database");
        connection.pragma_update(None, "user_version", 999).expect("a newer version");
        drop(connection);
        let fault = Ledger::open(&path).expect_err("a refusal");
        assert!(fault.detail.contains("newer mail2crm") && fault.detail.contains("ledger.db"), "{fault}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path).expect("made");
        ledger
            .pause("rt", crate::outcome::Reason::Paused, "", None, jiff::Timestamp::UNIX_EPOCH)
            .await
            .expect("a write");
        for name in ["ledger.db", "ledger.db-wal"] {
            let mode = std::fs::metadata(dir.path().join(name)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }

    #[tokio::test]
    async fn one_service_owns_a_ledger_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let (one, two) = (Ledger::open(&path).expect("open"), Ledger::open(&path).expect("open"));
        let held = one.own().expect("a lock").expect("free");
        assert!(two.own().expect("a lock").is_none());
        drop(held);
        assert!(two.own().expect("a lock").is_some());
    }
}
