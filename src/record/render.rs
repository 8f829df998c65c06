//! A folder's payload and text templates, compiled once and rendered for each delivery.
//!
//! `update.json` is a payload, `note.md.hbs` a text that escapes as its ending says. Compiling finds every
//! fault of every file; rendering takes a context and gives a value or a text, and never anything else.

use std::collections::{BTreeMap, BTreeSet};

use handlebars::{Context as Data, Handlebars};
use serde_json::Value;

use super::engine::{self, Budget, Run, Uses};
use super::escape::Escape;
use super::leaf::{compile_template, read_sources};
use super::lint::{Checker, Findings, Frame, Locals, Source, Surroundings};
use super::origin::Origin;
use super::payload::Payload;
use super::{Context, Shape};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, suggest};
use crate::folder::Folder;

/// A template that could not be rendered for one session: where, and what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderFault {
    /// The file of the template.
    pub file: String,
    /// From 1; 0 if there is no such template.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong; holds no value of the session.
    pub message: String,
    /// What to change.
    pub hint: Option<String>,
}

impl RenderFault {
    pub(super) fn at(origin: &Origin, at: usize, message: String) -> Self {
        let (line, column) = origin.line_column(at);
        Self { file: origin.file.name.to_string(), line, column, message, hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as a diagnostic, code `render`.
    pub fn to_diagnostic(&self) -> Diagnostic {
        Diagnostic {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            code: "render",
            message: self.message.clone(),
            hint: self.hint.clone(),
            snippet: None,
        }
    }
}

impl std::fmt::Display for RenderFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for RenderFault {}

/// All templates of a folder.
#[derive(Debug)]
pub struct Templates {
    payloads: BTreeMap<String, Payload>,
    texts: BTreeMap<String, Text>,
    engines: BTreeMap<Escape, Engine>,
}

/// The texts of one ending: the engine calls them by their names without it.
#[derive(Debug)]
struct Engine {
    registry: Handlebars<'static>,
    origins: BTreeMap<String, Origin>,
}

#[derive(Debug)]
struct Text {
    stem: String,
    escape: Escape,
    uses: Uses,
}

impl Templates {
    /// Compiles every `*.json` at the top of the folder as a payload template (`update.json`), every `*.hbs`
    /// as a text template (`note.md.hbs`), and the text templates of `shared` (the folder `_shared`) that
    /// the folder doesn't replace by one of the same name.
    pub fn compile(folder: &Folder, shared: Option<&Folder>, shape: &Shape) -> Result<Self, Diagnostics> {
        let mut faults = Diagnostics::new();
        let mut files: BTreeMap<&str, &SourceFile> = BTreeMap::new();
        let shared = shared.into_iter().flat_map(|f| &f.files).filter(|(path, _)| path.ends_with(".hbs"));
        for (path, file) in shared.chain(&folder.files).filter(|(path, _)| !path.contains('/')) {
            files.insert(path, file);
        }
        let mut endings: BTreeMap<Escape, Vec<(String, &SourceFile)>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (path, file) in &files {
            let Some(name) = path.strip_suffix(".hbs") else { continue };
            match Escape::of_file(name) {
                Some(escape) => {
                    names.insert(name.to_owned());
                    endings.entry(escape).or_default().push((stem(name).to_owned(), file));
                }
                None => {
                    let message = format!("the ending of `{path}` doesn't say how its values are escaped");
                    let hint = "the endings are `.txt.hbs`, `.md.hbs`, `.html.hbs` and `.xml.hbs`";
                    faults.push(Diagnostic::of_file(&*file.name, "ending", message).hint(hint));
                }
            }
        }
        let mut templates = Self { payloads: BTreeMap::new(), texts: BTreeMap::new(), engines: BTreeMap::new() };
        let mut includes = BTreeMap::new();
        for (escape, files) in endings {
            templates.compile_texts(escape, files, &names, shape, &mut includes, &mut faults);
        }
        check_includes(&includes, &mut faults);
        let around = Surroundings { shape, unescaped: false, partials: None, includes: Some(&names) };
        for (path, file) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
            match Payload::compile(file, &around) {
                Ok(payload) => {
                    templates.payloads.insert((*path).to_owned(), payload);
                }
                Err(found) => faults.extend(found),
            }
        }
        faults.into_result(templates)
    }

    fn compile_texts(
        &mut self,
        escape: Escape,
        files: Vec<(String, &SourceFile)>,
        names: &BTreeSet<String>,
        shape: &Shape,
        includes: &mut BTreeMap<String, (Origin, BTreeSet<String>)>,
        faults: &mut Diagnostics,
    ) {
        let sources = read_sources(files.iter().map(|(stem, file)| (stem.clone(), *file)), faults);
        let around =
            Surroundings { shape, unescaped: escape == Escape::Plain, partials: Some(&sources), includes: Some(names) };
        let checked: Vec<(&String, &Source, Diagnostics, Findings)> = sources
            .iter()
            .map(|(stem, source)| {
                let frames = vec![Frame::new(shape.root(), Locals::None)];
                let mut checker = Checker::new(&around, &source.origin, frames);
                checker.inside(stem);
                checker.nodes(&source.nodes);
                (stem, source, checker.faults, checker.findings)
            })
            .collect();
        let partials: BTreeSet<String> = checked.iter().flat_map(|(.., f)| f.partials.iter().cloned()).collect();
        let loose = checked.iter().flat_map(|(.., f)| f.loose.iter().cloned()).collect();
        let all = Findings { loose, ..Findings::default() };
        let mut registry = engine::base(escape).clone();
        let mut origins = BTreeMap::new();
        for (stem, source, found, findings) in checked {
            // What is used as a partial was checked where it is used, with what is there.
            let is_partial = partials.contains(stem);
            found
                .sorted()
                .into_iter()
                .filter(|d| !is_partial || d.code == "recursion")
                .for_each(|d| faults.push(d.clone()));
            match compile_template(&source.origin.file.text, Some(stem), &source.origin, &all) {
                Ok(template) => registry.register_template(stem, template),
                Err(found) => faults.extend(found),
            }
            origins.insert(stem.clone(), source.origin.clone());
            let uses = Uses { loops: findings.loops, includes: !findings.includes.is_empty() };
            let name = names.iter().find(|n| Escape::of_file(n) == Some(escape) && self::stem(n) == stem);
            if let Some(name) = name {
                includes.insert(name.clone(), (source.origin.clone(), findings.includes));
                self.texts.insert(name.clone(), Text { stem: stem.clone(), escape, uses });
            }
        }
        self.engines.insert(escape, Engine { registry, origins });
    }

    /// Renders a payload by its file name, such as `update.json`. What comes out empty is left out.
    pub fn payload(&self, name: &str, context: &Context) -> Result<Value, RenderFault> {
        let Some(payload) = self.payloads.get(name) else {
            return Err(unknown(name, self.payload_names()));
        };
        let budget = Budget::new();
        let registry = engine::base(Escape::Plain);
        payload.render(&mut Run::new(registry, Escape::Plain, context.inner(), &budget, Some(self), payload.uses))
    }

    /// Renders a text by its name with or without `.hbs`, such as `note.md`.
    pub fn text(&self, name: &str, context: &Context) -> Result<String, RenderFault> {
        self.included(name, context.inner(), &Budget::new()).map(|(text, _)| text)
    }

    pub(super) fn included(&self, name: &str, data: &Data, budget: &Budget) -> Result<(String, Escape), RenderFault> {
        let name = name.strip_suffix(".hbs").unwrap_or(name);
        let found = self.texts.get(name).and_then(|text| {
            let engine = self.engines.get(&text.escape)?;
            Some((text, engine, engine.registry.get_template(&text.stem)?))
        });
        let Some((text, engine, template)) = found else { return Err(unknown(name, self.text_names())) };
        let mut run = Run::new(&engine.registry, text.escape, data, budget, Some(self), text.uses);
        match run.text(template) {
            Ok(out) => Ok((out, text.escape)),
            Err(error) => Err(engine::reason(&error).map_or_else(
                |inner| inner,
                |message| {
                    let stem = error.template_name.as_ref().unwrap_or(&text.stem);
                    match engine.origins.get(stem).or_else(|| engine.origins.get(&text.stem)) {
                        Some(origin) => {
                            let (line, column) = (error.line_no.unwrap_or(1), error.column_no.unwrap_or(1));
                            RenderFault::at(origin, origin.file.offset_of(line, column), message)
                        }
                        None => RenderFault { file: name.into(), line: 0, column: 0, message, hint: None },
                    }
                },
            )),
        }
    }

    /// The payload templates' names, such as `update.json`.
    pub fn payload_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.payloads.keys().map(String::as_str)
    }

