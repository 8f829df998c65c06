//! The ledger on PostgreSQL, or on what speaks its protocol: one connection, used by one thread.
//!
//! Suits poolers in transaction mode: statements have no names, settings last a transaction, nothing is listened to
//! and no lock outlives a transaction. READ COMMITTED
//! (<https://www.postgresql.org/docs/current/transaction-iso.html>), with the locks of `lock`. It connects anew by itself;
//! what was cut off in a transaction is for the caller to make again. Never shows a password, or values from rows.

mod server;
mod texts;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tokio::runtime::Runtime;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::sql::{self, Params, Value};

pub use server::Server;
pub(super) use texts::schema_of;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(8);
/// How long an answer is waited for; the server gives up before that.
const ANSWERING: Duration = Duration::from_secs(40);
/// The same for a transaction that reads: an audit looks at everything.
const READING: Duration = Duration::from_secs(1_230);
/// After a connection could not be made, the next one is tried not before.
const BETWEEN: Duration = Duration::from_millis(400);

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '30s'; \
                     SET LOCAL lock_timeout = '6s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";
const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '20min'";
/// A long transaction that has the tables for itself.
const BEGIN_LONG: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// The first change of a transaction waits for its locks; the others hold some, and two that hold and wait are a deadlock.
const MARK: &str = "SAVEPOINT job";
const MARK_ANOTHER: &str = "SAVEPOINT job; SET LOCAL lock_timeout = '20ms'";

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The server refused a statement. Without its detail, which quotes rows.
    #[error("{message} ({})", code.code())]
    Refused { code: SqlState, message: String },
    /// There is no connection, or there was one.
    #[error("{0}")]
    Lost(String),
}

impl Error {
    /// Whether the same change can succeed if it is made anew.
    pub(super) fn passes(&self) -> bool {
        let Self::Refused { code, .. } = self else { return true };
        // Serialization and deadlock, connection, shutdown and start, somebody else's row or lock, a standby.
        matches!(code.code().get(..2), Some("40" | "08"))
            || matches!(code.code(), "57P01" | "57P02" | "57P03" | "55P03" | "53300" | "23505" | "25006")
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) => Self::Refused { code: refused.code().clone(), message: refused.message().to_owned() },
            None => {
                let mut words = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(inner) = cause {
                    words = format!("{words}: {inner}");
                    cause = inner.source();
                }
                Self::Lost(words)
            }
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// A row as it came.
pub(super) type Row = tokio_postgres::Row;

/// A connection, or the wish for one.
pub(super) struct Pg {
    server: Arc<Server>,
    live: RefCell<Option<Live>>,
    texts: RefCell<HashMap<String, Arc<str>>>,
    now: Cell<Now>,
    failed_at: Cell<Option<Instant>>,
    /// When the connection was made that took the place of a lost one.
    renewed_at: Cell<Option<Instant>>,
    connections: Cell<u32>,
    changes: Cell<u64>,
}

struct Live {
    client: Client,
    runtime: Option<Runtime>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // Not by its own drop, which may not happen where others wait.
        self.runtime.take().map(Runtime::shutdown_background);
    }
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, Default)]
struct Now {
    open: bool,
    reading: bool,
    /// A statement failed, and nothing was undone since: the server takes no more, and would not say so at a commit.
    failed: bool,
    marks: u32,
}

