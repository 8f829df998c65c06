//! A connector with an operator's address and settings, checked and compiled once.
//!
//! Of secrets it holds where they come from, never what they are.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::auth::{Chosen, Credential, Grants};
use super::http::{Request, Response};
use super::load::compile_inline;
use super::manifest::{Setting, SettingKind, Transport};
use super::plan::Prepared;
use super::policy::Choice;
use super::reply::{self, Statuses, status_range};
use super::{Connector, request, step, url};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, suggest};
use crate::folder::Folder;
use crate::outcome::{Reason, Verdict};
use crate::record::{Context, Extras, FieldEntry, FieldMap, Inline, OwnValue, Place, RenderFault, Templates};
use crate::secret::Secret;
use crate::session::Session;
use crate::settings::Places;

/// One place that deliveries go to.
#[derive(Debug)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// What kind of CRM it is.
    pub connector: Arc<Connector>,
    /// How it is reached.
    pub transport: Transport,
    /// The settings that templates see; those that are not set are null.
    pub settings: Map<String, Value>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) auth: Chosen,
    pub(crate) fields: Option<FieldMap>,
    pub(crate) base_url: String,
    pub(crate) inline: BTreeMap<String, Inline>,
    pub(crate) extra_headers: Vec<(String, Inline)>,
    pub(crate) payloads: BTreeMap<String, (Templates, String)>,
    pub(crate) statuses: BTreeMap<String, Statuses>,
    /// The name of the choice for each reason; the connector's default where there is none.
    pub(crate) policy: BTreeMap<Reason, String>,
    /// Indexes of the look-ups that are turned on, in order.
    pub(crate) lookups: Vec<usize>,
}

impl Destination {
    /// Checks what the operator wrote in `[destination.<name>]`. `values` are its keys but for those that belong
    /// to every destination (`connector`, `transport`, `smtp`, …); `policy` and `lookup` are among them. `at` is the table's path in the file of
    /// `places`. Without a `transport` it is the connector's first.
    pub fn new(
        name: &str,
        connector: Arc<Connector>,
        transport: Option<Transport>,
        values: &Map<String, Value>,
        places: &Places,
        at: &[&str],
    ) -> Result<Self, Diagnostics> {
        let known = &connector.manifest.transports;
        let transport = match transport {
            Some(transport) if known.contains(&transport) => transport,
            None if !known.is_empty() => known.first().copied().unwrap_or(Transport::Rest),
            _ => {
                let at = [at, &["transport"]].concat();
                let message = format!("the connector `{}` does not have this transport", connector.name());
                let words: Vec<String> = known.iter().map(|t| format!("`{}`", t.as_str())).collect();
                return Err(places
                    .fault(&at, "unknown_word", message)
                    .hint(format!("write {}", words.join(" or ")))
                    .into());
            }
        };
        let mut reader = Reader {
            connector: &connector,
            transport,
            places,
            at,
            faults: Diagnostics::new(),
            settings: Map::new(),
            secrets: BTreeMap::new(),
            inline: BTreeMap::new(),
            maps: BTreeMap::new(),
            payloads: BTreeMap::new(),
            fields: Vec::new(),
        };
        reader.read(values);
        let fields = reader.field_map(values);
        let settings_only = settings_only(&reader.settings);
        let statuses = reader.statuses();
        let base_url = reader.base_url(&settings_only);
        let auth = reader.auth(&settings_only);
        let policy = reader.policy(values.get("policy"));
        let lookups = reader.lookups(values.get("lookup"));
        let Reader { faults, settings, secrets, inline, mut maps, payloads, .. } = reader;
        let extra = connector.manifest.http.as_ref().and_then(|h| h.extra_headers.as_deref());
        let extra_headers = extra.and_then(|name| maps.remove(name)).unwrap_or_default();
        faults.into_result(())?;
        Ok(Self {
            name: name.to_owned(),
            connector,
            transport,
            settings,
            secrets,
            auth,
            fields,
            base_url,
            inline,
            extra_headers,
            payloads,
            statuses,
            policy,
            lookups,
        })
    }

