//! One template in a string: constant, a path, a single expression that keeps its type, or text.
//!
//! A plain path is walked directly; everything else goes through the engine.

use std::collections::BTreeMap;

use handlebars::template::Parameter;
use handlebars::{PathAndJson, RenderError, Template};
use serde_json::Value;

use super::engine::{self, Run, Uses};
use super::escape::Escape;
use super::helpers;
use super::lint::{Checker, Findings, Frame, Path, Source, Surroundings};
use super::origin::Origin;
use super::render::RenderFault;
use super::shape::Form;
use super::syntax::{self, Node};
use crate::diagnostic::{Diagnostics, SourceFile};

/// A compiled string.
#[derive(Debug)]
pub(super) struct Leaf {
    origin: Origin,
    /// The template as the engine sees it, for the places in its faults.
    text: String,
    kind: Kind,
    /// Its value is sent even if it is empty.
    pub(super) keep: bool,
    pub(super) uses: Uses,
    /// What a single expression gives.
    pub(super) form: Form,
    /// The name that a single expression begins with.
    head: String,
    /// The text outside of the tags, as far as it is before the first one.
    pub(super) begins_with: String,
}

#[derive(Debug)]
enum Kind {
    /// No expression in it.
    Constant(Value),
    /// Names from the root down.
    Path(Vec<String>, Parameter),
    /// One expression.
    Expression(Parameter),
    /// Text with expressions in it.
    Text(Template),
}

impl Leaf {
    /// Compiles the string `text`; the innermost scope is the last of `frames`.
    pub(super) fn compile(
        text: &str,
        origin: Origin,
        around: &Surroundings<'_>,
        frames: &[Frame],
    ) -> Result<Self, Diagnostics> {
        let nodes = syntax::parse(text, &origin)?;
        let mut checker = Checker::new(around, &origin, frames.to_vec());
        let single = syntax::single(&nodes, text);
        let mut form = Form::Text;
        match single {
            Some(call) => form = checker.expression(call),
            None => checker.nodes(&nodes),
        }
        let findings = checker.faults.into_result(checker.findings)?;
        let head = single.map_or(String::new(), |call| call.head.text.clone());
        let keep = head == "keep_empty";
        let kind = match single {
            Some(call) => {
                let source = text.get(call.span.clone()).unwrap_or("");
                let source = if call.is_bare() { source.to_owned() } else { format!("({source})") };
                let parameter = Parameter::parse(&source).map_err(|e| template_fault(&e, text, &origin))?;
                match Path::parse(&call.head.text) {
                    Ok(path) if call.is_bare() && !path.local && path.ups == 0 && (frames.len() == 1 || path.root) => {
                        Kind::Path(path.segments.into_iter().map(|(name, _)| name).collect(), parameter)
                    }
                    _ => Kind::Expression(parameter),
                }
            }
            None if nodes.iter().all(|n| matches!(n, Node::Text)) => {
                // Without the backslashes before braces that are text.
                let plain = compile_template(text, None, &origin, &findings)?;
                let budget = engine::Budget::new();
                let data = handlebars::Context::null();
                let mut run =
                    Run::new(engine::base(Escape::Plain), Escape::Plain, &data, &budget, None, Uses::default());
                Kind::Constant(run.text(&plain).unwrap_or_default().into())
            }
            None => Kind::Text(compile_template(text, None, &origin, &findings)?),
        };
        let begins_with = text.split("{{").next().unwrap_or("").to_owned();
        let uses = Uses { loops: findings.loops, includes: !findings.includes.is_empty() };
        Ok(Self { origin, text: text.to_owned(), kind, keep, uses, form, head, begins_with })
    }

