//! The sandbox's web page: the records and what each one holds, as plain HTML without scripts.
//!
//! Every value comes from a stranger's mail, so every value is escaped, the content security policy allows
//! nothing but the page's own style sheet, and attachments are only ever downloaded.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::store::{Attachment, Counts, Entry, Note, Ticket};
use super::{App, rest};

/// Records on one page.
const ROWS: usize = 200;
/// Fields named in a row of the list.
const FIELDS: usize = 4;
/// Effects on the page of one record.
const EFFECTS: usize = 500;
const STYLE: &str = include_str!("page.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

pub(crate) fn routes(app: &App) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/tickets/{id}", get(ticket))
        .route("/attachments/{id}", get(attachment))
        .fallback(nowhere)
        .with_state(app.clone())
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

async fn index(State(app): State<App>, Query(Search { q }): Query<Search>) -> Response {
    let q = q.trim();
    let all = app.store.tickets();
    let wanted = q.to_ascii_lowercase();
    let found = || all.iter().rev().filter(|ticket| ticket.id.to_ascii_lowercase().contains(&wanted));
    // Touched ones with the newest first, then the others in their own order.
    let (touched, rest): (Vec<&Arc<Ticket>>, Vec<_>) = found().partition(|ticket| ticket.seq > 0);
    let tickets: Vec<_> = touched.into_iter().chain(rest.into_iter().rev()).collect();
    page(StatusCode::OK, &list(&tickets, app.store.counts(), q))
}

async fn ticket(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.store.ticket(&id) {
        Some(ticket) => page(StatusCode::OK, &record(&ticket, &app.store.journal(0, usize::MAX, Some(&id)))),
        None => nowhere().await,
    }
}

async fn attachment(State(app): State<App>, Path(id): Path<String>) -> Response {
    rest::download(&app, &id)
}

async fn nowhere() -> Response {
    let mut html = head("Not found", "", false);
    html.push_str("<h1>Not found</h1><p class=soft>There is nothing here. <a href=\"/\">All records</a></p></main>");
    page(StatusCode::NOT_FOUND, &html)
}

fn page(status: StatusCode, html: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, html.to_owned()).into_response()
}

/// Text as HTML shows it, in content and in quoted attributes.
struct Text<'a>(&'a str);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Characters that turn the text around them show as what they are.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Appends to a text, which can't fail.
macro_rules! put {
    ($html:expr, $($piece:tt)*) => {{ let _never = write!($html, $($piece)*); }};
}

fn head(title: &str, q: &str, refresh: bool) -> String {
    let refresh = if refresh { "<meta http-equiv=\"refresh\" content=\"5\">" } else { "" };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">{refresh}<title>{title} · Sandbox CRM</title>\
         <style>{STYLE}</style></head><body><header><div><strong><a href=\"/\">Sandbox CRM</a></strong>\
         <span>in memory, gone when it stops</span><form action=\"/\"><input name=\"q\" value=\"{q}\" \
         placeholder=\"Record\" aria-label=\"Record\"><button>Find</button></form></div></header><main>",
        title = Text(title),
        q = Text(q),
    )
}

