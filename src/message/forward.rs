//! The header blocks that mail programs put into a body when they forward or quote a message inline → whose
//! message it was, when and about what. Outlook, Gmail, Apple, Thunderbird and Yahoo differ in their marks, but
//! all write lines `From: …`, `Date: …`, `Subject: …` in the language of the user: the lines decide here, and
//! the words are a table (`forward/words.toml`). Says what a body claims: nothing in it is proof of a sender.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use super::html;

/// How a message came to be inside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// As a part or file of its own, its head intact.
    Attached,
    /// As text in the body of the other.
    Inline,
}

/// A message inside another, as far as its head is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Original {
    /// The address of its sender, the domain in lower case.
    pub from: Option<String>,
    /// When it was sent. Inline forwards mostly show no offset: then this is `None`.
    pub date: Option<Timestamp>,
    /// The time on the wall, as an inline forward shows it.
    pub local: Option<civil::DateTime>,
    /// Its subject.
    pub subject: Option<String>,
    /// Attached or inline.
    pub how: Forward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    From,
    Date,
    Subject,
    Other,
}

/// The words of the mail programs, by what they mean.
struct Words {
    heads: HashMap<String, Word>,
    /// How the names of months begin, the longest first.
    months: Vec<(String, i8)>,
}

/// `words.toml` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Language {
    from: Vec<String>,
    date: Vec<String>,
    subject: Vec<String>,
    other: Vec<String>,
    months: [String; 12],
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let text = include_str!("forward/words.toml");
    let languages: BTreeMap<String, Language> =
        toml::from_str(text).unwrap_or_else(|fault| unreachable!("a constant table: {fault}"));
    let (mut heads, mut months) = (HashMap::new(), Vec::new());
    for language in languages.into_values() {
        let kinds = [(Word::From, language.from), (Word::Date, language.date), (Word::Subject, language.subject)];
        for (word, names) in kinds.into_iter().chain([(Word::Other, language.other)]) {
            for name in names {
                // `a` and the like are words of several languages, and mean the same in each.
                heads.entry(name).or_insert(word);
            }
        }
        for (number, names) in (1..).zip(&language.months) {
            months.extend(names.split_whitespace().map(|name| (name.to_owned(), number)));
        }
    }
    months.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    Words { heads, months }
});

/// Bytes of a word before a colon.
const MAX_NAME: usize = 48;
/// Lines of one head, folded ones with it.
const MAX_LINES: usize = 16;
/// Messages told from one body.
const MAX_FOUND: usize = 32;

/// The heads of inline forwards and quotations in a text, outermost first.
pub fn inline(text: &str) -> Vec<Original> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if found.len() >= MAX_FOUND {
            break;
        }
        let Some((word, value)) = header(line) else { continue };
        let mut block = Block::default();
        block.take(word, value);
        for _ in 0..MAX_LINES {
            let Some(next) = lines.peek() else { break };
            let goes_on = match header(next) {
                // A second sender is another message's; so is a second subject.
                Some((word, _)) if block.has(word) => false,
                Some((word, value)) => block.take(word, value),
                None => block.goes_on_over(undress(next)),
            };
            if !goes_on {
                break;
            }
            lines.next();
        }
        found.extend(block.finish());
    }
    found
}

/// One head that is being read.
#[derive(Default)]
struct Block {
    /// The words so far, and what those three say that matter.
    known: Vec<Word>,
    from: Option<String>,
    date: Option<Timestamp>,
    local: Option<civil::DateTime>,
    subject: Option<String>,
    /// Lines since the last word.
    folded: usize,
    blanks: usize,
}

impl Block {
    fn has(&self, word: Word) -> bool {
        word != Word::Other && self.known.contains(&word)
    }

    fn take(&mut self, word: Word, value: &str) -> bool {
        self.known.push(word);
        self.folded = 0;
        match word {
            Word::From => self.from = address(value),
            Word::Date => (self.local, self.date) = when(value),
            Word::Subject => {
                let subject = value.trim_matches('*').trim();
                self.subject = (!subject.is_empty()).then(|| subject.to_owned());
            }
            Word::Other => {}
        }
        true
    }

