//! `[record.read]`, compiled: which step asks for the record, and where its fields are in the answer.

use super::Loader;
use crate::connector::assertion::FieldsStored;
use crate::connector::manifest::{self, Effect};
use crate::connector::reading::{Also, Reading, Where};
use crate::connector::step::Step;
use crate::diagnostic::suggest;
use crate::record::Place;

impl Loader<'_> {
    pub(super) fn reading(&mut self, steps: &[Step]) -> Option<Reading> {
        let read = self.manifest.record.read.as_ref()?;
        let at = ["record", "read", "step"];
        let found = self.manifest.step.iter().position(|step| step.id == read.step);
        let Some(step) = found else {
            let reads = self.manifest.step.iter().filter(|step| step.effect == Effect::Read);
            let known: Vec<&str> = reads.map(|step| step.id.as_str()).collect();
            self.fault(&at, "unknown_step", format!("there is no step `{}`", read.step), suggest(&read.step, known));
            return None;
        };
        if self.manifest.step.get(step).is_some_and(|step| step.effect != Effect::Read) {
            let message = format!("`{}` may change something", read.step);
            self.fault(&at, "wrong_effect", message, "name a step with `effect = \"read\"`");
        }
        // Where steps have faults of their own, their order is not that of the manifest.
        let compiled = steps.iter().find(|step| step.id == read.step);
        if compiled.is_some_and(|step| !step.needs.is_empty() || !step.when_needs.is_empty()) {
            let message = format!("`{}` uses what another step captured", read.step);
            self.fault(&at, "wrong_step", message, "name a step that needs no other one");
        }
        let place = self.place(read);
        let mut also = Vec::new();
        for (name, one) in &read.also {
            let now = self.json_path(&["record", "read", "also", name, "now"], &one.now);
            let then = self.inline(&["record", "read", "also", name, "then"], &one.then, Place::Leaf);
            also.extend(now.zip(then).map(|(now, then)| Also { name: name.clone(), now, then }));
        }
        Some(Reading { step, place: place?, also })
    }

    fn place(&mut self, read: &manifest::ReadRecord) -> Option<Where> {
        match (&read.fields, &read.members) {
            (Some(fields), None) => self.fields_stored(&["record", "read", "fields"], fields).map(Where::Items),
            (None, Some(text)) => {
                self.inline(&["record", "read", "members"], text, Place::Text).map(|t| Where::Members(Box::new(t)))
            }
            _ => self.one_of(&["record", "read"], "`fields` or `members`"),
        }
    }

    /// Where an answer lists fields.
    pub(super) fn fields_stored(&mut self, at: super::At<'_>, fields: &manifest::FieldsStored) -> Option<FieldsStored> {
        let mut path = |key, text: &str| self.json_path(&[at, &[key]].concat(), text);
        let (items, names) = (path("items", &fields.items), path("names", &fields.names));
        let values = path("values", &fields.values);
        Some(FieldsStored { items: items?, names: names?, values: values? })
    }
}
