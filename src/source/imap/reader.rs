//! One mailbox: where reading stands in it, what is due, and the walk through what is new.
//!
//! One batch is on its way to the commit while the next is fetched; the cursor moves only when the answer
//! says that all of a batch is safe. Holds no connection: `round` opens the mailbox and lends it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::after::AfterActions;
use super::connection::{Connection, Selected};
use super::cursor::{Cursor, Origin};
use super::fetch;
use super::plan::{Next, Plan, Suspects};
use super::settings::Settings;
use super::survey::Standing;
use super::turn::{Due, Turn};
use crate::outcome::Reason;
use crate::source::{Batch, Content, Envelope, Fault, Inlet, Position, Received, Settled, Start};

/// How long a command or a commit may go on after the source was told to stop.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// So many connections in a row may end over a message before the server itself is taken for broken; one
/// message that always ends them takes four.
const MOST_BARREN: u32 = 10;
/// The pause before the next of them, times their number.
const BARREN_WAIT: Duration = Duration::from_millis(250);
/// With more messages that can't be fetched than this, it is the server that is broken.
const MOST_HOLES: usize = 1000;
/// What all mailboxes of a source have in common.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) settings: Arc<Settings>,
    pub(super) inlet: Inlet,
    pub(super) stop: CancellationToken,
    /// When the source was made: the day of a first contact.
    pub(super) started: Timestamp,
}

/// A mailbox, and where reading stands in it.
pub(super) struct Reader {
    pub(super) name: String,
    around: Around,
    start: Start,
    /// What is committed; `None` before the first contact.
    cursor: Option<Cursor>,
    after: AfterActions,
    suspects: Suspects,
    pub(super) turn: Turn,
    /// Why it could not be opened last.
    pub(super) refusal: Option<Fault>,
    /// The pattern that found it last, and whether the same did not find it since.
    pub(super) found_by: Option<usize>,
    pub(super) is_gone: bool,
    selected: Option<(Selected, Instant)>,
    /// Whether something was taken, or a message was found out, since this was set to false.
    pub(super) progress: bool,
    /// Connections in a row that ended over a message, with none taken in between.
    barren: u32,
    went_back: bool,
    is_known: bool,
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
pub(super) enum Walk {
    Done,
    /// It took as many as it was allowed to; there may be more.
    More,
    TryAgain,
    Stopped,
}

impl Reader {
    /// A mailbox with the place that the ledger keeps for it; `start` decides if there is none.
    pub(super) fn new(name: &str, around: &Around, start: Start, position: Option<&str>) -> Result<Self, Fault> {
        let cursor = position
            .map(|text| {
                Cursor::from_json(text).ok_or_else(|| Fault {
                    reason: Reason::UnexpectedReply,
                    step: "position",
                    detail: format!("the position that the ledger keeps for the mailbox `{name}` can't be read"),
                })
            })
            .transpose()?;
        Ok(Self {
            name: name.to_owned(),
            after: AfterActions::new(around.settings.after.clone()),
            around: around.clone(),
            start,
            cursor,
            suspects: Suspects::default(),
            turn: Turn::new(around.settings.period(true)),
            refusal: None,
            found_by: None,
            is_gone: false,
            selected: None,
            progress: false,
            barren: 0,
            went_back: false,
            is_known: false,
        })
    }

    /// When its turn is: now or later; `None` if nothing is due.
    pub(super) fn turn(&self) -> Option<Instant> {
        self.turn.at(Instant::now()).filter(|_| !self.is_gone)
    }

    /// Whether it can be opened for all we know, and has not to wait.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_gone && self.refusal.is_none() && !self.turn.is_put_off(Instant::now())
    }

    /// How long to pause before the next connection, after one that ended over a message.
    pub(super) fn pause(&self) -> Duration {
        BARREN_WAIT * self.barren
    }

    /// Takes in what the server says of the mailbox while it is not open; `None`: it does not say.
    pub(super) fn notice(&mut self, standing: Option<Standing>) {
        self.turn.claim(match standing {
            Some(standing) if self.is_settled(&standing) => Due::Nothing,
            // It could not be opened, and is still not there.
            None if self.refusal.is_some() => Due::Nothing,
            Some(standing) if self.turn.has_seen(&standing) => Due::All,
            _ => Due::News,
        });
    }

    /// Whether its numbers have to be asked for: without any from before it is opened anyway.
    pub(super) fn is_to_be_asked_about(&self) -> bool {
        !self.is_gone && self.turn.due == Due::Nothing
    }

    /// The mailbox is open: it is looked at anew once that is `period` ago.
    pub(super) fn look_again_after(&mut self, period: Duration) {
        if self.selected.as_ref().is_none_or(|(_, at)| at.elapsed() >= period) {
            self.turn.claim(Due::All);
        }
    }

    // Of a hole the numbers say nothing: whether it is to be had may change without them.
    fn is_settled(&self, standing: &Standing) -> bool {
        let without_holes = self.cursor.as_ref().is_some_and(|cursor| cursor.holes.is_empty());
        without_holes && self.turn.is_settled(standing, Instant::now())
    }

