//! Who may cause an effect: signed mails against a zone file, each attack on a signature, and what reaches
//! the ledger. `fixtures/trust` was signed by another implementation; the other mails are signed here.

mod damage;
mod sealed;
mod signatures;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use mail2crm::diagnostic::SourceFile;
use mail2crm::intake::{self, Gate, Intake, Reading, Rules};
use mail2crm::ledger::{Filter, Ledger, Leg, Planner};
use mail2crm::message::Limits;
use mail2crm::message::authenticity::policy::TrustTable;
use mail2crm::message::authenticity::{By, Trust, TrustPolicy, Verdict, decide};
use mail2crm::outcome::Reason;
use mail2crm::session::evidence::Extraction;
use mail2crm::session::profile::Profile;
use mail2crm::session::{Session, SessionKey};
use mail2crm::source::{Batch, Content, Envelope, Inlet, Received, Settled};
use mail2crm::verify::{Arrival, Dns, Verifier, Zone};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const SESSION: &str = r#"{"id": 48213, "call_type": "Voice Inbound", "status": "finished", "updated_at": "2026-02-17T10:11:41Z", "out_ticket_id": "4711", "comment": "refund promised"}"#;
const ALL: [&str; 7] = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"];

fn mail() -> String {
    format!(
        "From: Contact Centre <no-reply@ccaip.example>\r\nTo: sessions@acme.example\r\nSubject: Session metadata 48213\r\n\
         Date: Tue, 03 Mar 2026 09:01:00 -0600\r\nMessage-ID: <t1@ccaip.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nThe session of call 48213:\r\n\r\n{SESSION}\r\n"
    )
}

/// A domain with a key of its own.
struct Signer {
    domain: &'static str,
    pkcs8: Vec<u8>,
}

impl Signer {
    fn new(domain: &'static str) -> Self {
        Self { domain, pkcs8: Ed25519Key::generate_pkcs8().expect("made for the test") }
    }

    fn key(&self) -> Ed25519Key {
        Ed25519Key::from_pkcs8_der(&self.pkcs8).expect("made for the test")
    }

    /// The line of a zone file, with more tags for the key.
    fn record(&self, tags: &str) -> String {
        let public = STANDARD.encode(self.key().public_key());
        format!("s1._domainkey.{}. TXT \"v=DKIM1; k=ed25519; {tags}p={public}\"\n", self.domain)
    }

    fn sign_fields(&self, mail: &str, fields: &[&str], change: impl Fn(&mut mail_auth::dkim::Signature)) -> String {
        let mut signer = DkimSigner::from_key(self.key()).domain(self.domain).selector("s1").headers(fields.to_vec());
        change(&mut signer.template);
        format!("{}{mail}", signer.sign(mail.as_bytes()).expect("made for the test").to_header())
    }

    fn sign(&self, mail: &str) -> String {
        self.sign_fields(mail, &ALL, |_| {})
    }
}

fn verifier(zone: &str) -> Verifier {
    let zone = Zone::parse(&SourceFile::new("test.zone", zone)).expect("a zone");
    Verifier::new(Dns::Zone(Box::new(zone)))
}

fn policy(trust: &str) -> TrustPolicy {
    let table: BTreeMap<String, TrustTable> = toml::from_str(&format!("trust = {trust}")).expect("a policy");
    table.into_values().next().expect("one").into()
}

const NAMED: &str = r#"{ dkim = ["ccaip.example"] }"#;

async fn trust_at(raw: &[u8], trust: &str, zone: &str, now: Timestamp) -> Trust {
    let policy = policy(trust);
    let found = verifier(zone).check(raw, &Arrival::default(), &policy, &Limits::default(), now).await;
    decide(&found, &policy)
}

async fn trust(raw: &str, trust: &str, zone: &str) -> Trust {
    trust_at(raw.as_bytes(), trust, zone, Timestamp::now()).await
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trust")
}

