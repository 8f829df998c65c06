//! Amazon S3's REST interface, and the stores that speak it, with signatures of version 4
//! (`docs.aws.amazon.com/AmazonS3/latest/API`, "Authenticating Requests").
//!
//! A bucket of AWS is asked by its own host name, others below their endpoint. Conditions (`If-Match`,
//! `If-None-Match`) are sent with writes; a store that says it does not know them is asked again without.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use sha2::Sha256;

use super::ambient::{self, Key};
use super::fresh::{A_MINUTE, Fresh, reveal, shown};
use super::origin::{Answer, Ask, Origin};
use super::{Access, DIGEST, Depth, Expected, Found, Object, Page, Stored, listed, uri};
use crate::digest::{hex, sha256};
use crate::outcome::{Class, Reason, Verdict};

/// A bucket.
pub(super) struct S3 {
    origin: Origin,
    /// The bucket as the first part of every path; empty where the host names it.
    below: String,
    bucket: String,
    prefix: String,
    region: String,
    access: Access,
    /// Without a key, requests go without a signature.
    key: Fresh<Option<Key>>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("origin", &self.origin).field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    contents: Vec<Contents>,
    #[serde(default)]
    common_prefixes: Vec<Prefix>,
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    last_modified: Timestamp,
    #[serde(rename = "ETag", default)]
    e_tag: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    prefix: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    code: String,
}

impl S3 {
    pub(super) fn new(bucket: &str, prefix: &str, access: &Access) -> Result<Self, String> {
        let region = access.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        // A host name with the bucket's dots in it would not be in the certificate.
        let (endpoint, below) = match &access.endpoint {
            Some(endpoint) => (endpoint.clone(), format!("/{bucket}")),
            None if bucket.contains('.') => (format!("https://s3.{region}.{domain}"), format!("/{bucket}")),
            None => (format!("https://{bucket}.s3.{region}.{domain}"), String::new()),
        };
        Ok(Self {
            origin: Origin::new(&endpoint, access.ca_file.as_deref())?,
            below,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region,
            access: access.clone(),
            key: Fresh::default(),
        })
    }

    async fn key(&self) -> Result<Option<Key>, Verdict> {
        let make = async {
            let Access { access_key_id, secret_access_key, session_token, endpoint, .. } = self.access.clone();
            match reveal([access_key_id, secret_access_key, session_token]).await? {
                [Some(id), Some(secret), session] => {
                    Ok((Some(Key { id: shown(&id).to_owned(), secret, session }), A_MINUTE))
                }
                _ if endpoint.is_some() => Ok((None, A_MINUTE)),
                _ => ambient::aws(&self.region).await.map(|(key, life)| (Some(key), life)),
            }
        };
        self.key.get(make).await
    }

    /// Signs and sends. Refusals are answers here.
    async fn send(&self, mut ask: Ask) -> Result<Answer, Verdict> {
        if let Some(key) = self.key().await? {
            let scope = Scope { host: &self.origin.host, path: &self.origin.path, region: &self.region };
            sign(&mut ask, &key, &scope, Timestamp::now());
        }
        let answer = self.origin.send(ask).await?;
        if matches!(answer.status, 400 | 401 | 403) {
            self.key.forget().await;
        }
        Ok(answer)
    }

    fn refused(&self, answer: &Answer) -> Verdict {
        self.origin.refused(answer, code(answer).as_deref())
    }

    fn object(&self, method: Method, name: &str) -> Ask {
        Ask::new(method, format!("{}/{}", self.below, uri::encode_path(&format!("{}{name}", self.prefix))))
    }

