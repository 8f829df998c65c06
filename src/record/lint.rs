//! Every name of a template against what exists: strictness before the first session.
//!
//! Walks the tree of `syntax` with Handlebars' scopes (`#each`, `#with`, block parameters, `../`, `@index`)
//! over a `Shape`. Past here a path can be empty, but never wrong. A partial is checked where it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::helpers::{self, Gives, HELPERS, Slot, Takes};
use super::origin::Origin;
use super::shape::{Form, Shape};
use super::syntax::{Arg, Block, Branch, Call, Node, Partial, Word};
use crate::diagnostic::{Diagnostics, nearest, suggest};

/// A text template, read but not yet checked.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) nodes: Vec<Node>,
}

/// What is around the template that is checked.
pub(super) struct Surroundings<'a> {
    pub(super) shape: &'a Shape,
    /// `{{{…}}}` does no harm here.
    pub(super) unescaped: bool,
    /// Its siblings by name, for `{{> name}}`; none where there can't be any.
    pub(super) partials: Option<&'a BTreeMap<String, Source>>,
    /// The text templates by name, for `{{include 'name'}}`.
    pub(super) includes: Option<&'a BTreeSet<String>>,
}

/// What a check found out about a template that has no faults.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// It loops, itself or through a partial.
    pub(super) loops: bool,
    /// It includes texts.
    pub(super) includes: BTreeSet<String>,
    /// It uses these partials.
    pub(super) partials: BTreeSet<String>,
    /// Paths that print a value whose form is not known.
    pub(super) loose: BTreeSet<String>,
}

/// Which `@` variables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locals {
    None,
    List,
    Members,
}

/// One scope.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) form: Form,
    pub(super) locals: Locals,
    params: Vec<(String, Form)>,
}

impl Frame {
    pub(super) fn new(form: Form, locals: Locals) -> Self {
        Self { form, locals, params: Vec::new() }
    }
}

/// Partials inside partials, deeper than anyone can follow.
const DEPTH: usize = 8;

/// Checks one template; the innermost scope is the last of `frames`.
pub(super) struct Checker<'a> {
    around: &'a Surroundings<'a>,
    origin: Origin,
    frames: Vec<Frame>,
    inside: Vec<String>,
    pub(super) faults: Diagnostics,
    pub(super) findings: Findings,
}

impl<'a> Checker<'a> {
    /// A checker for a template that begins in these scopes.
    pub(super) fn new(around: &'a Surroundings<'a>, origin: &Origin, frames: Vec<Frame>) -> Self {
        let (faults, findings) = (Diagnostics::new(), Findings::default());
        Self { around, origin: origin.clone(), frames, inside: Vec::new(), faults, findings }
    }

    /// Says which text template this is, so that it can't be its own partial.
    pub(super) fn inside(&mut self, name: &str) {
        self.inside.push(name.to_owned());
    }

    fn fault(&mut self, word: &std::ops::Range<usize>, code: &'static str, message: String, hint: impl Into<String>) {
        self.faults.push(self.origin.fault(word.clone(), code, message).hint(hint));
    }

