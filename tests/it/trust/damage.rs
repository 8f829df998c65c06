//! Whatever is done to a signed mail on its way: if it is still trusted, it says the same.

use super::*;

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