    /// Whether the head may go on behind a line without a word.
    fn goes_on_over(&mut self, line: &str) -> bool {
        if line.is_empty() {
            // Some programs make a paragraph of each line.
            self.blanks += 1;
            return self.known.len() < 3 && self.blanks < 5;
        }
        // A long value goes on in the next line, once or twice.
        self.folded += 1;
        if self.known.last() == Some(&Word::From) && self.from.is_none() && self.folded == 1 {
            self.from = address(line);
        }
        self.folded <= 2
    }

    fn finish(self) -> Option<Original> {
        let told = [self.from.is_some(), self.local.is_some(), self.subject.is_some()];
        let is_head = self.known.len() >= 3 && self.has(Word::From) && told.iter().filter(|is| **is).count() >= 2;
        let Self { from, date, local, subject, .. } = self;
        is_head.then_some(Original { from, date, local, subject, how: Forward::Inline })
    }
}

/// The same for an HTML body.
pub fn inline_html(html: &str) -> Vec<Original> {
    inline(&html::read(html).text)
}

/// True if a line is the first of such a head, as far as one line can say it.
pub fn begins_message(line: &str) -> bool {
    matches!(header(line), Some((Word::From, value)) if !value.is_empty())
}

/// `*From:* value`, whatever the quoting before it.
fn header(line: &str) -> Option<(Word, &str)> {
    let line = undress(line);
    let colon = line.char_indices().take(28).find(|(_, c)| matches!(c, ':' | '：'))?;
    let (at, mark) = (colon.0, colon.1.len_utf8());
    let name = line.get(..at)?.trim_matches(|c: char| c == '*' || c.is_whitespace());
    let value = line.get(at + mark..)?.trim_start_matches('*').trim();
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let word = if name.is_ascii() {
        let mut lower = [0; MAX_NAME];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        WORDS.heads.get(std::str::from_utf8(lower).ok()?)?
    } else {
        WORDS.heads.get(&name.to_lowercase())?
    };
    Some((*word, value))
}

fn undress(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '>' | '|' | '\u{200b}' | '\u{feff}'))
}

/// The first address in a text such as `Pia <pia@X.example>` or `Pia [mailto:pia@x.example]`.
fn address(text: &str) -> Option<String> {
    let at = text.find('@')?;
    let fits = |c: char| {
        !c.is_whitespace() && !matches!(c, '<' | '>' | '[' | ']' | '(' | ')' | '"' | '\'' | ',' | ';' | ':' | '*')
    };
    let local = text.get(..at)?.rsplit(|c| !fits(c)).next()?;
    let domain = text.get(at + 1..)?.split(|c| !fits(c) || c == '@').next()?.trim_end_matches('.');
    (!local.is_empty() && domain.contains('.')).then(|| format!("{local}@{}", domain.to_lowercase()))
}

/// A date as mail programs show it: the time on the wall, and the instant if an offset is told. Numbers alone
/// such as `2/3/2026` may mean two days, and then mean none.
fn when(text: &str) -> (Option<civil::DateTime>, Option<Timestamp>) {
    let local = read_local(text);
    let instant = local.zip(offset(text)).and_then(|(local, offset)| offset.to_timestamp(local).ok());
    (local, instant)
}

