//! Golden cases: `golden/<case>.json` of a connector's folder says what is sent for a session and what becomes
//! of the answers. A case is run through the same code as a delivery, with its scripted replies for a CRM.
//!
//! A case: `about`, `session` (a vendor document) or `session_file` (in `golden/sessions/`, else in `sessions/`
//! of the shared folder; keys of `session` replace its own), `version`, `transport`, `settings`, `fields`,
//! `values`, `record`, `uncertain`, `in_flight` (the step `once` that was under way then), `note_only`, `applied` (steps
//! whose last request was this very one), `replies` (`status`, `headers`, `body` in which `«marker»` stands for the
//! marker; or `fail` with a reason), `expect`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::email::{self, OutgoingMail};
use super::http::{Request, Response};
use super::manifest::Transport;
use super::plan::{Inputs, Next, Report, Run, preview};
use super::progress::Progress;
use super::schema::Schemas;
use super::{Connector, Destination};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::digest::sha256;
use crate::folder::Folder;
use crate::message::mark::InstanceKey;
use crate::outcome::{Class, Reason, Verdict};
use crate::session::Session;
use crate::session::version::text_of;
use crate::settings;

/// Makes a session of a vendor document; the error says why it is none.
pub type ReadSession<'a> = &'a dyn Fn(&Value) -> Result<Session, String>;

/// What became of one case.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// Its file inside the folder, such as `golden/voice.json`.
    pub file: String,
    /// What it is about.
    pub about: String,
    /// What is not as expected; empty if it passed.
    pub problems: Vec<String>,
    /// The file as it would be if what happened now were expected; `None` if the case could not be run.
    pub blessed: Option<String>,
}

impl CaseResult {
    /// True if all is as expected.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    #[serde(default)]
    session: Map<String, Value>,
    #[serde(default)]
    session_file: Option<String>,
    #[serde(default = "one")]
    version: u32,
    #[serde(default)]
    transport: Option<Transport>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    fields: Map<String, Value>,
    #[serde(default)]
    values: Map<String, Value>,
    #[serde(default)]
    record: Option<String>,
    #[serde(default)]
    uncertain: bool,
    #[serde(default)]
    note_only: bool,
    #[serde(default)]
    in_flight: Option<String>,
    #[serde(default)]
    applied: Vec<String>,
    #[serde(default)]
    replies: Vec<Reply>,
    #[serde(default)]
    expect: Option<Value>,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Fail {
        fail: Reason,
    },
    Answer {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: Value,
    },
}

/// Any keys: what a case sets is checked by the destination itself.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct Anything(Map<String, Value>);

/// Runs all cases of a folder. The faults are those of the folder itself.
pub fn run(folder: &Folder, shared: Option<&Folder>, read: ReadSession<'_>) -> Result<Vec<CaseResult>, Diagnostics> {
    let connector = Arc::new(Connector::load(folder, shared)?);
    let schemas = Schemas::read(folder, |step| connector.steps.iter().any(|s| s.id == step))?;
    let cases = folder.files.iter().filter(|(name, _)| {
        name.strip_prefix("golden/").is_some_and(|rest| rest.ends_with(".json") && !rest.contains('/'))
    });
    Ok(cases.map(|(name, file)| case(&connector, &schemas, name, file, read)).collect())
}

fn case(
    connector: &Arc<Connector>,
    schemas: &Schemas,
    name: &str,
    file: &SourceFile,
    read: ReadSession<'_>,
) -> CaseResult {
    let mut result = CaseResult { file: name.to_owned(), about: String::new(), problems: Vec::new(), blessed: None };
    let case: Case = match serde_json::from_str(&file.text) {
        Ok(case) => case,
        Err(error) => {
            result.problems.push(format!("{}:{}:{}: {error}", file.name, error.line(), error.column()));
            return result;
        }
    };
    result.about.clone_from(&case.about);
    match play(connector, schemas, file, &case, read) {
        Ok(played) => {
            result.problems = played.problems;
            match &case.expect {
                Some(expected) => differences("expect", expected, &played.actual, &mut result.problems),
                None => result.problems.push("the case has no `expect`; `--bless` writes it".into()),
            }
            result.blessed = bless(&file.text, played.actual);
        }
        Err(problem) => result.problems.push(problem),
    }
    result
}

