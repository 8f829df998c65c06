//! `replay`: stored sessions rendered with today's templates, routes and field maps; what differs is delivered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Context, Failure, Result, filter, output, preview};
use crate::config::{Config, DestinationConfig};
use crate::connector::Inputs;
use crate::dispatch::{Preview, differs};
use crate::ledger::{DeliveryState, Ledger, Leg, Planner as _, Replay, Replayed, There, Whole};
use crate::service::Router;
use crate::session::Session;
use crate::session::stored::Stored;

/// Deliver stored sessions again where today's templates, field maps and routes say something else.
///
/// Of every session whose newest version came in within the window, that version is rendered for each destination to
/// which today's routes lead. A step whose request is the one that was last applied is not sent. What differs, or
/// never went there, becomes a delivery of the same version; what failed for good is put back in line. What waits is
/// left alone: it is rendered when it is sent. Older versions, and what a person discarded, are never sent.
///
/// Fields are set anew. A note, a mail, and whatever else leaves a mark in the record, is not written a second time
/// for the same version because its words changed: `--repeat-notes` says that it shall. Where a CRM takes fields and
/// note in one request, that holds for both.
///
/// What was delivered goes to the record to which it was delivered; the rest goes where today's routes say. Files of
/// a `storage` destination follow their content: a changed `path` alone moves none.
///
/// Works while the service runs, which then delivers; otherwise the next `run` does. A service renders with the
/// templates and the configuration that it was started with: start it again before, if they were changed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm replay --since 2d --to helpdesk --dry-run\n  mail2crm replay --since 2026-02-01 --until 2026-02-08"
)]
pub(super) struct Args {
    /// Sessions whose newest version came in since then: `2h`, `3d`, `2026-02-17`, `2026-02-17T10:00:00Z`.
    #[arg(long)]
    since: String,
    /// … and before then.
    #[arg(long)]
    until: Option<String>,
    /// Only to this destination, as far as the routes lead to it.
    #[arg(long, value_name = "DEST")]
    to: Option<String>,
    /// Also write notes and mails again whose words are others today: the record then has both.
    #[arg(long)]
    repeat_notes: bool,
    /// Change and send nothing; say what would be sent, with `-v` also how.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let since = filter::moment("--since", &args.since)?;
    let until = args.until.as_deref().map(|text| filter::moment("--until", text)).transpose()?;
    let (config, ledger) = context.open()?;
    if let Some(name) = &args.to {
        super::destination::known(&config, name)?;
    }
    let (router, stored, now) = (Router::new(&config), config.stored(), Timestamp::now());
    let player = Player { context, config: &config, router, stored, args: &args, now };
    let runtime = super::runtime()?;
    let mut sums = Sums::default();
    let mut from = Some(0);
    while let Some(after) = from {
        let page = runtime.block_on(ledger.replayable(after, Some(since), until))?;
        from = page.next;
        let mut turns = Vec::new();
        for whole in &page.sessions {
            sums.sessions += 1;
            turns.extend(player.session(whole)?);
        }
        runtime.block_on(player.settle(&ledger, turns, &mut sums))?;
    }
    sums.tell(context, args.dry_run)?;
    if sums.in_line > 0 && ledger.own()?.is_none() {
        eprintln!(
            "the service that runs delivers them, with the configuration and templates that it was started with: \
             start it again if they were changed since, and replay then"
        );
    }
    if sums.failed == 0 { Ok(()) } else { Err(Failure::NotAllWell) }
}

struct Player<'a> {
    context: &'a Context,
    config: &'a Config,
    router: Router,
    stored: Stored,
    args: &'a Args,
    now: Timestamp,
}

/// One session at one destination.
struct Turn {
    session: String,
    destination: String,
    record: Option<String>,
    what: What,
    /// Steps that would say something else, and are left.
    kept: Vec<String>,
    preview: Option<Preview>,
}

