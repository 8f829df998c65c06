//! The keys by which a destination or a source says how it gets into a place: credentials, region, the address of a
//! compatible store. Each key goes with some kinds of places; the rest are faults with a hint.

use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::Place;
use crate::secret::Secret;
use crate::transport::is_loopback;

/// What a program without SFTP says where an SFTP server is named.
#[cfg_attr(feature = "sftp", expect(dead_code, reason = "said by a program without SFTP"))]
pub(super) const NO_SFTP: &str =
    "this program was built without SFTP: build it with the feature `sftp`, which is on by default";

/// How to get into a place.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Access {
    /// Object storage: the address of a store that speaks like S3, GCS or Azure, such as
    /// `https://minio.acme.example`. Default: the vendor's.
    pub endpoint: Option<String>,
    /// `s3://`: the bucket's region. Default: `us-east-1`.
    pub region: Option<String>,
    /// `s3://`: the access key's id. Without it the role of the machine or the container is used.
    pub access_key_id: Option<Secret>,
    /// `s3://`: the access key's secret.
    pub secret_access_key: Option<Secret>,
    /// `s3://`: the token that goes with a temporary access key.
    pub session_token: Option<Secret>,
    /// `gs://`: the key of a service account, as the JSON text that Google gives: `{ file = "key.json" }`. Without it
    /// the account of the machine or the workload is used.
    pub service_account: Option<Secret>,
    /// `az://`: a key of the storage account. Without it and `sas_token` the machine's managed identity is used.
    pub account_key: Option<Secret>,
    /// `az://`: a shared access signature, `sv=…&sig=…`.
    pub sas_token: Option<Secret>,
    /// `sftp://`: the user's password.
    pub password: Option<Secret>,
    /// `sftp://`: the user's private key, as OpenSSH or PEM text: `{ file = "id_ed25519" }`.
    pub private_key: Option<Secret>,
    /// `sftp://`: what the private key is locked with.
    pub passphrase: Option<Secret>,
    /// `sftp://`: the fingerprint of the server's key, `SHA256:…` as `ssh-keygen -l` shows it. Several are separated by
    /// commas.
    pub host_key: Option<String>,
    /// Object storage: a PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Access {
    /// The keys, with the kinds of places that each goes with: `g`, `s`, `a`, `f` for SFTP.
    const KEYS: [(&str, &str); 13] = [
        ("endpoint", "gsa"),
        ("region", "s"),
        ("access_key_id", "s"),
        ("secret_access_key", "s"),
        ("session_token", "s"),
        ("service_account", "g"),
        ("account_key", "a"),
        ("sas_token", "a"),
        ("password", "f"),
        ("private_key", "f"),
        ("passphrase", "f"),
        ("host_key", "f"),
        ("ca_file", "gsa"),
    ];

    /// The keys that there are.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        Self::KEYS.iter().map(|(key, _)| *key)
    }

    fn has(&self, key: &str) -> bool {
        match key {
            "endpoint" => self.endpoint.is_some(),
            "region" => self.region.is_some(),
            "access_key_id" => self.access_key_id.is_some(),
            "secret_access_key" => self.secret_access_key.is_some(),
            "session_token" => self.session_token.is_some(),
            "service_account" => self.service_account.is_some(),
            "account_key" => self.account_key.is_some(),
            "sas_token" => self.sas_token.is_some(),
            "password" => self.password.is_some(),
            "private_key" => self.private_key.is_some(),
            "passphrase" => self.passphrase.is_some(),
            "host_key" => self.host_key.is_some(),
            _ => self.ca_file.is_some(),
        }
    }

    /// The credentials that are needed.
    pub fn secrets(&self) -> Vec<&Secret> {
        let all = [
            &self.access_key_id,
            &self.secret_access_key,
            &self.session_token,
            &self.service_account,
            &self.account_key,
            &self.sas_token,
            &self.password,
            &self.private_key,
            &self.passphrase,
        ];
        all.into_iter().flatten().collect()
    }

    /// What can't be at this place: key, sentence, hint. Without a place (a folder) no key can be. `address` is the
    /// key that names the place.
    pub fn validate(&self, place: Option<&Place>, address: &'static str) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::new();
        let (kind, scheme) = match place {
            Some(Place::Gcs { .. }) => ("g", "gs://"),
            Some(Place::S3 { .. }) => ("s", "s3://"),
            Some(Place::Azure { .. }) => ("a", "az://"),
            Some(Place::Sftp { .. }) => ("f", "sftp://"),
            None => ("-", "a folder"),
        };
        for (key, kinds) in Self::KEYS {
            if self.has(key) && !kinds.contains(kind) {
                faults.push((key, format!("`{key}` is of no use with `{scheme}`"), "leave it away".to_owned()));
            }
        }
        let mut fault = |key, sentence: &str, hint: &str| faults.push((key, sentence.to_owned(), hint.to_owned()));
        match place {
            Some(Place::S3 { .. }) if self.access_key_id.is_some() != self.secret_access_key.is_some() => {
                let hint = "write both, or none of them to use the role of the machine";
                fault(address, "`access_key_id` and `secret_access_key` go together", hint);
            }
            Some(Place::Azure { .. }) if self.account_key.is_some() && self.sas_token.is_some() => {
                fault("sas_token", "`account_key` and `sas_token` are two ways in", "leave one of them away");
            }
            Some(Place::Sftp { .. }) => self.validate_sftp(address, &mut fault),
            _ => {}
        }
        if let Some(endpoint) = &self.endpoint {
            match Url::parse(endpoint) {
                Ok(url) if url.scheme() == "https" && url.has_host() => {}
                Ok(url) if url.scheme() == "http" && url.host_str().is_some_and(is_loopback) => {}
                Ok(_) => fault(
                    "endpoint",
                    "`endpoint` would send documents in clear over a network",
                    "it must begin with `https://`; `ca_file` names an authority of your own",
                ),
                Err(_) => fault("endpoint", "`endpoint` is not a URL", "write `https://HOST`"),
            }
        }
        faults
    }

    fn validate_sftp(&self, address: &'static str, fault: &mut impl FnMut(&'static str, &str, &str)) {
        #[cfg(not(feature = "sftp"))]
        fault(address, NO_SFTP, "`cargo build --release --features sftp`");
        if self.password.is_none() && self.private_key.is_none() {
            fault(
                address,
                "nothing says how to log in",
                "write `private_key = { file = \"…\" }` or `password = { env = \"…\" }`",
            );
        }
        let is_fingerprint = |text: &str| {
            let digest = text.trim().strip_prefix("SHA256:");
            digest.is_some_and(|d| d.trim_end_matches('=').len() == 43 && d.bytes().all(|b| b.is_ascii_graphic()))
        };
        match &self.host_key {
            None => fault(
                address,
                "nothing says which key the server has",
                "write `host_key = \"SHA256:…\"`, as its administrator gives it; `mail2crm check --online` shows what it has",
            ),
            Some(keys) if !keys.split(',').all(is_fingerprint) && keys != UNKNOWN => fault(
                "host_key",
                "`host_key` is no fingerprint",
                "it looks like `SHA256:` and 43 characters, as `ssh-keygen -l -f HOST_KEY.pub` shows it; `\"unknown\"` refuses every key and shows the server's",
            ),
            Some(_) => {}
        }
    }
}

