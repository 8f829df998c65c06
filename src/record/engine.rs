//! The Handlebars engine as it runs here: one registry for each way to escape, our helpers in it, and for
//! each rendering a budget, so that no template and no session can make it endless.
//!
//! Strictness is `lint`'s work, at compile time; at run time a null on the way to a name gives nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use handlebars::template::{Parameter, TemplateElement};
use handlebars::{
    BlockContext, BlockParams, Context as Data, Handlebars, Helper as Call, HelperDef, HelperResult, Output,
    PathAndJson, RenderContext, RenderError, RenderErrorReason, Renderable as _, ScopedJson, Template,
};
use serde_json::Value;

use super::escape::Escape;
use super::helpers::{Args, HELPERS, Helper, scalar};
use super::render::{RenderFault, Templates};

/// Bytes that one rendering may write, all included texts together.
pub(super) const OUTPUT: usize = 16 << 20;

/// Turns of loops in one rendering, all included texts together.
const TURNS: usize = 100_000;

static BASES: LazyLock<BTreeMap<Escape, Handlebars<'static>>> =
    LazyLock::new(|| Escape::ALL.into_iter().map(|escape| (escape, registry(escape))).collect());

/// The registry for templates that stand alone.
pub(super) fn base(escape: Escape) -> &'static Handlebars<'static> {
    static PLAIN: LazyLock<Handlebars<'static>> = LazyLock::new(|| registry(Escape::Plain));
    BASES.get(&escape).unwrap_or(&PLAIN)
}

fn registry(escape: Escape) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.register_escape_fn(move |text| escape.apply(text));
    for helper in HELPERS {
        registry.register_helper(helper.name, Box::new(Ours { helper, whole: is_whole(helper.name, escape) }));
    }
    registry
}

/// True for a helper whose text is already what its place needs.
pub(super) fn is_whole(name: &str, escape: Escape) -> bool {
    matches!(
        (name, escape),
        ("html", Escape::Html | Escape::Xml)
            | ("markdown", Escape::Markdown)
            | ("urlencode", Escape::Url)
            // The format is the operator's: its slashes make folders.
            | ("date", Escape::FileName)
    )
}

/// What one rendering may still cost.
#[derive(Debug)]
pub(super) struct Budget {
    turns: AtomicUsize,
    bytes: AtomicUsize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { turns: AtomicUsize::new(TURNS), bytes: AtomicUsize::new(OUTPUT) }
    }

    /// Takes so much; false if there is not enough left.
    fn take(from: &AtomicUsize, n: usize) -> bool {
        from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n)).is_ok()
    }

    /// Takes what a value needs.
    pub(super) fn value(&self, value: &Value) -> Result<(), String> {
        fn weight(value: &Value) -> usize {
            match value {
                Value::String(text) => text.len(),
                Value::Array(items) => items.iter().map(weight).sum::<usize>() + 8,
                Value::Object(members) => members.iter().map(|(k, v)| k.len() + weight(v)).sum::<usize>() + 8,
                _ => 8,
            }
        }
        if Self::take(&self.bytes, weight(value)) {
            return Ok(());
        }
        Err(format!("the payload is larger than {} MiB", OUTPUT >> 20))
    }

    pub(super) fn turn(&self) -> Result<(), RenderError> {
        if Self::take(&self.turns, 1) {
            return Ok(());
        }
        Err(other(format!("the loops of this template take more than {TURNS} turns")))
    }
}

fn other(message: String) -> RenderError {
    RenderErrorReason::Other(message).into()
}

/// Text within the budget.
pub(super) struct Bounded<'a> {
    pub(super) text: String,
    budget: &'a Budget,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self { text: String::new(), budget }
    }
}

impl Output for Bounded<'_> {
    fn write(&mut self, part: &str) -> Result<(), io::Error> {
        if !Budget::take(&self.budget.bytes, part.len()) {
            return Err(io::Error::other(format!("the text is longer than {} MiB", OUTPUT >> 20)));
        }
        self.text.push_str(part);
        Ok(())
    }
}

/// One of our helpers as the engine calls it.
struct Ours {
    helper: &'static Helper,
    whole: bool,
}

