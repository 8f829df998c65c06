//! Reads a TOML file that the operator wrote into a Rust type, and reports *all* that is wrong with it.
//!
//! The type's own JSON Schema (schemars) is the specification: unknown keys, missing keys, wrong types and
//! unknown words each become a Diagnostic with their place and a suggestion. Only a file without faults is
//! deserialized. `Places` remembers where every value stands, for checks that need to know more.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, suggest};

/// A file read without faults.
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    /// What it says.
    pub value: T,
    /// Where it says it.
    pub places: Places,
}

/// Where every value of a file stands.
#[derive(Debug, Clone)]
pub struct Places {
    file: SourceFile,
    root: Place,
}

#[derive(Debug, Clone, Default)]
struct Place {
    key: Range<usize>,
    value: Range<usize>,
    children: BTreeMap<String, Place>,
    /// Has a fault, and so is not in the value that was read.
    is_left_out: bool,
}

impl Place {
    /// True if the byte at `offset` is in the key, the value, or something below.
    fn holds(&self, offset: usize) -> bool {
        let inside = |range: &Range<usize>| range.contains(&offset);
        inside(&self.key) || inside(&self.value) || self.children.values().any(|c| c.holds(offset))
    }
}

impl Places {
    /// The file itself.
    pub fn file(&self) -> &SourceFile {
        &self.file
    }

    /// A fault at the value with this path; at the nearest table above it if there is no such value.
    /// Items of arrays are named by their index.
    pub fn fault(&self, path: &[&str], code: &'static str, message: impl Into<String>) -> Diagnostic {
        self.file.fault(self.find(path).value.clone(), code, message)
    }

    /// A fault at the key of the value with this path.
    pub fn key_fault(&self, path: &[&str], code: &'static str, message: impl Into<String>) -> Diagnostic {
        self.file.fault(self.find(path).key.clone(), code, message)
    }

    /// The byte range of the value with this path.
    pub fn span(&self, path: &[&str]) -> Range<usize> {
        self.find(path).value.clone()
    }

    /// Where the text of the string with this path begins: behind its opening quotes.
    pub fn text_offset(&self, path: &[&str]) -> usize {
        let start = self.find(path).value.start;
        let rest = self.file.text.get(start..).unwrap_or("");
        for quotes in ["\"\"\"", "'''"] {
            if let Some(inner) = rest.strip_prefix(quotes) {
                // A line end right behind them is not part of the text.
                let line_end = if inner.starts_with("\r\n") { 2 } else { usize::from(inner.starts_with('\n')) };
                return start + 3 + line_end;
            }
        }
        start + usize::from(rest.starts_with(['"', '\'']))
    }

    /// The keys of the table with this path, also those of entries that were left out.
    pub fn keys(&self, path: &[&str]) -> Vec<String> {
        let place = path.iter().try_fold(&self.root, |place, step| place.children.get(*step));
        place.map(|p| p.children.keys().cloned().collect()).unwrap_or_default()
    }

    /// The indexes that the items of a list at the top had in the file, without those that were left out.
    pub fn indexes(&self, key: &str) -> Vec<usize> {
        let children = self.root.children.get(key).into_iter().flat_map(|p| &p.children);
        let mut kept: Vec<usize> =
            children.filter(|(_, p)| !p.is_left_out).filter_map(|(index, _)| index.parse().ok()).collect();
        kept.sort_unstable();
        kept
    }

    fn find(&self, path: &[&str]) -> &Place {
        let mut place = &self.root;
        for step in path {
            match place.children.get(*step) {
                Some(child) => place = child,
                None => break,
            }
        }
        place
    }
}

/// Reads a file as a `T`, or says all that is wrong with it.
pub fn parse<T: DeserializeOwned + JsonSchema>(file: &SourceFile) -> Result<Parsed<T>, Diagnostics> {
    match parse_what_is_good(file) {
        (Some(parsed), faults) => faults.into_result(parsed),
        (None, faults) => Err(faults),
    }
}

