//! `plan`: the record in the CRM beside what a session would make of it; changes nothing.

use std::io::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::output::harmless;
use super::{Context, Failure, Result, filter, output, preview, process};
use crate::config::{BY_HAND, Config, DestinationConfig};
use crate::connector::manifest::Effect;
use crate::connector::reading::FieldPlan;
use crate::connector::{Inputs, Prepared};
use crate::dispatch::{self, Preview, Shown, Target};
use crate::ledger::{Ledger, Leg, Planner as _, There, Whole};
use crate::message::mark::InstanceKey;
use crate::outcome::Verdict;
use crate::record::route::Route;
use crate::service::{self, Router};
use crate::session::Session;
use crate::session::evidence::Extraction;
use crate::session::version::text_of;
use crate::source::files;

/// Show what a session would change in its record: each field as it is and as it would be. Changes nothing.
///
/// Reads the record with the destination's credentials. Fields that would stay as they are, are counted; `-v` names
/// them. What was applied before is not sent again and not shown. `render` shows requests without asking the CRM.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm plan message.eml --to helpdesk\n  mail2crm plan --session voice-48213 --to helpdesk\n  mail2crm --json plan metadata-48213.json --to helpdesk | jq 'select(.changes)'"
)]
pub(super) struct Args {
    /// `.eml`, `.json`, mbox, Maildir or folder; `-` is one message on stdin.
    #[arg(required_unless_present = "session", conflicts_with = "session")]
    path: Option<PathBuf>,
    /// A stored session instead, such as `voice-48213`: its newest version.
    #[arg(long)]
    session: Option<String>,
    /// The destination.
    #[arg(long, value_name = "DEST")]
    to: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let mut config = context.config()?;
    super::destination::known(&config, &args.to)?;
    config.routes = vec![Route { to: vec![args.to.clone()], ..Route::default() }];
    let key = process::own_key(&config).unwrap_or_else(InstanceKey::of_previews);
    let targets = service::build_targets(&config, &key)?;
    let Some(target) = targets.get(&args.to) else { return Ok(()) };
    let Some(destination) = config.destinations.iter().find(|d| d.name == args.to) else { return Ok(()) };
    let planner = Planner { context, destination, target, router: Router::new(&config), now: Timestamp::now() };
    let (runtime, ledger) = (super::runtime()?, preview::ledger(&config)?);
    match args.session {
        Some(text) => runtime.block_on(planner.stored(&config, ledger.as_ref(), &text)),
        None => {
            let paths: Vec<PathBuf> = args.path.into_iter().collect();
            runtime.block_on(planner.files(&config, ledger.as_ref(), &paths))
        }
    }
}

struct Planner<'a> {
    context: &'a Context,
    destination: &'a DestinationConfig,
    target: &'a Target,
    router: Router,
    now: Timestamp,
}

/// One session, stored or found in a file.
struct Subject<'a> {
    session: &'a Session,
    document: &'a str,
    digest: &'a str,
    version: u32,
    there: Option<&'a There>,
}

