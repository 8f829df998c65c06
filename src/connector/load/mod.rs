//! A folder → a `Connector`, or all that is wrong with it, each fault with its place.
//!
//! The manifest is read against its schema first; a manifest that reads well is checked in its meaning
//! together with the templates, so that one run tells of everything.

mod auth;
mod each;
mod lookups;
mod policies;
mod reading;
mod replies;
mod steps;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json_path::JsonPath;

use super::email;
use super::manifest::{Effect, Manifest, Setting, SettingKind, Transport};
use super::reply::{Statuses, status_range};
use super::step::Slot;
use super::{Connector, whole};
use crate::diagnostic::{Diagnostic, Diagnostics, suggest};
use crate::folder::Folder;
use crate::record::{Inline, Kind, Place, Shape, Templates};
use crate::settings::{self, Parsed, Places};

/// Headers that the sender writes itself.
const OWN_HEADERS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "cookie"];

/// Keys that belong to every destination.
const RESERVED: [&str; 11] = [
    "connector",
    "transport",
    "storage",
    "path",
    "smtp",
    "values",
    "concurrency",
    "accounts",
    "ca_file",
    "policy",
    "lookup",
];

impl Connector {
    /// Compiles a folder. `shared` holds the text templates and values that every connector can use.
    pub fn load(folder: &Folder, shared: Option<&Folder>) -> Result<Self, Diagnostics> {
        let Some(file) = folder.file("connector.toml") else {
            let place = format!("{}/connector.toml", folder.name);
            let fault = Diagnostic::of_file(place, "missing_file", "a connector's folder needs a `connector.toml`");
            return Err(fault.hint("`mail2crm connector new NAME` makes a folder to start from").into());
        };
        let Parsed { value: mut manifest, places } = settings::parse::<Manifest>(file)?;
        manifest.step = each::spread(manifest.step);
        let shape = shape_of(&manifest);
        let mut loader = Loader {
            manifest: &manifest,
            places: &places,
            folder,
            shared,
            shape: &shape,
            faults: Diagnostics::new(),
            slots: BTreeMap::new(),
        };
        let templates = match Templates::compile(folder, shared, &shape) {
            Ok(templates) => Some(templates),
            Err(faults) => {
                loader.faults.extend(faults);
                None
            }
        };
        loader.identity();
        let record = loader.whole_regex(&["record", "pattern"], &manifest.record.pattern);
        let patterns = loader.settings();
        let base_url =
            manifest.http.as_ref().and_then(|http| loader.inline(&["http", "base_url"], &http.base_url, Place::Text));
        let headers = manifest.http.as_ref().map_or_else(Vec::new, |http| {
            if let Some(name) = &http.extra_headers {
                loader.setting_of_kind(&["http", "extra_headers"], name, SettingKind::Templates);
            }
            loader.headers(&["http", "headers"], &http.headers)
        });
        let auth = manifest.auth.iter().enumerate().filter_map(|(i, auth)| loader.auth(i, auth)).collect();
        let steps = loader.steps();
        let replies = loader.replies();
        let policies = loader.policies();
        let lookups = loader.lookups();
        let check = loader.check();
        let reading = loader.reading(&steps);
        let email = loader.email();
        let slots = std::mem::take(&mut loader.slots).into_iter().collect();
        let faults = loader.faults;
        match (templates, record) {
            (Some(templates), Some(record)) if faults.is_empty() => Ok(Self {
                folder: folder.clone(),
                shared: shared.cloned(),
                shape,
                templates,
                record,
                patterns,
                base_url,
                headers,
                auth,
                replies,
                policies,
                lookups,
                steps,
                check,
                reading,
                email,
                slots,
                manifest,
            }),
            _ => Err(faults),
        }
    }
}