    /// True if there is no expression in it.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.kind, Kind::Constant(_))
    }

    /// True if the template's own text ends with a slash.
    pub(super) fn ends_with_slash(&self) -> bool {
        self.text.split(['?', '#']).next().unwrap_or("").ends_with('/')
    }

    /// The value, with its own type if this is a single expression.
    pub(super) fn value<'a>(&'a self, run: &mut Run<'a>) -> Result<Value, RenderFault> {
        match &self.kind {
            Kind::Constant(value) => Ok(value.clone()),
            Kind::Path(names, _) => Ok(self.walk(names, run)?.clone()),
            Kind::Expression(expression) => match run.expand(expression) {
                Ok(found) => Ok(found.value().clone()),
                Err(error) => Err(self.fault(&error)),
            },
            Kind::Text(template) => match run.text(template) {
                Ok(text) => Ok(text.into()),
                Err(error) => Err(self.fault(&error)),
            },
        }
    }

    /// The value and where in the data it is, for loops.
    pub(super) fn found<'a>(&'a self, run: &mut Run<'a>) -> Result<Option<PathAndJson<'a>>, RenderFault> {
        match &self.kind {
            Kind::Path(_, expression) | Kind::Expression(expression) => {
                run.expand(expression).map(Some).map_err(|error| self.fault(&error))
            }
            Kind::Constant(_) | Kind::Text(_) => Ok(None),
        }
    }

    /// The text, escaped as the run's registry does; a single value is escaped as a whole.
    pub(super) fn text<'a>(&'a self, run: &mut Run<'a>, escape: Escape) -> Result<String, RenderFault> {
        let value = match &self.kind {
            Kind::Text(template) => return run.text(template).map_err(|error| self.fault(&error)),
            Kind::Constant(value) => return Ok(value.as_str().unwrap_or("").to_owned()),
            Kind::Path(names, _) => self.walk(names, run)?.clone(),
            Kind::Expression(expression) => {
                let found = run.expand(expression).map_err(|error| self.fault(&error))?;
                found.value().clone()
            }
        };
        let text = helpers::scalar(&value).map_err(|message| self.fault_at(0, message))?.unwrap_or_default();
        Ok(if engine::is_whole(&self.head, escape) { text } else { escape.apply(&text) })
    }

    fn walk<'a>(&self, names: &[String], run: &Run<'a>) -> Result<&'a Value, RenderFault> {
        static NULL: Value = Value::Null;
        let mut value = run.data.data();
        for name in names {
            value = match value {
                Value::Object(members) => members.get(name).unwrap_or(&NULL),
                Value::Array(items) => match name.parse::<usize>() {
                    Ok(i) => items.get(i).unwrap_or(&NULL),
                    Err(_) => {
                        let message = format!("the value before `{name}` is a list, which has no members");
                        return Err(self.fault_at(0, message));
                    }
                },
                _ => &NULL,
            };
        }
        Ok(value)
    }

    /// The fault of an expression in it.
    pub(super) fn fault(&self, error: &RenderError) -> RenderFault {
        match engine::reason(error) {
            Ok(message) => {
                let at = match (error.line_no, error.column_no) {
                    (Some(line), Some(column)) => SourceFile::new("", self.text.as_str()).offset_of(line, column),
                    _ => 0,
                };
                self.fault_at(at, message)
            }
            Err(inner) => inner,
        }
    }

    /// A fault at a byte of the template.
    pub(super) fn fault_at(&self, at: usize, message: String) -> RenderFault {
        RenderFault::at(&self.origin, at, message)
    }
}

/// Compiles for the engine what `syntax` and `lint` accepted.
pub(super) fn compile_template(
    text: &str,
    name: Option<&str>,
    origin: &Origin,
    findings: &Findings,
) -> Result<Template, Diagnostics> {
    let compiled = match name {
        Some(name) => Template::compile_with_name(text, name.to_owned()),
        None => Template::compile(text),
    };
    let mut template = compiled.map_err(|e| template_fault(&e, text, origin))?;
    engine::guard(&mut template, &findings.loose);
    Ok(template)
}

fn template_fault(error: &handlebars::TemplateError, text: &str, origin: &Origin) -> Diagnostics {
    let at = error.pos().map_or(0, |(line, column)| SourceFile::new("", text).offset_of(line, column));
    let hint = "see the Handlebars guide on expressions; names with blanks stand in `[…]`";
    origin.fault(at..at + 1, "syntax", "this is no Handlebars expression").hint(hint).into()
}

/// Reads the text templates of one ending, by the names that partials use; faults are collected.
pub(super) fn read_sources<'a>(
    files: impl Iterator<Item = (String, &'a SourceFile)>,
    faults: &mut Diagnostics,
) -> BTreeMap<String, Source> {
    let mut sources = BTreeMap::new();
    for (name, file) in files {
        let origin = Origin::whole(file);
        match syntax::parse(&file.text, &origin) {
            Ok(nodes) => {
                sources.insert(name, Source { origin, nodes });
            }
            Err(found) => faults.extend(found),
        }
    }
    sources
}