    /// Checks a template that prints.
    pub(super) fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Text => {}
                Node::Print(print) => {
                    if print.unescaped && !self.around.unescaped {
                        let message = "an unescaped expression could break the text around it".to_owned();
                        let hint = "write two braces, `{{…}}`: values are escaped for their place";
                        self.fault(&print.span, "unescaped", message, hint);
                    }
                    let form = self.expression(&print.call);
                    self.prints(&print.call, &form);
                }
                Node::Block(block) => self.block(block),
                Node::Partial(partial) => self.partial(partial),
            }
        }
    }

    fn prints(&mut self, call: &Call, form: &Form) {
        if !form.is_scalar() {
            let what = if call.is_bare() { format!("`{}`", call.head.text) } else { "this".to_owned() };
            let message = format!("{what} is {}, which can't be printed as text", form.words());
            let hint = match form {
                Form::List(_) => "use `{{#each …}}`, `join`, or `json`",
                _ => "name one of its members, or use `json`",
            };
            self.fault(&call.span, "not_text", message, hint);
        } else if *form == Form::Any && call.is_bare() {
            self.findings.loose.insert(call.head.text.clone());
        }
    }

    /// Checks an expression and says what it gives.
    pub(super) fn expression(&mut self, call: &Call) -> Form {
        if call.is_bare() && helpers::find(&call.head.text).is_none() && call.head.text != "include" {
            return self.path(&call.head);
        }
        self.call(call)
    }

    fn call(&mut self, call: &Call) -> Form {
        if call.head.text == "include" {
            self.include(call);
            return Form::Text;
        }
        let forms: Vec<Form> = call.args.iter().map(|arg| self.arg(arg)).collect();
        for (_, value) in &call.named {
            self.arg(value);
        }
        let Some(helper) = helpers::find(&call.head.text) else {
            self.unknown_helper(&call.head);
            return Form::Any;
        };
        let (least, most) = helper.values;
        if !(least..=most).contains(&call.args.len()) {
            let message = format!("`{}` needs {}, not {}", helper.name, helper.arity(), call.args.len());
            let hint = if call.is_bare() && !matches!(self.frames.last(), None | Some(Frame { form: Form::Text, .. })) {
                format!("for a field of this name write `{{{{this.{}}}}}`", helper.name)
            } else if call.args.len() > most {
                format!("leave out what is behind `{}` and {}", helper.name, helper.arity())
            } else if !call.args.is_empty() {
                format!("add what is missing; `templates/README.md` has an example of `{}`", helper.name)
            } else {
                format!(
                    "`{}` is a helper: write its values behind it, such as `{{{{{} …}}}}`",
                    helper.name, helper.name
                )
            };
            self.fault(&call.span, "arguments", message, hint);
            return Form::Any;
        }
        if helper.named != ["*"] {
            for (name, _) in call.named.iter().filter(|(n, _)| !helper.named.contains(&n.text.as_str())) {
                let message = format!("`{}` knows no `{}=`", helper.name, name.text);
                self.fault(&name.span, "arguments", message, suggest(&name.text, helper.named.iter().copied()));
            }
        }
        let first = forms.first().cloned().unwrap_or(Form::Any);
        let span = call.args.first().map_or(call.span.clone(), Arg::span);
        match (helper.takes, &first) {
            (Takes::List, form) if !matches!(form, Form::List(_) | Form::Any) => {
                let message = format!("`{}` works on a list, and this is {}", helper.name, form.words());
                self.fault(&span, "arguments", message, "give it a list such as `dispositions`");
                return Form::Any;
            }
            (Takes::Scalar, form) if !form.is_scalar() => {
                let message = format!("`{}` works on a single value, and this is {}", helper.name, form.words());
                self.fault(&span, "arguments", message, "name a member, or use `join`, `first`, `last` or `json`");
                return Form::Any;
            }
            _ => {}
        }
        self.literals(helper, call);
        if helper.name == "pick" {
            return self.pick(call, &first);
        }
        match (helper.gives, &first) {
            (Gives::Same, Form::Any) => forms.get(1).cloned().unwrap_or(Form::Any),
            (gives, _) => gives.form(&first),
        }
    }

    fn literals(&mut self, helper: &helpers::Helper, call: &Call) {
        for (slot, check) in helper.checks {
            let arg = match slot {
                Slot::At(i) => call.args.get(*i),
                Slot::Named(name) => call.named.iter().find(|(n, _)| n.text == *name).map(|(_, v)| v),
            };
            if let Some(Arg::Literal(value, span)) = arg
                && let Err(message) = check(value)
            {
                let shown = value.as_str().map_or(value.to_string(), str::to_owned);
                let hint = format!("`{}` here is `{shown}`", helper.name);
                self.fault(span, "arguments", message, hint);
            }
        }
    }

    fn pick(&mut self, call: &Call, list: &Form) -> Form {
        let (Form::List(item), Some(Arg::Literal(Value::String(path), span))) = (list, call.args.get(1)) else {
            return Form::list(Form::Any);
        };
        let mut form = (**item).clone();
        for name in path.split('.') {
            match member(&form, name) {
                Member::Of(inner) => form = inner,
                Member::Unknown(known) => {
                    let message = format!("the items have no member `{name}`");
                    let hint = suggest(name, known.iter().copied());
                    self.fault(span, "unknown_name", message, hint);
                    return Form::list(Form::Any);
                }
                Member::NoParts => {
                    let message = format!("`{name}` can't be picked: the items are {}", form.words());
                    self.fault(span, "unknown_name", message, "the items of the list have no members");
                    return Form::list(Form::Any);
                }
            }
        }
        Form::list(form)
    }

    fn unknown_helper(&mut self, head: &Word) {
        let words = HELPERS.iter().map(|h| h.name).chain(["include"]);
        let hint = match nearest(&head.text, words) {
            Some(word) => format!("did you mean `{word}`?"),
            None if self.around.shape.members().contains_key(head.text.split(['.', '/']).next().unwrap_or("")) => {
                "it is a field: a field takes no values behind it".to_owned()
            }
            None => "`templates/README.md` lists the helpers".to_owned(),
        };
        self.fault(&head.span, "unknown_helper", format!("there is no helper `{}`", head.text), hint);
    }

    fn include(&mut self, call: &Call) {
        let Some(names) = self.around.includes else {
            let hint = "put the text into a payload or text template, and name that";
            return self.fault(&call.span, "include", "`include` is not possible here".to_owned(), hint);
        };
        match (call.args.as_slice(), call.named.as_slice()) {
            ([Arg::Literal(Value::String(name), span)], []) => {
                let name = name.strip_suffix(".hbs").unwrap_or(name);
                if names.contains(name) {
                    self.findings.includes.insert(name.to_owned());
                } else {
                    let hint = suggest(name, names.iter().map(String::as_str));
                    self.fault(span, "unknown_template", format!("there is no text template `{name}.hbs`"), hint);
                }
            }
            _ => {
                let hint = "such as `{{include 'note.txt'}}`";
                self.fault(&call.span, "arguments", "`include` needs the name of one text template".to_owned(), hint);
            }
        }
    }

    fn arg(&mut self, arg: &Arg) -> Form {
        match arg {
            Arg::Path(word) => self.path(word),
            Arg::Call(call) => self.call(call),
            Arg::Literal(Value::String(_), _) => Form::Text,
            Arg::Literal(Value::Number(_), _) => Form::Number,
            Arg::Literal(Value::Bool(_), _) => Form::Bool,
            Arg::Literal(..) => Form::Any,
        }
    }

    fn block(&mut self, block: &Block) {
        for branch in &block.branches {
            self.branch(branch);
        }
    }

    fn branch(&mut self, branch: &Branch) {
        let Some(call) = &branch.call else { return self.nodes(&branch.body) };
        let name = call.head.text.as_str();
        if !matches!(name, "if" | "unless" | "each" | "with") {
            self.unknown_block(call);
            return;
        }
        let [arg] = call.args.as_slice() else {
            let message = format!("`#{name}` needs 1 value, not {}", call.args.len());
            return self.fault(&call.span, "arguments", message, format!("such as `{{{{#{name} rating}}}}`"));
        };
        for (key, _) in
            call.named.iter().filter(|(key, _)| !(key.text == "includeZero" && matches!(name, "if" | "unless")))
        {
            let message = format!("`#{name}` knows no `{}=`", key.text);
            self.fault(&key.span, "arguments", message, "delete it");
        }
        let form = self.arg(arg);
        let frame = match (name, &form) {
            ("each", _) => {
                self.findings.loops = true;
                let Some(frame) = each(&form) else {
                    let message = format!("`#each` goes over a list, and this is {}", form.words());
                    return self.fault(&arg.span(), "arguments", message, "use `{{#if …}}` for a single value");
                };
                Some(frame)
            }
            ("with", _) => Some(Frame::new(form.clone(), Locals::None)),
            _ => None,
        };
        let most = match name {
            "each" => 2,
            "with" => 1,
            _ => 0,
        };
        if let Some(word) = branch.params.get(most) {
            let message = format!("`#{name}` gives no value for `{}`", word.text);
            self.fault(&word.span, "arguments", message, "delete the name");
        }
        let Some(mut frame) = frame else { return self.nodes(&branch.body) };
        let key = if frame.locals == Locals::Members { Form::Text } else { Form::Number };
        let forms = [frame.form.clone(), key];
        frame.params = branch.params.iter().zip(forms).map(|(word, form)| (word.text.clone(), form)).collect();
        self.frames.push(frame);
        self.nodes(&branch.body);
        self.frames.pop();
    }

    fn unknown_block(&mut self, call: &Call) {
        let name = &call.head.text;
        let hint = if helpers::find(name).is_some() {
            format!("write `{{{{#if ({name} …)}}}}`")
        } else if self.around.shape.members().contains_key(name) {
            format!("write `{{{{#each {name}}}}}` for a list, `{{{{#if {name}}}}}` for a condition")
        } else {
            suggest(name, ["if", "unless", "each", "with"])
        };
        self.fault(&call.head.span, "unknown_helper", format!("there is no block `#{name}`"), hint);
    }

    fn partial(&mut self, partial: &Partial) {
        let name = &partial.name;
        let Some(partials) = self.around.partials else {
            let hint = format!("write `{{{{include '{}.txt'}}}}`", name.text);
            return self.fault(&name.span, "partial", "partials are not possible here".to_owned(), hint);
        };
        let Some(source) = partials.get(&name.text) else {
            let hint = match nearest(&name.text, partials.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a partial is a text template with the same ending; `include` takes any other".to_owned(),
            };
            return self.fault(&name.span, "unknown_template", format!("there is no partial `{}`", name.text), hint);
        };
        if self.inside.contains(&name.text) || self.inside.len() >= DEPTH {
            let message = format!("the partial `{}` would end up in itself, or in {DEPTH} others", name.text);
            return self.fault(&name.span, "recursion", message, "partials can't be recursive: use `{{#each …}}`");
        }
        self.findings.partials.insert(name.text.clone());
        let form = match partial.args.as_slice() {
            [] => self.frames.last().map_or(Form::Any, |f| f.form.clone()),
            [arg, ..] => self.arg(arg),
        };
        if let Some(arg) = partial.args.get(1) {
            let hint = "further values are named, such as `{{> line agent title='Agent'}}`";
            self.fault(&arg.span(), "arguments", "a partial takes one value".to_owned(), hint);
        }
        let named: Vec<(String, Form)> = partial.named.iter().map(|(n, v)| (n.text.clone(), self.arg(v))).collect();
        let form = match form {
            Form::Object(members) if !named.is_empty() => {
                let mut members = (*members).clone();
                members.extend(named.iter().cloned());
                Form::Object(members.into())
            }
            form => form,
        };
        let locals = self.frames.last().map_or(Locals::None, |f| f.locals);
        let origin = std::mem::replace(&mut self.origin, source.origin.clone());
        self.frames.push(Frame { form, locals, params: named });
        self.inside.push(name.text.clone());
        self.nodes(&source.nodes);
        self.inside.pop();
        self.frames.pop();
        self.origin = origin;
    }

    /// Checks a path and says what it leads to.
    fn path(&mut self, word: &Word) -> Form {
        let path = match Path::parse(&word.text) {
            Ok(path) => path,
            Err(hint) => {
                self.fault(&word.span, "path", format!("`{}` is no path", word.text), hint);
                return Form::Any;
            }
        };
        if path.local {
            return self.local(word, &path);
        }
        if path.ups >= self.frames.len() {
            let message = format!("`{}` leads out of the template: there is nothing around it", word.text);
            self.fault(&word.span, "unknown_name", message, "`../` is for the inside of `#each` and `#with`");
            return Form::Any;
        }
        let mut segments = path.segments.iter();
        let param = path.segments.first().filter(|_| !path.root).and_then(|(name, _)| {
            self.frames.iter().rev().flat_map(|f| &f.params).find(|(n, _)| n == name).map(|(_, form)| form.clone())
        });
        let mut form = if let Some(form) = param {
            segments.next();
            form
        } else if path.root {
            self.around.shape.root()
        } else {
            self.frames.iter().rev().nth(path.ups).map_or(Form::Any, |f| f.form.clone())
        };
        let mut behind = String::new();
        for (name, at) in segments {
            let inner = match member(&form, name) {
                Member::Of(inner) => inner,
                wrong => {
                    self.unknown_name(word, (name, *at), &behind, &form, &wrong);
                    return Form::Any;
                }
            };
            form = inner;
            if !behind.is_empty() {
                behind.push('.');
            }
            behind.push_str(name);
        }
        form
    }

    fn unknown_name(&mut self, word: &Word, (name, at): (&str, usize), behind: &str, form: &Form, wrong: &Member<'_>) {
        let start = word.span.start + at;
        let span = start..(start + name.len()).min(word.span.end);
        let top = self.around.shape.members();
        let (message, hint) = match wrong {
            Member::Unknown(known) => {
                let near = nearest(name, known.iter().copied());
                let is_top = matches!((form, self.around.shape.root()), (Form::Object(a), Form::Object(b)) if Arc::ptr_eq(a, &b));
                let message = match behind {
                    "" if is_top => format!("there is no field `{name}` in a session"),
                    "" => format!("there is no field `{name}` here"),
                    _ => format!("`{behind}` has no field `{name}`"),
                };
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if behind.is_empty() && !is_top && top.contains_key(name) => {
                        format!("outside of this block it is `@root.{name}`")
                    }
                    None if is_top => "`mail2crm schema session` lists the fields".to_owned(),
                    None => suggest(name, known.iter().copied()),
                };
                (message, hint)
            }
            _ => {
                let what = if behind.is_empty() { "this" } else { behind };
                let hint = match form {
                    Form::List(_) => "use `{{#each …}}`, or `first`, `last`, `pick`".to_owned(),
                    _ => format!("write `{}` alone", if behind.is_empty() { "this" } else { behind }),
                };
                (format!("`{what}` is {}, which has no field `{name}`", form.words()), hint)
            }
        };
        self.fault(&span, "unknown_name", message, hint);
    }

    fn local(&mut self, word: &Word, path: &Path) -> Form {
        let name = path.segments.first().map_or("", |(n, _)| n.as_str());
        let locals = self.frames.iter().rev().nth(path.ups).map_or(Locals::None, |f| f.locals);
        match (locals, name) {
            (Locals::List | Locals::Members, "index") => Form::Number,
            (Locals::List | Locals::Members, "first" | "last") => Form::Bool,
            (Locals::Members, "key") => Form::Text,
            (_, "index" | "first" | "last" | "key") => {
                let hint = match name {
                    "key" => "`@key` is for `#each` over an object; further out it is `@../key`",
                    _ => "it is for the inside of `#each`; from an inner block it is such as `@../index`",
                };
                self.fault(&word.span, "unknown_name", format!("there is no `{}` here", word.text), hint);
                Form::Any
            }
            _ => {
                let hint = suggest(name, ["index", "first", "last", "key", "root"]);
                self.fault(&word.span, "unknown_name", format!("there is no `{}`", word.text), hint);
                Form::Any
            }
        }
    }
}

