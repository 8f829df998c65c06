//! One thread writes the ledger: it takes what waits, runs each job in a savepoint of one transaction,
//! commits once, and only then answers all. A job that fails is undone alone; a commit that fails fails
//! all. No job is answered before its change is on the disk.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use super::Fault;

/// Jobs that share one commit, at most: bounds how long the first waits for the last.
const GROUP: usize = 64;

/// How long a change that nobody waits for waits for others.
const LINGER: Duration = Duration::from_millis(100);

/// Pages in the write-ahead log that are worth carrying over into the database (16 MiB).
const CHECKPOINT_PAGES: i64 = 1_024;

/// What a job works in.
pub(super) struct Transaction<'c> {
    /// The connection, inside the transaction.
    pub(super) sql: &'c Connection,
    wake: Cell<bool>,
}

impl Transaction<'_> {
    /// Something became due: wakes the dispatcher after the commit.
    pub(super) fn wake(&self) {
        self.wake.set(true);
    }
}

/// A change that waits for its turn, with the address for its answer.
trait Job: Send {
    /// True if nobody waits for it, so that it may wait for others.
    fn can_wait(&self) -> bool;
    /// Makes the change. False: undo it.
    fn run(&mut self, transaction: &Transaction<'_>) -> bool;
    /// After the commit, or with the fault that took the whole group.
    fn answer(self: Box<Self>, fault: Option<&Fault>);
}

struct Work<T, F> {
    work: Option<F>,
    result: Option<Result<T, Fault>>,
    to: oneshot::Sender<Result<T, Fault>>,
    can_wait: bool,
}

impl<T, F> Job for Work<T, F>
where
    T: Send + 'static,
    F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
{
    fn can_wait(&self) -> bool {
        self.can_wait
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A fault in one job (the planner is other people's code) must not take the thread.
        let result = catch_unwind(AssertUnwindSafe(|| work(transaction)))
            .unwrap_or_else(|panic| Err(Fault::new(format!("a change stopped with: {}", words_of(&*panic)))));
        self.result.insert(result).is_ok()
    }

    fn answer(self: Box<Self>, fault: Option<&Fault>) {
        let result = match (fault, self.result) {
            // The job's own fault says more than that of the group.
            (Some(fault), Some(Ok(_)) | None) => Err(fault.clone()),
            (_, Some(result)) => result,
            (None, None) => Err(Fault::new("a change was not made")),
        };
        // Who no longer waits needs no answer.
        let _ = self.to.send(result);
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

/// The way to the writing thread. Dropping it waits until what was handed in is committed.
pub(super) struct Writer {
    jobs: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread on its connection. `due` is notified after commits that made something due.
    pub(super) fn start(connection: Connection, due: Arc<Notify>) -> Result<Self, Fault> {
        let (jobs, waiting) = channel();
        let commits = Arc::new(AtomicU64::new(0));
        let desk = Desk { connection, waiting, due, commits: commits.clone() };
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || desk.work())
            .map_err(|error| Fault::new(format!("its thread does not start: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), commits })
    }

    /// Makes a change; returns after its commit.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let answer = self.send(work, false);
        answer.await.unwrap_or_else(|_| Err(Fault::new("it is closed")))
    }

    /// Hands in a change that nobody waits for. Unless it is `urgent` it waits for another one to be committed with,
    /// but not for long; always in order with the others.
    pub(super) fn hand_in<F>(&self, urgent: bool, work: F)
    where
        F: FnOnce(&Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    {
        drop(self.send(work, !urgent));
    }

    fn send<T, F>(&self, work: F, can_wait: bool) -> oneshot::Receiver<Result<T, Fault>>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (to, answer) = oneshot::channel();
        let job = Box::new(Work { work: Some(work), result: None, to, can_wait });
        if let Some(jobs) = &self.jobs {
            // If the thread is gone, so is the sender of the answer, which says it.
            let _ = jobs.send(job);
        }
        answer
    }

    /// Commits that changed something.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The writing thread's side.
struct Desk {
    connection: Connection,
    waiting: Receiver<Box<dyn Job>>,
    due: Arc<Notify>,
    commits: Arc<AtomicU64>,
}

impl Desk {
    fn work(self) {
        let mut held: VecDeque<Box<dyn Job>> = VecDeque::new();
        let mut until = Instant::now();
        loop {
            if held.is_empty() {
                let Ok(job) = self.waiting.recv() else { break };
                until = Instant::now() + LINGER;
                held.push_back(job);
            }
            if held.back().is_some_and(|last| last.can_wait()) && held.len() < GROUP {
                match self.waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(job) => {
                        held.push_back(job);
                        continue;
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
            }
            self.commit_together(&mut held);
            self.checkpoint();
        }
        // A ledger at rest is one file. Readers may still hold it: then the next one does this.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Commits what is held, with what comes in the meantime.
    fn commit_together(&self, held: &mut VecDeque<Box<dyn Job>>) {
        if let Err(error) = self.step("BEGIN IMMEDIATE") {
            let fault = error.into();
            return held.drain(..).for_each(|job| job.answer(Some(&fault)));
        }
        let before = self.connection.total_changes();
        let transaction = Transaction { sql: &self.connection, wake: Cell::new(false) };
        let mut group = Vec::new();
        let mut next = held.pop_front();
        let mut broken = None;
        while let Some(mut job) = next.take() {
            let done = self.run_alone(&mut *job, &transaction);
            group.push(job);
            match done {
                Ok(()) if group.len() < GROUP => next = held.pop_front().or_else(|| self.waiting.try_recv().ok()),
                Ok(()) => {}
                Err(fault) => broken = Some(fault),
            }
        }
        let ended = match broken {
            Some(fault) => Err(fault),
            None => self.step("COMMIT").map_err(Fault::from),
        };
        match &ended {
            Ok(()) if self.connection.total_changes() != before => {
                self.commits.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(_) if self.connection.is_autocommit() => {}
            Err(_) => drop(self.step("ROLLBACK")),
        }
        for job in group {
            job.answer(ended.as_ref().err());
        }
        if ended.is_ok() && transaction.wake.get() {
            self.due.notify_one();
        }
    }

    /// One job in its savepoint. `Err` only if the whole transaction is lost.
    fn run_alone(&self, job: &mut dyn Job, transaction: &Transaction<'_>) -> Result<(), Fault> {
        self.step("SAVEPOINT job")?;
        if job.run(transaction) {
            self.step("RELEASE job")?;
        } else if self.connection.is_autocommit() {
            // A full disk or an I/O error makes SQLite roll back everything by itself.
            return Err(Fault::new("the transaction was rolled back by a fault of the disk"));
        } else {
            self.step("ROLLBACK TO job")?;
            self.step("RELEASE job")?;
        }
        Ok(())
    }

    fn step(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Carries the log over into the database once it is long; after the answers, so nobody waits for it.
    fn checkpoint(&self) {
        let state = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        };
        if let Ok((in_log, carried)) = state("PRAGMA wal_checkpoint(NOOP)")
            && in_log - carried > CHECKPOINT_PAGES
        {
            // If it can't now, it will be tried after the next commit.
            let _ = state("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().expect("a directory");
        let connection = Connection::open(dir.path().join("w.db")).expect("a database");
        connection.pragma_update(None, "journal_mode", "wal").expect("wal");
        connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").expect("a table");
        (dir, Writer::start(connection, Arc::new(Notify::new())).expect("a writer"))
    }

    fn insert(n: i64) -> impl FnOnce(&Transaction<'_>) -> Result<(), Fault> + Send + 'static {
        move |tx| {
            tx.sql.execute("INSERT INTO t VALUES (?1)", [n])?;
            Ok(())
        }
    }

    async fn count(writer: &Writer) -> i64 {
        writer.write(|tx| Ok(tx.sql.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)).await.expect("a count")
    }

    #[tokio::test]
    async fn what_waits_together_is_committed_together() {
        let (_dir, writer) = writer();
        // The first job holds the thread until the others are in line.
        let (go, held) = std::sync::mpsc::channel::<()>();
        let first = writer.write(move |tx| {
            let _ = held.recv();
            insert(0)(tx)
        });
        let others = async {
            let jobs: Vec<_> = (1..=20).map(|n| writer.write(insert(n))).collect();
            let all = futures_util::future::join_all(jobs);
            let release = async { go.send(()).expect("the first job waits") };
            tokio::join!(all, release).0
        };
        let (first, others) = tokio::join!(first, others);
        first.expect("committed");
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(count(&writer).await, 21);
        assert_eq!(writer.commits(), 1);
    }

    #[tokio::test]
    async fn a_job_that_fails_or_panics_is_undone_alone() {
        let (_dir, writer) = writer();
        let fails = writer.write(|tx| {
            insert(1)(tx)?;
            insert(1)(tx)
        });
        let panics = writer.write(|tx| {
            insert(2)(tx)?;
            assert_eq!(tx.sql.changes(), 99, "a planner's fault");
            Ok(())
        });
        let (fails, panics, works) = tokio::join!(fails, panics, writer.write(insert(3)));
        assert!(fails.expect_err("a fault").detail.contains("UNIQUE"));
        assert!(panics.expect_err("a fault").detail.contains("a planner's fault"));
        works.expect("the third");
        assert_eq!(count(&writer).await, 1);
    }

    #[tokio::test]
    async fn a_commit_that_fails_fails_all_of_its_group_and_the_next_one_works() {
        let (_dir, writer) = writer();
        writer
            .write(|tx| {
                tx.sql
                    .execute_batch("CREATE TABLE child (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED);")?;
                Ok(())
            })
            .await
            .expect("a table");
        let orphan = writer.write(|tx| {
            tx.sql.execute_batch("INSERT INTO child VALUES (77)")?;
            insert(1)(tx)
        });
        orphan.await.expect_err("a deferred key fails the commit");
        writer.write(insert(2)).await.expect("the next one");
        assert_eq!(count(&writer).await, 1);
    }
}