fn read_local(text: &str) -> Option<civil::DateTime> {
    let text = text.get(..text.char_indices().nth(80).map_or(text.len(), |(i, _)| i))?.to_lowercase();
    let (hour, minute, second) = clock(&text);
    let mut numbers: Vec<i16> = Vec::new();
    let mut month = None;
    for word in text.split(|c: char| !c.is_alphanumeric() && c != ':') {
        if word.contains(':') || word.len() > 40 {
            continue;
        }
        // `2026年2月17日`, `17th`, and the `T` of ISO 8601.
        for piece in word.split(|c: char| !c.is_ascii_digit()).filter(|p| !p.is_empty() && p.len() <= 4) {
            numbers.extend(piece.parse::<i16>().ok());
        }
        if let Some((_, number)) = WORDS.months.iter().find(|(start, _)| word.starts_with(start.as_str()))
            && numbers.iter().filter(|n| **n > 31).count() == 0
        {
            month = Some(*number);
        }
    }
    let year_at = numbers.iter().position(|n| (1990..=2100).contains(n))?;
    let year = *numbers.get(year_at)?;
    let at = |index: usize| numbers.get(index).copied();
    let (month, day) = match month {
        Some(month) => (month, if year_at > 0 { at(year_at - 1)? } else { at(1)? }),
        None if year_at == 0 => (i8::try_from(at(1)?).ok()?, at(2)?),
        None => {
            let (first, second) = (at(year_at.checked_sub(2)?)?, at(year_at - 1)?);
            let day_first = text.contains('.') && !text.contains('/');
            match (first, second) {
                (day, month) if day_first || day > 12 || day == month => (i8::try_from(month).ok()?, day),
                (month, day) if day > 12 => (i8::try_from(month).ok()?, day),
                _ => return None,
            }
        }
    };
    civil::DateTime::new(year, month, i8::try_from(day).ok()?, hour, minute, second, 0).ok()
}

/// `10:11`, `10:11:31`, `1:05 PM`.
fn clock(text: &str) -> (i8, i8, i8) {
    let Some(at) = text.find(':') else { return (0, 0, 0) };
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    let before = text.get(..at).unwrap_or("");
    let hour: String = before.chars().rev().take_while(char::is_ascii_digit).collect();
    let mut hour: i8 = hour.chars().rev().collect::<String>().parse().unwrap_or(0);
    let after = text.get(at + 1..).unwrap_or("");
    let minute = digits(after);
    let rest = after.get(minute.len()..).unwrap_or("");
    let second = rest.strip_prefix(':').map(digits).unwrap_or_default();
    let rest = rest.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit() || c.is_whitespace());
    if rest.starts_with('p') && hour < 12 {
        hour += 12;
    } else if rest.starts_with("am") && hour == 12 {
        hour = 0;
    }
    (hour, minute.parse().unwrap_or(0), second.parse().unwrap_or(0))
}