    /// The text templates' names, such as `note.md`.
    pub fn text_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.texts.keys().map(String::as_str)
    }
}

/// A text template's name without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> RenderFault {
    let message = format!("there is no template `{name}` in this folder");
    RenderFault { file: name.into(), line: 0, column: 0, message, hint: Some(suggest(name, known)) }
}

/// Texts inside texts, deeper than anyone can follow.
const DEPTH: usize = 8;

/// No text may end up in itself.
fn check_includes(includes: &BTreeMap<String, (Origin, BTreeSet<String>)>, faults: &mut Diagnostics) {
    for (name, (origin, direct)) in includes {
        let mut level: BTreeSet<&String> = direct.iter().collect();
        for _ in 0..DEPTH {
            level = level.iter().filter_map(|n| includes.get(*n)).flat_map(|(_, inner)| inner).collect();
        }
        if !level.is_empty() {
            let message = format!("`{name}` would include itself, or more than {DEPTH} others inside each other");
            let fault = origin.fault(0..0, "recursion", message);
            faults.push(fault.hint("a text that others include should include nothing"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::context::tests::{context, session};
    use crate::record::fields::tests::shared;
    use crate::record::{Extras, Kind};

    fn folder(files: &[(&str, &str)]) -> Folder {
        let file = |(path, text): &(&str, &str)| ((*path).to_owned(), SourceFile::new(format!("rt/{path}"), *text));
        Folder { name: "rt".into(), files: files.iter().map(file).collect() }
    }

    fn shape() -> Shape {
        Shape::for_session().with_settings(&[("tags", Kind::List), ("subject", Kind::Text)])
    }

    fn compile(files: &[(&str, &str)]) -> Templates {
        Templates::compile(&folder(files), Some(&shared()), &shape()).unwrap_or_else(|d| panic!("{d}"))
    }

    fn faults(files: &[(&str, &str)]) -> Vec<(String, u32, u32, String, String)> {
        let faults = Templates::compile(&folder(files), None, &shape()).expect_err("faults");
        let shown =
            |d: &&Diagnostic| (d.file.clone(), d.line, d.column, d.message.clone(), d.hint.clone().unwrap_or_default());
        faults.sorted().iter().map(shown).collect()
    }

    #[test]
    fn every_ending_escapes_for_itself() {
        let text = "{{disposition.note}}";
        let templates = compile(&[("a.txt.hbs", text), ("a.html.hbs", text), ("a.xml.hbs", text), ("a.md.hbs", text)]);
        let of = |name| templates.text(name, &context()).expect("a text");
        assert_eq!(of("a.txt"), "Paid <b>today</b> {{key}}");
        assert_eq!(of("a.html.hbs"), "Paid &lt;b&gt;today&lt;/b&gt; {{key}}");
        assert_eq!(of("a.xml"), of("a.html"));
        assert_eq!(of("a.md"), "Paid \\<b\\>today\\</b\\> {{key}}");
    }

    #[test]
    fn partials_and_includes_bring_other_texts() {
        let templates = compile(&[
            ("line.html.hbs", "<i>{{code}}</i>{{mark}}"),
            (
                "a.html.hbs",
                "{{#each dispositions}}{{> line mark=\"&\"}} {{/each}}{{include 'b.txt'}}{{include 'c.html'}}",
            ),
            ("b.txt.hbs", "<{{key}}>"),
            ("c.html.hbs", "<p>{{html 'x\\ny'}}</p>"),
            ("p.json", "{\"t\": \"{{include 'b.txt'}}!\"}"),
        ]);
        let html = "<i>Billing</i>&amp; <i>Resolved</i>&amp; &lt;voice-48213&gt;<p>x<br>\ny</p>";
        assert_eq!(templates.text("a.html", &context()).expect("a text"), html);
        assert_eq!(templates.payload("p.json", &context()).expect("a payload")["t"], "<voice-48213>!");
    }

    #[test]
    fn the_shared_notes_read_well_and_hold_nothing_twice() {
        let templates = compile(&[]);
        let text = templates.text("note.txt", &context()).expect("a note");
        let expected = "Contact-centre session voice-48213: Voice Inbound (IVR)\nStatus: finished\n\
            Started: 2026-02-17 10:08:01 CST\nEnded: 2026-02-17 10:11:31 CST\nHandle time: 0:03:06\n\
            Wait time: 0:00:15\nQueue: Support/Billing\nAgents: Ada Lovelace\nCustomer verified: yes\n\n\
            Dispositions:\n- Billing (Ada Lovelace): Asked about \"March\".\nWill pay.\n\
            - Resolved (Ada Lovelace): Paid <b>today</b> {{key}}\n\nRating: 4, \"Quick & kind\"\n\n\
            Recording: https://rec.example/48213.mp3\n";
        assert_eq!(text, expected);
        let html = templates.text("note.html", &context()).expect("a note");
        assert!(html.contains("<li>Rating: 4, “Quick &amp; kind”</li>"), "{html}");
        assert!(html.contains("Asked about &quot;March&quot;.<br>\nWill pay."), "{html}");
        let md = templates.text("note.md", &context()).expect("a note");
        assert!(md.contains("**Resolved** (Ada Lovelace)\n\nPaid \\<b\\>today\\</b\\> {{key}}\n"), "{md}");
    }

    #[test]
    fn the_shared_notes_of_an_empty_session_have_only_its_name() {
        let mut empty = serde_json::to_value(session()).expect("a value");
        for (name, value) in empty.as_object_mut().expect("an object") {
            match value {
                Value::Array(items) => items.clear(),
                Value::Object(members) => members.clear(),
                _ if matches!(name.as_str(), "instance" | "channel" | "id" | "key") => {}
                value => *value = Value::Null,
            }
        }
        let session = serde_json::from_value(empty).expect("a session");
        let context = Context::new(&session, Extras::default());
        let text = compile(&[]).text("note.txt", &context).expect("a note");
        assert_eq!(text, "Contact-centre session voice-48213\n");
    }

    #[test]
    fn all_faults_of_all_files_have_their_place_and_hint() {
        let found = faults(&[
            ("a.txt.hbs", "x\n{{#each dispositions}}{{cod}} {{@root.ky}} {{key}}{{/each}}"),
            ("b.json", "{\n  \"a\": \"\\u00e4\\n\\\"{{agent.nme}}\\\"\",\n  \"b\": \"{{dat ends_at '%F'}}\"\n}"),
            ("c.html.hbs", "{{{key}}}{{dispositions}}{{date ends_at}}{{date ends_at '%F' tz='Mars/One'}}"),
            ("d.rtf.hbs", ""),
            ("e.md.hbs", "{{> f}}"),
            ("f.md.hbs", "{{> e}}"),
        ]);
        let lines: Vec<String> = found.iter().map(|(f, l, c, m, h)| format!("{f}:{l}:{c}: {m} ({h})")).collect();
        let expected = [
            "rt/a.txt.hbs:2:25: there is no field `cod` here (did you mean `code`?)",
            "rt/a.txt.hbs:2:39: there is no field `ky` in a session (did you mean `key`?)",
            "rt/a.txt.hbs:2:46: there is no field `key` here (outside of this block it is `@root.key`)",
            "rt/b.json:2:27: `agent` has no field `nme` (did you mean `name`?)",
            "rt/b.json:3:11: there is no helper `dat` (did you mean `date`?)",
            "rt/c.html.hbs:1:1: an unescaped expression could break the text around it (write two braces, `{{…}}`: values are escaped for their place)",
            "rt/c.html.hbs:1:12: `dispositions` is a list, which can't be printed as text (use `{{#each …}}`, `join`, or `json`)",
            "rt/c.html.hbs:1:28: `date` needs 2 values, not 1 (add what is missing; `templates/README.md` has an example of `date`)",
            "rt/c.html.hbs:1:65: `tz` is no time zone: the names are those of the IANA database, such as `America/Chicago` (`date` here is `Mars/One`)",
            "rt/d.rtf.hbs:0:0: the ending of `d.rtf.hbs` doesn't say how its values are escaped (the endings are `.txt.hbs`, `.md.hbs`, `.html.hbs` and `.xml.hbs`)",
            "rt/e.md.hbs:1:5: the partial `f` would end up in itself, or in 8 others (partials can't be recursive: use `{{#each …}}`)",
        ];
        for expected in expected {
            assert!(lines.iter().any(|l| l == expected), "missing: {expected}\nin: {lines:#?}");
        }
    }

    #[test]
    fn scopes_are_known_as_the_engine_walks_them() {
        let templates = compile(&[(
            "a.txt.hbs",
            "{{#each dispositions as |d i|}}{{i}}{{@index}}{{@last}} {{d.code}}={{../key}}={{this.code}}{{#with agent}}\
             [{{name}} {{../code}} {{../../id}} {{@../index}}]{{/with}}\n{{else}}none{{/each}}\
             {{#each raw}}{{@key}} {{/each}}{{#unless photos}}no photos{{/unless}}",
        )]);
        let text = templates.text("a.txt", &context()).expect("a text");
        let expected = "00false Billing=voice-48213=Billing[Ada Lovelace Billing 48213 0]\n\
             11true Resolved=voice-48213=Resolved[Ada Lovelace Resolved 48213 1]\nvirtual_queue tags no photos";
        assert_eq!(text, expected);
        for (text, message) in [
            ("{{../key}}", "`../key` leads out of the template: there is nothing around it"),
            ("{{@index}}", "there is no `@index` here"),
            ("{{#with agent}}{{@index}}{{/with}}", "there is no `@index` here"),
            ("{{#each agents}}{{@key}}{{/each}}", "there is no `@key` here"),
            ("{{#each key}}{{/each}}", "`#each` goes over a list, and this is a text"),
            ("{{#dispositions}}{{/dispositions}}", "there is no block `#dispositions`"),
            ("{{#eq a b}}{{/eq}}", "there is no block `#eq`"),
            ("{{key.x}}", "`key` is a text, which has no field `x`"),
            ("{{join key}}", "`join` works on a list, and this is a text"),
            ("{{upper agent}}", "`upper` works on a single value, and this is an object"),
            ("{{join (pick dispositions 'cod')}}", "the items have no member `cod`"),
            ("{{date ends_at '%F' zone='UTC'}}", "`date` knows no `zone=`"),
            ("{{include 'nte.txt'}}", "there is no text template `nte.txt.hbs`"),
            ("{{count}}", "`count` needs 1 value, not 0"),
            ("{{settings.tag}}", "`settings` has no field `tag`"),
            ("{{agent}}", "`agent` is an object, which can't be printed as text"),
            ("{{url_part recording_url 'hst'}}", "the parts of a URL are `scheme`, `host`, `path` and `query`"),
        ] {
            let found = faults(&[("a.txt.hbs", text)]);
            assert_eq!(found.first().map(|f| f.3.as_str()), Some(message), "{text}: {found:?}");
            assert_eq!(found.len(), 1, "{text}: {found:?}");
        }
    }

    #[test]
    fn a_fault_at_run_time_has_its_place_and_no_value() {
        let templates = compile(&[
            ("a.txt.hbs", "x\n  {{date raw.tags.[0] '%F'}}"),
            ("b.txt.hbs", "{{raw.virtual_queue}}"),
            ("c.json", "{\"x\": {\n \"y\": \"\\u00e4 {{include 'a.txt'}}\", \"z\": 1}}"),
            ("d.json", "{\n \"y\": \"\\u00e4 {{date raw.tags.[0] '%F'}}\"}"),
        ]);
        let fault = templates.text("a.txt", &context()).expect_err("a fault");
        assert_eq!((fault.line, fault.column, fault.message.as_str()), (2, 3, "`date`: the value is no date-time"));
        let fault = templates.text("b.txt", &context()).expect_err("a fault");
        assert!(fault.message.contains("an object, not a text"), "{fault}");
        let fault = templates.payload("c.json", &context()).expect_err("a fault");
        assert_eq!((fault.file.as_str(), fault.line, fault.column), ("rt/a.txt.hbs", 2, 3));
        let fault = templates.payload("d.json", &context()).expect_err("a fault");
        assert_eq!((fault.file.as_str(), fault.line, fault.column), ("rt/d.json", 2, 15));
        assert!(templates.text("zz.txt", &context()).is_err());
    }

    #[test]
    fn loops_inclusions_and_output_are_bounded() {
        let found = faults(&[("a.txt.hbs", "{{include 'b.txt'}}"), ("b.txt.hbs", "{{include 'a.txt'}}")]);
        assert!(found.iter().any(|f| f.3.contains("would include itself")), "{found:?}");
        let mut session = session();
        session.raw.insert("long".into(), vec![Value::from(1); 2000].into());
        session.raw.insert("text".into(), "x".repeat(1 << 20).into());
        let context = Context::new(&session, Extras::default());
        let templates = compile(&[
            ("a.txt.hbs", "{{#each raw.long}}{{#each @root.raw.long}}{{/each}}{{/each}}"),
            ("b.txt.hbs", "{{#each raw.long}}{{@root.raw.text}}{{/each}}"),
            ("c.json", "{\"$each\": \"raw.long\", \"$item\": \"{{@root.raw.text}}\"}"),
        ]);
        assert!(templates.text("a.txt", &context).expect_err("a fault").message.contains("100000 turns"));
        assert!(templates.text("b.txt", &context).expect_err("a fault").message.contains("16 MiB"));
        assert!(templates.payload("c.json", &context).expect_err("a fault").message.contains("16 MiB"));
    }

    #[test]
    fn what_a_session_says_is_never_template_nor_markup() {
        let mut random = fastrand::Rng::with_seed(7);
        let templates = compile(&[
            (
                "p.json",
                "{\"plain\": \"{{disposition.note}}\", \"text\": \"[{{disposition.note}}]\", \"keep\": {\"{}\": \"{{keep_empty disposition.note}}\"}}",
            ),
            ("a.html.hbs", "<p title=\"{{disposition.note}}\">{{html disposition.note}}</p>"),
        ]);
        let alphabet: Vec<char> = "ab\"'\\{}<>&\n\r\t\u{0}\u{1b}\u{2028}ä😀%$/{{x}}#*".chars().collect();
        for _ in 0..300 {
            let length = random.usize(1..60);
            let note: String = (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect::<String>() + "x";
            let mut session = session();
            if let Some(last) = session.dispositions.last_mut() {
                last.note = Some(note.clone());
            }
            let context = Context::new(&session, Extras::default());
            let payload = templates.payload("p.json", &context).expect("a payload");
            let written: Value = serde_json::from_str(&payload.to_string()).expect("JSON");
            assert_eq!(written["plain"], note.as_str());
            assert_eq!(written["text"], format!("[{note}]"));
            assert_eq!(written["keep"]["{}"], note.as_str());
            let html = templates.text("a.html", &context).expect("a text");
            let tags = html.matches('<').count() - html.matches("<br>").count();
            assert_eq!((tags, html.matches('"').count()), (2, 2), "{html}");
        }
    }

    #[test]
    fn a_note_of_a_megabyte_renders() {
        let mut session = session();
        let note = "line \"x\" {{y}}\n".repeat(70_000);
        if let Some(last) = session.dispositions.last_mut() {
            last.note = Some(note.clone());
        }
        let context = Context::new(&session, Extras::default());
        let templates =
            compile(&[("p.json", "{\"n\": \"{{disposition.note}}\", \"t\": \"{{truncate disposition.note 100}}\"}")]);
        let payload = templates.payload("p.json", &context).expect("a payload");
        assert_eq!(payload["n"], note.as_str());
        assert_eq!(payload["t"].as_str().map(|t| t.chars().count()), Some(100));
        assert!(templates.text("note.md", &context).is_ok());
    }
}