impl Planner<'_> {
    async fn stored(&self, config: &Config, ledger: Option<&Ledger>, text: &str) -> Result {
        let key = filter::session_key(text)?;
        let whole = match ledger {
            Some(ledger) => ledger.whole(&key).await?,
            None => None,
        };
        let Some(whole) = whole else {
            let hint = "`mail2crm sessions list` shows them".to_owned();
            return Err(Failure::Usage(format!("there is no session {text}"), hint));
        };
        if whole.document.is_empty() {
            let hint = "`plan FILE` takes it from the mail or the metadata file".to_owned();
            return Err(Failure::Usage(format!("what {text} said was removed, as `keep_sessions_days` says"), hint));
        }
        let document: Value = serde_json::from_str(&whole.document).map_err(anyhow::Error::new)?;
        let Some(session) = config.stored().read(&whole.key, &document) else {
            return Err(Failure::World(anyhow::anyhow!("the stored document no longer reads as a session")));
        };
        let subject = Subject {
            session: &session,
            document: &whole.document,
            digest: &whole.digest,
            version: whole.number,
            there: self.there(Some(&whole)),
        };
        if self.subject(&subject).await? { Ok(()) } else { Err(Failure::NotAllWell) }
    }

    async fn files(&self, config: &Config, ledger: Option<&Ledger>, paths: &[PathBuf]) -> Result {
        let rules = process::rules(config, BY_HAND);
        let (mut sessions, mut all_well, mut count) = (0, true, 0);
        for received in files::walk(paths).max_bytes(config.limits.message_bytes) {
            count += 1;
            let received = received.map_err(|(path, error)| {
                Failure::Usage(format!("can't read `{path}`: {error}"), "name a file that is there".to_owned())
            })?;
            match crate::intake::read_safely(&received, &rules).extraction {
                Extraction::Sessions(found) => {
                    for found in &found {
                        sessions += 1;
                        let whole = match ledger {
                            Some(ledger) => ledger.whole(&found.session.session_key()).await?,
                            None => None,
                        };
                        let document = text_of(&found.document);
                        let subject = Subject {
                            session: &found.session,
                            document: &document,
                            digest: &found.digest,
                            version: preview::number_of(ledger, found).await?,
                            there: self.there(whole.as_ref()),
                        };
                        all_well &= self.subject(&subject).await?;
                    }
                }
                Extraction::None => eprintln!("{}: no session metadata", received.input),
                Extraction::Refused(reason, detail) => eprintln!("{}: {detail} ({reason})", received.input),
            }
        }
        if count == 0 {
            super::extract::nothing_found(paths);
        }
        if sessions > 0 && all_well { Ok(()) } else { Err(Failure::NotAllWell) }
    }

    fn there<'w>(&self, whole: Option<&'w Whole>) -> Option<&'w There> {
        whole?.there.iter().find(|there| there.destination == self.destination.name)
    }

    /// False if it can't be delivered, or its record can't be read.
    async fn subject(&self, subject: &Subject<'_>) -> Result<bool> {
        let Some(mut leg) = self.router.legs_of(subject.session).into_iter().next() else { return Ok(true) };
        if leg.record.is_none() {
            let last = subject.there.and_then(|there| there.last.as_ref());
            leg.record = last.and_then(|(_, record)| record.clone());
        }
        let key = subject.session.session_key().to_string();
        let refusal = match (&leg.refused, &leg.record) {
            (Some((reason, detail)), _) => Some(format!("{detail} ({reason})")),
            (None, None) => Some("it would be parked until a later version brings the OutTicket ID".to_owned()),
            (None, Some(_)) => None,
        };
        if let Some(said) = refusal {
            self.head(&key, &leg)?;
            self.failed(&key, &leg, &said)?;
            return Ok(false);
        }
        let all = subject.there.map_or(&[][..], |there| &there.applied);
        let applied: Vec<(String, String)> = all.iter().map(|a| (a.step.clone(), a.digest.clone())).collect();
        let same = all.iter().filter(|a| a.digest_of_content == subject.digest && a.record == leg.record);
        let marked: Vec<String> = same.map(|a| a.step.clone()).collect();
        let inputs = Inputs {
            owner: None,
            session: subject.session,
            document: subject.document,
            version: subject.version,
            digest: subject.digest,
            record: leg.record.as_deref(),
            uncertain: false,
            note_only: false,
            applied: &applied,
            marked: &marked,
        };
        let read = self.target.read_record(inputs.clone()).await;
        if let (Ok(None), Shown::Rest(to)) = (&read, self.destination.way.shown()) {
            let sentence = format!("the connector `{}` does not read records with these settings", to.connector.name());
            let hint = "`mail2crm render` shows what would be sent; its README says what it needs, and a connector of \
                        your own says it with `[record.read]`";
            return Err(Failure::Usage(sentence, hint.to_owned()));
        }
        self.head(&key, &leg)?;
        let sent = dispatch::show(&self.destination.way.shown(), &leg.destination, inputs, self.now);
        let said = |verdict: &Verdict| format!("{} ({})", verdict.detail, verdict.reason);
        let mut all_well = true;
        let sends = sent.as_ref().is_ok_and(|sent| !changes(sent).is_empty());
        match &read {
            Ok(Some(fields)) => self.fields(&key, &leg, fields, sends)?,
            Ok(None) => {}
            Err(verdict) => {
                all_well = false;
                self.failed(&key, &leg, &format!("the record can't be read: {}", said(verdict)))?;
            }
        }
        match &sent {
            Ok(sent) => self.sent(&key, &leg, sent)?,
            Err(verdict) => {
                all_well = false;
                self.failed(&key, &leg, &format!("nothing would be sent: {}", said(verdict)))?;
            }
        }
        Ok(all_well)
    }

    fn head(&self, key: &str, leg: &Leg) -> Result {
        if self.context.json {
            return Ok(());
        }
        let record = leg.record.as_deref().unwrap_or("no record");
        output::print_text(&format!("── {key} → {} ({record})\n", leg.destination))
    }

    fn line(&self, key: &str, leg: &Leg, what: Value) -> Result {
        let mut line = json!({ "session": key, "destination": leg.destination, "record": leg.record });
        if let (Some(line), Value::Object(what)) = (line.as_object_mut(), what) {
            line.extend(what);
        }
        output::print_line(&line)
    }

    fn failed(&self, key: &str, leg: &Leg, said: &str) -> Result {
        if self.context.json {
            return self.line(key, leg, json!({ "refused": said }));
        }
        output::print_text(&format!("  {said}\n"))
    }

    /// Where nothing is sent, because it was applied before, no field changes, whatever somebody made of it since.
    fn fields(&self, key: &str, leg: &Leg, fields: &[FieldPlan], sends: bool) -> Result {
        if self.context.json {
            return fields.iter().try_for_each(|field| {
                let field = FieldPlan { changes: field.changes && sends, ..field.clone() };
                self.line(key, leg, serde_json::to_value(field).unwrap_or_default())
            });
        }
        let shown: Vec<&FieldPlan> =
            fields.iter().filter(|field| field.changes || self.context.verbosity > 0).collect();
        let widest = shown.iter().map(|field| field.field.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for field in &shown {
            let pad = " ".repeat(widest.saturating_sub(field.field.chars().count()));
            let (now, then) = (value(&field.current), value(&field.new));
            let unknown = if field.known { "" } else { "   (this record has no such field)" };
            let change = match (field.changes, sends) {
                (true, true) => format!("{now} → {then}"),
                (true, false) => format!("{now}; {then} was applied before and is not sent again"),
                (false, _) => format!("{now}, no change"),
            };
            text.push_str(&format!("  {}{pad}  {change}{unknown}\n", field.field));
        }
        let same = fields.iter().filter(|field| !field.changes).count();
        if same > 0 && self.context.verbosity <= 0 {
            text.push_str(&format!("  {same} field{} without change\n", if same == 1 { "" } else { "s" }));
        }
        output::print_text(&text)
    }

    fn sent(&self, key: &str, leg: &Leg, sent: &Preview) -> Result {
        let lines = changes(sent);
        if self.context.json {
            return lines.iter().try_for_each(|(step, what, request)| {
                self.line(key, leg, json!({ "step": step, "what": what, "request": request }))
            });
        }
        let mut text = String::new();
        for (step, what, request) in &lines {
            text.push_str(&format!("  + {step} {what}: {request}\n"));
        }
        if lines.is_empty() {
            text.push_str("  nothing would be sent\n");
        }
        if matches!(sent, Preview::Mail(_)) {
            text.push_str("  a record can't be read by mail: what it has now is not known\n");
        }
        output::print_text(&text)?;
        if self.context.verbosity > 0 || matches!(sent, Preview::Mail(_)) {
            let mut out = std::io::stdout().lock();
            writeln!(out)?;
            preview::write_text(&mut out, sent)?;
        }
        Ok(())
    }
}

/// What would be changed: step, how, and the request.
fn changes(sent: &Preview) -> Vec<(String, &'static str, String)> {
    match sent {
        Preview::Requests(requests) => {
            let change = |prepared: &Prepared| {
                let what = match prepared.effect {
                    Effect::Read => return None,
                    Effect::Orphanable => "would be uploaded",
                    Effect::Marked | Effect::Once => "would be added",
                    Effect::Idempotent | Effect::ByMethod => "would be set",
                };
                let request = &prepared.request;
                Some((prepared.step.clone(), what, format!("{} {}", request.method, request.url)))
            };
            requests.iter().filter_map(change).collect()
        }
        Preview::Mail(mail) => vec![("mail".to_owned(), "would be sent", mail.message_id.clone())],
        Preview::File(path, _) => vec![("file".to_owned(), "would be written", path.display().to_string())],
    }
}

/// A value on one line.
fn value(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Null => "(empty)".to_owned(),
        value => {
            let text = harmless(&value.to_string()).into_owned();
            if text.chars().count() > LONGEST { text.chars().take(LONGEST - 1).chain(['…']).collect() } else { text }
        }
    }
}
