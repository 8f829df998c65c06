//! The face over the engines: statements with `?1` parameters and rows, as all SQL of the ledger is written, once.
//!
//! It has the names of the part of rusqlite that the ledger uses, so its manual is theirs. SQL texts are to be what
//! every engine takes; integers stand for booleans, moments are milliseconds. `README.md`, "Two engines", has the
//! rules. Nothing else here knows what the tables mean.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Rows, ToSql};

use super::postgres::{self, Pg};
use super::sqlite;

/// A value on its way into a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// What can be a parameter.
pub(super) trait Param {
    /// As the engines take it.
    fn value(&self) -> Value<'_>;
}

macro_rules! params_of {
    ($($type:ty => |$it:ident| $value:expr;)*) => {
        $(impl Param for $type {
            fn value(&self) -> Value<'_> {
                let $it = self;
                $value
            }
        })*
    };
}

params_of! {
    i64 => |it| Value::Integer(*it);
    i32 => |it| Value::Integer(i64::from(*it));
    u32 => |it| Value::Integer(i64::from(*it));
    bool => |it| Value::Integer(i64::from(*it));
    str => |it| Value::Text(it);
    String => |it| Value::Text(it);
    [u8] => |it| Value::Bytes(it);
}

impl<T: Param + ?Sized> Param for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

impl<T: Param> Param for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Param::value)
    }
}

/// A parameter that owns its value, for lists of them.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Held {
    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => size_of::<i64>(),
        }
    }
}

impl Param for Held {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(*value),
            Self::Text(value) => Value::Text(value),
            Self::Bytes(value) => Value::Bytes(value),
        }
    }
}

impl From<i64> for Held {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<String> for Held {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// The parameters of one call, in the order of their numbers.
pub(super) trait Params {
    /// Hands over each with its number, from 1.
    fn each<'p>(&'p self, to: &mut dyn FnMut(usize, Value<'p>) -> Result<()>) -> Result<()>;
}

impl<T: Param> Params for &[T] {
    fn each<'p>(&'p self, to: &mut dyn FnMut(usize, Value<'p>) -> Result<()>) -> Result<()> {
        (1..).zip(self.iter()).try_for_each(|(number, param)| to(number, param.value()))
    }
}

impl<T: Param> Params for Vec<T> {
    fn each<'p>(&'p self, to: &mut dyn FnMut(usize, Value<'p>) -> Result<()>) -> Result<()> {
        (1..).zip(self.iter()).try_for_each(|(number, param)| to(number, param.value()))
    }
}

impl Params for [&dyn Param; 0] {
    fn each<'p>(&'p self, _: &mut dyn FnMut(usize, Value<'p>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

macro_rules! arrays {
    ($($count:literal)*) => {
        $(impl<T: Param> Params for [T; $count] {
            fn each<'p>(&'p self, to: &mut dyn FnMut(usize, Value<'p>) -> Result<()>) -> Result<()> {
                (1..).zip(self.iter()).try_for_each(|(number, param)| to(number, param.value()))
            }
        })*
    };
}

arrays!(1 2 3 4 5 6);

/// Parameters of different types: `params![id, "word", None::<i64>]`.
macro_rules! params {
    ($($param:expr),* $(,)?) => {
        &[$(&$param as &dyn $crate::ledger::sql::Param),*] as &[&dyn $crate::ledger::sql::Param]
    };
}
pub(super) use params;

/// What went wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// SQLite says so.
    #[error(transparent)]
    Lite(#[from] rusqlite::Error),
    /// PostgreSQL, or the way to it.
    #[error(transparent)]
    Pg(#[from] postgres::Error),
    /// There is no row where one was asked for.
    #[error("a row is not there")]
    NoRow,
    /// A column holds what its reader does not know.
    #[error("a column holds {0}")]
    Column(String),
    /// A statement has other parameters than were given.
    #[error("a statement with {0} parameters was given {1}")]
    Count(usize, usize),
}

impl Error {
    /// Whether the same change can succeed if it is made anew: somebody else was in the way.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Pg(error) if error.passes())
    }

    /// A word in a column that has no meaning here.
    pub(super) fn word(word: &str) -> Self {
        Self::Column(format!("the unknown word `{word}`"))
    }
}

/// What a statement answers.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// Makes the missing row of `query_row` a `None`.
pub(super) trait OptionalExtension<T> {
    /// `None` where there is no row.
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A value in a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'r> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'r str),
    Bytes(&'r [u8]),
}

impl<'r> Cell<'r> {
    /// The text.
    pub(super) fn as_str(self) -> Result<&'r str> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(other.instead_of("a text")),
        }
    }

