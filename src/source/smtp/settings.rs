//! What an operator may say about an `smtp` source, with defaults and the faults that only the whole shows.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::listen;

/// `[source.NAME]` with `kind = "smtp"`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to listen, as `ADDRESS:PORT`. Default: `"127.0.0.1:2525"`, for a mail server on this machine.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// `"smtp"`, or `"lmtp"` (RFC 2033) for a mail server that hands over what it takes as delivered. Default:
    /// `"smtp"`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whose mail is taken: addresses (`"sessions@acme.example"`, which takes `sessions+anything@…` as well),
    /// domains (`"@acme.example"`), or `"*"`. Mail to anybody else is refused: nothing is ever relayed.
    pub recipients: Vec<String>,
    /// How connections are secured: `"none"`, `"starttls"` (offered), `"starttls_required"` (no mail is taken
    /// without), or `"implicit"` (TLS from the first byte). Default: `"none"`.
    #[serde(default)]
    pub tls: Tls,
    /// A PEM file with the certificate and those between it and its authority. Read again when it changes.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[serde(default)]
    pub private_key: Option<PathBuf>,
    /// The name in the greeting. Default: `"localhost"`.
    #[serde(default = "hostname")]
    pub hostname: String,
    /// The largest message that is taken, in bytes. Default: 52428800 (50 MiB).
    #[serde(default = "fifty_mebibytes")]
    pub max_bytes: usize,
    /// Recipients of one message. Default: 100.
    #[serde(default = "hundred")]
    pub max_recipients: usize,
    /// Connections at a time, in all. Default: 200.
    #[serde(default = "two_hundred")]
    pub max_connections: usize,
    /// Connections at a time from one address. Default: 50.
    #[serde(default = "fifty")]
    pub max_connections_per_peer: usize,
    /// Seconds that a silence of the other side is borne (RFC 5321 section 4.5.3.2). Default: 300.
    #[serde(default = "three_hundred")]
    pub timeout_seconds: u32,
}

/// Which of the two protocols is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// RFC 5321: one answer for a message.
    #[default]
    Smtp,
    /// RFC 2033: one answer for each recipient.
    Lmtp,
}

/// How connections are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// In clear.
    #[default]
    None,
    /// RFC 3207, for those who want it.
    Starttls,
    /// RFC 3207, before any mail.
    StarttlsRequired,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

fn default_listen() -> String {
    "127.0.0.1:2525".to_owned()
}

fn hostname() -> String {
    "localhost".to_owned()
}

fn fifty_mebibytes() -> usize {
    50 << 20
}

fn fifty() -> usize {
    50
}

fn hundred() -> usize {
    100
}

fn two_hundred() -> usize {
    200
}

fn three_hundred() -> u32 {
    300
}

impl Settings {
    /// What is wrong with the whole, as (path of the key, sentence, hint).
    pub fn validate(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::from_iter(listen::fault_of(&self.listen));
        let mut fault = |key, sentence: String, hint: &str| faults.push((key, sentence, hint.to_owned()));
        if self.recipients.is_empty() {
            let hint = "name addresses or domains, such as `[\"sessions@acme.example\"]`, or write `[\"*\"]` for any";
            fault("recipients", "`recipients` is empty: no mail would be taken".to_owned(), hint);
        }
        for recipient in self.recipients.iter().filter(|text| Recipient::of(text).is_none()) {
            let hint = "write `name@domain`, `@domain` for all of a domain, or `*` for any";
            fault("recipients", format!("`{recipient}` is neither an address nor a domain"), hint);
        }
        if self.tls != Tls::None {
            for (key, path) in [("certificate", &self.certificate), ("private_key", &self.private_key)] {
                if path.is_none() {
                    let hint = format!("name a PEM file with `{key} = \"…\"`, or leave `tls` out");
                    fault(key, format!("`tls` needs a `{key}`"), &hint);
                }
            }
        } else if self.certificate.is_some() || self.private_key.is_some() {
            let key = if self.certificate.is_some() { "certificate" } else { "private_key" };
            fault(key, format!("`{key}` has no use without `tls`"), "write `tls = \"starttls\"`, or remove it");
        }
        if self.hostname.is_empty() || !self.hostname.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
        {
            fault("hostname", "`hostname` is not a host name".to_owned(), "write a name such as `mail.acme.example`");
        }
        for (key, is_zero) in [
            ("max_bytes", self.max_bytes == 0),
            ("max_recipients", self.max_recipients == 0),
            ("max_connections", self.max_connections == 0),
            ("max_connections_per_peer", self.max_connections_per_peer == 0),
            ("timeout_seconds", self.timeout_seconds == 0),
        ] {
            if is_zero {
                fault(key, format!("`{key}` is 0"), "write at least 1, or leave it out");
            }
        }
        faults
    }

    /// How long a silence of the other side is borne.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }

    /// Whether this address is one whose mail is taken.
    pub(super) fn takes(&self, address: &str) -> bool {
        let Some((local, domain)) = address.rsplit_once('@') else { return false };
        let base = local.split_once('+').map_or(local, |(base, _)| base);
        self.recipients.iter().filter_map(|text| Recipient::of(text)).any(|recipient| match recipient {
            Recipient::Any => true,
            Recipient::Domain(taken) => same(taken, domain),
            Recipient::Address(of, taken) => same(taken, domain) && (same(of, local) || same(of, base)),
        })
    }
}

/// One of `recipients`.
enum Recipient<'a> {
    Any,
    Domain(&'a str),
    Address(&'a str, &'a str),
}

impl<'a> Recipient<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '<' || c == '>') {
            return None;
        }
        match text.rsplit_once('@') {
            _ if text == "*" => Some(Self::Any),
            Some((_, "")) => None,
            Some(("", domain)) => Some(Self::Domain(domain)),
            Some((local, domain)) => Some(Self::Address(local, domain)),
            // A word with a dot can only be meant as a domain.
            None => text.contains('.').then_some(Self::Domain(text)),
        }
    }
}

/// Local parts differ by case in theory only.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Settings {
        toml::from_str(toml).expect("settings")
    }

    #[test]
    fn only_recipients_that_are_named_are_taken() {
        let settings = read("recipients = ['Sessions@acme.example', '@in.acme.example', 'other.example']");
        assert_eq!(settings.validate(), []);
        for (address, fine) in [
            ("sessions@ACME.example", true),
            ("sessions+k3y@acme.example", true),
            ("other@acme.example", false),
            ("sessions@acme.example.evil.example", false),
            ("x@in.acme.example", true),
            ("x@sub.in.acme.example", false),
            ("x@other.example", true),
            ("sessions", false),
            ("\"a@b\"@in.acme.example", true),
            ("", false),
        ] {
            assert_eq!(settings.takes(address), fine, "{address}");
        }
        assert!(read("recipients = ['*']").takes("a@b"));
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let settings = read("recipients = ['a b', 'x@']\ntls = 'starttls'\nhostname = ''\nmax_bytes = 0");
        let keys: Vec<_> = settings.validate().into_iter().map(|(key, ..)| key).collect();
        assert_eq!(keys, ["recipients", "recipients", "certificate", "private_key", "hostname", "max_bytes"]);
        let keys: Vec<_> =
            read("recipients = []\nprivate_key = 'k'").validate().into_iter().map(|(key, ..)| key).collect();
        assert_eq!(keys, ["recipients", "private_key"]);
    }
}
