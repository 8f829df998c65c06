//! `label: value` lines: in any order, with bullets, emphasis and quote marks, with `=`, ` - `, a tab or a
//! table's bar for the colon, the value behind the label or on the next line, notes over several lines.
//!
//! A look at a line costs a few look-ups; prose has no known label at its start and is passed over.

use std::ops::Range;

use memchr::memmem;

use super::Harvest;
use super::block::Block;
use crate::message::forward::begins_message;
use crate::session::evidence::How;
use crate::session::profile::{Label, Profile, Slot};

/// Lines without a label after which a block without an id is given up.
const MAX_GAP: usize = 25;

/// Reads the labelled values of a text, leaving out the ranges that were read as JSON.
pub(super) fn read(text: &str, place: &str, skip: &[Range<usize>], profile: &Profile, harvest: &mut Harvest) {
    let mut reader = Reader::new(place, profile);
    let has_hard_blanks = memmem::find(text.as_bytes(), "\u{a0}".as_bytes()).is_some();
    let (mut offset, mut skip) = (0, skip);
    for (number, raw) in text.split('\n').enumerate() {
        if harvest.is_full() {
            return;
        }
        let start = offset;
        offset += raw.len() + 1;
        // They are in order, so that no line is compared with all of them.
        while let [first, rest @ ..] = skip
            && first.end <= start
        {
            skip = rest;
        }
        if skip.first().is_some_and(|first| offset > first.start) {
            reader.cut(harvest);
            continue;
        }
        let raw = raw.trim_end_matches('\r');
        if has_hard_blanks {
            reader.line(&raw.replace('\u{a0}', " "), number + 1, harvest);
        } else {
            reader.line(raw, number + 1, harvest);
        }
    }
    reader.finish(harvest);
}

/// A value that goes on over the lines below its label.
struct Long {
    label: Label,
    value: String,
    line: usize,
    /// Lines after a blank one: part of the value only if the session goes on behind them.
    tail: String,
    after_blank: bool,
}

struct Reader<'r> {
    place: &'r str,
    profile: &'r Profile,
    block: Block,
    /// A label whose value is still to come, its line, and how many blank lines ago that was.
    open: Option<(Label, usize, usize)>,
    long: Option<Long>,
    gap: usize,
    /// Values stand a blank line below their labels.
    spaced: bool,
    scratch: String,
}

impl<'r> Reader<'r> {
    fn new(place: &'r str, profile: &'r Profile) -> Self {
        Self {
            place,
            profile,
            block: Block::default(),
            open: None,
            long: None,
            gap: 0,
            spaced: false,
            scratch: String::new(),
        }
    }

    fn line(&mut self, raw: &str, number: usize, harvest: &mut Harvest) {
        let flowed = raw.ends_with(' ') && !raw.trim().is_empty();
        let line = undress(raw);
        if line.is_empty() {
            self.blank();
            return;
        }
        if ends_message(line) {
            self.cut(harvest);
            return;
        }
        if let Some((label, value)) = self.label_in(line, false) {
            self.labelled(label, value, number, harvest);
            return;
        }
        if let Some((label, at, blanks)) = self.open {
            let fits =
                blanks == 0 || self.spaced || (label.slot == Slot::Id && line.bytes().all(|b| b.is_ascii_digit()));
            self.open = None;
            if fits {
                self.spaced |= blanks > 0;
                self.value(label, line, if label.form.is_long() { at } else { number }, harvest);
                return;
            }
        }
        if let Some(long) = &mut self.long {
            let to = if long.after_blank { &mut long.tail } else { &mut long.value };
            if to.len() < 64 << 10 {
                if !to.is_empty() && !to.ends_with(' ') {
                    to.push('\n');
                }
                to.push_str(line);
                if flowed {
                    to.push(' ');
                }
            }
            return;
        }
        self.gap += 1;
        if self.gap > MAX_GAP && !self.block.is_empty() {
            let done = std::mem::take(&mut self.block);
            done.finish(How::Labels, self.place, harvest);
        }
    }

    fn blank(&mut self) {
        if let Some((_, _, blanks)) = &mut self.open {
            *blanks += 1;
        }
        if let Some(long) = &mut self.long {
            if long.after_blank && !long.tail.is_empty() {
                long.tail.push('\n');
            } else if !long.value.is_empty() {
                long.after_blank = true;
            }
        }
    }

    fn labelled(&mut self, label: Label, value: &str, number: usize, harvest: &mut Harvest) {
        let mut next = Some((label, value));
        // A line may hold as many as it has room for: no call for each.
        while let Some((label, value)) = next {
            self.gap = 0;
            self.close_long(label.slot != Slot::Id);
            self.open = None;
            let (value, rest) = if label.form.is_long() { (value, None) } else { self.inline(value) };
            if value.is_empty() {
                self.open = Some((label, number, 0));
            } else {
                self.value(label, value, number, harvest);
            }
            next = rest;
        }
    }

