//! A step and the data of one delivery → one request, without credentials, and its digest.
//!
//! The same code makes what `render` shows and what is sent. A request that can't be made is a verdict on the
//! delivery; nothing is sent half.

use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::assertion::text_of;
use super::body::{self, Part};
use super::destination::Destination;
use super::http::{Body, Request};
use super::manifest::Artifact;
use super::step::{self, PartContent, Payload, Slot, Step};
use super::url;
use crate::digest::hex;
use crate::outcome::{Class, Reason, Verdict};
use crate::record::{Context, RenderFault};

/// Members of a map that become parts.
const MOST_FIELDS: usize = 200;

/// A fault of a template as a verdict: the delivery is dead until the template is mended.
pub(crate) fn template_failed(fault: RenderFault) -> Verdict {
    let hint = fault.hint.map(|h| format!(" ({h})")).unwrap_or_default();
    let detail = format!("{}:{}:{}: {}{hint}", fault.file, fault.line, fault.column, fault.message);
    Verdict::new(Class::Dead, Reason::TemplateFailed, detail)
}

fn refused(step: &Step, what: &str) -> Verdict {
    Verdict::new(Class::Dead, Reason::TemplateFailed, format!("step `{}`: {what}", step.id))
}

/// The request of a step; `None` if its payload comes out empty, so that there is nothing to say. `shown` for
/// a context in which captures are placeholders.
pub(crate) fn render(
    destination: &Destination,
    step: &Step,
    context: &Context,
    marker: &str,
    shown: bool,
) -> Result<Option<Request>, Verdict> {
    let Some(context) = step.context(context).map_err(template_failed)? else { return Ok(None) };
    let context = context.as_ref();
    let mut content_type = None;
    let body = match &step.body {
        None => None,
        Some(body) => match render_body(destination, step, body, context, marker, shown)? {
            Made::Empty => return Ok(None),
            Made::None => None,
            Made::Body(body) => {
                content_type = Some(body.content_type.clone());
                Some(body)
            }
        },
    };
    let method = step.method.text(context).map_err(template_failed)?.trim().to_ascii_uppercase();
    if !matches!(method.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE") {
        return Err(refused(step, "the method must be `GET`, `POST`, `PUT`, `PATCH` or `DELETE`"));
    }
    let base = match &step.origin {
        None => destination.base_url.clone(),
        Some(origin) => {
            let base = origin.base_url.text(context).map_err(template_failed)?;
            if !shown && !origin.allow.is_match(&base) {
                return Err(Verdict::new(
                    Class::Dead,
                    Reason::UnexpectedReply,
                    format!("step `{}`: its address is not one that `origin.allow` allows", step.id),
                ));
            }
            base
        }
    };
    let mut query = Vec::new();
    for (name, template) in &step.query {
        let value = template.text(context).map_err(template_failed)?;
        if !value.is_empty() {
            query.push((name.clone(), value));
        }
    }
    let path = slot(destination, &step.path, context)?;
    let Some(mut url) = url::join(&base, &path, &query) else {
        return Err(refused(step, "the path would leave the CRM's own address"));
    };
    if shown {
        url = url.replace("%C2%AB", "«").replace("%C2%BB", "»");
    }
    let headers = headers(destination, step, context, content_type)?;
    Ok(Some(Request { method, url, headers, body, with_credentials: step.origin.is_none() }))
}

fn slot(destination: &Destination, slot: &Slot, context: &Context) -> Result<String, Verdict> {
    match slot {
        Slot::Inline(template) => template.text(context).map_err(template_failed),
        Slot::Setting(name) => match destination.inline.get(name) {
            Some(template) => template.text(context).map_err(template_failed),
            None => Ok(String::new()),
        },
    }
}

fn headers(
    destination: &Destination,
    step: &Step,
    context: &Context,
    content_type: Option<String>,
) -> Result<Vec<(String, String)>, Verdict> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| {
        headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        if !value.trim().is_empty() {
            headers.push((name.to_owned(), value));
        }
    };
    let common = if step.origin.is_none() { destination.connector.headers.as_slice() } else { &[] };
    for (name, value) in common.iter().chain(&step.headers) {
        set(name, slot(destination, value, context)?);
    }
    if step.origin.is_none() {
        for (name, template) in &destination.extra_headers {
            set(name, template.text(context).map_err(template_failed)?);
        }
    }
    if let Some(content_type) = content_type {
        set("Content-Type", content_type);
    }
    if headers.iter().any(|(_, v)| v.chars().any(|c| c.is_control() && c != '\t')) {
        return Err(refused(step, "a header's value holds a control character"));
    }
    Ok(headers)
}

enum Made {
    /// A payload with nothing in it: the step is not sent.
    Empty,
    /// Sent without a body.
    None,
    Body(Body),
}

