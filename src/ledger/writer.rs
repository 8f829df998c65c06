//! One thread writes the ledger: it takes what waits, runs each job in a savepoint of one transaction,
//! commits once, and only then answers all. A job that fails is undone alone; a commit that fails fails
//! all. A job that somebody else was in the way of is made anew, alone, so it must come to the same if it is run
//! twice. No job is answered before its change is on the disk.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::Fault;
use super::sql::Sql;

/// Jobs that share one commit, at most: bounds how long the first waits for the last.
const GROUP: usize = 64;

/// How long a change is made anew that others were in the way of, or that lost its connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a change that nobody waits for waits for others.
const LINGER: Duration = Duration::from_millis(100);

/// What a job works in.
pub(super) struct Transaction<'c> {
    /// The connection, inside the transaction.
    pub(super) sql: &'c Sql,
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
    /// Why its last run failed.
    fn fault(&self) -> Option<&Fault>;
    /// After the commit, or with the fault that took the whole group.
    fn answer(self: Box<Self>, fault: Option<&Fault>);
}

struct Work<T, F> {
    work: F,
    result: Option<Result<T, Fault>>,
    to: oneshot::Sender<Result<T, Fault>>,
    can_wait: bool,
}

impl<T, F> Job for Work<T, F>
where
    T: Send + 'static,
    F: Fn(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
{
    fn can_wait(&self) -> bool {
        self.can_wait
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        // A fault in one job (the planner is other people's code) must not take the thread.
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)(transaction)))
            .unwrap_or_else(|panic| Err(Fault::new(format!("a change stopped with: {}", words_of(&*panic)))));
        self.result.insert(result).is_ok()
    }

    fn fault(&self) -> Option<&Fault> {
        self.result.as_ref()?.as_ref().err()
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
    /// Starts the thread on the connection that it makes. `due` is notified after commits that made something due.
    pub(super) fn start(
        connect: impl FnOnce() -> Result<Sql, Fault> + Send + 'static,
        due: Arc<Notify>,
    ) -> Result<Self, Fault> {
        let (jobs, waiting) = channel();
        let commits = Arc::new(AtomicU64::new(0));
        let counted = commits.clone();
        let (ready, started) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || match connect() {
                Ok(sql) => {
                    let _ = ready.send(Ok(()));
                    Desk { sql, waiting, due, commits: counted }.work();
                }
                Err(fault) => drop(ready.send(Err(fault))),
            })
            .map_err(|error| Fault::new(format!("its thread does not start: {error}")))?;
        let writer = Self { jobs: Some(jobs), thread: Some(thread), commits };
        started.recv().unwrap_or_else(|_| Err(Fault::new("its thread stopped")))?;
        Ok(writer)
    }

    /// Makes a change; returns after its commit.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let answer = self.send(work, false);
        answer.await.unwrap_or_else(|_| Err(Fault::new("it is closed")))
    }

    /// Hands in a change that nobody waits for. Unless it is `urgent` it waits for another one to be committed with,
    /// but not for long; always in order with the others.
    pub(super) fn hand_in<F>(&self, urgent: bool, work: F)
    where
        F: Fn(&Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    {
        drop(self.send(work, !urgent));
    }

    fn send<T, F>(&self, work: F, can_wait: bool) -> oneshot::Receiver<Result<T, Fault>>
    where
        T: Send + 'static,
        F: Fn(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (to, answer) = oneshot::channel();
        let job = Box::new(Work { work, result: None, to, can_wait });
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
    sql: Sql,
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
            self.sql.rest();
        }
        self.sql.close();
    }

    /// Commits what is held, with what comes in the meantime.
    fn commit_together(&self, held: &mut VecDeque<Box<dyn Job>>) {
        let until = Instant::now() + PATIENCE;
        let (mut group, mut again) = (Vec::new(), Vec::new());
        let mut next = held.pop_front();
        let ended = self.transact(|transaction| {
            while let Some(mut job) = next.take() {
                let done = self.run_alone(&mut *job, transaction);
                let line = if job.fault().is_some_and(|fault| fault.passes) { &mut again } else { &mut group };
                line.push(job);
                done?;
                if group.len() + again.len() < GROUP {
                    next = held.pop_front().or_else(|| self.waiting.try_recv().ok());
                }
            }
            Ok(())
        });
        if next.is_some() {
            // The transaction did not begin.
            group.extend(next);
            group.extend(held.drain(..));
        }
        match &ended {
            Err(fault) if fault.passes => {
                group.append(&mut again);
                again = group;
            }
            ended => group.into_iter().for_each(|job| job.answer(ended.as_ref().err())),
        }
        again.into_iter().for_each(|job| self.make_anew(job, until));
    }

    /// Runs jobs in a transaction of their own. What they did is durable when it returns well, and gone if not.
    fn transact(&self, jobs: impl FnOnce(&Transaction<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        self.sql.begin()?;
        let before = self.sql.changes();
        let transaction = Transaction { sql: &self.sql, wake: Cell::new(false) };
        let ended = jobs(&transaction).and_then(|()| Ok(self.sql.commit()?));
        match ended {
            Err(_) => self.sql.roll_back(),
            Ok(()) => {
                self.commits.fetch_add(u64::from(self.sql.changes() != before), Ordering::Relaxed);
                if transaction.wake.get() {
                    self.due.notify_one();
                }
            }
        }
        ended
    }

    /// One job of a group, undone alone if it fails. `Err` only if the whole transaction is lost.
    fn run_alone(&self, job: &mut dyn Job, transaction: &Transaction<'_>) -> Result<(), Fault> {
        self.sql.mark()?;
        if job.run(transaction) {
            return Ok(self.sql.keep()?);
        }
        if !self.sql.is_open() {
            // A full disk or an I/O error makes SQLite roll back everything by itself.
            return Err(Fault::new("the transaction was rolled back by a fault of the disk"));
        }
        Ok(self.sql.undo()?)
    }

    /// Makes a change for which the others were in the way once more, alone, until it succeeds or fails for good.
    fn make_anew(&self, mut job: Box<dyn Job>, until: Instant) {
        let mut pause = Duration::from_millis(5);
        loop {
            let ended = self.transact(|transaction| {
                let done = job.run(transaction);
                if done { Ok(()) } else { Err(job.fault().cloned().unwrap_or_else(|| Fault::new("a change failed"))) }
            });
            match ended {
                Err(fault) if fault.passes && Instant::now() < until => {
                    rest(pause.mul_f64(0.5 + fastrand::f64()));
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
                ended => return job.answer(ended.as_ref().err()),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the writing thread is its own, and has nothing else to do meanwhile")]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn writer() -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().expect("a directory");
        let connection = Connection::open(dir.path().join("w.db")).expect("a database");
        connection.pragma_update(None, "journal_mode", "wal").expect("wal");
        connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").expect("a table");
        (dir, Writer::start(move || Ok(Sql::Lite(connection)), Arc::new(Notify::new())).expect("a writer"))
    }

    fn insert(n: i64) -> impl Fn(&Transaction<'_>) -> Result<(), Fault> + Send + 'static {
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
