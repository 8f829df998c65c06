//! One delivery on its way to one destination, as a state machine without I/O: what to send next, and what
//! its answer means for the rest.
//!
//! As few requests as possible: a step whose request is the one that was applied last is not sent; a read step
//! is sent only when a request that is sent needs it. After an uncertain result the marker is looked for first.
//! The digest of a request is taken with captured values as `«steps.ticket.etag»`, so that it tells what we
//! have to say and not what the CRM answered; so it is known before anything is sent, and `render` shows it.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::destination::{Destination, settings_only};
use super::exchange;
use super::http::{Exchange, Request, Response};
use super::lookup::Candidate;
use super::manifest::{Above, Effect};
use super::reply::{self, Answer};
use super::request::{self, template_failed};
use super::step::{self, Step};
use super::{assertion, marker};
use crate::outcome::{Class, Reason, Verdict};
use crate::record::Context;
use crate::session::Session;

/// What a run is about.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The session.
    pub session: &'a Session,
    /// Its document, as JSON text.
    pub document: &'a str,
    /// Which version of the session it is, from 1.
    pub version: u32,
    /// The version's digest (`session::version::digest`).
    pub digest: &'a str,
    /// The record, as the route or a look-up found it.
    pub record: Option<&'a str>,
    /// True if an earlier attempt may have taken effect without our knowing.
    pub uncertain: bool,
    /// Steps whose last applied request is known for this session and destination: name → digest.
    pub applied: &'a [(String, String)],
    /// Those of them that left the marker of this very delivery: what they wrote stays as it is, also if it would
    /// be said in other words today.
    pub marked: &'a [String],
}

/// A request to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The step of the manifest.
    pub step: String,
    /// What it does to the record.
    pub effect: Effect,
    /// The request, without credentials.
    pub request: Request,
    /// What is recorded when it is applied.
    pub request_digest: String,
}

/// How a run goes on.
#[derive(Debug, Clone)]
pub enum Next {
    /// Send this, then call `answer` or `failed`.
    Send(Prepared),
    /// It is over.
    Finished(Report),
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What to do next with the delivery.
    pub class: Class,
    /// Why.
    pub reason: Reason,
    /// A sentence for people; may be empty.
    pub detail: String,
    /// True if something may have taken effect without our knowing: look before repeating.
    pub uncertain: bool,
    /// The CRM's wish when to come back.
    pub retry_after: Option<std::time::Duration>,
    /// Steps that are applied now: name → digest of the request.
    pub applied: Vec<(String, String)>,
    /// Requests and answers, for `show`.
    pub exchanges: Vec<Exchange>,
    /// What was captured: step → name → value.
    pub captures: Map<String, Value>,
    /// The record that the delivery goes on with, in its turn among the deliveries of that one.
    pub led_to: Option<String>,
    /// Where more than one record fits: those that were seen.
    pub candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Pending,
    /// Not to be sent: its `when` does not hold, it has nothing to say, or nothing needs it.
    Skipped,
    /// The same request was applied before.
    Unchanged,
    /// Done by an earlier attempt of this delivery; what it captured is known.
    Resumed,
    /// Its marker was found in the CRM.
    Found(String),
    /// Its marker was looked for and is not there.
    Absent,
    /// Sent and answered well.
    Sent(String),
    /// A read step whose captures are known.
    Read,
    /// Failed, but the manifest says that this is no matter.
    Failed,
}

/// Why a request is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It is this step's turn, or another one needs its captures.
    Step,
    /// It looks for the marker of that step.
    Lookup(usize),
}

#[derive(Debug, Clone)]
struct Pending {
    step: usize,
    purpose: Purpose,
    prepared: Prepared,
    /// Which page of the answer it asks for, from 1.
    page: u32,
}

