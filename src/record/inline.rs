//! One template inside a manifest or the configuration: a URL, a header, a path, a value.

use serde_json::Value;

use super::{Context, RenderFault, Shape};
use crate::diagnostic::{Diagnostics, SourceFile};

/// Where the rendered text goes: what values are escaped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A value of its own: a single expression keeps its type.
    Leaf,
    /// Plain text, nothing escaped.
    Text,
    /// A URL's path (a literal query may follow): values are one segment each.
    UrlPath,
    /// A part of a URL's query.
    UrlQuery,
    /// A header's value: control characters are refused.
    Header,
    /// A path of a file: values hold no separators.
    FilePath,
}

/// A compiled inline template.
#[derive(Debug)]
pub struct Inline {}

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
        let _ = (text, file, offset, place, shape);
        Err(Diagnostics::new())
    }

    /// The value, with its own type if the template is a single expression; null if it is empty.
    pub fn value(&self, context: &Context) -> Result<Value, RenderFault> {
        let _ = context;
        Ok(Value::Null)
    }

    /// The text, escaped for its place.
    pub fn text(&self, context: &Context) -> Result<String, RenderFault> {
        let _ = context;
        Ok(String::new())
    }

    /// True if there is no expression in it.
    pub fn is_constant(&self) -> bool {
        false
    }
}
