//! A payload template: a JSON file whose strings are templates, to a JSON value.
//!
//! What comes out empty (null, blank text, an empty list or object) is left out, all the way up;
//! `{{keep_empty …}}` is the explicit way to send it. `{"$each": list, "$item": …}` makes a list,
//! `{"$if": condition, "$then": …, "$else": …}` chooses; a key that begins with `$` in the CRM is written `$$`.

use serde_json::{Map, Value};

use super::engine::{self, Run, Uses};
use super::helpers::{is_empty, is_true};
use super::json_file::{self, Json, Text};
use super::leaf::Leaf;
use super::lint::{self, Frame, Locals, Surroundings};
use super::origin::Origin;
use super::render::RenderFault;
use crate::diagnostic::{Diagnostics, SourceFile, suggest};

/// A compiled payload.
#[derive(Debug)]
pub(super) struct Payload {
    root: Node,
    pub(super) uses: Uses,
}

#[derive(Debug)]
enum Node {
    Constant(Value),
    Leaf(Box<Leaf>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    Each { list: Box<Leaf>, item: Box<Node> },
    If { condition: Box<Leaf>, then: Box<Node>, otherwise: Option<Box<Node>> },
}

impl Payload {
    pub(super) fn compile(file: &SourceFile, around: &Surroundings<'_>) -> Result<Self, Diagnostics> {
        let document = json_file::read(file)?;
        let mut compiler = Compiler { file, around, faults: Diagnostics::new(), uses: Uses::default() };
        let root = compiler.node(&document, &[Frame::new(around.shape.root(), Locals::None)]);
        let uses = compiler.uses;
        compiler.faults.into_result(Self { root, uses })
    }

    /// The members of a payload that is an object, with its name and leaf.
    pub(super) fn into_leaves(self) -> Vec<(String, Leaf)> {
        let Node::Object(members) = self.root else { return Vec::new() };
        let leaf = |(name, node)| match node {
            Node::Leaf(leaf) => Some((name, *leaf)),
            _ => None,
        };
        members.into_iter().filter_map(leaf).collect()
    }

    /// The value for one session.
    pub(super) fn render<'a>(&'a self, run: &mut Run<'a>) -> Result<Value, RenderFault> {
        let empty = match &self.root {
            Node::Object(_) => Value::Object(Map::new()),
            Node::List(_) | Node::Each { .. } => Value::Array(Vec::new()),
            _ => Value::Null,
        };
        Ok(value(&self.root, run)?.unwrap_or(empty))
    }
}

/// A node's value; none if it is left out.
fn value<'a>(node: &'a Node, run: &mut Run<'a>) -> Result<Option<Value>, RenderFault> {
    match node {
        Node::Constant(value) => Ok(Some(value.clone())),
        Node::Leaf(leaf) => {
            let value = leaf.value(run)?;
            run.budget.value(&value).map_err(|message| leaf.fault_at(0, message))?;
            Ok(if leaf.keep { Some(value) } else { prune(value) })
        }
        Node::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                list.extend(value(item, run)?);
            }
            Ok((!list.is_empty()).then_some(Value::Array(list)))
        }
        Node::Object(members) => {
            let mut object = Map::with_capacity(members.len());
            for (key, member) in members {
                if let Some(value) = value(member, run)? {
                    object.insert(key.clone(), value);
                }
            }
            Ok((!object.is_empty()).then_some(Value::Object(object)))
        }
        Node::If { condition, then, otherwise } => {
            if is_true(&condition.value(run)?) {
                return value(then, run);
            }
            otherwise.as_ref().map_or(Ok(None), |node| value(node, run))
        }
        Node::Each { list, item } => each(list, item, run),
    }
}