/// One delivery on its way.
#[derive(Debug)]
pub struct Run<'a> {
    destination: &'a Destination,
    inputs: Inputs<'a>,
    marker: String,
    /// With captured values as placeholders.
    shown: Context,
    /// With captured values, once there are some.
    real: Option<Context>,
    states: Vec<State>,
    conflicts: Vec<u32>,
    position: usize,
    pending: Option<Pending>,
    /// Set when the run is over before its last step.
    end: Option<Verdict>,
    /// The first step that was done in part only.
    partial: Option<(usize, Verdict)>,
    /// When each step was settled, until `progress` has told of it.
    pub(super) settled_at: Vec<Option<Timestamp>>,
    /// See `Progress`.
    pub(super) in_flight: Option<String>,
    /// See `Progress`.
    pub(super) doubtful: Vec<String>,
    /// A required step whose marker is not in the CRM: no step after it can have been tried before.
    not_reached: Option<usize>,
    /// What a record policy makes of the run.
    detour: policy::Detour<'a>,
    /// Set if the run looks for the record instead.
    search: Option<search::Search>,
    led_to: Option<String>,
    warnings: Vec<String>,
    exchanges: Vec<Exchange>,
    captures: Map<String, Value>,
    last: Verdict,
    uncertain: bool,
    /// Nothing is sent: every answer is assumed to be good.
    pretend: bool,
}

type Flow<T> = Result<T, Verdict>;

impl<'a> Run<'a> {
    /// Begins a delivery. A record id that the CRM can't have given is refused before any URL is built.
    pub fn new(destination: &'a Destination, inputs: Inputs<'a>) -> Self {
        let count = destination.connector.steps.len();
        let (shown, marker, warning, end) = match prepare(destination, &inputs) {
            Ok(Prelude { context, marker, warning }) => {
                (with_placeholders(context, &destination.connector.steps), marker, warning, None)
            }
            Err(verdict) => (settings_only(&destination.settings), String::new(), None, Some(verdict)),
        };
        Self {
            destination,
            marker,
            shown,
            real: None,
            states: vec![State::Pending; count],
            conflicts: vec![0; count],
            position: 0,
            pending: None,
            end,
            partial: None,
            settled_at: vec![None; count],
            in_flight: None,
            doubtful: Vec::new(),
            not_reached: None,
            detour: policy::Detour::default(),
            search: None,
            led_to: None,
            warnings: warning.into_iter().collect(),
            exchanges: Vec::new(),
            captures: Map::new(),
            last: Verdict::ok(),
            uncertain: inputs.uncertain,
            pretend: false,
            inputs,
        }
    }

    /// The marker of this delivery.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The next request, or the end. Asked again without an answer, it says the same.
    #[expect(clippy::should_implement_trait, reason = "an answer has to come in between: this is no iterator")]
    pub fn next(&mut self) -> Next {
        if let Some(pending) = &self.pending {
            return Next::Send(pending.prepared.clone());
        }
        match self.advance() {
            Ok(Some(pending)) => {
                let prepared = pending.prepared.clone();
                self.pending = Some(pending);
                Next::Send(prepared)
            }
            Ok(None) => Next::Finished(self.report()),
            Err(verdict) => {
                self.end = Some(verdict);
                Next::Finished(self.report())
            }
        }
    }

    fn advance(&mut self) -> Flow<Option<Pending>> {
        if self.search.is_some() && self.end.is_none() {
            return self.look();
        }
        while self.end.is_none() {
            if let Some(pending) = self.detour()? {
                return Ok(Some(pending));
            }
            let index = self.position;
            let Some(step) = self.destination.connector.steps.get(index) else { return Ok(None) };
            if self.states.get(index).is_some_and(|s| matches!(s, State::Pending | State::Absent))
                && !step.on_demand()
                && !step.aside
                && let Some(pending) = self.turn(index, step)?
            {
                return Ok(Some(pending));
            }
            self.position += 1;
        }
        Ok(None)
    }

    /// What is to be sent when it is this step's turn; nothing if the step is settled.
    fn turn(&mut self, index: usize, step: &'a Step) -> Flow<Option<Pending>> {
        if let Some(verified) = step.verifies
            && !matches!(self.states.get(verified), Some(State::Sent(_)))
        {
            self.set(index, State::Skipped);
            return Ok(None);
        }
        if step.when_needs.is_empty() && !self.wanted(step)? {
            self.set(index, State::Skipped);
            return Ok(None);
        }
        let Some((digest, shown)) = self.digest(index, step, 0)? else {
            self.set(index, State::Skipped);
            return Ok(None);
        };
        // A record that is closed again is opened again.
        let again = step.verifies.is_some() || (step.aside && step.effect == Effect::Idempotent);
        if !again && self.is_applied(step, &digest)? {
            self.set(index, State::Unchanged);
            return Ok(None);
        }
        let effect = self.effect(step)?;
        if self.inputs.marked.contains(&step.id)
            && (effect == Effect::Once || effect == Effect::Marked && !self.doubtful.contains(&step.id))
        {
            self.set(index, State::Unchanged);
            return Ok(None);
        }
        for need in &step.when_needs {
            // A question is no reason for an upload: where nothing was uploaded, nothing follows from one.
            let uploads = self.destination.connector.steps.get(*need).is_some_and(|s| s.effect == Effect::Orphanable);
            if uploads && self.states.get(*need) == Some(&State::Pending) {
                self.set(index, State::Skipped);
                return Ok(None);
            }
            if let Some(pending) = self.demand(*need)? {
                return Ok(Some(pending));
            }
        }
        if !step.when_needs.is_empty() && !self.wanted(step)? {
            self.set(index, State::Skipped);
            return Ok(None);
        }
        self.prepare(index, step, digest, shown)
    }