    fn value(&mut self, label: Label, value: &str, number: usize, harvest: &mut Harvest) {
        if self.block.contradicts(label, value, self.profile) {
            let done = std::mem::take(&mut self.block);
            done.finish(How::Labels, self.place, harvest);
        }
        if label.form.is_long() {
            let (value, tail) = (value.to_owned(), String::new());
            self.long = Some(Long { label, value, line: number, tail, after_blank: false });
            return;
        }
        self.add(label, value, number);
    }

    fn add(&mut self, label: Label, value: &str, number: usize) {
        let place = self.place;
        self.block.add(label, value, self.profile, &|| format!("{place}, line {number}"));
    }

    /// Ends a long value; what came after a blank line is part of it if the same session goes on.
    fn close_long(&mut self, goes_on: bool) {
        let Some(mut long) = self.long.take() else { return };
        if goes_on && !long.tail.trim().is_empty() {
            long.value.push_str("\n\n");
            long.value.push_str(long.tail.trim());
        }
        let value = std::mem::take(&mut long.value);
        self.add(long.label, &value, long.line);
    }

    /// A message or a document begins: nothing goes on over it.
    fn cut(&mut self, harvest: &mut Harvest) {
        self.close_long(false);
        self.open = None;
        if self.block.has_id() {
            let done = std::mem::take(&mut self.block);
            done.finish(How::Labels, self.place, harvest);
        }
    }

    fn finish(mut self, harvest: &mut Harvest) {
        self.close_long(false);
        self.block.finish(How::Labels, self.place, harvest);
    }

    /// The label that a line begins with, and what follows it.
    fn label_in<'l>(&mut self, line: &'l str, strict: bool) -> Option<(Label, &'l str)> {
        if line.starts_with(['"', '“', '{', '}', '[', ']']) {
            return None;
        }
        let most = self.profile.longest_label() + 24;
        let bytes = line.as_bytes();
        for (i, c) in line.char_indices().take(most) {
            let (length, firm) = match c {
                ':' | '：' | '=' | '\t' => (c.len_utf8(), true),
                '|' => (1, false),
                '-' | '–' | '—'
                    if i > 0
                        && bytes.get(i - 1) == Some(&b' ')
                        && line.get(i + c.len_utf8()..).is_some_and(|r| r.starts_with(' ')) =>
                {
                    (c.len_utf8(), false)
                }
                ' ' if bytes.get(i + 1) == Some(&b' ') => (2, false),
                _ => continue,
            };
            if strict && !firm {
                continue;
            }
            let left = line.get(..i).unwrap_or("");
            let Some(label) = self.profile.label(left, &mut self.scratch) else {
                // Within a line this is asked behind every comma: the first mark decides.
                if strict {
                    return None;
                }
                continue;
            };
            if label.weak && !firm && self.block.is_empty() {
                continue;
            }
            let mut value = line.get(i + length..).unwrap_or("").trim();
            if c == '\t' || c == '|' || c == ' ' {
                // `Label : value` and `Label =  value`, in columns.
                value = value.trim_start_matches([':', '=']).trim();
            }
            // `**Label:** value`
            value = value
                .strip_prefix("**")
                .or_else(|| value.strip_prefix('*').filter(|v| v.starts_with(' ')))
                .unwrap_or(value);
            return Some((label, value.trim()));
        }
        if strict || line.char_indices().nth(most).is_some() {
            return None;
        }
        // A label alone on its line.
        let label = self.profile.label(line, &mut self.scratch)?;
        (!label.weak || !self.block.is_empty()).then_some((label, ""))
    }

    /// Splits `48213, OutTicket ID: C-1` before the second label.
    fn inline<'l>(&mut self, value: &'l str) -> (&'l str, Option<(Label, &'l str)>) {
        if value.len() < 5 || !value.contains([':', '=']) {
            return (value, None);
        }
        // Up to here no label begins: a run of separators is looked behind once.
        let mut tried = 0;
        for (i, c) in value.char_indices() {
            if i < tried {
                continue;
            }
            let is_gap =
                matches!(c, ',' | ';' | '|' | '\t' | '•' | '·') || value.get(i..).is_some_and(|r| r.starts_with("  "));
            if !is_gap {
                continue;
            }
            let rest = value.get(i + c.len_utf8()..).unwrap_or("").trim_start_matches([' ', '\t', '|', ',', ';']);
            tried = value.len() - rest.len();
            if let Some((label, inner)) = self.label_in(rest, true)
                && !label.weak
            {
                return (value.get(..i).unwrap_or("").trim(), Some((label, inner)));
            }
        }
        (value.trim_end_matches('|').trim_end(), None)
    }
}

/// A line without quote marks, bullets, numbering, emphasis and bars before it.
fn undress(raw: &str) -> &str {
    let mut line = raw.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}');
    while let Some(rest) = line.strip_prefix('>') {
        line = rest.trim_start();
    }
    line = line.strip_prefix('|').map_or(line, |rest| rest.trim_end_matches('|').trim());
    for bullet in ["* ", "- ", "• ", "· ", "‣ ", "– ", "◦ ", "▪ ", "+ ", "*\t", "-\t", "•\t"] {
        if let Some(rest) = line.strip_prefix(bullet) {
            line = rest.trim_start();
            break;
        }
    }
    line.strip_prefix("**").or_else(|| line.strip_prefix('*')).or_else(|| line.strip_prefix("__")).unwrap_or(line)
}

