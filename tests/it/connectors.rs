//! The built-in connector folders: each loads without a fault, and does for its golden cases what they say.
//! `BLESS=1` rewrites what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mail2crm::catalogue::Catalogue;
use mail2crm::connector::golden;
use mail2crm::diagnostic::SourceFile;
use mail2crm::folder::Folder;
use mail2crm::session::document;
use mail2crm::session::profile::Profile;

/// A connector folder of these tests.
fn folder(name: &str) -> Folder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/connectors").join(name);
    let mut files = BTreeMap::new();
    for below in ["", "golden"] {
        for entry in fs::read_dir(path.join(below)).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.path().is_file() {
                let file = Path::new(below).join(entry.file_name()).display().to_string();
                let text = fs::read_to_string(entry.path()).expect("a text");
                files.insert(file.clone(), SourceFile::new(format!("{name}/{file}"), text));
            }
        }
    }
    Folder { name: name.to_owned(), files }
}

#[test]
fn every_built_in_folder_does_what_its_golden_cases_say() {
    let catalogue = Catalogue::read(None).unwrap_or_else(|faults| panic!("{faults}"));
    let profile = Profile::builtin();
    let read = |value: &serde_json::Value| {
        document::read(value, "default", profile).map(|(session, _)| session).map_err(|e| format!("{e:?}"))
    };
    let bless = std::env::var_os("BLESS").is_some();
    let mut problems = Vec::new();
    let mut count = 0;
    // Beside those that are built in: one that says what none of them has to say.
    let own = folder("concurrency");
    let built_in = catalogue.connectors().filter_map(|name| catalogue.connector(name)).map(|f| (f, "templates"));
    for (folder, place) in built_in.chain([(&own, "tests/it/connectors")]) {
        let name = &folder.name;
        let results = match golden::run(folder, catalogue.shared(), &read) {
            Ok(results) => results,
            Err(faults) => {
                problems.push(faults.render());
                continue;
            }
        };
        assert!(results.len() >= 5, "`{name}` has {} golden cases", results.len());
        for result in results {
            count += 1;
            if bless && let Some(text) = &result.blessed {
                let path = format!("{}/{place}/{name}/{}", env!("CARGO_MANIFEST_DIR"), result.file);
                std::fs::write(path, text).expect("a writable case");
            } else if !result.passed() {
                problems.push(format!(
                    "{name}/{} ({}):\n  {}",
                    result.file,
                    result.about,
                    result.problems.join("\n  ")
                ));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 50, "only {count} cases");
}

#[test]
fn every_folder_says_how_to_set_it_up() {
    let catalogue = Catalogue::read(None).unwrap_or_else(|faults| panic!("{faults}"));
    for name in catalogue.connectors() {
        let readme = catalogue.connector(name).and_then(|f| f.file("README.md")).expect("a README.md");
        assert!(readme.text.contains(&format!("connector = \"{name}\"")), "{name}: no example");
        assert!(readme.text.to_lowercase().contains("bite"), "{name}: nothing bites?");
    }
}
