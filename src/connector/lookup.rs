//! The answer to a look-up → the candidates for a session's record.
//!
//! Only exactly one counts as found. What the answer does not show (another page, a total that is larger than
//! the list) counts as more of them, so that a record is never taken because the others were not seen.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::assertion::{Assertion, text_of};
use crate::record::{Context, RenderFault};

/// Candidates that are kept for a person to choose from.
const KEPT: usize = 20;
/// Characters of a label.
const LONGEST_LABEL: usize = 120;

/// A record that a session could belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub record: String,
    /// What helps a person to choose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

/// A look-up, compiled.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) name: String,
    /// Index of the step that asks.
    pub(crate) step: usize,
    pub(crate) candidates: JsonPath,
    pub(crate) id: JsonPath,
    pub(crate) label: Vec<JsonPath>,
    pub(crate) only_if: Vec<Assertion>,
    pub(crate) total: Option<JsonPath>,
    pub(crate) more: Option<JsonPath>,
}

/// What an answer shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sighted {
    /// Each record once, a few of them.
    pub(crate) candidates: Vec<Candidate>,
    /// There are more than that.
    pub(crate) more: bool,
    /// An item has no id.
    pub(crate) nameless: bool,
}

impl Lookup {
    /// The candidates in an answer.
    pub(crate) fn read(&self, body: &Value, context: &Context) -> Result<Sighted, RenderFault> {
        let items = self.candidates.query(body);
        let is_more = |path: &JsonPath| path.query(body).into_iter().any(|v| !is_nothing(v));
        let total = self.total.as_ref().and_then(|path| path.query(body).first().and_then(number));
        let mut sighted = Sighted {
            more: self.more.as_ref().is_some_and(is_more) || total.is_some_and(|total| total > items.len() as u64),
            candidates: Vec::new(),
            nameless: false,
        };
        for item in items {
            let mut counts = true;
            for assertion in &self.only_if {
                counts = counts && assertion.holds(item, context)?;
            }
            if !counts {
                continue;
            }
            let record = self.id.query(item).first().map(|v| text_of(v).trim().to_owned()).unwrap_or_default();
            if record.is_empty() {
                sighted.nameless = true;
            } else if sighted.candidates.iter().all(|c| c.record != record) {
                sighted.candidates.push(Candidate { record, label: self.label(item) });
            }
        }
        sighted.more |= sighted.candidates.len() > KEPT;
        sighted.candidates.truncate(KEPT);
        Ok(sighted)
    }

    fn label(&self, item: &Value) -> String {
        let texts = self.label.iter().flat_map(|path| path.query(item).into_iter().map(text_of));
        let parts: Vec<String> = texts
            .map(|text| {
                let words = text.split(|c: char| c.is_whitespace() || c.is_control());
                words.filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
            })
            .filter(|text| !text.is_empty())
            .collect();
        parts.join(", ").chars().take(LONGEST_LABEL).collect()
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| text_of(value).trim().parse().ok())
}

/// What stands where there is no further page.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::connector::destination::settings_only;

    fn lookup() -> Lookup {
        let path = |text| JsonPath::parse(text).expect("a path");
        Lookup {
            name: "phone".into(),
            step: 0,
            candidates: path("$.items[*]"),
            id: path("$.id"),
            label: vec![path("$.status"), path("$.made")],
            only_if: Vec::new(),
            total: Some(path("$.count")),
            more: Some(path("$.next")),
        }
    }

    fn read(body: &Value) -> Sighted {
        lookup().read(body, &settings_only(&Map::new())).expect("no template")
    }

    #[test]
    fn a_record_counts_once_and_its_label_is_one_line() {
        let sighted = read(&json!({ "items": [
            { "id": 7, "status": "open\n  now", "made": "2026-02-17" }, { "id": "7", "status": "open" } ] }));
        let seven = Candidate { record: "7".into(), label: "open now, 2026-02-17".into() };
        assert_eq!(sighted.candidates, [seven]);
        assert!(!sighted.more && !sighted.nameless);
    }

    #[test]
    fn what_is_not_shown_counts_as_more() {
        let one = json!([{ "id": 7 }]);
        for (body, more) in [
            (json!({ "items": one, "count": 1, "next": null }), false),
            (json!({ "items": one, "count": "1", "next": "" }), false),
            (json!({ "items": one, "count": 2 }), true),
            (json!({ "items": one, "next": "/page/2" }), true),
            (json!({ "items": one, "next": true }), true),
            (json!({ "items": [], "next": "/page/2" }), true),
        ] {
            assert_eq!(read(&body).more, more, "{body}");
        }
        let many: Vec<Value> = (1..40).map(|n| json!({ "id": n })).collect();
        let sighted = read(&json!({ "items": many }));
        assert_eq!((sighted.candidates.len(), sighted.more), (KEPT, true));
        assert!(read(&json!({ "items": [{ "id": null }] })).nameless);
    }
}
