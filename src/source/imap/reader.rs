//! The life of the source: connect, find the place, read what is new, wait, and again.
//!
//! One batch is on its way to the commit while the next is fetched; the cursor moves only when the answer
//! says that all of a batch is safe. What ends a connection and may pass is tried once more at once; what
//! fails again, or before a mailbox is open, is a `Fault` for the service.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::after::AfterActions;
use super::connect;
use super::connection::{Connection, Selected};
use super::cursor::{Cursor, Origin};
use super::fetch;
use super::idle::{self, Woken};
use super::plan::{Next, Plan, Suspects};
use super::settings::Settings;
use crate::outcome::Reason;
use crate::source::{Batch, Content, Envelope, Fault, Inlet, Position, Received, Settled};

/// A connection that lived this long, or took something in, is made anew at once when it breaks.
const LASTING: Duration = Duration::from_secs(10);
/// How long a command or a commit may go on after the source was told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Waiting after `try again`: from the first to the last, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// So many connections in a row may end over a message before the server itself is taken for broken; one
/// message that always ends them takes four.
const MOST_BARREN: u32 = 10;
/// The pause before the next of them, times their number.
const BARREN_WAIT: Duration = Duration::from_millis(250);
/// With more messages that can't be fetched than this, it is the server that is broken.
const MOST_HOLES: usize = 1000;

/// Reads one mailbox until it is told to stop.
pub(super) struct Reader {
    settings: Settings,
    started: Timestamp,
    inlet: Inlet,
    stop: CancellationToken,
    /// What is committed; `None` before the first contact.
    cursor: Option<Cursor>,
    after: AfterActions,
    suspects: Suspects,
    /// Whether the connection got as far as an open mailbox, and whether it was of use.
    opened: bool,
    progress: bool,
    /// Connections in a row that ended over a message, with none taken in between.
    barren: u32,
    went_back: bool,
    idle_works: bool,
}

/// A batch that waits for its commit.
struct InFlight {
    /// UID, and whether only its size is known.
    mails: Vec<(u32, bool)>,
    cursor: Cursor,
    settled: BoxFuture<'static, Vec<Settled>>,
}

/// What the connection brought.
enum Made {
    Batch { items: Vec<Received>, mails: Vec<(u32, bool)> },
    Nothing,
    Stopped,
}

/// How a walk through what is new ended.
enum Walk {
    Done,
    TryAgain,
    Stopped,
}

impl Reader {
    pub(super) fn new(
        settings: Settings,
        started: Timestamp,
        inlet: Inlet,
        position: Option<&str>,
        stop: CancellationToken,
    ) -> Result<Self, Fault> {
        let cursor = position
            .map(|text| {
                Cursor::from_json(text).ok_or_else(|| Fault {
                    reason: Reason::UnexpectedReply,
                    step: "position",
                    detail: "the position that the ledger keeps for this mailbox can't be read".to_owned(),
                })
            })
            .transpose()?;
        Ok(Self {
            after: AfterActions::new(settings.after.clone()),
            settings,
            started,
            inlet,
            stop,
            cursor,
            suspects: Suspects::default(),
            opened: false,
            progress: false,
            barren: 0,
            went_back: false,
            idle_works: true,
        })
    }