/// A forward as attachment, as people send it.
fn forwarded(original: &str, beside: &str) -> String {
    format!(
        "From: jane@acme.example\r\nTo: sessions@acme.example\r\nSubject: Fwd: Session\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: text/plain\r\n\r\nplease see\r\n{beside}\r\n\
         --out\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n{original}\r\n--out--\r\n"
    )
}

fn rules(trust: &str) -> Rules {
    Rules {
        instance: "default".to_owned(),
        profile: Arc::new(Profile::builtin().clone()),
        limits: Limits::default(),
        privacy: Default::default(),
        own: None,
        trust: policy(trust),
    }
}

fn received(raw: &str) -> Received {
    Received {
        input: "a.eml".to_owned(),
        content: Content::Mail(raw.as_bytes().to_vec().into()),
        envelope: Envelope::default(),
        received_at: None,
    }
}

async fn admitted(raw: &str, trust: &str, zone: &str) -> (Trust, Reading) {
    let (rules, verifier) = (rules(trust), verifier(zone));
    let received = received(raw);
    let mut reading = intake::read(&received, &rules);
    let trust = Gate::new(&rules, &verifier).admit(&received, &mut reading, Timestamp::now()).await;
    (trust, reading)
}

fn ids(reading: &Reading) -> Vec<String> {
    match &reading.extraction {
        Extraction::Sessions(found) => found.iter().map(|f| f.session.session_key().id).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn the_signed_original_of_an_attached_forward_counts_and_what_is_around_it_does_not() {
    let signer = Signer::new("ccaip.example");
    let zone = signer.record("");
    let original = signer.sign(&mail());
    let (trust, reading) = admitted(&forwarded(&original, ""), NAMED, &zone).await;
    assert_eq!((trust.verdict, trust.by), (Verdict::Pass, Some(By::Dkim)), "{trust}");
    assert_eq!(ids(&reading), ["48213"]);

    let forged = SESSION.replace("48213", "666").replace("4711", "1");
    let (trust, reading) = admitted(&forwarded(&original, &forged), NAMED, &zone).await;
    assert_eq!(trust.verdict, Verdict::Pass);
    assert_eq!(ids(&reading), ["48213"]);
    assert!(reading.notes.iter().any(|note| note.contains("left out")), "{:?}", reading.notes);

    let changed = original.replace("4711", "4712");
    let (trust, reading) = admitted(&forwarded(&changed, ""), NAMED, &zone).await;
    assert_eq!(trust.verdict, Verdict::Fail);
    assert!(matches!(reading.extraction, Extraction::Refused(Reason::Untrusted, _)));

    let (trust, _) = admitted(&forwarded(&mail(), ""), NAMED, &zone).await;
    assert_eq!(trust.verdict, Verdict::None);
    let (trust, _) = admitted(&forwarded(&original, ""), NAMED, "s1._domainkey.ccaip.example. SERVFAIL").await;
    assert_eq!(trust.verdict, Verdict::Unknown);
}

#[tokio::test]
async fn tokens_and_the_mail_hosts_word_let_mail_in_without_dns() {
    let token = r#"{ token = "k7Qm2vX9pLr4TzN8" }"#;
    let to = |address: &str| mail().replacen("sessions@acme.example", address, 1);
    let (trust, reading) = admitted(&to("in+k7qm2vx9plr4tzn8@acme.example"), token, "").await;
    assert_eq!((trust.verdict, trust.by, ids(&reading).len()), (Verdict::Pass, Some(By::Token), 1));
    let (trust, reading) = admitted(&to("in+wrong@acme.example"), token, "").await;
    assert_eq!(trust.verdict, Verdict::Fail);
    assert!(matches!(&reading.extraction, Extraction::Refused(Reason::Untrusted, why) if !why.contains("wrong@")));
    assert_eq!(admitted(&mail(), token, "").await.0.verdict, Verdict::None);
    // A token that can't be read is no verdict.
    let missing = r#"{ token = { env = "MAIL2CRM_TEST_NO_SUCH_TOKEN" } }"#;
    assert_eq!(admitted(&mail(), missing, "").await.0.verdict, Verdict::Unknown);

    let host = r#"{ dkim = ["ccaip.example"], authentication_results = "mx.acme.example" }"#;
    let own = "Received: from out.ccaip.example by mx.acme.example; Tue\r\n";
    let says = "Authentication-Results: mx.acme.example; dkim=pass header.d=ccaip.example\r\n";
    let foreign = "Received: from x by relay.evil.example; Tue\r\n";
    let (trust, _) = admitted(&format!("{own}{says}{}", mail()), host, "").await;
    assert_eq!((trust.verdict, trust.by), (Verdict::Pass, Some(By::AuthenticationResults)));
    assert_eq!(admitted(&format!("{own}{foreign}{says}{}", mail()), host, "").await.0.verdict, Verdict::None);
    assert_eq!(admitted(&format!("{own}{says}{}", mail()), NAMED, "").await.0.verdict, Verdict::None);
}

#[tokio::test]
async fn spf_counts_where_the_peer_is_known() {
    let policy = policy(r#"{ spf = ["ccaip.example"] }"#);
    let zone = "$ORIGIN ccaip.example.\n@ TXT \"v=spf1 ip4:192.0.2.0/28 mx -all\"\n@ MX 10 mx\nmx A 198.51.100.7\n";
    let of = async |peer: &str, sender: &str, zone: &str| {
        let arrival = Arrival {
            sender: Some(sender),
            peer: Some((peer.parse().expect("made for the test"), "out.example")),
            ..Arrival::default()
        };
        let found =
            verifier(zone).check(mail().as_bytes(), &arrival, &policy, &Limits::default(), Timestamp::now()).await;
        decide(&found, &policy).verdict
    };
    assert_eq!(of("192.0.2.3", "bounce@ccaip.example", zone).await, Verdict::Pass);
    assert_eq!(of("198.51.100.7", "bounce@ccaip.example", zone).await, Verdict::Pass);
    assert_eq!(of("203.0.113.9", "bounce@ccaip.example", zone).await, Verdict::Fail);
    assert_eq!(of("192.0.2.3", "bounce@evil.example", zone).await, Verdict::None);
    assert_eq!(of("192.0.2.3", "bounce@ccaip.example", "ccaip.example. SERVFAIL").await, Verdict::Unknown);
}

struct Nowhere;

impl Planner for Nowhere {
    fn legs_of(&self, _: &Session) -> Vec<Leg> {
        Vec::new()
    }

    fn legs(&self, _: &SessionKey, _: &Value) -> Vec<Leg> {
        Vec::new()
    }
}

async fn taken_in(ledger: &Ledger, zone: &str, raw: &[&str]) -> Vec<Settled> {
    hand_over(ledger, Arc::new(verifier(zone)), raw).await
}

async fn hand_over(ledger: &Ledger, verifier: Arc<Verifier>, raw: &[&str]) -> Vec<Settled> {
    let (to_intake, from_source) = mpsc::channel(2);
    let intake = Intake::new("inbox", Arc::new(rules(NAMED)), ledger.clone(), Arc::new(Nowhere), verifier);
    let serving = tokio::spawn(intake.serve(from_source));
    let inlet = Inlet::new("inbox", to_intake);
    let items = raw.iter().enumerate().map(|(i, raw)| Received { input: format!("{i}"), ..received(raw) }).collect();
    let settled = inlet.hand_over(Batch { items, position: None }).await;
    drop(inlet);
    serving.await.expect("made for the test");
    settled
}

#[tokio::test]
async fn trust_decides_what_reaches_the_ledger() {
    let folder = tempfile::tempdir().expect("made for the test");
    let ledger = Ledger::open(&folder.path().join("ledger.db")).expect("made for the test");
    let signer = Signer::new("ccaip.example");
    let good = signer.sign(&mail());
    let other = "From: a@b.example\r\nSubject: lunch\r\n\r\nAt noon?\r\n";

    // DNS does not answer: nothing of the batch is committed, and the source is to hand it over again.
    let silent = taken_in(&ledger, "s1._domainkey.ccaip.example. SERVFAIL", &[other, &good]).await;
    assert!(
        matches!(silent.as_slice(), [Settled::TryAgain(_), Settled::TryAgain(why)] if why.contains("ccaip.example"))
    );
    assert!(ledger.messages(Filter::default()).await.expect("made for the test").is_empty());

    let settled = taken_in(&ledger, &signer.record(""), &[other, &good, &mail()]).await;
    assert_eq!(settled, [Settled::Accepted, Settled::Accepted, Settled::Refused(Reason::Untrusted)]);
    let mut rows = ledger.messages(Filter::default()).await.expect("made for the test");
    rows.sort_by_key(|row| row.id.0);
    let shown: Vec<_> = rows.iter().map(|r| (r.state.as_str(), r.reason.as_deref(), r.sessions.len())).collect();
    assert_eq!(
        shown,
        [("ignored", Some("no_metadata"), 0), ("processed", None, 1), ("quarantined", Some("untrusted"), 0)]
    );
    let story = serde_json::to_value(ledger.message_story(rows[1].id).await.expect("made for the test"))
        .expect("made for the test")
        .to_string();
    assert!(story.contains("trusted by dkim of ccaip.example"), "{story}");
    assert_eq!(
        ledger.message_raw(rows[2].id).await.expect("made for the test").expect("made for the test"),
        mail().as_bytes()
    );
}

#[tokio::test]
async fn mail_that_dns_says_nothing_about_for_an_hour_waits_for_a_person_and_no_longer_for_dns() {
    let folder = tempfile::tempdir().expect("made for the test");
    let ledger = Ledger::open(&folder.path().join("ledger.db")).expect("made for the test");
    let good = Signer::new("ccaip.example").sign(&mail());
    let verifier = Arc::new(verifier("s1._domainkey.ccaip.example. SERVFAIL"));
    verifier.silent_for("inbox", Timestamp::now() - SignedDuration::from_mins(50));
    assert!(matches!(hand_over(&ledger, verifier.clone(), &[&good]).await[..], [Settled::TryAgain(_)]));
    verifier.answered("inbox");
    verifier.silent_for("inbox", Timestamp::now() - SignedDuration::from_mins(61));
    assert_eq!(hand_over(&ledger, verifier.clone(), &[&good]).await, [Settled::Refused(Reason::Untrusted)]);
    // The next one waits its own hour.
    assert!(matches!(hand_over(&ledger, verifier, &[&good, "x"]).await[..], [Settled::TryAgain(_), _]));
}

#[test]
fn extract_prints_the_verdict_if_it_is_asked_to_look() {
    let file = fixtures().join("rsa2048.eml");
    let run = |more: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_mail2crm"))
            .arg("extract")
            .arg(&file)
            .args(more)
            .output()
            .expect("made for the test");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).expect("made for the test")
    };
    let zone = fixtures().join("keys.zone");
    let zone = zone.to_str().expect("made for the test");
    let none = json!({ "verdict": "none", "by": null, "domain": null });
    assert_eq!(run(&[])["trust"], none);
    let looked = run(&["--zone", zone]);
    assert_eq!(looked["trust"], json!({ "verdict": "pass", "by": "dkim", "domain": "ccaip.example" }));
    assert_eq!(looked["sessions"][0]["out_ticket_id"], "4711");
    let other = run(&["--zone", zone, "--trust-dkim", "acme.example"]);
    assert_eq!(other["trust"]["verdict"], "fail");
}
