//! `schema/<step>.json` of a connector: a JSON Schema (draft 2020-12) that the step's JSON bodies must fit, derived
//! from what the vendor publishes. Only `templates test` asks it; a delivery is judged by the CRM itself.
//!
//! The words that request bodies need are known; any other is a fault of the schema, so that no check is left out
//! without a word.

use regex::Regex;
use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::folder::Folder;

/// The schemas of a connector, by step.
#[derive(Debug, Default)]
pub(super) struct Schemas(Vec<(String, Value)>);

/// References inside one another, and values inside one another, go no deeper.
const DEPTH: usize = 64;

const KNOWN: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "$ref",
    "title",
    "description",
    "examples",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "type",
    "enum",
    "const",
    "properties",
    "patternProperties",
    "additionalProperties",
    "required",
    "minProperties",
    "maxProperties",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
];

impl Schemas {
    /// Those of a folder. `is_step` tells whether the connector has a step of that name.
    pub(super) fn read(folder: &Folder, is_step: impl Fn(&str) -> bool) -> Result<Self, Diagnostics> {
        let mut all = Vec::new();
        let mut faults = Diagnostics::new();
        for (path, file) in &folder.files {
            let Some(step) = path.strip_prefix("schema/").and_then(|name| name.strip_suffix(".json")) else { continue };
            let mut fault = |code, message: String, hint: &str| {
                faults.push(Diagnostic::of_file(file.name.to_string(), code, message).hint(hint));
            };
            if !is_step(step) {
                fault("unknown_step", format!("there is no step `{step}`"), "name the file after a step");
                continue;
            }
            match serde_json::from_str::<Value>(&file.text) {
                Err(error) => {
                    let (line, column) = (error.line(), error.column());
                    fault("bad_json", format!("line {line}, column {column}: {error}"), "a schema is JSON");
                }
                Ok(schema) => {
                    let mut wrong = Vec::new();
                    unknown_words(&schema, "", &mut wrong, 0);
                    for message in wrong {
                        fault("unknown_word", message, "leave it away, or say the same in words that are known");
                    }
                    all.push((step.to_owned(), schema));
                }
            }
        }
        faults.into_result(Self(all))
    }

    /// What of a body does not fit, as `path: …`; a dozen at most. Nothing for a step without a schema.
    pub(super) fn check(&self, step: &str, body: Option<&[u8]>) -> Vec<String> {
        // A copy for another item of a list is judged as the first.
        let name = step.split('.').next().unwrap_or(step);
        let Some((_, schema)) = self.0.iter().find(|(of, _)| of == name) else { return Vec::new() };
        let Some(Ok(value)) = body.map(serde_json::from_slice::<Value>) else {
            return vec![format!("step `{step}`: `schema/{name}.json` is for a JSON body, and this is none")];
        };
        let mut wrong = Vec::new();
        Judge { root: schema }.check(schema, &value, "$", 0, &mut wrong);
        wrong.truncate(12);
        wrong.into_iter().map(|told| format!("step `{step}`, by `schema/{name}.json`: {told}")).collect()
    }
}

/// Words that are not known, patterns that are none, and references that lead nowhere are not followed.
fn unknown_words(schema: &Value, path: &str, wrong: &mut Vec<String>, depth: usize) {
    let Some(words) = schema.as_object().filter(|_| depth < DEPTH) else { return };
    for (word, value) in words {
        let here = format!("{path}/{word}");
        match word.as_str() {
            "properties" | "patternProperties" | "$defs" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if word == "patternProperties" && Regex::new(name).is_err() {
                        wrong.push(format!("`{here}`: `{name}` is no regular expression"));
                    }
                    unknown_words(member, &format!("{here}/{name}"), wrong, depth + 1);
                }
            }
            "items" | "additionalProperties" | "not" => unknown_words(value, &here, wrong, depth + 1),
            "anyOf" | "oneOf" | "allOf" => {
                for (i, member) in value.as_array().into_iter().flatten().enumerate() {
                    unknown_words(member, &format!("{here}/{i}"), wrong, depth + 1);
                }
            }
            "pattern" if value.as_str().is_none_or(|p| Regex::new(p).is_err()) => {
                wrong.push(format!("`{here}` is no regular expression"));
            }
            "$ref" if !value.as_str().is_some_and(|r| r.starts_with("#/$defs/")) => {
                wrong.push(format!("`{here}` must begin with `#/$defs/`"));
            }
            word if !KNOWN.contains(&word) => wrong.push(format!("`{here}`: this word is not known")),
            _ => {}
        }
    }
}

struct Judge<'s> {
    root: &'s Value,
}

