//! Damaged and hostile mail: whatever the bytes, `parse` answers, in bounded time, parts and memory.
//!
//! Every mail of `fixtures/mail` and of `robustness/` is cut, bent and rewrapped with a fixed seed; the
//! bombs below it are the worst that a stranger can send within the size limit.

use std::path::Path;
use std::time::{Duration, Instant};

use mail2crm::message::parse::parse;
use mail2crm::message::{Limits, Message};
use mail2crm::outcome::Reason;
use memchr::memmem;

/// The mails to damage, with their names.
fn mails() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut mails = Vec::new();
    for folder in ["tests/it/robustness", "fixtures/mail"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            if path.extension().is_some_and(|extension| extension == "eml") {
                mails.push((path.display().to_string(), std::fs::read(&path).expect("a readable mail")));
            }
        }
    }
    mails.sort();
    assert!(mails.len() >= 6, "the mails to damage are gone");
    mails
}

/// Parses and checks what must hold for any bytes.
fn check(name: &str, raw: &[u8]) {
    let limits = Limits::default();
    let message = parse(raw, &limits);
    let content: usize = message.parts.iter().map(|part| part.content.len()).sum();
    assert!(message.parts.len() <= limits.parts, "{name}");
    // The widest charset makes three bytes of one; beside it only what is packed grows, within its limits.
    let is_packed = ["H4sI", "UEsDB", "eJ8+"].iter().any(|start| memmem::find(raw, start.as_bytes()).is_some());
    let unpacked =
        if is_packed { (raw.len() * limits.unpacked_ratio).max(1 << 20).min(limits.unpacked_bytes) } else { 0 };
    assert!(content <= raw.len() * 3 + 64 + unpacked, "{name}: {content} bytes from {}", raw.len());
    assert!(message.notes.len() <= 60, "{name}");
    assert!(message.refusal.is_some() || !message.parts.is_empty() || raw.len() < 10_000, "{name}: nothing came of it");
    let mut places: Vec<&str> = message.parts.iter().map(|part| part.place.as_str()).collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "{name}: two parts in one place");
    assert!(message.notes.iter().all(|note| !note.contains("could not be read as MIME")), "{name}: a panic inside");
}

#[test]
fn a_mail_cut_at_any_point_is_still_read() {
    for (name, raw) in mails() {
        let step = (raw.len() / 400).max(1);
        for end in (0..raw.len()).step_by(step) {
            check(&format!("{name} cut at {end}"), &raw[..end]);
            check(&format!("{name} from {end}"), &raw[end..]);
        }
    }
}

#[test]
fn a_mail_with_bent_bytes_is_still_read() {
    let mut random = fastrand::Rng::with_seed(48_213);
    for (name, raw) in mails() {
        for round in 0..150 {
            let mut bent = raw.clone();
            for _ in 0..random.usize(1..20) {
                let at = random.usize(..bent.len());
                match random.u8(..5) {
                    0 => bent[at] = random.u8(..),
                    1 => bent[at] ^= 1 << random.u8(..8),
                    2 => drop(bent.remove(at)),
                    3 => bent.insert(at, *random.choice(b"\r\n-=?:;\"<>(),\\ \0\xff").unwrap()),
                    _ => {
                        let from = random.usize(..bent.len());
                        let piece = bent[from..(from + random.usize(..200)).min(bent.len())].to_vec();
                        bent.splice(at..at, piece);
                    }
                }
            }
            check(&format!("{name} bent {round}"), &bent);
        }
    }
}

fn digest(message: &Message<'_>) -> Vec<(String, String)> {
    let text = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n").trim_end().to_owned();
    message.parts.iter().map(|part| (part.place.clone(), text(&part.text()))).collect()
}

#[test]
fn the_kind_of_line_end_does_not_matter() {
    for (name, raw) in mails() {
        let limits = Limits::default();
        let lf: Vec<u8> = raw.iter().copied().filter(|b| *b != b'\r').collect();
        let crlf: Vec<u8> = lf.iter().flat_map(|b| if *b == b'\n' { b"\r\n".to_vec() } else { vec![*b] }).collect();
        let cr: Vec<u8> = lf.iter().map(|b| if *b == b'\n' { b'\r' } else { *b }).collect();
        // Nested messages in base64 keep their own line ends.
        let expected = digest(&parse(&crlf, &limits));
        assert_eq!(digest(&parse(&lf, &limits)), expected, "{name} with LF");
        assert_eq!(digest(&parse(&cr, &limits)), expected, "{name} with CR");
    }
}

