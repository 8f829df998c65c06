//! One destination with what reaches it: takes one delivery through its connector and sender, or its
//! document into a file, and says what became of it. `preview` shows the same without sending.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::clock::Clock;
use super::drive::{Carrier, drive};
use super::keys::Keys;
use crate::connector::http::{Exchange, Response};
use crate::connector::reading::FieldPlan;
use crate::connector::{Candidate, Destination, Inputs, Prepared, Progress, Report, Run, email, preview};
use crate::ledger::{Claimed, Ledger};
use crate::message::mark::InstanceKey;
use crate::outcome::{Class, Reason, Verdict};
use crate::record::{Context, Extras, Inline, Metadata};
use crate::sender::http::HttpSender;
use crate::sender::smtp::SmtpSender;
use crate::sender::storage::{FolderSender, Stored};
use crate::session::Session;

/// The name of the one step of a storage destination, for the ledger.
pub(super) const STORE: &str = "store";

/// A destination that deliveries can be taken to.
#[derive(Debug)]
pub struct Target {
    /// Its name in the configuration.
    pub name: String,
    /// Deliveries at once.
    pub concurrency: usize,
    /// How it is reached.
    pub way: Way,
}

/// How a destination is reached.
#[derive(Debug)]
pub enum Way {
    /// HTTP requests.
    Rest {
        /// The connector with its settings.
        to: Arc<Destination>,
        /// What sends them.
        http: HttpSender,
        /// The credentials as last read.
        keys: Keys,
    },
    /// A mail.
    Email {
        /// The connector with its settings.
        to: Arc<Destination>,
        /// What sends it.
        smtp: Box<SmtpSender>,
        /// What marks it as our own.
        key: InstanceKey,
    },
    /// A file.
    Storage {
        /// The path below the folder.
        path: Arc<Inline>,
        /// What writes it.
        folder: FolderSender,
    },
}

/// What became of one attempt.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) verdict: Verdict,
    pub(super) applied: Vec<(String, String)>,
    /// What it did that was not handed over before its end.
    pub(super) progress: Progress,
    pub(super) exchanges: Value,
    /// The record that it goes on with.
    pub(super) led_to: Option<String>,
    /// Records that it could belong to.
    pub(super) candidates: Vec<Candidate>,
    /// Whether its record is looked for where it has none.
    pub(super) looks_up: bool,
}

impl Done {
    pub(super) fn of(verdict: Verdict) -> Self {
        let exchanges = Value::Array(Vec::new());
        Self {
            verdict,
            applied: Vec::new(),
            progress: Progress::default(),
            exchanges,
            led_to: None,
            candidates: Vec::new(),
            looks_up: false,
        }
    }

    fn one(verdict: Verdict, exchange: Value, applied: Option<(String, String)>) -> Self {
        Self { applied: applied.into_iter().collect(), exchanges: json!([exchange]), ..Self::of(verdict) }
    }
}

impl From<Report> for Done {
    fn from(report: Report) -> Self {
        let mut verdict = Verdict::new(report.class, report.reason, report.detail);
        verdict.uncertain = report.uncertain;
        verdict.retry_after = report.retry_after;
        let exchanges = serde_json::to_value(&report.exchanges).unwrap_or_default();
        let Report { applied, led_to, candidates, .. } = report;
        Self { applied, exchanges, led_to, candidates, ..Self::of(verdict) }
    }
}

impl Target {
    /// One attempt.
    pub(super) async fn deliver(&self, ledger: &Ledger, clock: &Clock, claimed: &Claimed, session: &Session) -> Done {
        let inputs = Inputs {
            session,
            document: &claimed.document,
            version: claimed.version_number,
            digest: &claimed.digest,
            record: claimed.record.as_deref(),
            uncertain: claimed.uncertain,
            applied: &claimed.applied,
            marked: &claimed.marked,
        };
        match &self.way {
            Way::Rest { to, http, keys } => {
                let is_search = inputs.record.is_none() && to.connector.manifest.record.required;
                let run = if is_search { Run::search(to, inputs) } else { Run::new(to, inputs) };
                let done = drive(run, ledger, claimed, clock, &Rest { to, http, keys }).await;
                Done { looks_up: to.looks_up(), ..done }
            }
            Way::Email { to, smtp, key } => mail(to, smtp, key, inputs, claimed.created_at).await,
            Way::Storage { path, folder } => store(&self.name, path, folder, inputs).await,
        }
    }

    /// The fields that a delivery would set, each with what the record has there now; `None` if that can't be read.
    /// Changes nothing.
    pub async fn read_record(&self, inputs: Inputs<'_>) -> Result<Option<Vec<FieldPlan>>, Verdict> {
        let Way::Rest { to, http, keys } = &self.way else { return Ok(None) };
        let Some(prepared) = to.read_record(&inputs)? else { return Ok(None) };
        let response = keys.send(to, http, &prepared.request).await?;
        to.compare(&response, &inputs, Timestamp::now()).map(Some)
    }