fn each<'a>(leaf: &'a Leaf, item: &'a Node, run: &mut Run<'a>) -> Result<Option<Value>, RenderFault> {
    let Some(found) = leaf.found(run)? else { return Ok(None) };
    let items: Vec<(String, &Value)> = match found.value() {
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        _ => return Ok(None),
    };
    let is_map = found.value().is_object();
    let last = items.len().saturating_sub(1);
    let mut out = Vec::with_capacity(items.len());
    for (i, (step, one)) in items.into_iter().enumerate() {
        run.budget.turn().map_err(|error| leaf.fault(&error))?;
        let key = is_map.then(|| step.clone());
        let mut block = engine::item_block(&found, step, one, i, last);
        if let Some(key) = key {
            block.set_local_var("key", key.into());
        }
        run.rc.push_block(block);
        let result = value(item, run);
        run.rc.pop_block();
        out.extend(result?);
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

/// The value without its empty parts; none if nothing is left.
fn prune(value: Value) -> Option<Value> {
    match value {
        Value::Array(items) => {
            let kept: Vec<Value> = items.into_iter().filter_map(prune).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        Value::Object(members) => {
            let kept: Map<String, Value> = members.into_iter().filter_map(|(k, v)| Some((k, prune(v)?))).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        value => (!is_empty(&value)).then_some(value),
    }
}

struct Compiler<'a> {
    file: &'a SourceFile,
    around: &'a Surroundings<'a>,
    faults: Diagnostics,
    uses: Uses,
}

/// In place of what has a fault.
const NOTHING: Node = Node::Constant(Value::Null);

impl Compiler<'_> {
    fn node(&mut self, node: &json_file::Node, frames: &[Frame]) -> Node {
        let value = match &node.json {
            Json::String(text) if text.value.is_empty() => "".into(),
            Json::String(text) => {
                let origin = Origin::string(self.file, text.span.start, &text.value);
                return self.leaf(&text.value, origin, frames).map_or(NOTHING, |leaf| Node::Leaf(Box::new(leaf)));
            }
            Json::Array(items) if !items.is_empty() => {
                return Node::List(items.iter().map(|item| self.node(item, frames)).collect());
            }
            Json::Object(members) if !members.is_empty() => return self.object(members, frames),
            Json::Array(_) => Value::Array(Vec::new()),
            Json::Object(_) => Value::Object(Map::new()),
            Json::Null => Value::Null,
            Json::Bool(yes) => (*yes).into(),
            Json::Number(number) => number.clone().into(),
        };
        if is_empty(&value) {
            let message = format!("this `{value}` would be left out, as all that is empty");
            let hint = match &value {
                Value::Null => "write `\"{{keep_empty null}}\"` to send it, or delete it",
                Value::String(_) => "write `\"{{keep_empty ''}}\"` to send it, or delete it",
                _ => "delete it; an empty list of the session is sent by `\"{{keep_empty …}}\"`",
            };
            self.faults.push(self.file.fault(node.span.clone(), "never_sent", message).hint(hint));
        }
        Node::Constant(value)
    }

    fn leaf(&mut self, text: &str, origin: Origin, frames: &[Frame]) -> Option<Leaf> {
        match Leaf::compile(text, origin, self.around, frames) {
            Ok(leaf) => {
                self.uses.loops |= leaf.uses.loops;
                self.uses.includes |= leaf.uses.includes;
                Some(leaf)
            }
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    fn object(&mut self, members: &[(Text, json_file::Node)], frames: &[Frame]) -> Node {
        let special = |name: &str| members.iter().find(|(key, _)| key.value == name).map(|(_, node)| node);
        for known in [&["$each", "$item"][..], &["$if", "$then", "$else"][..]] {
            let (first, second) = (known[0], known[1]);
            let Some(head) = special(first) else { continue };
            for (key, _) in members.iter().filter(|(key, _)| !known.contains(&key.value.as_str())) {
                let message = format!("`{}` can't stand beside `{first}`", key.value);
                let hint = suggest(&key.value, known.iter().copied());
                self.faults.push(self.file.fault(key.span.clone(), "unknown_key", message).hint(hint));
            }
            let Some(body) = special(second) else {
                let message = format!("`{first}` lacks its `{second}`");
                let hint = format!("write `{{\"{first}\": …, \"{second}\": …}}`");
                self.faults.push(self.file.fault(head.span.clone(), "missing_key", message).hint(hint));
                return NOTHING;
            };
            return if first == "$each" {
                self.each(head, body, frames)
            } else {
                self.condition(head, body, special("$else"), frames)
            };
        }
        let mut object = Vec::with_capacity(members.len());
        for (key, node) in members {
            let name = match key.value.strip_prefix('$') {
                Some(rest) if rest.starts_with('$') => rest,
                Some(_) => {
                    let message = format!("unknown key `{}`", key.value);
                    let hint = match key.value.as_str() {
                        "$item" => "it belongs beside `$each`".to_owned(),
                        "$then" | "$else" => "it belongs beside `$if`".to_owned(),
                        other => format!("known here: `$each`, `$if`; for a field of this name write `${other}`"),
                    };
                    self.faults.push(self.file.fault(key.span.clone(), "unknown_key", message).hint(hint));
                    continue;
                }
                None => key.value.as_str(),
            };
            if name.contains("{{") {
                let hint = "for names from the configuration use `\"{{field_map fields}}\"` as the object";
                let message = "a key is plain text, not a template";
                self.faults.push(self.file.fault(key.span.clone(), "template_in_key", message).hint(hint));
            }
            object.push((name.to_owned(), self.node(node, frames)));
        }
        Node::Object(object)
    }

    /// The expression of `$each` and `$if`, with or without its braces.
    fn expression(&mut self, node: &json_file::Node, frames: &[Frame]) -> Option<Leaf> {
        let Json::String(text) = &node.json else {
            let message = "a path or an expression is expected here";
            let hint = "such as `\"dispositions\"` or `\"(eq channel 'voice')\"`";
            self.faults.push(self.file.fault(node.span.clone(), "syntax", message).hint(hint));
            return None;
        };
        let origin = Origin::string(self.file, text.span.start, &text.value);
        if text.value.contains("{{") {
            return self.leaf(&text.value, origin, frames);
        }
        let trimmed = text.value.trim();
        let bare = trimmed.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        let inner = bare.map_or_else(|| text.value.clone(), |inner| format!(" {inner} "));
        let lead = text.value.len() - text.value.trim_start().len();
        let prefix = if bare.is_some() { 2usize.saturating_sub(lead) } else { 2 };
        self.leaf(&format!("{{{{{inner}}}}}"), origin.behind(prefix), frames)
    }

    fn each(&mut self, head: &json_file::Node, body: &json_file::Node, frames: &[Frame]) -> Node {
        let list = self.expression(head, frames);
        let frame = match &list {
            Some(list) => match lint::each(&list.form) {
                Some(frame) => frame,
                None => {
                    let message = format!("`$each` goes over a list, and this is {}", list.form.words());
                    let hint = "such as `\"dispositions\"`";
                    self.faults.push(self.file.fault(head.span.clone(), "arguments", message).hint(hint));
                    return NOTHING;
                }
            },
            // The fault is known; the items are not.
            None => return NOTHING,
        };
        let frames: Vec<Frame> = frames.iter().cloned().chain([frame]).collect();
        let item = self.node(body, &frames);
        list.map_or(NOTHING, |list| Node::Each { list: Box::new(list), item: Box::new(item) })
    }

    fn condition(
        &mut self,
        head: &json_file::Node,
        body: &json_file::Node,
        otherwise: Option<&json_file::Node>,
        frames: &[Frame],
    ) -> Node {
        let condition = self.expression(head, frames);
        let then = Box::new(self.node(body, frames));
        let otherwise = otherwise.map(|node| Box::new(self.node(node, frames)));
        condition.map_or(NOTHING, |condition| Node::If { condition: Box::new(condition), then, otherwise })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::context::tests::context;
    use crate::record::escape::Escape;
    use crate::record::{Field, Kind, Shape};

    fn compile(text: &str) -> Result<Payload, Diagnostics> {
        let shape = Shape::for_session().with_settings(&[("tags", Kind::List), ("subject", Kind::Text)]);
        let around = Surroundings { shape: &shape, unescaped: false, partials: None, includes: None };
        Payload::compile(&SourceFile::new("update.json", text), &around)
    }

    fn render(text: &str) -> Value {
        let payload = compile(text).unwrap_or_else(|d| panic!("{d}"));
        let mut context = context();
        context.with_fields(&[Field { name: "rating".into(), field: 360.into(), value: 4.into() }]);
        let budget = engine::Budget::new();
        let registry = engine::base(Escape::Plain);
        let mut run = Run::new(registry, Escape::Plain, context.inner(), &budget, None, payload.uses);
        payload.render(&mut run).expect("a payload")
    }

    #[test]
    fn a_single_expression_keeps_its_type_and_text_is_text() {
        let value = render(
            r#"{"a": "{{rating}}", "b": "{{default queue_priority_level 0}}", "c": "{{rating}} of 5", "d": "{{verified}}",
                "e": "{{settings.tags}}", "f": true, "g": 12, "h": "\\{{rating}}", "i": "{{field_pairs fields 'id' 'value'}}",
                "j": "{{field_map fields}}", "k": "{{raw.tags.[1]}}"}"#,
        );
        let expected = json!({"a": 4, "b": 4, "c": "4 of 5", "d": true, "e": ["ccaip"], "f": true, "g": 12, "h": "{{rating}}",
            "i": [{"id": 360, "value": 4}], "j": {"360": 4}, "k": "b"});
        assert_eq!(value, expected);
    }

    #[test]
    fn what_comes_out_empty_is_left_out_all_the_way_up() {
        let value = render(
            r#"{"a": "{{smart_action_text}}", "b": {"c": "{{photos}}", "d": ["{{scheduled_at}}", " {{settings.subject}} "]},
                "e": "{{keep_empty smart_action_text}}", "f": "{{hold_duration}}", "g": ["{{key}}", "{{lang}}", "{{scheduled_at}}"],
                "h": {"i": "{{keep_empty ''}}"}, "j": "{{is_out_ticket_account}}"}"#,
        );
        assert_eq!(value, json!({"e": null, "f": 0, "g": ["voice-48213", "en"], "h": {"i": ""}, "j": false}));
        assert_eq!(render(r#"{"a": {"b": "{{scheduled_at}}"}}"#), json!({}));
        assert_eq!(render(r#"["{{scheduled_at}}"]"#), json!([]));
    }

    #[test]
    fn lists_and_conditions_are_made_by_special_keys() {
        let value = render(
            r#"{"d": {"$each": "dispositions", "$item": {"n": "{{@index}}", "code": "{{code}}", "who": "{{upper agent.name}}",
                    "key": "{{../key}}", "root": "{{@root.id}}", "x": "{{../smart_action_text}}",
                    "in": {"$if": "(eq code 'Resolved')", "$then": "{{note}}", "$else": "open {{code}}"}}},
                "p": {"$each": "{{pick dispositions 'code'}}", "$item": "{{this}}!"},
                "m": {"$each": "raw.virtual_queue", "$item": {"{}": "{{@key}}={{this}}"}},
                "none": {"$each": "photos", "$item": {"u": "{{url}}"}},
                "i": {"$if": "photos", "$then": 1}, "$$expand": "x"}"#,
        );
        let expected = json!({
            "d": [
                {"n": 0, "code": "Billing", "who": "ADA LOVELACE", "key": "voice-48213", "root": "48213", "in": "open Billing"},
                {"n": 1, "code": "Resolved", "who": "ADA LOVELACE", "key": "voice-48213", "root": "48213",
                 "in": "Paid <b>today</b> {{key}}"}],
            "p": ["Billing!", "Resolved!"], "m": [{"{}": "name=Q1"}], "$expand": "x"});
        assert_eq!(value, expected);
    }

    #[test]
    fn faults_are_in_the_place_where_they_are_written() {
        for (text, line, column, code) in [
            ("{\"a\": null}", 1, 7, "never_sent"),
            ("{\"a\": \"\"}", 1, 7, "never_sent"),
            ("{\"{{key}}\": 1}", 1, 3, "template_in_key"),
            ("{\"$eahc\": \"agents\"}", 1, 3, "unknown_key"),
            ("{\"$each\": \"agents\"}", 1, 11, "missing_key"),
            ("{\"$each\": \"agents\", \"$item\": 1, \"x\": 2}", 1, 34, "unknown_key"),
            ("{\"$each\": \"key\", \"$item\": 1}", 1, 11, "arguments"),
            ("{\"$each\": \"agnts\", \"$item\": 1}", 1, 12, "unknown_name"),
            ("{\"$if\": \"(eq chanel 'voice')\", \"$then\": 1}", 1, 14, "unknown_name"),
            ("{\"$each\": \"agents\",\n \"$item\": \"{{nme}}\"}", 2, 14, "unknown_name"),
            ("{\"a\": \"\\t{{#if key}}\"}", 1, 10, "unclosed_block"),
            ("{\"a\": \"{{> note}}\"}", 1, 12, "partial"),
            ("{\"a\": \"{{{key}}}\"}", 1, 8, "unescaped"),
        ] {
            let faults = compile(text).expect_err(text);
            let found: Vec<_> = faults.sorted().iter().map(|d| (d.line, d.column, d.code)).collect();
            assert_eq!(found, [(line, column, code)], "{text}\n{faults}");
        }
    }
}
