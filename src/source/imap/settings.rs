//! What an operator may say about an `imap` source, with defaults and the faults that only the whole shows.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::mailbox;
use crate::oauth2;
use crate::secret::Secret;
use crate::source::Start;
use crate::source::tls::Usual;

/// The largest `max_bytes`: the client library holds a message whole and takes no more than 512 MiB.
const LARGEST: u64 = 384 << 20;

/// `[source.NAME]` with `kind = "imap"`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The mail server's host name, as its certificate says it.
    pub host: String,
    /// The port. Default: 993 for `tls = "implicit"`, else 143.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is secured: `"implicit"` (TLS from the first byte), `"starttls"` (a server that does
    /// not offer it is not logged in to), or `"none"` (only to this machine itself). Default: `"implicit"`.
    #[serde(default)]
    pub tls: Tls,
    /// A PEM file with authorities to trust besides those of the system. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The account's name.
    pub user: String,
    /// The account's password: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`. Either this or `oauth2`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Logs in with an OAuth 2.0 access token instead of a password (OAUTHBEARER or XOAUTH2).
    #[serde(default)]
    pub oauth2: Option<oauth2::Settings>,
    /// The mailbox to read, in plain Unicode with the server's separators (`INBOX/Sessions`). Default: `"INBOX"`.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// Several mailboxes instead of one, each with a place of its own, read over one connection:
    /// `["INBOX", "Sessions/*"]`. In a name `*` stands for anything, `%` for one level of the hierarchy; a mailbox
    /// that appears later is read as well. A pattern takes neither the mailbox that `after` moves to and what is below
    /// it, nor those that the server marks as sent, drafts, junk, trash or a view of all: they are read if named. The
    /// first one is watched with IDLE; the others are looked at every `poll_seconds`, and at once where the server
    /// offers NOTIFY.
    #[serde(default)]
    pub mailboxes: Option<Vec<String>>,
    /// What is read of the mail that is there on first contact: `"now"` (none of it), `"all"`, or what was
    /// received since a date. Default: `"now"`. Later the position in the ledger decides.
    #[serde(default = "now")]
    pub start: Start,
    /// What becomes of a mail once it is safe in the ledger: `"flag"` sets `\Flagged`, and the keyword
    /// `$Mail2crm` where the server keeps keywords; `{ move_to = "Processed" }` moves it; `"delete"` deletes
    /// it; `"nothing"` leaves it untouched (the mailbox is then opened read-only). A mail that was refused
    /// is never deleted, and one that was too large to download neither moved nor deleted. Default: `"flag"`.
    #[serde(default)]
    pub after: After,
    /// Whether the server is asked to tell of new mail at once (IDLE), if it can. Default: `true`.
    #[serde(default = "yes")]
    pub idle: bool,
    /// Seconds between two looks at a mailbox without IDLE. With IDLE it is looked at all the same, every fifth time
    /// of this, at least every 300 s. Default: 60.
    #[serde(default = "sixty")]
    pub poll_seconds: u32,
    /// Seconds without a byte from the server after which a command is given up and the connection made
    /// anew. Default: 60.
    #[serde(default = "sixty")]
    pub timeout_seconds: u32,
    /// The largest message that is downloaded, in bytes; a larger one is recorded as refused
    /// (`too_large`). Default: 52428800 (50 MiB).
    #[serde(default = "fifty_mebibytes")]
    pub max_bytes: u64,
}

/// A mailbox, or a pattern of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) text: &'a str,
    pub(super) is_pattern: bool,
}

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// TLS from the first byte (RFC 8314).
    #[default]
    Implicit,
    /// STARTTLS before anything else (RFC 3501 section 6.2.1).
    Starttls,
    /// In clear: only to a loopback address.
    None,
}

/// What becomes of a mail after the commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It is flagged.
    #[default]
    Flag,
    /// It is moved to this mailbox.
    MoveTo(String),
    /// It is deleted.
    Delete,
    /// It is left as it is.
    Nothing,
}

fn now() -> Start {
    Start::Now
}

fn yes() -> bool {
    true
}

fn sixty() -> u32 {
    60
}

fn fifty_mebibytes() -> u64 {
    50 << 20
}

/// Where such servers are.
const USUAL: Usual = Usual { example: "imap.acme.example", implicit: 993, clear: 143 };

impl Settings {
    /// What is wrong with the whole, as (path of the key, sentence, hint).
    pub fn validate(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = USUAL.faults(&self.host, self.port, self.tls, self.ca_file.is_some());
        let mut fault = |key, sentence: &str, hint: &str| faults.push((key, sentence.to_owned(), hint.to_owned()));
        if self.user.is_empty() {
            fault("user", "`user` is empty", "write the account's name");
        }
        match (&self.password, &self.oauth2) {
            (None, None) => fault("user", "neither `password` nor `oauth2` is there", "write one of them"),
            (Some(_), Some(_)) => fault("password", "`password` and `oauth2` are both there", "remove one of them"),
            _ => {}
        }
        match (&self.mailbox, &self.mailboxes) {
            (Some(_), Some(_)) => fault("mailboxes", "`mailbox` and `mailboxes` are both there", "remove one of them"),
            (Some(one), None) if one.is_empty() => fault("mailbox", "`mailbox` is empty", "leave it out for `INBOX`"),
            (None, Some(several)) if several.is_empty() || several.iter().any(String::is_empty) => {
                let sentence =
                    if several.is_empty() { "`mailboxes` names none" } else { "one of `mailboxes` is empty" };
                fault("mailboxes", sentence, "write names or patterns, such as `[\"INBOX\", \"Sessions/*\"]`");
            }
            _ => {}
        }
        if let After::MoveTo(folder) = &self.after {
            if folder.is_empty() {
                fault("after.move_to", "`move_to` names no mailbox", "write its name, such as `Processed`");
            } else if self.entries().iter().any(|entry| !entry.is_pattern && mailbox::same(entry.text, folder)) {
                fault("after.move_to", "`move_to` is a mailbox that is read", "name another one");
            }
        }
        if self.poll_seconds == 0 {
            fault("poll_seconds", "`poll_seconds` is 0", "write at least 1");
        }
        if self.timeout_seconds == 0 {
            fault("timeout_seconds", "`timeout_seconds` is 0", "write at least 1");
        }
        if !(1..=LARGEST).contains(&self.max_bytes) {
            fault("max_bytes", "`max_bytes` is out of range", "write a number from 1 to 402653184 (384 MiB)");
        }
        faults.extend(self.oauth2.iter().flat_map(oauth2::Settings::validate));
        faults
    }