impl Pg {
    /// A connection to be made when it is first used.
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            live: RefCell::default(),
            texts: RefCell::default(),
            now: Cell::default(),
            failed_at: Cell::default(),
            renewed_at: Cell::default(),
            connections: Cell::default(),
            changes: Cell::default(),
        }
    }

    /// Rows changed since it was made.
    pub(super) fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Whether it took the place of a lost one less than so long ago.
    pub(super) fn is_renewed_within(&self, time: Duration) -> bool {
        self.renewed_at.get().is_some_and(|at| at.elapsed() < time)
    }

    /// Whether a transaction is open.
    pub(super) fn is_open(&self) -> bool {
        self.now.get().open
    }

    /// Begins a transaction, on a new connection if the old one is gone.
    pub(super) fn begin(&self) -> Result<()> {
        self.begin_with(BEGIN, false)
    }

    /// Begins one that reads, all from one moment.
    pub(super) fn begin_reading(&self) -> Result<()> {
        self.begin_with(BEGIN_READING, true)
    }

    /// Begins one that may take as long as it takes.
    pub(super) fn begin_long(&self) -> Result<()> {
        self.begin_with(BEGIN_LONG, true)
    }

    fn begin_with(&self, text: &str, reading: bool) -> Result<()> {
        self.now.set(Now { reading, ..Now::default() });
        let kept = self.is_connected();
        if !kept {
            self.connect()?;
        }
        match self.batch(text) {
            // One that was idle may have been cut without a word.
            Err(Error::Lost(_)) if kept => {
                self.connect()?;
                self.batch(text)?;
            }
            other => other?,
        }
        self.now.set(Now { open: true, reading, ..Now::default() });
        Ok(())
    }

    /// Marks where the next change begins.
    pub(super) fn mark(&self) -> Result<()> {
        let now = self.now.get();
        self.now.set(Now { marks: now.marks + 1, ..now });
        self.batch(if now.marks == 0 { MARK } else { MARK_ANOTHER })
    }

    /// Keeps what was done since the mark.
    pub(super) fn keep(&self) -> Result<()> {
        self.batch("RELEASE SAVEPOINT job")
    }

    /// Undoes what was done since the mark.
    pub(super) fn undo(&self) -> Result<()> {
        self.batch("ROLLBACK TO SAVEPOINT job; RELEASE SAVEPOINT job")?;
        self.now.set(Now { failed: false, ..self.now.get() });
        Ok(())
    }

    /// Makes the transaction durable. A fault leaves open whether it is.
    pub(super) fn commit(&self) -> Result<()> {
        if self.now.get().failed {
            return Err(Error::Lost("a statement of the transaction had failed".to_owned()));
        }
        let ended = self.batch("COMMIT");
        self.now.set(Now::default());
        ended
    }

    /// Ends the transaction without a trace.
    pub(super) fn roll_back(&self) {
        if self.batch("ROLLBACK").is_err() {
            self.live.replace(None);
        }
        self.now.set(Now::default());
    }

    /// Runs statements without parameters or answers.
    pub(super) fn batch(&self, text: &str) -> Result<()> {
        self.wait(async |client| client.batch_execute(text).await)
    }

    /// A statement's text as the server takes it.
    pub(super) fn statement(&self, text: &str) -> Arc<str> {
        self.text_of(text)
    }

    /// Runs one statement; its rows, and how many it changed.
    pub(super) fn run(&self, text: &str, params: &impl Params) -> Result<(Vec<Row>, u64)> {
        let mut typed = Vec::new();
        let _ = params.each(&mut |_, value| {
            typed.push((value, value.sql_type()));
            Ok(())
        });
        let (rows, changed) = self.wait(async |client| {
            let mut stream = pin!(client.query_typed_raw(text, typed).await?);
            let mut rows = Vec::new();
            while let Some(row) = stream.try_next().await? {
                rows.push(row);
            }
            Ok((rows, stream.rows_affected().unwrap_or(0)))
        })?;
        self.changes.set(self.changes.get() + changed);
        Ok((rows, changed))
    }

    fn text_of(&self, text: &str) -> Arc<str> {
        const KEPT: usize = 512;
        let mut texts = self.texts.borrow_mut();
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        if texts.len() >= KEPT {
            texts.clear();
        }
        let translated: Arc<str> = texts::translate(text).into();
        texts.insert(text.to_owned(), translated.clone());
        translated
    }

    fn is_connected(&self) -> bool {
        self.live.borrow().as_ref().is_some_and(|live| !live.client.is_closed())
    }

    /// Waits for an answer. A connection that gives none is given up.
    fn wait<T>(&self, ask: impl AsyncFnOnce(&Client) -> std::result::Result<T, tokio_postgres::Error>) -> Result<T> {
        let patience = if self.now.get().reading { READING } else { ANSWERING };
        let answer = {
            let live = self.live.borrow();
            let gone = || Error::Lost("the connection to the database is lost".to_owned());
            let live = live.as_ref().ok_or_else(gone)?;
            live.runtime
                .as_ref()
                .ok_or_else(gone)?
                .block_on(async { tokio::time::timeout(patience, ask(&live.client)).await })
        };
        let answer = match answer {
            Ok(answer) => answer.map_err(Error::from),
            Err(_) => Err(Error::Lost(format!("the database gave no answer in {} seconds", patience.as_secs()))),
        };
        if let Err(error) = &answer {
            self.now.set(Now { failed: true, ..self.now.get() });
            if matches!(error, Error::Lost(_)) {
                self.live.replace(None);
            }
        }
        answer
    }

    fn connect(&self) -> Result<()> {
        self.live.replace(None);
        if self.failed_at.get().is_some_and(|at| at.elapsed() < BETWEEN) {
            return Err(Error::Lost("there is no connection to the database".to_owned()));
        }
        let made = self.make_connection();
        self.failed_at.set(made.is_err().then(Instant::now));
        self.live.replace(Some(made?));
        if self.connections.replace(self.connections.get() + 1) > 0 {
            self.renewed_at.set(Some(Instant::now()));
        }
        Ok(())
    }

    fn make_connection(&self) -> Result<Live> {
        let lost = |words: String| Error::Lost(words);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| lost(format!("can't wait for the database: {error}")))?;
        let (config, tls) = self.server.how().map_err(lost)?;
        let connecting = async { tokio::time::timeout(CONNECTING, config.connect(tls)).await };
        let (client, connection) = runtime
            .block_on(connecting)
            .map_err(|_| lost(format!("no connection to the database in {} seconds", CONNECTING.as_secs())))??;
        runtime.spawn(async move {
            // Its end is seen by the next statement.
            let _ = connection.await;
        });
        Ok(Live { client, runtime: Some(runtime) })
    }
}

