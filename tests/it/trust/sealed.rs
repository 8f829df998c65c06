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
    let results =
        AuthenticationResults::new("mx.sealer.example").with_dkim_results(std::slice::from_ref(&output), "x@y.example");
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