/// True for lines at which a message ends: signature marks, headers of quoted and forwarded messages.
fn ends_message(line: &str) -> bool {
    if line == "--" {
        return true;
    }
    let starts = |prefix: &str| line.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    starts("-----")
        || starts("_____")
        || starts("=====")
        || starts("Begin forwarded message")
        || starts("Sent from my ")
        || begins_message(line)
        || (starts("On ") && line.ends_with("wrote:"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn documents(text: &str) -> Vec<Value> {
        let mut harvest = Harvest::default();
        read(text, "text body", &[], Profile::builtin(), &mut harvest);
        harvest.found.into_iter().map(|c| c.document).collect()
    }

    #[test]
    fn labels_of_every_dress_are_read() {
        let expected = json!({ "id": "48213", "out_ticket_id": "C-1", "status": "finished" });
        for text in [
            "Session ID: 48213\nOutTicket ID: C-1\nSession status: finished",
            "OutTicket ID = C-1\nSession status = finished\nSession ID = 48213",
            "> Session ID: 48213\n> OutTicket ID: C-1\n> Session status: finished",
            "* Session ID: 48213\n* OutTicket ID: C-1 <https://crm.example/C-1>\n* Session status: finished",
            "**Session ID:** 48213\n**OutTicket ID:** C-1\n**Session status:** finished",
            "*Session ID:* 48213\n*OutTicket ID:* C-1\n*Session status:* finished",
            "Session ID\t48213\nOutTicket ID\tC-1\nSession status\tfinished",
            "| Session ID | 48213 |\n|---|---|\n| OutTicket ID | C-1 |\n| Session status | finished |",
            "Session ID      48213\nOutTicket ID    C-1\nSession status  finished",
            "Session ID - 48213\nOutTicket ID – C-1\nSession status — finished",
            "Session ID:\n48213\nOutTicket ID:\nC-1\nSession status:\nfinished",
            "Session ID\n48213\nOutTicket ID\nC-1\nSession status\nfinished",
            "Session ID\n\n48213\n\nOutTicket ID\n\nC-1\n\nSession status\n\nfinished",
            "Session ID: 48213, OutTicket ID: C-1, Session status: finished",
            "Session ID: 48213 | OutTicket ID: C-1 | Session status: finished",
            "session_id: 48213\r\nout_ticket_id: C-1\r\nstatus: finished\r\n",
            "SESSION ID : 48213\nTicket ID : C-1\nStatus : finished",
        ] {
            let got = documents(text);
            assert_eq!(got.len(), 1, "{text}");
            for (key, value) in expected.as_object().expect("an object") {
                assert_eq!(got[0].get(key), Some(value), "{key} in {text}");
            }
        }
    }

    #[test]
    fn notes_go_on_to_the_next_label_and_end_with_the_mail() {
        let got = documents(
            "Session ID: 1\nDisposition: Resolved; First line\nsecond line\n\nthird: line\n\nRating: 4\nComment: Fine\nthanks\n\nRegards,\nThe bridge\n",
        );
        assert_eq!(
            got[0]["dispositions"],
            json!([{ "code": "Resolved", "note": "First line\nsecond line\n\nthird: line" }])
        );
        assert_eq!(got[0]["feedback"], "Fine\nthanks");
        assert_eq!(got[0]["rating"], "4");
    }

    #[test]
    fn each_session_has_its_own_block() {
        let got = documents(
            "Session ID: 1\nOutTicket ID: A\nStatus: finished\nComment: x\n\n=== next ===\nSession ID: 2\nOutTicket ID: B\nStatus: failed",
        );
        assert_eq!(got.len(), 2);
        assert_eq!((&got[0]["feedback"], &got[1]["out_ticket_id"]), (&json!("x"), &json!("B")));
        let reversed = documents(
            "OutTicket ID: A\nStatus: finished\nSession ID: 1\nOutTicket ID: B\nStatus: failed\nSession ID: 2",
        );
        assert_eq!((&reversed[0]["out_ticket_id"], &reversed[1]["out_ticket_id"]), (&json!("A"), &json!("B")));
    }

    #[test]
    fn ordinary_mail_has_no_session() {
        for text in [
            "Dear team,\n\nthe status: all fine.\nSession at 10: bring your notes\nCall me: 555-1234\n",
            "Ticket ID: 5\nStatus: open\nCreated: today\nAgent: Bob",
            "Session ID: 48213",
            "ID: 48213\nStatus: open\nCreated: 2026-02-17T10:02:11Z\nPriority: 3",
        ] {
            assert!(documents(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_id_that_is_no_number_is_told() {
        let mut harvest = Harvest::default();
        read(
            "Session ID: ABC\nOutTicket ID: C-1\nStatus: finished\nRating: 3",
            "text body",
            &[],
            Profile::builtin(),
            &mut harvest,
        );
        assert_eq!((harvest.found.len(), harvest.broken.len()), (0, 1));
    }
}
