//! The built-in connector folders: each loads without a fault, and does for its golden cases what they say.
//! `BLESS=1` rewrites what they say.

use mail2crm::catalogue::Catalogue;
use mail2crm::connector::golden;
use mail2crm::session::document;
use mail2crm::session::profile::Profile;

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
    for name in catalogue.connectors() {
        let folder = catalogue.connector(name).expect("a folder");
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
                let path = format!("{}/templates/{name}/{}", env!("CARGO_MANIFEST_DIR"), result.file);
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