struct Played {
    actual: Value,
    problems: Vec<String>,
    /// What was captured, if all went well.
    captures: Option<Map<String, Value>>,
}

fn play(
    connector: &Arc<Connector>,
    schemas: &Schemas,
    file: &SourceFile,
    case: &Case,
    read: ReadSession<'_>,
) -> Result<Played, String> {
    let document = Value::Object(document(connector, case)?);
    let session = read(&document).map_err(|e| format!("`session` is no session: {e}"))?;
    let text = text_of(&document);
    let digest = sha256(text.as_bytes());
    let destination = destination(connector, file, case).map_err(|faults| faults.render())?;
    let record = case.record.clone().or_else(|| session.record_id.clone()).or_else(|| session.out_ticket_id.clone());
    let mut inputs = Inputs {
        session: &session,
        document: &text,
        version: case.version,
        digest: &digest,
        record: record.as_deref(),
        uncertain: case.uncertain,
        owner: None,
        note_only: case.note_only,
        applied: &[],
        marked: &[],
    };
    // Any fixed moment: answers with dates and the mail's `Date` are read against it.
    let now = Timestamp::from_second(1_771_345_800).map_err(|e| e.to_string())?;
    if destination.transport == Transport::Email {
        let key = InstanceKey::of_previews();
        if !destination.asks_before_mail() {
            let mail = email::compose(&destination, &inputs, None, &key, now);
            return Ok(Played { actual: mail_as_json(mail), problems: Vec::new(), captures: None });
        }
        let mut played = converse(Run::for_mail(&destination, inputs.clone()), &case.replies, schemas, now);
        if let Some(captures) = &played.captures
            && let (Value::Object(actual), Value::Object(mail)) =
                (&mut played.actual, mail_as_json(email::compose(&destination, &inputs, Some(captures), &key, now)))
        {
            actual.remove("outcome");
            actual.extend(mail);
        }
        return Ok(played);
    }
    let mut applied = Vec::new();
    if !case.applied.is_empty() {
        let all = preview(&destination, inputs.clone()).map_err(|v| v.detail)?;
        for step in &case.applied {
            let prepared = all.iter().find(|p| p.step == *step);
            let prepared = prepared.ok_or_else(|| format!("`applied`: the step `{step}` is not sent at all"))?;
            applied.push((step.clone(), prepared.request_digest.clone()));
        }
    }
    inputs.applied = &applied;
    let is_search = record.is_none() && connector.manifest.record.required && destination.looks_up();
    let mut run = if is_search { Run::search(&destination, inputs) } else { Run::new(&destination, inputs) };
    run.resume(&Progress { in_flight: case.in_flight.clone(), ..Progress::default() }, now);
    Ok(converse(run, &case.replies, schemas, now))
}

