//! The words that templates can use beside Handlebars' own: one small function each, listed once.
//!
//! A helper sees its values and nothing else, and gives a value with its type. Nothing in gives nothing
//! out, so that what a session doesn't have is left out of the request. The examples in the doc comments
//! are the tests. Messages never hold a value of the session.

mod crm;
mod list;
mod logic;
mod text;
mod time;
mod value;

use serde_json::Value;

use super::shape::Form;

/// What a helper is called with.
pub(super) struct Args<'a> {
    /// The values in their order.
    pub(super) values: &'a [&'a Value],
    /// The named values (`tz='UTC'`).
    pub(super) named: &'a [(&'a str, &'a Value)],
}

impl<'a> Args<'a> {
    fn get(&self, i: usize) -> &'a Value {
        self.values.get(i).copied().unwrap_or(&Value::Null)
    }

    fn named(&self, name: &str) -> Option<&'a Value> {
        self.named.iter().find(|(n, v)| *n == name && !v.is_null()).map(|(_, v)| *v)
    }

    /// The text of a value; none for null; a fault for lists and objects.
    fn text(&self, i: usize) -> Result<Option<String>, String> {
        scalar(self.get(i))
    }

    /// The text of a value that has to be there.
    fn word(&self, i: usize, what: &str) -> Result<String, String> {
        self.text(i)?.ok_or_else(|| format!("{what} is empty"))
    }

    /// A count such as a length.
    fn count(&self, i: usize, what: &str) -> Result<usize, String> {
        let number = number_of(self.get(i)).filter(|n| *n >= 0.0).ok_or_else(|| format!("{what} is no number"))?;
        Ok(number as usize)
    }

    /// A list; an empty one for null.
    fn list(&self, i: usize) -> Result<&'a [Value], String> {
        match self.get(i) {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(&[]),
            _ => Err("the value is no list".to_owned()),
        }
    }
}

/// The text of a scalar; none for null.
pub(super) fn scalar(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(yes) => Ok(Some(yes.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Array(_) => Err("the value is a list, not a text: use `join`, `json` or `{{#each …}}`".to_owned()),
        Value::Object(_) => {
            Err("the value is an object, not a text: name one of its members, or use `json`".to_owned())
        }
    }
}

/// A number, also from digits in a text.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

/// Handlebars' own idea of truth: not null, false, 0, or empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// What comes out empty and is left out of requests: null, blank text, empty lists and objects.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What the first value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Any,
    Scalar,
    List,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    Text,
    Number,
    Bool,
    Object,
    /// A list of unknown things.
    List,
    /// The same as the first value.
    Same,
    /// One item of the first value.
    Item,
    /// Not known.
    Any,
}

impl Gives {
    /// The form of the result, from that of the first value.
    pub(super) fn form(self, first: &Form) -> Form {
        match self {
            Gives::Text => Form::Text,
            Gives::Number => Form::Number,
            Gives::Bool => Form::Bool,
            Gives::Object => Form::Map(Form::Any.into()),
            Gives::List => Form::list(Form::Any),
            Gives::Same => first.clone(),
            Gives::Item => match first {
                Form::List(item) => (**item).clone(),
                _ => Form::Any,
            },
            Gives::Any => Form::Any,
        }
    }
}

/// A value that is written in the template, and so can be checked before any session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// By its place, from 0.
    At(usize),
    /// By its name.
    Named(&'static str),
}

/// A fault of a written value, and what is known instead.
pub(super) type Check = fn(&Value) -> Result<(), String>;

/// One helper.
pub(super) struct Helper {
    pub(super) name: &'static str,
    /// How many values it needs and takes.
    pub(super) values: (usize, usize),
    /// The names it knows; `*` for any.
    pub(super) named: &'static [&'static str],
    pub(super) takes: Takes,
    pub(super) gives: Gives,
    /// The values that are checked if they are written in the template.
    pub(super) checks: &'static [(Slot, Check)],
    pub(super) call: fn(&Args<'_>) -> Result<Value, String>,
}

