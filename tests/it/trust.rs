//! Who may cause an effect: signed mails against a zone file, each attack on a signature, and what reaches
//! the ledger. `fixtures/trust` was signed by another implementation; the other mails are signed here.

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
use mail2crm::session::SessionKey;
use mail2crm::session::evidence::Extraction;
use mail2crm::session::profile::Profile;
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

#[tokio::test]
async fn mails_that_another_program_signed_are_judged_right() {
    let zone = std::fs::read_to_string(fixtures().join("keys.zone")).expect("made for the test");
    for (name, expected, why) in [
        ("rsa2048", Verdict::Pass, ""),
        ("ed", Verdict::Pass, ""),
        ("rsa1024", Verdict::Pass, ""),
        ("white-lines-at-end", Verdict::Pass, ""),
        ("content-type-unsigned", Verdict::Pass, ""),
        ("rsa768", Verdict::Fail, "fewer than 1024 bits"),
        ("rsa512", Verdict::Fail, "fewer than 1024 bits"),
        ("rsa-sha1", Verdict::Fail, "RFC 8301"),
    ] {
        let raw = std::fs::read(fixtures().join(format!("{name}.eml"))).expect("made for the test");
        let trust = trust_at(&raw, NAMED, &zone, Timestamp::now()).await;
        assert_eq!(trust.verdict, expected, "{name}: {trust}");
        assert!(trust.why.contains(why), "{name}: {trust}");
        // Files on disk have lost their carriage returns.
        let bare: Vec<u8> = raw.iter().copied().filter(|b| *b != b'\r').collect();
        assert_eq!(trust_at(&bare, NAMED, &zone, Timestamp::now()).await.verdict, expected, "{name} with bare LF");
    }
}

#[tokio::test]
async fn a_good_signature_is_trusted_in_each_canonical_form() {
    let signer = Signer::new("ccaip.example");
    for (head, body) in [
        (Canonicalization::Relaxed, Canonicalization::Relaxed),
        (Canonicalization::Simple, Canonicalization::Simple),
        (Canonicalization::Relaxed, Canonicalization::Simple),
        (Canonicalization::Simple, Canonicalization::Relaxed),
    ] {
        let raw = signer.sign_fields(&mail(), &ALL, |t| (t.ch, t.cb) = (head, body));
        let trust = trust(&raw, NAMED, &signer.record("")).await;
        assert_eq!(
            serde_json::to_value(&trust).expect("made for the test"),
            json!({ "verdict": "pass", "by": "dkim", "domain": "ccaip.example" }),
            "{head:?} {body:?}: {trust}"
        );
    }
}

#[tokio::test]
async fn hops_that_add_to_the_top_break_nothing() {
    let signer = Signer::new("ccaip.example");
    let raw = signer.sign(&mail());
    let added = format!("Return-Path: <b@ccaip.example>\r\nReceived: from a by b; Tue\r\n{raw}");
    assert_eq!(trust(&added, NAMED, &signer.record("")).await.verdict, Verdict::Pass);
    let of_mbox = format!("From b@ccaip.example Tue Mar  3 09:01:00 2026\r\n{added}");
    assert_eq!(trust(&of_mbox, NAMED, &signer.record("")).await.verdict, Verdict::Pass);
}

