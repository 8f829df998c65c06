//! The record as it is now beside what a delivery would make of it, field by field: for `plan`. Pure: it makes the
//! request and reads the answer; it has no part in a delivery.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::assertion::{FieldsStored, not_the_interface, text_of};
use super::destination::{Destination, settings_only};
use super::http::Response;
use super::manifest::Transport;
use super::plan::{self, Inputs, Prepared};
use super::reply::{self, Answer};
use super::request::{self, template_failed};
use super::step;
use crate::outcome::{Class, Reason, Verdict};
use crate::record::Inline;

/// A compiled `[record.read]`.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) step: usize,
    pub(crate) place: Where,
    pub(crate) also: Vec<Also>,
}

/// Where the fields are in the answer.
#[derive(Debug)]
pub(crate) enum Where {
    /// One item of a list for each.
    Items(FieldsStored),
    /// Members of the object at the JSONPath that this gives.
    Members(Box<Inline>),
}

/// What is set besides the field map.
#[derive(Debug)]
pub(crate) struct Also {
    pub(crate) name: String,
    pub(crate) now: JsonPath,
    pub(crate) then: Inline,
}

/// One field of a record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldPlan {
    /// The CRM's name of it.
    pub field: String,
    /// What it is now; null if it is empty.
    pub current: Value,
    /// What it would be.
    pub new: Value,
    /// Whether that is something else.
    pub changes: bool,
    /// False if the answer lists the record's fields and this is not among them.
    pub known: bool,
}

impl Destination {
    /// The request that reads the record; `None` if the connector, the transport or the settings have none.
    pub fn read_record(&self, inputs: &Inputs<'_>) -> Result<Option<Prepared>, Verdict> {
        let Some((_, step)) = self.reading_step().filter(|_| self.transport == Transport::Rest) else {
            return Ok(None);
        };
        let prelude = plan::prepare(self, inputs)?;
        let wanted = step.when.as_ref().map_or(Ok(true), |w| step::holds(w, &prelude.context));
        if !wanted.map_err(template_failed)? {
            return Ok(None);
        }
        let request = request::render(self, step, &prelude.context, &prelude.marker, false)?;
        Ok(request.map(|request| {
            let request_digest = request::digest(&request, &[]);
            Prepared { step: step.id.clone(), effect: step.effect, request, request_digest }
        }))
    }

    /// The fields that the delivery would set, each with what the answer to `read_record` has there. The verdict says
    /// why the answer does not tell.
    pub fn compare(&self, response: &Response, inputs: &Inputs<'_>, now: Timestamp) -> Result<Vec<FieldPlan>, Verdict> {
        let Some((reading, step)) = self.reading_step() else { return Ok(Vec::new()) };
        let context = plan::prepare(self, inputs)?.context;
        let answer = Answer::new(response);
        let rows = &self.connector.replies;
        let verdict = reply::judge(rows, reading.step, step, &step.expect.status, &answer, &context, now);
        let verdict = verdict.map_err(template_failed)?;
        // The step may also verify a delivery, which was not made: what it misses is what is compared here.
        if !matches!(verdict.class, Class::Ok | Class::Partial) {
            return Err(verdict);
        }
        let Some(body) = answer.json() else { return Err(not_the_interface(&answer)) };
        let place = match &reading.place {
            Where::Items(fields) => Place::Items(fields),
            Where::Members(path) => {
                let text = path.text(&settings_only(&self.settings)).map_err(template_failed)?;
                let path = JsonPath::parse(&text).map_err(|error| {
                    let said = format!("`{text}` is not a JSONPath: {}", error.message());
                    Verdict::new(Class::Dead, Reason::TemplateFailed, said)
                })?;
                Place::Members(path)
            }
        };
        let mapped = context.data().get("fields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut fields = Vec::new();
        for mapped in mapped {
            let (Some(field), Some(new)) = (mapped.get("field"), mapped.get("value")) else { continue };
            let field = text_of(field).into_owned();
            let (current, known) = place.find(body, &field);
            fields.push(FieldPlan::new(field, current, new.clone(), known));
        }
        for also in &reading.also {
            let new = also.then.value(&context).map_err(template_failed)?;
            if !text_of(&new).trim().is_empty() {
                let current = one_or_all(also.now.query(body).into_iter().cloned().collect());
                fields.push(FieldPlan::new(also.name.clone(), current, new, true));
            }
        }
        Ok(fields)
    }

    fn reading_step(&self) -> Option<(&Reading, &step::Step)> {
        let reading = self.connector.reading.as_ref()?;
        Some((reading, self.connector.steps.get(reading.step)?))
    }
}

impl FieldPlan {
    fn new(field: String, current: Value, new: Value, known: bool) -> Self {
        let changes = text_of(&current).trim() != text_of(&new).trim();
        Self { field, current, new, changes, known }
    }
}

enum Place<'a> {
    Items(&'a FieldsStored),
    Members(JsonPath),
}

impl Place<'_> {
    /// What a field is now, and whether the record is known to have it.
    fn find(&self, body: &Value, field: &str) -> (Value, bool) {
        match self {
            Self::Items(fields) => {
                let (found, values) = fields.find(body, field);
                (one_or_all(values), found)
            }
            Self::Members(path) => {
                let found = path.query(body).into_iter().find_map(|object| object.get(field)).cloned();
                // Many interfaces leave out what is empty.
                (found.unwrap_or_default(), true)
            }
        }
    }
}

/// Nothing, the one value, or the list of them.
fn one_or_all(mut values: Vec<Value>) -> Value {
    values.retain(|value| !text_of(value).trim().is_empty());
    match values.len() {
        0 => Value::Null,
        1 => values.swap_remove(0),
        _ => Value::Array(values),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_found_in_a_list_by_any_of_its_names_or_as_a_member() {
        let path = |text| JsonPath::parse(text).expect("a path");
        let items = FieldsStored {
            items: path("$.CustomFields[*]"),
            names: path("$['name', 'id']"),
            values: path("$.values[*]"),
        };
        let body = json!({ "CustomFields": [
            { "id": 7, "name": "Code", "values": ["Billing"] },
            { "id": 8, "name": "Tags", "values": ["a", "b"] },
            { "id": 9, "name": "Empty", "values": [] }
        ], "fields": { "code": 5, "none": null } });
        let list = Place::Items(&items);
        for (field, expected) in [
            ("code", (json!("Billing"), true)),
            ("7", (json!("Billing"), true)),
            ("Tags", (json!(["a", "b"]), true)),
            ("Empty", (Value::Null, true)),
            ("Other", (Value::Null, false)),
        ] {
            assert_eq!(list.find(&body, field), expected, "{field}");
        }
        let members = Place::Members(path("$.fields"));
        assert_eq!(members.find(&body, "code"), (json!(5), true));
        assert_eq!(members.find(&body, "other"), (Value::Null, true));
    }

    #[test]
    fn the_same_in_another_type_is_no_change() {
        let plan = |current, new| FieldPlan::new("f".to_owned(), current, new, true).changes;
        assert!(!plan(json!("4"), json!(4)) && !plan(json!(" x "), json!("x")));
        assert!(plan(Value::Null, json!(4)) && plan(json!("4"), json!(5)));
    }
}