/// `+0100`, `-06:00`, `GMT-6`, `UTC` behind the time.
fn offset(text: &str) -> Option<Offset> {
    let (_, tail) = text.split_once(':')?;
    let tail = tail.trim_end_matches([')', ' ']);
    if let Some(at) = tail.rfind(['+', '-', '−']) {
        let sign = if tail.get(at..)?.starts_with('+') { 1 } else { -1 };
        let digits: String = tail.get(at..)?.chars().skip(1).filter(char::is_ascii_digit).take(4).collect();
        let number: i32 = digits.parse().ok()?;
        let (hours, minutes) = if digits.len() > 2 { (number / 100, number % 100) } else { (number, 0) };
        return Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok();
    }
    (tail.ends_with("UTC") || tail.ends_with("GMT") || tail.ends_with('Z')).then_some(Offset::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (String, String, String, bool) {
        let all = inline(text);
        assert_eq!(all.len(), 1, "{text}");
        let one = &all[0];
        (
            one.from.clone().unwrap_or_default(),
            one.local.map(|l| l.to_string()).unwrap_or_default(),
            one.subject.clone().unwrap_or_default(),
            one.date.is_some(),
        )
    }

    #[test]
    fn the_heads_of_every_client_and_language_are_read() {
        let sent = "2026-02-17T16:11:00";
        for text in [
            "Hi\n\n---------- Forwarded message ---------\nFrom: Centre <noreply@CC.example>\nDate: Tue, 17 Feb 2026 at 16:11\nSubject: Session 1\nTo: <a@x.example>\n\n\nbody",
            "Begin forwarded message:\n\nFrom: Centre <noreply@cc.example>\nSubject: Session 1\nDate: 17 February 2026 at 16:11:00\nTo: a@x.example\n\nbody",
            "-----Original Message-----\r\nFrom: Centre [mailto:noreply@cc.example]\r\nSent: Tuesday, February 17, 2026 4:11 PM\r\nTo: Ida\r\nSubject: Session 1\r\n\r\nbody",
            "________________________________\nVon: Centre <noreply@cc.example>\nGesendet: Dienstag, 17. Februar 2026 16:11\nAn: Ida <a@x.example>\nBetreff: Session 1\n\nbody",
            "De : Centre <noreply@cc.example>\nEnvoyé : mardi 17 février 2026 16:11\nÀ : Ida\nObjet : Session 1\n",
            "De: Centre <noreply@cc.example>\nEnviado el: martes, 17 de febrero de 2026 16:11\nPara: Ida\nAsunto: Session 1\n",
            "Da: Centre <noreply@cc.example>\nInviato: martedì 17 febbraio 2026 16:11\nA: Ida\nOggetto: Session 1\n",
            "De: Centre <noreply@cc.example>\nEnviada em: terça-feira, 17 de fevereiro de 2026 16:11\nPara: Ida\nAssunto: Session 1\n",
            "Van: Centre <noreply@cc.example>\nVerzonden: dinsdag 17 februari 2026 16:11\nAan: Ida\nOnderwerp: Session 1\n",
            "Från: Centre <noreply@cc.example>\nSkickat: den 17 februari 2026 16:11\nTill: Ida\nÄmne: Session 1\n",
            "Fra: Centre <noreply@cc.example>\nSendt: 17. februar 2026 16:11\nTil: Ida\nEmne: Session 1\n",
            "Od: Centre <noreply@cc.example>\nWysłano: wtorek, 17 lutego 2026 16:11\nDo: Ida\nTemat: Session 1\n",
            "差出人: Centre <noreply@cc.example>\n送信日時: 2026年2月17日 16:11\n宛先: Ida\n件名: Session 1\n",
            "-------- Forwarded Message --------\nSubject: \tSession 1\nDate: \tTue, 17 Feb 2026 16:11\nFrom: \tCentre <noreply@cc.example>\nTo: \tida@x.example\n\nbody",
            "> *From:* Centre <noreply@cc.example>\n> *Sent:* 17/02/2026 16:11\n> *Subject:* Session 1\n> \n> body",
            "| From: Centre\n| <noreply@cc.example>\n| Date: 2026-02-17 16:11\n| Subject: Session 1\n",
        ] {
            let expected = ("noreply@cc.example".to_owned(), sent.to_owned(), "Session 1".to_owned(), false);
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn an_instant_needs_an_offset_and_numbers_that_mean_two_days_mean_none() {
        let date = |text: &str| when(text).1.map(|d| d.to_string());
        assert_eq!(date("Tue, 17 Feb 2026 10:11:31 -0600").as_deref(), Some("2026-02-17T16:11:31Z"));
        assert_eq!(date("17 February 2026 at 10:11:31 GMT-6").as_deref(), Some("2026-02-17T16:11:31Z"));
        assert_eq!(date("Tue, 17 Feb 2026 at 10:11"), None);
        assert_eq!(when("2/3/2026 10:11").0, None);
        assert!(when("02.03.2026 10:11").0.is_some_and(|d| d.month() == 3));
    }

    #[test]
    fn nested_forwards_come_outermost_first_and_html_is_read() {
        let html = "<div><b>From:</b> Ida &lt;ida@x.example&gt;<br><b>Sent:</b> Tuesday, March 3, 2026 9:12 AM<br><b>Subject:</b> FW: a</div>\
            <blockquote><p>From: Centre &lt;noreply@cc.example&gt;</p><p>Date: Mon, 2 Mar 2026 at 10:00</p><p>Subject: a</p></blockquote>";
        let all = inline_html(html);
        assert_eq!(
            all.iter().map(|o| o.from.as_deref()).collect::<Vec<_>>(),
            [Some("ida@x.example"), Some("noreply@cc.example")]
        );
    }

    #[test]
    fn prose_and_labels_are_no_heads() {
        for text in [
            "From: noon\nTo: midnight\nnothing happens",
            "From: a@x.example",
            "Session ID: 1\nFrom: +15550100\nStatus: finished",
            "",
        ] {
            assert_eq!(inline(text), [], "{text}");
        }
        for end in 0..200 {
            let text = "差出人: ü@x.example\n送信日時: 2026年2月17日\n件名: é".chars().take(end).collect::<String>();
            inline(&text);
            inline_html(&format!("<p{text}"));
        }
    }
}
