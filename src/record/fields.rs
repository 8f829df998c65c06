//! The operator's field map: canonical value names to the CRM's own fields.

use std::ops::Range;

use serde_json::Value;

use super::{Context, RenderFault, Shape};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::folder::Folder;

/// One line of `[destination.x.fields]`: `disposition_code = "cf_disposition"`.
#[derive(Debug, Clone)]
pub struct FieldEntry {
    /// The canonical name.
    pub name: String,
    /// The CRM's field: a string or an integer.
    pub field: Value,
    /// The name's bytes in the file.
    pub span: Range<usize>,
}

/// One line of `[destination.x.values]`: `short_note = "{{truncate disposition.note 200}}"`.
#[derive(Debug, Clone)]
pub struct OwnValue {
    /// The name, used like a canonical one.
    pub name: String,
    /// The leaf template.
    pub template: String,
    /// The byte of the file where the template begins (inside the quotes).
    pub offset: usize,
}

/// A field with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The canonical name.
    pub name: String,
    /// The CRM's field: a string or an integer.
    pub field: Value,
    /// Never empty.
    pub value: Value,
}

/// A compiled field map.
#[derive(Debug)]
pub struct FieldMap {}

impl FieldMap {
    /// Compiles the entries against the names of `shared`'s `values.json`, the session's scalar fields
    /// and the operator's own values.
    pub fn compile(
        entries: &[FieldEntry],
        own: &[OwnValue],
        file: &SourceFile,
        shared: &Folder,
        shape: &Shape,
    ) -> Result<Self, Diagnostics> {
        let _ = (entries, own, file, shared, shape);
        Err(Diagnostics::new())
    }

    /// The fields that have a value for this session.
    pub fn evaluate(&self, context: &Context) -> Result<Vec<Field>, RenderFault> {
        let _ = context;
        Ok(Vec::new())
    }
}
