//! A seeded corpus: the mails that a night at a contact centre leaves in a mailbox, about 50 KB each on
//! average, and what must come of them.
//!
//! Every shape that ordinary mail has (JSON attached, in a body, forwarded; labelled text and tables; mails
//! about nothing of ours), voice and chat, with duplicates and with second versions that mostly come after
//! the first. The same seed and count give the same bytes on every machine. All names and numbers are made up.

pub(crate) mod document;
pub(crate) mod mail;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use fastrand::Rng;
use serde::Serialize;
use serde_json::Value;

use self::document::{Channel, Facts};
use self::mail::{Paper, Shape};

/// The number of the first record.
const FIRST_RECORD: usize = 100_000;
/// Of 100 mails: no session in them.
const ORDINARY: usize = 10;
/// Of 100 mails: sent before.
const DUPLICATES: usize = 9;
/// Of 100 mails: the other version of a session that has been seen.
const OTHERS: usize = 27;
/// Of 100 sessions: the newer version comes first.
const REVERSED: usize = 4;

/// One mail of the corpus.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mail {
    /// The message, with CR LF.
    pub(crate) raw: Vec<u8>,
    /// How it carries its session.
    pub(crate) shape: Shape,
    /// The record it is about, if it is about one.
    pub(crate) record: Option<String>,
    /// What it is among the mails about its record.
    pub(crate) role: Role,
}

/// What a mail is among those about the same record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// About no record.
    Ordinary,
    /// The first about its record.
    First,
    /// The other version of its session.
    Other,
    /// Content that was sent before.
    Duplicate,
}

/// What must be known of one record when all mails are through.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Expected {
    /// `C-…`.
    pub(crate) record: String,
    /// `voice` or `chat`.
    pub(crate) channel: &'static str,
    /// Mails about it.
    pub(crate) mails: usize,
    /// Different versions among them.
    pub(crate) versions: usize,
    /// Versions that were newer than all before when they came: what changes the record if the mails are
    /// taken in order.
    pub(crate) advances: usize,
    /// The newest version: what every shape carries, under the session's names.
    pub(crate) newest: Facts,
    /// The newest version as the document that was sent; nothing if it came as labelled text.
    pub(crate) document: Option<Value>,
}

/// What a corpus consists of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Corpus {
    /// Mails.
    pub(crate) mails: usize,
    /// Bytes of all mails.
    pub(crate) bytes: u64,
    /// Mails without a session.
    pub(crate) ordinary: usize,
    /// Mails whose content was sent before.
    pub(crate) duplicates: usize,
    /// Mails with the other version of a session.
    pub(crate) others: usize,
    /// Per record.
    pub(crate) expected: BTreeMap<String, Expected>,
}

/// Writes `count` mails into the Maildir `dir` (made if need be), named so that they sort as they came.
pub(crate) fn write(dir: &Path, seed: u64, count: usize) -> io::Result<Corpus> {
    for name in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    let new = dir.join("new");
    let mut writer = Writer::new(seed, count);
    for (i, mail) in writer.by_ref().enumerate() {
        // Seconds, then a number: the order of names is the order of arrival.
        std::fs::write(new.join(format!("{}.{i:07}.corpus", document::EPOCH + i as i64)), &mail.raw)?;
    }
    Ok(writer.corpus())
}

/// Makes the mails one by one, and keeps the account of what must come of them.
pub(crate) struct Writer {
    random: Rng,
    paper: Paper,
    left: usize,
    corpus: Corpus,
    sessions: Vec<Known>,
    /// Sessions whose other version has not been sent.
    waiting: Vec<usize>,
}

/// A session that has been written about.
struct Known {
    record: String,
    channel: Channel,
    labelled: bool,
    /// Older and newer.
    versions: [Facts; 2],
    /// Which of them have been sent.
    sent: [bool; 2],
    /// The last mail about it.
    last: (Vec<u8>, Shape),
}

impl Writer {
    /// The mails of this seed, `count` of them.
    pub(crate) fn new(seed: u64, count: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let paper = Paper::new(&mut random);
        Self { random, paper, left: count, corpus: Corpus::default(), sessions: Vec::new(), waiting: Vec::new() }
    }