    /// What is to be read, in the order of the settings.
    pub(super) fn entries(&self) -> Vec<Entry<'_>> {
        match &self.mailboxes {
            Some(several) => several.iter().map(|text| Entry { text, is_pattern: text.contains(['*', '%']) }).collect(),
            None => vec![Entry { text: self.mailbox.as_deref().unwrap_or("INBOX"), is_pattern: false }],
        }
    }

    /// The port, said or usual.
    pub(super) fn port(&self) -> u16 {
        USUAL.port(self.port, self.tls)
    }

    /// How long a silence of the server is borne.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }

    /// How long to wait before looking without being told.
    pub(super) fn period(&self, told_by_server: bool) -> Duration {
        let seconds = u64::from(self.poll_seconds);
        Duration::from_secs(if told_by_server { (seconds * 5).min(300) } else { seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "host = 'imap.acme.example'\nuser = 'u'\npassword = { env = 'P' }\n";

    fn read(more: &str) -> Settings {
        toml::from_str(&format!("{LEAST}{more}")).expect("settings")
    }

    #[test]
    fn three_keys_are_enough() {
        let settings = read("");
        assert_eq!(settings.validate(), []);
        assert_eq!((settings.port(), settings.tls), (993, Tls::Implicit));
        assert_eq!((settings.entries()[0].text, settings.start), ("INBOX", Start::Now));
        assert_eq!((settings.after, settings.idle, settings.max_bytes), (After::Flag, true, 52_428_800));
        assert_eq!(read("tls = 'starttls'").port(), 143);
    }

    #[test]
    fn every_after_action_can_be_said() {
        assert_eq!(read("after = { move_to = 'Done' }").after, After::MoveTo("Done".into()));
        assert_eq!(read("after = 'delete'").after, After::Delete);
        assert_eq!(read("after = 'nothing'").after, After::Nothing);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Settings>(&format!("{LEAST}hots = 1")).expect_err("unknown").to_string();
        assert!(error.contains("hots"), "{error}");
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let settings = read(
            "tls = 'none'\nport = 0\nca_file = 'x'\nmailbox = 'a'\nafter = { move_to = 'a' }\npoll_seconds = 0\n\
             timeout_seconds = 0\nmax_bytes = 0",
        );
        let keys: Vec<_> = settings.validate().into_iter().map(|(key, ..)| key).collect();
        let all = ["tls", "port", "ca_file", "after.move_to", "poll_seconds", "timeout_seconds", "max_bytes"];
        assert_eq!(keys, all);
    }

    #[test]
    fn a_password_or_a_token_but_not_both() {
        let token = "oauth2 = { provider = 'google', client_id = 'c', refresh_token = 'r' }";
        let keys = |settings: Settings| settings.validate().into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        assert_eq!(keys(read(token)), ["password"]);
        assert!(keys(Settings { password: None, ..read(token) }).is_empty());
        assert_eq!(keys(Settings { password: None, ..read("") }), ["user"]);
    }

    #[test]
    fn clear_text_is_only_for_this_machine() {
        for (host, fine) in [("localhost", true), ("127.0.0.1", true), ("::1", true), ("imap.acme.example", false)] {
            assert_eq!(
                Settings { host: host.into(), tls: Tls::None, ..read("") }.validate().is_empty(),
                fine,
                "{host}"
            );
        }
    }

    #[test]
    fn one_mailbox_or_several_or_patterns() {
        let keys = |more: &str| read(more).validate().into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        let several = read("mailboxes = ['INBOX', 'Sessions/*']\nafter = { move_to = 'Sessions/Done' }");
        assert_eq!(several.validate(), []);
        assert_eq!(several.entries()[1], Entry { text: "Sessions/*", is_pattern: true });
        assert!(!read("mailbox = 'a*'").entries()[0].is_pattern);
        assert_eq!(keys("mailbox = 'a'\nmailboxes = ['b']"), ["mailboxes"]);
        assert_eq!(keys("mailbox = ''"), ["mailbox"]);
        assert_eq!((keys("mailboxes = []"), keys("mailboxes = ['a', '']")), (vec!["mailboxes"], vec!["mailboxes"]));
        assert_eq!(keys("mailboxes = ['a', 'Inbox']\nafter = { move_to = 'INBOX' }"), ["after.move_to"]);
    }
}