    /// Looks for the marker if that is called for, gets what the request needs, then gives the request.
    fn prepare(&mut self, index: usize, step: &'a Step, digest: String, shown: Request) -> Flow<Option<Pending>> {
        let effect = self.effect(step)?;
        // Where in the order a step aside was tried is not known.
        let reached = step.aside || self.not_reached.is_none_or(|after| index <= after);
        let uncertain = self.inputs.uncertain && reached;
        if effect == Effect::Once && self.in_flight.as_ref() == Some(&step.id) {
            let said = format!("whether the step `{}` took effect is not known, and it must not be repeated", step.id);
            return Err(Verdict::new(Class::Dead, Reason::Uncertain, said).uncertain());
        }
        if uncertain
            && effect == Effect::Marked
            && self.states.get(index) != Some(&State::Absent)
            && let Some(lookup) = step.marker_step
        {
            return self.look_up(index, lookup).map(Some);
        }
        for need in &step.needs {
            if let Some(pending) = self.demand(*need)? {
                return Ok(Some(pending));
            }
        }
        self.send(index, Purpose::Step, digest, Some(shown))
    }

    fn look_up(&mut self, index: usize, lookup: usize) -> Flow<Pending> {
        for need in self.destination.connector.steps.get(lookup).map_or(&[][..], |s| &s.needs) {
            if let Some(pending) = self.demand(*need)? {
                return Ok(pending);
            }
        }
        self.send(lookup, Purpose::Lookup(index), String::new(), None)?.ok_or_else(|| {
            Verdict::new(Class::Dead, Reason::TemplateFailed, "the look-up of the marker comes out empty").uncertain()
        })
    }

    /// What must be sent so that the captures of a step are known; nothing if they are.
    fn demand(&mut self, index: usize) -> Flow<Option<Pending>> {
        let Some(step) = self.destination.connector.steps.get(index) else { return Ok(None) };
        match self.states.get(index) {
            Some(State::Read | State::Sent(_) | State::Resumed) | None => return Ok(None),
            Some(State::Skipped | State::Failed) => {
                self.no_captures(step);
                return Ok(None);
            }
            Some(State::Unchanged | State::Found(_)) if self.effect(step)? != Effect::Idempotent => {
                let said = format!("what the step `{}` captured is needed again, and it must not be repeated", step.id);
                return Err(Verdict::new(Class::Dead, Reason::Uncertain, said));
            }
            Some(_) => {}
        }
        for need in step.when_needs.iter().chain(&step.needs) {
            if let Some(pending) = self.demand(*need)? {
                return Ok(Some(pending));
            }
        }
        let digest = if self.wanted(step)? { self.digest(index, step, 0)? } else { None };
        match digest {
            Some((digest, shown)) => self.send(index, Purpose::Step, digest, Some(shown)),
            None => {
                self.set(index, State::Skipped);
                self.no_captures(step);
                Ok(None)
            }
        }
    }

    fn no_captures(&mut self, step: &Step) {
        if !self.pretend {
            let nulls = step.captures.iter().map(|c| (c.name.clone(), Value::Null)).collect();
            self.real_mut().with_step(&step.id, nulls);
        }
    }