/// The scope inside a loop over this; none if it can't be looped over.
pub(super) fn each(form: &Form) -> Option<Frame> {
    match form {
        Form::List(item) => Some(Frame::new((**item).clone(), Locals::List)),
        Form::Map(item) => Some(Frame::new((**item).clone(), Locals::Members)),
        Form::Object(_) => Some(Frame::new(Form::Any, Locals::Members)),
        Form::Any => Some(Frame::new(Form::Any, Locals::Members)),
        _ => None,
    }
}

enum Member<'a> {
    Of(Form),
    /// Not among these.
    Unknown(Vec<&'a str>),
    /// It has no members.
    NoParts,
}

fn member<'a>(form: &'a Form, name: &str) -> Member<'a> {
    match form {
        Form::Any => Member::Of(Form::Any),
        Form::Map(inner) => Member::Of((**inner).clone()),
        Form::List(item) if name.parse::<usize>().is_ok() => Member::Of((**item).clone()),
        Form::Object(members) => match members.get(name) {
            Some(form) => Member::Of(form.clone()),
            None => Member::Unknown(members.keys().map(String::as_str).collect()),
        },
        _ => Member::NoParts,
    }
}

/// A path taken apart: how far up, and which names down.
#[derive(Debug, PartialEq)]
pub(super) struct Path {
    pub(super) root: bool,
    /// `@index` and its like.
    pub(super) local: bool,
    pub(super) ups: usize,
    /// Each with its byte in the path.
    pub(super) segments: Vec<(String, usize)>,
}