    /// The bytes, of a text too; none of anything else.
    pub(super) fn as_bytes(self) -> &'r [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    fn instead_of(self, wanted: &str) -> Error {
        let found = match self {
            Self::Null => "nothing",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a fraction",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
        };
        Error::Column(format!("{found} instead of {wanted}"))
    }
}

/// What a column can be read as.
pub(super) trait Column: Sized {
    /// From the value in the row.
    fn read(cell: Cell<'_>) -> Result<Self>;
}

macro_rules! columns {
    ($($type:ty, $wanted:literal: $pattern:pat => $value:expr;)*) => {
        $(impl Column for $type {
            fn read(cell: Cell<'_>) -> Result<Self> {
                match cell {
                    $pattern => Ok($value),
                    other => Err(other.instead_of($wanted)),
                }
            }
        })*
    };
}

columns! {
    i64, "an integer": Cell::Integer(n) => n;
    bool, "a 0 or 1": Cell::Integer(n @ 0..=1) => n == 1;
    u32, "a small count": Cell::Integer(n @ 0..=0xffff_ffff) => n as u32;
    f64, "a fraction": Cell::Real(n) => n;
    String, "a text": Cell::Text(text) => text.to_owned();
    Vec<u8>, "bytes": Cell::Bytes(bytes) => bytes.to_vec();
}

impl<T: Column> Column for Option<T> {
    fn read(cell: Cell<'_>) -> Result<Self> {
        match cell {
            Cell::Null => Ok(None),
            other => T::read(other).map(Some),
        }
    }
}

/// The number of a column. There is one kind of numbers, so that a literal needs no suffix.
pub(super) trait Place {
    fn number(self) -> usize;
}

impl Place for usize {
    fn number(self) -> usize {
        self
    }
}

/// One row of an answer.
pub(super) enum Row<'r> {
    Lite(&'r rusqlite::Row<'r>),
    Pg(&'r postgres::Row),
}

impl Row<'_> {
    /// The value of a column, from 0.
    pub(super) fn get<P: Place, T: Column>(&self, column: P) -> Result<T> {
        T::read(self.get_ref(column.number())?)
    }

    /// The value of a column without a copy.
    pub(super) fn get_ref(&self, column: usize) -> Result<Cell<'_>> {
        match self {
            Self::Lite(row) => Ok(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(n) => Cell::Integer(n),
                ValueRef::Real(n) => Cell::Real(n),
                ValueRef::Blob(bytes) => Cell::Bytes(bytes),
                ValueRef::Text(text) => {
                    Cell::Text(std::str::from_utf8(text).map_err(|_| Error::Column("a text that is not UTF-8".into()))?)
                }
            }),
            Self::Pg(row) => Ok(row.try_get(column).map_err(postgres::Error::from)?),
        }
    }
}

/// A connection to an engine.
pub(super) enum Sql {
    Lite(Connection),
    Pg(Pg),
}