    /// `shown` is the request as its digest was taken, if it was.
    fn send(
        &mut self,
        index: usize,
        purpose: Purpose,
        request_digest: String,
        shown: Option<Request>,
    ) -> Flow<Option<Pending>> {
        let Some(step) = self.destination.connector.steps.get(index) else { return Ok(None) };
        let request = match shown.filter(|shown| self.is_final(step, shown)) {
            Some(shown) => Some(shown),
            None => request::render(self.destination, step, self.context(), &self.marker, self.pretend)?,
        };
        let Some(request) = request else {
            self.set(index, State::Skipped);
            return Ok(None);
        };
        let effect = step.effect(&request.method, self.context()).map_err(template_failed)?;
        let prepared = Prepared { step: step.id.clone(), effect, request, request_digest };
        Ok(Some(Pending { step: index, purpose, prepared, page: 1 }))
    }

    /// True if a request with placeholders is the very one to be sent: nothing was captured yet, and nothing
    /// in it stands for what will be. So most requests are rendered once.
    fn is_final(&self, step: &Step, shown: &Request) -> bool {
        let is_open = step.origin.is_some() || !step.needs.is_empty() || shown.url.contains(['«', '»']);
        self.real.is_none() && (self.pretend || !is_open)
    }

    /// The digest of a step's request and of the uploads that it uses, with the request; `None` if there is
    /// nothing to say.
    fn digest(&self, index: usize, step: &Step, depth: usize) -> Flow<Option<(String, Request)>> {
        let Some(request) = request::render(self.destination, step, &self.shown, &self.marker, true)? else {
            return Ok(None);
        };
        let mut depends = Vec::new();
        for need in step.needs.iter().filter(|n| **n < index && depth < 8) {
            if let Some(needed) = self.destination.connector.steps.get(*need).filter(|s| s.effect != Effect::Read) {
                depends.extend(self.digest(*need, needed, depth + 1)?.map(|(digest, _)| digest));
            }
        }
        Ok(Some((request::digest(&request, &depends), request)))
    }

    fn wanted(&self, step: &Step) -> Flow<bool> {
        step.when.as_ref().map_or(Ok(true), |w| step::holds(w, self.context()).map_err(template_failed))
    }

    fn effect(&self, step: &Step) -> Flow<Effect> {
        let method = step.method.text(self.context()).map_err(template_failed)?;
        step.effect(method.trim(), self.context()).map_err(template_failed)
    }

    fn context(&self) -> &Context {
        self.real.as_ref().unwrap_or(&self.shown)
    }

    fn real_mut(&mut self) -> &mut Context {
        self.real.get_or_insert_with(|| self.shown.clone())
    }

    /// Whether this very request is the last that was applied. Of a step `once` all is known, because it is written
    /// down before it goes out.
    fn is_applied(&self, step: &Step, digest: &str) -> Flow<bool> {
        let is_last = self.inputs.applied.iter().any(|(id, applied)| *id == step.id && applied == digest);
        Ok(is_last && (!self.doubtful.contains(&step.id) || self.effect(step)? == Effect::Once))
    }