#[tokio::test]
async fn each_attack_on_a_signature_fails() {
    let signer = Signer::new("ccaip.example");
    let good = signer.sign(&mail());
    let without = |name: &str| ALL.into_iter().filter(|f| *f != name).collect::<Vec<_>>();
    let evil = Signer::new("evil.example");
    let replace = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replacen(from, to, 1)
    };
    let part = signer.sign_fields(&mail(), &ALL, |t| t.l = 1);
    let multipart = "--x\r\nContent-Type: application/json\r\n\r\n{\"id\": 666}\r\n--x--\r\n";
    let untyped = signer.sign_fields(&mail(), &without("Content-Type"), |_| {});
    let with_dash = signer.sign_fields(&mail().replace("The session", multipart), &without("Content-Type"), |_| {});
    for (attack, raw) in [
        ("a body that was changed", replace("\"4711\"", "\"4712\"")),
        ("a body with more behind l=", format!("{part}{{\"id\": 666}}\r\n")),
        ("l= with a body that is whole", {
            // Nothing was added: then it is as good as without `l=`.
            assert_eq!(trust(&part, NAMED, &signer.record("")).await.verdict, Verdict::Pass);
            format!("{part}.\r\n")
        }),
        ("a second From before", format!("From: boss@ccaip.example\r\n{good}")),
        ("a second From behind", replace("To: sess", "From: boss@ccaip.example\r\nTo: sess")),
        (
            "two addresses in From",
            signer.sign(&mail().replace("<no-reply@ccaip.example>", "<a@ccaip.example>, b@evil.example")),
        ),
        ("a From of another domain", signer.sign(&mail().replace("no-reply@ccaip.example", "ceo@evil.example"))),
        (
            "no From",
            signer.sign_fields(
                &mail().replacen("From: Contact Centre <no-reply@ccaip.example>\r\n", "", 1),
                &ALL,
                |_| {},
            ),
        ),
        ("a Subject that was changed", replace("metadata 48213", "metadata 1")),
        ("a second Subject", format!("Subject: other\r\n{good}")),
        ("a second Content-Type", format!("Content-Type: text/html\r\n{good}")),
        ("a Content-Type that was changed", replace("text/plain; charset=utf-8", "multipart/mixed; boundary=x")),
        (
            "an unsigned Content-Type that was changed",
            untyped.replacen("text/plain; charset=utf-8", "multipart/mixed; boundary=x", 1),
        ),
        (
            "an unsigned Content-Type with parts of the body",
            with_dash.replacen("text/plain; charset=utf-8", "multipart/mixed; boundary=x", 1),
        ),
        ("h= without From", signer.sign_fields(&mail(), &without("From"), |_| {})),
        ("i= outside d=", signer.sign_fields(&mail(), &ALL, |t| t.i = "@evil.example".into())),
        ("i= that only ends like d=", signer.sign_fields(&mail(), &ALL, |t| t.i = "@evilccaip.example".into())),
        ("another domain's signature", evil.sign(&mail())),
        ("d= that was changed", evil.sign(&mail()).replacen("d=evil.example", "d=ccaip.example", 1)),
        ("a= that was changed", replace("ed25519-sha256", "rsa-sha1")),
        ("v= that was changed", replace("v=1", "v=2")),
        ("two d=", replace("d=ccaip.example", "d=ccaip.example; d=ccaip.example")),
        ("an unknown selector", replace("s=s1", "s=s2")),
        ("lines that are no fields", replace("To: sess", "{\"id\": 666}\r\nTo: sess")),
        ("a carriage return alone", replace("\"4711\"", "\"47\r11\"")),
    ] {
        let zone = signer.record("") + &evil.record("");
        let trust = trust(&raw, NAMED, &zone).await;
        assert_eq!(trust.verdict, Verdict::Fail, "{attack}: {trust:?}");
        assert!(!trust.why.is_empty() && !trust.why.contains('@'), "{attack}: {}", trust.why);
    }
}

#[tokio::test]
async fn a_copy_of_an_old_mail_is_not_trusted_once_it_has_expired() {
    let signer = Signer::new("ccaip.example");
    let raw = signer.sign_fields(&mail(), &ALL, |t| t.x = 3600);
    let zone = signer.record("");
    let now = Timestamp::now();
    assert_eq!(trust_at(raw.as_bytes(), NAMED, &zone, now).await.verdict, Verdict::Pass);
    let later = now + SignedDuration::from_hours(2);
    let trust = trust_at(raw.as_bytes(), NAMED, &zone, later).await;
    assert_eq!((trust.verdict, trust.why.contains("expired")), (Verdict::Fail, true), "{trust}");
}

#[tokio::test]
async fn the_restrictions_of_a_key_are_kept() {
    let signer = Signer::new("ccaip.example");
    let good = signer.sign(&mail());
    let below = signer.sign_fields(&mail(), &ALL, |t| t.i = "@eu.ccaip.example".into());
    let other = Signer::new("ccaip.example");
    for (what, raw, zone, expected) in [
        ("revoked", &good, "s1._domainkey.ccaip.example. TXT \"v=DKIM1; k=ed25519; p=\"".to_owned(), Verdict::Fail),
        ("not there", &good, String::new(), Verdict::Fail),
        ("another key", &good, other.record(""), Verdict::Fail),
        ("two keys", &good, signer.record("") + &other.record(""), Verdict::Fail),
        ("for SHA-1 only", &good, signer.record("h=sha1; "), Verdict::Fail),
        ("for SHA-256 too", &good, signer.record("h=sha1:sha256; "), Verdict::Pass),
        ("not for mail", &good, signer.record("s=tlsrpt; "), Verdict::Fail),
        ("for mail", &good, signer.record("s=email; "), Verdict::Pass),
        ("only tried", &good, signer.record("t=y; "), Verdict::None),
        ("strict", &good, signer.record("t=s; "), Verdict::Pass),
        ("i= below d=", &below, signer.record(""), Verdict::Pass),
        ("i= below d=, strict", &below, signer.record("t=s; "), Verdict::Fail),
        ("no answer", &good, "s1._domainkey.ccaip.example. SERVFAIL".to_owned(), Verdict::Unknown),
        (
            "behind an alias",
            &good,
            format!(
                "{}s1._domainkey.ccaip.example. CNAME k.host.example.",
                signer.record("").replace("s1._domainkey.ccaip.example.", "k.host.example.")
            ),
            Verdict::Pass,
        ),
    ] {
        let trust = trust(raw, NAMED, &zone).await;
        assert_eq!(trust.verdict, expected, "{what}: {trust:?}");
    }
}

