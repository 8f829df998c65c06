//! The ledger on embedded SQLite. Write-ahead log with `synchronous = FULL`: what was committed survives a power cut
//! (<https://sqlite.org/pragma.html#pragma_synchronous>).

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::sql::Sql;
use super::{Fault, schema};

/// How long a connection waits for another process's transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pages in the write-ahead log that are worth carrying over into the database (16 MiB).
const CHECKPOINT_PAGES: i64 = 1_024;

/// Held by the one service that runs on a ledger; dropping it (or the end of the process) lets go.
#[derive(Debug)]
pub struct Ownership {
    _lock: Option<File>,
}

impl Ownership {
    /// Of a ledger that everybody may run on.
    pub(super) fn shared() -> Self {
        Self { _lock: None }
    }
}

/// Takes the lock of the ledger in this file, unless another process has it.
pub(super) fn own(path: &Path) -> Result<Option<Ownership>, Fault> {
    let mut path = path.to_owned().into_os_string();
    path.push(".lock");
    let open = create_private(Path::new(&path)).and_then(|()| File::open(&path));
    let lock = open.map_err(|error| Fault::new(format!("its lock: {error}")))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Ownership { _lock: Some(lock) })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Fault::new(format!("its lock: {error}"))),
    }
}

/// Carries the log over into the database once it is long.
pub(super) fn checkpoint(connection: &Connection) {
    let state = |sql: &str| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
    };
    if let Ok((in_log, carried)) = state("PRAGMA wal_checkpoint(NOOP)")
        && in_log - carried > CHECKPOINT_PAGES
    {
        // If it can't now, it will be tried after the next commit.
        let _ = state("PRAGMA wal_checkpoint(PASSIVE)");
    }
}

/// A ledger at rest is one file. Readers may still hold it: then the next one does this.
pub(super) fn close(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
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

/// Makes the file if it is not there, and brings its schema to the newest.
pub(super) fn connect_to_write(path: &Path) -> Result<Sql, Fault> {
    create_private(path).map_err(|error| Fault::new(error.to_string()))?;
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
    Ok(Sql::Lite(connection))
}

/// A connection that can't change anything.
pub(super) fn connect_to_read(path: &Path) -> Result<Sql, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "cache_size", -1_024)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(Sql::Lite(connection))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

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
