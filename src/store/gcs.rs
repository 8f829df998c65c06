//! Google Cloud Storage's JSON interface (`cloud.google.com/storage/docs/json_api`), with the token of a service account
//! (a signed assertion, RFC 7523), of a user's consent, or of the machine.
//!
//! Every content of a name is a generation with a number and a time of its own; reads, writes and removals name the
//! one that they mean.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::{Method, Url};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ambient::{self, Token, granted};
use super::fresh::{A_MINUTE, Fresh, reveal, shown, unauthorized};
use super::origin::{Answer, Ask, Origin};
use super::{Access, DIGEST, Depth, Expected, Found, Object, Page, Stored, listed, uri};
use crate::outcome::{Class, Reason, Verdict};
use crate::transport::is_loopback;

const VENDOR: &str = "https://storage.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// The fields of an object that are asked for.
const FIELDS: &str = "name,size,timeCreated,generation,metadata";

/// A bucket.
pub(super) struct Gcs {
    origin: Origin,
    bucket: String,
    prefix: String,
    access: Access,
    /// Without one, requests go without.
    token: Fresh<Option<SecretString>>,
}

impl fmt::Debug for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcs").field("origin", &self.origin).field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    // Numbers of 64 bits are text in this interface.
    #[serde(default)]
    size: String,
    time_created: Option<Timestamp>,
    #[serde(default)]
    generation: String,
    #[serde(default)]
    metadata: Value,
}

