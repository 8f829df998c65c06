//! What an operator may say about an `http` source, with defaults and the faults that only the whole shows.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::Secret;
use crate::source::listen;

/// `[source.NAME]` with `kind = "http"`. One of `token`, `basic` and `hmac` is needed; of several, any will do.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to listen, as `ADDRESS:PORT`. Default: `"127.0.0.1:8025"`.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// The path to post to. Default: `"/"`.
    #[serde(default = "path")]
    pub path: String,
    /// `Authorization: Bearer …` with this token.
    #[serde(default)]
    pub token: Option<Secret>,
    /// `Authorization: Basic …` with this account, as the platform's external session events send it.
    #[serde(default)]
    pub basic: Option<Basic>,
    /// A signature over the body.
    #[serde(default)]
    pub hmac: Option<Hmac>,
    /// A PEM file with the certificate and those between it and its authority: TLS from the first byte. Read
    /// again when it changes. Default: none, in clear.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[serde(default)]
    pub private_key: Option<PathBuf>,
    /// Says that a proxy in front of it does TLS, so that it may listen in clear where others than this machine
    /// reach it. Default: `false`.
    #[serde(default)]
    pub behind_proxy: bool,
    /// The largest body that is taken, in bytes. Default: 52428800 (50 MiB).
    #[serde(default = "fifty_mebibytes")]
    pub max_bytes: usize,
    /// Connections at a time, in all. Default: 200.
    #[serde(default = "two_hundred")]
    pub max_connections: usize,
    /// Connections at a time from one address. Default: 50.
    #[serde(default = "fifty")]
    pub max_connections_per_peer: usize,
    /// Seconds that a silence of the other side is borne. Default: 60.
    #[serde(default = "sixty")]
    pub timeout_seconds: u32,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Its name.
    pub user: String,
    /// Its password: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`.
    pub password: Secret,
}

/// A signature (RFC 2104), in hexadecimal or base64, with or without `sha256=` before it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// The shared key: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`.
    pub secret: Secret,
    /// The header with the signature. Default: `"X-Signature"`.
    #[serde(default = "signature_header")]
    pub header: String,
    /// The hash. Default: `"sha256"`.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The header with the time of the request (seconds or milliseconds since 1970, or RFC 3339). With it, what
    /// is signed is the header's text, a dot, and the body; without it, the body alone. Default: none.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// How far that time may be from ours, in seconds. Default: 300.
    #[serde(default = "three_hundred")]
    pub tolerance_seconds: u32,
}

/// The hash of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

fn default_listen() -> String {
    "127.0.0.1:8025".to_owned()
}

fn path() -> String {
    "/".to_owned()
}

fn signature_header() -> String {
    "X-Signature".to_owned()
}

fn fifty_mebibytes() -> usize {
    50 << 20
}

fn fifty() -> usize {
    50
}

fn two_hundred() -> usize {
    200
}

fn sixty() -> u32 {
    60
}

fn three_hundred() -> u32 {
    300
}

impl Settings {
    /// What is wrong with the whole, as (path of the key, sentence, hint).
    pub fn validate(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::from_iter(listen::fault_of(&self.listen));
        let mut fault = |key, sentence: &str, hint: &str| faults.push((key, sentence.to_owned(), hint.to_owned()));
        if self.token.is_none() && self.basic.is_none() && self.hmac.is_none() {
            let hint =
                "write `token = { env = \"…\" }`, `basic = { user = \"…\", password = … }` or `hmac = { secret = … }`";
            fault("listen", "nothing says who may post: `token`, `basic` or `hmac` is needed", hint);
        }
        match (&self.certificate, &self.private_key) {
            (Some(_), None) => fault("certificate", "`certificate` needs a `private_key`", "name its PEM file"),
            (None, Some(_)) => fault("private_key", "`private_key` needs a `certificate`", "name its PEM file"),
            (None, None)
                if !self.behind_proxy && !listen::address(&self.listen).is_none_or(|a| a.ip().is_loopback()) =>
            {
                let hint =
                    "name a `certificate` and a `private_key`, or write `behind_proxy = true` if a proxy does TLS";
                fault("listen", "credentials would come in clear over a network", hint);
            }
            _ => {}
        }
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !"{}*?#%".contains(c));
        if !self.path.starts_with('/') || !is_plain(&self.path) || self.path == HEALTH {
            fault("path", "`path` is not a path to post to", "write one such as `/` or `/sessions`");
        }
        if let Some(hmac) = &self.hmac {
            let is_name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !is_name(&hmac.header) {
                fault("hmac.header", "`header` is not the name of a header", "write one such as `X-Signature`");
            }
            if hmac.timestamp_header.as_ref().is_some_and(|name| !is_name(name)) {
                let hint = "write one such as `X-Timestamp`, or leave it out";
                fault("hmac.timestamp_header", "`timestamp_header` is not the name of a header", hint);
            }
        }
        if self.basic.as_ref().is_some_and(|basic| basic.user.is_empty() || basic.user.contains(':')) {
            fault("basic.user", "`user` can't be sent by basic authentication", "write a name without `:`");
        }
        for (key, is_zero) in [
            ("max_bytes", self.max_bytes == 0),
            ("max_connections", self.max_connections == 0),
            ("max_connections_per_peer", self.max_connections_per_peer == 0),
            ("timeout_seconds", self.timeout_seconds == 0),
        ] {
            if is_zero {
                fault(key, &format!("`{key}` is 0"), "write at least 1, or leave it out");
            }
        }
        faults
    }

    /// How long a silence of the other side is borne.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

/// Where a load balancer asks whether we are there.
pub(super) const HEALTH: &str = "/healthz";

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(toml: &str) -> Vec<&'static str> {
        let settings: Settings = toml::from_str(toml).expect("settings");
        settings.validate().into_iter().map(|(key, ..)| key).collect()
    }

    #[test]
    fn one_way_to_prove_oneself_is_enough_and_none_is_too_few() {
        assert_eq!(faults(""), ["listen"]);
        for one in ["token = { env = 'T' }", "basic = { user = 'u', password = 'p' }", "hmac = { secret = 's' }"] {
            assert!(faults(one).is_empty(), "{one}");
        }
    }

    #[test]
    fn nothing_goes_in_clear_over_a_network_unless_told() {
        assert_eq!(faults("token = 't'\nlisten = '0.0.0.0:80'"), ["listen"]);
        assert!(faults("token = 't'\nlisten = '0.0.0.0:80'\nbehind_proxy = true").is_empty());
        assert!(faults("token = 't'\nlisten = '[::]:80'\ncertificate = 'c'\nprivate_key = 'k'").is_empty());
        assert_eq!(faults("token = 't'\ncertificate = 'c'"), ["certificate"]);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let toml = "path = 'x'\nmax_bytes = 0\nhmac = { secret = 's', header = '', timestamp_header = 'a b' }";
        assert_eq!(faults(toml), ["path", "hmac.header", "hmac.timestamp_header", "max_bytes"]);
    }
}