impl HelperDef for Ours {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        call: &Call<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Data,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let values: Vec<&Value> = call.params().iter().map(PathAndJson::value).collect();
        let named: Vec<(&str, &Value)> = call.hash().iter().map(|(name, v)| (*name, v.value())).collect();
        (self.helper.call)(&Args { values: &values, named: &named })
            .map(ScopedJson::Derived)
            .map_err(|message| other(format!("`{}`: {message}", self.helper.name)))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        call: &Call<'rc>,
        registry: &'reg Handlebars<'reg>,
        data: &'rc Data,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let value = self.call_inner(call, registry, data, rc)?;
        scalar(value.as_json()).map_err(|message| other(format!("`{}`: {message}", self.helper.name)))?;
        print(value.as_json(), self.whole, call, registry, data, rc, out)
    }
}

/// Lets the engine write a value, with its own escaping and indentation.
fn print<'reg: 'rc, 'rc>(
    value: &Value,
    whole: bool,
    call: &Call<'rc>,
    registry: &'reg Handlebars<'reg>,
    data: &'rc Data,
    rc: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    struct Given<'a>(&'a Value);
    impl HelperDef for Given<'_> {
        fn call_inner<'reg: 'rc, 'rc>(
            &self,
            _: &Call<'rc>,
            _: &'reg Handlebars<'reg>,
            _: &'rc Data,
            _: &mut RenderContext<'reg, 'rc>,
        ) -> Result<ScopedJson<'rc>, RenderError> {
            Ok(ScopedJson::Derived(self.0.clone()))
        }
    }
    let before = rc.is_disable_escape();
    rc.set_disable_escape(before || whole);
    let result = Given(value).call(call, registry, data, rc, out);
    rc.set_disable_escape(before);
    result
}

/// `#each` within the budget; otherwise as the engine's own.
struct Each<'a>(&'a Budget);

impl HelperDef for Each<'_> {
    fn call<'reg: 'rc, 'rc>(
        &self,
        call: &Call<'rc>,
        registry: &'reg Handlebars<'reg>,
        data: &'rc Data,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (Some(param), Some(body)) = (call.param(0), call.template()) else { return Ok(()) };
        let items: Vec<(Value, String, &Value)> = match param.value() {
            Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.into(), i.to_string(), v)).collect(),
            Value::Object(map) => map.iter().map(|(k, v)| (k.as_str().into(), k.clone(), v)).collect(),
            _ => Vec::new(),
        };
        if items.is_empty() {
            return call.inverse().map_or(Ok(()), |inverse| inverse.render(registry, data, rc, out));
        }
        let is_map = param.value().is_object();
        let last = items.len() - 1;
        for (i, (key, step, value)) in items.into_iter().enumerate() {
            self.0.turn()?;
            let mut block = item_block(param, step, value, i, last);
            if is_map {
                block.set_local_var("key", key.clone());
            }
            let mut params = BlockParams::new();
            let names = call.block_param_pair().map(|(v, k)| (v, Some(k))).or(call.block_param().map(|v| (v, None)));
            if let Some((name, key_name)) = names {
                match param.context_path() {
                    Some(_) => params.add_path(name, Vec::new())?,
                    None => params.add_value(name, value.clone())?,
                }
                if let Some(key_name) = key_name {
                    params.add_value(key_name, key)?;
                }
                block.set_block_params(params);
            }
            rc.push_block(block);
            let result = body.render(registry, data, rc, out);
            rc.pop_block();
            result?;
        }
        Ok(())
    }
}

/// The scope of one item: its place in the data if it has one there, else the item itself.
pub(super) fn item_block<'rc>(
    list: &PathAndJson<'rc>,
    step: String,
    item: &Value,
    i: usize,
    last: usize,
) -> BlockContext<'rc> {
    let mut block = BlockContext::new();
    match list.context_path() {
        Some(path) => {
            let base = block.base_path_mut();
            base.reserve_exact(path.len() + 1);
            base.extend(path.iter().cloned());
            base.push(step);
        }
        None => block.set_base_value(item.clone()),
    }
    block.set_local_var("index", i.into());
    block.set_local_var("first", (i == 0).into());
    block.set_local_var("last", (i == last).into());
    block
}