impl Sql {
    /// A statement. It is kept, so that it is made ready once.
    pub(super) fn prepare_cached(&self, text: &str) -> Result<Statement<'_>> {
        match self {
            Self::Lite(connection) => Ok(Statement::Lite(connection.prepare_cached(text)?, connection)),
            Self::Pg(pg) => Ok(Statement::Pg(pg, pg.statement(text))),
        }
    }

    /// Changes rows; how many.
    pub(super) fn execute(&self, text: &str, params: impl Params) -> Result<usize> {
        self.prepare_cached(text)?.execute(params)
    }

    /// Reads the first row.
    pub(super) fn query_row<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.prepare_cached(text)?.query_row(params, read)
    }

    /// Runs statements without parameters or answers.
    pub(super) fn execute_batch(&self, text: &str) -> Result<()> {
        match self {
            Self::Lite(connection) => Ok(connection.execute_batch(text)?),
            Self::Pg(pg) => Ok(pg.batch(text)?),
        }
    }

    /// Whether other instances may change the same tables meanwhile.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Pg(_))
    }

    /// Begins a transaction that changes something.
    pub(super) fn begin(&self) -> Result<()> {
        self.step("BEGIN IMMEDIATE", Pg::begin)
    }

    /// Begins one that reads, all from one moment.
    pub(super) fn begin_reading(&self) -> Result<()> {
        self.step("BEGIN", Pg::begin_reading)
    }

    /// Begins one that changes something and may take as long as it takes.
    pub(super) fn begin_long(&self) -> Result<()> {
        self.step("BEGIN IMMEDIATE", Pg::begin_long)
    }

    /// Marks where the next change begins.
    pub(super) fn mark(&self) -> Result<()> {
        self.step("SAVEPOINT job", Pg::mark)
    }

    /// Keeps what was done since the mark.
    pub(super) fn keep(&self) -> Result<()> {
        self.step("RELEASE job", Pg::keep)
    }

    /// Undoes what was done since the mark.
    pub(super) fn undo(&self) -> Result<()> {
        self.step("ROLLBACK TO job", Pg::undo)?;
        self.step("RELEASE job", |_| Ok(()))
    }

    /// Makes the transaction durable.
    pub(super) fn commit(&self) -> Result<()> {
        self.step("COMMIT", Pg::commit)
    }

    /// Ends the transaction without a trace.
    pub(super) fn roll_back(&self) {
        if self.is_open() {
            let _ = self.step("ROLLBACK", |pg| {
                pg.roll_back();
                Ok(())
            });
        }
    }

    /// Whether the connection took the place of a lost one less than so long ago.
    pub(super) fn is_renewed_within(&self, time: Duration) -> bool {
        matches!(self, Self::Pg(pg) if pg.is_renewed_within(time))
    }

    /// Whether a transaction is open: a fault of the disk can end it by itself.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Lite(connection) => !connection.is_autocommit(),
            Self::Pg(pg) => pg.is_open(),
        }
    }

    /// Rows that were changed since the connection was made.
    pub(super) fn changes(&self) -> u64 {
        match self {
            Self::Lite(connection) => connection.total_changes(),
            Self::Pg(pg) => pg.changes(),
        }
    }

    /// What can be done after the answers, when nobody waits for it.
    pub(super) fn rest(&self) {
        match self {
            Self::Lite(connection) => sqlite::checkpoint(connection),
            Self::Pg(_) => {}
        }
    }

    /// What is to be done before the end.
    pub(super) fn close(&self) {
        match self {
            Self::Lite(connection) => sqlite::close(connection),
            Self::Pg(_) => {}
        }
    }

    fn step(&self, lite: &str, other: impl FnOnce(&Pg) -> std::result::Result<(), postgres::Error>) -> Result<()> {
        match self {
            Self::Lite(_) => self.execute(lite, []).map(drop),
            Self::Pg(pg) => Ok(other(pg)?),
        }
    }
}

/// A statement of a connection.
pub(super) enum Statement<'s> {
    Lite(CachedStatement<'s>, &'s Connection),
    Pg(&'s Pg, Arc<str>),
}