/// Plays the scripted replies against the run.
fn converse(mut run: Run<'_>, replies: &[Reply], schemas: &Schemas, now: Timestamp) -> Played {
    let mut replies = replies.iter();
    let mut requests = Vec::new();
    let mut problems = Vec::new();
    loop {
        match run.next() {
            Next::Finished(report) => {
                let unused = replies.len();
                if unused > 0 {
                    problems.push(format!("{unused} of the replies were not asked for"));
                }
                let actual = json!({ "requests": requests, "outcome": outcome(&report) });
                let captures = (report.class == Class::Ok).then_some(report.captures);
                return Played { actual, problems, captures };
            }
            Next::Send(prepared) => {
                requests.push(request_as_json(&prepared.step, &prepared.request));
                let body = prepared.request.body.as_ref().map(|body| &body.bytes[..]);
                problems.extend(schemas.check(&prepared.step, body));
                match replies.next() {
                    None => {
                        let step = &prepared.step;
                        problems.push(format!("there is no reply for request {} (`{step}`)", requests.len()));
                        let outcome = json!({ "class": "retry", "reason": "interrupted" });
                        let actual = json!({ "requests": requests, "outcome": outcome });
                        return Played { actual, problems, captures: None };
                    }
                    Some(Reply::Fail { fail }) => {
                        let verdict = Verdict::new(Class::Retry, *fail, "no answer");
                        let unsure = matches!(fail, Reason::Timeout | Reason::ConnectionLost);
                        run.failed(if unsure { verdict.uncertain() } else { verdict });
                    }
                    Some(Reply::Answer { status, headers, body }) => {
                        let body = with_marker(body, run.marker());
                        run.answer(&response(*status, headers, &body), now);
                    }
                }
            }
        }
    }
}

/// `«marker»` in a scripted reply stands for the marker of the case.
fn with_marker(body: &Value, marker: &str) -> Value {
    match body {
        Value::String(text) => text.replace("«marker»", marker).into(),
        Value::Array(list) => list.iter().map(|v| with_marker(v, marker)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), with_marker(v, marker))).collect(),
        other => other.clone(),
    }
}

fn document(connector: &Connector, case: &Case) -> Result<Map<String, Value>, String> {
    let mut document = match &case.session_file {
        None => Map::new(),
        Some(name) => {
            let own = connector.folder.file(&format!("golden/sessions/{name}"));
            let file = own.or_else(|| connector.shared.as_ref().and_then(|s| s.file(&format!("sessions/{name}"))));
            let file = file.ok_or_else(|| format!("there is no session `{name}`"))?;
            serde_json::from_str(&file.text).map_err(|e| format!("{}: {e}", file.name))?
        }
    };
    document.extend(case.session.clone());
    Ok(document)
}

/// The destination as the configuration would make it: the case's settings as a TOML file.
fn destination(connector: &Arc<Connector>, file: &SourceFile, case: &Case) -> Result<Destination, Diagnostics> {
    let mut values = case.settings.clone();
    if !case.fields.is_empty() {
        values.insert("fields".into(), Value::Object(case.fields.clone()));
    }
    if !case.values.is_empty() {
        values.insert("values".into(), Value::Object(case.values.clone()));
    }
    let text = toml::to_string(&values).unwrap_or_default();
    let shown = SourceFile::new(format!("{} (as TOML)", file.name), text);
    let parsed = settings::parse::<Anything>(&shown)?;
    Destination::new("golden", connector.clone(), case.transport, &parsed.value.0, &parsed.places, &[])
}

fn response(status: u16, headers: &BTreeMap<String, String>, body: &Value) -> Response {
    let (kind, bytes) = match body {
        Value::Null => (None, Vec::new()),
        Value::String(text) => (Some("text/html"), text.clone().into_bytes()),
        json => (Some("application/json"), json.to_string().into_bytes()),
    };
    let mut all: Vec<(String, String)> = headers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect();
    if let Some(kind) = kind.filter(|_| !headers.keys().any(|n| n.eq_ignore_ascii_case("content-type"))) {
        all.push(("content-type".into(), kind.into()));
    }
    Response { status, headers: all, body: bytes.into() }
}

fn request_as_json(step: &str, request: &Request) -> Value {
    let headers: Map<String, Value> = request.headers.iter().map(|(n, v)| (n.clone(), v.as_str().into())).collect();
    let mut out = Map::new();
    out.insert("step".into(), step.into());
    out.insert("method".into(), request.method.as_str().into());
    out.insert("url".into(), request.url.as_str().into());
    out.insert("headers".into(), headers.into());
    if !request.with_credentials {
        out.insert("credentials".into(), false.into());
    }
    if let Some(body) = &request.body {
        let text = String::from_utf8_lossy(&body.bytes);
        let json = body.content_type.contains("json").then(|| serde_json::from_str(&text).ok()).flatten();
        out.insert("body".into(), json.unwrap_or_else(|| text.as_ref().into()));
    }
    Value::Object(out)
}

