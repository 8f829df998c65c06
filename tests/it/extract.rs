//! Every `fixtures/mail/*.eml` gives what its `.expected.json` says: the object that `extract` prints.
//! `BLESS=1` rewrites the expected files; read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use mail2crm::intake::{self, Rules};
use mail2crm::message::authenticity::TrustPolicy;
use mail2crm::message::mark::InstanceKey;
use mail2crm::message::{Limits, parse};
use mail2crm::session::evidence::Extraction;
use mail2crm::session::extract::report::{tell_originals, to_extract_json};
use mail2crm::session::profile::Profile;
use mail2crm::session::redact::Redaction;
use mail2crm::source::{Content, Envelope, Received};
use serde_json::{Value, json};

fn mails() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mail");
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of mails")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "eml"))
        .collect();
    all.sort();
    all
}

fn report(path: &Path, raw: &[u8]) -> Value {
    let rules = Rules {
        instance: "default".to_owned(),
        profile: Arc::new(Profile::builtin().clone()),
        limits: Limits::default(),
        trust: TrustPolicy::Anyone,
        privacy: Arc::new(Redaction::default()),
        own: Some(InstanceKey::of_previews()),
    };
    let received = Received {
        input: String::new(),
        content: Content::Mail(raw.to_vec().into()),
        envelope: Envelope::default(),
        received_at: None::<Timestamp>,
    };
    let reading = intake::read(&received, &rules);
    let trust = json!({ "verdict": "none", "by": null, "domain": null });
    // As the command prints it when it is run in the repository.
    let input = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("ours").display().to_string();
    let mut object = to_extract_json(&input, reading.message_id.as_deref(), &reading.extraction, &trust);
    if matches!(reading.extraction, Extraction::Sessions(_)) {
        tell_originals(&mut object, &parse::parse(raw, &rules.limits).originals());
    }
    object
}

#[test]
fn every_mail_gives_what_is_expected_of_it() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let mails = mails();
    assert!(mails.len() >= 150, "{} mails", mails.len());
    for path in mails {
        let got = report(&path, &fs::read(&path).expect("a mail"));
        let expected_path = path.with_extension("expected.json");
        if bless {
            let text = serde_json::to_string_pretty(&got).expect("JSON") + "\n";
            fs::write(&expected_path, text).expect("write");
            continue;
        }
        let expected: Value = fs::read_to_string(&expected_path)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        if got != expected {
            let text = serde_json::to_string_pretty(&got).expect("JSON");
            wrong.push(format!("{}: got\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} mails differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_mail_with_bare_line_feeds_says_the_same() {
    for path in mails() {
        let raw = fs::read(&path).expect("a mail");
        let bare: Vec<u8> = raw.iter().copied().filter(|b| *b != b'\r').collect();
        let crlf: Vec<u8> = bare.iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect();
        // A file that is sent as it is may hold the line ends in its values; these mails don't.
        assert_eq!(report(&path, &bare)["outcome"], report(&path, &crlf)["outcome"], "{}", path.display());
    }
}

#[test]
fn a_damaged_mail_never_panics() {
    for path in mails() {
        let raw = fs::read(&path).expect("a mail");
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..24 {
            report(&path, &raw[..rng.usize(..=raw.len())]);
            let mut flipped = raw.clone();
            for _ in 0..8 {
                let at = rng.usize(..flipped.len());
                flipped[at] = rng.u8(..);
            }
            report(&path, &flipped);
        }
    }
}
