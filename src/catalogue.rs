//! Finds and reads template folders: those built into the program, overlaid file by file by the operator's.
//!
//! A folder whose name begins with `_` is no connector: `_profiles` (contact-centre platforms), `_shared`
//! (what connectors include). Nothing is interpreted here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::folder::Folder;

#[derive(RustEmbed)]
#[folder = "templates"]
struct BuiltIn;

/// A template file is small; a larger one is a mistake.
const FILE_BYTES: u64 = 4 << 20;

/// All template folders.
#[derive(Debug, Clone)]
pub struct Catalogue {
    folders: BTreeMap<String, Folder>,
}

impl Catalogue {
    /// The built-in folders, overlaid by those in `overlay`.
    pub fn read(overlay: Option<&Path>) -> Result<Self, Diagnostics> {
        let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
        for path in BuiltIn::iter() {
            let Some((name, inside)) = path.split_once('/') else { continue };
            let Some(text) = BuiltIn::get(&path).and_then(|f| String::from_utf8(f.data.into_owned()).ok()) else {
                continue;
            };
            let folder = folders
                .entry(name.to_owned())
                .or_insert_with(|| Folder { name: name.to_owned(), files: BTreeMap::new() });
            folder.files.insert(inside.to_owned(), SourceFile::new(format!("templates/{path} (built in)"), text));
        }
        let mut faults = Diagnostics::new();
        if let Some(root) = overlay {
            match list(root) {
                Ok(paths) => {
                    for path in paths {
                        lay_over(&mut folders, root, &path, &mut faults);
                    }
                }
                Err(error) => {
                    let fault = Diagnostic::of_file(
                        root.display().to_string(),
                        "unreadable",
                        format!("can't read the templates folder: {error}"),
                    );
                    faults.push(fault.hint("`--templates` names a folder that holds one folder for each CRM"));
                }
            }
        }
        faults.into_result(Self { folders })
    }

    /// The names of the connectors.
    pub fn connectors(&self) -> impl Iterator<Item = &str> {
        self.folders.values().filter(|f| f.file("connector.toml").is_some()).map(|f| f.name.as_str())
    }

    /// The folder of a connector.
    pub fn connector(&self, name: &str) -> Option<&Folder> {
        self.folders.get(name).filter(|f| f.file("connector.toml").is_some())
    }

    /// What connectors share.
    pub fn shared(&self) -> Option<&Folder> {
        self.folders.get("_shared")
    }

    /// A contact-centre platform's profile.
    pub fn profile(&self, name: &str) -> Option<&SourceFile> {
        self.folders.get("_profiles")?.file(&format!("{name}.toml"))
    }

    /// The names of the profiles.
    pub fn profiles(&self) -> BTreeSet<String> {
        let files = self.folders.get("_profiles").into_iter().flat_map(|f| f.files.keys());
        files.filter_map(|f| f.strip_suffix(".toml").map(str::to_owned)).collect()
    }
}

/// Every file below a folder, sorted, without hidden ones.
fn list(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            if fs::metadata(&path)?.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

fn lay_over(folders: &mut BTreeMap<String, Folder>, root: &Path, path: &Path, faults: &mut Diagnostics) {
    let shown = path.display().to_string();
    let parts: Vec<String> = path
        .strip_prefix(root)
        .unwrap_or(path)
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    let [name, inside @ ..] = parts.as_slice() else { return };
    if inside.is_empty() {
        return; // a README beside the folders
    }
    let text = match fs::metadata(path).map(|m| m.len()) {
        Ok(size) if size > FILE_BYTES => Err(format!("it has {size} bytes; a template file has at most {FILE_BYTES}")),
        _ => fs::read_to_string(path).map_err(|e| e.to_string()),
    };
    match text {
        Ok(text) => {
            let folder =
                folders.entry(name.clone()).or_insert_with(|| Folder { name: name.clone(), files: BTreeMap::new() });
            folder.files.insert(inside.join("/"), SourceFile::new(shown, text));
        }
        Err(error) => {
            faults.push(Diagnostic::of_file(shown, "unreadable", format!("can't read this template file: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_files_lie_over_the_built_in_ones() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("mine/golden")).expect("made");
        fs::write(root.path().join("mine/connector.toml"), "x = 1").expect("written");
        fs::write(root.path().join("mine/golden/a.json"), "{}").expect("written");
        fs::write(root.path().join("README.md"), "read me").expect("written");
        let catalogue = Catalogue::read(Some(root.path())).unwrap_or_else(|d| panic!("{d}"));
        let folder = catalogue.connector("mine").expect("the folder");
        assert_eq!(folder.files.keys().collect::<Vec<_>>(), ["connector.toml", "golden/a.json"]);
        assert!(folder.file("connector.toml").is_some_and(|f| f.name.ends_with("mine/connector.toml")));
    }

    #[test]
    fn a_missing_folder_and_a_file_that_is_no_text_are_told() {
        let error = Catalogue::read(Some(Path::new("/nonexistent/x"))).expect_err("missing");
        assert!(error.to_string().contains("can't read the templates folder"));
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("mine")).expect("made");
        fs::write(root.path().join("mine/connector.toml"), b"\xff\xfe").expect("written");
        assert!(Catalogue::read(Some(root.path())).is_err());
    }
}
