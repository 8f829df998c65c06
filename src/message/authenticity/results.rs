//! `Authentication-Results` (RFC 8601 section 2.2) and the same text in an ARC set (RFC 8617 section 4.1.1)
//! → results by method. Only fields that the operator's own host can have written are taken.
//!
//! A field says nothing by itself: everybody can write one. The host named in the configuration must remove
//! those that come in under its name (RFC 8601 section 5); what stands below the `Received` of a foreign
//! host is never taken, and of two fields about one method the newer decides.

use super::Word;
use crate::message::Field;

/// The longest field that is read, in bytes.
const FIELD_BYTES: usize = 16 << 10;
/// The most results of one field.
const RESULTS: usize = 64;

/// One result that a host reported: `dkim=pass header.d=ccaip.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// `dkim`, `spf`, `dmarc`, …, lower case.
    pub method: String,
    /// The result.
    pub result: Word,
    /// `header.d` → `ccaip.example`: names lower case, values as written.
    pub properties: Vec<(String, String)>,
}

impl Reported {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The domain that the result is about, lower case; empty if it names none.
    pub fn domain(&self) -> String {
        let value = match self.method.as_str() {
            "dkim" => self.property("header.d").or_else(|| self.property("header.i")),
            "spf" => self.property("smtp.mailfrom").or_else(|| self.property("smtp.mail")),
            "dmarc" => self.property("header.from"),
            _ => None,
        };
        let value = value.unwrap_or_default();
        let domain = value.rsplit_once('@').map_or(value, |(_, domain)| domain);
        domain.trim_end_matches('.').to_ascii_lowercase()
    }
}

/// What the host with this name reported about the message, as far as it can be its own word.
pub fn reported(fields: &[Field<'_>], host: &str) -> Vec<Reported> {
    let mut all: Vec<Reported> = Vec::new();
    for field in fields {
        if field.name.eq_ignore_ascii_case("Received") && !is_own_hop(&field.unfolded(), host) {
            break;
        }
        if !field.name.eq_ignore_ascii_case("Authentication-Results") {
            continue;
        }
        let Some((id, results)) = parse(&field.value) else { continue };
        if !id.eq_ignore_ascii_case(host) {
            continue;
        }
        let known: Vec<String> = all.iter().map(|r| r.method.clone()).collect();
        all.extend(results.into_iter().filter(|r| !known.contains(&r.method)));
    }
    all
}

/// Whether a `Received` field was written by the host or one of its neighbours: `by` the same name, a name
/// under the same parent, or a hand-over inside one host, which names no peer.
fn is_own_hop(received: &str, host: &str) -> bool {
    let words: Vec<&str> = received.split_whitespace().collect();
    let after =
        |word: &str| words.iter().position(|w| w.eq_ignore_ascii_case(word)).and_then(|at| words.get(at + 1).copied());
    let Some(by) = after("by") else { return false };
    let by = by.trim_end_matches(';').trim_end_matches('.').to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let neighbours = host.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'));
    let is_near = |parent: &str| by.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let is_local = words.first().is_some_and(|first| first.eq_ignore_ascii_case("by"));
    by == host || neighbours.is_some_and(is_near) || is_local
}

/// Reads a field body: the name of the host, and its results. `None` if it is not one.
pub fn parse(value: &[u8]) -> Option<(String, Vec<Reported>)> {
    let value = value.get(..FIELD_BYTES).unwrap_or(value);
    let text = String::from_utf8_lossy(value);
    let mut sections = tokens(&text)?.into_iter();
    let mut head = sections.next()?.into_iter();
    let Token::Word(id) = head.next()? else { return None };
    let results = sections.take(RESULTS).filter_map(|section| result(&section)).collect();
    Some((id, results))
}

/// As `parse`, for `ARC-Authentication-Results`: the instance, then the same.
pub fn parse_arc(value: &[u8]) -> Option<(u32, Vec<Reported>)> {
    let start = value.iter().position(|b| *b == b';')?;
    let instance = std::str::from_utf8(value.get(..start)?).ok()?;
    let (name, number) = instance.split_once('=')?;
    let number = name.trim().eq_ignore_ascii_case("i").then(|| number.trim().parse().ok())??;
    let (_, results) = parse(value.get(start + 1..)?)?;
    Some((number, results))
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Equals,
}

/// The text without comments, in sections between semicolons. `None`: a comment or quote without end.
fn tokens(text: &str) -> Option<Vec<Vec<Token>>> {
    let mut sections = vec![Vec::new()];
    let mut word = String::new();
    let mut chars = text.chars();
    let close = |word: &mut String, sections: &mut Vec<Vec<Token>>| {
        if !word.is_empty()
            && let Some(section) = sections.last_mut()
        {
            section.push(Token::Word(std::mem::take(word)));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '(' => {
                close(&mut word, &mut sections);
                let mut depth = 1;
                while depth > 0 {
                    match chars.next()? {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        '\\' => drop(chars.next()?),
                        _ => {}
                    }
                }
            }
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => word.push(chars.next()?),
                    c => word.push(c),
                }
            },
            ';' => {
                close(&mut word, &mut sections);
                sections.push(Vec::new());
            }
            '=' => {
                close(&mut word, &mut sections);
                if let Some(section) = sections.last_mut() {
                    section.push(Token::Equals);
                }
            }
            c if c.is_whitespace() => close(&mut word, &mut sections),
            c => word.push(c),
        }
    }
    close(&mut word, &mut sections);
    Some(sections)
}