impl Value<'_> {
    fn sql_type(&self) -> Type {
        match self {
            // The server knows better what it is nothing of.
            Self::Null => Type::UNKNOWN,
            Self::Integer(_) => Type::INT8,
            Self::Text(_) => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match *self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Integer(n) => out.extend_from_slice(&n.to_be_bytes()),
            // PostgreSQL has no text with U+0000. Names and sentences from strangers can hold one.
            Self::Text(text) if text.contains('\0') => out.extend_from_slice(text.replace('\0', "\u{fffd}").as_bytes()),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for sql::Cell<'r> {
    fn from_sql(kind: &Type, raw: &'r [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Self::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(kind, raw)?.into()),
            Type::INT2 => Self::Integer(i16::from_sql(kind, raw)?.into()),
            Type::BOOL => Self::Integer(bool::from_sql(kind, raw)?.into()),
            Type::FLOAT8 => Self::Real(f64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Bytes(raw),
            _ => Self::Text(std::str::from_utf8(raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(
            *kind,
            Type::INT8
                | Type::INT4
                | Type::INT2
                | Type::BOOL
                | Type::FLOAT8
                | Type::BYTEA
                | Type::TEXT
                | Type::VARCHAR
                | Type::NAME
                | Type::UNKNOWN
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_are_in_the_way_of_is_made_again_and_a_fault_of_a_statement_is_not() {
        let passes = |code: &str| Error::Refused { code: SqlState::from_code(code), message: String::new() }.passes();
        for code in ["40001", "40P01", "08006", "57P01", "57P03", "55P03", "23505", "53300"] {
            assert!(passes(code), "{code}");
        }
        for code in ["42601", "57014", "23502", "53100", "28P01"] {
            assert!(!passes(code), "{code}");
        }
        assert!(Error::Lost("gone".to_owned()).passes());
    }
}