/// Reads what is good of a file, and says all that is wrong with the rest: entries with faults (a key at the
/// top, a table such as `[source.inbox]`, an item of a list of tables) are left out, so that the others can be
/// checked further at the same time. `Places` has them all. Nothing if the rest makes no `T`.
pub fn parse_what_is_good<T: DeserializeOwned + JsonSchema>(file: &SourceFile) -> (Option<Parsed<T>>, Diagnostics) {
    let mut faults = Diagnostics::new();
    let (tree, errors) = DeTable::parse_recoverable(&file.text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = one_line(error.message());
        let hint = match message.as_str() {
            m if m.starts_with("duplicate key") => "it is written twice in this table: delete one of the two",
            _ => "see https://toml.io for the syntax",
        };
        faults.push(file.fault(span, "toml_syntax", message).hint(hint));
    }
    if !faults.is_empty() {
        return (None, faults);
    }
    let schema = schema_of::<T>();
    let mut checker = Checker { file, definitions: schema.get("$defs").cloned().unwrap_or(Value::Null), faults };
    checker.table(&schema, tree.get_ref(), 0..0, "");
    let faults = checker.faults;
    let mut root = Place::default();
    remember_table(&mut root, tree.get_ref());
    let mut places = Places { file: file.clone(), root };
    if faults.is_empty() {
        return match toml::from_str::<T>(&file.text) {
            Ok(value) => (Some(Parsed { value, places }), faults),
            Err(error) => {
                let fault = file.fault(error.span().unwrap_or(0..0), "bad_value", one_line(error.message()));
                (None, fault.into())
            }
        };
    }
    let rest = without_faults(file, &mut places.root, &faults);
    (rest.and_then(|table| table.try_into().ok()).map(|value| Parsed { value, places }), faults)
}

/// The file's table without the entries that have faults in them.
fn without_faults(file: &SourceFile, root: &mut Place, faults: &Diagnostics) -> Option<toml::Table> {
    let mut table = toml::from_str::<toml::Table>(&file.text).ok()?;
    let at: Vec<usize> = faults.sorted().iter().map(|d| file.offset_of(d.line as usize, d.column as usize)).collect();
    let is_bad = |place: &Place| at.iter().any(|offset| place.holds(*offset));
    for (key, place) in root.children.iter_mut().filter(|(_, p)| is_bad(p)) {
        for child in place.children.values_mut() {
            child.is_left_out = is_bad(child);
        }
        let is_kept = |name: &str| place.children.get(name).is_none_or(|p| !p.is_left_out);
        match table.get_mut(key) {
            Some(toml::Value::Table(inner)) if inner.values().all(toml::Value::is_table) => {
                inner.retain(|name, _| is_kept(name));
            }
            Some(toml::Value::Array(items)) if items.iter().all(toml::Value::is_table) => {
                let mut index = 0_usize..;
                items.retain(|_| index.next().is_some_and(|i| is_kept(&i.to_string())));
            }
            _ => {
                table.remove(key);
            }
        }
    }
    Some(table)
}

/// The JSON Schema of a type, as `mail2crm schema` prints it.
pub fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// A hint, and behind it what the schema says of the value.
fn with_about(hint: String, schema: &Value) -> String {
    let about = schema.get("description").and_then(Value::as_str).unwrap_or("");
    let about = about.split("\n\n").next().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
    match about.trim_end_matches('.') {
        "" => hint,
        about => format!("{hint}: {about}"),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

fn remember_table(place: &mut Place, table: &DeTable<'_>) {
    for (key, value) in table {
        let mut child = Place { key: key.span(), value: value.span(), ..Place::default() };
        remember(&mut child, value.get_ref());
        place.children.insert(key.get_ref().to_string(), child);
    }
}

fn remember(place: &mut Place, value: &DeValue<'_>) {
    match value {
        DeValue::Table(table) => remember_table(place, table),
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let mut child = Place { key: item.span(), value: item.span(), ..Place::default() };
                remember(&mut child, item.get_ref());
                place.children.insert(i.to_string(), child);
            }
        }
        _ => {}
    }
}