    /// True if a record is looked for where a session names none.
    pub fn looks_up(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// What the operator, or else the connector, says about a record that is refused for this reason.
    pub(crate) fn choice(&self, reason: Reason) -> Option<(&str, &Choice)> {
        let policy = self.connector.policies.iter().find(|p| p.when == reason)?;
        policy.choice(self.policy.get(&reason).unwrap_or(&policy.default))
    }

    /// The secrets that requests with `with_credentials` are authorised by, in the order in which `credential`
    /// takes them; none if there are none, or a token is asked for instead (`grants`). `reveal` reads one
    /// (`Secret::reveal`); its error is passed on.
    pub fn reveal(
        &self,
        reveal: impl Fn(&Secret) -> Result<SecretString, String>,
    ) -> Result<Vec<SecretString>, String> {
        let names = self.auth.secrets().into_iter();
        names
            .map(|name| reveal(self.secrets.get(name).ok_or_else(|| format!("the secret `{name}` is not set"))?))
            .collect()
    }

    /// The header for what `reveal` gave, or for the one token of `grants`, and one request; `None` if there is
    /// none to add.
    pub fn credential(&self, secrets: &[SecretString], request: &Request) -> Option<Credential> {
        self.auth.credential(secrets, request, &self.base_url)
    }

    /// What a token endpoint is to be asked, if requests are authorised by its tokens.
    pub fn grants(&self) -> Option<&Grants> {
        match &self.auth {
            Chosen::Oauth2(grants) => Some(grants),
            _ => None,
        }
    }

    /// A request for the destination's own address, sent to the one that came with a token: `at` takes the place of
    /// scheme and host.
    pub fn moved(&self, request: &Request, at: &str) -> Request {
        let end = self.base_url.find("://").map_or(0, |i| i + 3);
        let end = self.base_url.get(end..).and_then(|rest| rest.find('/')).map_or(self.base_url.len(), |i| end + i);
        let rest = self.base_url.get(..end).and_then(|origin| request.url.strip_prefix(origin));
        match rest {
            Some(rest) => Request { url: format!("{at}{rest}"), ..request.clone() },
            None => request.clone(),
        }
    }

    /// A request that changes nothing and needs no session, to try address and credentials; `None` if the
    /// connector has none.
    pub fn check(&self) -> Result<Option<Prepared>, Verdict> {
        let step = self.connector.check.and_then(|i| self.connector.steps.get(i));
        let Some(step) = step.filter(|_| self.transport == Transport::Rest) else { return Ok(None) };
        let request = request::render(self, step, &settings_only(&self.settings), "", true)?;
        Ok(request.map(|request| {
            let request_digest = request::digest(&request, &[]);
            Prepared { step: step.id.clone(), effect: step.effect, request, request_digest }
        }))
    }

    /// What the answer to `check` says of address and credentials.
    pub fn judge_check(&self, response: &Response, now: Timestamp) -> Verdict {
        let index = self.connector.check.unwrap_or(usize::MAX);
        let Some(step) = self.connector.steps.get(index) else { return Verdict::ok() };
        let context = settings_only(&self.settings);
        let answer = reply::Answer::new(response);
        reply::judge(&self.connector.replies, index, step, &step.expect.status, &answer, &context, now)
            .unwrap_or_else(request::template_failed)
    }

    /// The secret of a setting, by the setting's name.
    pub fn secret(&self, setting: &str) -> Option<&Secret> {
        self.secrets.get(setting)
    }

    /// Seconds that one request may take.
    pub fn timeout(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.connector.manifest.http.as_ref().map_or(30, |h| h.timeout).into())
    }

    /// The address before every path; empty for `email`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What templates of this destination see of one delivery. The fault is of the field map.
    pub(crate) fn context(
        &self,
        session: &Session,
        document: &str,
        version: u32,
        marker: &str,
        with_metadata: bool,
    ) -> Result<Context, RenderFault> {
        let suffix = if version > 1 { format!("-v{version}") } else { String::new() };
        let metadata = if with_metadata {
            crate::record::Metadata {
                name: format!("metadata-{}{suffix}.json", session.key),
                json: document.to_owned(),
            }
        } else {
            crate::record::Metadata::default()
        };
        let extras = Extras {
            settings: self.settings.clone(),
            marker: marker.to_owned(),
            version: version.into(),
            metadata,
            destination: self.name.clone(),
        };
        let mut context = Context::new(session, extras);
        if let Some(fields) = &self.fields {
            let fields = fields.evaluate(&context)?;
            context.with_fields(&fields);
        }
        Ok(context)
    }
}

