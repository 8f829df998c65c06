//! What a good answer says beyond its status: a 2xx is not success. RT answers 200 with "Permission Denied"
//! in the list of messages, and drops an unknown custom field without a word.
//!
//! The expected values are templates over the same data as the request; what the answer says is data.

use regex::Regex;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::reply::{Answer, Statuses};
use crate::outcome::{Class, Reason, Verdict};
use crate::record::{Context, Inline, RenderFault};

/// A compiled `expect`.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Empty: every 2xx.
    pub(crate) status: Statuses,
    pub(crate) status_setting: Option<String>,
    pub(crate) json: Vec<Assertion>,
    pub(crate) fields: Option<FieldsStored>,
    pub(crate) otherwise: Option<Judgement>,
}

/// What a failed assertion means.
#[derive(Debug, Clone)]
pub(crate) struct Judgement {
    pub(crate) class: Class,
    pub(crate) reason: Reason,
    pub(crate) note: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Assertion {
    pub(crate) shown: String,
    pub(crate) path: JsonPath,
    pub(crate) test: Test,
    pub(crate) otherwise: Option<Judgement>,
}

#[derive(Debug)]
pub(crate) enum Test {
    Present(bool),
    Equals(Box<Inline>),
    Begins(Box<Inline>),
    SomeMatch(Regex),
    NoneMatch(Regex),
}

#[derive(Debug)]
pub(crate) struct FieldsStored {
    pub(crate) items: JsonPath,
    pub(crate) names: JsonPath,
    pub(crate) values: JsonPath,
}

impl Expected {
    /// True if it says something of the body.
    pub(crate) fn reads_body(&self) -> bool {
        !self.json.is_empty() || self.fields.is_some()
    }

    /// The verdict of the first assertion that fails.
    pub(crate) fn check(&self, answer: &Answer<'_>, context: &Context) -> Result<Option<Verdict>, RenderFault> {
        if !self.reads_body() {
            return Ok(None);
        }
        let Some(body) = answer.json() else { return Ok(Some(not_the_interface(answer))) };
        let mut worst: Option<Verdict> = None;
        for assertion in &self.json {
            if assertion.holds(body, context)? {
                continue;
            }
            let judgement = assertion.otherwise.as_ref().or(self.otherwise.as_ref());
            let verdict = verdict(judgement, || format!("the answer's {} is not as expected", assertion.shown));
            if worst.as_ref().is_none_or(|w| w.class == Class::Partial && verdict.class != Class::Partial) {
                worst = Some(verdict);
            }
        }
        if worst.is_none()
            && let Some(fields) = &self.fields
        {
            let missing = fields.missing(body, context);
            if !missing.is_empty() {
                let said = format!("the CRM did not store: {}", missing.join(", "));
                worst = Some(match &self.otherwise {
                    Some(j) => {
                        let note = j.note.as_deref().map_or(String::new(), |n| format!(" ({n})"));
                        Verdict::new(j.class, j.reason, format!("{said}{note}"))
                    }
                    None => Verdict::new(Class::Partial, Reason::UnknownField, said),
                });
            }
        }
        Ok(worst)
    }
}

fn verdict(judgement: Option<&Judgement>, said: impl Fn() -> String) -> Verdict {
    match judgement {
        Some(j) => Verdict::new(j.class, j.reason, j.note.clone().unwrap_or_else(said)),
        None => Verdict::new(Class::Partial, Reason::Partial, said()),
    }
}

/// An answer without JSON where the CRM answers in JSON: a login page, a proxy, a wrong path.
pub(crate) fn not_the_interface(answer: &Answer<'_>) -> Verdict {
    let kind = answer.response.header("content-type").unwrap_or("no content type");
    let kind: String = kind.chars().filter(|c| !c.is_control()).take(80).collect();
    Verdict::new(
        Class::Pause,
        Reason::BadBaseUrl,
        format!("HTTP status {}, but the body is no JSON ({kind}): check `base_url`", answer.response.status),
    )
}

impl Assertion {
    /// Whether it holds of a body.
    pub(crate) fn holds(&self, body: &Value, context: &Context) -> Result<bool, RenderFault> {
        self.test.holds(&self.path, body, context)
    }
}

impl Test {
    fn holds(&self, path: &JsonPath, body: &Value, context: &Context) -> Result<bool, RenderFault> {
        let mut selected = path.query(body).into_iter();
        Ok(match self {
            Self::Present(wanted) => selected.any(|v| !v.is_null()) == *wanted,
            Self::Equals(template) => {
                let wanted = template.text(context)?;
                selected.any(|v| text_of(v) == wanted)
            }
            Self::Begins(template) => {
                let wanted = template.text(context)?;
                !wanted.is_empty() && selected.any(|v| text_of(v).starts_with(&wanted))
            }
            Self::SomeMatch(regex) => selected.any(|v| regex.is_match(&text_of(v))),
            Self::NoneMatch(regex) => !selected.any(|v| regex.is_match(&text_of(v))),
        })
    }
}

impl FieldsStored {
    /// Whether the answer lists this field, and its values.
    pub(crate) fn find(&self, body: &Value, name: &str) -> (bool, Vec<Value>) {
        let is_it = |item: &&Value| self.names.query(item).into_iter().any(|n| text_of(n).eq_ignore_ascii_case(name));
        match self.items.query(body).into_iter().find(is_it) {
            Some(item) => (true, self.values.query(item).into_iter().cloned().collect()),
            None => (false, Vec::new()),
        }
    }

    /// The CRM's names of mapped fields that the answer does not know, or knows without a value.
    fn missing(&self, body: &Value, context: &Context) -> Vec<String> {
        let mapped = context.data().get("fields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut missing = Vec::new();
        for name in mapped.iter().filter_map(|f| f.get("field")).map(text_of) {
            let stored = self.find(body, &name).1.iter().any(|v| !text_of(v).trim().is_empty());
            if !stored {
                missing.push(format!("`{name}`"));
            }
        }
        missing
    }
}

/// A value as text: strings as they are, nothing for null, JSON for the rest.
pub(crate) fn text_of(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        Value::Null => "".into(),
        other => other.to_string().into(),
    }
}
