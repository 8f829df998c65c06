//! One template inside a manifest or the configuration: a URL, a header, a path, a value.
//!
//! The place decides what a value may do there: it stays one segment of a URL (RFC 3986), one line of a
//! header (RFC 9110 section 5.5), one name in a path.

use serde_json::Value;

use super::engine::{self, Budget, Run};
use super::escape::Escape;
use super::helpers::is_empty;
use super::leaf::Leaf;
use super::lint::{Frame, Locals, Surroundings};
use super::origin::Origin;
use super::{Context, RenderFault, Shape};
use crate::diagnostic::{Diagnostics, SourceFile};

/// Where the rendered text goes: what values are escaped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A value of its own: a single expression keeps its type.
    Leaf,
    /// Plain text, nothing escaped.
    Text,
    /// A URL's path (a literal query may follow): every value is one segment, never empty.
    UrlPath,
    /// A part of a URL's query.
    UrlQuery,
    /// A header's value: control characters are refused.
    Header,
    /// A relative or absolute path of a file: values hold no separators.
    FilePath,
}

/// A compiled inline template.
#[derive(Debug)]
pub struct Inline {
    leaf: Leaf,
    place: Place,
}

impl Inline {
    /// Compiles `text`, which stands at byte `offset` of `file` (inside its quotes, if it has any; the
    /// escapes of JSON and TOML strings are understood, so columns are exact).
    pub fn compile(
        text: &str,
        file: &SourceFile,
        offset: usize,
        place: Place,
        shape: &Shape,
    ) -> Result<Self, Diagnostics> {
        let origin = Origin::string(file, offset, text);
        let around = Surroundings { shape, unescaped: false, partials: None, includes: None };
        let frames = [Frame::new(shape.root(), Locals::None)];
        let leaf = Leaf::compile(text, origin.clone(), &around, &frames)?;
        if place != Place::Leaf && !leaf.form.is_scalar() {
            let message = format!("this is {}, and its place takes text", leaf.form.words());
            let hint = "use `join` or `json`, or name a member";
            return Err(origin.fault(0..text.len(), "not_text", message).hint(hint).into());
        }
        Ok(Self { leaf, place })
    }

    /// The value, with its own type if the template is a single expression; null if it is empty.
    pub fn value(&self, context: &Context) -> Result<Value, RenderFault> {
        let budget = Budget::new();
        let mut run = self.run(context, Escape::Plain, &budget);
        let value = self.leaf.value(&mut run)?;
        Ok(if is_empty(&value) && !self.leaf.keep { Value::Null } else { value })
    }

    /// The text, escaped for its place.
    pub fn text(&self, context: &Context) -> Result<String, RenderFault> {
        let escape = Escape::of_place(self.place);
        let budget = Budget::new();
        let mut run = self.run(context, escape, &budget);
        let text = self.leaf.text(&mut run, escape)?;
        match self.place {
            Place::Leaf | Place::Text | Place::UrlQuery => Ok(text),
            Place::Header => self.header(text),
            Place::UrlPath => self.segments(text, "URL"),
            Place::FilePath => self.segments(without_empty_folders(&text, &self.leaf.begins_with), "path"),
        }
    }

    /// True if there is no expression in it.
    pub fn is_constant(&self) -> bool {
        self.leaf.is_constant()
    }

    fn run<'a>(&'a self, context: &'a Context, escape: Escape, budget: &'a Budget) -> Run<'a> {
        Run::new(engine::base(escape), escape, context.inner(), budget, None, self.leaf.uses)
    }

    fn header(&self, text: String) -> Result<String, RenderFault> {
        let text = text.trim();
        if text.chars().any(|c| c.is_control() && c != '\t') {
            let message = "a value for this header holds a line break or another control character".to_owned();
            return Err(self.leaf.fault_at(0, message).hint("use `single_line`"));
        }
        Ok(text.to_owned())
    }

    /// A path in which no value is missing and none leads upwards.
    fn segments(&self, text: String, what: &str) -> Result<String, RenderFault> {
        if self.is_constant() {
            return Ok(text);
        }
        let path = text.split(['?', '#']).next().filter(|_| self.place == Place::UrlPath).unwrap_or(&text);
        // The origin of an absolute URL is no part of its path.
        let path = path.split_once("://").map_or(path, |(_, rest)| rest);
        let path = path.strip_prefix('/').filter(|_| self.leaf.begins_with.starts_with('/')).unwrap_or(path);
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            let wrong = match segment {
                "" if is_last && self.place == Place::UrlPath && self.leaf.ends_with_slash() => continue,
                "" => "is empty",
                "." | ".." => "leads to another folder",
                _ => continue,
            };
            let message = format!("a part of this {what} {wrong}");
            let hint = "a value is missing or unusable for this session; give another with `default`";
            return Err(self.leaf.fault_at(0, message).hint(hint));
        }
        Ok(text)
    }
}

