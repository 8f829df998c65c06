//! The house rules that a machine can check: the order of modules, edges apart, a head on every file, the
//! visible top level, and no Rust for one CRM. Each failure says where the thing should live instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that do I/O towards one side each: they meet only in the halves above them.
const EDGES: [&str; 5] = ["catalogue", "source", "verify", "ledger", "sender"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The modules in the order of `lib.rs`.
fn order() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let names = text.lines().filter_map(|l| l.trim().strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned));
    names.collect()
}

/// `src/source/imap.rs` belongs to `source`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("below src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

/// Every `crate::name` of a file, with its line.
fn names_used(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for part in line.split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.push((number + 1, name));
            }
        }
    }
    found
}

#[test]
fn a_module_names_only_those_above_it_and_an_edge_names_no_other_edge() {
    let order = order();
    assert!(order.len() > 10, "lib.rs lists its modules one a line, as `pub mod name;`");
    let rank: BTreeMap<&str, usize> = order.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        let module = module_of(&path);
        let Some(own) = rank.get(module.as_str()) else { continue };
        let text = fs::read_to_string(&path).expect("a file");
        for (line, name) in names_used(&text) {
            let Some(other) = rank.get(name.as_str()) else { continue };
            let place = format!("{}:{line}", path.strip_prefix(root()).expect("inside").display());
            if other > own {
                wrong.push(format!(
                    "{place}: `{module}` uses `{name}`, which lib.rs declares later: what both need belongs into a module above `{module}`"
                ));
            }
            if name != module && EDGES.contains(&module.as_str()) && EDGES.contains(&name.as_str()) {
                wrong.push(format!(
                    "{place}: the edge `{module}` uses the edge `{name}`: pass plain values through `intake` or `dispatch` instead"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_at_its_head_what_it_is_for() {
    let files = ["src", "tests", "benches"].into_iter().filter(|d| root().join(d).exists()).flat_map(rust_files);
    let bare: Vec<_> = files
        .filter(|path| !fs::read_to_string(path).expect("a file").starts_with("//! "))
        .map(|path| path.strip_prefix(root()).expect("inside").display().to_string())
        .collect();
    assert!(bare.is_empty(), "begin these with `//!` and a sentence: {bare:?}");
}

#[test]
fn the_visible_top_level_is_what_house_rules_say() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "src",
        "templates",
        "tests",
        "fixtures",
        "benches",
        "target",
    ];
    let extra: Vec<_> = fs::read_dir(root())
        .expect("the root")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !n.starts_with('.') && !allowed.contains(&n.as_str()))
        .collect();
    assert!(extra.is_empty(), "settings go into dotfiles, data into fixtures or templates: {extra:?}");
}

#[test]
fn there_is_no_rust_for_one_crm() {
    let folders: Vec<String> = fs::read_dir(root().join("templates"))
        .expect("templates")
        .flatten()
        .filter(|e| e.path().join("connector.toml").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        // These name a transport or our own sandbox, not a vendor's product.
        .filter(|n| !["sandbox", "email", "generic-rest"].contains(&n.as_str()))
        .collect();
    assert!(!folders.is_empty(), "there is a connector");
    let mut wrong = Vec::new();
    let is_test = |path: &PathBuf| path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs");
    for path in rust_files("src").into_iter().filter(|p| !is_test(p)) {
        let text = fs::read_to_string(&path).expect("a file");
        // Tests may name a CRM, and so may documentation.
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for (number, line) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for name in &folders {
                if line.contains(&format!("\"{name}\"")) {
                    wrong.push(format!(
                        "{}:{}: names the connector `{name}`: say it in templates/{name}/ instead",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
