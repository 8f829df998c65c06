//! A zone file in the form of RFC 1035 section 5 → answers without the network: for tests, and to look at
//! mail offline. TXT, A, AAAA, MX, PTR and CNAME; `$ORIGIN`, `@`, parentheses, quotes and comments; TTLs
//! and the class are passed over. Every name that is not there does not exist.
//!
//! One more word stands for trouble: `name SERVFAIL` is a name about which DNS does not answer.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dmarc::Dmarc;
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::spf::Spf;
use mail_auth::{DnsError, DnssecStatus, Error, MX, RecordSet, ResolverCache, Txt};

use super::dns::Missing;
use crate::diagnostic::{Diagnostics, SourceFile};

/// DNS: there is no such name.
pub(super) const NOT_THERE: ResponseCode = ResponseCode::NXDomain;
/// How many names may lead from one to the next.
const ALIASES: usize = 8;

/// The records of a zone file, by name (lower case, with its final dot).
pub struct Zone {
    texts: HashMap<String, Result<Vec<Vec<u8>>, Missing>>,
    pub(super) spf: Answers<Box<str>, Txt>,
    pub(super) mx: Answers<Box<str>, RecordSet<MX>>,
    pub(super) a: Answers<Box<str>, RecordSet<Ipv4Addr>>,
    pub(super) aaaa: Answers<Box<str>, RecordSet<Ipv6Addr>>,
    pub(super) ptr: Answers<IpAddr, RecordSet<Box<str>>>,
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("texts", &self.texts.len()).finish_non_exhaustive()
    }
}

/// What the crate's checks are told; a name that is not known gets the last answer.
pub(super) struct Answers<K, V> {
    known: HashMap<K, V>,
    otherwise: V,
}

impl<K: Hash + Eq, V: Clone> ResolverCache<K, V> for Answers<K, V> {
    fn get<Q>(&self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(self.known.get(name).unwrap_or(&self.otherwise).clone())
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: K, _: V, _: std::time::Instant) {}
}

/// The records of one name as they are written.
#[derive(Debug, Default, Clone)]
struct Records {
    texts: Vec<Vec<u8>>,
    a: Vec<Ipv4Addr>,
    aaaa: Vec<Ipv6Addr>,
    mx: Vec<(u16, String)>,
    ptr: Vec<String>,
    alias: Option<String>,
    fails: bool,
}

impl Zone {
    /// Reads a zone file, or says all that is wrong with it.
    pub fn parse(file: &SourceFile) -> Result<Self, Diagnostics> {
        let mut faults = Diagnostics::new();
        let mut records: BTreeMap<String, Records> = BTreeMap::new();
        let mut origin = ".".to_owned();
        let mut owner: Option<String> = None;
        for entry in entries(&file.text) {
            let fault = |code, sentence: String| file.fault(entry.start..entry.start + 1, code, sentence);
            let mut words = entry.words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>();
            if words.first() == Some(&"$ORIGIN") {
                origin = absolute(words.get(1).copied().unwrap_or("."), &origin);
                continue;
            }
            if words.first().is_some_and(|word| word.starts_with('$')) {
                if words.first() != Some(&"$TTL") {
                    faults.push(fault("not_supported", "only `$ORIGIN` and `$TTL` are known".to_owned()));
                }
                continue;
            }
            if !entry.continues && !words.is_empty() {
                owner = Some(absolute(words.remove(0), &origin));
            }
            while words.first().is_some_and(|w| w.eq_ignore_ascii_case("IN") || w.bytes().all(|b| b.is_ascii_digit())) {
                words.remove(0);
            }
            let (Some(name), Some((kind, data))) = (&owner, words.split_first()) else {
                faults.push(fault("zone_syntax", "this is no record: write `name TYPE data`".to_owned()));
                continue;
            };
            if let Err(sentence) = records.entry(name.clone()).or_default().add(kind, data, &origin) {
                faults.push(fault("zone_syntax", sentence).hint("TXT, A, AAAA, MX, PTR, CNAME and SERVFAIL are read"));
            }
        }
        faults.into_result(Self::of(&records))
    }