impl Entry {
    fn object(self, prefix: &str) -> Option<Object> {
        let name = self.name.strip_prefix(prefix)?.to_owned();
        Some(Object {
            name,
            size: self.size.parse().unwrap_or_default(),
            modified: self.time_created,
            tag: self.generation,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    #[serde(default)]
    items: Vec<Entry>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

impl Gcs {
    pub(super) fn new(bucket: &str, prefix: &str, access: &Access) -> Result<Self, String> {
        let endpoint = access.endpoint.as_deref().unwrap_or(VENDOR);
        Ok(Self {
            origin: Origin::new(endpoint, access.ca_file.as_deref())?,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            access: access.clone(),
            token: Fresh::default(),
        })
    }

    async fn token(&self) -> Result<Option<SecretString>, Verdict> {
        let make = async {
            match reveal([self.access.service_account.clone()]).await? {
                [Some(account)] => self.of_account(&account).await.map(|(token, life)| (Some(token), life)),
                [None] if self.access.endpoint.is_some() => Ok((None, A_MINUTE)),
                [None] => ambient::google().await.map(|(token, life)| (Some(token), life)),
            }
        };
        self.token.get(make).await
    }

    /// Exchanges what is in Google's key file for a token.
    async fn of_account(&self, text: &SecretString) -> Result<Token, Verdict> {
        let account: Account = serde_json::from_str(shown(text)).map_err(|_| {
            unauthorized("`service_account` is not the JSON of a key of kind `service_account` or `authorized_user`")
        })?;
        let (endpoint, form) = account.ask(Timestamp::now().as_second()).map_err(unauthorized)?;
        let url = Url::parse(&endpoint).ok();
        let is_safe = |url: &Url| url.scheme() == "https" || url.host_str().is_some_and(is_loopback);
        if !url.as_ref().is_some_and(is_safe) {
            return Err(unauthorized("`token_uri` in `service_account` is no address to send credentials to"));
        }
        let origin = Origin::new(&endpoint, self.access.ca_file.as_deref()).map_err(unauthorized)?;
        let ask = Ask::new(Method::POST, String::new()).body("application/x-www-form-urlencoded", form.into());
        let answer = origin.send(ask).await?;
        match answer.status {
            400 | 401 | 403 => Err(unauthorized(format!(
                "Google gives no token for `service_account`: it answers with status {}",
                answer.status
            ))),
            _ if answer.is_success() => granted(&answer.body).ok_or_else(|| origin.unexpected()),
            _ => Err(origin.refused(&answer, None)),
        }
    }

    /// Adds the token and sends. Refusals are answers here.
    async fn send(&self, mut ask: Ask) -> Result<Answer, Verdict> {
        if let Some(token) = self.token().await? {
            ask = ask.header("authorization", format!("Bearer {}", shown(&token)));
        }
        let answer = self.origin.send(ask).await?;
        if answer.status == 401 {
            self.token.forget().await;
        }
        Ok(answer)
    }

    fn refused(&self, answer: &Answer) -> Verdict {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        self.origin.refused(answer, body.pointer("/error/errors/0/reason").and_then(Value::as_str))
    }

    fn path(&self, name: &str) -> String {
        let full = format!("{}{name}", self.prefix);
        format!("/storage/v1/b/{}/o/{}", uri::encode(&self.bucket), uri::encode(&full))
    }

    pub(super) async fn list(&self, prefix: &str, depth: Depth, from: Option<&str>) -> Result<Page, Verdict> {
        let below = format!("{}{prefix}", self.prefix);
        let mut pairs = vec![
            ("prefix", below.as_str()),
            ("maxResults", "1000"),
            ("fields", "nextPageToken,prefixes,items(name,size,timeCreated,generation)"),
        ];
        if depth == Depth::One {
            pairs.push(("delimiter", "/"));
        }
        if let Some(token) = from {
            pairs.push(("pageToken", token));
        }
        let path = format!("/storage/v1/b/{}/o", uri::encode(&self.bucket));
        let answer = self.send(Ask::new(Method::GET, path).query(&pairs)).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let listing: Listing =
            answer.text().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| self.origin.unexpected())?;
        let folder = |name: String| name.strip_prefix(&self.prefix).map(str::to_owned);
        Ok(Page {
            objects: listing.items.into_iter().filter_map(|entry| entry.object(&self.prefix)).collect(),
            folders: listing.prefixes.into_iter().filter_map(folder).collect(),
            next: listing.next_page_token.filter(|token| !token.is_empty()),
            now: answer.time("date"),
        })
    }

    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, Verdict> {
        let answer = self.send(Ask::new(Method::GET, self.path(name)).query(&[("fields", FIELDS)])).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_success() => {
                let entry: Option<Entry> = answer.text().and_then(|text| serde_json::from_str(text).ok());
                let digest = entry.as_ref().and_then(|e| e.metadata.get(DIGEST)?.as_str().map(str::to_owned));
                let object = entry.and_then(|entry| entry.object(&self.prefix));
                object.map(|object| Some(Found { object, digest })).ok_or_else(|| self.origin.unexpected())
            }
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn read(&self, object: &Object) -> Result<Option<Bytes>, Verdict> {
        let ask = Ask::new(Method::GET, self.path(&object.name));
        let mut ask = ask.query(&[("alt", "media"), ("generation", object.tag.as_str())]);
        ask.cap = object.size as usize;
        let answer = self.send(ask).await?;
        match answer.status {
            404 | 412 => Ok(None),
            _ if answer.is_success() => Ok(answer.document()),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        digest: &str,
        expected: &Expected,
    ) -> Result<Stored, Verdict> {
        let full = format!("{}{name}", self.prefix);
        let about = json!({ "name": full, "contentType": "application/json", "metadata": { DIGEST: digest } });
        // No text holds its own digest.
        let between = format!("mail2crm-{digest}");
        let head = format!(
            "--{between}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n--{between}\r\nContent-Type: application/json\r\n\r\n"
        );
        let body = [head.as_bytes(), &bytes, format!("\r\n--{between}--\r\n").as_bytes()].concat();
        let generation = match expected {
            Expected::Absent => Some("0"),
            Expected::Tag(tag) => Some(tag.as_str()),
            Expected::Unknown => None,
        };
        let mut pairs = vec![("uploadType", "multipart"), ("fields", "generation")];
        pairs.extend(generation.map(|generation| ("ifGenerationMatch", generation)));
        let path = format!("/upload/storage/v1/b/{}/o", uri::encode(&self.bucket));
        let ask = Ask::new(Method::POST, path).query(&pairs);
        let answer = self.send(ask.body(&format!("multipart/related; boundary={between}"), body.into())).await?;
        if answer.is_success() { Ok(Stored::Written) } else { Err(self.refused(&answer)) }
    }

    pub(super) async fn remove(&self, object: &Object) -> Result<(), Verdict> {
        let ask = Ask::new(Method::DELETE, self.path(&object.name));
        let answer = self.send(ask.query(&[("ifGenerationMatch", object.tag.as_str())])).await?;
        match answer.status {
            404 | 412 => Ok(()),
            _ if answer.is_success() => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn rename(&self, object: &Object, to: &str) -> Result<(), Verdict> {
        let full = uri::encode(&format!("{}{to}", self.prefix));
        let path = format!("{}/rewriteTo/b/{}/o/{full}", self.path(&object.name), uri::encode(&self.bucket));
        let ask = Ask::new(Method::POST, path).query(&[("sourceGeneration", object.tag.as_str())]);
        let answer = self.send(ask.body("application/json", Bytes::new())).await?;
        if matches!(answer.status, 404 | 412) {
            return Ok(());
        }
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if told.get("done") != Some(&Value::Bool(true)) {
            return Err(Verdict::new(Class::Retry, Reason::StorageFailed, "the copy takes longer than one request"));
        }
        self.remove(object).await
    }

    /// Google says what one may do without its being done.
    pub(super) async fn check(&self, writes: bool) -> Result<String, Verdict> {
        let wanted: &[&str] = if writes {
            &["storage.objects.create", "storage.objects.delete"]
        } else {
            &["storage.objects.list", "storage.objects.get"]
        };
        let path = format!("/storage/v1/b/{}/iam/testPermissions", uri::encode(&self.bucket));
        let pairs: Vec<_> = wanted.iter().map(|permission| ("permissions", *permission)).collect();
        let answer = self.send(Ask::new(Method::GET, path).query(&pairs)).await?;
        let told: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(|_| answer.is_success());
        let Some(granted) = told.as_ref().and_then(|told| told.get("kind")).and(told.as_ref()) else {
            if answer.status == 401 {
                return Err(self.refused(&answer));
            }
            return self.list("", Depth::One, None).await.and_then(|_| listed(writes));
        };
        let has =
            |permission: &str| granted["permissions"].as_array().is_some_and(|all| all.iter().any(|p| p == permission));
        match wanted.iter().find(|permission| !has(permission)) {
            None if writes => Ok("is there, and documents may be written and replaced".to_owned()),
            None => Ok("is there, and objects may be listed and read".to_owned()),
            Some(missing) => {
                let detail = format!("the account lacks the permission `{missing}` on the bucket");
                Err(Verdict::new(Class::Pause, Reason::NotPermitted, detail))
            }
        }
    }
}

/// Google's key file.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Account {
    ServiceAccount {
        client_email: String,
        private_key_id: Option<String>,
        private_key: String,
        token_uri: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
    },
}

impl Account {
    /// Where to ask for a token, and how. `now` is in seconds since 1970. The error is a sentence.
    fn ask(&self, now: i64) -> Result<(String, String), String> {
        const TOKENS: &str = "https://oauth2.googleapis.com/token";
        match self {
            Self::AuthorizedUser { client_id, client_secret, refresh_token } => Ok((
                TOKENS.to_owned(),
                uri::query(&[
                    ("grant_type", "refresh_token"),
                    ("client_id", client_id),
                    ("client_secret", client_secret),
                    ("refresh_token", refresh_token),
                ]),
            )),
            Self::ServiceAccount { client_email, private_key_id, private_key, token_uri } => {
                let endpoint = token_uri.clone().unwrap_or_else(|| TOKENS.to_owned());
                let head = json!({ "alg": "RS256", "typ": "JWT", "kid": private_key_id });
                let claims =
                    json!({ "iss": client_email, "scope": SCOPE, "aud": endpoint, "iat": now, "exp": now + 3600 });
                let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
                let text = format!("{}.{}", encode(head), encode(claims));
                let signature = signature(private_key, text.as_bytes())
                    .ok_or("the `private_key` in `service_account` can't be used")?;
                let assertion = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature));
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                Ok((endpoint, uri::query(&[("grant_type", grant), ("assertion", &assertion)])))
            }
        }
    }
}

/// RSA with SHA-256 (RFC 8017), by the TLS provider's own code.
fn signature(pem: &str, text: &[u8]) -> Option<Vec<u8>> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let key = rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(der).ok()?;
    key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?.sign(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_with_hostile_names() {
        let text = r#"{"kind":"storage#objects","nextPageToken":"t","prefixes":["m/a/"],"items":[
            {"name":"m//{{date}} \u260e.json","size":"12","timeCreated":"2026-02-17T10:11:31.123Z","generation":"17"},
            {"name":"other"}]}"#;
        let listing: Listing = serde_json::from_str(text).expect("a listing");
        let objects: Vec<_> = listing.items.into_iter().map(|entry| entry.object("m/")).collect();
        let object = Object {
            name: "/{{date}} ☎.json".into(),
            size: 12,
            modified: "2026-02-17T10:11:31.123Z".parse().ok(),
            tag: "17".into(),
        };
        assert_eq!(objects, [Some(object), None]);
    }

    #[test]
    fn a_key_file_that_can_not_be_used_is_told_without_being_shown() {
        let read = |text: &str| serde_json::from_str::<Account>(text);
        let account =
            read(r#"{"type":"service_account","client_email":"a@p","private_key":"not-a-key"}"#).expect("a key");
        let error = account.ask(0).expect_err("no key");
        assert!(error.contains("private_key") && !error.contains("not-a-key"), "{error}");
        assert!(read(r#"{"type":"external_account","audience":"x"}"#).is_err());
        let user = r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r"}"#;
        let (_, form) = read(user).expect("a key").ask(0).expect("a form");
        assert_eq!(form, "client_id=c&client_secret=s&grant_type=refresh_token&refresh_token=r");
    }
}
