//! Steps that are sent for each item of a list, made into one step for every item that there can be: so each has its
//! own state, its own digest and its own place in the ledger, and nothing else needs to know of lists.

use super::Loader;
use crate::connector::manifest::{Effect, Step};
use crate::connector::step::Each;
use crate::record::Place;

/// The steps of a file, each followed by its copies for further items, as `tag`, `tag.2`, `tag.3`.
pub(super) fn spread(steps: Vec<Step>) -> Vec<Step> {
    let mut all = Vec::with_capacity(steps.len());
    for (index, step) in steps.into_iter().enumerate() {
        let count = if step.each.is_some() { step.each_max.clamp(1, 50) as usize } else { 1 };
        for item in 0..count {
            let id = if item == 0 { step.id.clone() } else { format!("{}.{}", step.id, item + 1) };
            all.push(Step { id, place: (index, item), ..step.clone() });
        }
    }
    all
}

impl Loader<'_> {
    /// The list that a step goes through.
    pub(super) fn each(&mut self, i: &str, index: usize, step: &Step) -> Option<Each> {
        let text = step.each.as_ref()?;
        let at = ["step", i, "each"];
        let list = self.inline(&at, text, Place::Leaf);
        if !self.needs(index, i, text).is_empty() {
            let hint = "take it from the settings or the session";
            self.fault(&at, "capture_in_list", "a list can't be made of captured values", hint);
        }
        if !step.capture.is_empty() {
            let hint = "leave `capture` away: there is one answer for each item";
            self.fault(&["step", i, "capture"], "capture_of_list", "a step with `each` captures nothing", hint);
        }
        let looks = step.effect == Effect::Read && step.found.is_some();
        if step.effect == Effect::Orphanable || step.effect == Effect::Read && !looks {
            let hint = "`each` is for steps that change something, and for the look-ups of their markers";
            self.fault(&at, "wrong_effect", "nothing would ask for this step", hint);
        }
        Some(Each { list: list?, at: step.place.1 })
    }

    /// Of the look-up at `lookup`, the copy for the item of `step`.
    pub(super) fn look_up_of_item(&mut self, i: &str, step: &Step, lookup: usize) -> usize {
        let steps = &self.manifest.step;
        match steps.get(lookup) {
            Some(found) if found.each == step.each && found.each_max == step.each_max => {
                if step.each.is_some() {
                    lookup + step.place.1
                } else {
                    lookup
                }
            }
            _ => {
                let hint = "write the same `each` (and `each_max`) in both";
                let message = "a step and the one that looks for its marker go through the same items";
                self.fault(&["step", i, "marker_step"], "other_list", message, hint);
                lookup
            }
        }
    }
}