impl Path {
    /// Takes a path apart as the engine does; the error is a hint.
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        let mut path = Path { root: false, local: false, ups: 0, segments: Vec::new() };
        let mut rest = text;
        for current in ["this.", "this/", "./"] {
            rest = rest.strip_prefix(current).unwrap_or(rest);
        }
        if let Some(inner) = rest.strip_prefix("@root.").or_else(|| rest.strip_prefix("@root/")) {
            (path.root, rest) = (true, inner);
        } else if rest == "@root" {
            return Err("write such as `@root.key`".to_owned());
        } else if let Some(inner) = rest.strip_prefix('@') {
            (path.local, rest) = (true, inner);
        }
        while let Some(inner) = rest.strip_prefix("../") {
            path.ups += 1;
            rest = inner;
        }
        if let Some(name) = rest.strip_prefix('@') {
            return Err(format!("write `@{}{name}`", "../".repeat(path.ups)));
        }
        if rest == ".." {
            return Err("write `../this`".to_owned());
        }
        loop {
            let at = text.len() - rest.len();
            let (name, inner) = match rest.strip_prefix('[') {
                Some(inner) => {
                    let Some((name, after)) = inner.split_once(']') else { return Err("close the `[`".to_owned()) };
                    path.segments.push((name.to_owned(), at + 1));
                    ("", after)
                }
                None => rest.split_at(rest.find(['.', '/', '[', ']', '@']).unwrap_or(rest.len())),
            };
            if !name.is_empty() && name != "this" {
                path.segments.push((name.to_owned(), at));
            } else if name.is_empty() && !rest.starts_with('[') {
                return Err("a path is names with `.` between them, such as `agent.name`".to_owned());
            }
            match inner.strip_prefix(['.', '/']) {
                Some(inner) => rest = inner,
                None if inner.is_empty() => return Ok(path),
                None => return Err("a path is names with `.` between them, such as `raw.[a key]`".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_apart_as_in_the_engine() {
        let path = Path::parse("../../agent.name").expect("a path");
        assert_eq!((path.ups, path.segments.len(), path.segments[1].1), (2, 2, 12));
        assert_eq!(Path::parse("raw.[a b].c").expect("a path").segments[1], ("a b".to_owned(), 5));
        assert!(Path::parse("@root.key").expect("a path").root);
        assert!(Path::parse("@../index").is_ok_and(|p| p.local && p.ups == 1));
        assert_eq!(Path::parse("this").expect("a path").segments, []);
        assert_eq!(Path::parse("../@index"), Err("write `@../index`".to_owned()));
        for wrong in ["..", "@root", "a..b", "a.", "[a", "a@b", ""] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
    }
}
