//! Where the record is closed, merged or gone: the operator's choice as a detour of the run.
//!
//! Steps of the choice first, then on with the step that was refused, or with another record: then the run
//! ends, and the delivery takes its turn among those of that record, so that two never write to it at once.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::{Flow, Pending, Run, State};
use crate::connector::manifest::Effect;
use crate::connector::policy::Choice;
use crate::connector::reply::{Answer, captures_of_refusal};
use crate::connector::request::template_failed;
use crate::connector::step::Step;
use crate::outcome::{Class, Reason, Verdict};
use crate::record::Inline;

/// What is still to be done of a choice, and which ones were taken.
#[derive(Debug, Default)]
pub(super) struct Detour<'a> {
    first: VecDeque<usize>,
    /// The record to go on with, and why.
    record: Option<(&'a Inline, Reason)>,
    taken: Vec<Reason>,
}

impl Run<'_> {
    /// What a refusal tells beside its reason, such as the record that took this one's place. While a record is
    /// looked for, a "not found" is an answer like others: there is none.
    pub(super) fn of_refusal(&self, step: &Step, verdict: &mut Verdict, answer: &Answer<'_>) -> Map<String, Value> {
        if self.search.is_some() && verdict.reason == Reason::RecordNotFound {
            *verdict = Verdict::ok();
        }
        captures_of_refusal(&step.captures, answer)
    }

    /// Takes the operator's choice for a refusal. False if the run ends with the verdict, as it is then.
    pub(super) fn takes_course(
        &mut self,
        index: usize,
        step: &Step,
        verdict: &mut Verdict,
        captured: &Map<String, Value>,
    ) -> bool {
        let destination = self.destination;
        if self.search.is_some() {
            return false;
        }
        let (name, course) = match destination.choice(verdict.reason) {
            None | Some((_, Choice::Dead)) => return false,
            Some((_, Choice::Park)) => {
                verdict.class = Class::Park;
                return false;
            }
            Some((name, Choice::Course(course))) => (name, course),
        };
        if self.detour.taken.contains(&verdict.reason) {
            verdict.detail = format!("{}; the choice `{name}` did not help", verdict.detail);
            return false;
        }
        self.detour.taken.push(verdict.reason);
        self.take_captures(&step.id, captured.clone());
        for skipped in &course.skip {
            if matches!(self.states.get(*skipped), Some(State::Pending | State::Absent)) {
                self.set(*skipped, State::Skipped);
            }
        }
        // What it says of the record is known; it is asked again only if the record was changed in between.
        if step.effect == Effect::Read && course.first.is_empty() {
            self.set(index, State::Read);
        }
        let said = format!("{}: `{name}`", verdict.reason);
        if course.skip.is_empty() {
            self.warnings.push(said);
        } else {
            self.was_partial(index, verdict.reason, &said);
        }
        self.detour.first = course.first.iter().copied().collect();
        self.detour.record = course.record.as_ref().map(|record| (record, verdict.reason));
        true
    }

    /// The next request of a choice; nothing if the run goes on by itself.
    pub(super) fn detour(&mut self) -> Flow<Option<Pending>> {
        let destination = self.destination;
        while let Some(index) = self.detour.first.front().copied() {
            if let Some(step) = destination.connector.steps.get(index)
                && matches!(self.states.get(index), Some(State::Pending | State::Absent))
                && let Some(pending) = self.turn(index, step)?
            {
                return Ok(Some(pending));
            }
            self.detour.first.pop_front();
        }
        if let Some((record, reason)) = self.detour.record.take() {
            let record = record.text(self.context()).map_err(template_failed)?;
            return Err(self.lead_to(record.trim(), reason, String::new));
        }
        Ok(None)
    }

    /// Ends the run: the delivery goes on with another record. The verdict is for those who do not look at
    /// `led_to`, and for people.
    pub(super) fn lead_to(&mut self, record: &str, reason: Reason, found: impl FnOnce() -> String) -> Verdict {
        let connector = &self.destination.connector;
        let dead = |said: String| Verdict::new(Class::Dead, reason, said);
        if record.is_empty() || record.contains(['«', '»']) {
            return dead("the CRM's answer does not say which record to go on with".to_owned());
        }
        if let Some(said) = connector.refuses_record(record) {
            return dead(format!("the record to go on with: {said}"));
        }
        if self.inputs.record == Some(record) {
            return dead("the CRM leads from this record to itself".to_owned());
        }
        self.led_to = Some(record.to_owned());
        let found = found();
        let said = if found.is_empty() { format!("it goes on with the record `{record}`") } else { found };
        Verdict::new(Class::Retry, reason, said)
    }
}
