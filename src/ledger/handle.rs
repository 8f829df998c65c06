//! The handle to the ledger that everybody has: one writing connection on a thread of its own (`writer`), a few
//! reading ones. Never a second writer inside one process.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::place::Place;
use super::postgres::{Pg, Server};
use super::reading::Reading;
use super::sql::Sql;
use super::sqlite::{self, Ownership};
use super::writer::{Transaction, Writer};
use super::{Fault, key, shared};
use crate::message::mark::InstanceKey;

/// Reading connections that are kept open.
const READERS: usize = 2;

/// Where a ledger is.
#[derive(Debug, Clone)]
pub enum State {
    /// In this file.
    File(PathBuf),
    /// On a server, where several instances may share it.
    Server(Arc<Server>),
}

impl State {
    /// Opens the ledger; makes it if it is not there. Blocks.
    pub fn open(&self) -> Result<Ledger, Fault> {
        match self {
            Self::File(path) => Ledger::open(path),
            Self::Server(server) => Ledger::connect(server.clone()),
        }
    }

    /// Whether there may be a ledger: a file that is there, or a server, which is not asked.
    pub fn may_exist(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Server(_) => true,
        }
    }

    /// The key by which this instance knows its own mail; on a server it is that of all instances. One is made from
    /// `random` if there is none yet. Blocks.
    pub fn instance_key(&self, random: [u8; 32]) -> io::Result<InstanceKey> {
        match self {
            Self::File(path) => key::instance_key(path, random),
            Self::Server(_) => self.known_key()?.ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    }

    /// The key, if there is one yet. Blocks.
    pub fn known_key(&self) -> io::Result<Option<InstanceKey>> {
        match self {
            Self::File(path) => key::known_key(path),
            Self::Server(server) => {
                let server = server.clone();
                let reading = std::thread::spawn(move || -> Result<String, Fault> {
                    let sql = Sql::Pg(Pg::new(server));
                    sql.begin_reading()?;
                    shared::key(&sql)
                });
                let text = reading.join().unwrap_or_else(|_| Err(Fault::new("reading it was cut off")));
                Ok(InstanceKey::from_text(&text.map_err(io::Error::other)?))
            }
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Server(_) => None,
        }
    }
}

impl fmt::Display for State {
    /// The path, or the address without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(server) => write!(f, "{server}"),
        }
    }
}

/// The durable tables. A handle: cloning it is cheap, the last one closes the file.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
    /// The lease that it accepts under, if it needs one.
    reading: Option<Arc<Reading>>,
}

struct Inner {
    state: State,
    /// Only a file can be moved away.
    place: Option<Place>,
    // Closed before the writer, which leaves one file behind if it is the last.
    readers: Mutex<Vec<Sql>>,
    writer: Writer,
    due: Arc<Notify>,
    turn: AtomicUsize,
    /// Tells this instance from others.
    holder: String,
}

impl Ledger {
    /// Opens the ledger in this file, makes it and its folder if they are not there (for the owner's eyes
    /// only), and brings its schema to the newest. Blocks for some milliseconds.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let file = path.to_owned();
        Self::with(State::File(path.to_owned()), move || sqlite::connect_to_write(&file))
    }

    /// Opens the ledger on this server, and brings its schema to the newest. Blocks until it answers.
    pub fn connect(server: Arc<Server>) -> Result<Self, Fault> {
        let to = server.clone();
        Self::with(State::Server(server), move || {
            let sql = Sql::Pg(Pg::new(to));
            shared::migrate(&sql)?;
            Ok(sql)
        })
    }

    fn with(state: State, connect: impl FnOnce() -> Result<Sql, Fault> + Send + 'static) -> Result<Self, Fault> {
        let due = Arc::new(Notify::new());
        let writer =
            Writer::start(connect, due.clone()).map_err(|fault| Fault::new(format!("{state}: {}", fault.detail)))?;
        let (readers, turn) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        let place = state.file().map(Place::of);
        let holder = format!("{:016x}", fastrand::u64(..));
        Ok(Self { inner: Arc::new(Inner { state, place, readers, writer, due, turn, holder }), reading: None })
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// Whether several instances may run on it.
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.state, State::Server(_))
    }

    /// Claims the ledger for the service of this process: only its holder may call `recover` and dispatch.
    /// `None` if another process holds it. The lock is the kernel's on `<ledger>.lock`, so it ends with
    /// the process, however that ends; commands that read or change single rows need none. On a server everybody has
    /// it.
    pub fn own(&self) -> Result<Option<Ownership>, Fault> {
        match &self.inner.state {
            State::File(path) => sqlite::own(path),
            State::Server(_) => Ok(Some(Ownership::shared())),
        }
    }

    /// Notified after each commit of this process that made a delivery due. It keeps one notice, so a
    /// dispatcher that looks first and waits then misses none. What others do on a server is not told.
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

    pub(super) fn holder(&self) -> String {
        self.inner.holder.clone()
    }

    pub(super) fn reading(&self) -> Option<Arc<Reading>> {
        self.reading.clone()
    }

    pub(super) fn under(&self, reading: Arc<Reading>) -> Self {
        Self { inner: self.inner.clone(), reading: Some(reading) }
    }

    /// Changes the ledger; returns after the commit. `work` is made again if somebody else was in its way, or if it is
    /// not known whether it was committed, so it must come to the same then.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let place = self.inner.place.as_ref();
        place.map_or(Ok(()), Place::check)?;
        let done = self.inner.writer.write(work).await?;
        // It may have been moved meanwhile: then this is not where the next start finds it.
        place.map_or(Ok(()), Place::check)?;
        Ok(done)
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
        let sql = match &self.inner.state {
            State::File(path) => sqlite::connect_to_read(path)?,
            State::Server(server) => Sql::Pg(Pg::new(server.clone())),
        };
        sql.begin_reading()?;
        Ok(sql)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("state", &self.inner.state).finish_non_exhaustive()
    }
}