impl Statement<'_> {
    /// Changes rows; how many.
    pub(super) fn execute(&mut self, params: impl Params) -> Result<usize> {
        match self {
            Self::Lite(statement, _) => {
                bind(statement, &params)?;
                Ok(statement.raw_execute()?)
            }
            Self::Pg(pg, text) => Ok(usize::try_from(pg.run(text, &params)?.1).unwrap_or(usize::MAX)),
        }
    }

    /// Inserts one row into a table whose key is `id`, and says which it got.
    pub(super) fn insert(&mut self, params: impl Params) -> Result<i64> {
        match self {
            Self::Lite(_, connection) => {
                let connection = *connection;
                match self.execute(params)? {
                    1 => Ok(connection.last_insert_rowid()),
                    changed => Err(rusqlite::Error::StatementChangedRows(changed).into()),
                }
            }
            Self::Pg(pg, text) => {
                let (rows, _) = pg.run(&format!("{text} RETURNING id"), &params)?;
                Row::Pg(rows.first().ok_or(Error::NoRow)?).get(0)
            }
        }
    }

    /// Whether there is a row.
    pub(super) fn exists(&mut self, params: impl Params) -> Result<bool> {
        Ok(self.query_row(params, |_| Ok(())).optional()?.is_some())
    }

    /// Reads the first row.
    pub(super) fn query_row<T>(&mut self, params: impl Params, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Lite(statement, _) => read(&Row::Lite(rows(statement, &params)?.next()?.ok_or(Error::NoRow)?)),
            Self::Pg(pg, text) => read(&Row::Pg(pg.run(text, &params)?.0.first().ok_or(Error::NoRow)?)),
        }
    }

    /// Reads all rows, up to the first that can't be read.
    pub(super) fn query_map<T>(
        &mut self,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<std::vec::IntoIter<Result<T>>> {
        let mut all = Vec::new();
        match self {
            Self::Lite(statement, _) => {
                let mut rows = rows(statement, &params)?;
                while let Some(row) = rows.next()? {
                    all.push(read(&Row::Lite(row)));
                    if all.last().is_some_and(Result::is_err) {
                        break;
                    }
                }
            }
            Self::Pg(pg, text) => {
                for row in &pg.run(text, &params)?.0 {
                    all.push(read(&Row::Pg(row)));
                    if all.last().is_some_and(Result::is_err) {
                        break;
                    }
                }
            }
        }
        Ok(all.into_iter())
    }
}

fn rows<'s>(statement: &'s mut CachedStatement<'_>, params: &impl Params) -> Result<Rows<'s>> {
    bind(statement, params)?;
    Ok(statement.raw_query())
}

fn bind(statement: &mut CachedStatement<'_>, params: &impl Params) -> Result<()> {
    let (wanted, mut given) = (statement.parameter_count(), 0);
    params.each(&mut |number, value| {
        given = number;
        if number > wanted { Ok(()) } else { Ok(statement.raw_bind_parameter(number, value)?) }
    })?;
    if given == wanted { Ok(()) } else { Err(Error::Count(wanted, given)) }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Integer(n) => ValueRef::Integer(n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql() -> Sql {
        let sql = Sql::Lite(Connection::open_in_memory().expect("a database"));
        sql.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, bytes BLOB, flag INTEGER)")
            .expect("a table");
        sql
    }

    #[test]
    fn what_goes_in_comes_out() {
        let sql = sql();
        let mut insert =
            sql.prepare_cached("INSERT INTO t (word, bytes, flag) VALUES (?1, ?2, ?3)").expect("a statement");
        let first = insert.insert(params!["Köln", [0_u8, 255].as_slice(), true]).expect("a row");
        let second = insert.insert(params![None::<String>, None::<&[u8]>, false]).expect("a row");
        drop(insert);
        assert!(second > first);
        type All = (String, Vec<u8>, bool);
        let read = |row: &Row<'_>| -> Result<All> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let all: All = sql.query_row("SELECT word, bytes, flag FROM t WHERE id = ?1", [first], read).expect("a row");
        assert_eq!(all, ("Köln".to_owned(), vec![0, 255], true));
        let none: Option<String> =
            sql.query_row("SELECT word FROM t WHERE id = ?1", [second], |row| row.get(0)).expect("a row");
        assert_eq!(none, None);
        let fault = sql.query_row("SELECT word FROM t WHERE id = ?1", [second], |row| row.get::<_, String>(0));
        assert!(fault.expect_err("null is no text").to_string().contains("nothing instead of a text"));
    }

    #[test]
    fn a_missing_row_is_none_and_a_wrong_count_of_parameters_is_a_fault() {
        let sql = sql();
        let none = sql.query_row("SELECT id FROM t WHERE word = ?1", ["x"], |row| row.get::<_, i64>(0)).optional();
        assert_eq!(none.expect("no fault"), None);
        assert!(!sql.prepare_cached("SELECT 1 FROM t").expect("a statement").exists([]).expect("an answer"));
        for params in [vec![], vec![1_i64, 2]] {
            let fault = sql.execute("DELETE FROM t WHERE id = ?1", params).expect_err("a fault");
            assert!(matches!(fault, Error::Count(1, _)), "{fault}");
        }
    }
}