/// What templates of this connector can see.
fn shape_of(manifest: &Manifest) -> Shape {
    let kind = |setting: &Setting| match setting.kind {
        SettingKind::String | SettingKind::Url | SettingKind::Enum => Some(Kind::Text),
        SettingKind::Integer => Some(Kind::Number),
        SettingKind::Boolean => Some(Kind::Bool),
        SettingKind::List => Some(Kind::List),
        SettingKind::Map => Some(Kind::Map),
        SettingKind::Fields
        | SettingKind::Secret
        | SettingKind::Template
        | SettingKind::Templates
        | SettingKind::Payload => None,
    };
    let settings: Vec<(&str, Kind)> =
        manifest.settings.iter().filter_map(|(name, s)| Some((name.as_str(), kind(s)?))).collect();
    let captures: Vec<(&str, Vec<&str>)> =
        manifest.step.iter().map(|s| (s.id.as_str(), s.capture.keys().map(String::as_str).collect())).collect();
    let steps: Vec<(&str, &[&str])> = captures.iter().map(|(id, names)| (*id, names.as_slice())).collect();
    let shape = Shape::for_session().with_settings(&settings).with_steps(&steps);
    if manifest.step.iter().any(|s| s.each.is_some()) { shape.with_item() } else { shape }
}

/// Collects faults while the parts of a manifest are compiled.
struct Loader<'a> {
    manifest: &'a Manifest,
    places: &'a Places,
    folder: &'a Folder,
    shared: Option<&'a Folder>,
    shape: &'a Shape,
    faults: Diagnostics,
    slots: BTreeMap<String, Place>,
}