    fn of(records: &BTreeMap<String, Records>) -> Self {
        let not_there = || Txt::Error(Error::Dns(DnsError::RecordNotFound(NOT_THERE)));
        let mut zone = Self {
            texts: HashMap::new(),
            spf: Answers { known: HashMap::new(), otherwise: not_there() },
            mx: Answers { known: HashMap::new(), otherwise: set(Vec::new()) },
            a: Answers { known: HashMap::new(), otherwise: set(Vec::new()) },
            aaaa: Answers { known: HashMap::new(), otherwise: set(Vec::new()) },
            ptr: Answers { known: HashMap::new(), otherwise: set(Vec::new()) },
        };
        for name in records.keys() {
            let Some(found) = followed(records, name) else { continue };
            let key: Box<str> = name.as_str().into();
            if found.fails {
                let why = "the zone file says that DNS does not answer";
                zone.texts.insert(name.clone(), Err(Missing::NoAnswer(why.to_owned())));
                zone.spf.known.insert(key, Txt::Error(Error::Dns(DnsError::Resolver(why.to_owned()))));
                continue;
            }
            if !found.texts.is_empty() {
                zone.texts.insert(name.clone(), Ok(found.texts.clone()));
                zone.spf.known.insert(key.clone(), policy_record(name, &found.texts).unwrap_or_else(not_there));
            }
            if !found.a.is_empty() {
                zone.a.known.insert(key.clone(), set(found.a.clone()));
            }
            if !found.aaaa.is_empty() {
                zone.aaaa.known.insert(key.clone(), set(found.aaaa.clone()));
            }
            if !found.mx.is_empty() {
                let hosts = found
                    .mx
                    .iter()
                    .map(|(preference, host)| MX { preference: *preference, exchanges: [host.as_str().into()].into() });
                zone.mx.known.insert(key, set(hosts.collect()));
            }
            if let Some(address) = reversed(name) {
                let names: Vec<Box<str>> = found.ptr.iter().map(|host| host.as_str().into()).collect();
                zone.ptr.known.insert(address, set(names));
            }
        }
        zone
    }

    /// The TXT records of a name.
    pub(super) fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, Missing> {
        self.texts.get(name).cloned().unwrap_or(Err(Missing::NotThere))
    }
}

fn set<T>(records: Vec<T>) -> RecordSet<T> {
    RecordSet { rrset: records.into(), dnssec_status: DnssecStatus::Indeterminate }
}

/// What stands at the end of a row of aliases.
fn followed<'a>(records: &'a BTreeMap<String, Records>, name: &str) -> Option<&'a Records> {
    let mut found = records.get(name)?;
    for _ in 0..ALIASES {
        match &found.alias {
            Some(next) => found = records.get(next)?,
            None => return Some(found),
        }
    }
    None
}

/// SPF or DMARC, as the crate wants it.
fn policy_record(name: &str, texts: &[Vec<u8>]) -> Option<Txt> {
    if name.starts_with("_dmarc.") {
        return texts.iter().find_map(|text| Dmarc::parse(text).ok()).map(|dmarc| Txt::Dmarc(Arc::new(dmarc)));
    }
    texts.iter().find_map(|text| Spf::parse(text).ok()).map(|spf| Txt::Spf(Arc::new(spf)))
}

/// `1.2.0.192.in-addr.arpa.` → 192.0.2.1.
fn reversed(name: &str) -> Option<IpAddr> {
    let labels = name.strip_suffix(".in-addr.arpa.")?;
    let numbers: Vec<u8> = labels.split('.').rev().map(|n| n.parse().ok()).collect::<Option<_>>()?;
    Some(IpAddr::from(<[u8; 4]>::try_from(numbers).ok()?))
}

impl Records {
    fn add(&mut self, kind: &str, data: &[&str], origin: &str) -> Result<(), String> {
        let first = || data.first().copied().ok_or_else(|| format!("`{kind}` without data"));
        match kind.to_ascii_uppercase().as_str() {
            "TXT" => {
                first()?;
                let text = data.concat();
                if text.to_ascii_lowercase().starts_with("v=spf1") && text.contains("exists:") {
                    return Err("`exists` of SPF can't be answered from a file".to_owned());
                }
                self.texts.push(text.into_bytes());
            }
            "A" => self.a.push(first()?.parse().map_err(|_| "this is no IPv4 address".to_owned())?),
            "AAAA" => self.aaaa.push(first()?.parse().map_err(|_| "this is no IPv6 address".to_owned())?),
            "MX" => match data {
                [preference, host] => {
                    let preference = preference.parse().map_err(|_| "`MX` begins with a number".to_owned())?;
                    self.mx.push((preference, absolute(host, origin)));
                }
                _ => return Err("`MX` needs a number and a host".to_owned()),
            },
            "PTR" => self.ptr.push(absolute(first()?, origin)),
            "CNAME" => self.alias = Some(absolute(first()?, origin)),
            "SERVFAIL" => self.fails = true,
            "SOA" | "NS" => {}
            _ => return Err(format!("records of type `{kind}` are not read")),
        }
        Ok(())
    }
}

