//! A folder's payload and text templates, compiled once and rendered for each delivery.

use serde_json::Value;

use super::{Context, Shape};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::folder::Folder;

/// A template that could not be rendered for one session: where, and what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderFault {
    /// The file of the template.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong; holds no value of the session.
    pub message: String,
    /// What to change.
    pub hint: Option<String>,
}

impl RenderFault {
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

/// All templates of a folder.
#[derive(Debug)]
pub struct Templates {}

impl Templates {
    /// Compiles every `*.json` at the top of the folder as a payload template (`connector.toml`'s folder:
    /// `update.json`), every `*.hbs` as a text template (`note.md.hbs`), and the text templates of
    /// `shared` (the folder `_shared`) that the folder doesn't replace by one of the same name.
    pub fn compile(folder: &Folder, shared: Option<&Folder>, shape: &Shape) -> Result<Self, Diagnostics> {
        let _ = (folder, shared, shape);
        Err(Diagnostics::new())
    }

    /// Renders a payload by its file name, such as `update.json`.
    pub fn payload(&self, name: &str, context: &Context) -> Result<Value, RenderFault> {
        let _ = context;
        Err(RenderFault { file: name.into(), line: 0, column: 0, message: String::new(), hint: None })
    }

    /// Renders a text by its name with or without `.hbs`, such as `note.md`.
    pub fn text(&self, name: &str, context: &Context) -> Result<String, RenderFault> {
        let _ = context;
        Err(RenderFault { file: name.into(), line: 0, column: 0, message: String::new(), hint: None })
    }

    /// The payload templates' names, such as `update.json`.
    pub fn payload_names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// The text templates' names, such as `note.md`.
    pub fn text_names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}