#[tokio::test]
async fn a_good_signature_among_many_is_found_and_their_number_is_bounded() {
    let signer = Signer::new("ccaip.example");
    let evil = Signer::new("evil.example");
    let mut raw = signer.sign(&mail());
    for _ in 0..30 {
        raw = evil.sign(&raw);
    }
    assert_eq!(trust(&raw, NAMED, &signer.record("")).await.verdict, Verdict::Pass);
    let forged =
        "DKIM-Signature: v=1; a=ed25519-sha256; d=ccaip.example; s=no; h=From; bh=AAAA; b=AAAA\r\n".repeat(500);
    assert_eq!(trust(&format!("{forged}{raw}"), NAMED, &signer.record("")).await.verdict, Verdict::Fail);
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

mod sealed {
    //! Mail through a forwarder that changes it and seals what it had found.

    use mail_auth::arc::ArcSealer;
    use mail_auth::{ArcOutput, AuthenticatedMessage, AuthenticationResults, DkimOutput};

    use super::*;

    const POLICY: &str = r#"{ dkim = ["ccaip.example"], arc = ["sealer.example"] }"#;

    fn zone() -> String {
        KEYS.with(|(sealer, evil)| sealer.record("") + &evil.record(""))
    }

    thread_local! {
        static KEYS: (Signer, Signer) = (Signer::new("sealer.example"), Signer::new("evil.example"));
    }

    fn seal(raw: &str, domain: &str, found: &str) -> String {
        seal_fields(raw, domain, found, &["From", "To", "Subject", "Date", "MIME-Version", "Content-Type"])
    }

    fn seal_fields(raw: &str, domain: &str, found: &str, fields: &[&str]) -> String {
        let message = AuthenticatedMessage::parse(raw.as_bytes()).expect("made for the test");
        // The crate writes results from its own checks: the domain that it names stands in the signature.
        let signature = mail_auth::dkim::Signature {
            d: found.to_owned(),
            s: "s1".into(),
            i: format!("@{found}"),
            b: vec![1; 8],
            ..Default::default()
        };
        let output = DkimOutput::pass().with_signature(&signature);
        let results = AuthenticationResults::new("mx.sealer.example")
            .with_dkim_results(std::slice::from_ref(&output), "x@y.example");
        let key = KEYS.with(|(sealer, evil)| if domain == sealer.domain { sealer.key() } else { evil.key() });
        let sealer = ArcSealer::from_key(key).domain(domain).selector("s1").headers(fields.to_vec());
        let set = sealer.seal(&message, &results, &ArcOutput::default()).expect("made for the test");
        format!("{}{raw}", set.to_header())
    }

    #[tokio::test]
    async fn a_named_forwarder_vouches_for_what_it_had_found() {
        let raw = seal(&mail(), "sealer.example", "ccaip.example");
        let good = trust(&raw, POLICY, &zone()).await;
        assert_eq!((good.verdict, good.by), (Verdict::Pass, Some(By::Arc)), "{good} {raw}");
        let evil = seal(&mail(), "evil.example", "ccaip.example");
        for (attack, raw, zone) in [
            ("a sealer that nobody named", evil, zone()),
            ("another domain was found", seal(&mail(), "sealer.example", "evil.example"), zone()),
            ("a body that was changed", raw.replace("\"4711\"", "\"4712\""), zone()),
            ("a Subject that was changed", raw.replace("metadata 48213", "metadata 1"), zone()),
            (
                "results that were changed",
                raw.replacen("header.i=@ccaip.example", "header.i=@ccaip.example ", 1)
                    .replace("dkim=pass", "dkim=pass reason=x"),
                zone(),
            ),
            ("no key", raw.clone(), String::new()),
            ("a seal without its signature", raw.replacen("ARC-Message-Signature", "X-ARC", 1), zone()),
            ("a chain that was broken before", raw.replacen("cv=none", "cv=fail", 1), zone()),
            ("a second From", format!("From: boss@ccaip.example\r\n{raw}"), zone()),
            (
                "From is not covered",
                seal_fields(&mail(), "sealer.example", "ccaip.example", &["To", "Subject", "Content-Type"]),
                zone(),
            ),
        ] {
            let trust = trust(&raw, POLICY, &zone).await;
            assert_eq!(trust.verdict, Verdict::Fail, "{attack}: {trust:?}");
        }
        let silent = trust(&raw, POLICY, "s1._domainkey.sealer.example. SERVFAIL").await;
        assert_eq!(silent.verdict, Verdict::Unknown);
        assert_eq!(trust(&raw, NAMED, &zone()).await.verdict, Verdict::None);
    }
}

struct Nowhere;

impl Planner for Nowhere {
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

/// The documents, with one blank for white space: a relaxed signature lets relays change how much there is.
fn said(reading: &Reading) -> Vec<String> {
    let Extraction::Sessions(found) = &reading.extraction else { return Vec::new() };
    let texts =
        found.iter().map(|f| f.document.to_string().replace("\\t", " ").replace("\\n", " ").replace("\\r", " "));
    texts.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Whatever is done to a signed mail on its way: if it is still trusted, it says the same.
#[tokio::test]
async fn what_passes_after_damage_says_what_was_signed() {
    let signer = Signer::new("ccaip.example");
    let zone = signer.record("");
    let (rules, verifier) = (rules(NAMED), verifier(&zone));
    let parts = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nAttached.\r\n--b\r\n\
         Content-Type: application/json; name=metadata-48213.json\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        STANDARD.encode(SESSION)
    );
    let head = mail().split("Content-Type").next().expect("made for the test").to_owned();
    let multipart = format!("{head}Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}");
    let untyped = signer.sign_fields(&multipart, &["From", "To", "Subject", "Date", "Message-ID"], |_| {});
    let simple = |t: &mut mail_auth::dkim::Signature| {
        (t.ch, t.cb) = (Canonicalization::Simple, Canonicalization::Simple);
    };
    let pieces = [
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ";",
        "From: x@ccaip.example\r\n",
        "{\"id\": 666}",
        "--x\r\n",
        "--b\r\n",
        "=",
        "\0",
        "\u{feff}",
    ];
    let mut rng = fastrand::Rng::with_seed(11);
    for (name, good) in [
        ("relaxed", signer.sign(&mail())),
        ("simple", signer.sign_fields(&mail(), &ALL, simple)),
        ("multipart", signer.sign(&multipart)),
        ("unsigned type", untyped),
        ("forward", forwarded(&signer.sign(&mail()), "")),
    ] {
        let (trust, whole) = admitted(&good, NAMED, &zone).await;
        let expected = said(&whole);
        assert_eq!((trust.verdict, expected.len()), (Verdict::Pass, 1), "{name}: {trust}");
        let mut passed = 0;
        for _ in 0..1_500 {
            let raw = damaged(good.as_bytes(), &pieces, &mut rng);
            let received = Received { content: Content::Mail(raw.clone().into()), ..received("") };
            let mut reading = intake::read(&received, &rules);
            let trust = Gate::new(&rules, &verifier).admit(&received, &mut reading, Timestamp::now()).await;
            if trust.verdict == Verdict::Pass {
                passed += 1;
                assert_eq!(said(&reading), expected, "{name}: {}", String::from_utf8_lossy(&raw));
            }
        }
        assert!(passed > 0, "{name}: fields can be added");
    }
}

fn damaged(good: &[u8], pieces: &[&str], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut raw = good.to_vec();
    for _ in 0..rng.usize(1..=2) {
        let at = rng.usize(..raw.len());
        match rng.u8(..4) {
            0 => raw[at] = rng.u8(..),
            1 => drop(raw.remove(at)),
            2 => drop(raw.splice(at..at, rng.choice(pieces).expect("made for the test").bytes())),
            _ => {
                let end = (at + rng.usize(..200)).min(raw.len());
                let part = raw[at..end].to_vec();
                let to = rng.usize(..raw.len());
                drop(raw.splice(to..to, part));
            }
        }
    }
    raw
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
