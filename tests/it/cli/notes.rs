//! Mail of unverified senders that may add notes, and nothing else, end to end.

use std::fs;

use crate::support::cli::{Bench, Crm, TOKEN, mail, sandbox};

/// The pipe of an MTA, whose mail is verified by a token that nobody has.
fn bench(crm: &Crm, more: &str) -> Bench {
    let bench = Bench::new();
    let config = format!(
        "[pipe]\ntrust = {{ token = \"0123456789abcdef0123\", otherwise = \"note_only\" }}\n[destination.helpdesk]\nconnector = \"sandbox\"\nbase_url = \"{}\"\ntoken = \"{TOKEN}\"\nstatus = \"solved\"\nfields = {{ disposition_code = \"disposition\" }}\n{more}\n",
        crm.url()
    );
    bench.write("mail2crm.toml", &config);
    bench
}

#[test]
fn an_unverified_mail_adds_one_note_that_says_so_and_a_verified_one_does_the_rest() {
    let crm = sandbox("");
    let bench = bench(&crm, "");
    let call = fs::read(mail("ccaip-01-json-attachment")).expect("a mail");
    bench.run_with(&["process", "-", "--dry-run"], &[], &call).exits(0).prints("NOT VERIFIED");
    bench.run_with(&["process", "-"], &[], &call).exits(0);
    let ticket = || crm.store().ticket("C-100482").expect("a ticket");
    let noted = ticket();
    assert_eq!((noted.notes.len(), noted.fields.len(), noted.attachments.len()), (1, 0, 0));
    assert!(noted.notes[0].text.starts_with("NOT VERIFIED") && noted.status == "open", "{noted:?}");
    bench.run(&["messages", "show", "1"]).exits(0).prints("as notes only");

    // The same in another mail: its content is there.
    let again = [b"X-Another: 1\r\n".as_slice(), &call].concat();
    bench.run_with(&["process", "-"], &[], &again).exits(0);
    assert_eq!(ticket().notes.len(), 1);

    // The same, vouched for: an ordinary version.
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(0);
    let done = ticket();
    assert_eq!((done.notes.len(), done.attachments.len(), done.status.as_str()), (2, 1, "solved"));
    assert!(done.fields.contains_key("disposition") && !done.notes[1].text.contains("NOT VERIFIED"));
    let story = bench.run(&["--json", "sessions", "show", "voice-48213"]).exits(0).json().remove(0);
    let standings: Vec<_> =
        story["versions"].as_array().expect("versions").iter().map(|v| v["standing"].clone()).collect();
    assert_eq!(standings, ["note_only", "first"]);
    bench.run(&["audit"]).exits(0).prints("unverified  1 versions").prints("all is accounted for");
    crm.stop();
}

#[test]
fn an_unverified_mail_waits_in_quarantine_where_no_destination_of_its_session_takes_notes() {
    let crm = sandbox("");
    let archive = "[destination.archive]\nstorage = \"archive\"\npath = \"{{key}}.json\"\n[[route]]\nmatch = { channel = \"voice\" }\nto = [\"archive\"]\n[[route]]\nmatch = { channel = \"chat\" }\nto = [\"helpdesk\"]";
    let bench = bench(&crm, archive);
    let call = fs::read(mail("ccaip-01-json-attachment")).expect("a mail");
    bench.run_with(&["process", "-", "--dry-run"], &[], &call).says("quarantine");
    bench.run_with(&["process", "-"], &[], &call).exits(0);
    let row = bench.run(&["--json", "messages", "list"]).exits(0).json().remove(0);
    assert_eq!((row["state"].as_str(), row["reason"].as_str()), (Some("quarantined"), Some("untrusted")));
    assert!(row["detail"].as_str().expect("a sentence").contains("takes notes of unverified senders"), "{row}");
    assert!(!bench.path().join("archive/voice-48213.json").exists());
    bench.run(&["messages", "reprocess", "--trust", "1"]).exits(0);
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(0);
    assert!(bench.path().join("archive/voice-48213.json").exists());
    crm.stop();
}