fn outcome(report: &Report) -> Value {
    let mut out = Map::new();
    out.insert("class".into(), json!(report.class));
    out.insert("reason".into(), json!(report.reason));
    if !report.detail.is_empty() {
        out.insert("detail".into(), report.detail.as_str().into());
    }
    if report.uncertain {
        out.insert("uncertain".into(), true.into());
    }
    if let Some(wait) = report.retry_after {
        out.insert("retry_after".into(), wait.as_secs().into());
    }
    if report.scope != Verdict::new(report.class, report.reason, "").scope {
        out.insert("scope".into(), json!(report.scope));
    }
    if let Some(record) = &report.led_to {
        out.insert("led_to".into(), record.as_str().into());
    }
    if !report.candidates.is_empty() {
        out.insert("candidates".into(), json!(report.candidates));
    }
    let applied: Vec<&str> = report.applied.iter().map(|(step, _)| step.as_str()).collect();
    out.insert("applied".into(), json!(applied));
    Value::Object(out)
}

fn mail_as_json(mail: Result<OutgoingMail, Verdict>) -> Value {
    let mail = match mail {
        Ok(mail) => mail,
        Err(v) => return json!({ "outcome": { "class": v.class, "reason": v.reason, "detail": v.detail } }),
    };
    let mut headers: Map<String, Value> = Map::new();
    headers.insert("Message-ID".into(), mail.message_id.as_str().into());
    headers.extend(mail.content.headers.iter().map(|(n, v)| (n.clone(), v.as_str().into())));
    let mut out = json!({
        "envelope": { "from": mail.from, "to": mail.to },
        "headers": headers,
        "text": mail.content.text,
    });
    if let Some(map) = out.as_object_mut() {
        if let Some(html) = &mail.content.html {
            map.insert("html".into(), html.as_str().into());
        }
        if let Some((name, json)) = &mail.content.attachment {
            let content: Value = serde_json::from_str(json).unwrap_or_else(|_| json.as_str().into());
            map.insert("attachments".into(), json!([{ "name": name, "content": content }]));
        }
        if let Some(warning) = &mail.warning {
            map.insert("warning".into(), warning.as_str().into());
        }
    }
    json!({ "email": out })
}

/// What differs, as `path: expected …, got …`; a dozen at most.
fn differences(path: &str, expected: &Value, actual: &Value, out: &mut Vec<String>) {
    if expected == actual || out.len() >= 12 {
        return;
    }
    match (expected, actual) {
        (Value::Object(e), Value::Object(a)) => {
            for (key, value) in e {
                differences(&format!("{path}.{key}"), value, a.get(key).unwrap_or(&Value::Null), out);
            }
            for (key, value) in a.iter().filter(|(k, _)| !e.contains_key(*k)) {
                differences(&format!("{path}.{key}"), &Value::Null, value, out);
            }
        }
        (Value::Array(e), Value::Array(a)) => {
            for i in 0..e.len().max(a.len()) {
                let (e, a) = (e.get(i).unwrap_or(&Value::Null), a.get(i).unwrap_or(&Value::Null));
                differences(&format!("{path}[{i}]"), e, a, out);
            }
        }
        _ => {
            let short = |v: &Value| match v {
                Value::Null => "nothing".to_owned(),
                v => {
                    let text = v.to_string();
                    if text.chars().count() <= 300 { text } else { text.chars().take(300).chain(['…']).collect() }
                }
            };
            out.push(format!("{path}: expected {}, got {}", short(expected), short(actual)));
        }
    }
}

fn bless(text: &str, actual: Value) -> Option<String> {
    let mut case: Map<String, Value> = serde_json::from_str(text).ok()?;
    case.insert("expect".into(), actual);
    Some(format!("{}\n", serde_json::to_string_pretty(&case).ok()?))
}
