//! What a mail server says it can do (RFC 3501 section 7.2.1): from a greeting, a CAPABILITY line, or the words of one.
//! What turns out not to be so is forgotten for the connection.

use std::collections::BTreeSet;

use tracing::debug;

/// What a server says it can do, in upper case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// From the words of a CAPABILITY line.
    pub(super) fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        Self(words.into_iter().map(str::to_ascii_uppercase).collect())
    }

    /// The capabilities in an untagged line, or in the code of a status line.
    pub(super) fn in_line(line: &str) -> Self {
        let upper = line.to_ascii_uppercase();
        let list = upper.strip_prefix("* CAPABILITY ").or_else(|| {
            upper.split_once("[CAPABILITY ").and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list)
        });
        Self::of(list.unwrap_or_default().split_whitespace())
    }

    /// Whether this word is among them; give it in upper case.
    pub(super) fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether mailboxes have a HIGHESTMODSEQ; QRESYNC is not without (RFC 7162 section 3.2).
    pub(super) fn has_modseq(&self) -> bool {
        self.has("CONDSTORE") || self.has("QRESYNC")
    }

    /// Believes a server no more that said it can do this and then knows no such command.
    pub(super) fn forget(&mut self, words: &[&str]) {
        debug!("the mail server offers {words:?} but takes no command for it");
        self.0.retain(|one| !words.contains(&one.as_str()));
    }

    /// Whether the server said anything at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that matter to this source, for people.
    pub(super) fn of_interest(&self) -> String {
        let words = ["IDLE", "MOVE", "UIDPLUS", "CONDSTORE", "LIST-STATUS", "NOTIFY"];
        let found: Vec<_> = words.into_iter().filter(|word| self.has(word)).collect();
        if found.is_empty() { "none of IDLE, MOVE, UIDPLUS".to_owned() } else { found.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_found_in_both_places() {
        let untagged = Capabilities::in_line("* CAPABILITY IMAP4rev1 starttls LOGINDISABLED");
        assert!(untagged.has("STARTTLS") && untagged.has("LOGINDISABLED"));
        let greeting = Capabilities::in_line("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] Dovecot ready.");
        assert!(greeting.has("AUTH=PLAIN") && !greeting.has("READY."));
        assert!(Capabilities::in_line("* OK hello").is_empty());
    }

    #[test]
    fn what_is_not_so_is_forgotten() {
        let mut offered = Capabilities::of(["qresync", "Move"]);
        assert!(offered.has_modseq());
        assert_eq!(offered.of_interest(), "MOVE");
        offered.forget(&["CONDSTORE", "QRESYNC"]);
        assert!(!offered.has_modseq() && offered.has("MOVE"));
    }
}