enum What {
    Send(Replay, Vec<String>),
    /// It becomes a delivery that is not sent, because of this.
    Place(Replay, &'static str),
    Left(&'static str),
    Unchanged,
    Failed(String),
}

impl Player<'_> {
    fn session(&self, whole: &Whole) -> Result<Vec<Turn>> {
        let document: Value = serde_json::from_str(&whole.document).map_err(anyhow::Error::new)?;
        let Some(session) = self.stored.read(&whole.key, &document) else {
            let what = What::Failed("the stored document no longer reads as a session".to_owned());
            let session = whole.key.to_string();
            let destination = String::new();
            return Ok(vec![Turn { session, destination, record: None, what, kept: Vec::new(), preview: None }]);
        };
        let legs = self.router.legs_of(&session).into_iter();
        let legs = legs.filter(|leg| self.args.to.as_ref().is_none_or(|to| *to == leg.destination));
        Ok(legs.filter_map(|leg| self.turn(whole, &session, leg)).collect())
    }

    fn turn(&self, whole: &Whole, session: &Session, mut leg: Leg) -> Option<Turn> {
        let destination = self.config.destinations.iter().find(|d| d.name == leg.destination)?;
        let there = whole.there.iter().find(|there| there.destination == leg.destination);
        let last = there.and_then(|there| there.last.as_ref());
        if let Some((DeliveryState::Delivered | DeliveryState::Unchanged, Some(record))) = last {
            leg = Leg { record: Some(record.clone()), refused: None, ..leg };
        }
        let turn = |leg: &Leg, what, kept, preview| {
            let (destination, record) = (leg.destination.clone(), leg.record.clone());
            Some(Turn { session: whole.key.to_string(), destination, record, what, kept, preview })
        };
        let replay = |leg: &Leg, again| Replay { version: whole.version, leg: leg.clone(), again };
        let left = match last.map(|(state, _)| *state) {
            Some(DeliveryState::Waiting) => Some("it waits, and is rendered when it is sent"),
            Some(DeliveryState::Sending) => Some("it is being sent"),
            Some(DeliveryState::Discarded) => Some("a person let it go"),
            Some(DeliveryState::Dead) if leg.refused.is_some() => Some("it has no record that it can go to"),
            Some(DeliveryState::Parked | DeliveryState::Dead) if leg.record.is_none() => {
                Some("it waits for a record id")
            }
            _ => None,
        };
        if let Some(left) = left {
            return turn(&leg, What::Left(left), Vec::new(), None);
        }
        if leg.refused.is_some() || leg.record.is_none() {
            // It never went there: it becomes what a new session without a good record id becomes.
            let why = if leg.refused.is_some() {
                "its record id is not one of this CRM's"
            } else {
                "it waits for a record id"
            };
            return turn(&leg, What::Place(replay(&leg, Vec::new()), why), Vec::new(), None);
        }
        match self.difference(destination, whole, session, &leg, there) {
            Err(said) => turn(&leg, What::Failed(said), Vec::new(), None),
            // A delivery that failed for good is tried again, whatever of it was applied.
            Ok((difference, _)) if difference.steps.is_empty() && !matches!(last, Some((DeliveryState::Dead, _))) => {
                turn(&leg, What::Unchanged, difference.kept, None)
            }
            Ok((difference, again)) => {
                let what = What::Send(replay(&leg, again), difference.steps);
                turn(&leg, what, difference.kept, Some(difference.preview))
            }
        }
    }

    /// What a delivery would do, and which of its steps are to be sent although their marker is in the record.
    fn difference(
        &self,
        destination: &DestinationConfig,
        whole: &Whole,
        session: &Session,
        leg: &Leg,
        there: Option<&There>,
    ) -> std::result::Result<(crate::dispatch::Difference, Vec<String>), String> {
        let all = there.map_or(&[][..], |there| &there.applied);
        let applied: Vec<(String, String)> = all.iter().map(|a| (a.step.clone(), a.digest.clone())).collect();
        let same = all.iter().filter(|a| a.digest_of_content == whole.digest && a.record == leg.record);
        let marked: Vec<String> = same.map(|a| a.step.clone()).collect();
        let inputs = Inputs {
            owner: None,
            session,
            document: &whole.document,
            version: whole.number,
            digest: &whole.digest,
            record: leg.record.as_deref(),
            uncertain: false,
            note_only: false,
            applied: &applied,
            marked: if self.args.repeat_notes { &[] } else { &marked },
        };
        let difference = differs(&destination.way.shown(), &leg.destination, inputs, self.now)
            .map_err(|verdict| format!("{} ({})", verdict.detail, verdict.reason))?;
        let again = marked.into_iter().filter(|step| self.args.repeat_notes && difference.steps.contains(step));
        let again = again.collect();
        Ok((difference, again))
    }

    /// Writes down what is to be sent, a page in one commit, and says of each what it is.
    async fn settle(&self, ledger: &Ledger, turns: Vec<Turn>, sums: &mut Sums) -> Result {
        let replays: Vec<Replay> = turns
            .iter()
            .filter_map(|turn| match &turn.what {
                What::Send(replay, _) | What::Place(replay, _) => Some(replay.clone()),
                _ => None,
            })
            .collect();
        let mut answers = if self.args.dry_run || replays.is_empty() {
            Vec::new().into_iter()
        } else {
            ledger.replay(replays, self.now).await?.into_iter()
        };
        for turn in &turns {
            let answer = match &turn.what {
                What::Send(..) | What::Place(..) => answers.next(),
                _ => None,
            };
            sums.add(turn, answer.as_ref());
            self.tell(turn, answer.as_ref())?;
        }
        Ok(())
    }

    fn tell(&self, turn: &Turn, answer: Option<&Replayed>) -> Result {
        let (word, why, steps) = match (&turn.what, answer) {
            (What::Unchanged, _) => ("unchanged", "", &[][..]),
            (What::Left(why), _) => ("left", *why, &[][..]),
            (What::Send(_, steps), Some(Replayed::Left(why))) => ("left", *why, steps.as_slice()),
            (What::Place(_, _), Some(Replayed::Left(why))) => ("left", *why, &[][..]),
            (What::Place(_, why), None) => ("would_be_put_down", *why, &[][..]),
            (What::Place(_, why), Some(_)) => ("put_down", *why, &[][..]),
            (What::Send(_, steps), None) => ("would_send", "", steps.as_slice()),
            (What::Send(_, steps), Some(_)) => ("in_line", "", steps.as_slice()),
            (What::Failed(why), _) => ("failed", why.as_str(), &[][..]),
        };
        if self.context.json {
            let delivery = match answer {
                Some(Replayed::Made(id) | Replayed::BackInLine(id)) => Some(*id),
                _ => None,
            };
            let shown = turn.preview.as_ref().filter(|_| self.args.dry_run && self.context.verbosity > 0);
            return output::print_line(&json!({
                "session": turn.session, "destination": turn.destination, "record": turn.record, "result": word,
                "why": why, "steps": steps, "kept": turn.kept, "delivery": delivery,
                "sent": shown.map(preview::of_preview),
            }));
        }
        // What stays as it is would hide the rest.
        if word == "unchanged" && turn.kept.is_empty() && self.context.verbosity == 0 {
            return Ok(());
        }
        let record = turn.record.as_deref().unwrap_or("no record");
        let mut line = format!("{} → {} ({record}): {}", turn.session, turn.destination, word.replace('_', " "));
        for (before, text) in [(": ", steps.join(", ")), (": ", why.to_owned())] {
            if !text.is_empty() {
                line.push_str(before);
                line.push_str(&text);
            }
        }
        if !turn.kept.is_empty() {
            line.push_str(&format!("; left as written: {}", turn.kept.join(", ")));
        }
        output::print_text(&format!("{line}\n"))?;
        match &turn.preview {
            Some(shown) if self.args.dry_run && self.context.verbosity > 0 => {
                preview::write_text(&mut std::io::stdout().lock(), shown)
            }
            _ => Ok(()),
        }
    }
}

/// How it went.
#[derive(Default)]
struct Sums {
    sessions: usize,
    failed: usize,
    kept: usize,
    in_line: usize,
    by: BTreeMap<&'static str, usize>,
}

impl Sums {
    fn add(&mut self, turn: &Turn, answer: Option<&Replayed>) {
        let word = match (&turn.what, answer) {
            (What::Unchanged, _) => "unchanged",
            (What::Left(_), _) | (_, Some(Replayed::Left(_))) => "left as they are",
            (What::Place(..), _) => "without a record to go to",
            (What::Send(..), None) => "to be sent",
            (What::Send(..), Some(_)) => "put in line",
            (What::Failed(_), _) => "that can't be rendered",
        };
        self.failed += usize::from(matches!(turn.what, What::Failed(_)));
        self.kept += usize::from(!turn.kept.is_empty());
        self.in_line += usize::from(matches!(answer, Some(Replayed::Made(_) | Replayed::BackInLine(_))));
        *self.by.entry(word).or_default() += 1;
    }

    fn tell(&self, context: &Context, dry_run: bool) -> Result {
        if context.verbosity < 0 {
            return Ok(());
        }
        let counts = self.by.iter().map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
        let counts = if counts.is_empty() { "no destination for them".to_owned() } else { counts };
        let head = if dry_run { "nothing was changed; " } else { "" };
        eprintln!("{head}{} session{}: {counts}", self.sessions, if self.sessions == 1 { "" } else { "s" });
        if self.kept > 0 {
            eprintln!(
                "{} of them would say something else in notes or mails that are written: `--repeat-notes` writes them again",
                self.kept
            );
        }
        Ok(())
    }
}