    pub(super) fn destination(&self) -> &'a Destination {
        self.destination
    }

    pub(super) fn state(&self, index: usize) -> &State {
        self.states.get(index).unwrap_or(&State::Pending)
    }

    pub(super) fn captures_of(&self, step: &str) -> Option<&Map<String, Value>> {
        self.captures.get(step).and_then(Value::as_object)
    }

    pub(super) fn partial_of(&self, index: usize) -> Option<(Reason, String)> {
        self.partial.as_ref().filter(|(of, _)| *of == index).map(|(_, said)| (said.reason, said.detail.clone()))
    }

    pub(super) fn was_partial(&mut self, index: usize, reason: Reason, detail: &str) {
        self.partial.get_or_insert_with(|| (index, Verdict::new(Class::Partial, reason, detail)));
    }

    /// False for a step that is still to be verified: else a retry would not look again.
    pub(super) fn is_verified(&self, index: usize) -> bool {
        let verifier = self.destination.connector.steps.iter().position(|s| s.verifies == Some(index));
        verifier.is_none_or(|v| matches!(self.state(v), State::Read | State::Skipped | State::Failed))
    }

    pub(super) fn set(&mut self, index: usize, state: State) {
        if let Some(place) = self.states.get_mut(index) {
            *place = state;
        }
    }

    /// Judges the answer to the request that `next` gave.
    pub fn answer(&mut self, response: &Response, now: Timestamp) -> &Verdict {
        let Some(pending) = self.pending.take() else { return &self.last };
        let destination = self.destination;
        let Some(step) = destination.connector.steps.get(pending.step) else { return &self.last };
        let answer = Answer::new(response);
        let statuses = match &step.expect.status_setting {
            Some(name) => destination.statuses.get(name).unwrap_or(&step.expect.status),
            None => &step.expect.status,
        };
        let rows = &destination.connector.replies;
        let mut verdict = reply::judge(rows, pending.step, step, statuses, &answer, self.context(), now)
            .unwrap_or_else(template_failed);
        if verdict.class == Class::Ok
            && let Some(page) = step.page.as_ref().filter(|_| !self.has_what_it_looks_for(step, &answer))
        {
            match page.next(&pending.prepared.request, pending.page, &answer) {
                Ok(None) => {}
                Ok(Some(request)) => {
                    self.exchanges.push(exchange::exchange(&pending.prepared, Some(response), &verdict));
                    let prepared = Prepared { request, ..pending.prepared };
                    self.pending = Some(Pending { prepared, page: pending.page + 1, ..pending });
                    self.last = verdict;
                    return &self.last;
                }
                Err(elsewhere) => verdict = elsewhere,
            }
        }
        let mut captured = Map::new();
        if matches!(verdict.class, Class::Ok | Class::Partial) {
            match reply::captures(&step.captures, &answer) {
                Ok(found) => captured = found,
                // What was written is written, whatever else is missing.
                Err(_) if matches!(pending.prepared.effect, Effect::Marked | Effect::Once) => {
                    verdict =
                        Verdict::new(Class::Partial, Reason::UnexpectedReply, "the answer lacks what later steps need");
                }
                Err(lacking) => verdict = lacking,
            }
        } else if verdict.class == Class::Dead {
            captured = self.of_refusal(step, &mut verdict, &answer);
        }
        self.sight(pending.step, &mut verdict, &answer);
        let found = (verdict.class == Class::Ok)
            .then(|| self.find_marker(step, &answer))
            .transpose()
            .unwrap_or_else(|fault| {
                verdict = template_failed(fault);
                None
            })
            .unwrap_or(false);
        // A failing server may have done its work before it failed; one that says 501 or 503 has not begun.
        if verdict.class == Class::Retry && response.status >= 500 && !matches!(response.status, 501 | 503) {
            verdict.uncertain = true;
        }
        self.exchanges.push(exchange::exchange(&pending.prepared, Some(response), &verdict));
        let of = if let Purpose::Lookup(of) = pending.purpose { of } else { pending.step };
        if let Some(at) = self.settled_at.get_mut(of) {
            *at = Some(now);
        }
        self.settle(pending, verdict, captured, found)
    }

    /// Takes the sender's own verdict: no answer came.
    pub fn failed(&mut self, verdict: Verdict) -> &Verdict {
        let Some(pending) = self.pending.take() else { return &self.last };
        self.exchanges.push(exchange::exchange(&pending.prepared, None, &verdict));
        self.settle(pending, verdict, Map::new(), false)
    }

    /// False if a further page may have what this one lacks.
    fn has_what_it_looks_for(&self, step: &Step, answer: &Answer<'_>) -> bool {
        match &step.found {
            Some(_) => self.find_marker(step, answer).unwrap_or(true),
            None => step.captures.iter().all(|capture| capture.value(answer).is_some_and(|v| !v.is_null())),
        }
    }

    fn find_marker(&self, step: &Step, answer: &Answer<'_>) -> Result<bool, crate::record::RenderFault> {
        let (Some(found), Some(body)) = (&step.found, answer.json()) else { return Ok(false) };
        let Some(context) = step.context(self.context())? else { return Ok(false) };
        let mut texts = found.path.query(body).into_iter().map(assertion::text_of);
        if let Some(template) = &found.contains {
            let wanted = template.text(&context)?;
            return Ok(!wanted.is_empty() && texts.any(|t| t.contains(&wanted)));
        }
        if let Some(template) = &found.equals {
            let wanted = template.text(&context)?;
            return Ok(!wanted.is_empty() && texts.any(|t| t == wanted));
        }
        Ok(false)
    }

    fn settle(
        &mut self,
        pending: Pending,
        mut verdict: Verdict,
        captured: Map<String, Value>,
        found: bool,
    ) -> &Verdict {
        let destination = self.destination;
        let Some(step) = destination.connector.steps.get(pending.step) else { return &self.last };
        if matches!(pending.prepared.effect, Effect::Read | Effect::Orphanable) {
            verdict.uncertain = false;
            // A look at the record can't be half done: what it says is not understood.
            if verdict.class == Class::Partial && step.verifies.is_none() {
                verdict.class = Class::Retry;
                verdict.reason = Reason::UnexpectedReply;
            }
        }
        if pending.prepared.effect == Effect::Once {
            let open = verdict.uncertain && !matches!(verdict.class, Class::Ok | Class::Partial);
            self.in_flight = open.then(|| step.id.clone());
        }
        match (pending.purpose, verdict.class) {
            (Purpose::Lookup(of), Class::Ok) => {
                let state = if found { State::Found(self.digest_of(of)) } else { State::Absent };
                if !found
                    && self.not_reached.is_none()
                    && destination.connector.steps.get(of).is_some_and(|s| s.required)
                {
                    self.not_reached = Some(of);
                }
                self.set(of, state);
                if let Some(step) = destination.connector.steps.get(of).filter(|_| found) {
                    self.no_captures(step);
                    self.take_captures(&pending.prepared.step, captured);
                }
            }
            (Purpose::Step, Class::Ok | Class::Partial) => {
                if verdict.class == Class::Partial {
                    self.was_partial(pending.step, verdict.reason, &verdict.detail);
                }
                let reads = step.effect == Effect::Read;
                self.set(pending.step, if reads { State::Read } else { State::Sent(pending.prepared.request_digest) });
                self.take_captures(&step.id, captured);
            }
            (Purpose::Step, Class::Dead) if self.takes_course(pending.step, step, &mut verdict, &captured) => {}
            (Purpose::Step, Class::Conflict) if self.may_go_back(pending.step, step) => {}
            _ if !step.required && pending.purpose == Purpose::Step => {
                self.set(pending.step, State::Failed);
                self.no_captures(step);
                self.warnings.push(format!("the step `{}` failed: {}", step.id, verdict.detail));
            }
            _ => {
                self.uncertain |= verdict.uncertain;
                self.end = Some(verdict.clone());
            }
        }
        self.last = verdict;
        &self.last
    }

    pub(super) fn take_captures(&mut self, step: &str, captured: Map<String, Value>) {
        if !captured.is_empty() && !self.pretend {
            self.captures.insert(step.to_owned(), Value::Object(captured.clone()));
            self.real_mut().with_step(step, captured);
        }
    }

    /// The digest of a step's request; empty if there is none.
    pub(super) fn digest_of(&self, index: usize) -> String {
        let step = self.destination.connector.steps.get(index);
        step.and_then(|s| self.digest(index, s, 0).ok().flatten()).map_or_else(String::new, |(digest, _)| digest)
    }

    /// After a conflict: forget what was read since the named step, and begin again there.
    fn may_go_back(&mut self, index: usize, step: &Step) -> bool {
        let (Some((goto, max)), Some(count)) = (step.on_conflict, self.conflicts.get_mut(index)) else { return false };
        if *count >= max {
            return false;
        }
        *count += 1;
        for state in self.states.iter_mut().take(index + 1).skip(goto) {
            if matches!(state, State::Read | State::Failed | State::Skipped) {
                *state = State::Pending;
            }
        }
        self.position = goto;
        true
    }

    /// Goes on as if the answer were good, with captured values as placeholders.
    fn pretend_answer(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.settle(pending, Verdict::ok(), Map::new(), false);
        }
    }

    fn report(&mut self) -> Report {
        let steps = &self.destination.connector.steps;
        let mut applied = Vec::new();
        let (mut wrote, mut found) = (false, false);
        for (index, (step, state)) in steps.iter().zip(&self.states).enumerate() {
            wrote |= *state == State::Resumed && step.effect != Effect::Orphanable;
            let (State::Sent(digest) | State::Found(digest)) = state else { continue };
            wrote |= matches!(state, State::Sent(_)) && step.effect != Effect::Orphanable;
            found |= matches!(state, State::Found(_));
            if step.effect != Effect::Orphanable && self.is_verified(index) {
                applied.push((step.id.clone(), digest.clone()));
            }
        }
        let mut verdict = match (&self.end, &self.partial) {
            (Some(end), _) => end.clone(),
            (None, Some((_, partial))) => Verdict { uncertain: false, ..partial.clone() },
            (None, None) => {
                let reason = match (wrote, found) {
                    (true, _) => Reason::Applied,
                    (false, true) => Reason::AlreadyApplied,
                    (false, false) => Reason::Unchanged,
                };
                Verdict::new(Class::Ok, reason, "")
            }
        };
        for warning in &self.warnings {
            let separator = if verdict.detail.is_empty() { "" } else { "; " };
            verdict.detail = format!("{}{separator}{warning}", verdict.detail);
        }
        Report {
            class: verdict.class,
            reason: verdict.reason,
            uncertain: self.end.is_some() && self.uncertain,
            retry_after: verdict.retry_after,
            detail: verdict.detail,
            applied,
            exchanges: std::mem::take(&mut self.exchanges),
            captures: std::mem::take(&mut self.captures),
            led_to: self.led_to.take(),
            candidates: self.search.take().map(|s| s.candidates).unwrap_or_default(),
        }
    }
}

