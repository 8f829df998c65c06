//! Session mails of all ordinary shapes, made for one session of one ticket: what a contact centre and the
//! people who forward its mail send.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// One session as it should end in the ticket.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The ticket's number.
    pub(crate) ticket: u64,
    /// The session's number.
    pub(crate) id: u64,
    /// Voice or chat.
    pub(crate) voice: bool,
    /// Its shape, from 0.
    pub(crate) shape: usize,
    /// True if there is a second version.
    pub(crate) twice: bool,
}

/// The shapes of mail.
pub(crate) const SHAPES: usize = 7;

impl Made {
    /// The document of a version: the second has the wrap-up.
    pub(crate) fn document(&self, version: u32) -> Value {
        let kind = if self.voice { "Voice Inbound (IVR)" } else { "Messaging Inbound (Web Chat)" };
        let (kind_key, duration_key) =
            if self.voice { ("call_type", "call_duration") } else { ("chat_type", "chat_duration") };
        let mut document = json!({
            "id": self.id, "lang": "en", kind_key: kind, "session_type": kind, "status": "finished",
            "created_at": "2026-02-17T10:02:11.000-06:00", "ends_at": "2026-02-17T10:11:05.000-06:00",
            "updated_at": if version == 1 { "2026-02-17T10:11:41.000-06:00" } else { "2026-02-17T10:26:41.000-06:00" },
            duration_key: 120 + 60 * (self.id % 7), "out_ticket_id": self.ticket.to_string(), "is_out_ticket_account": false,
            "rating": null, "feedback": null,
        });
        if version > 1 {
            document["rating"] = json!(1 + self.id % 4);
            document["dispositions"] = json!([{ "user_id": 44, "code": self.code(), "note": self.note() }]);
        }
        document
    }

    /// The disposition code of the second version.
    pub(crate) fn code(&self) -> String {
        format!("Resolved {}", self.id % 5)
    }

    /// Its note: what breaks careless templates.
    pub(crate) fn note(&self) -> String {
        format!("Said \"thanks\" to {{{{id}}}} & left; second line of {}", self.id)
    }

    /// What `HandleMinutes` must say: minutes, rounded up.
    pub(crate) fn minutes(&self) -> u64 {
        (120 + 60 * (self.id % 7)).div_ceil(60)
    }

    /// The mail of a version, CRLF line ends. `copy` makes another mail of the same content.
    pub(crate) fn mail(&self, version: u32, copy: u32) -> Vec<u8> {
        let document = self.document(version);
        let json = serde_json::to_string_pretty(&document).expect("JSON");
        let name = format!("metadata-{}.json", self.id);
        let body = match self.shape {
            0 => attachment(&name, "application/json", &json),
            1 => attachment(&format!("call-{}.txt", self.id), "application/octet-stream", &json),
            2 => format!(
                "Content-Type: text/plain; charset=utf-8\n\nSession metadata follows.\n\n{json}\n\n-- \nContact centre\n"
            ),
            3 => format!(
                "Content-Type: text/html; charset=utf-8\n\n<html><body><p>Metadata</p><pre>{}</pre></body></html>\n",
                escape(&json)
            ),
            4 => format!("Content-Type: text/plain; charset=utf-8\n\n{}", lines(&document)),
            5 => format!("Content-Type: text/html; charset=utf-8\n\n<table>{}</table>\n", rows(&document)),
            _ => forwarded(&attachment(&name, "application/json", &json)),
        };
        let mail = format!(
            "From: Contact centre <sessions@ccaip.example>\nTo: inbox@example.test\nSubject: Session {} ended\n\
             Message-ID: <{}-{version}-{copy}@ccaip.example>\nDate: Tue, 17 Feb 2026 16:12:00 +0000\nMIME-Version: 1.0\n{body}",
            self.id, self.id
        );
        mail.replace('\n', "\r\n").into_bytes()
    }
}

fn attachment(name: &str, content_type: &str, text: &str) -> String {
    let encoded = BASE64_STANDARD.encode(text);
    let lines: Vec<&str> = encoded.as_bytes().chunks(76).map(|l| std::str::from_utf8(l).expect("ASCII")).collect();
    format!(
        "Content-Type: multipart/mixed; boundary=\"b1\"\n\n--b1\nContent-Type: text/plain\n\nSee the attachment.\n\n--b1\n\
         Content-Type: {content_type}; name=\"{name}\"\nContent-Disposition: attachment; filename=\"{name}\"\n\
         Content-Transfer-Encoding: base64\n\n{}\n--b1--\n",
        lines.join("\n")
    )
}

fn forwarded(inner: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"f1\"\n\n--f1\nContent-Type: text/plain\n\nFyi.\n\n--f1\n\
         Content-Type: message/rfc822\n\nFrom: sessions@ccaip.example\nSubject: Session ended\n\
         Message-ID: <inner@ccaip.example>\nMIME-Version: 1.0\n{inner}\n--f1--\n"
    )
}

/// Labels of the vendor's page with their values.
fn labels(document: &Value) -> Vec<(&'static str, String)> {
    let text = |key: &str| document[key].as_str().map_or_else(|| document[key].to_string(), str::to_owned);
    let duration = if document["call_duration"].is_null() { "chat_duration" } else { "call_duration" };
    let mut all = vec![
        ("Session ID", text("id")),
        ("Session type", text("session_type")),
        ("Session status", text("status")),
        ("OutTicket ID", text("out_ticket_id")),
        ("Created", text("created_at")),
        ("Ended", text("ends_at")),
        ("Updated", text("updated_at")),
        ("Handle time", format!("{} seconds", document[duration])),
    ];
    if let Some(disposition) = document["dispositions"].get(0) {
        all.push(("CSAT Rating", text("rating")));
        let word = |key: &str| disposition[key].as_str().unwrap_or_default().to_owned();
        all.push(("Disposition Codes and Notes", format!("{}; {}", word("code"), word("note"))));
    }
    all
}

fn lines(document: &Value) -> String {
    labels(document).into_iter().fold(String::new(), |mut out, (label, value)| {
        let _ = writeln!(out, "{label}: {value}");
        out
    })
}

fn rows(document: &Value) -> String {
    labels(document).into_iter().fold(String::new(), |mut out, (label, value)| {
        let _ = write!(out, "<tr><td>{label}</td><td>{}</td></tr>\n", escape(&value));
        out
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
