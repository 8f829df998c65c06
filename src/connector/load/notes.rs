//! `[note_only]` of a manifest, compiled: which steps a mail of an unverified sender may cause.

use super::Loader;
use crate::connector::manifest::Effect;
use crate::diagnostic::suggest;

impl Loader<'_> {
    /// Indexes of the steps.
    pub(super) fn note_only(&mut self) -> Vec<usize> {
        let Some(table) = &self.manifest.note_only else { return Vec::new() };
        let steps = &self.manifest.step;
        if table.steps.is_empty() {
            let hint = "name the step that adds a note, or leave `[note_only]` away";
            self.fault(&["note_only", "steps"], "missing_value", "`steps` names none", hint);
        }
        let mut all = Vec::new();
        for (n, id) in table.steps.iter().enumerate() {
            let n = n.to_string();
            let at = ["note_only", "steps", n.as_str()];
            let found = steps.iter().position(|s| s.id == *id);
            match found.and_then(|index| steps.get(index)) {
                None => {
                    let known: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
                    self.fault(&at, "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
                }
                Some(step) if step.effect == Effect::Read || step.creates => {
                    let hint = "name a step that adds a note to a record";
                    self.fault(&at, "wrong_effect", format!("the step `{id}` adds no note"), hint);
                }
                Some(step) if !self.texts(step).contains("unverified") => {
                    let hint = "have `{{#if unverified}}…{{/if}}` in its template; `note.txt` has it";
                    let message = format!("the step `{id}` does not say that the sender was not verified");
                    self.fault(&at, "not_said", message, hint);
                }
                Some(_) => {}
            }
            all.extend(found);
        }
        all
    }
}