fn list(tickets: &[&Arc<Ticket>], counts: Counts, q: &str) -> String {
    // What is being searched stands still; the overview keeps up with the work.
    let mut html = head("Records", q, q.is_empty());
    let Counts { tickets: records, notes, attachments, effects } = counts;
    html.push_str("<div class=sums>");
    for (number, word) in [
        (records as u64, "records"),
        (notes, "notes"),
        (attachments as u64, "attachments"),
        (effects as u64, "effects"),
    ] {
        put!(html, "<div><b>{number}</b>{word}</div>");
    }
    html.push_str("</div><div class=card>");
    if tickets.is_empty() {
        html.push_str("<div class=none>No records. They show here when they are first asked for.</div></div></main>");
        return html;
    }
    html.push_str(
        "<table><thead><tr><th>Record</th><th>Status</th><th>Fields</th><th class=n>Notes</th>\
         <th class=n>Attachments</th><th class=n>Version</th><th>Changed</th></tr></thead><tbody>",
    );
    for ticket in tickets.iter().take(ROWS) {
        put!(
            html,
            "<tr><td class=id><a href=\"/tickets/{0}\">{0}</a></td><td>{1}</td><td class=small>",
            Text(&ticket.id),
            pill(ticket)
        );
        fields_in_short(&mut html, ticket);
        put!(
            html,
            "</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td class=time>{}</td></tr>",
            ticket.notes.len(),
            ticket.attachments.len(),
            ticket.version,
            ticket.changed_at.map(time).unwrap_or_else(|| "never".to_owned()),
        );
    }
    html.push_str("</tbody></table></div>");
    if tickets.len() > ROWS {
        put!(html, "<p class=more>The {ROWS} last changed of {}. Find others by their id.</p>", tickets.len());
    }
    html.push_str("</main>");
    html
}

fn fields_in_short(html: &mut String, ticket: &Ticket) {
    for (i, (name, value)) in ticket.fields.iter().take(FIELDS).enumerate() {
        let gap = if i > 0 { " · " } else { "" };
        let short: String = plain(value).chars().take(40).collect();
        put!(html, "{gap}<span class=soft>{}</span> {}", Text(name), Text(&short));
    }
    if let Some(more) = ticket.fields.len().checked_sub(FIELDS).filter(|more| *more > 0) {
        put!(html, " <span class=soft>and {more} more</span>");
    }
}

fn record(ticket: &Ticket, effects: &[Entry]) -> String {
    let mut html = head(&ticket.id, "", false);
    put!(html, "<h1>{} {}</h1><div class=soft>version {}", Text(&ticket.id), pill(ticket), ticket.version);
    if let Some(at) = ticket.changed_at {
        put!(html, ", changed {}", time(at));
    }
    if let Some(into) = &ticket.merged_into {
        put!(html, ", merged into <a href=\"/tickets/{0}\">{0}</a>", Text(into));
    }
    html.push_str("</div>");
    if !ticket.tags.is_empty() {
        html.push_str("<p>");
        for tag in &ticket.tags {
            put!(html, "<span class=tag>{}</span>", Text(tag));
        }
        html.push_str("</p>");
    }
    fields(&mut html, ticket);
    heading(&mut html, "Notes", ticket.notes.len());
    for note in ticket.notes.iter().rev() {
        self::note(&mut html, note, &ticket.attachments);
    }
    if ticket.notes.is_empty() {
        html.push_str("<div class=\"card none\">No notes.</div>");
    }
    attachments(&mut html, &ticket.attachments);
    history(&mut html, effects);
    html.push_str("</main>");
    html
}

fn heading(html: &mut String, title: &str, count: usize) {
    put!(html, "<h2>{title} <small>{count}</small></h2>");
}

fn fields(html: &mut String, ticket: &Ticket) {
    heading(html, "Fields", ticket.fields.len());
    html.push_str("<div class=card>");
    if ticket.fields.is_empty() {
        html.push_str("<div class=none>No fields set.</div>");
    } else {
        html.push_str("<table><tbody>");
        for (name, value) in &ticket.fields {
            let class = if value.is_string() { "" } else { " class=mono" };
            put!(html, "<tr><th>{}</th><td{class}>{}</td></tr>", Text(name), Text(&plain(value)));
        }
        html.push_str("</tbody></table>");
    }
    html.push_str("</div>");
}