fn absolute(name: &str, origin: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "@" => origin.to_owned(),
        _ if name.ends_with('.') => name,
        _ if origin == "." => name + ".",
        _ => format!("{name}.{origin}"),
    }
}

/// One record or directive, its lines joined.
struct Entry {
    /// Where it begins in the file.
    start: usize,
    /// It begins with white space: the name is the one before.
    continues: bool,
    words: Vec<Word>,
}

struct Word {
    text: String,
}

fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut entry = Entry { start: 0, continues: false, words: Vec::new() };
    let (mut depth, mut at_start) = (0_u32, true);
    let mut word: Option<String> = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if at_start {
            entry = Entry { start: at, continues: c == ' ' || c == '\t', words: Vec::new() };
            at_start = false;
        }
        let ends_word = c.is_whitespace() || matches!(c, ';' | '(' | ')' | '"');
        if ends_word && let Some(text) = word.take() {
            entry.words.push(Word { text });
        }
        match c {
            '"' => {
                let mut quoted = String::new();
                while let Some((_, c)) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => quoted.extend(chars.next().map(|(_, c)| c)),
                        c => quoted.push(c),
                    }
                }
                entry.words.push(Word { text: quoted });
            }
            ';' => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '\n' if depth == 0 => {
                at_start = true;
                if !entry.words.is_empty() {
                    entries
                        .push(std::mem::replace(&mut entry, Entry { start: at, continues: false, words: Vec::new() }));
                }
            }
            c if c.is_whitespace() => {}
            c => word.get_or_insert_default().push(c),
        }
    }
    entry.words.extend(word.map(|text| Word { text }));
    if !entry.words.is_empty() {
        entries.push(entry);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> Result<Zone, Diagnostics> {
        Zone::parse(&SourceFile::new("test.zone", text))
    }

    #[test]
    fn records_are_read_as_zone_files_write_them() {
        let zone = zone(
            "$ORIGIN ccaip.example.\n$TTL 3600\n; a comment\n\
             @ IN TXT \"v=spf1 \" \"-all\" ; two strings\n\
             s1._domainkey 300 IN TXT ( \"v=DKIM1; \"\n   \"p=abc\" )\n\
             \tTXT second\n\
             S2._DomainKey CNAME s1._domainkey\n\
             other.example. TXT \"a \\\" quote; no comment\"\n\
             down SERVFAIL\n\
             @ MX 10 mx\nmx A 192.0.2.1\nmx AAAA 2001:db8::1\n1.2.0.192.in-addr.arpa. PTR mx\n",
        )
        .unwrap();
        let texts = |name: &str| {
            zone.txt(name).map(|t| t.into_iter().map(|t| String::from_utf8(t).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(texts("ccaip.example."), Ok(vec!["v=spf1 -all".to_owned()]));
        let key = Ok(vec!["v=DKIM1; p=abc".to_owned(), "second".to_owned()]);
        assert_eq!(texts("s1._domainkey.ccaip.example."), key);
        assert_eq!(texts("s2._domainkey.ccaip.example."), key);
        assert_eq!(texts("other.example."), Ok(vec!["a \" quote; no comment".to_owned()]));
        assert!(matches!(texts("down.ccaip.example."), Err(Missing::NoAnswer(_))));
        assert_eq!(texts("none.ccaip.example."), Err(Missing::NotThere));
        assert_eq!(zone.a.get("mx.ccaip.example.").unwrap().rrset.as_ref(), [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(zone.mx.get("ccaip.example.").unwrap().rrset[0].exchanges[0].as_ref(), "mx.ccaip.example.");
        assert_eq!(zone.ptr.get(&IpAddr::from([192, 0, 2, 1])).unwrap().rrset.len(), 1);
        assert!(zone.aaaa.get("x.").unwrap().rrset.is_empty());
    }

    #[test]
    fn all_faults_are_told_with_their_line() {
        let faults = zone("a A 1.2.3\nb LOC x\nc MX mx\n$INCLUDE f\nd TXT\n").unwrap_err();
        let lines: Vec<u32> = faults.sorted().iter().map(|f| f.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }
}