    /// Opens the mailbox. The fault within is this mailbox's alone.
    pub(super) async fn open(&mut self, connection: &mut Connection) -> Result<Result<(), Fault>, Fault> {
        let selected = match connection.select(&self.name, self.after.read_only()).await? {
            Ok(selected) => selected,
            Err(fault) => {
                self.refusal = Some(fault.clone());
                self.turn.due = Due::Nothing;
                return Ok(Err(fault));
            }
        };
        self.find_place(&selected).await?;
        let sentence = format!(
            "reads the mailbox `{}` at {}: {} messages, the next UID is {}; the server offers {}",
            self.name,
            self.around.settings.host,
            selected.exists,
            selected.uid_next,
            connection.capabilities().of_interest()
        );
        if self.refusal.take().is_some() || !std::mem::replace(&mut self.is_known, true) {
            info!("{sentence}");
        } else {
            debug!("{sentence}");
        }
        self.selected = Some((selected, Instant::now()));
        Ok(Ok(()))
    }

    /// Reads what is due in the open mailbox, about `most` messages. `is_fresh`: it was opened for this.
    pub(super) async fn read(
        &mut self,
        connection: &mut Connection,
        is_fresh: bool,
        most: usize,
    ) -> Result<Walk, Fault> {
        let Some((selected, _)) = self.selected.clone() else { return Ok(Walk::Done) };
        let standing = selected.standing();
        if is_fresh && self.is_settled(&standing) {
            self.turn.due = Due::Nothing;
            return Ok(Walk::Done);
        }
        let walk = self.walk(connection, &selected, self.turn.due == Due::All, most).await?;
        match walk {
            Walk::Done => self.turn.done(standing, Instant::now()),
            // What could not be had was tried already.
            Walk::More => self.turn.due = Due::News,
            Walk::TryAgain => self.turn.put_off(Instant::now()),
            Walk::Stopped => {}
        }
        Ok(walk)
    }

    /// Compares the mailbox with where we were. A place that is new is committed before anything is read,
    /// so that what arrives while we are down is not taken for old.
    async fn find_place(&mut self, selected: &Selected) -> Result<(), Fault> {
        self.after.opened(selected);
        let (cursor, origin) = Cursor::place(self.cursor.as_ref(), selected, &self.start, self.around.started);
        let name = &self.name;
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
        self.turn.forget();
        self.commit_alone(cursor).await
    }

    async fn commit_alone(&mut self, cursor: Cursor) -> Result<(), Fault> {
        self.around.inlet.commit_position(self.position(&cursor)).await?;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn position(&self, cursor: &Cursor) -> Position {
        Position { key: self.name.clone(), value: cursor.to_json() }
    }

    /// Reads what is new, a batch in the commit and a batch in the making.
    async fn walk(
        &mut self,
        connection: &mut Connection,
        selected: &Selected,
        holes: bool,
        most: usize,
    ) -> Result<Walk, Fault> {
        let Some(cursor) = self.cursor.clone() else { return Ok(Walk::Done) };
        // What is told from here on may not be in the listing; what was told before is.
        connection.news();
        let stop = self.around.stop.clone();
        let mut plan = Plan::new(cursor, selected.uid_next, holes, self.around.settings.max_bytes);
        let mut in_flight: Option<InFlight> = None;
        let mut taken = 0;
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
            let making = async {
                if taken < most {
                    unless_stopped(&stop, GRACE, self.make(connection, &mut plan)).await
                } else {
                    Some(Ok(Made::Nothing))
                }
            };
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
                Made::Batch { items, mails } => {
                    taken += mails.len();
                    in_flight = Some(self.send_off(items, mails, plan.cursor.clone()));
                }
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
        Ok(if taken < most { Walk::Done } else { Walk::More })
    }

    fn send_off(&self, items: Vec<Received>, mails: Vec<(u32, bool)>, cursor: Cursor) -> InFlight {
        let batch = Batch { items, position: Some(self.position(&cursor)) };
        let inlet = self.around.inlet.clone();
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
            if !self.around.stop.is_cancelled() {
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
            if self.around.stop.is_cancelled() {
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
                    Some(bytes) if bytes.len() as u64 > self.around.settings.max_bytes => {
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
                input: format!("{}/{}/{}", self.name, plan.cursor.uidvalidity, one.uid),
                content,
                envelope: Envelope::default(),
                received_at: one.received_at,
            });
        }
        if plan.cursor.holes.len() > MOST_HOLES {
            let detail = format!("the server does not give {} of the messages that it lists", plan.cursor.holes.len());
            return Err(Fault { reason: Reason::UnexpectedReply, step: "fetch", detail });
        }
        Ok(Made::Batch { items, mails })
    }
}

/// Runs to the end, unless `stop` comes and the time after it is over.
pub(super) async fn unless_stopped<T>(
    stop: &CancellationToken,
    grace: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = async { stop.cancelled().await; sleep(grace).await } => None,
    }
}