impl Helper {
    const fn new(
        name: &'static str,
        values: (usize, usize),
        takes: Takes,
        gives: Gives,
        call: fn(&Args<'_>) -> Result<Value, String>,
    ) -> Self {
        Self { name, values, named: &[], takes, gives, checks: &[], call }
    }

    const fn named(self, named: &'static [&'static str]) -> Self {
        Self { named, ..self }
    }

    const fn checks(self, checks: &'static [(Slot, Check)]) -> Self {
        Self { checks, ..self }
    }

    /// Such as ``needs 2 values``.
    pub(super) fn arity(&self) -> String {
        let count = |n: usize| if n == 1 { "1 value".to_owned() } else { format!("{n} values") };
        match self.values {
            (least, most) if least == most => count(least),
            (least, MANY) => format!("{} or more", count(least)),
            (least, most) => format!("{least} to {}", count(most)),
        }
    }
}

/// As many values as there are.
const MANY: usize = usize::MAX;

/// All of them.
pub(super) static HELPERS: &[Helper] = {
    use Gives as G;
    use Takes as T;
    const ZONE: (Slot, Check) = (Slot::Named("tz"), time::check_zone);
    &[
        // times and durations
        Helper::new("date", (2, 2), T::Scalar, G::Text, time::date)
            .named(&["tz"])
            .checks(&[ZONE, (Slot::At(1), time::check_format)]),
        Helper::new("iso", (1, 1), T::Scalar, G::Text, time::iso).named(&["tz"]).checks(&[ZONE]),
        Helper::new("epoch", (1, 1), T::Scalar, G::Number, time::epoch),
        Helper::new("epoch_ms", (1, 1), T::Scalar, G::Number, time::epoch_ms),
        Helper::new("seconds", (1, 1), T::Scalar, G::Number, time::seconds),
        Helper::new("minutes", (1, 1), T::Scalar, G::Number, time::minutes),
        Helper::new("hms", (1, 1), T::Scalar, G::Text, time::hms),
        Helper::new("hhmm", (1, 1), T::Scalar, G::Text, time::hhmm),
        // values
        Helper::new("default", (2, 2), T::Any, G::Same, value::coalesce),
        Helper::new("coalesce", (1, MANY), T::Any, G::Same, value::coalesce),
        Helper::new("map", (1, MANY), T::Scalar, G::Any, value::map).named(&["*"]),
        Helper::new("number", (1, 1), T::Scalar, G::Number, value::number),
        Helper::new("string", (1, 1), T::Scalar, G::Text, value::string),
        Helper::new("bool_word", (3, 3), T::Scalar, G::Text, value::bool_word),
        Helper::new("keep_empty", (1, 1), T::Any, G::Same, value::keep_empty),
        Helper::new("json", (1, 1), T::Any, G::Text, value::json),
        Helper::new("json_pretty", (1, 1), T::Any, G::Text, value::json_pretty),
        Helper::new("lookup", (2, 2), T::Any, G::Any, value::lookup),
        // lists
        Helper::new("join", (1, 2), T::List, G::Text, list::join),
        Helper::new("pick", (2, 2), T::List, G::List, list::pick),
        Helper::new("unique", (1, 1), T::List, G::Same, list::unique),
        Helper::new("first", (1, 1), T::List, G::Item, list::first),
        Helper::new("last", (1, 1), T::List, G::Item, list::last),
        Helper::new("count", (1, 1), T::Any, G::Number, list::count),
        Helper::new("field_map", (1, 1), T::List, G::Object, list::field_map).named(&["nested", "strings"]),
        Helper::new("field_pairs", (3, 3), T::List, G::List, list::field_pairs).named(&["strings"]),
        // text
        Helper::new("truncate", (2, 2), T::Scalar, G::Text, text::truncate).named(&["mark"]),
        Helper::new("truncate_bytes", (2, 2), T::Scalar, G::Text, text::truncate_bytes).named(&["mark"]),
        Helper::new("upper", (1, 1), T::Scalar, G::Text, text::upper),
        Helper::new("lower", (1, 1), T::Scalar, G::Text, text::lower),
        Helper::new("trim", (1, 1), T::Scalar, G::Text, text::trim),
        Helper::new("single_line", (1, 1), T::Scalar, G::Text, text::single_line),
        Helper::new("concat", (1, MANY), T::Scalar, G::Text, text::concat),
        Helper::new("replace", (3, 3), T::Scalar, G::Text, text::replace),
        Helper::new("url_part", (2, 2), T::Scalar, G::Text, text::url_part).checks(&[(Slot::At(1), text::check_part)]),
        Helper::new("urlencode", (1, 1), T::Scalar, G::Text, text::urlencode),
        Helper::new("base64", (1, 1), T::Scalar, G::Text, text::base64),
        Helper::new("phone", (1, 1), T::Scalar, G::Text, text::phone)
            .named(&["form"])
            .checks(&[(Slot::Named("form"), text::check_form)]),
        Helper::new("markdown", (1, 1), T::Scalar, G::Text, text::markdown),
        Helper::new("html", (1, 1), T::Scalar, G::Text, text::html),
        // forms that CRMs want
        Helper::new("escape", (2, 2), T::Scalar, G::Text, crm::escape).checks(&[(Slot::At(1), crm::check_language)]),
        Helper::new("mailsubject", (1, 1), T::Scalar, G::Text, crm::mailsubject),
        Helper::new("uuid", (1, 1), T::Scalar, G::Text, crm::uuid),
        Helper::new("adf", (1, 1), T::Scalar, G::Object, crm::adf),
        // conditions
        Helper::new("eq", (2, 2), T::Any, G::Bool, logic::eq),
        Helper::new("ne", (2, 2), T::Any, G::Bool, logic::ne),
        Helper::new("gt", (2, 2), T::Scalar, G::Bool, logic::gt),
        Helper::new("gte", (2, 2), T::Scalar, G::Bool, logic::gte),
        Helper::new("lt", (2, 2), T::Scalar, G::Bool, logic::lt),
        Helper::new("lte", (2, 2), T::Scalar, G::Bool, logic::lte),
        Helper::new("and", (2, MANY), T::Any, G::Bool, logic::and),
        Helper::new("or", (2, MANY), T::Any, G::Bool, logic::or),
        Helper::new("not", (1, 1), T::Any, G::Bool, logic::not),
        Helper::new("contains", (2, 2), T::Any, G::Bool, logic::contains),
    ]
};

