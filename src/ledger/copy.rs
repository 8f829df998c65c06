//! Moves an embedded ledger to PostgreSQL: every row of every table under its own number, in one transaction, and the key
//! of the instance. The source is left as it is. Refuses a source that a service runs on, and a target that holds
//! anything; what arrived is counted by the audits of both.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::handle::Ledger;
use super::postgres::{Pg, Server};
use super::sql::{Held, Sql};
use super::{Audit, Fault, known_key};

/// Rows and bytes that go in one statement.
const ROWS: usize = 100;
const BYTES: usize = 2 << 20;

/// What was moved.
#[derive(Debug, Clone, Serialize)]
pub struct Copied {
    /// Rows, by table.
    pub tables: Vec<(String, u64)>,
    /// The account of the copy.
    pub audit: Audit,
}

impl Ledger {
    /// Copies this embedded ledger to a server. Blocks a thread, not the caller.
    pub async fn copy_to(&self, server: Arc<Server>, now: Timestamp) -> Result<Copied, Fault> {
        let Some(path) = self.state().file().map(ToOwned::to_owned) else {
            return Err(Fault::new("it is on a server already: what is copied is a file"));
        };
        let Some(_own) = self.own()? else {
            return Err(Fault::new("a service runs on it: stop it first"));
        };
        // What a killed service was sending waits again.
        self.recover(now).await?;
        let before = self.audit().await?;
        if let Some(gap) = before.gaps.first() {
            return Err(Fault::new(format!("it does not add up, so it is not copied: {}", gap.rule)));
        }
        let key = known_key(&path).map_err(|error| Fault::new(error.to_string()))?;
        let target = {
            let server = server.clone();
            blocking(move || Ledger::connect(server)).await?
        };
        let key = key.map(|key| key.to_text());
        let tables = blocking(move || {
            let from = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let to = Sql::Pg(Pg::new(server));
            to.begin_long()?;
            let tables = Copy { from: &from, to: &to }.all(key.as_deref())?;
            to.commit()?;
            Ok(tables)
        })
        .await?;
        let audit = target.audit().await?;
        let account = |audit: &Audit| {
            (audit.messages.clone(), audit.deliveries.clone(), audit.sessions, audit.versions, audit.found.clone())
        };
        if !audit.is_complete() || account(&audit) != account(&before) {
            return Err(Fault::new(
                "what arrived is not what was sent: leave the configuration as it is, and report this",
            ));
        }
        Ok(Copied { tables, audit })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Fault::new(error.to_string()))?
}

struct Copy<'a> {
    from: &'a Connection,
    to: &'a Sql,
}

impl Copy<'_> {
    fn all(&self, key: Option<&str>) -> Result<Vec<(String, u64)>, Fault> {
        // Nobody else begins to fill it meanwhile.
        self.to
            .query_row("SELECT version FROM ledger WHERE id = 1 /*pg FOR UPDATE*/", [], |row| row.get::<_, i64>(0))?;
        for table in ["messages", "sessions", "positions", "destinations"] {
            let holds = self.to.prepare_cached(&format!("SELECT 1 FROM {table} LIMIT 1"))?.exists([])?;
            if holds {
                return Err(Fault::new("the database holds a ledger that is in use: name an empty one"));
            }
        }
        let names: Vec<String> = self
            .from
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY rowid")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let tables =
            names.into_iter().map(|name| Ok((name.clone(), self.table(&name)?))).collect::<Result<_, Fault>>()?;
        if let Some(key) = key {
            self.to.execute("UPDATE ledger SET instance_key = ?1 WHERE id = 1", [key])?;
        }
        Ok(tables)
    }

    fn table(&self, table: &str) -> Result<u64, Fault> {
        let columns: Vec<String> = self
            .from
            .prepare("SELECT name FROM pragma_table_info(?1)")?
            .query_map([table], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let (mut values, mut bytes, mut count) = (Vec::new(), 0, 0);
        let mut select = self.from.prepare(&format!("SELECT {} FROM {table}", columns.join(", ")))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns.len() {
                let value = match row.get_ref(column)? {
                    ValueRef::Null => Held::Null,
                    ValueRef::Integer(n) => Held::Integer(n),
                    ValueRef::Text(text) => Held::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(blob) => Held::Bytes(blob.to_vec()),
                    ValueRef::Real(_) => return Err(Fault::new(format!("`{table}` holds a fraction"))),
                };
                bytes += value.len();
                values.push(value);
            }
            count += 1;
            if values.len() >= ROWS * columns.len() || bytes >= BYTES {
                self.insert(table, &columns, std::mem::take(&mut values))?;
                bytes = 0;
            }
        }
        self.insert(table, &columns, values)?;
        if columns.first().is_some_and(|column| column == "id") {
            let next: i64 =
                self.to.query_row(&format!("SELECT coalesce(max(id), 0) + 1 FROM {table}"), [], |row| row.get(0))?;
            self.to.execute_batch(&format!("ALTER TABLE {table} ALTER COLUMN id RESTART WITH {next}"))?;
        }
        Ok(count)
    }

    fn insert(&self, table: &str, columns: &[String], values: Vec<Held>) -> Result<(), Fault> {
        if values.is_empty() {
            return Ok(());
        }
        let row = format!("({})", vec!["?"; columns.len()].join(", "));
        let rows = vec![row; values.len() / columns.len()].join(", ");
        self.to.execute(&format!("INSERT INTO {table} ({}) VALUES {rows}", columns.join(", ")), values)?;
        Ok(())
    }
}
