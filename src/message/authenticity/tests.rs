//! The decision: each kind of evidence alone, and none of it for the wrong domain.

use super::policy::Domain;
use super::*;

fn domains(list: &[&str]) -> Vec<Domain> {
    list.iter().map(|d| Domain::from((*d).to_owned())).collect()
}

fn policy(trusted: Trusted) -> TrustPolicy {
    TrustPolicy::Named(std::sync::Arc::new(trusted))
}

fn dkim(list: &[&str]) -> TrustPolicy {
    policy(Trusted { dkim: domains(list), ..Trusted::default() })
}

fn checked(result: Word, domain: &str) -> Checked {
    Checked { result, domain: domain.to_owned(), why: "because".to_owned() }
}

fn signed(result: Word, domain: &str, author: &str) -> Authenticity {
    let author = (!author.is_empty()).then(|| author.to_owned());
    Authenticity { author, dkim: vec![checked(result, domain)], ..Authenticity::default() }
}

fn verdict(found: &Authenticity, policy: &TrustPolicy) -> Verdict {
    decide(found, policy).verdict
}

#[test]
fn a_signature_of_a_named_domain_is_trusted_for_its_own_mail() {
    let trust = decide(&signed(Word::Pass, "ccaip.example", "ccaip.example"), &dkim(&["ccaip.example"]));
    assert_eq!(
        serde_json::to_value(&trust).unwrap(),
        serde_json::json!({ "verdict": "pass", "by": "dkim", "domain": "ccaip.example" })
    );
    assert_eq!(trust.to_string(), "trusted by dkim of ccaip.example");
    for (named, domain, author, expected) in [
        ("ccaip.example", "ccaip.example", "mail.ccaip.example", Verdict::Pass),
        ("mail.ccaip.example", "mail.ccaip.example", "ccaip.example", Verdict::Pass),
        ("*.ccaip.example", "eu.ccaip.example", "eu.ccaip.example", Verdict::Pass),
        ("*.ccaip.example", "ccaip.example", "ccaip.example", Verdict::Fail),
        ("ccaip.example", "eu.ccaip.example", "ccaip.example", Verdict::Fail),
        ("ccaip.example", "evilccaip.example", "ccaip.example", Verdict::Fail),
        ("ccaip.example", "ccaip.example", "evil.example", Verdict::Fail),
        ("ccaip.example", "ccaip.example", "", Verdict::Fail),
        ("ccaip.example", "evil.example", "evil.example", Verdict::Fail),
    ] {
        assert_eq!(
            verdict(&signed(Word::Pass, domain, author), &dkim(&[named])),
            expected,
            "{named} {domain} {author}"
        );
    }
    let both = dkim(&["ccaip.example", "acme.example"]);
    assert_eq!(verdict(&signed(Word::Pass, "ccaip.example", "acme.example"), &both), Verdict::Pass);
}

#[test]
fn no_answer_is_unknown_and_a_testing_key_is_like_no_signature() {
    let named = dkim(&["ccaip.example"]);
    let of = |word| verdict(&signed(word, "ccaip.example", "ccaip.example"), &named);
    assert_eq!(of(Word::TempError), Verdict::Unknown);
    assert_eq!(of(Word::Neutral), Verdict::None);
    assert_eq!(of(Word::Fail), Verdict::Fail);
    assert_eq!(of(Word::PermError), Verdict::Fail);
    assert_eq!(verdict(&Authenticity::default(), &named), Verdict::None);
    // What can't be asked about a domain that nobody named changes nothing.
    assert_eq!(verdict(&signed(Word::TempError, "evil.example", "evil.example"), &named), Verdict::Fail);
    let mut two = signed(Word::Fail, "ccaip.example", "ccaip.example");
    two.dkim.push(checked(Word::TempError, "ccaip.example"));
    assert_eq!(verdict(&two, &named), Verdict::Unknown);
    two.dkim.push(checked(Word::Pass, "ccaip.example"));
    assert_eq!(verdict(&two, &named), Verdict::Pass);
}

fn reports(text: &str) -> Vec<Reported> {
    results::parse(format!("mx.acme.example; {text}").as_bytes()).unwrap().1
}