/// What a schema says about the keys of one table, its references and alternatives resolved.
#[derive(Default)]
struct Keys {
    known: Map<String, Value>,
    required: Vec<String>,
    /// No other keys than the known ones.
    closed: bool,
    /// The schema of other keys' values.
    others: Option<Value>,
}

struct Checker<'a> {
    file: &'a SourceFile,
    definitions: Value,
    faults: Diagnostics,
}

impl Checker<'_> {
    fn resolve(&self, schema: &Value) -> Value {
        let Some(name) = schema.get("$ref").and_then(Value::as_str) else { return schema.clone() };
        let name = name.rsplit('/').next().unwrap_or(name);
        let mut out = self.definitions.get(name).map_or(Value::Null, |s| self.resolve(s));
        if let (Value::Object(out), Value::Object(own)) = (&mut out, schema) {
            for (key, value) in own.iter().filter(|(k, _)| *k != "$ref") {
                if key == "description" {
                    out.insert(key.clone(), value.clone()); // that of the key says more than that of its type
                } else {
                    out.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        out
    }

    fn value(&mut self, schema: &Value, node: &Spanned<DeValue<'_>>, path: &str) {
        let schema = self.resolve(schema);
        let Some(rules) = schema.as_object() else { return };
        if let Some(branches) = alternatives(rules) {
            if let DeValue::Table(table) = node.get_ref() {
                if rules.contains_key("properties") {
                    // Alternatives beside keys of its own: `table` gathers both.
                    return self.table(&schema, table, node.span(), path);
                }
                let tables: Vec<Value> =
                    branches.iter().map(|b| self.resolve(b)).filter(|b| allows(b, "object")).collect();
                match self.choose(&tables, table, node.span(), path) {
                    Choice::One(branch) => return self.value(&branch, node, path),
                    Choice::Reported => return,
                    Choice::None => {}
                }
            }
            let fitting: Vec<Value> =
                branches.iter().map(|b| self.resolve(b)).filter(|b| allows(b, type_word(node.get_ref()))).collect();
            return match fitting.as_slice() {
                [] => self.wrong_type(&schema, node, path),
                [one] => self.value(one, node, path),
                many => {
                    // Alternatives of words: valid if any takes it.
                    let mut words = Vec::new();
                    for branch in many {
                        words.extend(
                            branch
                                .get("const")
                                .into_iter()
                                .chain(branch.get("enum").and_then(Value::as_array).into_iter().flatten()),
                        );
                        if branch.get("const").is_none() && branch.get("enum").is_none() {
                            return self.value(branch, node, path);
                        }
                    }
                    self.word(&words, node, path);
                }
            };
        }
        if let Some(words) = rules.get("enum").and_then(Value::as_array) {
            return self.word(&words.iter().collect::<Vec<_>>(), node, path);
        }
        if let Some(word) = rules.get("const") {
            return self.word(&[word], node, path);
        }
        if !allows(&schema, type_word(node.get_ref())) {
            return self.wrong_type(&schema, node, path);
        }
        match node.get_ref() {
            DeValue::Table(table) => self.table(&schema, table, node.span(), path),
            DeValue::Array(items) => {
                if let Some(inner) = rules.get("items") {
                    for (i, item) in items.iter().enumerate() {
                        self.value(inner, item, &format!("{path}[{i}]"));
                    }
                }
            }
            DeValue::Integer(number) => {
                let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX) as f64;
                let low = rules.get("minimum").and_then(Value::as_f64);
                let high = rules.get("maximum").and_then(Value::as_f64);
                if low.is_some_and(|l| number < l) || high.is_some_and(|h| number > h) {
                    let range = match (low, high) {
                        (Some(l), Some(h)) => format!("between {l} and {h}"),
                        (Some(l), None) => format!("{l} or more"),
                        (_, h) => format!("{} or less", h.unwrap_or_default()),
                    };
                    let fault = self.file.fault(node.span(), "out_of_range", format!("`{path}` must be {range}"));
                    self.faults.push(fault.hint(with_about(format!("write a number that is {range}"), &schema)));
                }
            }
            _ => {}
        }
    }

    fn table(&mut self, schema: &Value, table: &DeTable<'_>, span: Range<usize>, path: &str) {
        let mut keys = Keys::default();
        if !self.collect(schema, table, &span, path, &mut keys) {
            return;
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match (keys.known.get(name), &keys.others) {
                (Some(schema), _) => {
                    let schema = schema.clone();
                    self.value(&schema, value, &inner);
                }
                (None, Some(others)) => {
                    let others = others.clone();
                    self.value(&others, value, &inner);
                }
                (None, None) if keys.closed => {
                    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
                    let hint = suggest(name, keys.known.keys().map(String::as_str).collect::<Vec<_>>());
                    self.faults.push(
                        self.file.fault(key.span(), "unknown_key", format!("unknown key `{name}`{place}")).hint(hint),
                    );
                }
                (None, None) => {}
            }
        }
        for name in &keys.required {
            if !table.keys().any(|k| k.get_ref() == name) {
                let schema = keys.known.get(name).map(|s| self.resolve(s)).unwrap_or_default();
                let place = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
                let fault = self.file.fault(span.clone(), "missing_key", format!("{place} lacks the key `{name}`"));
                let value = match self.words(&schema).as_slice() {
                    [word] => format!("{word:?}"),
                    _ => "…".to_owned(),
                };
                self.faults.push(fault.hint(with_about(format!("add `{name} = {value}`"), &schema)));
            }
        }
    }

    /// The words that a schema allows, if it allows nothing else.
    fn words(&self, schema: &Value) -> Vec<String> {
        let Some(rules) = schema.as_object() else { return Vec::new() };
        if let Some(branches) = alternatives(rules) {
            let all: Vec<Vec<String>> = branches.iter().map(|b| self.words(&self.resolve(b))).collect();
            return if all.iter().any(Vec::is_empty) { Vec::new() } else { all.concat() };
        }
        let listed = rules.get("enum").and_then(Value::as_array).into_iter().flatten();
        listed.chain(rules.get("const")).filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Gathers the keys of a table from a schema and all its parts; false if a fault was reported that makes
    /// further checks of this table pointless.
    fn collect(
        &mut self,
        schema: &Value,
        table: &DeTable<'_>,
        span: &Range<usize>,
        path: &str,
        keys: &mut Keys,
    ) -> bool {
        let schema = self.resolve(schema);
        let Some(rules) = schema.as_object() else { return true };
        if let Some(properties) = rules.get("properties").and_then(Value::as_object) {
            for (key, value) in properties {
                keys.known.insert(key.clone(), value.clone());
            }
        }
        if let Some(required) = rules.get("required").and_then(Value::as_array) {
            for name in required.iter().filter_map(Value::as_str) {
                if !keys.required.iter().any(|r| r == name) {
                    keys.required.push(name.to_owned());
                }
            }
        }
        for rule in ["additionalProperties", "unevaluatedProperties"] {
            match rules.get(rule) {
                Some(Value::Bool(false)) => keys.closed = true,
                Some(Value::Bool(true)) | None => {}
                Some(schema) => keys.others = Some(schema.clone()),
            }
        }
        for part in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if !self.collect(part, table, span, path, keys) {
                return false;
            }
        }
        if let Some(branches) = alternatives(rules) {
            let branches: Vec<Value> = branches.iter().map(|b| self.resolve(b)).collect();
            return match self.choose(&branches, table, span.clone(), path) {
                Choice::One(branch) => self.collect(&branch, table, span, path, keys),
                Choice::Reported => false,
                Choice::None => true,
            };
        }
        true
    }

    /// Which of several table forms this table is: by its tag (`kind = "…"`), else by the keys it has.
    fn choose(&mut self, branches: &[Value], table: &DeTable<'_>, span: Range<usize>, path: &str) -> Choice {
        if branches.is_empty() {
            return Choice::None;
        }
        if let Some(tag) = tag_of(branches) {
            let words: Vec<&str> = branches.iter().filter_map(|b| tag_word(b, &tag)).collect();
            let known = words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
            let Some((_, value)) = table.iter().find(|(k, _)| k.get_ref() == &tag) else {
                let fault = self.file.fault(span, "missing_key", format!("`{path}` lacks the key `{tag}`"));
                self.faults.push(fault.hint(format!("`{tag}` is one of: {known}")));
                return Choice::Reported;
            };
            let word = value.get_ref().as_str().unwrap_or("");
            return match branches.iter().find(|b| tag_word(b, &tag) == Some(word)) {
                Some(branch) => Choice::One(branch.clone()),
                None => {
                    let fault = self.file.fault(value.span(), "unknown_word", format!("`{word}` is no known `{tag}`"));
                    self.faults.push(fault.hint(suggest(word, words)));
                    Choice::Reported
                }
            };
        }
        let has = |name: &str| table.keys().any(|k| k.get_ref() == name);
        let required = |b: &Value| -> Vec<String> {
            b.get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let known = |b: &Value| {
            b.get("properties").and_then(Value::as_object).map_or(0, |p| p.keys().filter(|k| has(k)).count())
        };
        let forms: Vec<String> = branches
            .iter()
            .map(|b| {
                let keys: Vec<String> = required(b).iter().map(|key| format!("{key} = …")).collect();
                format!("`{{ {} }}`", keys.join(", "))
            })
            .collect();
        let full = branches.iter().filter(|b| !required(b).is_empty() && required(b).iter().all(|r| has(r)));
        if full.clone().count() > 1 && full.clone().all(|b| known(b) < table.len()) {
            let fault = self.file.fault(span, "wrong_form", format!("`{path}` says it in more than one way"));
            self.faults.push(fault.hint(format!("write one of: {}", forms.join(", "))));
            return Choice::Reported;
        }
        if let Some(full) = branches.iter().filter(|b| required(b).iter().all(|r| has(r))).max_by_key(|b| known(b)) {
            return Choice::One(full.clone());
        }
        if let Some(part) = branches.iter().max_by_key(|b| known(b)).filter(|b| known(b) > 0) {
            return Choice::One(part.clone());
        }
        let fault = self.file.fault(span, "wrong_form", format!("`{path}` has none of the forms that are known here"));
        self.faults.push(fault.hint(format!("write one of: {}", forms.join(", "))));
        Choice::Reported
    }

    fn word(&mut self, words: &[&Value], node: &Spanned<DeValue<'_>>, path: &str) {
        let given = match node.get_ref() {
            DeValue::String(s) => Value::from(s.as_ref()),
            DeValue::Boolean(b) => Value::from(*b),
            DeValue::Integer(i) => i.as_str().parse::<i64>().map_or(Value::Null, Value::from),
            _ => Value::Null,
        };
        if words.contains(&&given) {
            return;
        }
        let known: Vec<&str> = words.iter().filter_map(|w| w.as_str()).collect();
        let shown = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
        let fault = self.file.fault(node.span(), "unknown_word", format!("`{shown}` is no known value of `{path}`"));
        self.faults.push(match known.as_slice() {
            [word] => fault.hint(format!("write `{} = {word:?}`", path.rsplit('.').next().unwrap_or(path))),
            _ => fault.hint(suggest(&shown, known)),
        });
    }

    fn wrong_type(&mut self, schema: &Value, node: &Spanned<DeValue<'_>>, path: &str) {
        let mut wanted = Vec::new();
        self.type_words(schema, &mut wanted);
        wanted.dedup();
        let given = match type_word(node.get_ref()) {
            "object" => "a table",
            "boolean" => "true or false",
            "array" => "a list",
            "integer" => "a number",
            "number" => "a fraction",
            _ => "a string",
        };
        let words = self.words(schema);
        let wanted_words = match words.as_slice() {
            [] => wanted.join(" or "),
            words => words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(" or "),
        };
        let message = format!("`{path}` must be {wanted_words}, not {given}");
        let fault = self.file.fault(node.span(), "wrong_type", message);
        let wants = |kind: &str| wanted.iter().any(|w| w == kind);
        let text = self.file.text.get(node.span()).unwrap_or("");
        let unquoted = text.trim_matches(['"', '\'']);
        let fits = match node.get_ref() {
            DeValue::String(s) => {
                wants("a whole number") && s.parse::<i64>().is_ok()
                    || wants("true or false") && s.parse::<bool>().is_ok()
            }
            _ => false,
        };
        let hint = match node.get_ref() {
            _ if !words.is_empty() => {
                let key = path.rsplit('.').next().unwrap_or(path);
                let lines = words.iter().map(|w| format!("`{key} = {w:?}`")).collect::<Vec<_>>().join(" or ");
                with_about(format!("write {lines}"), schema)
            }
            _ if fits => format!("leave the quotes away: `{unquoted}`"),
            DeValue::Table(_) | DeValue::Array(_) if wants("a string") => {
                with_about("write one string".to_owned(), schema)
            }
            DeValue::String(_) if wants("a list") => format!("put it in brackets: `[{text}]`"),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if wants("a string") => {
                format!("put it in quotes: `\"{text}\"`")
            }
            _ => with_about(format!("write {}", wanted.join(" or ")), schema),
        };
        self.faults.push(fault.hint(hint));
    }

    fn type_words(&self, schema: &Value, into: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let one = schema.get("type").and_then(Value::as_str).map(str::to_owned).into_iter();
        let several = schema
            .get("type")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned);
        for word in one.chain(several).filter(|w| w != "null") {
            into.push(match word.as_str() {
                "object" => "a table".to_owned(),
                "array" => "a list".to_owned(),
                "boolean" => "true or false".to_owned(),
                "integer" => "a whole number".to_owned(),
                other => format!("a {other}"),
            });
        }
        for branch in schema.as_object().and_then(alternatives).into_iter().flatten() {
            self.type_words(branch, into);
        }
    }
}

enum Choice {
    One(Value),
    Reported,
    None,
}

/// `anyOf` or `oneOf`, without the `null` that an optional value brings.
fn alternatives(rules: &Map<String, Value>) -> Option<Vec<&Value>> {
    let list = rules.get("oneOf").or_else(|| rules.get("anyOf"))?.as_array()?;
    Some(list.iter().filter(|b| b.get("type").and_then(Value::as_str) != Some("null")).collect())
}

/// The property that has a constant in every branch: what an internally tagged enum is told by.
fn tag_of(branches: &[Value]) -> Option<String> {
    let first = branches.first()?.get("properties")?.as_object()?;
    first.keys().find(|name| branches.iter().all(|b| tag_word(b, name).is_some())).cloned()
}

fn tag_word<'a>(branch: &'a Value, tag: &str) -> Option<&'a str> {
    branch.get("properties")?.get(tag)?.get("const")?.as_str()
}

