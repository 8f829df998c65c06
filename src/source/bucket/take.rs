//! What a look found, taken in: downloaded some at a time, handed over batch by batch, and moved on after the commit. What
//! can't be read is owed, and looked at again by itself.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use jiff::SignedDuration;

use super::memory::Sight;
use super::reader::{Handed, Reader, fault};
use super::{After, Shelf};
use crate::outcome::{Class, Reason, Verdict};
use crate::source::{BATCH_BYTES, BATCH_ITEMS, Batch, Content, Envelope, Fault, Received, Settled, files};
use crate::store::Object;

/// Pauses before a request is made again: from the first, doubled, to the last.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });
const LAST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 8 } else { 2_000 });
/// Downloads under way.
const AT_ONCE: usize = 8;
/// An empty object is reported when it was empty for so long.
pub(super) const EMPTY_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Objects that can't be read; with more of them the place is taken for broken.
const MOST_OWED: usize = 1_000;
/// Objects in a row that can't be read, before the place is taken for broken.
const MOST_BARREN: u32 = 20;

impl<S: Shelf> Reader<S> {
    pub(super) async fn take_recent(&mut self, objects: Vec<Object>, is_sweep: bool) -> Result<Handed, Fault> {
        let (recent, _) = self.sorted(objects, is_sweep);
        let handed = self.take(recent, Sight::Recent, None).await?;
        self.keep_owed().await?;
        Ok(handed)
    }

    /// Downloads versions and hands them over, batch by batch. `next` goes with the sweep's own.
    pub(super) async fn take(
        &mut self,
        objects: Vec<Object>,
        sight: Sight,
        next: Option<Option<&str>>,
    ) -> Result<Handed, Fault> {
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
                    _ => patiently(|| shelf.read(&object))
                        .await
                        .map(|bytes| bytes.map(|bytes| files::whole(&object.name, bytes))),
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

    /// Looks again at what could not be read.
    pub(super) async fn pay(&mut self) -> Result<Handed, Fault> {
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

/// Asks again, after growing pauses, where the fault may be over in a moment: a store that has much to do says no to
/// one request in many.
pub(super) async fn patiently<'a, T>(ask: impl Fn() -> BoxFuture<'a, Result<T, Verdict>>) -> Result<T, Verdict> {
    let mut wait = FIRST_PAUSE;
    loop {
        match ask().await {
            Err(verdict) if verdict.class == Class::Retry && wait <= LAST_PAUSE => {
                tokio::time::sleep(verdict.retry_after.unwrap_or(wait).clamp(wait / 2, LAST_PAUSE)).await;
                wait *= 2;
            }
            told => return told,
        }
    }
}

/// Whether a refusal is about one object, and says nothing of the others.
fn concerns_one(verdict: &Verdict) -> bool {
    matches!(verdict.reason, Reason::NotPermitted | Reason::StorageFailed | Reason::RejectedPayload | Reason::TooLarge)
}