#[test]
fn the_mail_hosts_word_counts_only_if_it_is_asked_for_and_about_a_named_domain() {
    let host = Some("mx.acme.example".to_owned());
    let trusted = Trusted { dkim: domains(&["ccaip.example"]), authentication_results: host, ..Trusted::default() };
    let of = |text: &str, author: &str, trusted: &Trusted| {
        let found =
            Authenticity { author: Some(author.to_owned()), reported: reports(text), ..Authenticity::default() };
        decide(&found, &policy(trusted.clone()))
    };
    let trust = of("dkim=pass header.d=ccaip.example", "ccaip.example", &trusted);
    assert_eq!((trust.verdict, trust.by), (Verdict::Pass, Some(By::AuthenticationResults)));
    for (text, author, expected) in [
        ("dmarc=pass header.from=ccaip.example", "ccaip.example", Verdict::Pass),
        ("dmarc=pass header.from=ccaip.example", "evil.example", Verdict::None),
        ("dkim=pass header.d=evil.example", "ccaip.example", Verdict::None),
        ("dkim=pass header.d=ccaip.example", "evil.example", Verdict::None),
        ("dkim=fail header.d=ccaip.example", "ccaip.example", Verdict::Fail),
        ("spf=pass smtp.mailfrom=a@ccaip.example", "ccaip.example", Verdict::None),
        ("none", "ccaip.example", Verdict::None),
    ] {
        assert_eq!(of(text, author, &trusted).verdict, expected, "{text} {author}");
    }
    let without = Trusted { authentication_results: None, ..trusted };
    assert_eq!(of("dkim=pass header.d=ccaip.example", "ccaip.example", &without).verdict, Verdict::None);
}

#[test]
fn a_seal_counts_from_named_forwarders_for_what_they_had_found() {
    let trusted =
        Trusted { dkim: domains(&["ccaip.example"]), arc: domains(&["sealer.example"]), ..Trusted::default() };
    let of = |result: Word, sealers: &[&str], texts: &[&str]| {
        let chain = Chain {
            result,
            why: String::new(),
            sealers: sealers.iter().map(|s| (*s).to_owned()).collect(),
            results: texts.iter().map(|t| reports(t)).collect(),
        };
        let found =
            Authenticity { author: Some("ccaip.example".to_owned()), arc: Some(chain), ..Authenticity::default() };
        decide(&found, &policy(trusted.clone()))
    };
    let (good, bad) = ("dkim=pass header.d=ccaip.example", "dkim=fail header.d=ccaip.example");
    let trust = of(Word::Pass, &["sealer.example"], &[good]);
    assert_eq!((trust.verdict, trust.by), (Verdict::Pass, Some(By::Arc)));
    assert_eq!(of(Word::Pass, &["sealer.example", "sealer.example"], &[bad, good]).verdict, Verdict::Pass);
    assert_eq!(of(Word::Pass, &["sealer.example", "evil.example"], &[bad, good]).verdict, Verdict::Fail);
    assert_eq!(of(Word::Pass, &["evil.example", "sealer.example"], &[good, good]).verdict, Verdict::Fail);
    assert_eq!(of(Word::Fail, &["sealer.example"], &[good]).verdict, Verdict::Fail);
    assert_eq!(of(Word::TempError, &["sealer.example"], &[good]).verdict, Verdict::Unknown);
    assert_eq!(of(Word::Pass, &["sealer.example"], &["none"]).verdict, Verdict::Fail);
}

#[test]
fn spf_and_tokens_are_evidence_of_their_own() {
    let spf = policy(Trusted { spf: domains(&["ccaip.example"]), ..Trusted::default() });
    let of = |domain: &str, author: &str| Authenticity {
        author: Some(author.to_owned()),
        spf: Some(checked(Word::Pass, domain)),
        ..Authenticity::default()
    };
    assert_eq!(verdict(&of("ccaip.example", "ccaip.example"), &spf), Verdict::Pass);
    assert_eq!(verdict(&of("ccaip.example", "evil.example"), &spf), Verdict::Fail);
    assert_eq!(verdict(&of("evil.example", "ccaip.example"), &spf), Verdict::Fail);
    let token = |token| Authenticity { token, ..Authenticity::default() };
    assert_eq!(verdict(&token(Some(true)), &dkim(&["ccaip.example"])), Verdict::Pass);
    assert_eq!(verdict(&token(Some(false)), &dkim(&["ccaip.example"])), Verdict::Fail);
    assert_eq!(verdict(&token(None), &TrustPolicy::Anyone), Verdict::Pass);
}

#[test]
fn without_a_source_the_authors_own_domain_vouches() {
    assert_eq!(verdict(&signed(Word::Pass, "a.example.com", "example.com"), &TrustPolicy::Author), Verdict::Pass);
    assert_eq!(verdict(&signed(Word::Pass, "evil.example", "ccaip.example"), &TrustPolicy::Author), Verdict::Fail);
    assert_eq!(verdict(&signed(Word::Pass, "example", "ccaip.example"), &TrustPolicy::Author), Verdict::Fail);
}