impl Judge<'_> {
    fn fits(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        let mut wrong = Vec::new();
        self.check(schema, value, "", depth, &mut wrong);
        wrong.is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, path: &str, depth: usize, wrong: &mut Vec<String>) {
        if depth > DEPTH {
            return wrong.push(format!("{path}: it is too deep to be checked"));
        }
        let words = match schema {
            Value::Bool(true) => return,
            Value::Object(words) => words,
            _ => return wrong.push(format!("{path}: nothing may stand here")),
        };
        if let Some(name) = words.get("$ref").and_then(Value::as_str) {
            let target = name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            match target {
                Some(target) => self.check(target, value, path, depth + 1, wrong),
                None => wrong.push(format!("{path}: the schema has no `{name}`")),
            }
        }
        self.kind(words, value, path, wrong);
        match value {
            Value::Object(members) => self.members(words, members, path, depth, wrong),
            Value::Array(items) => self.items(words, items, path, depth, wrong),
            Value::String(text) => {
                limits(words, "Length", text.chars().count() as f64, "characters", path, wrong);
                let pattern = words.get("pattern").and_then(Value::as_str).and_then(|p| Regex::new(p).ok());
                if pattern.is_some_and(|pattern| !pattern.is_match(text)) {
                    wrong.push(format!("{path}: it does not have the form {}", words["pattern"]));
                }
            }
            Value::Number(number) => range(words, number.as_f64().unwrap_or(f64::NAN), path, wrong),
            Value::Null | Value::Bool(_) => {}
        }
        let ways = |word: &str| words.get(word).and_then(Value::as_array);
        for part in ways("allOf").into_iter().flatten() {
            self.check(part, value, path, depth + 1, wrong);
        }
        let fitting = |all: &Vec<Value>| all.iter().filter(|way| self.fits(way, value, depth + 1)).count();
        if ways("anyOf").is_some_and(|all| fitting(all) == 0) {
            wrong.push(format!("{path}: it fits none of `anyOf`"));
        }
        if let Some(count) = ways("oneOf").map(fitting).filter(|count| *count != 1) {
            wrong.push(format!("{path}: it fits {count} of `oneOf`, not one"));
        }
        if words.get("not").is_some_and(|not| self.fits(not, value, depth + 1)) {
            wrong.push(format!("{path}: it fits what `not` forbids"));
        }
    }

    fn kind(&self, words: &Map<String, Value>, value: &Value, path: &str, wrong: &mut Vec<String>) {
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
            _ => false,
        };
        let fits = match words.get("type") {
            None => true,
            Some(Value::String(kind)) => is(kind),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(is),
            Some(_) => false,
        };
        if !fits {
            wrong.push(format!("{path}: it is not of the type {}", words["type"]));
        }
        if words.get("enum").and_then(Value::as_array).is_some_and(|all| !all.contains(value)) {
            wrong.push(format!("{path}: {value} is none of {}", words["enum"]));
        }
        if words.get("const").is_some_and(|only| only != value) {
            wrong.push(format!("{path}: {value} is not {}", words["const"]));
        }
    }

    fn members(
        &self,
        words: &Map<String, Value>,
        members: &Map<String, Value>,
        path: &str,
        depth: usize,
        wrong: &mut Vec<String>,
    ) {
        for name in words.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                wrong.push(format!("{path}: `{name}` is missing"));
            }
        }
        limits(words, "Properties", members.len() as f64, "members", path, wrong);
        let patterns = words.get("patternProperties").and_then(Value::as_object);
        for (name, value) in members {
            let here = format!("{path}.{name}");
            let mut is_known = false;
            if let Some(schema) = words.get("properties").and_then(|all| all.get(name)) {
                is_known = true;
                self.check(schema, value, &here, depth + 1, wrong);
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name)) {
                    is_known = true;
                    self.check(schema, value, &here, depth + 1, wrong);
                }
            }
            match words.get("additionalProperties") {
                Some(Value::Bool(false)) if !is_known => wrong.push(format!("{path}: `{name}` is not known here")),
                Some(schema) if !is_known => self.check(schema, value, &here, depth + 1, wrong),
                _ => {}
            }
        }
    }

    fn items(&self, words: &Map<String, Value>, items: &[Value], path: &str, depth: usize, wrong: &mut Vec<String>) {
        limits(words, "Items", items.len() as f64, "items", path, wrong);
        if let Some(schema) = words.get("items") {
            for (i, item) in items.iter().enumerate() {
                self.check(schema, item, &format!("{path}[{i}]"), depth + 1, wrong);
            }
        }
        let twice = |i: usize, item: &Value| items.iter().take(i).any(|before| before == item);
        if words.get("uniqueItems") == Some(&Value::Bool(true)) && items.iter().enumerate().any(|(i, x)| twice(i, x)) {
            wrong.push(format!("{path}: an item is there twice"));
        }
    }
}

