//! One look after another at a store: lists, downloads what is to be read, hands it over, and only then moves it on. What
//! a look costs is bounded here; what is to be read, [`Memory`] and [`Looks`] decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::looks::{Look, Looks};
use super::memory::{Memory, Resting, Sight};
use super::{After, Settings, Shelf};
use crate::outcome::{Class, Reason, Verdict};
use crate::source::{
    BATCH_BYTES, BATCH_ITEMS, Batch, Content, Envelope, Fault, Inlet, Position, Received, Settled, Start, files, pause,
    poll,
};
use crate::store::{Depth, Object, Page};

/// Pages of the sweep in one look, beside those with something to read. An object store is paid by the request; a
/// page of an SFTP server is one folder, and free.
pub(super) const PAGES_DATED: usize = 4;
pub(super) const PAGES_FREE: usize = 64;
/// Pages with something to read, until a look is taken at what is new.
pub(super) const PAGES_BUSY: usize = 16;
/// Requests of one look for what is new.
pub(super) const MOST_LOOKS: usize = 24;
/// Looks in a row that may fail, with growing pauses between them, before the source says so and stops.
const MOST_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Downloads under way.
const AT_ONCE: usize = 8;
/// An empty object is reported when it was empty for so long.
const EMPTY_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Objects that can't be read; with more of them the place is taken for broken.
const MOST_OWED: usize = 1_000;
/// Objects in a row that can't be read, before the place is taken for broken.
const MOST_BARREN: u32 = 20;

pub(super) fn fault(step: &'static str, verdict: Verdict) -> Fault {
    Fault { reason: verdict.reason, step, detail: verdict.detail }
}

/// What is told after a hand-over.
pub(super) enum Handed {
    Taken,
    /// Not committed: the rest of this look is left out.
    TryAgain,
}

pub(super) struct Reader<S> {
    shelf: Arc<S>,
    pub(super) settings: Settings,
    moved_below: Option<String>,
    pub(super) memory: Memory,
    looks: Looks,
    resting: Resting,
    /// The time at the store, as its last listing told.
    now: Timestamp,
    barren: u32,
    /// Whether the last sweep took so few pages that it needs no help.
    is_small: bool,
    /// Pages of the sweep that is under way.
    swept: usize,
    /// Whether the next look need not wait, since there is more to read.
    is_busy: bool,
    inlet: Inlet,
    stop: CancellationToken,
}

