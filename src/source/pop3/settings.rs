//! What an operator may say about a `pop3` source, with defaults and the faults that only the whole shows.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::Secret;
use crate::source::Start;
use crate::source::imap::Tls;
use crate::source::tls::Usual;

/// `[source.NAME]` with `kind = "pop3"`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The mail server's host name, as its certificate says it.
    pub host: String,
    /// The port. Default: 995 for `tls = "implicit"`, else 110.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is secured: `"implicit"` (TLS from the first byte), `"starttls"` (STLS; a server that
    /// does not offer it is not logged in to), or `"none"` (only to this machine itself). Default: `"implicit"`.
    #[serde(default)]
    pub tls: Tls,
    /// A PEM file with authorities to trust besides those of the system. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The account's name.
    pub user: String,
    /// The account's password: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`.
    pub password: Secret,
    /// What is read of the mail that is there on first contact: `"now"` (none of it) or `"all"`. Default: `"now"`.
    /// (POP3 does not tell when a mail arrived, so there is no date here.)
    #[serde(default)]
    pub start: Start,
    /// What becomes of a mail once it is safe in the ledger: `"nothing"`, or `"delete"`. A mail that was refused
    /// or was too large is never deleted. Default: `"nothing"`.
    #[serde(default)]
    pub after: After,
    /// Seconds between two looks at the mailbox. Default: 60.
    #[serde(default = "sixty")]
    pub poll_seconds: u32,
    /// Seconds without a byte from the server after which a command is given up. Default: 60.
    #[serde(default = "sixty")]
    pub timeout_seconds: u32,
    /// The largest message that is downloaded, in bytes; a larger one is recorded as refused (`too_large`).
    /// Default: 52428800 (50 MiB).
    #[serde(default = "fifty_mebibytes")]
    pub max_bytes: u64,
}

/// What becomes of a mail after the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It is left in the mailbox.
    #[default]
    Nothing,
    /// It is deleted.
    Delete,
}

fn sixty() -> u32 {
    60
}

fn fifty_mebibytes() -> u64 {
    50 << 20
}

/// Where such servers are.
const USUAL: Usual = Usual { example: "pop.acme.example", implicit: 995, clear: 110 };

impl Settings {
    /// What is wrong with the whole, as (path of the key, sentence, hint).
    pub fn validate(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = USUAL.faults(&self.host, self.port, self.tls, self.ca_file.is_some());
        let mut fault = |key, sentence: &str, hint: &str| faults.push((key, sentence.to_owned(), hint.to_owned()));
        if self.user.is_empty() || self.user.contains(char::is_control) {
            fault("user", "`user` is not a name that POP3 can carry", "write the account's name");
        }
        if matches!(self.start, Start::Since(_)) {
            let hint = "write `\"now\"` or `\"all\"`, or read the mailbox with `kind = \"imap\"`";
            fault("start", "POP3 does not tell when a mail arrived, so `start` can't be a date", hint);
        }
        for (key, is_zero) in [
            ("poll_seconds", self.poll_seconds == 0),
            ("timeout_seconds", self.timeout_seconds == 0),
            ("max_bytes", self.max_bytes == 0),
        ] {
            if is_zero {
                fault(key, &format!("`{key}` is 0"), "write at least 1, or leave it out");
            }
        }
        faults
    }

    /// The port, said or usual.
    pub(super) fn port(&self) -> u16 {
        USUAL.port(self.port, self.tls)
    }

    /// How long a silence of the server is borne.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Settings {
        toml::from_str(&format!("host = 'pop.acme.example'\nuser = 'u'\npassword = {{ env = 'P' }}\n{more}"))
            .expect("settings")
    }

    #[test]
    fn three_keys_are_enough_and_nothing_is_deleted_unless_told() {
        let settings = read("");
        assert_eq!(settings.validate(), []);
        assert_eq!((settings.port(), settings.after, settings.start), (995, After::Nothing, Start::Now));
        assert_eq!(read("tls = 'starttls'").port(), 110);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let settings = read("tls = 'none'\nport = 0\nstart = '2026-02-01'\npoll_seconds = 0\nmax_bytes = 0");
        let keys: Vec<_> = settings.validate().into_iter().map(|(key, ..)| key).collect();
        assert_eq!(keys, ["tls", "port", "start", "poll_seconds", "max_bytes"]);
    }
}
