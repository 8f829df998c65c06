//! The look-ups of a manifest, compiled.

use std::collections::BTreeSet;

use super::Loader;
use crate::connector::lookup::Lookup;
use crate::connector::manifest::{self, Effect};
use crate::diagnostic::suggest;

impl Loader<'_> {
    pub(super) fn lookups(&mut self) -> Vec<Lookup> {
        let (mut seen, mut asking) = (BTreeSet::new(), BTreeSet::new());
        let mut all = Vec::new();
        for (i, lookup) in self.manifest.lookup.iter().enumerate() {
            let i = i.to_string();
            if lookup.name.is_empty() || !seen.insert(lookup.name.as_str()) {
                let message = format!("a look-up needs a name of its own, and `{}` is none", lookup.name);
                self.fault(&["lookup", &i, "name"], "duplicate_lookup", message, "give it another name");
            }
            if !asking.insert(lookup.step.as_str()) {
                let message = format!("two look-ups ask by the step `{}`", lookup.step);
                self.fault(&["lookup", &i, "step"], "duplicate_lookup", message, "give each a step of its own");
            }
            all.extend(self.lookup(&i, lookup));
        }
        all
    }

    fn lookup(&mut self, i: &str, lookup: &manifest::Lookup) -> Option<Lookup> {
        let steps = &self.manifest.step;
        let step = steps.iter().position(|s| s.id == lookup.step);
        match step.and_then(|index| steps.get(index)) {
            Some(step) if step.effect == Effect::Read => {}
            Some(_) => {
                let message = format!("the step `{}` may change something", lookup.step);
                let hint = "name a step with `effect = \"read\"`";
                self.fault(&["lookup", i, "step"], "wrong_effect", message, hint);
            }
            None => {
                let known: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
                let message = format!("there is no step `{}`", lookup.step);
                self.fault(&["lookup", i, "step"], "unknown_step", message, suggest(&lookup.step, known));
            }
        }
        for (n, test) in lookup.only_if.iter().enumerate().filter(|(_, test)| test.otherwise.is_some()) {
            let n = n.to_string();
            let message = format!("a candidate of which `{}` does not hold does not count", test.path);
            let at = ["lookup", i, "only_if", n.as_str(), "otherwise"];
            self.fault(&at, "unknown_key", message, "leave `otherwise` away");
        }
        let candidates = self.json_path(&["lookup", i, "candidates"], &lookup.candidates);
        let id = self.json_path(&["lookup", i, "id"], &lookup.id);
        let mut label = Vec::new();
        for (n, path) in lookup.label.iter().enumerate() {
            label.extend(self.json_path(&["lookup", i, "label", &n.to_string()], path));
        }
        let only_if = self.assertions(&["lookup", i, "only_if"], &lookup.only_if);
        let total = lookup.total.as_ref().and_then(|path| self.json_path(&["lookup", i, "total"], path));
        let more = lookup.more.as_ref().and_then(|path| self.json_path(&["lookup", i, "more"], path));
        Some(Lookup {
            name: lookup.name.clone(),
            step: step?,
            candidates: candidates?,
            id: id?,
            label,
            only_if,
            total,
            more,
        })
    }
}
