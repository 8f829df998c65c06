//! A step of a manifest, compiled: its templates, what it needs of other steps, what a good answer says.

use std::borrow::Cow;

use regex::Regex;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::assertion::Expected;
use super::manifest::{Artifact, Effect};
use super::page::Page;
use crate::record::{Context, Inline, RenderFault};

/// An inline template of the manifest, or a setting in which the operator wrote one.
#[derive(Debug)]
pub(crate) enum Slot {
    Inline(Box<Inline>),
    Setting(String),
}

/// Where a payload template comes from.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// A file of the folder.
    File(String),
    /// A setting of type `payload`.
    Setting(String),
}

#[derive(Debug)]
pub(crate) enum Body {
    Json { payload: Payload, content_type: String },
    Form { payload: Payload },
    Raw { file: Artifact, content_type: String },
    Multipart { parts: Vec<Part> },
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) content: PartContent,
    pub(crate) content_type: Option<String>,
    pub(crate) file_name: Option<Inline>,
}

#[derive(Debug)]
pub(crate) enum PartContent {
    Inline(Box<Inline>),
    Json(String),
    Text(String),
    File(Artifact),
    /// A map: a part for each member, its name in place of `*`.
    Members(Box<Inline>),
}

#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) path: Option<JsonPath>,
    /// In lower case.
    pub(crate) header: Option<String>,
    pub(crate) regex: Option<Regex>,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: JsonPath,
    pub(crate) contains: Option<Inline>,
    pub(crate) equals: Option<Inline>,
}

#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) base_url: Inline,
    pub(crate) allow: Regex,
}

/// One request of a connector.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) effect: Effect,
    pub(crate) when: Option<Inline>,
    /// Steps whose captures `when` uses.
    pub(crate) when_needs: Vec<usize>,
    pub(crate) method: Inline,
    pub(crate) path: Slot,
    pub(crate) query: Vec<(String, Inline)>,
    pub(crate) headers: Vec<(String, Slot)>,
    pub(crate) body: Option<Body>,
    /// Steps whose captures the request uses.
    pub(crate) needs: Vec<usize>,
    pub(crate) captures: Vec<Capture>,
    /// Seconds for which they are good.
    pub(crate) lifetime: Option<u32>,
    pub(crate) expect: Expected,
    pub(crate) marker_step: Option<usize>,
    pub(crate) found: Option<Found>,
    pub(crate) verifies: Option<usize>,
    /// Sent only where a policy names it.
    pub(crate) aside: bool,
    pub(crate) repeatable: Option<Inline>,
    pub(crate) required: bool,
    pub(crate) on_conflict: Option<(usize, u32)>,
    pub(crate) origin: Option<Origin>,
    pub(crate) page: Option<Page>,
    pub(crate) each: Option<Each>,
}

/// A step that is sent for each item of a list is compiled into one step for each, up to a number; this one is for the
/// item at `at`.
#[derive(Debug)]
pub(crate) struct Each {
    pub(crate) list: Inline,
    pub(crate) at: usize,
}

impl Step {
    /// The data that its templates see: with its `item`, if it has one. `None`: there is no such item, and so
    /// nothing to send.
    pub(crate) fn context<'c>(&self, context: &'c Context) -> Result<Option<Cow<'c, Context>>, RenderFault> {
        let Some(each) = &self.each else { return Ok(Some(Cow::Borrowed(context))) };
        let Value::Array(items) = each.list.value(context)? else { return Ok(None) };
        Ok(items.into_iter().nth(each.at).filter(|item| !item.is_null()).map(|item| {
            let mut own = context.clone();
            own.with_item(item);
            Cow::Owned(own)
        }))
    }

    /// True if it only reads, or leaves nothing that stays: sent when a later step needs its captures.
    pub(crate) fn on_demand(&self) -> bool {
        matches!(self.effect, Effect::Read | Effect::Orphanable) && self.verifies.is_none()
    }

    /// True if a good answer has a JSON body.
    pub(crate) fn reads_json(&self) -> bool {
        self.expect.reads_body()
            || self.found.is_some()
            || self.captures.iter().any(|c| c.path.is_some() && !c.optional)
    }

    /// What it does to the record, with this method and these settings.
    pub(crate) fn effect(&self, method: &str, context: &Context) -> Result<Effect, RenderFault> {
        let effect = match self.effect {
            Effect::ByMethod if matches!(method, "PUT" | "PATCH" | "DELETE") => Effect::Idempotent,
            Effect::ByMethod => Effect::Once,
            effect => effect,
        };
        match &self.repeatable {
            Some(template) if effect == Effect::Once && holds(template, context)? => Ok(Effect::Idempotent),
            _ => Ok(effect),
        }
    }
}

/// True unless the template comes out empty or `false`.
pub(crate) fn holds(template: &Inline, context: &Context) -> Result<bool, RenderFault> {
    Ok(match template.value(context)? {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !matches!(text.trim(), "" | "false"),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    })
}
