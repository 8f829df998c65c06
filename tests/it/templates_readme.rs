//! `templates/README.md` as a newcomer follows it: its six steps, from its own code blocks, end in an updated
//! record of the sandbox CRM; its tables of helpers and reasons are those of the code (`BLESS=1` rewrites them).

use std::fs;
use std::path::Path;

use super::support::cli::{Bench, sandbox};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/README.md")).expect("the README")
}

/// The fenced blocks of the part between two headings, with the language of each.
fn blocks<'a>(text: &'a str, from: &str, to: &str) -> Vec<(&'a str, &'a str)> {
    let start = text.find(from).unwrap_or_else(|| panic!("no `{from}`"));
    let part = &text[start..];
    let part = &part[..part[1..].find(to).map_or(part.len(), |end| end + 1)];
    let mut blocks = part.split("```");
    let mut found = Vec::new();
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        found.push(block.split_once('\n').expect("a language and a text"));
    }
    found
}

fn block<'a>(text: &'a str, from: &str, at: usize) -> &'a str {
    blocks(text, from, "\n##").get(at).unwrap_or_else(|| panic!("no block {at} below `{from}`")).1
}

#[test]
fn the_six_steps_lead_to_an_updated_record() {
    let text = readme();
    let run = sandbox("");
    let bench = Bench::new();
    let shell = |command: &str| {
        let done = std::process::Command::new("sh").args(["-ec", command]).current_dir(bench.path()).status();
        assert!(done.expect("a shell").success(), "{command}");
    };
    shell(block(&text, "### 1.", 0));
    bench.write("my-templates/acme/connector.toml", block(&text, "### 2.", 0));
    bench.write("my-templates/acme/update.json", block(&text, "### 3.", 0));
    bench.write("my-templates/acme/note.json", block(&text, "### 3.", 1));
    bench.write("my-templates/acme/note.txt.hbs", block(&text, "### 4.", 0));
    bench.write("my-templates/acme/golden/voice.json", block(&text, "### 5.", 0));
    for command in [block(&text, "### 5.", 1), block(&text, "### 5.", 2)] {
        let args: Vec<&str> = command.trim().strip_prefix("mail2crm ").expect("a command").split(' ').collect();
        bench.run(&args).exits(0);
    }

    let table = block(&text, "### 6.", 0).replace("http://127.0.0.1:7025", &run.url());
    bench.write("mail2crm.toml", &table);
    bench.write(
        "message.eml",
        &fs::read_to_string(super::support::cli::mail("ccaip-01-json-attachment")).expect("a mail"),
    );
    for command in block(&text, "### 6.", 1).lines() {
        let args: Vec<&str> = command.strip_prefix("mail2crm ").expect("a command").split(' ').collect();
        bench.run_with(&args, &[("ACME_TOKEN", "let-me-in")], b"").exits(0);
    }
    let ticket = run.store().ticket("C-100482").expect("the ticket");
    assert_eq!(ticket.fields["disposition"], "Resolved");
    assert_eq!(ticket.notes.len(), 1);
    assert!(ticket.notes[0].text.starts_with("VOICE 48213 ended "), "{}", ticket.notes[0].text);
    assert!(ticket.notes[0].marker.as_deref().is_some_and(|m| m.starts_with("m2c-")));

    // `connector new` writes the same.
    bench.run(&["--templates", "start", "connector", "new", "acme"]).exits(0);
    for name in ["connector.toml", "update.json", "note.json", "note.txt.hbs", "golden/voice.json"] {
        let read = |folder: &str| fs::read_to_string(bench.path().join(folder).join("acme").join(name)).expect(name);
        assert_eq!(read("start"), read("my-templates"), "{name}");
    }
    run.stop();
}

/// The doc comment above each function of a helper file: its first sentences and its examples.
fn documented() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/helpers");
    let mut all = Vec::new();
    for file in ["time.rs", "value.rs", "list.rs", "text.rs", "crm.rs", "logic.rs"] {
        let source = fs::read_to_string(folder.join(file)).expect("a source file");
        let mut sentence = String::new();
        for line in source.lines() {
            match line.strip_prefix("///").map(str::trim) {
                Some(doc) if doc.starts_with("`{{") && doc.contains("}}` gives `") => {
                    all.push((sentence.clone(), doc.to_owned()));
                }
                Some(doc) => sentence = [sentence.as_str(), doc].join(" ").trim().to_owned(),
                None => sentence.clear(),
            }
        }
    }
    all
}

fn helpers() -> String {
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/helpers/mod.rs")).expect("it");
    let documented = documented();
    let mut table = String::from("| helper | what it gives | example |\n|---|---|---|\n");
    for name in list.split("Helper::new(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let first = |example: &str| example.trim_start_matches("`{{").split(' ').next() == Some(name);
        let (sentence, example) =
            documented.iter().find(|(_, e)| first(e)).unwrap_or_else(|| panic!("`{name}` has no example"));
        let example = example.replace("}}` gives `", "}}` → `").replace('|', "\\|");
        table.push_str(&format!("| `{name}` | {} | {example} |\n", sentence.trim_end_matches('.')));
    }
    table
}

fn reasons() -> String {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/outcome.rs")).expect("it");
    let start = source.find("    // deliveries").expect("the deliveries' reasons");
    let mut table = String::from("| reason | why |\n|---|---|\n");
    let mut doc = "";
    for line in source[start..].lines().skip(1).map(str::trim).take_while(|l| *l != "}") {
        if let Some(text) = line.strip_prefix("/// ") {
            doc = text;
        } else if let Some(word) = line.split('"').nth(1) {
            table.push_str(&format!("| `{word}` | {} |\n", doc.trim_end_matches('.')));
        }
    }
    table
}

#[test]
fn the_tables_of_the_readme_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/README.md");
    let mut text = readme();
    for (name, table) in [("helpers", helpers()), ("reasons", reasons())] {
        let (open, close) = (
            format!("<!-- {name}: written by `BLESS=1 cargo test readme` from the code -->\n"),
            format!("<!-- /{name} -->"),
        );
        let start = text.find(&open).expect("a mark") + open.len();
        let end = text.find(&close).expect("a closing mark");
        text.replace_range(start..end, &table);
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, text).expect("written");
    } else {
        assert_eq!(readme(), text, "BLESS=1 rewrites the tables");
    }
}