    pub(super) async fn run(mut self) -> Result<(), Fault> {
        let mut trust = None;
        let mut again = false;
        loop {
            let begun = Instant::now();
            (self.opened, self.progress) = (false, false);
            let fault = match self.connect_and_read(&mut trust, again).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let passing = matches!(
                fault.reason,
                Reason::ConnectionLost | Reason::Timeout | Reason::UnexpectedReply | Reason::TooLarge
            );
            if !passing || !self.opened || !(self.progress || begun.elapsed() >= LASTING) {
                return Err(fault);
            }
            info!("connecting to the mail server again, because {fault}");
            again = true;
            if unless_stopped(&self.stop, Duration::ZERO, sleep(BARREN_WAIT * self.barren)).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn connect_and_read(&mut self, trust: &mut Option<TlsConnector>, again: bool) -> Result<(), Fault> {
        let stop = self.stop.clone();
        let opening = async {
            let mut connection = connect::open(&self.settings, trust).await?;
            let selected = connection.select(&self.settings.mailbox, self.after.read_only()).await?;
            Ok((connection, selected))
        };
        let Some(opened) = unless_stopped(&stop, Duration::ZERO, opening).await else { return Ok(()) };
        let (mut connection, mut selected) = opened?;
        self.opened = true;
        self.find_place(&selected).await?;
        info!(
            "reads the mailbox `{}` at {}: {} messages, the next UID is {}; the server offers {}",
            self.settings.mailbox,
            self.settings.host,
            selected.exists,
            selected.uid_next,
            connection.capabilities().of_interest()
        );
        // A message that can't be had may have ended the connection before: not as the first thing again.
        let mut with_holes = !again;
        let mut wait = FIRST_WAIT;
        loop {
            match self.walk(&mut connection, &selected, with_holes).await? {
                Walk::Done => wait = FIRST_WAIT,
                Walk::Stopped => {
                    connection.logout().await;
                    return Ok(());
                }
                Walk::TryAgain => {
                    if unless_stopped(&stop, Duration::ZERO, sleep(wait)).await.is_none() {
                        connection.logout().await;
                        return Ok(());
                    }
                    wait = (wait * 2).min(LAST_WAIT);
                    continue;
                }
            }
            match idle::wait(&mut connection, &self.settings, &mut self.idle_works, &stop).await? {
                Woken::News => with_holes = false,
                Woken::Due => {
                    // Not NOOP: the numbers are to come from the mailbox, not from what the server remembers.
                    selected = connection.select(&self.settings.mailbox, self.after.read_only()).await?;
                    self.find_place(&selected).await?;
                    with_holes = true;
                }
                Woken::Stopped => {
                    connection.logout().await;
                    return Ok(());
                }
            }
        }
    }

    /// Compares the mailbox with where we were. A place that is new is committed before anything is read,
    /// so that what arrives while we are down is not taken for old.
    async fn find_place(&mut self, selected: &Selected) -> Result<(), Fault> {
        self.after.opened(selected);
        let (cursor, origin) = Cursor::place(self.cursor.as_ref(), selected, &self.settings.start, self.started);
        let name = &self.settings.mailbox;
        match origin {
            Origin::Kept => return Ok(()),
            Origin::First => {}
            Origin::Renumbered => warn!(
                "the mailbox `{name}` has new UIDs (UIDVALIDITY {}); it is read again from the start, known mail changes nothing",
                cursor.uidvalidity
            ),
            // A server that is always wrong about its next UID would have us read for ever.
            Origin::WentBack if std::mem::replace(&mut self.went_back, true) => return Ok(()),
            Origin::WentBack => warn!(
                "the next UID of the mailbox `{name}` went back to {}, as after a restored backup; it is read again from the \
                 start, known mail changes nothing",
                selected.uid_next
            ),
        }
        self.after.clear();
        self.suspects.clear();
        self.commit_alone(cursor).await
    }

    async fn commit_alone(&mut self, cursor: Cursor) -> Result<(), Fault> {
        self.inlet.commit_position(self.position(&cursor)).await?;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn position(&self, cursor: &Cursor) -> Position {
        Position { key: self.settings.mailbox.clone(), value: cursor.to_json() }
    }

    /// Reads all that is new, a batch in the commit and a batch in the making.
    async fn walk(&mut self, connection: &mut Connection, selected: &Selected, holes: bool) -> Result<Walk, Fault> {
        let Some(cursor) = self.cursor.clone() else { return Ok(Walk::Done) };
        // What is told from here on may not be in the listing; what was told before is.
        connection.news();
        let stop = self.stop.clone();
        let mut plan = Plan::new(cursor, selected.uid_next, holes, self.settings.max_bytes);
        let mut in_flight: Option<InFlight> = None;
        loop {
            let settling = async {
                match in_flight.take() {
                    Some(batch) => {
                        let answers = unless_stopped(&stop, GRACE, batch.settled).await;
                        Some((batch.mails, batch.cursor, answers.unwrap_or_default()))
                    }
                    None => None,
                }
            };
            let making = unless_stopped(&stop, GRACE, self.make(connection, &mut plan));
            let (settled, made) = tokio::join!(settling, making);
            if let Some((mails, cursor, answers)) = settled
                && !self.settle(&mails, cursor, &answers)
            {
                return if stop.is_cancelled() {
                    Ok(Walk::Stopped)
                } else {
                    made.unwrap_or(Ok(Made::Stopped)).map(|_| Walk::TryAgain)
                };
            }
            match made.unwrap_or(Ok(Made::Stopped))? {
                Made::Batch { items, mails } => in_flight = Some(self.send_off(items, mails, plan.cursor.clone())),
                Made::Nothing => break,
                Made::Stopped => {
                    self.after.act(connection).await?;
                    return Ok(Walk::Stopped);
                }
            }
        }
        self.after.act(connection).await?;
        if self.cursor.as_ref() != Some(&plan.cursor) {
            self.commit_alone(plan.cursor).await?;
        }
        Ok(Walk::Done)
    }

    fn send_off(&self, items: Vec<Received>, mails: Vec<(u32, bool)>, cursor: Cursor) -> InFlight {
        let batch = Batch { items, position: Some(self.position(&cursor)) };
        let inlet = self.inlet.clone();
        InFlight { mails, cursor, settled: Box::pin(async move { inlet.hand_over(batch).await }) }
    }

    /// Takes the answers to a batch in. False: some of it is not safe, and the cursor stays.
    fn settle(&mut self, mails: &[(u32, bool)], cursor: Cursor, answers: &[Settled]) -> bool {
        let unsafe_one = answers.iter().find_map(|answer| match answer {
            Settled::TryAgain(why) => Some(why.as_str()),
            _ => None,
        });
        let why = if answers.len() == mails.len().max(1) { unsafe_one } else { Some("no answer from intake") };
        if let Some(why) = why {
            if !self.stop.is_cancelled() {
                warn!("{} messages are not in the ledger yet and are read again: {why}", mails.len());
            }
            return false;
        }
        for ((uid, too_large), settled) in mails.iter().zip(answers) {
            self.after.settle(*uid, settled, *too_large);
        }
        self.cursor = Some(cursor);
        if !mails.is_empty() {
            (self.progress, self.barren) = (true, 0);
        }
        true
    }

    /// The connection's part: after-actions of what is committed, then listings and downloads up to one batch.
    async fn make(&mut self, connection: &mut Connection, plan: &mut Plan) -> Result<Made, Fault> {
        self.after.act(connection).await?;
        loop {
            if self.stop.is_cancelled() {
                return Ok(Made::Stopped);
            }
            let batch = plan.take(&self.suspects);
            if !batch.is_empty() {
                return self.download(connection, plan, &batch).await;
            }
            let Some((set, about)) = plan.next_listing(connection.exists()) else { return Ok(Made::Nothing) };
            let found = fetch::list(connection, &set, about).await?;
            plan.listed(found, connection.exists());
        }
    }

    async fn download(&mut self, connection: &mut Connection, plan: &mut Plan, batch: &[Next]) -> Result<Made, Fault> {
        let wanted: Vec<_> =
            batch.iter().filter_map(|next| if let Next::Fetch(one) = next { Some(*one) } else { None }).collect();
        let bodies = match fetch::bodies(connection, &wanted).await {
            Ok(bodies) => bodies,
            Err(fault) => {
                if fault.reason != Reason::Unavailable {
                    let uids: Vec<u32> = wanted.iter().map(|one| one.uid).collect();
                    self.suspects.blame(&uids, connection.refused_literal());
                    self.barren += 1;
                    self.progress |= self.barren <= MOST_BARREN;
                }
                return Err(fault);
            }
        };
        let (mut items, mut mails) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for next in batch {
            let (one, content) = match next {
                Next::TooLarge(one, announced) => (one, Content::TooLarge(*announced)),
                Next::Hole(uid) => {
                    warn!(uid, "message {uid} ends the connection again and again; it is left out and tried later");
                    plan.cursor.pass_with_hole(*uid);
                    continue;
                }
                Next::Fetch(one) => match bodies.got.get(&one.uid) {
                    Some(bytes) if bytes.len() as u64 > self.settings.max_bytes => {
                        (one, Content::TooLarge(bytes.len() as u64))
                    }
                    Some(bytes) => (one, Content::Mail(bytes.clone())),
                    None if bodies.failed.contains(&one.uid) => {
                        plan.cursor.pass_with_hole(one.uid);
                        continue;
                    }
                    None => {
                        plan.cursor.pass(one.uid);
                        continue;
                    }
                },
            };
            plan.cursor.pass(one.uid);
            mails.push((one.uid, matches!(content, Content::TooLarge(_))));
            items.push(Received {
                input: format!("{}/{}/{}", self.settings.mailbox, plan.cursor.uidvalidity, one.uid),
                content,
                envelope: Envelope::default(),
                received_at: one.received_at,
            });
        }
        if plan.cursor.holes.len() > MOST_HOLES {
            let detail = format!("the server does not give {} of the messages that it lists", plan.cursor.holes.len());
            return Err(Fault { reason: Reason::Unavailable, step: "fetch", detail });
        }
        Ok(Made::Batch { items, mails })
    }
}

/// Runs to the end, unless `stop` comes and the time after it is over.
async fn unless_stopped<T>(stop: &CancellationToken, grace: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = async { stop.cancelled().await; sleep(grace).await } => None,
    }
}