/// A context for templates that use `settings` only.
pub(super) fn settings_only(settings: &Map<String, Value>) -> Context {
    static BLANK: LazyLock<Option<Session>> = LazyLock::new(|| {
        let lists = [
            "photos",
            "videos",
            "agents",
            "transfers",
            "escalations",
            "dispositions",
            "in_call_sms",
            "wait_time_sms",
            "participants",
        ];
        let mut blank = json!({ "instance": "", "channel": "voice", "id": "", "key": "", "raw": {} });
        if let Some(map) = blank.as_object_mut() {
            map.extend(lists.map(|name| (name.to_owned(), json!([]))));
        }
        serde_json::from_value(blank).ok()
    });
    let extras = Extras { settings: settings.clone(), ..Extras::default() };
    match BLANK.as_ref() {
        Some(blank) => Context::new(blank, extras),
        None => unreachable!("a session whose fields are all empty is a session"),
    }
}

struct Reader<'a> {
    connector: &'a Connector,
    transport: Transport,
    places: &'a Places,
    at: &'a [&'a str],
    faults: Diagnostics,
    settings: Map<String, Value>,
    secrets: BTreeMap<String, Secret>,
    inline: BTreeMap<String, Inline>,
    maps: BTreeMap<String, Vec<(String, Inline)>>,
    payloads: BTreeMap<String, (Templates, String)>,
    fields: Vec<FieldEntry>,
}