    /// The account, for the mails made so far.
    pub(crate) fn corpus(mut self) -> Corpus {
        for known in self.sessions {
            let newest = usize::from(known.sent[1]);
            let facts = known.versions[newest].clone();
            if let Some(expected) = self.corpus.expected.get_mut(&known.record) {
                expected.document = (!known.labelled).then(|| document::document(known.channel, &facts));
                expected.newest = facts;
            }
        }
        self.corpus
    }

    fn fresh(&mut self) -> Mail {
        let number = self.sessions.len();
        let channel = if self.random.usize(..100) < 65 { Channel::Voice } else { Channel::Chat };
        let record = format!("C-{}", FIRST_RECORD + number);
        let newer = Facts::new(&mut self.random, channel, number, &record);
        let versions = [newer.first_export(&mut self.random), newer];
        let labelled = self.random.usize(..100) < 22;
        let which = usize::from(self.random.usize(..100) < REVERSED);
        let mut sent = [false; 2];
        sent[which] = true;
        let shape = Shape::pick(&mut self.random, labelled);
        let raw = self.paper.session(&mut self.random, shape, channel, &versions[which]);
        self.waiting.push(number);
        self.corpus.expected.insert(
            record.clone(),
            Expected {
                record: record.clone(),
                channel: channel.name(),
                mails: 1,
                versions: 1,
                advances: 1,
                newest: versions[which].clone(),
                document: None,
            },
        );
        let last = (raw.clone(), shape);
        self.sessions.push(Known { record: record.clone(), channel, labelled, versions, sent, last });
        Mail { raw, shape, record: Some(record), role: Role::First }
    }

    /// The other version of a session, if one waits.
    fn other(&mut self) -> Option<Mail> {
        if self.waiting.is_empty() {
            return None;
        }
        let at = self.random.usize(..self.waiting.len());
        let number = self.waiting.swap_remove(at);
        let known = &mut self.sessions[number];
        let which = usize::from(known.sent[0]);
        known.sent[which] = true;
        let shape = Shape::pick(&mut self.random, known.labelled);
        let raw = self.paper.session(&mut self.random, shape, known.channel, &known.versions[which]);
        known.last = (raw.clone(), shape);
        if let Some(expected) = self.corpus.expected.get_mut(&known.record) {
            expected.mails += 1;
            expected.versions += 1;
            expected.advances += which;
        }
        self.corpus.others += 1;
        Some(Mail { raw, shape, record: Some(known.record.clone()), role: Role::Other })
    }

    /// A mail about a session once more: the same bytes, or the same content under another Message-ID.
    fn duplicate(&mut self) -> Option<Mail> {
        if self.sessions.is_empty() {
            return None;
        }
        let known = &self.sessions[self.random.usize(..self.sessions.len())];
        let (raw, shape) = &known.last;
        let raw = if self.random.bool() { raw.clone() } else { mail::readdressed(raw, &mut self.random) };
        if let Some(expected) = self.corpus.expected.get_mut(&known.record) {
            expected.mails += 1;
        }
        self.corpus.duplicates += 1;
        Some(Mail { raw, shape: *shape, record: Some(known.record.clone()), role: Role::Duplicate })
    }
}

impl Iterator for Writer {
    type Item = Mail;

    fn next(&mut self) -> Option<Mail> {
        self.left = self.left.checked_sub(1)?;
        let roll = self.random.usize(..100);
        let mail = if roll < ORDINARY {
            self.corpus.ordinary += 1;
            let raw = self.paper.ordinary(&mut self.random);
            Some(Mail { raw, shape: Shape::Ordinary, record: None, role: Role::Ordinary })
        } else if roll < ORDINARY + DUPLICATES {
            self.duplicate()
        } else if roll < ORDINARY + DUPLICATES + OTHERS {
            self.other()
        } else {
            None
        };
        let mail = match mail {
            Some(mail) => mail,
            None => self.fresh(),
        };
        self.corpus.mails += 1;
        self.corpus.bytes += mail.raw.len() as u64;
        Some(mail)
    }
}