/// Parses within a second, also without optimisation, and gives the reason of the refusal.
fn bomb(name: &str, raw: &[u8]) -> Option<Reason> {
    let start = Instant::now();
    check(name, raw);
    let reason = parse(raw, &Limits::default()).refusal.map(|(reason, _)| reason);
    assert!(start.elapsed() < Duration::from_secs(2), "{name}: twice in {:?}", start.elapsed());
    reason
}

#[test]
fn depth_bombs_are_refused() {
    let mut multiparts = String::new();
    for level in 0..10_000 {
        multiparts += &format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n");
    }
    assert_eq!(bomb("nested multiparts", multiparts.as_bytes()), Some(Reason::TooDeep));
    let same = "Content-Type: multipart/mixed; boundary=b\n\n--b\n".repeat(10_000);
    assert_eq!(bomb("multiparts with one boundary", same.as_bytes()), Some(Reason::TooLarge));
    let messages = "Content-Type: message/rfc822\n\n".repeat(100_000);
    assert_eq!(bomb("nested messages", messages.as_bytes()), Some(Reason::TooDeep));
    let digests = "Content-Type: multipart/digest; boundary=b\n\n--b\n\n".repeat(10_000);
    assert_eq!(bomb("digests in digests", digests.as_bytes()), Some(Reason::TooLarge));
}

#[test]
fn encoded_messages_in_encoded_messages_are_refused() {
    use base64::Engine as _;
    let mut raw = "Subject: in\n\nx".to_owned();
    for _ in 0..17 {
        let encoded = base64::engine::general_purpose::STANDARD.encode(&raw);
        raw = format!("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{encoded}");
    }
    assert_eq!(bomb("encoded messages", raw.as_bytes()), Some(Reason::TooDeep));
}

#[test]
fn a_hundred_thousand_parts_are_refused() {
    let head = "Content-Type: multipart/mixed; boundary=b\n\n";
    let named = "--b\nContent-Type: application/json; name=a.json\nContent-Transfer-Encoding: base64\n\nAA==\n";
    assert_eq!(bomb("parts", (head.to_owned() + &named.repeat(100_000)).as_bytes()), Some(Reason::TooLarge));
    assert_eq!(bomb("999 parts", (head.to_owned() + &named.repeat(999)).as_bytes()), None);
}

#[test]
fn endless_header_fields_are_refused_or_read_in_time() {
    for name in ["Subject", "From", "To", "Content-Type", "X-Other", "Message-ID", "Date"] {
        let long = format!("{name}: {}\n\nbody\n", "a".repeat(1 << 20));
        assert_eq!(bomb(name, long.as_bytes()), Some(Reason::TooLarge));
        for piece in [
            "a",
            "(",
            "<",
            "\"",
            "\\",
            "=?",
            "=?utf-8?q?",
            "=?utf-8?q?a?= ",
            ",",
            "a@b,",
            ":;",
            ";a=",
            ";a*0=b",
            ";a*1*=''%",
            "\n ",
            "\u{fffd}",
        ] {
            let value = piece.repeat(200_000 / piece.len());
            bomb(&format!("{name}: {piece}"), format!("{name}: x{value}\n\nbody\n").as_bytes());
        }
    }
    let many = "To: a@x.example\n".repeat(15_000);
    bomb("many fields", format!("{many}\nbody\n").as_bytes());
}

#[test]
fn hostile_part_headers_cost_no_more_than_their_length() {
    for piece in [";a*1*=''%", "=?utf-8?q?", "(", ";a=b", "\\"] {
        let field = format!("Content-Type: text/x{}\n", piece.repeat(2_000 / piece.len()));
        let part = format!("--b\n{field}Content-Disposition: x{}\n\nx\n", piece.repeat(2_000 / piece.len()));
        let raw = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", part.repeat(900));
        bomb(piece, raw.as_bytes());
    }
}

#[test]
fn boundaries_that_nearly_fit_cost_no_more_than_their_length() {
    let head = "Content-Type: multipart/mixed; boundary=-\n\n--- \n\n";
    bomb("dashes", format!("{head}{}", "-".repeat(4 << 20)).as_bytes());
    bomb("dash lines", format!("{head}{}", "---x\n".repeat(1 << 20)).as_bytes());
    let guess = format!("Content-Type: multipart/mixed\n\n{}", "--x\n\n".repeat(200_000));
    bomb("guessed", guess.as_bytes());
}