fn render_body(
    destination: &Destination,
    step: &Step,
    body: &step::Body,
    context: &Context,
    marker: &str,
    shown: bool,
) -> Result<Made, Verdict> {
    Ok(match body {
        step::Body::Json { payload, content_type } => match render_payload(destination, payload, context)? {
            None => Made::None,
            Some(value) if is_empty(&value) => Made::Empty,
            Some(value) => {
                let bytes = serde_json::to_vec(&value).map_err(|_| refused(step, "the payload is no JSON"))?;
                Made::Body(Body { content_type: content_type.clone(), bytes: bytes.into() })
            }
        },
        step::Body::Form { payload } => match render_payload(destination, payload, context)? {
            None => Made::None,
            Some(value) if is_empty(&value) => Made::Empty,
            Some(value) => match body::form(&value) {
                Some(body) => Made::Body(body),
                None => return Err(refused(step, "a form takes flat values only")),
            },
        },
        step::Body::Raw { file, content_type } => match artifact(*file, context) {
            None => Made::Empty,
            Some((_, bytes)) => Made::Body(Body { content_type: content_type.clone(), bytes }),
        },
        step::Body::Multipart { parts } => {
            let parts = render_parts(destination, step, parts, context, shown)?;
            if parts.is_empty() { Made::Empty } else { Made::Body(body::multipart(&parts, marker)) }
        }
    })
}

fn render_payload(destination: &Destination, payload: &Payload, context: &Context) -> Result<Option<Value>, Verdict> {
    match payload {
        Payload::File(name) => destination.connector.templates.payload(name, context).map(Some),
        Payload::Setting(name) => match destination.payloads.get(name) {
            Some((templates, file)) => templates.payload(file, context).map(Some),
            None => Ok(None),
        },
    }
    .map_err(template_failed)
}

/// `shown` for a context in which captures are placeholders.
fn render_parts(
    destination: &Destination,
    step: &Step,
    parts: &[step::Part],
    context: &Context,
    shown: bool,
) -> Result<Vec<Part>, Verdict> {
    let templates = &destination.connector.templates;
    let mut all = Vec::new();
    for part in parts {
        let mut file_name = part.file_name.as_ref().map(|t| t.text(context)).transpose().map_err(template_failed)?;
        file_name = file_name.filter(|name| !name.trim().is_empty());
        let mut content_type = part.content_type.clone();
        let bytes = match &part.content {
            PartContent::Inline(template) => template.text(context).map_err(template_failed)?.into_bytes(),
            PartContent::Text(name) => templates.text(name, context).map_err(template_failed)?.into_bytes(),
            PartContent::Json(name) => {
                let value = templates.payload(name, context).map_err(template_failed)?;
                if is_empty(&value) { Vec::new() } else { serde_json::to_vec(&value).unwrap_or_default() }
            }
            PartContent::File(which) => match artifact(*which, context) {
                Some((name, bytes)) => {
                    file_name.get_or_insert(name);
                    content_type.get_or_insert_with(|| "application/json".into());
                    bytes.to_vec()
                }
                None => Vec::new(),
            },
            PartContent::Members(map) => {
                let members = match map.value(context).map_err(template_failed)? {
                    Value::Object(members) => members,
                    Value::Null => Map::new(),
                    Value::String(text) if shown => Map::from_iter([(text.clone(), text.into())]),
                    _ => return Err(refused(step, "the `fields` of a part are no map")),
                };
                if members.len() > MOST_FIELDS {
                    return Err(refused(step, "the `fields` of a part are too many"));
                }
                for (name, value) in members {
                    let bytes = text_of(&value).into_owned().into_bytes();
                    let name = part.name.replacen('*', &name, 1);
                    all.push(Part { name, file_name: None, content_type: content_type.clone(), bytes });
                }
                continue;
            }
        };
        if !bytes.is_empty() {
            all.push(Part { name: part.name.clone(), file_name, content_type, bytes });
        }
    }
    Ok(all)
}

/// Name and bytes of a file of the session; nothing if it was left out for its size.
fn artifact(which: Artifact, context: &Context) -> Option<(String, Bytes)> {
    let Artifact::Metadata = which;
    let metadata = context.data().get("metadata")?;
    let text = metadata.get("json")?.as_str().filter(|t| !t.is_empty())?;
    Some((metadata.get("name")?.as_str()?.to_owned(), Bytes::copy_from_slice(text.as_bytes())))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// SHA-256 of a request, and of what it depends on, in lower-case hexadecimal.
pub(crate) fn digest(request: &Request, depends_on: &[String]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(request.method.as_bytes());
    part(request.url.as_bytes());
    for (name, value) in &request.headers {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(request.body.as_ref().map_or(&[][..], |b| &b.bytes));
    for digest in depends_on {
        part(digest.as_bytes());
    }
    hex(&hash.finalize())
}
