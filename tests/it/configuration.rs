//! `fixtures/config`: what is good passes `check`; what is bad is told all at once, exit 2, as the
//! `*.expected.txt` beside it says. `BLESS=1` rewrites those; read them as an operator at 3 a.m. would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::cli::{Bench, repository};

fn configurations(folder: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(repository().join(folder))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    all.sort();
    all
}

/// The templates folder beside a configuration, if it has one.
fn overlay(path: &Path) -> Option<String> {
    let folder = path.with_extension("");
    folder.is_dir().then(|| format!("{}", folder.strip_prefix(repository()).expect("ours").display()))
}

fn check(path: &Path) -> (Option<i32>, String, String) {
    let shown = path.strip_prefix(repository()).expect("ours").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail2crm"));
    command.args(["--config", &shown]).current_dir(repository());
    if let Some(folder) = overlay(path) {
        command.args(["--templates", &folder]);
    }
    for name in ["IMAP_PASSWORD", "SMTP_PASSWORD", "RT_TOKEN", "SANDBOX_TOKEN", "CRM_KEY", "DESK_PASSWORD"] {
        command.env(name, "x");
    }
    let output = command.arg("check").output().expect("the binary");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_good_configuration_is_good() {
    let all = configurations("fixtures/config/good");
    assert!(all.len() >= 5, "{}", all.len());
    for path in all {
        // Its storage folders are made by `check`: in a copy, not in the repository.
        let bench = Bench::new();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        bench.write(name, &fs::read_to_string(&path).expect("it"));
        let env: Vec<(&str, &str)> =
            ["IMAP_PASSWORD", "SMTP_PASSWORD", "RT_TOKEN", "SANDBOX_TOKEN", "CRM_KEY", "DESK_PASSWORD"]
                .map(|n| (n, "x"))
                .into();
        bench.run_with(&["--config", name, "check"], &env, b"").exits(0).says("all is well").prints_nothing();
        bench.run_with(&["--config", name, "--json", "check"], &env, b"").exits(0).prints("\"ok\":true");
    }
}

#[test]
fn every_fault_of_a_bad_configuration_is_told_at_once_with_place_and_hint() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for path in configurations("fixtures/config/bad") {
        let (code, stdout, got) = check(&path);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{}\n{got}", path.display());
        for fault in got.split("\n\n").filter(|f| f.starts_with("error[")) {
            assert!(fault.contains("\n  hint: "), "{}: no hint: {fault}", path.display());
        }
        let expected_path = path.with_extension("expected.txt");
        if bless {
            fs::write(&expected_path, &got).expect("written");
        } else if fs::read_to_string(&expected_path).unwrap_or_default() != got {
            wrong.push(format!("{}: got\n{got}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn with_json_each_fault_is_an_object_on_its_line() {
    let path = repository().join("fixtures/config/bad/keys.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_mail2crm"))
        .args(["--json", "--config"])
        .arg(path)
        .arg("check")
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(text.lines().count() > 10, "{text}");
    for line in text.lines() {
        let fault: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for key in ["file", "line", "column", "code", "message", "hint"] {
            assert!(!fault[key].is_null(), "{key}: {line}");
        }
    }
}
