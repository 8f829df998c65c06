//! Brings a ledger to the newest schema: numbered SQL files, each in one transaction, counted in
//! `PRAGMA user_version`. A ledger of a newer program is refused, never guessed at.

use rusqlite::{Connection, TransactionBehavior};

use super::Fault;

/// File `n` brings a ledger from version `n` to `n + 1`. Files are only ever added.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
    include_str!("schema/003.sql"),
    include_str!("schema/004.sql"),
    include_str!("schema/005.sql"),
];

/// What this program brings a ledger to.
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Brings the ledger to [`NEWEST`]. Two processes may do so at once: the second finds it done.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    while version(connection)? < NEWEST {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read again under the lock: somebody else may have been first.
        let at = version(&step)?;
        if let Some(sql) = usize::try_from(at).ok().and_then(|at| MIGRATIONS.get(at)) {
            step.execute_batch(sql)?;
            step.pragma_update(None, "user_version", at + 1)?;
        }
        step.commit()?;
    }
    let found = version(connection)?;
    if found > NEWEST {
        return Err(Fault::new(format!(
            "it has schema {found}, and this program knows none newer than {NEWEST}: \
             run the newer mail2crm that wrote it, or name another file in `state`"
        )));
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ledger_gets_the_newest_schema_and_a_second_run_changes_nothing() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&mut connection).expect("the first run");
        let tables = |c: &Connection| -> i64 {
            c.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("a count")
        };
        let before = tables(&connection);
        migrate(&mut connection).expect("the second run");
        assert_eq!((version(&connection).expect("a version"), tables(&connection)), (NEWEST, before));
    }

    #[test]
    fn a_ledger_of_a_newer_program_is_refused_and_left_as_it_is() {
        let mut connection = Connection::open_in_memory().expect("a database");
        connection.pragma_update(None, "user_version", NEWEST + 1).expect("a newer version");
        let fault = migrate(&mut connection).expect_err("a refusal");
        assert!(fault.detail.contains("newer mail2crm"), "{fault}");
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("a count");
        assert_eq!(tables, 0);
    }
}