/// `host_key = "unknown"`: refuses every key, and tells which one the server has.
pub(super) const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_with_their_places() {
        let faults = |place: &str, access: &str| -> Vec<(&str, String)> {
            let place = Place::parse(place).expect("a place");
            let access: Access = toml::from_str(access).expect("keys");
            access.validate(place.as_ref(), "url").into_iter().map(|(key, sentence, _)| (key, sentence)).collect()
        };
        let sound = "host_key = \"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\npassword = \"x\"";
        assert_eq!(faults("sftp://u@h/p", sound), []);
        assert_eq!(faults("gs://b", ""), []);
        assert_eq!(faults("s3://b", "endpoint = \"http://127.0.0.1:9000\""), []);
        for (place, access, key, part) in [
            ("/srv", "region = \"eu\"", "region", "a folder"),
            ("gs://b", "access_key_id = \"k\"", "access_key_id", "gs://"),
            ("s3://b", "access_key_id = \"k\"", "url", "go together"),
            ("s3://b", "endpoint = \"http://minio.example\"", "endpoint", "in clear"),
            ("s3://b", "endpoint = \"minio\"", "endpoint", "URL"),
            ("az://a/c", "account_key = \"k\"\nsas_token = \"t\"", "sas_token", "two ways"),
            ("sftp://u@h/p", "password = \"x\"", "url", "which key"),
            ("sftp://u@h/p", "password = \"x\"\nhost_key = \"aa:bb\"", "host_key", "fingerprint"),
            ("sftp://u@h/p", "host_key = \"unknown\"", "url", "log in"),
        ] {
            let found = faults(place, access);
            let [(at, sentence)] = &found[..] else { panic!("{place} {access}: {found:?}") };
            assert!(*at == key && sentence.contains(part), "{place} {access}: {found:?}");
        }
    }

    #[test]
    fn every_key_of_the_settings_is_in_the_table() {
        let schema = schemars::schema_for!(Access);
        let mut said: Vec<&str> =
            schema.get("properties").and_then(|p| p.as_object()).expect("keys").keys().map(String::as_str).collect();
        let mut known: Vec<&str> = Access::keys().collect();
        said.sort_unstable();
        known.sort_unstable();
        assert_eq!(said, known);
    }
}