fn type_word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) | DeValue::Datetime(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

/// True if a resolved schema can take a value of this JSON type.
fn allows(schema: &Value, word: &str) -> bool {
    let fits = |t: &str| t == word || (t == "number" && word == "integer");
    match schema.get("type") {
        Some(Value::String(t)) => fits(t),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(fits),
        _ => match (schema.get("const"), schema.get("enum")) {
            (Some(c), _) => c.is_string() == (word == "string"),
            (None, Some(_)) => word == "string",
            _ => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::secret::Secret;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Top {
        /// Where the ledger is.
        state: String,
        #[serde(default)]
        source: BTreeMap<String, Kind>,
        #[serde(default)]
        route: Vec<Route>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    enum Kind {
        Imap {
            host: String,
            port: Option<u16>,
            password: Secret,
            #[serde(default)]
            after: After,
        },
        Maildir {
            #[expect(dead_code, reason = "only its schema is of interest here")]
            path: String,
        },
    }

    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum After {
        #[default]
        Flag,
        Delete,
        #[serde(untagged)]
        Move {
            move_to: String,
        },
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Route {
        to: Vec<String>,
    }

    fn faults(text: &str) -> Vec<String> {
        let error = parse::<Top>(&SourceFile::new("c.toml", text)).expect_err("faults");
        error
            .sorted()
            .iter()
            .map(|d| {
                format!("{}:{} {} {} | {}", d.line, d.column, d.code, d.message, d.hint.clone().unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn a_good_file_is_read_with_its_places() {
        let text = "state = 'a.db'\n[source.inbox]\nkind = 'imap'\nhost = 'h'\npassword = { env = 'X' }\nafter = { move_to = 'Done' }\n[[route]]\nto = ['a', 'b']\n";
        let parsed = parse::<Top>(&SourceFile::new("c.toml", text)).unwrap_or_else(|d| panic!("{d}"));
        assert_eq!(parsed.value.state, "a.db");
        assert_eq!(parsed.value.route[0].to, ["a", "b"]);
        let Kind::Imap { host, port, password, after } = &parsed.value.source["inbox"] else {
            panic!("an imap source")
        };
        assert_eq!((host.as_str(), *port, password), ("h", None, &Secret::Env { env: "X".into() }));
        assert_eq!(after, &After::Move { move_to: "Done".into() });
        let fault = parsed.places.fault(&["source", "inbox", "host"], "x", "y");
        assert_eq!((fault.line, fault.column), (4, 8));
        let fault = parsed.places.fault(&["route", "0", "to", "1"], "x", "y");
        assert_eq!((fault.line, fault.column), (8, 12));
    }

    #[test]
    fn all_faults_come_at_once_with_suggestions() {
        let found = faults(
            "stat = 'a.db'\n[source.inbox]\nkind = 'imap'\nhots = 'h'\nport = 'x'\npassword = { evn = 'X' }\nafter = 'delet'\n[source.b]\nkind = 'mapi'\n[source.c]\npath = 'x'\n[[route]]\nto = 'a'\n",
        );
        let text = found.join("\n");
        for expected in [
            "1:1 unknown_key unknown key `stat` | did you mean `state`?",
            "missing_key the file lacks the key `state` | add `state = …`: Where the ledger is",
            "4:1 unknown_key unknown key `hots` in `source.inbox` | did you mean `host`?",
            "`source.inbox` lacks the key `host`",
            "5:8 wrong_type `source.inbox.port` must be a whole number, not a string | write a whole number",
            "`source.inbox.password` has none of the forms",
            "7:9 unknown_word `delet` is no known value of `source.inbox.after` | did you mean `delete`?",
            "9:8 unknown_word `mapi` is no known `kind`",
            "`source.c` lacks the key `kind` | `kind` is one of: `imap`, `maildir`",
            "13:6 wrong_type `route[0].to` must be a list, not a string | put it in brackets: `['a']`",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_number_out_of_range_and_broken_toml_are_told() {
        let found = faults("state = 'a'\n[source.i]\nkind='imap'\nhost='h'\npassword='p'\nport = 70000\n").join("\n");
        assert!(found.contains("6:8 out_of_range `source.i.port` must be between 0 and 65535"), "{found}");
        let found = faults("state = \n").join("\n");
        assert!(found.contains("toml_syntax"), "{found}");
    }
}