/// A path into the manifest.
type At<'p> = &'p [&'p str];

impl Loader<'_> {
    fn fault(&mut self, at: At<'_>, code: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let fault = self.places.fault(at, code, message);
        self.faults.push(fault.hint(hint));
    }

    fn identity(&mut self) {
        let m = self.manifest;
        if m.name != self.folder.name {
            let folder = self.folder.name.clone();
            self.fault(
                &["name"],
                "wrong_name",
                format!("`{}` is not the folder's name", m.name),
                format!("write `name = \"{folder}\"`"),
            );
        }
        if m.transports.is_empty() {
            self.fault(&["transports"], "missing_value", "`transports` is empty", "write `transports = [\"rest\"]`");
        }
        let has = |t| m.transports.contains(&t);
        if has(Transport::Rest) && (m.http.is_none() || m.step.is_empty()) {
            self.fault(
                &["transports"],
                "missing_key",
                "the transport `rest` needs `[http]` and at least one `[[step]]`",
                "add them, or leave `rest` away",
            );
        }
        if has(Transport::Email) && m.email.is_none() {
            self.fault(
                &["transports"],
                "missing_key",
                "the transport `email` needs `[email]`",
                "add it, or leave `email` away",
            );
        }
    }

    /// Checks the settings' own consistency; gives the patterns.
    fn settings(&mut self) -> Vec<(String, Regex)> {
        let mut patterns = Vec::new();
        for (name, setting) in &self.manifest.settings {
            if RESERVED.contains(&name.as_str()) {
                self.fault(
                    &["settings", name],
                    "reserved_name",
                    format!("`{name}` is a key of every destination"),
                    "give the setting another name",
                );
            }
            if let Some(pattern) = &setting.pattern
                && let Some(regex) = self.whole_regex(&["settings", name, "pattern"], pattern)
            {
                patterns.push((name.clone(), regex));
            }
            if (setting.kind == SettingKind::Enum) == setting.values.is_empty() {
                self.fault(
                    &["settings", name],
                    "bad_setting",
                    "`values` goes with `type = \"enum\"`, and only with it",
                    "add the allowed words, or change the type",
                );
            }
            if setting.required && setting.default.is_some() {
                self.fault(
                    &["settings", name],
                    "bad_setting",
                    "a setting with a `default` is not `required`",
                    "leave one of them away",
                );
            }
        }
        patterns
    }

    fn setting_of_kind(&mut self, at: At<'_>, name: &str, kind: SettingKind) -> bool {
        let word = format!("{kind:?}").to_lowercase();
        match self.manifest.settings.get(name) {
            Some(setting) if setting.kind == kind => true,
            Some(_) => {
                self.fault(
                    at,
                    "wrong_setting",
                    format!("the setting `{name}` must be of type `{word}` here"),
                    format!("name a setting of type `{word}`"),
                );
                false
            }
            None => {
                let known: Vec<&str> =
                    self.manifest.settings.iter().filter(|(_, s)| s.kind == kind).map(|(n, _)| n.as_str()).collect();
                self.fault(at, "unknown_setting", format!("there is no setting `{name}`"), suggest(name, known));
                false
            }
        }
    }

    fn regex(&mut self, at: At<'_>, pattern: &str) -> Option<Regex> {
        Regex::new(pattern).map_err(|error| self.bad_regex(at, &error)).ok()
    }

    fn whole_regex(&mut self, at: At<'_>, pattern: &str) -> Option<Regex> {
        whole(pattern).map_err(|error| self.bad_regex(at, &error)).ok()
    }

    fn bad_regex(&mut self, at: At<'_>, error: &regex::Error) {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_owned();
        self.fault(
            at,
            "bad_regex",
            format!("not a regular expression: {last}"),
            "the syntax is that of Rust's `regex`; single quotes spare backslashes",
        );
    }

    fn json_path(&mut self, at: At<'_>, path: &str) -> Option<JsonPath> {
        match JsonPath::parse(path) {
            Ok(path) => Some(path),
            Err(error) => {
                self.fault(
                    at,
                    "bad_json_path",
                    format!("not a JSONPath: {}", error.message()),
                    "the syntax is that of RFC 9535, such as `$.items[*].id`",
                );
                None
            }
        }
    }

    fn inline(&mut self, at: At<'_>, text: &str, place: Place) -> Option<Inline> {
        compile_inline(text, self.places, at, place, self.shape).map_err(|faults| self.faults.extend(faults)).ok()
    }

    /// An inline template, or the operator's own where it is `{{settings.x}}` with a setting of type `template`.
    fn slot(&mut self, at: At<'_>, text: &str, place: Place) -> Option<Slot> {
        let inner = text.trim().strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).map(str::trim);
        if let Some(name) = inner.and_then(|t| t.strip_prefix("settings."))
            && self.manifest.settings.get(name).is_some_and(|s| s.kind == SettingKind::Template)
        {
            self.slots.insert(name.to_owned(), place);
            return Some(Slot::Setting(name.to_owned()));
        }
        self.inline(at, text, place).map(|t| Slot::Inline(Box::new(t)))
    }

    fn headers(&mut self, at: At<'_>, headers: &BTreeMap<String, String>) -> Vec<(String, Slot)> {
        let mut all = Vec::new();
        for (name, value) in headers {
            let at = [at, &[name.as_str()]].concat();
            if !is_token(name) || OWN_HEADERS.contains(&name.to_lowercase().as_str()) {
                let fault = self.places.key_fault(&at, "bad_header", format!("`{name}` can't be set as a header"));
                self.faults.push(
                    fault.hint(
                        "a header's name is letters, digits and `-`; the sender writes `Host` and its like itself",
                    ),
                );
            }
            if let Some(slot) = self.slot(&at, value, Place::Header) {
                all.push((name.clone(), slot));
            }
        }
        all
    }

    fn statuses(&mut self, at: At<'_>, list: &[super::manifest::Status]) -> Statuses {
        use super::manifest::Status;
        let mut all = Vec::new();
        for (i, status) in list.iter().enumerate() {
            let text = match status {
                Status::One(n) => n.to_string(),
                Status::Range(text) => text.clone(),
            };
            match status_range(&text) {
                Some(range) => all.push(range),
                None => {
                    let i = i.to_string();
                    let at = [at, &[i.as_str()]].concat();
                    self.fault(
                        &at,
                        "bad_status",
                        format!("`{text}` is no HTTP status"),
                        "write `404`, `\"500-599\"` or `\"5xx\"`",
                    );
                }
            }
        }
        Statuses(all)
    }

    /// A payload (`*.json`) or text (`*.hbs`) template that a manifest names.
    fn template_file(&mut self, at: At<'_>, name: &str, ending: &str) -> Option<String> {
        let files: Vec<&str> = self
            .folder
            .files
            .keys()
            .chain(self.shared.into_iter().flat_map(|f| f.files.keys()))
            .filter(|n| !n.contains('/') && n.ends_with(ending))
            .map(String::as_str)
            .collect();
        if files.contains(&name) {
            return Some(name.to_owned());
        }
        let message = format!("there is no template `{name}` in this folder");
        let hint = if name.ends_with(ending) {
            suggest(name, files)
        } else {
            format!("its name must end in `{ending}`; {}", suggest(name, files))
        };
        self.fault(at, "missing_file", message, hint);
        None
    }

    fn check(&mut self) -> Option<usize> {
        let id = self.manifest.check.as_ref()?;
        let steps = &self.manifest.step;
        let found = steps.iter().position(|s| s.id == *id);
        match found.and_then(|i| steps.get(i)) {
            Some(step) if step.effect == Effect::Read => {}
            Some(_) => {
                let hint = "name a step with `effect = \"read\"`";
                self.fault(&["check"], "wrong_effect", format!("`{id}` may change something"), hint);
            }
            None => {
                let known: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
                self.fault(&["check"], "unknown_step", format!("there is no step `{id}`"), suggest(id, known));
            }
        }
        found
    }

    fn email(&mut self) -> Option<email::Mail> {
        let mail = self.manifest.email.as_ref()?;
        let to = self.inline(&["email", "to"], &mail.to, Place::Header);
        let from = self.inline(&["email", "from"], &mail.from, Place::Header);
        let subject = if mail.subject.ends_with(".hbs") {
            self.template_file(&["email", "subject"], &mail.subject, ".hbs").map(email::Subject::File)
        } else {
            self.inline(&["email", "subject"], &mail.subject, Place::Text).map(|t| email::Subject::Inline(Box::new(t)))
        };
        let text = self.template_file(&["email", "body_text"], &mail.body_text, ".txt.hbs");
        let html = mail.body_html.as_ref().map(|h| self.template_file(&["email", "body_html"], h, ".html.hbs"));
        let mut headers = Vec::new();
        for (name, value) in &mail.headers {
            let at = ["email", "headers", name.as_str()];
            if !email::may_set(name) {
                let fault = self.places.key_fault(&at, "bad_header", format!("`{name}` can't be set as a mail header"));
                self.faults
                    .push(fault.hint("addresses, subject, date, ids and MIME headers are written by the program"));
            }
            if let Some(template) = self.inline(&at, value, Place::Header) {
                headers.push((name.clone(), template));
            }
        }
        Some(email::Mail {
            to: to?,
            from: from?,
            subject: subject?,
            text: text?,
            html: match html {
                None => None,
                Some(found) => Some(found?),
            },
            headers,
            attach_metadata: mail.attach_metadata,
            max_bytes: mail.max_bytes,
        })
    }
}

/// Compiles a template that stands in a TOML file, so that its faults point into the file.
pub(super) fn compile_inline(
    text: &str,
    places: &Places,
    at: At<'_>,
    place: Place,
    shape: &Shape,
) -> Result<Inline, Diagnostics> {
    Inline::compile(text, places.file(), places.text_offset(at), place, shape)
}

fn is_token(name: &str) -> bool {
    static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$").ok());
    TOKEN.as_ref().is_some_and(|t| t.is_match(name))
}

#[cfg(test)]
mod tests;