    /// Reaches the destination and changes nothing: for `check --online`. The sentence says what was found.
    pub async fn check(&self) -> Result<String, Verdict> {
        match &self.way {
            Way::Rest { to, http, keys } => {
                let Some(prepared) = to.check()? else {
                    return Ok("its connector names no request that changes nothing: not tried".to_owned());
                };
                let response = keys.send(to, http, &prepared.request).await?;
                match to.judge_check(&response, Timestamp::now()) {
                    verdict if verdict.class == Class::Ok => {
                        Ok(format!("{} answers, the credentials are good", to.base_url()))
                    }
                    verdict => Err(verdict),
                }
            }
            Way::Email { smtp, .. } => smtp.probe().await.map(|()| "the mail server takes our mail".to_owned()),
            Way::Storage { folder, .. } => folder.check().await.map(str::to_owned),
        }
    }
}

/// What reaches a CRM over HTTP.
struct Rest<'a> {
    to: &'a Arc<Destination>,
    http: &'a HttpSender,
    keys: &'a Keys,
}

impl Carrier for Rest<'_> {
    async fn carry(&self, prepared: &Prepared) -> Result<Response, Verdict> {
        self.keys.send(self.to, self.http, &prepared.request).await
    }

    async fn refused(&self) {
        self.keys.forget().await;
    }
}

async fn mail(to: &Destination, smtp: &SmtpSender, key: &InstanceKey, inputs: Inputs<'_>, date: Timestamp) -> Done {
    let mail = match email::compose(to, &inputs, key, date) {
        Ok(mail) => mail,
        Err(verdict) => return Done::of(verdict),
    };
    if mail.is_applied(inputs.applied) || inputs.marked.iter().any(|step| step == email::STEP) {
        return Done::of(Verdict::new(Class::Ok, Reason::Unchanged, ""));
    }
    let sent = smtp.send(&mail.from, &mail.to, &mail.bytes).await;
    let verdict = match sent {
        Ok(()) => Verdict::new(Class::Ok, Reason::Applied, mail.warning.clone().unwrap_or_default()),
        Err(verdict) => verdict,
    };
    let exchange = Exchange {
        step: email::STEP.to_owned(),
        request: format!("mail {} of {} bytes", mail.message_id, mail.bytes.len()),
        request_body: String::new(),
        status: None,
        response_body: String::new(),
        verdict: verdict.reason.to_string(),
    };
    let applied = (verdict.class == Class::Ok).then(|| (email::STEP.to_owned(), mail.digest.clone()));
    Done::one(verdict, serde_json::to_value(exchange).unwrap_or_default(), applied)
}

/// Where a session's document goes, and its bytes.
fn file(name: &str, path: &Inline, inputs: &Inputs<'_>) -> Result<(PathBuf, String), Verdict> {
    let metadata = Metadata { name: format!("metadata-{}.json", inputs.session.key), json: String::new() };
    let extras = Extras { version: inputs.version.into(), metadata, destination: name.to_owned(), ..Extras::default() };
    let text = path.text(&Context::new(inputs.session, extras)).map_err(|fault| {
        let detail = format!("{}:{}:{}: {}", fault.file, fault.line, fault.column, fault.message);
        Verdict::new(Class::Dead, Reason::TemplateFailed, detail)
    })?;
    Ok((PathBuf::from(text), inputs.document.to_owned()))
}

async fn store(name: &str, path: &Inline, folder: &FolderSender, inputs: Inputs<'_>) -> Done {
    let (relative, document) = match file(name, path, &inputs) {
        Ok(file) => file,
        Err(verdict) => return Done::of(verdict),
    };
    let shown = relative.display().to_string();
    let bytes = document.len();
    let stored = folder.write(&relative, document.into()).await;
    let verdict = match stored {
        Ok(Stored::Written) => Verdict::ok(),
        Ok(Stored::Same) => Verdict::new(Class::Ok, Reason::Unchanged, ""),
        Err(verdict) => verdict,
    };
    let exchange =
        json!({ "step": STORE, "request": format!("file {shown} of {bytes} bytes"), "verdict": verdict.reason });
    let applied = (verdict.class == Class::Ok).then(|| (STORE.to_owned(), inputs.digest.to_owned()));
    Done::one(verdict, exchange, applied)
}

/// What a delivery would send, for `render` and `process --dry-run`.
#[derive(Debug)]
pub enum Preview {
    /// The requests, in order.
    Requests(Vec<Prepared>),
    /// The mail.
    Mail(Box<email::OutgoingMail>),
    /// The path below the folder, and the content.
    File(PathBuf, String),
}

/// Shows what a delivery would send; the verdict says why it would send nothing.
pub fn show(way: &Shown<'_>, name: &str, inputs: Inputs<'_>, date: Timestamp) -> Result<Preview, Verdict> {
    match way {
        Shown::Rest(to) => preview(to, inputs).map(Preview::Requests),
        Shown::Email(to) => {
            let key = InstanceKey::of_previews();
            email::compose(to, &inputs, &key, date).map(|mail| Preview::Mail(Box::new(mail)))
        }
        Shown::Storage(folder, path) => {
            file(name, path, &inputs).map(|(path, text)| Preview::File(folder.join(path), text))
        }
    }
}

/// A way without its sender.
pub enum Shown<'a> {
    /// HTTP requests.
    Rest(&'a Destination),
    /// A mail.
    Email(&'a Destination),
    /// A file below a folder.
    Storage(&'a Path, &'a Inline),
}