/// `minLength` and `maxLength`, and their like.
fn limits(words: &Map<String, Value>, of: &str, has: f64, what: &str, path: &str, wrong: &mut Vec<String>) {
    let limit = |word: &str| words.get(&format!("{word}{of}")).and_then(Value::as_f64);
    if let Some(least) = limit("min").filter(|least| has < *least) {
        wrong.push(format!("{path}: it has {has} {what}, and needs {least}"));
    }
    if let Some(most) = limit("max").filter(|most| has > *most) {
        wrong.push(format!("{path}: it has {has} {what}, and may have {most}"));
    }
}

fn range(words: &Map<String, Value>, number: f64, path: &str, wrong: &mut Vec<String>) {
    let limit = |word: &str| words.get(word).and_then(Value::as_f64);
    let out = limit("minimum").is_some_and(|least| number < least)
        || limit("maximum").is_some_and(|most| number > most)
        || limit("exclusiveMinimum").is_some_and(|least| number <= least)
        || limit("exclusiveMaximum").is_some_and(|most| number >= most);
    if out {
        wrong.push(format!("{path}: {number} is out of its range"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;

    fn schemas(text: &str) -> Result<Schemas, Diagnostics> {
        let files = [("schema/update.json".to_owned(), SourceFile::new("toy/schema/update.json", text))];
        Schemas::read(&Folder { name: "toy".into(), files: files.into() }, |step| step == "update")
    }

    const TICKET: &str = r##"{
        "type": "object", "additionalProperties": false, "required": ["ticket"],
        "properties": { "ticket": {
            "type": "object", "additionalProperties": false, "patternProperties": { "^x_": { "type": "string" } },
            "properties": {
                "status": { "enum": ["open", "solved"] },
                "tags": { "type": "array", "items": { "type": "string", "maxLength": 3 }, "uniqueItems": true },
                "minutes": { "type": ["integer", "null"], "minimum": 1 },
                "fields": { "type": "array", "items": { "$ref": "#/$defs/field" } }
            } } },
        "$defs": { "field": { "required": ["id"], "properties": { "id": { "type": "integer" },
            "value": { "oneOf": [{ "type": "string" }, { "type": "number" }] } } } }
    }"##;

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        let schemas = schemas(TICKET).unwrap_or_else(|f| panic!("{f}"));
        let wrong = |body: &str| schemas.check("update", Some(body.as_bytes())).join("\n");
        let good =
            r#"{"ticket":{"status":"solved","tags":["a","b"],"minutes":1.0,"x_y":"z","fields":[{"id":1,"value":2}]}}"#;
        assert_eq!(wrong(good), "");
        for (body, expected) in [
            (r#"{"tickets":{}}"#, "$: `ticket` is missing"),
            (r#"{"tickets":{},"ticket":{}}"#, "$: `tickets` is not known here"),
            (r#"{"ticket":{"status":"shut"}}"#, "$.ticket.status: \"shut\" is none of [\"open\",\"solved\"]"),
            (r#"{"ticket":{"tags":["long"]}}"#, "$.ticket.tags[0]: it has 4 characters, and may have 3"),
            (r#"{"ticket":{"tags":["a","a"]}}"#, "$.ticket.tags: an item is there twice"),
            (r#"{"ticket":{"minutes":0.5}}"#, "$.ticket.minutes: it is not of the type"),
            (r#"{"ticket":{"minutes":0}}"#, "$.ticket.minutes: 0 is out of its range"),
            (r#"{"ticket":{"x_y":1}}"#, "$.ticket.x_y: it is not of the type \"string\""),
            (r#"{"ticket":{"fields":[{"value":"a"}]}}"#, "$.ticket.fields[0]: `id` is missing"),
            (r#"{"ticket":{"fields":[{"id":1,"value":[]}]}}"#, "value: it fits 0 of `oneOf`, not one"),
            ("a=b", "`schema/update.json` is for a JSON body, and this is none"),
        ] {
            let told = wrong(body);
            assert!(told.contains(expected), "{expected}\nis not in\n{told}");
        }
        assert!(schemas.check("other", None).is_empty());
    }

    #[test]
    fn a_word_that_would_not_be_checked_is_a_fault_of_the_schema() {
        let told = |text: &str| schemas(text).expect_err("faults").render();
        let text = told(r##"{"properties":{"a":{"if":{}},"b":{"pattern":"("},"c":{"$ref":"x.json"}}}"##);
        for expected in ["`/properties/a/if`: this word is not known", "`/properties/b/pattern`", "must begin with"] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
        assert!(told("{").contains("a schema is JSON"));
    }
}
