//! The record policies of a manifest, compiled: the choices, and the guard against making a record by mistake.
//!
//! A step that makes a record must stand aside, and only choices that are not the default may send it: nothing
//! is made unless the operator wrote the choice out. That a `PUT` or `PATCH` of some CRMs makes a record where
//! there is none can't be seen here; such a manifest sends `If-Match: *` or what its CRM has for it.

use super::Loader;
use crate::connector::manifest::{self, Effect};
use crate::connector::policy::{Choice, Course, DEAD, PARK, Policy};
use crate::diagnostic::suggest;
use crate::outcome::Reason;
use crate::record::Place;

impl Loader<'_> {
    pub(super) fn policies(&mut self) -> Vec<Policy> {
        let manifest = self.manifest;
        let mut all: Vec<Policy> = Vec::new();
        for (i, policy) in manifest.policy.iter().enumerate() {
            let i = i.to_string();
            if all.iter().any(|p| p.when == policy.when) {
                let message = format!("there are two policies for `{}`", policy.when);
                self.fault(&["policy", &i, "when"], "duplicate_policy", message, "make one of them");
            }
            let policy = self.policy(&i, policy);
            all.push(policy);
        }
        if all.iter().all(|p| p.when != Reason::RecordNotFound) {
            all.push(Policy::not_found());
        }
        for (i, step) in manifest.step.iter().enumerate() {
            let first = manifest.policy.iter().flat_map(|p| p.choices.values()).flat_map(|c| &c.first);
            let is_named = first.into_iter().any(|id| *id == step.id);
            let i = i.to_string();
            if step.creates && !step.aside {
                self.fault(
                    &["step", &i, "creates"],
                    "makes_records",
                    "a step that makes a record must not be one of the steps in order",
                    "say `aside = true`, and name it as `first` of a choice of a `[[policy]]`",
                );
            } else if step.aside && !is_named {
                let message = format!("nothing sends the step `{}`", step.id);
                let hint = "name it as `first` of a choice of a `[[policy]]`, or leave `aside` away";
                self.fault(&["step", &i, "aside"], "unused_step", message, hint);
            }
        }
        all
    }

    fn policy(&mut self, i: &str, policy: &manifest::Policy) -> Policy {
        let mut choices = vec![(DEAD.to_owned(), Choice::Dead), (PARK.to_owned(), Choice::Park)];
        for (name, choice) in &policy.choices {
            let at = ["policy", i, "choices", name.as_str()];
            let is_built_in = [DEAD, PARK].contains(&name.as_str());
            let is_empty = choice.first.is_empty() && choice.skip.is_empty() && choice.record.is_none();
            match (is_built_in, is_empty) {
                (true, true) => continue,
                (true, false) => {
                    let message = format!("`{name}` means the same in every connector");
                    self.fault(&at, "reserved_name", message, "give the choice another name");
                }
                (false, true) => {
                    let hint = "state `first`, `skip` or `record`; a person decides by `dead`, which is always there";
                    self.fault(&at, "no_effect", format!("the choice `{name}` changes nothing"), hint);
                }
                (false, false) => {
                    if let Some(course) = self.course(i, name, choice, policy.default == *name) {
                        choices.push((name.clone(), Choice::Course(Box::new(course))));
                    }
                }
            }
        }
        let known = policy.choices.keys().map(String::as_str).chain([DEAD, PARK]);
        if !known.clone().any(|name| name == policy.default) {
            let message = format!("there is no choice `{}`", policy.default);
            self.fault(&["policy", i, "default"], "unknown_word", message, suggest(&policy.default, known));
        }
        choices.sort_by(|a, b| a.0.cmp(&b.0));
        Policy { when: policy.when, default: policy.default.clone(), choices }
    }

    fn course(&mut self, i: &str, name: &str, choice: &manifest::Choice, is_default: bool) -> Option<Course> {
        let steps = &self.manifest.step;
        let mut indexes = |key: &'static str, ids: &[String]| -> Vec<usize> {
            let mut all = Vec::new();
            for (n, id) in ids.iter().enumerate() {
                let n = n.to_string();
                let at = ["policy", i, "choices", name, key, n.as_str()];
                let found = steps.iter().position(|s| s.id == *id);
                match found.and_then(|index| steps.get(index)) {
                    None => {
                        let known: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
                        self.fault(&at, "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
                    }
                    Some(step) if key == "first" && !step.aside => {
                        let hint = "say `aside = true` in that step";
                        self.fault(&at, "wrong_step", format!("the step `{id}` is one of the steps in order"), hint);
                    }
                    Some(step) if key == "first" && step.creates && is_default => {
                        let message = format!("the step `{id}` makes a record, and this choice is the default");
                        let hint = "a record is made only where the operator says so: let `default` be another choice";
                        self.fault(&at, "makes_records", message, hint);
                    }
                    Some(step) if key == "first" && step.effect == Effect::Read => {
                        let hint = "name the step that changes something; what it needs is read by itself";
                        self.fault(&at, "wrong_effect", format!("the step `{id}` only reads"), hint);
                    }
                    Some(_) => {}
                }
                all.extend(found);
            }
            all
        };
        let first = indexes("first", &choice.first);
        let skip = indexes("skip", &choice.skip);
        let record = match &choice.record {
            None => None,
            Some(text) => Some(self.inline(&["policy", i, "choices", name, "record"], text, Place::Text)?),
        };
        Some(Course { first, skip, record })
    }
}
