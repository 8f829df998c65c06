//! The operator's field map: canonical value names to the CRM's own fields.
//!
//! The names are those of `_shared/values.json`, every single-valued field of the session under its own
//! name, and the operator's own leaf templates. A field without a value is left out, never blanked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::engine::{self, Budget, Run, Uses};
use super::escape::Escape;
use super::helpers::is_empty;
use super::leaf::Leaf;
use super::lint::{Frame, Locals, Surroundings};
use super::origin::Origin;
use super::payload::Payload;
use super::{Context, RenderFault, Shape};
use crate::diagnostic::{Diagnostics, SourceFile, nearest, suggest};
use crate::folder::Folder;

/// One line of `[destination.x.fields]`: `disposition_code = "cf_disposition"`.
#[derive(Debug, Clone)]
pub struct FieldEntry {
    /// The canonical name.
    pub name: String,
    /// The CRM's field: a string or an integer.
    pub field: Value,
    /// The name's bytes in the file.
    pub span: Range<usize>,
}

/// One line of `[destination.x.values]`: `short_note = "{{truncate disposition.note 200}}"`.
#[derive(Debug, Clone)]
pub struct OwnValue {
    /// The name, used like a canonical one.
    pub name: String,
    /// The leaf template.
    pub template: String,
    /// The byte of the file where the template begins (inside the quotes).
    pub offset: usize,
}

/// A field with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The canonical name.
    pub name: String,
    /// The CRM's field: a string or an integer.
    pub field: Value,
    /// Never empty.
    pub value: Value,
}

/// A compiled field map.
#[derive(Debug)]
pub struct FieldMap {
    entries: Vec<(String, Value, Leaf)>,
    uses: Uses,
}

impl FieldMap {
    /// Compiles the entries against the names of `shared`'s `values.json`, the session's single-valued
    /// fields and the operator's own values, which come first.
    pub fn compile(
        entries: &[FieldEntry],
        own: &[OwnValue],
        file: &SourceFile,
        shared: &Folder,
        shape: &Shape,
    ) -> Result<Self, Diagnostics> {
        let mut faults = Diagnostics::new();
        let around = Surroundings { shape, unescaped: false, partials: None, includes: None };
        let frames = [Frame::new(shape.root(), Locals::None)];
        let mut leaves = BTreeMap::new();
        if let Some(values) = shared.file("values.json") {
            match Payload::compile(values, &around) {
                Ok(payload) => leaves.extend(payload.into_leaves()),
                Err(found) => faults.extend(found),
            }
        }
        for value in own {
            let origin = Origin::string(file, value.offset, &value.template);
            match Leaf::compile(&value.template, origin.clone(), &around, &frames) {
                Ok(leaf) if leaf.keep => {
                    let message = "a field without a value is left out: `keep_empty` has no effect here";
                    let hint = "give it a value with `default`, or set the field in a payload template";
                    faults.push(origin.fault(0..value.template.len(), "keep_empty", message).hint(hint));
                }
                Ok(leaf) => {
                    leaves.insert(value.name.clone(), leaf);
                }
                Err(found) => {
                    // The name is known all the same.
                    faults.extend(found);
                    leaves.remove(&value.name);
                }
            }
        }
        let broken: BTreeSet<&str> = own.iter().map(|v| v.name.as_str()).filter(|n| !leaves.contains_key(*n)).collect();
        let scalars: Vec<&str> =
            shape.members().iter().filter(|(_, f)| f.is_scalar()).map(|(n, _)| n.as_str()).collect();
        let known: BTreeSet<String> = leaves.keys().cloned().chain(scalars.iter().map(|n| (*n).to_owned())).collect();
        let mut compiled = Vec::with_capacity(entries.len());
        for entry in entries {
            if !matches!(&entry.field, Value::String(name) if !name.trim().is_empty()) && !entry.field.is_i64() {
                let message = format!("the CRM's field for `{}` is no name and no integer", entry.name);
                let hint = "write it as the CRM shows it, such as `\"cf_disposition\"` or `360001234567`";
                faults.push(file.fault(entry.span.clone(), "wrong_type", message).hint(hint));
            }
            let leaf = match leaves.remove(&entry.name) {
                Some(leaf) => leaf,
                None if scalars.contains(&entry.name.as_str()) => {
                    let template = format!("{{{{this.{}}}}}", entry.name);
                    let origin = Origin::string(file, entry.span.start, &template);
                    match Leaf::compile(&template, origin, &around, &frames) {
                        Ok(leaf) => leaf,
                        Err(found) => {
                            faults.extend(found);
                            continue;
                        }
                    }
                }
                None if broken.contains(entry.name.as_str()) => continue,
                None => {
                    let message = format!("there is no value `{}`", entry.name);
                    let hint = match nearest(&entry.name, known.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if known.len() > 40 => {
                            "the names are those of `mail2crm schema session` and of `_shared/values.json`; \
                             add one of your own under `values`"
                                .to_owned()
                        }
                        None => suggest(&entry.name, known.iter().map(String::as_str)),
                    };
                    faults.push(file.fault(entry.span.clone(), "unknown_value", message).hint(hint));
                    continue;
                }
            };
            compiled.push((entry.name.clone(), entry.field.clone(), leaf));
        }
        let loops = compiled.iter().any(|(.., leaf)| leaf.uses.loops);
        faults.into_result(Self { entries: compiled, uses: Uses { loops, includes: false } })
    }