impl Reader<'_> {
    fn path<'p>(&'p self, rest: &[&'p str]) -> Vec<&'p str> {
        [self.at, rest].concat()
    }

    fn fault(&mut self, rest: &[&str], code: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let fault = self.places.fault(&[self.at, rest].concat(), code, message);
        self.faults.push(fault.hint(hint));
    }

    fn read(&mut self, values: &Map<String, Value>) {
        let specs = &self.connector.manifest.settings;
        let transport = self.transport;
        let usable = |s: &Setting| s.transport.is_none_or(|t| t == transport);
        for name in values.keys() {
            let message = match specs.get(name) {
                Some(spec) if usable(spec) => continue,
                Some(_) => format!("`{name}` is of no use with this transport"),
                None if ["policy", "lookup"].contains(&name.as_str()) => continue,
                None if name == "values" && self.connector.setting_of(SettingKind::Fields).is_some() => continue,
                None => format!("the connector `{}` has no setting `{name}`", self.connector.name()),
            };
            let known: Vec<&str> = specs.iter().filter(|(_, s)| usable(s)).map(|(n, _)| n.as_str()).collect();
            let fault = self.places.key_fault(&[self.at, &[name.as_str()]].concat(), "unknown_key", message);
            self.faults.push(fault.hint(suggest(name, known)));
        }
        for (name, spec) in specs {
            let given = values.get(name).or(spec.default.as_ref());
            match given {
                Some(value) => self.setting(name, spec, value),
                None => {
                    if spec.required && usable(spec) {
                        let fault = self.places.fault(
                            self.at,
                            "missing_key",
                            format!("the connector `{}` needs the setting `{name}`", self.connector.name()),
                        );
                        self.faults.push(fault.hint(format!("add `{name} = …`: {}", spec.doc)));
                    }
                }
            }
            let seen = !matches!(
                spec.kind,
                SettingKind::Secret
                    | SettingKind::Fields
                    | SettingKind::Template
                    | SettingKind::Templates
                    | SettingKind::Payload
            );
            if seen && !self.settings.contains_key(name) {
                self.settings.insert(name.clone(), Value::Null);
            }
        }
    }

    fn setting(&mut self, name: &str, spec: &Setting, value: &Value) {
        let wrong = |words: &str| format!("`{name}` must be {words}");
        let good = match (spec.kind, value) {
            (SettingKind::String, Value::String(text)) => {
                let connector = self.connector;
                let pattern = connector.patterns.iter().find(|(n, _)| n == name);
                if let Some((_, pattern)) = pattern.filter(|(_, p)| !p.is_match(text)) {
                    let shown = spec.pattern.as_deref().unwrap_or(pattern.as_str());
                    let message = format!("`{name}` does not have the form `{shown}`");
                    return self.fault(&[name], "bad_value", message, spec.doc.clone());
                }
                value.clone()
            }
            (SettingKind::Url, Value::String(text)) => match url::base(text) {
                Ok(base) => base.into(),
                Err(why) => return self.fault(&[name], "bad_url", format!("`{name}` {why}"), spec.doc.clone()),
            },
            (SettingKind::Enum, Value::String(word)) if spec.values.contains(word) => value.clone(),
            (SettingKind::Enum, Value::String(word)) => {
                let hint = suggest(word, spec.values.iter().map(String::as_str).collect::<Vec<_>>());
                return self.fault(&[name], "unknown_word", format!("`{word}` is no known value of `{name}`"), hint);
            }
            (SettingKind::Integer, Value::Number(n)) if n.is_i64() => value.clone(),
            (SettingKind::Boolean, Value::Bool(_)) => value.clone(),
            (SettingKind::List, Value::Array(list)) if list.iter().all(is_scalar) => value.clone(),
            (SettingKind::Map, Value::Object(map)) if map.values().all(is_scalar) => value.clone(),
            (SettingKind::Secret, value) => match serde_json::from_value::<Secret>(value.clone()) {
                Ok(secret) => {
                    self.secrets.insert(name.to_owned(), secret);
                    return;
                }
                Err(_) => return self.secret_form(name),
            },
            (SettingKind::Fields, Value::Object(map)) => return self.field_entries(name, map),
            (SettingKind::Template, Value::String(text)) => {
                let place = self.connector.slots.iter().find(|(n, _)| n == name).map_or(Place::Text, |(_, p)| *p);
                if let Some(template) = self.template(&[name], text, place) {
                    self.inline.insert(name.to_owned(), template);
                }
                return;
            }
            (SettingKind::Templates, Value::Object(map)) => return self.templates(name, map),
            (SettingKind::Payload, value) => return self.payload(name, value),
            (kind, _) => {
                let words = match kind {
                    SettingKind::Integer => "a whole number",
                    SettingKind::Boolean => "true or false",
                    SettingKind::List => "a list of texts or numbers",
                    SettingKind::Map => "a table of texts or numbers",
                    SettingKind::Fields | SettingKind::Templates => "a table",
                    _ => "a string",
                };
                return self.fault(&[name], "wrong_type", wrong(words), spec.doc.clone());
            }
        };
        self.settings.insert(name.to_owned(), good);
    }

    fn secret_form(&mut self, name: &str) {
        let hint = "write `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `{ command = \"…\" }`";
        self.fault(&[name], "wrong_form", format!("`{name}` is a secret: it names where the text comes from"), hint);
    }

    fn template(&mut self, rest: &[&str], text: &str, place: Place) -> Option<Inline> {
        let at = self.path(rest);
        let compiled = compile_inline(text, self.places, &at, place, &self.connector.shape);
        compiled.map_err(|faults| self.faults.extend(faults)).ok()
    }

    fn templates(&mut self, name: &str, map: &Map<String, Value>) {
        let mut all = Vec::new();
        for (key, value) in map {
            match value.as_str() {
                Some(text) => {
                    if let Some(template) = self.template(&[name, key], text, Place::Header) {
                        all.push((key.clone(), template));
                    }
                }
                None => self.fault(&[name, key], "wrong_type", format!("`{key}` must be a string"), "put it in quotes"),
            }
        }
        self.maps.insert(name.to_owned(), all);
    }

    /// A payload as text, or a file of the connector's folder.
    fn payload(&mut self, name: &str, value: &Value) {
        let own = format!("_{name}.json");
        let (folder, file) = match value {
            Value::String(text) => {
                let mut folder = self.connector.folder.clone();
                let shown = format!("{}: {}.{name}", self.places.file().name, self.at.join("."));
                folder.files.retain(|n, _| n.ends_with(".hbs"));
                folder.files.insert(own.clone(), SourceFile::new(shown, text.as_str()));
                (folder, own)
            }
            Value::Object(map) => match (map.get("file").and_then(Value::as_str), map.len()) {
                (Some(file), 1) if self.connector.folder.file(file).is_some() && file.ends_with(".json") => {
                    (self.connector.folder.clone(), file.to_owned())
                }
                (Some(file), 1) => {
                    let files = self.connector.folder.files.keys().filter(|n| n.ends_with(".json") && !n.contains('/'));
                    let hint = suggest(file, files.map(String::as_str).collect::<Vec<_>>());
                    let folder = self.connector.folder.name.clone();
                    let message = format!("there is no file `{file}` in the folder `{folder}`");
                    return self.fault(&[name, "file"], "missing_file", message, hint);
                }
                _ => return self.payload_form(name),
            },
            _ => return self.payload_form(name),
        };
        match Templates::compile(&folder, self.connector.shared.as_ref(), &self.connector.shape) {
            Ok(templates) => {
                self.payloads.insert(name.to_owned(), (templates, file));
            }
            Err(faults) => {
                let lines = self.text_line(name, value);
                for fault in faults.sorted() {
                    self.faults.push(match lines {
                        Some(above) if fault.file.ends_with(&format!(".{name}")) => Diagnostic {
                            file: self.places.file().name.to_string(),
                            line: fault.line + above,
                            ..fault.clone()
                        },
                        _ => fault.clone(),
                    });
                }
            }
        }
    }

    /// How many lines stand above the text of a setting that is written between `'''` on lines of its own: its
    /// lines are lines of the file.
    fn text_line(&self, name: &str, value: &Value) -> Option<u32> {
        let file = self.places.file();
        let start = self.places.span(&self.path(&[name])).start;
        let body = file.text.get(start..)?.strip_prefix("'''")?;
        let body = body.strip_prefix('\n').or_else(|| body.strip_prefix("\r\n"))?;
        body.starts_with(value.as_str()?).then(|| file.line_column(start).0)
    }

    fn payload_form(&mut self, name: &str) {
        let hint = "write the JSON template between `'''`, or `{ file = \"name.json\" }`";
        self.fault(&[name], "wrong_type", format!("`{name}` must be a JSON template"), hint);
    }

    fn field_entries(&mut self, name: &str, map: &Map<String, Value>) {
        for (canonical, field) in map {
            if !(field.is_string() || field.is_i64()) {
                let message = format!("`{canonical}` must be the CRM's field: a string or a number");
                self.fault(&[name, canonical], "wrong_type", message, "write it as `name = \"cf_name\"`");
                continue;
            }
            let span = self.places.span(&self.path(&[name, canonical]));
            self.fields.push(FieldEntry { name: canonical.clone(), field: field.clone(), span });
        }
    }

    fn field_map(&mut self, values: &Map<String, Value>) -> Option<FieldMap> {
        self.connector.setting_of(SettingKind::Fields)?;
        let mut own = Vec::new();
        for (name, template) in values.get("values").and_then(Value::as_object).into_iter().flatten() {
            match template.as_str() {
                Some(text) => {
                    let offset = self.places.text_offset(&self.path(&["values", name]));
                    own.push(OwnValue { name: name.clone(), template: text.to_owned(), offset });
                }
                None => {
                    let message = format!("`{name}` must be a template in a string");
                    self.fault(&["values", name], "wrong_type", message, "put it in quotes");
                }
            }
        }
        if self.fields.is_empty() && own.is_empty() {
            return None;
        }
        let none = Folder { name: "_shared".into(), files: BTreeMap::new() };
        let shared = self.connector.shared.as_ref().unwrap_or(&none);
        FieldMap::compile(&self.fields, &own, self.places.file(), shared, &self.connector.shape)
            .map_err(|faults| self.faults.extend(faults))
            .ok()
    }

    /// `policy = { record_closed = "reopen" }`.
    fn policy(&mut self, value: Option<&Value>) -> BTreeMap<Reason, String> {
        let mut chosen = BTreeMap::new();
        let Some(value) = value else { return chosen };
        let Some(table) = value.as_object() else {
            let hint = "write it as `policy = { record_closed = \"dead\" }`";
            self.fault(&["policy"], "wrong_type", "`policy` must be a table of words", hint);
            return chosen;
        };
        if self.transport == Transport::Email {
            let message = "a mail is not answered: `policy` is of no use with this transport";
            self.fault(&["policy"], "unknown_key", message, "leave it away");
            return chosen;
        }
        let connector = self.connector;
        for (word, choice) in table {
            let policy = connector.policies.iter().find(|p| p.when.as_str() == word);
            let Some(policy) = policy else {
                let known = connector.policies.iter().map(|p| p.when.as_str());
                let message = format!("the connector `{}` has no choices for `{word}`", connector.name());
                let fault = self.places.key_fault(&[self.at, &["policy", word]].concat(), "unknown_key", message);
                self.faults.push(fault.hint(suggest(word, known)));
                continue;
            };
            match choice.as_str().and_then(|name| policy.choice(name)) {
                Some((name, _)) => {
                    chosen.insert(policy.when, name.to_owned());
                }
                None => {
                    let words: Vec<String> = policy.choices.iter().map(|(name, _)| format!("`{name}`")).collect();
                    let shown = super::assertion::text_of(choice);
                    let message = format!("`{shown}` is no choice for `{word}`");
                    self.fault(&["policy", word], "unknown_word", message, format!("write {}", words.join(" or ")));
                }
            }
        }
        chosen
    }

    /// `lookup = true`, or the names of those that are turned on. They keep the manifest's order.
    fn lookups(&mut self, value: Option<&Value>) -> Vec<usize> {
        let connector = self.connector;
        let known: Vec<&str> = connector.lookups.iter().map(|l| l.name.as_str()).collect();
        let mut on = Vec::new();
        match value {
            None | Some(Value::Bool(false)) => return on,
            Some(_) if self.transport == Transport::Email => {
                let message = "a mail can't ask for a record: `lookup` is of no use with this transport";
                self.fault(&["lookup"], "unknown_key", message, "leave it away");
                return on;
            }
            Some(_) if known.is_empty() => {
                let message = format!("the connector `{}` has no look-ups", connector.name());
                let hint = "leave `lookup` away: sessions without a record id wait for one";
                self.fault(&["lookup"], "unknown_key", message, hint);
                return on;
            }
            Some(Value::Bool(true)) => on.extend(0..known.len()),
            Some(Value::Array(list)) => {
                for (i, name) in list.iter().enumerate() {
                    let name = super::assertion::text_of(name);
                    match known.iter().position(|k| *k == name) {
                        Some(index) => on.push(index),
                        None => {
                            let message = format!("there is no look-up `{name}`");
                            let hint = suggest(&name, known.iter().copied());
                            self.fault(&["lookup", &i.to_string()], "unknown_word", message, hint);
                        }
                    }
                }
            }
            Some(_) => {
                let hint = format!("write `lookup = true`, or some of {}", known.join(", "));
                self.fault(&["lookup"], "wrong_type", "`lookup` must be true or a list of names", hint);
            }
        }
        on.sort_unstable();
        on.dedup();
        on
    }

    fn statuses(&mut self) -> BTreeMap<String, Statuses> {
        let mut all = BTreeMap::new();
        let names: Vec<&String> =
            self.connector.steps.iter().filter_map(|s| s.expect.status_setting.as_ref()).collect();
        for name in names {
            let list = self.settings.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            let mut ranges = Vec::new();
            for (i, value) in list.iter().enumerate() {
                let text = super::assertion::text_of(value).into_owned();
                match status_range(&text) {
                    Some(range) => ranges.push(range),
                    None => {
                        let hint = "write `404`, `\"500-599\"` or `\"5xx\"`";
                        self.fault(&[name, &i.to_string()], "bad_status", format!("`{text}` is no HTTP status"), hint);
                    }
                }
            }
            all.insert(name.clone(), Statuses(ranges));
        }
        all
    }

    fn base_url(&mut self, settings: &Context) -> String {
        let Some(template) = self.connector.base_url.as_ref().filter(|_| self.transport == Transport::Rest) else {
            return String::new();
        };
        if !self.faults.is_empty() {
            return String::new();
        }
        match template.text(settings) {
            Ok(text) => match url::base(&text) {
                Ok(base) => return base,
                Err(why) => self.fault(
                    &[],
                    "bad_url",
                    format!("the address `{text}` {why}"),
                    "check the settings that it is made of",
                ),
            },
            Err(fault) => self.faults.push(fault.to_diagnostic()),
        }
        String::new()
    }

    /// The first scheme whose `when` holds and whose secret is set.
    fn auth(&mut self, settings: &Context) -> Chosen {
        if self.transport != Transport::Rest || self.connector.auth.is_empty() || !self.faults.is_empty() {
            return Chosen::None;
        }
        let mut lacking = Vec::new();
        for scheme in &self.connector.auth {
            let chosen = match &scheme.when {
                Some(when) => step::holds(when, settings),
                None => Ok(true),
            }
            .and_then(|holds| if holds { scheme.way.choose(settings, &self.secrets).map(Some) } else { Ok(None) });
            match chosen {
                Ok(Some(Some(Ok(chosen)))) => return chosen,
                Ok(Some(Some(Err(sentence)))) => {
                    self.fault(&[], "bad_url", sentence, "check the settings that it is made of");
                    return Chosen::None;
                }
                Ok(Some(None)) => {
                    let names = scheme.way.secrets().into_iter().filter(|name| !self.secrets.contains_key(*name));
                    lacking.push(names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and "));
                }
                Ok(None) => {}
                Err(fault) => self.faults.push(fault.to_diagnostic()),
            }
        }
        let message = match lacking.as_slice() {
            [] => "no `[[auth]]` of the connector fits these settings".to_owned(),
            names => format!("the credentials are missing: {}", names.join(" or ")),
        };
        self.fault(
            &[],
            "missing_key",
            message,
            "add one as `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `{ command = \"…\" }`",
        );
        Chosen::None
    }
}

fn is_scalar(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_boolean()
}