fn note(html: &mut String, note: &Note, files: &[Attachment]) {
    put!(html, "<article class=note><header><b>#{}</b><span>{}</span>", note.id, time(note.at));
    put!(html, "<span>by {}</span>", note.via.as_str());
    if let Some(marker) = &note.marker {
        put!(html, "<code>{}</code>", Text(marker));
    }
    put!(html, "</header><pre>{}</pre>", Text(&note.text));
    let own: Vec<_> = files.iter().filter(|file| note.attachments.contains(&file.id)).collect();
    if !own.is_empty() {
        html.push_str("<footer>");
        for file in own {
            put!(html, "<span class=tag><a href=\"/attachments/{}\">{}</a></span>", file.id, Text(&file.name));
        }
        html.push_str("</footer>");
    }
    html.push_str("</article>");
}

fn attachments(html: &mut String, files: &[Attachment]) {
    heading(html, "Attachments", files.len());
    html.push_str("<div class=card>");
    if files.is_empty() {
        html.push_str("<div class=none>No attachments.</div></div>");
        return;
    }
    html.push_str(
        "<table><thead><tr><th>Name</th><th>Type</th><th class=n>Size</th><th>SHA-256</th></tr></thead><tbody>",
    );
    for file in files.iter().rev() {
        put!(
            html,
            "<tr><td><a href=\"/attachments/{}\">{}</a></td><td class=soft>{}</td><td class=n>{}</td>\
             <td class=\"mono soft\">{}…</td></tr>",
            file.id,
            Text(&file.name),
            Text(&file.content_type),
            size(file.size),
            file.sha256.get(..16).unwrap_or(&file.sha256),
        );
    }
    html.push_str("</tbody></table></div>");
}

fn history(html: &mut String, effects: &[Entry]) {
    heading(html, "History", effects.len());
    html.push_str("<div class=card>");
    if effects.is_empty() {
        html.push_str("<div class=none>Nothing has happened to this record.</div></div>");
        return;
    }
    html.push_str(
        "<table><thead><tr><th class=n>No.</th><th>When</th><th>What</th><th>By</th><th class=n>Version</th>\
         <th>Marker</th></tr></thead><tbody>",
    );
    for entry in effects.iter().rev().take(EFFECTS) {
        let what = match entry.item {
            Some(item) => format!("{} #{item}", entry.kind),
            None => entry.changed.join(", "),
        };
        put!(
            html,
            "<tr><td class=n>{}</td><td class=time>{}</td><td>{}</td><td>{}</td><td class=n>{}</td>\
             <td class=\"mono soft\">{}</td></tr>",
            entry.seq,
            time(entry.at),
            Text(&what),
            entry.via.as_str(),
            entry.version,
            Text(entry.marker.as_deref().unwrap_or_default()),
        );
    }
    html.push_str("</tbody></table></div>");
}

fn pill(ticket: &Ticket) -> String {
    if ticket.merged_into.is_some() {
        return "<span class=\"pill merged\">merged</span>".to_owned();
    }
    let class = match ticket.status.as_str() {
        "open" => " open",
        "closed" | "solved" | "resolved" => " closed",
        _ => "",
    };
    format!("<span class=\"pill{class}\">{}</span>", Text(&ticket.status))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::records::Records;
    use super::super::store::{Store, Via};
    use super::super::update::Update;
    use super::*;

    #[test]
    fn nothing_that_a_stranger_wrote_becomes_markup() {
        let evil = "<script>alert('1')</script>\"\u{202e}";
        let store = Store::new(Records::any(""));
        let body = json!({"fields": {evil: evil}, "status": evil, "tags": [evil], "note": {"text": evil, "marker": evil},
            "attachment": {"name": evil, "content_type": evil, "data": ""}});
        let update = Update::read(body.to_string().as_bytes()).expect("an update");
        store.update("C-1", update, Via::Rest, Timestamp::UNIX_EPOCH).expect("applied");
        let ticket = store.ticket("C-1").expect("a ticket");
        let journal = store.journal(0, 100, None);
        for html in [record(&ticket, &journal), list(&[&ticket], store.counts(), evil)] {
            assert!(!html.contains("<script") && !html.contains('\u{202e}') && !html.contains("alert('"));
            assert!(html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;\u{fffd}"));
        }
    }
}
