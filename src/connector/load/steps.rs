//! The steps of a manifest, compiled: templates, captures, assertions, and which step needs which.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{At, Loader};
use crate::connector::assertion::{self, Expected, Judgement, Test};
use crate::connector::manifest::{self, Effect, SettingKind};
use crate::connector::page::{By, Page};
use crate::connector::step::{Body, Capture, Found, Origin, Part, PartContent, Payload, Step};
use crate::diagnostic::suggest;
use crate::record::Place;

impl Loader<'_> {
    pub(super) fn steps(&mut self) -> Vec<Step> {
        let manifest = self.manifest;
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for (index, step) in manifest.step.iter().enumerate() {
            let i = step.place.0.to_string();
            if step.place.1 > 0 {
                // What is wrong with it was told with the first item.
                let told = std::mem::take(&mut self.faults);
                all.extend(self.step(index, &i, step));
                self.faults = told;
                continue;
            }
            let fits = step
                .id
                .bytes()
                .enumerate()
                .all(|(n, b)| b.is_ascii_lowercase() || (n > 0 && (b.is_ascii_digit() || b == b'_')));
            if step.id.is_empty() || !fits {
                self.fault(
                    &["step", &i, "id"],
                    "bad_step_id",
                    format!("`{}` can't be the name of a step", step.id),
                    "small letters, digits and `_`",
                );
            }
            if !seen.insert(step.id.as_str()) {
                self.fault(
                    &["step", &i, "id"],
                    "duplicate_step",
                    format!("there are two steps `{}`", step.id),
                    "give one of them another name",
                );
            }
            all.extend(self.step(index, &i, step));
        }
        all
    }

    fn step(&mut self, index: usize, i: &str, step: &manifest::Step) -> Option<Step> {
        let at = |key: &'static str| ["step".to_owned(), i.to_owned(), key.to_owned()];
        macro_rules! p {
            ($key:literal) => {
                &at($key).each_ref().map(String::as_str)
            };
        }
        let when = step.when.as_ref().map(|t| self.inline(p!("when"), t, Place::Leaf));
        let method = self.inline(p!("method"), &step.method, Place::Text);
        let path = self.slot(p!("path"), &step.path, Place::UrlPath);
        let mut query = Vec::new();
        for (name, text) in &step.query {
            if let Some(template) = self.inline(&["step", i, "query", name], text, Place::Text) {
                query.push((name.clone(), template));
            }
        }
        let headers = self.headers(p!("headers"), &step.headers);
        let body = step.body.as_ref().map(|b| self.body(i, b));
        let captures = self.captures(i, step);
        let expect = self.expect(i, step.expect.as_ref());
        let marker_step = self.marker_step(i, step);
        let found = step.found.as_ref().map(|f| self.found(i, f));
        let verifies = step.verifies.as_ref().and_then(|id| {
            if step.effect != Effect::Read {
                self.fault(
                    p!("verifies"),
                    "wrong_effect",
                    "only a step with `effect = \"read\"` verifies another",
                    "leave `verifies` away",
                );
            }
            self.earlier(p!("verifies"), id, index)
        });
        if step.lifetime.is_some()
            && (step.capture.is_empty() || !matches!(step.effect, Effect::Orphanable | Effect::Idempotent))
        {
            self.fault(
                p!("lifetime"),
                "wrong_effect",
                "only what a step `orphanable` or `idempotent` captures has a lifetime, because that step can be done again",
                "leave `lifetime` away",
            );
        }
        let repeatable = step.repeatable.as_ref().map(|t| self.inline(p!("repeatable"), t, Place::Leaf));
        let on_conflict = step.on_conflict.as_ref().and_then(|c| {
            let goto = self.earlier(&["step", i, "on_conflict", "goto"], &c.goto, index + 1)?;
            Some((goto, c.max))
        });
        let origin = step.origin.as_ref().map(|o| {
            let base_url = self.inline(&["step", i, "origin", "base_url"], &o.base_url, Place::Text);
            let allow = self.whole_regex(&["step", i, "origin", "allow"], &o.allow);
            base_url.zip(allow).map(|(base_url, allow)| Origin { base_url, allow })
        });
        let page = step.page.as_ref().map(|p| self.page(i, step, p));
        let each = step.each.as_ref().map(|_| self.each(i, index, step));
        let mut needs = self.needs(index, i, &self.texts(step));
        needs.extend(self.guards_of(index));
        needs.sort_unstable();
        needs.dedup();
        self.guards(index, i, step);
        let when_needs = self.needs(index, i, step.when.as_deref().unwrap_or(""));
        Some(Step {
            id: step.id.clone(),
            effect: step.effect,
            when: flat(when)?,
            when_needs,
            method: method?,
            path: path?,
            query,
            headers,
            body: flat(body)?,
            needs,
            captures,
            lifetime: step.lifetime,
            expect,
            marker_step,
            found: flat(found)?,
            verifies,
            aside: step.aside,
            repeatable: flat(repeatable)?,
            required: step.required,
            on_conflict,
            origin: flat(origin)?,
            page: flat(page)?,
            each: flat(each)?,
        })
    }

    fn body(&mut self, i: &str, body: &manifest::Body) -> Option<Body> {
        let json = || "application/json".to_owned();
        Some(match body {
            manifest::Body::Json { template, setting, content_type } => Body::Json {
                payload: self.payload(i, template.as_deref(), setting.as_deref())?,
                content_type: content_type.clone().unwrap_or_else(json),
            },
            manifest::Body::Form { template, setting } => {
                Body::Form { payload: self.payload(i, template.as_deref(), setting.as_deref())? }
            }
            manifest::Body::Raw { file, content_type } => {
                Body::Raw { file: *file, content_type: content_type.clone().unwrap_or_else(json) }
            }
            manifest::Body::Multipart { parts } => {
                let mut all = Vec::new();
                for (n, part) in parts.iter().enumerate() {
                    let n = n.to_string();
                    let at = |key| ["step", i, "body", "parts", n.as_str(), key];
                    let content = match (&part.text, &part.template, part.file, &part.fields) {
                        (Some(text), None, None, None) => {
                            PartContent::Inline(Box::new(self.inline(&at("text"), text, Place::Text)?))
                        }
                        (None, Some(name), None, None) if name.ends_with(".json") => {
                            PartContent::Json(self.template_file(&at("template"), name, ".json")?)
                        }
                        (None, Some(name), None, None) => {
                            PartContent::Text(self.template_file(&at("template"), name, ".hbs")?)
                        }
                        (None, None, Some(file), None) => PartContent::File(file),
                        (None, None, None, Some(map)) => {
                            PartContent::Members(Box::new(self.inline(&at("fields"), map, Place::Leaf)?))
                        }
                        _ => {
                            let at = ["step", i, "body", "parts", &n];
                            return self.one_of(&at, "`text`, `template`, `file` or `fields`");
                        }
                    };
                    let name = match (&part.name, &content) {
                        (Some(name), PartContent::Members(_)) if !name.contains('*') => {
                            let hint = "write it as `custom_fields[*]`, or leave it away";
                            let message = "the `name` of `fields` has no `*` for the names";
                            self.fault(&at("name"), "wrong_value", message, hint);
                            return None;
                        }
                        (Some(name), _) => name.clone(),
                        (None, PartContent::Members(_)) => "*".to_owned(),
                        (None, _) => {
                            let at = ["step", i, "body", "parts", n.as_str()];
                            self.fault(
                                &at,
                                "missing_key",
                                "a part needs a `name`",
                                "add `name = \"…\"`, the form field",
                            );
                            return None;
                        }
                    };
                    let file_name = match &part.file_name {
                        None => None,
                        Some(text) => Some(self.inline(&at("file_name"), text, Place::Text)?),
                    };
                    all.push(Part { name, content, content_type: part.content_type.clone(), file_name });
                }
                Body::Multipart { parts: all }
            }
        })
    }

    fn payload(&mut self, i: &str, template: Option<&str>, setting: Option<&str>) -> Option<Payload> {
        match (template, setting) {
            (Some(name), None) => {
                self.template_file(&["step", i, "body", "template"], name, ".json").map(Payload::File)
            }
            (None, Some(name)) => self
                .setting_of_kind(&["step", i, "body", "setting"], name, SettingKind::Payload)
                .then(|| Payload::Setting(name.to_owned())),
            _ => self.one_of(&["step", i, "body"], "`template` or `setting`"),
        }
    }

    fn captures(&mut self, i: &str, step: &manifest::Step) -> Vec<Capture> {
        let mut all = Vec::new();
        for (name, capture) in &step.capture {
            let at = |key| ["step", i, "capture", name.as_str(), key];
            let path = capture.path.as_ref().map(|p| self.json_path(&at("path"), p));
            let regex = capture.regex.as_ref().map(|r| self.regex(&at("regex"), r));
            if capture.path.is_some() == capture.header.is_some() {
                self.one_of::<()>(&["step", i, "capture", name], "`path` or `header`");
            }
            if let (Some(path), Some(regex)) = (flat(path), flat(regex)) {
                let header = capture.header.as_ref().map(|h| h.to_lowercase());
                all.push(Capture { name: name.clone(), path, header, regex, optional: capture.optional });
            }
        }
        all
    }

    fn expect(&mut self, i: &str, expect: Option<&manifest::Expect>) -> Expected {
        let Some(expect) = expect else { return Expected::default() };
        let status = self.statuses(&["step", i, "expect", "status"], &expect.status);
        if let Some(name) = &expect.status_setting {
            self.setting_of_kind(&["step", i, "expect", "status_setting"], name, SettingKind::List);
        }
        let json = self.assertions(&["step", i, "expect", "json"], &expect.json);
        let at = ["step", i, "expect", "fields"];
        let fields = expect.fields.as_ref().and_then(|fields| self.fields_stored(&at, fields));
        let otherwise = expect.otherwise.as_ref().map(judgement);
        Expected { status, status_setting: expect.status_setting.clone(), json, fields, otherwise }
    }

    pub(super) fn assertions(&mut self, at: At<'_>, list: &[manifest::Assertion]) -> Vec<assertion::Assertion> {
        let mut all = Vec::new();
        for (n, assertion) in list.iter().enumerate() {
            let n = n.to_string();
            let at = [at, &[n.as_str()]].concat();
            let key = |key| [at.as_slice(), &[key]].concat();
            let path = self.json_path(&key("path"), &assertion.path);
            let tests = (&assertion.equals, &assertion.begins, &assertion.some_match, &assertion.none_match);
            let test = match (assertion.present, tests) {
                (Some(wanted), (None, None, None, None)) => Some(Test::Present(wanted)),
                (None, (Some(text), None, None, None)) => {
                    self.inline(&key("equals"), text, Place::Text).map(|t| Test::Equals(Box::new(t)))
                }
                (None, (None, Some(text), None, None)) => {
                    self.inline(&key("begins"), text, Place::Text).map(|t| Test::Begins(Box::new(t)))
                }
                (None, (None, None, Some(regex), None)) => self.regex(&key("some_match"), regex).map(Test::SomeMatch),
                (None, (None, None, None, Some(regex))) => self.regex(&key("none_match"), regex).map(Test::NoneMatch),
                _ => self.one_of(&at, "`present`, `equals`, `begins`, `some_match` or `none_match`"),
            };
            if let (Some(path), Some(test)) = (path, test) {
                let shown = format!("`{}`", assertion.path);
                let otherwise = assertion.otherwise.as_ref().map(judgement);
                all.push(assertion::Assertion { shown, path, test, otherwise });
            }
        }
        all
    }

    /// The steps that are sent before this one, to see whether the record takes it.
    fn guards_of(&self, index: usize) -> Vec<usize> {
        let steps = &self.manifest.step;
        let guards = |step: &manifest::Step| steps.get(index).is_some_and(|s| step.guards.contains(&s.id));
        steps.iter().take(index).enumerate().filter(|(_, step)| guards(step)).map(|(i, _)| i).collect()
    }

    fn guards(&mut self, index: usize, i: &str, step: &manifest::Step) {
        if !step.guards.is_empty() && step.effect != Effect::Read {
            let hint = "leave `guards` away";
            self.fault(
                &["step", i, "guards"],
                "wrong_effect",
                "only a step with `effect = \"read\"` guards others",
                hint,
            );
        }
        let steps = &self.manifest.step;
        for (n, id) in step.guards.iter().enumerate() {
            let n = n.to_string();
            let at = ["step", i, "guards", n.as_str()];
            match steps.iter().position(|s| s.id == *id) {
                Some(found) if found > index => {}
                Some(_) => self.fault(
                    &at,
                    "later_step",
                    format!("the step `{id}` comes before its guard"),
                    "move the guard before it",
                ),
                None => {
                    let known: Vec<&str> = steps.iter().skip(index + 1).map(|s| s.id.as_str()).collect();
                    self.fault(&at, "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
                }
            }
        }
    }

    fn marker_step(&mut self, i: &str, step: &manifest::Step) -> Option<usize> {
        let at = ["step", i, "marker_step"];
        let Some(id) = &step.marker_step else {
            if step.effect == Effect::Marked {
                self.fault(
                    &["step", i, "effect"],
                    "missing_key",
                    "a `marked` step needs a `marker_step`",
                    "name the step that looks for the marker, or say `once`",
                );
            }
            return None;
        };
        let Some(index) = self.manifest.step.iter().position(|s| s.id == *id) else {
            let known: Vec<&str> =
                self.manifest.step.iter().filter(|s| s.found.is_some()).map(|s| s.id.as_str()).collect();
            self.fault(&at, "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
            return None;
        };
        if self.manifest.step.get(index).is_some_and(|s| s.effect != Effect::Read || s.found.is_none()) {
            self.fault(
                &at,
                "wrong_step",
                format!("`{id}` can't look for a marker"),
                "it needs `effect = \"read\"` and `found`",
            );
        }
        Some(self.look_up_of_item(i, step, index))
    }

    fn page(&mut self, i: &str, step: &manifest::Step, page: &manifest::Page) -> Option<Page> {
        let at = ["step", i, "page"];
        if step.effect != Effect::Read || step.origin.is_some() {
            let hint = "leave `page` away: it is for steps with `effect = \"read\"`, without an `origin`";
            self.fault(&at, "wrong_effect", "this step's answer has no further pages", hint);
        }
        let path = page.path.as_ref().map(|p| self.json_path(&["step", i, "page", "path"], p));
        let regex = page.regex.as_ref().map(|r| self.regex(&["step", i, "page", "regex"], r));
        let more = page.more.as_ref().map(|m| self.json_path(&["step", i, "page", "more"], m));
        let given = page.path.is_some() || page.header.is_some();
        if page.path.is_some() && page.header.is_some() {
            return self.one_of(&at, "`path` or `header`");
        }
        let header = page.header.as_ref().map(|h| h.to_lowercase());
        let capture = Capture { name: "page".into(), path: flat(path)?, header, regex: flat(regex)?, optional: true };
        let by = match (given, &page.param, page.add) {
            (true, None, None) => By::Address(capture),
            (true, Some(param), None) => By::Value(capture, param.clone()),
            (false, Some(param), Some(add)) if add > 0 && page.more.is_some() => {
                By::Count { param: param.clone(), first: page.first.into(), add: add.into() }
            }
            _ => {
                let hint = "write `path` or `header` with the next page's address; the same with `param` for a cursor; or `param`, `add` and `more` for numbers";
                self.fault(&at, "bad_page", "this does not say how the next page is asked for", hint);
                return None;
            }
        };
        Some(Page { by, more: flat(more)?, most: page.max })
    }

    fn found(&mut self, i: &str, found: &manifest::Found) -> Option<Found> {
        let path = self.json_path(&["step", i, "found", "path"], &found.path);
        let contains = found.contains.as_ref().map(|t| self.inline(&["step", i, "found", "contains"], t, Place::Text));
        let equals = found.equals.as_ref().map(|t| self.inline(&["step", i, "found", "equals"], t, Place::Text));
        if contains.is_some() == equals.is_some() {
            return self.one_of(&["step", i, "found"], "`contains` or `equals`");
        }
        Some(Found { path: path?, contains: flat(contains)?, equals: flat(equals)? })
    }

    /// The index of a step that stands before `limit`.
    fn earlier(&mut self, at: At<'_>, id: &str, limit: usize) -> Option<usize> {
        let steps = &self.manifest.step;
        match steps.iter().position(|s| s.id == id) {
            Some(found) if found < limit => Some(found),
            Some(_) => {
                self.fault(at, "later_step", format!("the step `{id}` comes later"), "move it before this one");
                None
            }
            None => {
                let known: Vec<&str> = steps.iter().take(limit).map(|s| s.id.as_str()).collect();
                self.fault(at, "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
                None
            }
        }
    }

    /// Steps whose captures a text uses. That a name exists is checked with the templates.
    pub(super) fn needs(&mut self, index: usize, i: &str, text: &str) -> Vec<usize> {
        static USE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\bsteps\.([A-Za-z0-9_]+)").ok());
        let mut needs = BTreeSet::new();
        for found in USE.iter().flat_map(|u| u.captures_iter(text)) {
            let Some(id) = found.get(1).map(|m| m.as_str()) else { continue };
            let Some(used) = self.manifest.step.iter().position(|s| s.id == id) else { continue };
            if used >= index {
                self.fault(
                    &["step", i, "id"],
                    "later_capture",
                    format!("this step uses `steps.{id}`, which is known only after it"),
                    format!("move the step `{id}` before this one"),
                );
            } else {
                needs.insert(used);
            }
        }
        needs.into_iter().collect()
    }

    /// All template text that makes a step's request and tests its answer.
    fn texts(&self, step: &manifest::Step) -> String {
        let mut all = vec![step.method.as_str(), step.path.as_str()];
        all.extend(step.found.iter().flat_map(|f| f.contains.iter().chain(&f.equals)).map(String::as_str));
        all.extend(step.query.values().chain(step.headers.values()).map(String::as_str));
        all.extend(step.origin.iter().map(|o| o.base_url.as_str()));
        if let Some(expect) = &step.expect {
            all.extend(expect.json.iter().filter_map(|a| a.equals.as_deref().or(a.begins.as_deref())));
        }
        let mut files = Vec::new();
        match &step.body {
            Some(manifest::Body::Json { template, .. } | manifest::Body::Form { template, .. }) => {
                files.extend(template.as_deref());
            }
            Some(manifest::Body::Multipart { parts }) => {
                let inline = parts.iter().flat_map(|p| [&p.text, &p.fields, &p.file_name]);
                all.extend(inline.filter_map(|text| text.as_deref()));
                files.extend(parts.iter().filter_map(|p| p.template.as_deref()));
            }
            _ => {}
        }
        let mut text = all.join("\n");
        let mut done = BTreeSet::new();
        while let Some(name) = files.pop() {
            if !done.insert(name) {
                continue;
            }
            let file = self.folder.file(name).or_else(|| self.shared.and_then(|s| s.file(name)));
            let Some(file) = file else { continue };
            text.push('\n');
            text.push_str(&file.text);
            let partials = self.folder.files.keys().chain(self.shared.into_iter().flat_map(|s| s.files.keys()));
            files.extend(
                partials.filter(|n| n.strip_suffix(".hbs").is_some_and(|n| file.text.contains(n))).map(String::as_str),
            );
        }
        text
    }
}

fn judgement(o: &manifest::Otherwise) -> Judgement {
    Judgement { class: o.class, reason: o.reason, note: o.note.clone() }
}

/// Optional and compiled, or a fault that was told: `Some(None)` if it is not stated, `None` if it is broken.
fn flat<T>(compiled: Option<Option<T>>) -> Option<Option<T>> {
    match compiled {
        None => Some(None),
        Some(Some(done)) => Some(Some(done)),
        Some(None) => None,
    }
}
