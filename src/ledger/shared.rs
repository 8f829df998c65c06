//! Brings a ledger on PostgreSQL to the newest schema, while programs of two versions may run on it.
//!
//! The numbered files are those of SQLite, translated. Each is one transaction under the lock of the one row of `ledger`,
//! so instances that start together do each step once. A newer schema is no fault as long as `oldest` in that row says
//! that this program can work with it; files only add.

use super::Fault;
use super::postgres::schema_of;
use super::schema::{MIGRATIONS, NEWEST};
use super::sql::Sql;
use crate::message::mark::InstanceKey;

/// The oldest program, by the schema it calls newest, that may work with [`NEWEST`]. Raised by whoever adds a file
/// that an older program would get wrong: then those must be stopped first.
const OLDEST: i64 = 3;

/// How often a step is tried anew in which somebody else was first.
const TRIES: usize = 20;

/// Brings the ledger to [`NEWEST`]. Several instances may do so at once.
pub(super) fn migrate(sql: &Sql) -> Result<(), Fault> {
    let mut tries = 0;
    loop {
        match step(sql) {
            Ok(true) => return Ok(()),
            Ok(false) => tries = 0,
            // Two that make the first table at once: one of them is told so in several ways.
            Err(_) if tries < TRIES && !sql.is_open() && made(sql).unwrap_or(false) => tries += 1,
            Err(fault) => return Err(fault),
        }
    }
}

/// The key of all instances, as text.
pub(super) fn key(sql: &Sql) -> Result<String, Fault> {
    Ok(sql.query_row("SELECT instance_key FROM ledger WHERE id = 1", [], |row| row.get(0))?)
}

/// One step; true if there was nothing left to do.
fn step(sql: &Sql) -> Result<bool, Fault> {
    sql.begin_long()?;
    let done = one(sql).and_then(|done| Ok(sql.commit().map(|()| done)?));
    if done.is_err() {
        sql.roll_back();
    }
    done
}

fn made(sql: &Sql) -> Result<bool, Fault> {
    sql.begin_long()?;
    let found = is_made(sql);
    sql.roll_back();
    found
}

fn is_made(sql: &Sql) -> Result<bool, Fault> {
    Ok(sql
        .prepare_cached(
            "SELECT 1 FROM information_schema.tables WHERE table_name = 'ledger' AND table_schema = current_schema()",
        )?
        .exists([])?)
}

fn one(sql: &Sql) -> Result<bool, Fault> {
    if !is_made(sql)? {
        sql.execute_batch(include_str!("schema/postgres.sql"))?;
        sql.execute(
            "INSERT INTO ledger (id, version, oldest, instance_key) VALUES (1, 0, 0, ?1)",
            [new_key()?.as_str()],
        )?;
        return Ok(false);
    }
    let read = |text| sql.query_row(text, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let (version, oldest) = read("SELECT version, oldest FROM ledger WHERE id = 1")?;
    if oldest > NEWEST {
        return Err(Fault::new(format!(
            "its schema is {version}, which programs that know {oldest} or newer can work with, and this one knows none \
             newer than {NEWEST}: run the newer mail2crm"
        )));
    }
    if version >= NEWEST {
        return Ok(true);
    }
    // Read again under the lock: somebody else may have been first.
    let (version, _) = read("SELECT version, oldest FROM ledger WHERE id = 1 /*pg FOR UPDATE*/")?;
    let Some(file) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version)) else { return Ok(true) };
    sql.execute_batch(&schema_of(file))?;
    sql.execute("UPDATE ledger SET version = ?1, oldest = ?2 WHERE id = 1", [version + 1, OLDEST])?;
    Ok(version + 1 >= NEWEST)
}

fn new_key() -> Result<String, Fault> {
    let mut random = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| Fault::new("the system gives no random numbers"))?;
    Ok(InstanceKey::new(random).to_text())
}
