//! What exists for templates, known before any session is: the ground on which `lint` checks every path.
//!
//! Made from the JSON Schema of `Session` and from what a connector declares. A shape never says whether a
//! value is there, only whether it could be.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::context::session_schema;

/// What a declared setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string, an address, one word of a set.
    Text,
    /// An integer or a decimal number.
    Number,
    /// True or false.
    Bool,
    /// A list of scalars.
    List,
    /// Names and values of the operator's choice.
    Map,
    /// Anything.
    Any,
}

/// The form of one value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Not known: every path below it is allowed.
    Any,
    /// A string.
    Text,
    /// A moment, as an RFC 3339 string.
    Time,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A list of values of one form.
    List(Arc<Form>),
    /// Exactly these members.
    Object(Arc<BTreeMap<String, Form>>),
    /// Members of any name, of one form.
    Map(Arc<Form>),
}

impl Form {
    /// True for what can be printed as text.
    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Form::List(_) | Form::Object(_) | Form::Map(_))
    }

    /// In words, for messages.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Form::Any => "a value",
            Form::Text => "a text",
            Form::Time => "a time",
            Form::Number => "a number",
            Form::Bool => "true or false",
            Form::List(_) => "a list",
            Form::Object(_) | Form::Map(_) => "an object",
        }
    }

    /// An object with these members.
    pub(super) fn object(members: impl IntoIterator<Item = (&'static str, Form)>) -> Form {
        Form::Object(Arc::new(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
    }

    /// A list of this.
    pub(super) fn list(item: Form) -> Form {
        Form::List(Arc::new(item))
    }
}

/// What exists for the templates of one connector.
#[derive(Debug, Clone)]
pub struct Shape {
    root: Arc<BTreeMap<String, Form>>,
}

static SESSION: LazyLock<Shape> = LazyLock::new(|| {
    let schema = session_schema();
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    let mut root = match form_of(&schema, definitions, 0) {
        Form::Object(members) => Arc::unwrap_or_clone(members),
        _ => BTreeMap::new(),
    };
    if let Some(Form::List(item)) = root.get("dispositions").cloned() {
        root.insert("disposition".into(), Arc::unwrap_or_clone(item));
    }
    let field = Form::object([("name", Form::Text), ("field", Form::Any), ("value", Form::Any)]);
    let metadata = Form::object([("name", Form::Text), ("json", Form::Text), ("size", Form::Number)]);
    root.extend([
        ("settings".to_owned(), Form::object([("time_zone", Form::Text)])),
        ("fields".to_owned(), Form::list(field)),
        ("steps".to_owned(), Form::object([])),
        ("marker".to_owned(), Form::Text),
        ("version".to_owned(), Form::Number),
        ("metadata".to_owned(), metadata),
        ("destination".to_owned(), Form::Text),
    ]);
    Shape { root: Arc::new(root) }
});

impl Shape {
    /// The session and what every delivery has; of settings only `time_zone`, which every destination can
    /// have, and no captures yet.
    pub fn for_session() -> Self {
        SESSION.clone()
    }

    /// The same with these settings (secret ones are never given).
    #[must_use]
    pub fn with_settings(self, settings: &[(&str, Kind)]) -> Self {
        let members = settings.iter().map(|(name, kind)| {
            let form = match kind {
                Kind::Text => Form::Text,
                Kind::Number => Form::Number,
                Kind::Bool => Form::Bool,
                Kind::List => Form::list(Form::Any),
                Kind::Map => Form::Map(Arc::new(Form::Any)),
                Kind::Any => Form::Any,
            };
            ((*name).to_owned(), form)
        });
        self.with_member("settings", members)
    }

    /// The same with the captures of these steps, as `steps.<step>.<capture>`.
    #[must_use]
    pub fn with_steps(self, steps: &[(&str, &[&str])]) -> Self {
        let members = steps.iter().map(|(step, captures)| {
            let captures = captures.iter().map(|c| ((*c).to_owned(), Form::Any)).collect();
            ((*step).to_owned(), Form::Object(Arc::new(captures)))
        });
        self.with_member("steps", members)
    }

    /// The same with the `item` of a list that a step is sent for.
    #[must_use]
    pub fn with_item(mut self) -> Self {
        Arc::make_mut(&mut self.root).insert("item".to_owned(), Form::Any);
        self
    }

    fn with_member(mut self, name: &str, members: impl Iterator<Item = (String, Form)>) -> Self {
        let root = Arc::make_mut(&mut self.root);
        if let Some(Form::Object(object)) = root.get_mut(name) {
            Arc::make_mut(object).extend(members);
        }
        self
    }

    pub(super) fn root(&self) -> Form {
        Form::Object(self.root.clone())
    }

    pub(super) fn members(&self) -> &BTreeMap<String, Form> {
        &self.root
    }
}

/// Deeper than any type of ours; a schema that refers to itself ends here.
const DEPTH: usize = 16;

fn form_of(schema: &Value, definitions: &Map<String, Value>, depth: usize) -> Form {
    let Some(schema) = schema.as_object().filter(|_| depth < DEPTH) else { return Form::Any };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
        return definitions.get(name).map_or(Form::Any, |s| form_of(s, definitions, depth + 1));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(ways) = schema.get(key).and_then(Value::as_array) {
            let mut forms = ways.iter().filter(|w| w.get("type") != Some(&"null".into()));
            let first = forms.next().map_or(Form::Any, |w| form_of(w, definitions, depth + 1));
            return if forms.all(|w| form_of(w, definitions, depth + 1) == first) { first } else { Form::Any };
        }
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|k| *k != "null").unwrap_or(""),
        _ => "",
    };
    match kind {
        "string" if schema.get("format") == Some(&"date-time".into()) => Form::Time,
        "string" => Form::Text,
        "integer" | "number" => Form::Number,
        "boolean" => Form::Bool,
        "array" => Form::list(schema.get("items").map_or(Form::Any, |s| form_of(s, definitions, depth + 1))),
        "object" => match schema.get("properties").and_then(Value::as_object) {
            Some(members) => Form::Object(Arc::new(
                members.iter().map(|(k, s)| (k.clone(), form_of(s, definitions, depth + 1))).collect(),
            )),
            None => Form::Map(Arc::new(Form::Any)),
        },
        _ => Form::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_follows_from_the_types_of_the_session() {
        let shape = Shape::for_session();
        let of = |name: &str| shape.members().get(name).cloned();
        assert_eq!(of("channel"), Some(Form::Text));
        assert_eq!(of("ends_at"), Some(Form::Time));
        assert_eq!(of("rating"), Some(Form::Number));
        assert_eq!(of("verified"), Some(Form::Bool));
        assert_eq!(of("raw"), Some(Form::Map(Arc::new(Form::Any))));
        let Some(Form::List(item)) = of("dispositions") else { panic!("a list") };
        assert!(matches!(&*item, Form::Object(m) if m.get("note") == Some(&Form::Text)), "{item:?}");
        assert_eq!(of("disposition").as_ref(), Some(&*item));
        assert!(matches!(of("agent"), Some(Form::Object(_))));
    }

    #[test]
    fn settings_and_captures_are_what_is_declared() {
        let shape = Shape::for_session()
            .with_settings(&[("tags", Kind::List), ("status", Kind::Text)])
            .with_steps(&[("ticket", &["etag"])]);
        let Some(Form::Object(steps)) = shape.members().get("steps") else { panic!("steps") };
        assert!(matches!(steps.get("ticket"), Some(Form::Object(c)) if c.contains_key("etag")));
        let Some(Form::Object(settings)) = shape.members().get("settings") else { panic!("settings") };
        assert_eq!(settings.get("status"), Some(&Form::Text));
    }
}