/// `method[/version] = result`, then `reason = …` and `type.property = value`.
fn result(section: &[Token]) -> Option<Reported> {
    let equals = section.iter().position(|token| *token == Token::Equals)?;
    let method: String = section.iter().take(equals).map(|t| if let Token::Word(w) = t { w } else { "" }).collect();
    let method = method.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let [Token::Word(result), rest @ ..] = section.get(equals + 1..)? else { return None };
    let result = Word::from_word(result)?;
    let mut properties: Vec<(String, String)> = Vec::new();
    let mut rest = rest;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if let (Token::Word(name), [Token::Equals, Token::Word(value), tail @ ..]) = (first, tail) {
            let name = name.to_ascii_lowercase();
            // The first of a name counts; a value may end with `=` of base64, which is passed over.
            if !properties.iter().any(|(known, _)| *known == name) {
                properties.push((name, value.clone()));
            }
            rest = tail;
        }
    }
    Some(Reported { method, result, properties })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Limits, parse::parse as message};

    fn one(text: &str) -> Reported {
        parse(text.as_bytes()).unwrap().1.remove(0)
    }

    #[test]
    fn fields_as_large_hosts_write_them_are_read() {
        let (id, results) = parse(
            b" mx.google.com;\r\n       dkim=pass header.i=@ccaip.example header.s=s1 header.b=\"aB+/c=\";\r\n       \
              spf=pass (google.com: domain of bounce@mail.ccaip.example designates 192.0.2.1 as permitted sender) \
              smtp.mailfrom=bounce@mail.ccaip.example;\r\n       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=ccaip.example",
        )
        .unwrap();
        assert_eq!(id, "mx.google.com");
        let shown: Vec<_> = results.iter().map(|r| (r.method.as_str(), r.result, r.domain())).collect();
        assert_eq!(
            shown,
            [
                ("dkim", Word::Pass, "ccaip.example".to_owned()),
                ("spf", Word::Pass, "mail.ccaip.example".to_owned()),
                ("dmarc", Word::Pass, "ccaip.example".to_owned()),
            ]
        );
        assert_eq!(one("mx 1; dkim / 1 = fail").result, Word::Fail);
        assert_eq!(one("mx; dkim=pass reason=\"a ; dkim=fail\" header.d=X.Example.").domain(), "x.example");
        assert_eq!(one("mx; dkim=pass header.b=abc== header.d=x.example").domain(), "x.example");
        assert_eq!(parse(b"mx; none").unwrap().1, []);
        assert_eq!(parse(b"mx; dkim=pass (open"), None);
    }

    #[test]
    fn a_comment_does_not_hide_a_result_and_does_not_make_one() {
        assert_eq!(one("mx; dkim(=pass)=fail header.d=x.example").result, Word::Fail);
        assert_eq!(one("mx; dkim=(pass \\) header.d=evil)fail header.d=x.example").result, Word::Fail);
    }

    fn of(head: &str) -> Vec<(String, Word)> {
        let raw = format!("{head}\r\n\r\nbody");
        let message = message(raw.as_bytes(), &Limits::default());
        reported(&message.fields, "mx.acme.example").into_iter().map(|r| (r.method, r.result)).collect()
    }

    #[test]
    fn only_what_the_own_host_wrote_counts() {
        let own = "Received: from out.ccaip.example by mx.acme.example with ESMTPS; Tue";
        let foreign = "Received: from evil.example by relay.evil.example; Tue";
        let pass = "Authentication-Results: mx.acme.example; dkim=pass header.d=ccaip.example";
        let fail = "Authentication-Results: mx.acme.example; dkim=fail header.d=ccaip.example";
        let yes = vec![("dkim".to_owned(), Word::Pass)];
        assert_eq!(of(&format!("{pass}\r\n{own}")), yes);
        assert_eq!(of(&format!("{own}\r\n{pass}")), yes);
        let inside = "Received: from mx.acme.example by store.acme.example; Tue";
        assert_eq!(of(&format!("{inside}\r\n{own}\r\n{pass}\r\n{foreign}")), yes);
        assert_eq!(of(&format!("Received: by 2002:a05:6a10::1 with SMTP id x; Tue\r\n{own}\r\n{pass}")), yes);
        // Below a foreign hop, of another host, or contradicted by a newer field.
        assert_eq!(of(&format!("{own}\r\n{foreign}\r\n{pass}")), []);
        assert_eq!(of(&format!("{foreign}\r\n{pass}")), []);
        assert_eq!(of(&pass.replace("mx.acme", "mx.evil")), []);
        assert_eq!(of(&format!("{own}\r\n{fail}\r\n{pass}")), [("dkim".to_owned(), Word::Fail)]);
        assert_eq!(of(&format!("{own}\r\n{}\r\n{pass}", fail.replace("dkim=fail", "dkim=none"))).len(), 1);
    }

    #[test]
    fn the_results_of_an_arc_set_carry_their_instance() {
        let (instance, results) =
            parse_arc(b" i=2; mx.google.com;\r\n dkim=pass header.i=@ccaip.example; arc=pass (i=1)").unwrap();
        assert_eq!((instance, results.len()), (2, 2));
        assert_eq!(parse_arc(b"mx.google.com; dkim=pass"), None);
    }
}
