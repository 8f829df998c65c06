//! What one delivery has done in the CRM before its present attempt, and how a run goes on from there.
//!
//! Steps that are done are not sent again, and what they captured is there for the others, as long as their
//! request is still the same and their `lifetime` lasts. Of a step `once` it says whether its request was under
//! way when all knowledge of it ended. Nothing here does I/O; the ledger keeps it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::manifest::Effect;
use super::plan::{Run, State};
use super::step::Step;
use crate::outcome::Reason;

/// What earlier attempts of a delivery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps that are done.
    pub done: Vec<StepDone>,
    /// The step `once` whose request may have reached the CRM without our knowing.
    pub in_flight: Option<String>,
    /// Steps whose last applied request may have been followed by one of another delivery of the session that
    /// nobody knows the end of: what was applied last is no reason to leave out the same.
    pub doubtful: Vec<String>,
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDone {
    /// The step of the manifest.
    pub step: String,
    /// The digest of its request.
    pub digest: String,
    /// When it was answered.
    pub at: Timestamp,
    /// True if it changed the record; false for what only prepares a change (`orphanable`).
    pub applied: bool,
    /// What was captured. `None`: the step was found to be done, and its answer was never seen.
    pub captures: Option<Map<String, Value>>,
    /// Why it was done in part only.
    pub partial: Option<(Reason, String)>,
}

impl Run<'_> {
    /// Goes on from what earlier attempts of the same delivery did. To be called before the first `next`.
    pub fn resume(&mut self, progress: &Progress, now: Timestamp) {
        self.in_flight.clone_from(&progress.in_flight);
        self.doubtful.clone_from(&progress.doubtful);
        for done in &progress.done {
            let steps = &self.destination().connector.steps;
            let Some((index, step)) = steps.iter().enumerate().find(|(_, s)| s.id == done.step) else { continue };
            // A record that is closed again is opened again.
            let again = step.aside && step.effect == Effect::Idempotent;
            // Another template or setting since then, or another record: it has something else to say.
            if again || done.digest.is_empty() || self.digest_of(index) != done.digest {
                continue;
            }
            if let Some((reason, detail)) = &done.partial {
                self.was_partial(index, *reason, detail);
            }
            match &done.captures {
                _ if step.captures.is_empty() => self.resumed(index, done, None),
                Some(captures) if is_fresh(step, done.at, now) => self.resumed(index, done, Some(captures)),
                // What was applied is known as such; it is sent again only if somebody needs what it captures.
                _ => {}
            }
        }
    }

    fn resumed(&mut self, index: usize, done: &StepDone, captures: Option<&Map<String, Value>>) {
        self.set(index, State::Resumed);
        if let Some(captures) = captures {
            self.take_captures(&done.step, captures.clone());
        }
    }

    /// Steps that were done since this was last asked: to be kept until the delivery ends.
    pub fn progress(&mut self) -> Vec<StepDone> {
        let steps = &self.destination().connector.steps;
        let mut news = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let (State::Sent(digest) | State::Found(digest)) = self.state(index) else { continue };
            if step.effect == Effect::Read || !self.is_verified(index) {
                continue;
            }
            let (digest, seen) = (digest.clone(), matches!(self.state(index), State::Sent(_)));
            let Some(at) = self.settled_at.get_mut(index).and_then(Option::take) else { continue };
            let captures = self.captures_of(&step.id).cloned().unwrap_or_default();
            news.push(StepDone {
                step: step.id.clone(),
                digest,
                at,
                applied: step.effect != Effect::Orphanable,
                captures: seen.then_some(captures),
                partial: self.partial_of(index),
            });
        }
        news
    }

    /// The step `once` whose request may have reached the CRM without our knowing.
    pub fn in_flight(&self) -> Option<&str> {
        self.in_flight.as_deref()
    }
}

/// Whether what a step captured still holds. What goes away by itself does not say when, unless the manifest does.
fn is_fresh(step: &Step, at: Timestamp, now: Timestamp) -> bool {
    match step.lifetime {
        Some(seconds) => now.duration_since(at) < SignedDuration::from_secs(i64::from(seconds)),
        None => step.effect != Effect::Orphanable,
    }
}
