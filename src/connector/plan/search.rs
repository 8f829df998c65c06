//! A run that looks for the record of a session which names none: the look-ups that the operator turned on, in
//! order, until one finds something.
//!
//! Exactly one candidate is the record. Several end the search: which of them it is, a person says. Nothing is
//! ever written here.

use std::collections::VecDeque;

use super::{Flow, Inputs, Pending, Prelude, Run, State, gather, with_placeholders};
use crate::connector::Destination;
use crate::connector::lookup::{Candidate, Sighted};
use crate::connector::reply::Answer;
use crate::connector::request::template_failed;
use crate::outcome::{Class, Reason, Verdict};

/// What is still to be asked, and what was seen.
#[derive(Debug)]
pub(super) struct Search {
    /// Indexes of look-ups.
    left: VecDeque<usize>,
    asked: Vec<String>,
    sighted: Option<Sighted>,
    pub(super) candidates: Vec<Candidate>,
}

impl<'a> Run<'a> {
    /// Begins a search for the record. With no look-up turned on, it ends at once.
    pub fn search(destination: &'a Destination, inputs: Inputs<'a>) -> Self {
        let mut run = Self::new(destination, inputs);
        match gather(destination, &run.inputs) {
            Ok(Prelude { context, marker, .. }) => {
                (run.shown, run.marker) = (with_placeholders(context, &destination.connector.steps), marker);
                run.end = None;
            }
            Err(verdict) => run.end = Some(verdict),
        }
        run.warnings.clear();
        run.search = Some(Search {
            left: destination.lookups.iter().copied().collect(),
            asked: Vec::new(),
            sighted: None,
            candidates: Vec::new(),
        });
        run
    }

    /// The next request of the search, or the verdict that ends it.
    pub(super) fn look(&mut self) -> Flow<Option<Pending>> {
        let destination = self.destination;
        loop {
            let next = self.search.as_ref().and_then(|s| s.left.front().copied());
            let Some(lookup) = next.and_then(|n| destination.connector.lookups.get(n)) else { break };
            if self.states.get(lookup.step) == Some(&State::Pending)
                && let Some(pending) = self.demand(lookup.step)?
            {
                return Ok(Some(pending));
            }
            let asked = self.states.get(lookup.step) == Some(&State::Read);
            let Some(search) = &mut self.search else { break };
            search.left.pop_front();
            if asked {
                search.asked.push(format!("`{}`", lookup.name));
            }
            if let Some(sighted) = search.sighted.take().filter(|_| asked) {
                self.weigh(&lookup.name, sighted)?;
            }
        }
        let asked = self.search.as_ref().map(|s| s.asked.join(", ")).unwrap_or_default();
        let said = match asked.as_str() {
            "" => "the session names no record yet".to_owned(),
            asked => format!("the session names no record yet, and none was found by {asked}"),
        };
        Err(Verdict::new(Class::Park, Reason::NoRecordId, said))
    }

    /// Keeps what an answer to a look-up shows.
    pub(super) fn sight(&mut self, step: usize, verdict: &mut Verdict, answer: &Answer<'_>) {
        let Some(search) = &self.search else { return };
        let lookups = &self.destination.connector.lookups;
        let lookup = search.left.front().and_then(|n| lookups.get(*n)).filter(|l| l.step == step);
        let (Some(lookup), Class::Ok) = (lookup, verdict.class) else { return };
        let none = Sighted { candidates: Vec::new(), more: false, nameless: false };
        let sighted = match answer.json() {
            // A search that answers "not found".
            _ if answer.response.status >= 300 => none,
            Some(body) => match lookup.read(body, self.context()) {
                Ok(sighted) => sighted,
                Err(fault) => {
                    *verdict = template_failed(fault);
                    return;
                }
            },
            None if answer.response.body.is_empty() => none,
            None => {
                *verdict = crate::connector::assertion::not_the_interface(answer);
                return;
            }
        };
        if let Some(search) = &mut self.search {
            search.sighted = Some(sighted);
        }
    }

    /// The verdict is an end: the record, or several.
    fn weigh(&mut self, name: &str, sighted: Sighted) -> Flow<()> {
        let Sighted { candidates, more, nameless } = sighted;
        let connector = &self.destination.connector;
        if nameless || candidates.iter().any(|c| !connector.accepts_record(&c.record)) {
            let said = format!("the look-up `{name}` gives ids that are not of the form {}", connector.record_form());
            return Err(Verdict::new(Class::Retry, Reason::UnexpectedReply, said));
        }
        match candidates.as_slice() {
            [] if !more => Ok(()),
            [one] if !more => {
                let record = one.record.clone();
                Err(self.lead_to(&record, Reason::NoRecordId, || format!("found by the look-up `{name}`")))
            }
            _ => {
                if let Some(search) = &mut self.search {
                    search.candidates = candidates;
                }
                let said = format!(
                    "more than one record fits by the look-up `{name}`: choose one with `deliveries release --record`"
                );
                Err(Verdict::new(Class::Park, Reason::RecordAmbiguous, said))
            }
        }
    }
}