fn with_placeholders(mut context: Context, steps: &[Step]) -> Context {
    for step in steps.iter().filter(|s| !s.captures.is_empty()) {
        let names = step.captures.iter().map(|c| c.name.as_str());
        let shown = names.map(|n| (n.to_owned(), Value::from(format!("«steps.{}.{n}»", step.id))));
        context.with_step(&step.id, shown.collect());
    }
    context
}

/// What every delivery has before its first template is rendered.
pub(super) struct Prelude {
    pub(super) context: Context,
    pub(super) marker: String,
    /// Said if the metadata is too large to be attached.
    pub(super) warning: Option<String>,
}

/// Checks the record id and gathers the data of one delivery.
pub(super) fn prepare(destination: &Destination, inputs: &Inputs<'_>) -> Flow<Prelude> {
    let connector = &destination.connector;
    let required = connector.manifest.record.required;
    let record = inputs.record.unwrap_or_default();
    if required && record.is_empty() {
        return Err(Verdict::new(Class::Dead, Reason::NoRecordId, "the session names no record"));
    }
    if let Some(said) = connector.refuses_record(record).filter(|_| required) {
        return Err(Verdict::new(Class::Dead, Reason::BadRecordId, said));
    }
    gather(destination, inputs)
}

/// As `prepare`, of a delivery that may have no record yet.
fn gather(destination: &Destination, inputs: &Inputs<'_>) -> Flow<Prelude> {
    let connector = &destination.connector;
    let record = inputs.record.unwrap_or_default();
    let marker = marker(&destination.name, record, &inputs.session.session_key(), inputs.digest);
    let limit = connector.manifest.limits.attachment_bytes;
    let fits = limit.is_none_or(|limit| inputs.document.len() as u64 <= limit);
    if !fits && connector.manifest.limits.above == Above::Fail {
        let said = format!("the metadata ({} bytes) is larger than this CRM takes", inputs.document.len());
        return Err(Verdict::new(Class::Dead, Reason::TooLarge, said));
    }
    let warning = (!fits).then(|| {
        format!("the metadata ({} bytes) is larger than this CRM takes and was not attached", inputs.document.len())
    });
    let given = inputs.record.filter(|r| !r.is_empty());
    let same = inputs.session.record_id.as_deref() == given;
    let owned = (!same).then(|| Session { record_id: given.map(str::to_owned), ..inputs.session.clone() });
    let session = owned.as_ref().unwrap_or(inputs.session);
    let context =
        destination.context(session, inputs.document, inputs.version, &marker, fits).map_err(template_failed)?;
    Ok(Prelude { context, marker, warning })
}

/// The requests of a delivery as they would be sent if every answer were good; values that only an answer can
/// give are shown as `«steps.ticket.etag»`. The error says why there are none.
pub fn preview(destination: &Destination, inputs: Inputs<'_>) -> Result<Vec<Prepared>, Verdict> {
    let mut run = Run::new(destination, inputs);
    run.pretend = true;
    let mut all = Vec::new();
    loop {
        match run.next() {
            Next::Send(prepared) => {
                all.push(prepared);
                run.pretend_answer();
            }
            Next::Finished(report) if report.class == Class::Ok => return Ok(all),
            Next::Finished(report) => {
                return Err(Verdict {
                    class: report.class,
                    reason: report.reason,
                    uncertain: report.uncertain,
                    retry_after: report.retry_after,
                    detail: report.detail,
                });
            }
        }
    }
}

mod policy;
mod search;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod words;
