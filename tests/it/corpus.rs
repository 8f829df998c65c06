//! The benchmark corpus is what it says: the same for a seed, as heavy as promised, and its account adds up.

#[path = "../../benches/corpus/mod.rs"]
mod bench;

use std::collections::{BTreeMap, BTreeSet};

use mail_parser::MessageParser;

use self::bench::mail::Shape;
use self::bench::{Mail, Role, Writer};

const COUNT: usize = 2_000;

fn mails(seed: u64) -> Vec<Mail> {
    Writer::new(seed, COUNT).collect()
}

#[test]
fn a_seed_makes_the_same_corpus_again_and_another_seed_another() {
    let again = Writer::new(7, 300).zip(Writer::new(7, 300)).all(|(a, b)| a == b);
    assert!(again);
    assert!(Writer::new(7, 50).zip(Writer::new(8, 50)).all(|(a, b)| a.raw != b.raw));
    let account = |seed| {
        let mut writer = Writer::new(seed, 300);
        assert_eq!(writer.by_ref().count(), 300);
        writer.corpus()
    };
    assert_eq!(account(7), account(7));
}

#[test]
fn the_mix_is_as_promised() {
    let mut writer = Writer::new(1, COUNT);
    let mails: Vec<Mail> = writer.by_ref().collect();
    let corpus = writer.corpus();
    let average = corpus.bytes / corpus.mails as u64;
    assert!((45_000..55_000).contains(&average), "{average} bytes on average");
    let share = |number: usize| number * 100 / COUNT;
    assert!((7..=13).contains(&share(corpus.ordinary)), "{} ordinary", corpus.ordinary);
    assert!((7..=12).contains(&share(corpus.duplicates)), "{} duplicates", corpus.duplicates);
    assert!((24..=33).contains(&share(corpus.others)), "{} second versions", corpus.others);
    let mut shapes: BTreeMap<Shape, usize> = BTreeMap::new();
    mails.iter().for_each(|mail| *shapes.entry(mail.shape).or_default() += 1);
    assert_eq!(shapes.len(), 9, "{shapes:?}");
    assert!(shapes.values().all(|number| share(*number) >= 3), "{shapes:?}");
    let channels: BTreeSet<_> = corpus.expected.values().map(|expected| expected.channel).collect();
    assert_eq!(channels.len(), 2);
}

#[test]
fn the_account_agrees_with_the_mails() {
    let mut writer = Writer::new(3, COUNT);
    let mails: Vec<Mail> = writer.by_ref().collect();
    let corpus = writer.corpus();
    let about: usize = corpus.expected.values().map(|expected| expected.mails).sum();
    assert_eq!(about + corpus.ordinary, COUNT);
    assert_eq!(mails.iter().map(|mail| mail.raw.len() as u64).sum::<u64>(), corpus.bytes);
    assert_eq!(mails.iter().filter(|mail| mail.role == Role::Duplicate).count(), corpus.duplicates);
    let versions: usize = corpus.expected.values().map(|expected| expected.versions).sum();
    assert_eq!(versions, corpus.expected.len() + corpus.others);
    let reversed = corpus.expected.values().filter(|expected| expected.versions > expected.advances).count();
    assert!(reversed > 0, "some newer versions come before the older ones");
    assert!(corpus.expected.keys().next().is_some_and(|record| record == "C-100000"));
    for expected in corpus.expected.values() {
        assert_eq!(expected.newest.out_ticket_id, expected.record);
        // Only the final version has a wrap-up: it is the newest wherever both were sent.
        assert!(expected.versions < 2 || expected.newest.disposition_code.is_some());
        if let Some(document) = &expected.document {
            assert_eq!(document["out_ticket_id"], expected.record.as_str());
            assert_eq!(document["updated_at"], expected.newest.updated_at.as_str());
        }
    }
}

#[test]
fn every_mail_is_well_formed_and_carries_its_record() {
    for mail in mails(5) {
        let message = MessageParser::default().parse(&mail.raw).expect("a message");
        assert!(message.message_id().is_some() && message.date().is_some());
        assert!(!message.parts.iter().any(|part| part.is_encoding_problem), "{:?}", mail.shape);
        let Some(record) = &mail.record else { continue };
        let mut inside = Vec::new();
        collect(&message, &mut inside);
        let named = inside.iter().any(|text| text.contains(record.as_str()));
        assert!(named, "{:?} does not carry {record}", mail.shape);
        let document = inside.iter().find_map(|text| {
            let text = text.get(text.find('{')?..=text.rfind('}')?)?;
            serde_json::from_str::<serde_json::Value>(text).ok()
        });
        match mail.shape {
            Shape::Labels | Shape::Table => assert_eq!(document, None),
            _ => assert_eq!(document.expect("a document")["out_ticket_id"], record.as_str(), "{:?}", mail.shape),
        }
        assert!(mail.raw.is_ascii() || mail.shape == Shape::Attached8Bit, "{:?}", mail.shape);
        let bare = mail.raw.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
        let long = mail.raw.split(|b| *b == b'\n').any(|line| line.len() > 998);
        assert!(!bare && !long, "{:?} has a bare LF or a line over 998", mail.shape);
    }
}

/// All texts and all other content that is UTF-8, nested messages included.
fn collect(message: &mail_parser::Message<'_>, texts: &mut Vec<String>) {
    for part in &message.parts {
        match &part.body {
            mail_parser::PartType::Message(inner) => collect(inner, texts),
            mail_parser::PartType::Html(html) => {
                let text = html.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
                texts.push(text.replace("&amp;", "&"));
            }
            _ => texts.extend(std::str::from_utf8(part.contents()).map(str::to_owned)),
        }
    }
}

#[test]
fn it_is_written_as_a_maildir_in_the_order_of_arrival() {
    let dir = tempfile::tempdir().expect("a directory");
    let corpus = bench::write(dir.path(), 9, 40).expect("written");
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path().join("new")).expect("new").map(|entry| entry.expect("entry").path()).collect();
    names.sort();
    assert_eq!((corpus.mails, names.len()), (40, 40));
    for (path, mail) in names.iter().zip(Writer::new(9, 40)) {
        assert!(std::fs::read(path).expect("a mail") == mail.raw);
    }
}