/// The helper with this name.
pub(super) fn find(name: &str) -> Option<&'static Helper> {
    HELPERS.iter().find(|h| h.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;
    use crate::record::context::tests::context;
    use crate::record::{Inline, Kind, Place, Shape};

    /// The examples of a file's doc comments: ``/// `{{…}}` gives `…` `` above the function.
    fn examples(source: &'static str) -> Vec<(&'static str, &'static str)> {
        source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// `{{")?.strip_suffix('`')?.split_once("}}` gives `"))
            .collect()
    }

    #[test]
    fn every_helper_has_an_example_and_every_example_is_true() {
        let shape = Shape::for_session().with_settings(&[
            ("time_zone", Kind::Text),
            ("tags", Kind::List),
            ("subject", Kind::Text),
        ]);
        let mut context = context();
        context.with_fields(&[
            crate::record::Field { name: "rating".into(), field: 360.into(), value: 4.into() },
            crate::record::Field { name: "feedback".into(), field: "cf_f".into(), value: "kind".into() },
        ]);
        let sources = [
            include_str!("time.rs"),
            include_str!("value.rs"),
            include_str!("list.rs"),
            include_str!("text.rs"),
            include_str!("logic.rs"),
            include_str!("crm.rs"),
        ];
        let all: Vec<_> = sources.into_iter().flat_map(examples).collect();
        for (template, expected) in &all {
            let template = format!("{{{{{template}}}}}");
            let file = SourceFile::new("example", template.as_str());
            let inline = Inline::compile(&template, &file, 0, Place::Leaf, &shape).unwrap_or_else(|d| panic!("{d}"));
            let value = inline.value(&context).unwrap_or_else(|f| panic!("{template}: {f:?}"));
            assert_eq!(value.to_string(), *expected, "{template}");
        }
        for helper in HELPERS {
            let has = all.iter().any(|(template, _)| template.split(' ').next() == Some(helper.name));
            assert!(has, "`{}` has no example", helper.name);
        }
    }
}
