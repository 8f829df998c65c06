//! The handle to the ledger that everybody has: one writing connection on a thread of its own (`writer`), a few
//! reading ones. Never a second writer inside one process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Fault;
use super::place::Place;
use super::sql::Sql;
use super::sqlite::{self, Ownership};
use super::writer::{Transaction, Writer};

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
    readers: Mutex<Vec<Sql>>,
    writer: Writer,
    due: Arc<Notify>,
    turn: AtomicUsize,
}

impl Ledger {
    /// Opens the ledger in this file, makes it and its folder if they are not there (for the owner's eyes
    /// only), and brings its schema to the newest. Blocks for some milliseconds.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let due = Arc::new(Notify::new());
        let writer = sqlite::connect_to_write(path)
            .and_then(|sql| Writer::start(sql, due.clone()))
            .map_err(|fault| Fault::new(format!("{}: {}", path.display(), fault.detail)))?;
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
        sqlite::own(&self.inner.path)
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

    /// Changes the ledger; returns after the commit. `work` is made again if somebody else was in its way.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.inner.place.check()?;
        let done = self.inner.writer.write(work).await?;
        // It may have been moved meanwhile: then this is not where the next start finds it.
        self.inner.place.check()?;
        Ok(done)
    }

    /// Ends it as a crash does (see [`Writer::abandon`]).
    #[cfg(test)]
    pub(crate) fn abandon(&self) {
        self.inner.writer.abandon();
    }

    /// Hands in a change that nobody waits for (see [`Writer::hand_in`]).
    pub(super) fn hand_in<F>(&self, urgent: bool, work: F)
    where
        F: Fn(&Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    {
        self.inner.writer.hand_in(urgent, work);
    }

    /// Reads the ledger, all of `work` from one moment of it.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Sql) -> Result<T, Fault> + Send + 'static,
    {
        let ledger = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let sql = ledger.reader()?;
            let result = work(&sql);
            sql.roll_back();
            let result = result?;
            let mut readers = ledger.inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS {
                readers.push(sql);
            }
            Ok(result)
        });
        reading.await.unwrap_or_else(|_| Err(Fault::new("reading it was cut off")))
    }

    /// A connection that has begun to read.
    fn reader(&self) -> Result<Sql, Fault> {
        let kept = self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(sql) = kept
            && sql.begin_reading().is_ok()
        {
            return Ok(sql);
        }
        let sql = sqlite::connect_to_read(&self.inner.path)?;
        sql.begin_reading()?;
        Ok(sql)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.inner.path).finish_non_exhaustive()
    }
}