impl<S: Shelf> Reader<S> {
    pub(super) fn new(
        shelf: S,
        settings: Settings,
        started: Timestamp,
        inlet: Inlet,
        positions: &BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            memory: Memory::from_positions(positions, shelf.dates_by_itself()),
            shelf: Arc::new(shelf),
            moved_below: settings.moved_below(),
            settings,
            looks: Looks::default(),
            resting: Resting::default(),
            now: started,
            barren: 0,
            is_small: true,
            swept: 0,
            is_busy: false,
            inlet,
            stop,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Fault> {
        let every = poll(self.settings.poll_seconds);
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            match self.tick().await {
                Ok(handed) => {
                    if let Handed::Taken = handed {
                        self.inlet.looked();
                    }
                    failures = 0;
                    if !std::mem::take(&mut self.is_busy) {
                        pause(every, &self.stop).await;
                    }
                }
                // What is read stays read: a request that failed costs no more than itself.
                Err(fault) if passes(&fault) && failures < MOST_FAILURES => {
                    tracing::debug!(place = self.shelf.shown(), step = fault.step, reason = %fault.reason, "a request failed: the look is taken up again");
                    pause(FIRST_PAUSE * (1 << failures), &self.stop).await;
                    failures += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// One look.
    pub(super) async fn tick(&mut self) -> Result<Handed, Fault> {
        if self.memory.is_new() {
            self.first_contact().await?;
        }
        if let Handed::TryAgain = self.pay().await? {
            return Ok(Handed::TryAgain);
        }
        if !self.is_small
            && let Handed::TryAgain = self.look_for_news().await?
        {
            return Ok(Handed::TryAgain);
        }
        self.sweep().await
    }

    async fn first_contact(&mut self) -> Result<(), Fault> {
        self.list("", Depth::One, None).await?;
        let start = self.settings.start;
        if start == Start::Now && !self.shelf.dates_by_itself() {
            // Times say nothing here: what is there by now is remembered.
            let mut from = None;
            loop {
                let page = self.list("", Depth::All, from.as_deref()).await?;
                for objects in page.objects.chunks(BATCH_ITEMS) {
                    self.commit(self.memory.position_recent(objects)).await?;
                    self.memory.settle_recent(objects);
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        let position = self.memory.position_begin(start, self.now);
        self.commit(position.clone()).await?;
        self.memory.begin(&position);
        Ok(())
    }

    async fn commit(&self, position: Position) -> Result<(), Fault> {
        self.inlet.commit_position(position).await
    }

    /// One page; tells the time.
    async fn list(&mut self, prefix: &str, depth: Depth, from: Option<&str>) -> Result<Page, Fault> {
        let page = self.shelf.list(prefix, depth, from).await.map_err(|verdict| fault("list", verdict))?;
        self.now = page.now.unwrap_or_else(Timestamp::now);
        Ok(page)
    }

    /// Whether an object is one to read, by its name.
    fn is_wanted(&self, name: &str) -> bool {
        let own = name.rsplit('/').next().unwrap_or_default();
        self.settings.pattern.fit(name)
            && !own.starts_with('.')
            && self.moved_below.as_ref().is_none_or(|moved| !name.starts_with(moved))
    }

    /// Looks where new objects are likely.
    async fn look_for_news(&mut self) -> Result<Handed, Fault> {
        let mut asked = 0;
        let mut plan = self.looks.plan();
        plan.reverse();
        while let Some(look) = plan.pop() {
            asked += 1;
            if asked > MOST_LOOKS || self.stop.is_cancelled() {
                break;
            }
            let (objects, folders) = match look {
                Look::Objects(prefix) => {
                    let page = self.list(&prefix, Depth::One, None).await?;
                    if page.next.is_some() && prefix.ends_with('/') | prefix.is_empty() {
                        self.looks.is_big(&prefix);
                    }
                    (page.objects, Vec::new())
                }
                Look::Folders(above) => {
                    let page = self.list(&above, Depth::One, None).await?;
                    (page.objects, self.looks.folders(&above, &page.folders, page.next.is_none()))
                }
            };
            if let Handed::TryAgain = self.take_recent(objects, false).await? {
                return Ok(Handed::TryAgain);
            }
            for folder in folders {
                asked += 1;
                let page = self.list(&folder, Depth::All, None).await?;
                if let Handed::TryAgain = self.take_recent(page.objects, false).await? {
                    return Ok(Handed::TryAgain);
                }
            }
        }
        Ok(Handed::Taken)
    }

    /// Some pages of the sweep.
    async fn sweep(&mut self) -> Result<Handed, Fault> {
        let budget = if self.shelf.dates_by_itself() { PAGES_DATED } else { PAGES_FREE };
        let (mut spent, mut busy) = (0, 0);
        while spent < budget && !self.stop.is_cancelled() {
            if busy >= PAGES_BUSY {
                self.is_busy = true;
                break;
            }
            let cursor = self.memory.cursor().map(|cursor| cursor.map(str::to_owned));
            let from = cursor.clone().flatten();
            let page = match self.shelf.list("", Depth::All, from.as_deref()).await {
                // A place in the listing that the store does not know any more.
                Err(verdict) if from.is_some() && verdict.class == Class::Dead => {
                    self.memory.drop_sweep();
                    self.swept = 0;
                    spent += 1;
                    continue;
                }
                page => page.map_err(|verdict| fault("list", verdict))?,
            };
            self.now = page.now.unwrap_or_else(Timestamp::now);
            if cursor.is_none() {
                self.memory.begin_sweep(self.now);
                self.swept = 0;
            }
            self.swept += 1;
            self.memory.page(&page.objects);
            let next = page.next;
            let (recent, old) = self.sorted(page.objects, true);
            let is_idle = recent.is_empty() && old.is_empty();
            if let Handed::TryAgain = self.take(recent, Sight::Recent, None).await? {
                return Ok(Handed::TryAgain);
            }
            if let Handed::TryAgain = self.take(old, Sight::Old, Some(next.as_deref())).await? {
                return Ok(Handed::TryAgain);
            }
            self.keep_owed().await?;
            if let Some(position) = self.memory.page_done(next.as_deref()) {
                self.commit(position).await?;
            }
            if next.is_none() {
                if let Some(position) = self.memory.position_end() {
                    self.commit(position).await?;
                }
                self.memory.end_sweep();
                self.is_small = self.swept <= budget;
                return Ok(Handed::Taken);
            }
            *if is_idle { &mut spent } else { &mut busy } += 1;
        }
        self.is_small &= self.swept <= budget;
        Ok(Handed::Taken)
    }

    /// The versions to read: recent ones and old ones, each with the oldest first.
    fn sorted(&mut self, objects: Vec<Object>, is_sweep: bool) -> (Vec<Object>, Vec<Object>) {
        let (mut recent, mut old) = (Vec::new(), Vec::new());
        for object in objects {
            if !self.is_wanted(&object.name) {
                continue;
            }
            self.looks.learn(&object);
            match self.memory.sight(&object, is_sweep) {
                Sight::Settled => {}
                _ if !self.is_ready(&object) => {}
                _ if object.size == 0 => self.memory.owe(&object.name, self.now),
                Sight::Recent => recent.push(object),
                Sight::Old => old.push(object),
            }
        }
        for list in [&mut recent, &mut old] {
            list.sort_by_key(|object| object.modified);
        }
        (recent, old)
    }

    /// Whether its writer is done with it. Object stores show no half objects.
    fn is_ready(&mut self, object: &Object) -> bool {
        let rest = SignedDuration::try_from(poll(self.settings.poll_seconds)).unwrap_or(EMPTY_FOR);
        // Looks are not as punctual as that.
        self.shelf.dates_by_itself() || self.resting.rests(object, self.now, rest / 2)
    }

    async fn take_recent(&mut self, objects: Vec<Object>, is_sweep: bool) -> Result<Handed, Fault> {
        let (recent, _) = self.sorted(objects, is_sweep);
        let handed = self.take(recent, Sight::Recent, None).await?;
        self.keep_owed().await?;
        Ok(handed)
    }

    /// Downloads versions and hands them over, batch by batch. `next` goes with the sweep's own.
    async fn take(&mut self, objects: Vec<Object>, sight: Sight, next: Option<Option<&str>>) -> Result<Handed, Fault> {
        let mut rest = objects.into_iter().peekable();
        while rest.peek().is_some() && !self.stop.is_cancelled() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
                let Some(object) = rest.next() else { break };
                if object.size <= self.settings.max_bytes as u64 {
                    bytes += object.size as usize;
                }
                batch.push(object);
            }
            let (done, items, broken) = self.download(batch).await?;
            let next = next.filter(|_| rest.peek().is_none() && broken.is_none());
            let handed = self.hand_over(done, items, sight, next).await?;
            if let Some(fault) = broken {
                return Err(fault);
            }
            if let Handed::TryAgain = handed {
                return Ok(handed);
            }
        }
        Ok(Handed::Taken)
    }

    /// The contents of some versions, and what broke it off. What is gone or replaced is left out: a listing shows what
    /// took its place.
    async fn download(&mut self, objects: Vec<Object>) -> Result<(Vec<Object>, Vec<Received>, Option<Fault>), Fault> {
        let (shelf, max_bytes) = (self.shelf.clone(), self.settings.max_bytes as u64);
        let read = |object: Object| {
            let shelf = shelf.clone();
            async move {
                let content = match object.size {
                    size if size > max_bytes => Ok(Some(Content::TooLarge(size))),
                    0 => Ok(Some(Content::Document(Bytes::new()))),
                    _ => shelf.read(&object).await.map(|bytes| bytes.map(|bytes| files::whole(&object.name, bytes))),
                };
                (object, content)
            }
        };
        let mut reads = stream::iter(objects).map(read).buffered(AT_ONCE);
        let (mut done, mut items) = (Vec::new(), Vec::new());
        while let Some((object, content)) = reads.next().await {
            match content {
                Ok(Some(content)) => {
                    self.barren = 0;
                    items.push(Received {
                        input: object.name.clone(),
                        content,
                        envelope: Envelope::default(),
                        received_at: object.modified,
                    });
                    done.push(object);
                }
                Ok(None) => {}
                Err(verdict) if concerns_one(&verdict) && self.barren < MOST_BARREN => {
                    self.barren += 1;
                    if !self.memory.owed.contains_key(&object.name) {
                        tracing::warn!(place = self.shelf.shown(), object = %object.name, reason = %verdict.reason, "an object could not be read: it is tried again");
                    }
                    self.memory.owe(&object.name, self.now);
                }
                Err(verdict) => return Ok((done, items, Some(fault("read", verdict)))),
            }
        }
        Ok((done, items, None))
    }

    async fn hand_over(
        &mut self,
        done: Vec<Object>,
        items: Vec<Received>,
        sight: Sight,
        next: Option<Option<&str>>,
    ) -> Result<Handed, Fault> {
        if done.is_empty() {
            return Ok(Handed::Taken);
        }
        if self.memory.owed.len() > MOST_OWED {
            let detail = format!("more than {MOST_OWED} objects in `{}` can't be read", self.shelf.shown());
            return Err(Fault { reason: Reason::NotPermitted, step: "read", detail });
        }
        // Before the place in the sweep passes what is owed.
        self.keep_owed().await?;
        let position = match sight {
            Sight::Old => self.memory.position_old(&done, next),
            _ => Some(self.memory.position_recent(&done)),
        };
        let settled = self.inlet.hand_over(Batch { items, position }).await;
        if settled.iter().any(|answer| matches!(answer, Settled::TryAgain(_))) {
            return Ok(Handed::TryAgain);
        }
        match sight {
            Sight::Old => self.memory.settle_old(&done),
            _ => self.memory.settle_recent(&done),
        }
        for object in &done {
            if let Err(verdict) = self.move_on(object).await {
                tracing::warn!(place = self.shelf.shown(), object = %object.name, reason = %verdict.reason, "an object could not be moved on after it was taken");
            }
        }
        Ok(Handed::Taken)
    }

    async fn move_on(&self, object: &Object) -> Result<(), Verdict> {
        match (&self.settings.after, &self.moved_below) {
            (After::Delete, _) => self.shelf.remove(object).await,
            (After::MoveTo(_), Some(below)) => self.shelf.rename(object, &format!("{below}{}", object.name)).await,
            _ => Ok(()),
        }
    }

    /// Commits what is owed, if it changed.
    async fn keep_owed(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.memory.is_owed_dirty) {
            let kept = self.commit(self.memory.position_owed()).await;
            self.memory.is_owed_dirty |= kept.is_err();
            kept?;
        }
        Ok(())
    }

    /// Looks again at what could not be read.
    async fn pay(&mut self) -> Result<Handed, Fault> {
        // A store's time is told by its listings alone, and this is none: a look's length does not matter here.
        let mut ready = Vec::new();
        for (name, since) in self.memory.due(self.now) {
            match self.shelf.look(&name).await {
                Ok(None) => self.memory.paid(&name),
                Ok(Some(object)) => {
                    let waited = self.now.as_microsecond().saturating_sub(since);
                    if object.size > 0 || i128::from(waited) >= EMPTY_FOR.as_micros() {
                        ready.push(object);
                    } else {
                        self.memory.owe(&name, self.now);
                    }
                }
                Err(verdict) if concerns_one(&verdict) => self.memory.owe(&name, self.now),
                Err(verdict) => return Err(fault("look", verdict)),
            }
        }
        for object in ready {
            let name = object.name.clone();
            // It was read, and what should have removed the debt was not committed.
            if self.memory.is_recent(&object) {
                self.memory.paid(&name);
                continue;
            }
            let (done, items, broken) = self.download(vec![object]).await?;
            let was_read = !done.is_empty();
            let handed = self.hand_over(done, items, Sight::Recent, None).await?;
            if let Some(fault) = broken {
                return Err(fault);
            }
            if let Handed::TryAgain = handed {
                return Ok(handed);
            }
            if was_read {
                self.memory.paid(&name);
            }
        }
        self.keep_owed().await?;
        Ok(Handed::Taken)
    }
}

/// Whether it may be over in a moment.
fn passes(fault: &Fault) -> bool {
    use Reason::{ConnectionLost, RateLimited, Timeout, Unavailable, Unreachable};
    matches!(fault.reason, ConnectionLost | RateLimited | Timeout | Unavailable | Unreachable)
}

/// Whether a refusal is about one object, and says nothing of the others.
fn concerns_one(verdict: &Verdict) -> bool {
    matches!(verdict.reason, Reason::NotPermitted | Reason::StorageFailed | Reason::RejectedPayload | Reason::TooLarge)
}