    pub(super) async fn list(&self, prefix: &str, depth: Depth, from: Option<&str>) -> Result<Page, Verdict> {
        let below = format!("{}{prefix}", self.prefix);
        let mut pairs = vec![("list-type", "2"), ("encoding-type", "url"), ("prefix", below.as_str())];
        if depth == Depth::One {
            pairs.push(("delimiter", "/"));
        }
        // A name to begin after is good for ever, a token of the store's for a while.
        match from.and_then(|from| from.split_at_checked(1)) {
            Some(("n", name)) => pairs.push(("start-after", name)),
            Some((_, token)) => pairs.push(("continuation-token", token)),
            None => {}
        }
        let path = if self.below.is_empty() { "/".to_owned() } else { self.below.clone() };
        let answer = self.send(Ask::new(Method::GET, path).query(&pairs)).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let listing: Listing = answer
            .text()
            .and_then(|text| quick_xml::de::from_str(text).ok())
            .ok_or_else(|| self.origin.unexpected())?;
        let plain = |name: String| match &listing.encoding_type {
            // As a form has it: a space is a plus.
            Some(_) => uri::decode(&name.replace('+', " ")).unwrap_or(name),
            None => name,
        };
        let mut page = Page { now: answer.time("date"), ..Page::default() };
        if listing.is_truncated {
            let last = listing.contents.last().filter(|_| depth == Depth::All);
            page.next = match last {
                Some(last) => Some(format!("n{}", plain(last.key.clone()))),
                None => listing.next_continuation_token.map(|token| format!("t{token}")),
            };
        }
        let relative = |name: String| name.strip_prefix(&self.prefix).map(str::to_owned);
        page.objects = listing
            .contents
            .into_iter()
            .filter_map(|entry| {
                let name = relative(plain(entry.key))?;
                Some(Object { name, size: entry.size, modified: Some(entry.last_modified), tag: entry.e_tag })
            })
            .collect();
        page.folders = listing.common_prefixes.into_iter().filter_map(|entry| relative(plain(entry.prefix))).collect();
        Ok(page)
    }

    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, Verdict> {
        let answer = self.send(self.object(Method::HEAD, name)).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_success() => Ok(Some(Found {
                digest: answer.header(&format!("x-amz-meta-{DIGEST}")).map(str::to_owned),
                object: Object {
                    name: name.to_owned(),
                    size: answer.length(),
                    modified: answer.time("last-modified"),
                    tag: answer.header("etag").unwrap_or_default().to_owned(),
                },
            })),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn read(&self, object: &Object) -> Result<Option<Bytes>, Verdict> {
        let mut ask = self.object(Method::GET, &object.name);
        ask.cap = object.size as usize;
        if !object.tag.is_empty() {
            ask = ask.header("if-match", object.tag.clone());
        }
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
        let ask = || {
            let ask = self.object(Method::PUT, name).body("application/json", bytes.clone());
            ask.header("x-amz-meta-mail2crm-sha256", digest)
        };
        let conditional = match expected {
            Expected::Absent => ask().header("if-none-match", "*"),
            Expected::Tag(tag) if !tag.is_empty() => ask().header("if-match", tag.clone()),
            _ => ask(),
        };
        let mut answer = self.send(conditional).await?;
        if answer.status == 501 {
            answer = self.send(ask()).await?;
        }
        if answer.is_success() {
            return Ok(Stored::Written);
        }
        // What was there was removed meanwhile.
        if answer.status == 404 && code(&answer).as_deref() == Some("NoSuchKey") {
            return Err(Verdict::new(Class::Conflict, Reason::Conflict, "the object was changed by somebody else"));
        }
        Err(self.refused(&answer))
    }

    pub(super) async fn remove(&self, object: &Object) -> Result<(), Verdict> {
        match self.find(&object.name).await? {
            Some(found) if found.object.tag == object.tag => {}
            _ => return Ok(()),
        }
        let mut answer =
            self.send(self.object(Method::DELETE, &object.name).header("if-match", object.tag.clone())).await?;
        if answer.status == 501 {
            answer = self.send(self.object(Method::DELETE, &object.name)).await?;
        }
        match answer.status {
            404 | 412 => Ok(()),
            _ if answer.is_success() => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn rename(&self, object: &Object, to: &str) -> Result<(), Verdict> {
        let from = uri::encode_path(&format!("/{}/{}{}", self.bucket, self.prefix, object.name));
        let ask = self.object(Method::PUT, to).header("x-amz-copy-source", from);
        let answer = self.send(ask.header("x-amz-copy-source-if-match", object.tag.clone())).await?;
        match answer.status {
            404 | 412 => Ok(()),
            // A copy that fails half-way says so in a body behind a good status.
            _ if answer.is_success() && code(&answer).is_none() => self.remove(object).await,
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn check(&self, writes: bool) -> Result<String, Verdict> {
        match self.list("", Depth::One, None).await {
            Ok(_) => listed(writes),
            Err(verdict) if writes && verdict.reason == Reason::NotPermitted => {
                Ok("answers, the credentials may not list it; that documents can be written there was not tried"
                    .to_owned())
            }
            Err(verdict) => Err(verdict),
        }
    }
}

/// The word of a refusal.
fn code(answer: &Answer) -> Option<String> {
    Some(quick_xml::de::from_str::<Refused>(answer.text()?).ok()?.code)
}

/// What a signature is good for.
struct Scope<'a> {
    host: &'a str,
    /// The path of the endpoint.
    path: &'a str,
    region: &'a str,
}

/// Adds the headers that sign a request.
fn sign(ask: &mut Ask, key: &Key, scope: &Scope<'_>, now: Timestamp) {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = now.strftime("%Y%m%d").to_string();
    let content = sha256(&ask.body);
    ask.headers.push(("x-amz-content-sha256", content.clone()));
    ask.headers.push(("x-amz-date", time.clone()));
    if let Some(session) = &key.session {
        ask.headers.push(("x-amz-security-token", shown(session).to_owned()));
    }
    let mut headers: Vec<(&str, &str)> = ask.headers.iter().map(|(name, value)| (*name, value.trim())).collect();
    headers.push(("host", scope.host));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("{}\n{}{}\n{}\n{lines}\n{names}\n{content}", ask.method, scope.path, ask.path, ask.query);
    let within = format!("{day}/{}/s3/aws4_request", scope.region);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{within}\n{}", sha256(canonical.as_bytes()));
    let secret = format!("AWS4{}", shown(&key.secret));
    let signing = [day.as_str(), scope.region, "s3", "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&signing, text.as_bytes()));
    let header = format!("AWS4-HMAC-SHA256 Credential={}/{within},SignedHeaders={names},Signature={signature}", key.id);
    ask.headers.push(("authorization", header));
}

/// HMAC-SHA256 (RFC 2104).
pub(super) fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key of any length is taken.
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec());
    mac.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of "Signature Calculations for the Authorization Header" in Amazon's documentation.
    #[test]
    fn signatures_are_those_of_the_documentation() {
        let key = Key {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session: None,
        };
        let scope = Scope { host: "examplebucket.s3.amazonaws.com", path: "", region: "us-east-1" };
        let now: Timestamp = "2013-05-24T00:00:00Z".parse().expect("a time");
        let signature = |mut ask: Ask| {
            sign(&mut ask, &key, &scope, now);
            let (_, header) = ask.headers.pop().expect("a header");
            header.rsplit('=').next().map(str::to_owned)
        };
        let ask = |path: &str| Ask::new(Method::GET, path.to_owned());
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(
            signature(ask("/test.txt").header("range", "bytes=0-9")),
            of("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
        );
        assert_eq!(
            signature(ask("/").query(&[("lifecycle", "")])),
            of("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
        );
        assert_eq!(
            signature(ask("/").query(&[("prefix", "J"), ("max-keys", "2")])),
            of("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
        );
    }

    #[test]
    fn a_listing_is_read_with_hostile_names() {
        let text = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <Contents><Key>metadata//%7B%7Bdate%7D%7D+a%2Bb.json</Key><LastModified>2026-02-17T10:11:31.000Z</LastModified>\
            <ETag>&quot;abc&quot;</ETag><Size>12</Size><StorageClass>STANDARD</StorageClass></Contents>\
            <Contents><Key>z</Key><LastModified>2026-02-17T10:11:31.000Z</LastModified><Size>0</Size></Contents>\
            <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>";
        let listing: Listing = quick_xml::de::from_str(text).expect("a listing");
        assert!(listing.is_truncated && listing.encoding_type.is_some());
        assert_eq!((listing.contents[0].e_tag.as_str(), listing.contents[0].size), ("\"abc\"", 12));
        assert_eq!(listing.common_prefixes[0].prefix, "p/");
    }
}
