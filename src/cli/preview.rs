//! What would be sent, printed: the exact requests, the exact mail, the exact file.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Result;
use super::output::harmless;
use crate::config::Config;
use crate::connector::Inputs;
use crate::dispatch::{self, Preview};
use crate::ledger::{Ledger, Leg};
use crate::message::lossy;
use crate::outcome::Verdict;
use crate::session::evidence::Found;
use crate::session::version::text_of;

/// The ledger that previews look into for what is known; none is made.
pub(super) fn ledger(config: &Config) -> Result<Option<Ledger>> {
    if config.ledger.may_exist() { super::open_ledger(&config.ledger).map(Some) } else { Ok(None) }
}

/// The number that the version of a found session has, or would get, in a ledger; 1 where there is none.
pub(super) async fn number_of(ledger: Option<&Ledger>, found: &Found) -> Result<u32> {
    let Some(ledger) = ledger else { return Ok(1) };
    let Some(story) = ledger.session_story(&found.session.session_key()).await? else { return Ok(1) };
    let known =
        story.versions.iter().rev().find(|version| version.digest == found.digest).map(|version| version.number);
    let last = story.versions.last().map_or(0, |version| version.number);
    Ok(known.unwrap_or(last + 1))
}

/// Prints what one found session would send to one destination, as this version of it.
pub(super) fn print(
    out: &mut impl Write,
    as_json: bool,
    config: &Config,
    input: &str,
    (found, version): (&Found, u32),
    leg: &Leg,
    now: Timestamp,
) -> Result {
    let Some(destination) = config.destinations.iter().find(|d| d.name == leg.destination) else { return Ok(()) };
    // As the ledger keeps it, and so as it is sent.
    let document = text_of(&found.document);
    let inputs = Inputs {
        session: &found.session,
        document: &document,
        version,
        digest: &found.digest,
        record: leg.record.as_deref(),
        uncertain: false,
        applied: &[],
        marked: &[],
    };
    let preview = match (&leg.refused, &leg.record) {
        (Some((reason, detail)), _) => Err((*reason, detail.clone())),
        (None, None) => {
            Err((crate::outcome::Reason::NoRecordId, "parked until a later version brings the OutTicket ID".to_owned()))
        }
        (None, Some(_)) => dispatch::show(&destination.way.shown(), &leg.destination, inputs, now)
            .map_err(|v: Verdict| (v.reason, v.detail)),
    };
    let key = found.session.session_key();
    if as_json {
        let what = match &preview {
            Ok(preview) => of_preview(preview),
            Err((reason, detail)) => json!({ "refused": { "reason": reason, "detail": detail } }),
        };
        let mut line =
            json!({ "input": input, "session": key.to_string(), "destination": leg.destination, "record": leg.record });
        if let (Some(line), Value::Object(what)) = (line.as_object_mut(), what) {
            line.extend(what);
        }
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        return Ok(out.write_all(b"\n")?);
    }
    writeln!(out, "── {key} → {} ({}), from {input}", leg.destination, leg.record.as_deref().unwrap_or("no record"))?;
    match preview {
        Ok(preview) => write_text(out, &preview),
        Err((reason, detail)) => Ok(writeln!(out, "nothing is sent: {detail} ({reason})\n")?),
    }
}

/// What would be sent, for people.
pub(super) fn write_text(out: &mut impl Write, preview: &Preview) -> Result {
    match preview {
        Preview::Requests(requests) if requests.is_empty() => writeln!(out, "nothing to send")?,
        Preview::Requests(requests) => {
            for prepared in requests {
                let request = &prepared.request;
                writeln!(out, "# step {}\n{} {}", prepared.step, request.method, request.url)?;
                for (name, value) in &request.headers {
                    writeln!(out, "{name}: {value}")?;
                }
                if request.with_credentials {
                    writeln!(out, "(and the destination's credentials)")?;
                }
                if let Some(body) = &request.body {
                    writeln!(out, "Content-Type: {}\n", body.content_type)?;
                    out.write_all(harmless(&lossy(&body.bytes)).as_bytes())?;
                    writeln!(out)?;
                }
                writeln!(out)?;
            }
        }
        Preview::Mail(mail) => {
            writeln!(out, "MAIL FROM:<{}>", mail.from)?;
            for to in &mail.to {
                writeln!(out, "RCPT TO:<{to}>")?;
            }
            writeln!(out, "\n{}", harmless(&lossy(&mail.bytes).replace('\r', "")))?;
        }
        Preview::File(path, text) => writeln!(out, "file {}\n\n{}\n", path.display(), harmless(text))?,
    }
    Ok(())
}

/// What would be sent, as JSON.
pub(super) fn of_preview(preview: &Preview) -> Value {
    match preview {
        Preview::Requests(requests) => {
            let requests: Vec<Value> = requests
                .iter()
                .map(|p| {
                    let body = p.request.body.as_ref().map(|b| match serde_json::from_slice::<Value>(&b.bytes) {
                        Ok(json) => json,
                        Err(_) => lossy(&b.bytes).into(),
                    });
                    let content_type = p.request.body.as_ref().map(|b| b.content_type.as_str());
                    let headers: Vec<Value> = p.request.headers.iter().map(|(n, v)| json!([n, v])).collect();
                    json!({ "step": p.step, "method": p.request.method, "url": p.request.url, "headers": headers, "content_type": content_type, "body": body })
                })
                .collect();
            json!({ "requests": requests })
        }
        Preview::Mail(mail) => {
            json!({ "mail": { "from": mail.from, "to": mail.to, "message_id": mail.message_id, "raw": lossy(&mail.bytes) } })
        }
        Preview::File(path, text) => json!({ "file": { "path": path, "content": text } }),
    }
}