    /// The fields that have a value for this session.
    pub fn evaluate(&self, context: &Context) -> Result<Vec<Field>, RenderFault> {
        let budget = Budget::new();
        let registry = engine::base(Escape::Plain);
        let mut run = Run::new(registry, Escape::Plain, context.inner(), &budget, None, self.uses);
        let mut fields = Vec::with_capacity(self.entries.len());
        for (name, field, leaf) in &self.entries {
            let value = leaf.value(&mut run)?;
            budget.value(&value).map_err(|message| leaf.fault_at(0, message))?;
            if !is_empty(&value) {
                fields.push(Field { name: name.clone(), field: field.clone(), value });
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::context::tests::context;

    /// The folder `_shared` as it is embedded.
    pub(in crate::record) fn shared() -> Folder {
        let file = |path: &str, text: &'static str| (path.to_owned(), SourceFile::new(format!("_shared/{path}"), text));
        let files = [
            file("values.json", include_str!("../../templates/_shared/values.json")),
            file("note.txt.hbs", include_str!("../../templates/_shared/note.txt.hbs")),
            file("note.md.hbs", include_str!("../../templates/_shared/note.md.hbs")),
            file("note.html.hbs", include_str!("../../templates/_shared/note.html.hbs")),
        ];
        Folder { name: "_shared".into(), files: files.into() }
    }

    fn entries(file: &SourceFile, pairs: &[(&str, Value)]) -> Vec<FieldEntry> {
        pairs
            .iter()
            .map(|(name, field)| {
                let start = file.text.find(name).unwrap_or(0);
                FieldEntry { name: (*name).to_owned(), field: field.clone(), span: start..start + name.len() }
            })
            .collect()
    }

    #[test]
    fn every_canonical_name_compiles_and_evaluates() {
        let shared = shared();
        let values: Value = serde_json::from_str(&shared.files["values.json"].text).expect("JSON");
        let names: Vec<(&str, Value)> =
            values.as_object().expect("an object").keys().map(|k| (k.as_str(), json!("cf"))).collect();
        let file = SourceFile::new("c.toml", "");
        let map = FieldMap::compile(&entries(&file, &names), &[], &file, &shared, &Shape::for_session());
        let fields = map.unwrap_or_else(|d| panic!("{d}")).evaluate(&context()).expect("fields");
        let of = |name: &str| fields.iter().find(|f| f.name == name).map(|f| f.value.clone());
        assert_eq!(of("disposition_codes"), Some("Billing; Resolved".into()));
        assert_eq!(of("handle_minutes"), Some(4.into()));
        assert_eq!(of("customer_phone"), Some("+13125550123".into()));
        assert_eq!(of("customer_email"), None);
        assert!(fields.len() > 25, "{}", fields.len());
    }

    #[test]
    fn session_fields_and_own_templates_are_names_too() {
        let text = "[fields]\nrating = 360\nshort = \"cf_s\"\n[values]\nshort = \"{{truncate disposition.note 6}}\"\n";
        let file = SourceFile::new("c.toml", text);
        let template = "{{truncate disposition.note 6}}";
        let offset = text.find(template).expect("there");
        let own = [OwnValue { name: "short".into(), template: template.into(), offset }];
        let entries =
            entries(&file, &[("rating", 360.into()), ("short", "cf_s".into()), ("smart_action_text", "x".into())]);
        let map = FieldMap::compile(&entries, &own, &file, &shared(), &Shape::for_session());
        let fields = map.unwrap_or_else(|d| panic!("{d}")).evaluate(&context()).expect("fields");
        assert_eq!(fields.len(), 2, "{fields:?}");
        assert_eq!(fields[0].field, json!(360));
        assert_eq!(fields[1].value, "Paid …");
    }

    #[test]
    fn unknown_names_and_wrong_templates_are_found_at_once() {
        let text = "disposition_cod = \"a\"\nrating = true\nown = \"{{agent.nme}}\"\n";
        let file = SourceFile::new("c.toml", text);
        let offset = text.find("{{").expect("there");
        let own = [OwnValue { name: "own".into(), template: "{{agent.nme}}".into(), offset }];
        let entries = entries(&file, &[("disposition_cod", "a".into()), ("rating", true.into()), ("own", "b".into())]);
        let faults = FieldMap::compile(&entries, &own, &file, &shared(), &Shape::for_session()).expect_err("faults");
        let found: Vec<_> = faults.sorted().iter().map(|d| (d.line, d.column, d.code)).collect();
        assert_eq!(found, [(1, 1, "unknown_value"), (2, 1, "wrong_type"), (3, 16, "unknown_name")]);
        assert!(faults.render().contains("did you mean `disposition_code`?"), "{faults}");
    }
}