/// `include`: another text template, with that one's own escaping.
struct Include<'a> {
    templates: &'a Templates,
    escape: Escape,
    budget: &'a Budget,
}

impl Include<'_> {
    fn text(&self, call: &Call<'_>, data: &Data) -> Result<(String, Escape), RenderError> {
        let name = call.param(0).and_then(|p| p.value().as_str()).unwrap_or("");
        self.templates
            .included(name, data, self.budget)
            .map_err(|fault| RenderErrorReason::NestedError(Box::new(fault)).into())
    }
}

impl HelperDef for Include<'_> {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        call: &Call<'rc>,
        _: &'reg Handlebars<'reg>,
        data: &'rc Data,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        self.text(call, data).map(|(text, _)| ScopedJson::Derived(text.into()))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        call: &Call<'rc>,
        registry: &'reg Handlebars<'reg>,
        data: &'rc Data,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (text, escape) = self.text(call, data)?;
        print(&Value::String(text), escape == self.escape, call, registry, data, rc, out)
    }
}

/// What a template uses of what has to be set up for a rendering.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) loops: bool,
    pub(super) includes: bool,
}

/// One rendering.
pub(super) struct Run<'a> {
    pub(super) registry: &'a Handlebars<'static>,
    pub(super) data: &'a Data,
    pub(super) budget: &'a Budget,
    pub(super) rc: RenderContext<'a, 'a>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        registry: &'a Handlebars<'static>,
        escape: Escape,
        data: &'a Data,
        budget: &'a Budget,
        templates: Option<&'a Templates>,
        uses: Uses,
    ) -> Self {
        let mut rc = RenderContext::new(None);
        if uses.loops {
            rc.register_local_helper("each", Box::new(Each(budget)));
        }
        if let Some(templates) = templates.filter(|_| uses.includes) {
            rc.register_local_helper("include", Box::new(Include { templates, escape, budget }));
        }
        Self { registry, data, budget, rc }
    }

    /// A template's text.
    pub(super) fn text(&mut self, template: &'a Template) -> Result<String, RenderError> {
        let mut out = Bounded::new(self.budget);
        template.render(self.registry, self.data, &mut self.rc, &mut out)?;
        Ok(out.text)
    }

    /// An expression's value.
    pub(super) fn expand(&mut self, expression: &'a Parameter) -> Result<PathAndJson<'a>, RenderError> {
        expression.expand(self.registry, self.data, &mut self.rc)
    }
}

/// Makes plain paths that print a value of unknown form say so when it is a list or an object; the engine
/// alone would print `[object]`.
pub(super) fn guard(template: &mut Template, loose: &std::collections::BTreeSet<String>) {
    if loose.is_empty() {
        return;
    }
    for element in &mut template.elements {
        match element {
            TemplateElement::Expression(expression) | TemplateElement::HtmlExpression(expression) => {
                let is_loose = expression.name.as_name().is_some_and(|name| loose.contains(name));
                if is_loose && expression.params.is_empty() {
                    let path = std::mem::replace(&mut expression.name, Parameter::Name("string".to_owned()));
                    expression.params.push(path);
                }
            }
            TemplateElement::HelperBlock(block) => {
                for inner in [&mut block.template, &mut block.inverse].into_iter().flatten() {
                    guard(inner, loose);
                }
            }
            _ => {}
        }
    }
}

/// What the engine says went wrong: the sentence, or the fault of an included text.
pub(super) fn reason(error: &RenderError) -> Result<String, RenderFault> {
    match error.reason() {
        RenderErrorReason::Other(message) => Ok(message.clone()),
        RenderErrorReason::IOError(error) => Ok(error.to_string()),
        RenderErrorReason::NestedError(inner) => match inner.downcast_ref::<RenderFault>() {
            Some(fault) => Err(fault.clone()),
            None => Ok("an included text could not be rendered".to_owned()),
        },
        RenderErrorReason::InvalidJsonIndex(_) => {
            Ok("the value is a list, which has no members of this name".to_owned())
        }
        _ => Ok("the expression could not be evaluated".to_owned()),
    }
}
