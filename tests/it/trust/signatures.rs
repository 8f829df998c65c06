//! DKIM: signatures that hold, and each attack on one.

use super::*;

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
async fn the_alignment_that_the_authors_domain_asks_for_is_kept() {
    let signer = Signer::new("mail.ccaip.example");
    let below = r#"{ dkim = ["mail.ccaip.example"] }"#;
    let (good, eu) = (signer.sign(&mail()), mail().replace("@ccaip.example>", "@eu.mail.ccaip.example>"));
    let eu = signer.sign(&eu);
    let record = |of: &str, tags: &str| format!("_dmarc.{of}. TXT \"v=DMARC1; p=reject; {tags}\"\n");
    let (strict, relaxed) = (record("ccaip.example", "adkim=s"), record("ccaip.example", "adkim=r; aspf=s"));
    let own = record("eu.mail.ccaip.example", "adkim=r");
    for (what, raw, zone, expected) in [
        ("no record", &good, String::new(), Verdict::Pass),
        ("strict", &good, strict.clone(), Verdict::Fail),
        ("relaxed", &good, relaxed.clone(), Verdict::Pass),
        ("two records are none", &good, strict.clone() + &relaxed, Verdict::Pass),
        ("no answer", &good, "_dmarc.ccaip.example. SERVFAIL\n".to_owned(), Verdict::Unknown),
        ("strict far above", &eu, strict.clone(), Verdict::Fail),
        ("its own record goes before", &eu, strict.clone() + &own, Verdict::Pass),
        ("above is no registry", &eu, strict.clone() + &record("mail.ccaip.example", "psd=n"), Verdict::Pass),
        (
            "above is a registry",
            &eu,
            record("ccaip.example", "psd=y; adkim=s") + &record("mail.ccaip.example", ""),
            Verdict::Pass,
        ),
    ] {
        let trust = trust(raw, below, &(zone + &signer.record(""))).await;
        assert_eq!(trust.verdict, expected, "{what}: {trust:?}");
        assert_eq!(trust.why.contains("adkim=s"), expected == Verdict::Fail, "{what}: {trust:?}");
    }
    // An author that the operator names needs none.
    let both = r#"{ dkim = ["mail.ccaip.example", "ccaip.example"] }"#;
    assert_eq!(trust(&good, both, &(strict + &signer.record(""))).await.verdict, Verdict::Pass);
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
