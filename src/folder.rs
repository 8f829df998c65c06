//! A folder of template files as plain values: name → text. Read by `catalogue`, understood by
//! `record` and `connector`; nothing here touches a disk.

use std::collections::BTreeMap;

use crate::diagnostic::SourceFile;

/// One folder of `templates/`, built-in files overlaid by the operator's.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder's own name, such as `rt`.
    pub name: String,
    /// Path inside the folder (`update.json`, `golden/voice.json`) → file.
    pub files: BTreeMap<String, SourceFile>,
}

impl Folder {
    /// The file with this path inside the folder.
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.get(path)
    }
}