/// A folder whose value is missing is left out, as what is empty is left out everywhere: a document without a
/// date is kept beside the dated folders. The file's own name must be there.
fn without_empty_folders(text: &str, begins_with: &str) -> String {
    let (folders, name) = text.rsplit_once('/').unwrap_or(("", text));
    let root = if begins_with.starts_with('/') { "/" } else { "" };
    let folders = folders.split('/').filter(|f| !f.is_empty()).flat_map(|f| [f, "/"]);
    [root].into_iter().chain(folders).chain([name]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::Extras;
    use crate::record::context::tests::{context, session};

    fn compile(text: &str, place: Place) -> Result<Inline, Diagnostics> {
        let file = SourceFile::new("connector.toml", format!("x = \"{text}\""));
        Inline::compile(text, &file, 5, place, &Shape::for_session())
    }

    fn with(key: &str, text: &str, place: Place) -> Result<String, RenderFault> {
        let mut session = session();
        session.record_id = Some(key.to_owned());
        let context = Context::new(&session, Extras::default());
        compile(text, place).unwrap_or_else(|d| panic!("{d}")).text(&context)
    }

    #[test]
    fn a_leaf_keeps_its_type_and_empties_are_null() {
        let value =
            |text| compile(text, Place::Leaf).unwrap_or_else(|d| panic!("{d}")).value(&context()).expect("a value");
        assert_eq!(value("{{rating}}"), json!(4));
        assert_eq!(value("{{pick dispositions 'code'}}"), json!(["Billing", "Resolved"]));
        assert_eq!(value("{{scheduled_at}}"), Value::Null);
        assert_eq!(value("fixed"), json!("fixed"));
        assert!(compile("fixed", Place::Leaf).expect("constant").is_constant());
    }

    #[test]
    fn a_value_in_a_url_is_one_segment_and_never_missing() {
        let path = |key| with(key, "/ticket/{{record_id}}/comment?x={{record_id}}", Place::UrlPath);
        assert_eq!(
            path("a/b?c#d ä").expect("a path"),
            "/ticket/a%2Fb%3Fc%23d%20%C3%A4/comment?x=a%2Fb%3Fc%23d%20%C3%A4"
        );
        for key in ["", ".", ".."] {
            assert!(path(key).is_err(), "{key}");
        }
        assert_eq!(with("1&a=2", "q={{record_id}}", Place::UrlQuery).expect("a query"), "q=1%26a%3D2");
        assert_eq!(
            with("7", "https://{{channel}}.example/t/{{record_id}}/", Place::UrlPath).expect("a URL"),
            "https://voice.example/t/7/"
        );
    }

    #[test]
    fn a_header_is_one_line() {
        assert_eq!(with(" \"e1\" ", "{{record_id}}", Place::Header).expect("a header"), "\"e1\"");
        for key in ["a\r\nX: y", "a\u{0}", "a\u{7f}b"] {
            assert!(with(key, "v {{record_id}}", Place::Header).is_err());
        }
    }

    #[test]
    fn a_file_path_takes_folders_from_the_template_only() {
        let path = "{{date ends_at '%Y/%m/%d'}}/{{record_id}}.json";
        assert_eq!(with("../../etc/x\u{0}", path, Place::FilePath).expect("a path"), "2026/02/17/.._.._etc_x_.json");
        assert!(with("..", "a/{{record_id}}/b", Place::FilePath).is_err());
        assert_eq!(with("", "a/{{record_id}}/b", Place::FilePath).expect("a path"), "a/b");
        assert_eq!(with("", "{{record_id}}/b", Place::FilePath).expect("a path"), "b");
        assert!(with("", "a/{{record_id}}", Place::FilePath).is_err());
        assert_eq!(with("x", "{{date ends_at '%Y/%m'}}", Place::FilePath).expect("a path"), "2026/02");
    }

    #[test]
    fn faults_are_at_their_column_in_the_file() {
        let faults = compile("/t/{{record_idd}}", Place::UrlPath).expect_err("a fault");
        let found = faults.sorted()[0].clone();
        assert_eq!((found.line, found.column, found.code), (1, 11, "unknown_name"));
        assert_eq!(compile("{{dispositions}}", Place::UrlPath).expect_err("a fault").sorted()[0].code, "not_text");
        assert_eq!(compile("{{include 'note.txt'}}", Place::Text).expect_err("a fault").sorted()[0].code, "include");
    }
}
