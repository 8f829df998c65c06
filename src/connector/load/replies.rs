//! The reply table of a manifest, compiled.

use super::Loader;
use crate::connector::manifest::Reply;
use crate::connector::reply::{Row, TextTest, ValueTest};
use crate::diagnostic::suggest;

impl Loader<'_> {
    pub(super) fn replies(&mut self) -> Vec<Row> {
        let rows = self.manifest.reply.iter().enumerate();
        rows.filter_map(|(i, reply)| self.row(&i.to_string(), reply)).collect()
    }

    fn row(&mut self, i: &str, reply: &Reply) -> Option<Row> {
        let mut steps = Vec::new();
        for (n, id) in reply.steps.iter().enumerate() {
            let named = self.manifest.step.iter().find(|s| s.id == *id).map(|s| s.place.0);
            match named {
                // With all items, where it is sent for a list.
                Some(of) => {
                    let all = self.manifest.step.iter().enumerate();
                    steps.extend(all.filter_map(|(index, s)| (s.place.0 == of).then_some(index)));
                }
                None => {
                    let known: Vec<&str> = self.manifest.step.iter().map(|s| s.id.as_str()).collect();
                    let n = n.to_string();
                    let at = ["reply", i, "steps", n.as_str()];
                    self.fault(&at, "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
                }
            }
        }
        let status = self.statuses(&["reply", i, "status"], &reply.status);
        if reply.status.is_empty() && reply.header.is_none() && reply.json.is_none() && reply.body.is_none() {
            self.fault(
                &["reply", i],
                "no_condition",
                "this row fits every answer",
                "state at least one of `status`, `header`, `json`, `body`",
            );
        }
        let header = match &reply.header {
            None => None,
            Some(test) => {
                let kind = match (&test.equals, &test.regex) {
                    (None, None) => TextTest::Present,
                    (Some(text), None) => TextTest::Equals(text.clone()),
                    (None, Some(regex)) => TextTest::Regex(self.regex(&["reply", i, "header", "regex"], regex)?),
                    (Some(_), Some(_)) => return self.one_of(&["reply", i, "header"], "`equals` or `regex`"),
                };
                Some((test.name.to_lowercase(), kind))
            }
        };
        let json = match &reply.json {
            None => None,
            Some(test) => {
                let path = self.json_path(&["reply", i, "json", "path"], &test.path);
                let kind = match (&test.equals, test.any_of.as_slice(), &test.regex) {
                    (None, [], None) => ValueTest::Present,
                    (Some(value), [], None) => ValueTest::AnyOf(vec![value.clone()]),
                    (None, any @ [_, ..], None) => ValueTest::AnyOf(any.to_vec()),
                    (None, [], Some(regex)) => ValueTest::Regex(self.regex(&["reply", i, "json", "regex"], regex)?),
                    _ => return self.one_of(&["reply", i, "json"], "`equals`, `any_of` or `regex`"),
                };
                Some((path?, kind))
            }
        };
        let body = match reply.body.as_ref().and_then(|b| b.regex.as_ref()) {
            None => None,
            Some(regex) => Some(self.regex(&["reply", i, "body", "regex"], regex)?),
        };
        let after_json = match reply.after.as_ref().and_then(|after| after.json.as_ref()) {
            None => None,
            Some(path) => Some(self.json_path(&["reply", i, "after", "json"], path)?),
        };
        Some(Row {
            steps,
            status,
            header,
            json,
            body_empty: reply.body.as_ref().and_then(|b| b.empty),
            body,
            class: reply.class,
            reason: reply.reason,
            after: reply.after.clone(),
            after_json,
            note: reply.note.clone(),
        })
    }

    /// Says that only one of several keys can stand here.
    pub(super) fn one_of<T>(&mut self, at: &[&str], words: &str) -> Option<T> {
        self.fault(at, "one_of", format!("exactly one of {words} must stand here"), "leave one, and only one");
        None
    }
}
