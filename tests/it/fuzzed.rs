//! What fuzzing once broke stays mended: every `fixtures/fuzz/<target>/<what>` keeps the promises of its target, and
//! so does what is too long to keep as a file.

#[expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]
#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What libFuzzer would take for hanging, in a test build.
const SLOW: Duration = Duration::from_secs(5);

#[test]
fn every_input_that_once_broke_a_reader_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    let mut inputs = 0;
    for folder in fs::read_dir(root).expect("the folder of findings").map(|entry| entry.expect("an entry").path()) {
        let target = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        let (_, check) = checks::CHECKS.iter().find(|(name, _)| *name == target).expect("a folder for each target");
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            in_time(check, &path.display().to_string(), &fs::read(&path).expect("an input"));
            inputs += 1;
        }
    }
    assert!(inputs > 0, "the findings are gone");
    let word = format!("{{\"id\":48213,\"call_type\":\"{}\"}}", "a1\n".repeat(20_000));
    in_time(&checks::json, "a word of many lines", word.as_bytes());
}

fn in_time(check: &dyn Fn(&[u8]), what: &str, input: &[u8]) {
    let start = Instant::now();
    println!("{what}");
    check(input);
    assert!(start.elapsed() < SLOW, "{what} took {:?}", start.elapsed());
}

#[test]
fn every_mail_and_seed_keeps_the_promises_of_every_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["fixtures/mail", "fixtures/sessions", "tests/fuzz/seeds/tnef"] {
        for path in fs::read_dir(root.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            println!("{}", path.display());
            let bytes = fs::read(&path).expect("an input");
            checks::CHECKS.iter().for_each(|(_, check)| check(&bytes));
        }
    }
}

#[test]
fn there_is_a_target_for_each_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/targets");
    let entries = fs::read_dir(folder).expect("the targets").map(|entry| entry.expect("an entry").path());
    let mut targets: Vec<String> = entries.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    targets.sort();
    assert_eq!(targets, checks::CHECKS.map(|(name, _)| name));
}
