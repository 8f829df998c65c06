//! Azure Blob Storage's REST interface (`learn.microsoft.com/rest/api/storageservices`), with a shared key, a shared
//! access signature, or the machine's identity. Writes, reads and removals name the ETag that they mean.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;

use super::fresh::{A_MINUTE, Fresh, reveal, shown, unauthorized};
use super::origin::{Answer, Ask, Origin};
use super::{Access, Depth, Expected, Found, Object, Page, Stored, ambient, listed, s3, uri};
use crate::outcome::{Class, Reason, Verdict};

/// The version of the interface; the one since which blobs have all that is used here.
const VERSION: &str = "2021-12-02";
/// Names of metadata can have no hyphens here.
const DIGEST: &str = "x-ms-meta-mail2crm_sha256";

/// A container.
pub(super) struct Azure {
    origin: Origin,
    account: String,
    container: String,
    prefix: String,
    access: Access,
    way: Fresh<Way>,
}

/// How requests are let in.
#[derive(Clone)]
enum Way {
    Key(SecretString),
    Signature(SecretString),
    Token(SecretString),
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure")
            .field("origin", &self.origin)
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    blobs: Blobs,
    #[serde(default)]
    next_marker: String,
}

#[derive(Debug, Default, Deserialize)]
struct Blobs {
    #[serde(rename = "Blob", default)]
    blobs: Vec<Blob>,
    #[serde(rename = "BlobPrefix", default)]
    folders: Vec<Folder>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Folder {
    name: Name,
}

/// A name with characters that XML does not have is encoded, and says so.
#[derive(Debug, Deserialize)]
struct Name {
    #[serde(rename = "@Encoded", default)]
    is_encoded: bool,
    #[serde(rename = "$text", default)]
    text: String,
}

impl Name {
    fn plain(self) -> String {
        if self.is_encoded { uri::decode(&self.text).unwrap_or(self.text) } else { self.text }
    }
}

#[derive(Debug, Deserialize)]
struct Properties {
    #[serde(rename = "Last-Modified", default)]
    last_modified: String,
    #[serde(rename = "Etag", default)]
    e_tag: String,
    #[serde(rename = "Content-Length", default)]
    content_length: u64,
}

impl Azure {
    pub(super) fn new(account: &str, container: &str, prefix: &str, access: &Access) -> Result<Self, String> {
        let vendor = format!("https://{account}.blob.core.windows.net");
        Ok(Self {
            origin: Origin::new(access.endpoint.as_deref().unwrap_or(&vendor), access.ca_file.as_deref())?,
            account: account.to_owned(),
            container: container.to_owned(),
            prefix: prefix.to_owned(),
            access: access.clone(),
            way: Fresh::default(),
        })
    }

    async fn way(&self) -> Result<Way, Verdict> {
        let make = async {
            match reveal([self.access.account_key.clone(), self.access.sas_token.clone()]).await? {
                [Some(key), _] => Ok((Way::Key(key), A_MINUTE)),
                [None, Some(signature)] => Ok((Way::Signature(signature), A_MINUTE)),
                [None, None] => ambient::azure().await.map(|(token, life)| (Way::Token(token), life)),
            }
        };
        self.way.get(make).await
    }

    /// Signs and sends. Refusals are answers here.
    async fn send(&self, mut ask: Ask) -> Result<Answer, Verdict> {
        let date = rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&Timestamp::now())
            .map_err(|_| unauthorized("the clock shows a time that HTTP can't say"))?;
        ask.headers.extend([("x-ms-version", VERSION.to_owned()), ("x-ms-date", date)]);
        match self.way().await? {
            Way::Key(key) => sign(&mut ask, &self.account, &self.origin.path, &key).map_err(unauthorized)?,
            Way::Token(token) => ask = ask.header("authorization", format!("Bearer {}", shown(&token))),
            Way::Signature(signature) => {
                let signature = shown(&signature).trim_start_matches('?');
                let and = if ask.query.is_empty() { "" } else { "&" };
                ask.query = format!("{}{and}{signature}", ask.query);
            }
        }
        let answer = self.origin.send(ask).await?;
        if matches!(answer.status, 401 | 403) {
            self.way.forget().await;
        }
        Ok(answer)
    }

    fn refused(&self, answer: &Answer) -> Verdict {
        self.origin.refused(answer, answer.header("x-ms-error-code"))
    }

    fn blob(&self, method: Method, name: &str) -> Ask {
        Ask::new(method, format!("/{}/{}", self.container, uri::encode_path(&format!("{}{name}", self.prefix))))
    }

    pub(super) async fn list(&self, prefix: &str, depth: Depth, from: Option<&str>) -> Result<Page, Verdict> {
        let below = format!("{}{prefix}", self.prefix);
        let mut pairs =
            vec![("restype", "container"), ("comp", "list"), ("prefix", below.as_str()), ("maxresults", "1000")];
        if depth == Depth::One {
            pairs.push(("delimiter", "/"));
        }
        if let Some(marker) = from {
            pairs.push(("marker", marker));
        }
        let answer = self.send(Ask::new(Method::GET, format!("/{}", self.container)).query(&pairs)).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let listing: Listing = answer
            .text()
            .and_then(|text| quick_xml::de::from_str(text.trim_start_matches('\u{feff}')).ok())
            .ok_or_else(|| self.origin.unexpected())?;
        let relative = |name: Name| name.plain().strip_prefix(&self.prefix).map(str::to_owned);
        let object = |blob: Blob| {
            Some(Object {
                name: relative(blob.name)?,
                size: blob.properties.content_length,
                modified: rfc2822::parse(&blob.properties.last_modified).ok().map(|time| time.timestamp()),
                tag: blob.properties.e_tag.trim_matches('"').to_owned(),
            })
        };
        Ok(Page {
            objects: listing.blobs.blobs.into_iter().filter_map(object).collect(),
            folders: listing.blobs.folders.into_iter().filter_map(|folder| relative(folder.name)).collect(),
            next: Some(listing.next_marker).filter(|marker| !marker.is_empty()),
            now: answer.time("date"),
        })
    }

    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, Verdict> {
        let answer = self.send(self.blob(Method::HEAD, name)).await?;
        match answer.status {
            404 => Ok(None),
            _ if answer.is_success() => Ok(Some(Found {
                digest: answer.header(DIGEST).map(str::to_owned),
                object: Object {
                    name: name.to_owned(),
                    size: answer.length(),
                    modified: answer.time("last-modified"),
                    tag: answer.header("etag").unwrap_or_default().trim_matches('"').to_owned(),
                },
            })),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn read(&self, object: &Object) -> Result<Option<Bytes>, Verdict> {
        let mut ask = self.blob(Method::GET, &object.name).header("if-match", quoted(&object.tag));
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
        let ask = self.blob(Method::PUT, name).body("application/json", bytes);
        let ask = ask.header("x-ms-blob-type", "BlockBlob").header(DIGEST, digest);
        let ask = match expected {
            Expected::Absent => ask.header("if-none-match", "*"),
            Expected::Tag(tag) => ask.header("if-match", quoted(tag)),
            Expected::Unknown => ask,
        };
        let answer = self.send(ask).await?;
        match (answer.status, answer.header("x-ms-error-code")) {
            _ if answer.is_success() => Ok(Stored::Written),
            (409, Some("BlobAlreadyExists")) => {
                Err(Verdict::new(Class::Conflict, Reason::Conflict, "the object was changed by somebody else"))
            }
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn remove(&self, object: &Object) -> Result<(), Verdict> {
        let answer = self.send(self.blob(Method::DELETE, &object.name).header("if-match", quoted(&object.tag))).await?;
        match answer.status {
            404 | 412 => Ok(()),
            _ if answer.is_success() => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn rename(&self, object: &Object, to: &str) -> Result<(), Verdict> {
        let mut from = format!("{}{}", self.origin.base, self.blob(Method::GET, &object.name).path);
        if let Way::Signature(signature) = self.way().await? {
            from = format!("{from}?{}", shown(&signature).trim_start_matches('?'));
        }
        let ask = self.blob(Method::PUT, to).header("x-ms-copy-source", from);
        let answer = self.send(ask.header("x-ms-source-if-match", quoted(&object.tag))).await?;
        match answer.status {
            404 | 412 => Ok(()),
            _ if answer.is_success() && answer.header("x-ms-copy-status") == Some("success") => {
                self.remove(object).await
            }
            _ if answer.is_success() => {
                Err(Verdict::new(Class::Retry, Reason::StorageFailed, "the copy takes longer than one request"))
            }
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

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// Adds the header that signs a request with the account's key ("Authorize with Shared Key"). `below` is the path of
/// the endpoint. The error is a sentence.
fn sign(ask: &mut Ask, account: &str, below: &str, key: &SecretString) -> Result<(), String> {
    let key = STANDARD.decode(shown(key)).map_err(|_| "`account_key` is not the base64 text that Azure shows")?;
    let header = |name: &str| ask.headers.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value.as_str());
    let length = if ask.body.is_empty() { String::new() } else { ask.body.len().to_string() };
    let mut own: Vec<String> = ask
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    own.sort_unstable();
    let pairs = ask.query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: String =
        pairs.map(|(name, value)| format!("\n{name}:{}", uri::decode(value).unwrap_or_default())).collect();
    let text = format!(
        "{}\n\n\n{length}\n\n{}\n\n\n{}\n{}\n\n\n{}/{account}{below}{}{pairs}",
        ask.method,
        header("content-type"),
        header("if-match"),
        header("if-none-match"),
        own.concat(),
        ask.path,
    );
    let signature = STANDARD.encode(s3::mac(&key, text.as_bytes()));
    ask.headers.push(("authorization", format!("SharedKey {account}:{signature}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_with_hostile_names_between_folders() {
        let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://a/\" ContainerName=\"c\">\
            <Blobs><Blob><Name>m//{{date}} &amp; ☎.json</Name><Properties><Last-Modified>Tue, 17 Feb 2026 10:11:31 GMT</Last-Modified>\
            <Etag>0x8D1</Etag><Content-Length>12</Content-Length></Properties></Blob><BlobPrefix><Name>m/a/</Name></BlobPrefix>\
            <Blob><Name Encoded=\"true\">m/a%01b</Name><Properties><Content-Length>0</Content-Length></Properties></Blob>\
            </Blobs><NextMarker /></EnumerationResults>";
        let listing: Listing = quick_xml::de::from_str(text).expect("a listing");
        let names: Vec<String> = listing.blobs.blobs.into_iter().map(|blob| blob.name.plain()).collect();
        assert_eq!(names, ["m//{{date}} & ☎.json", "m/a\u{1}b"]);
        assert_eq!(listing.blobs.folders.len(), 1);
        assert!(listing.next_marker.is_empty());
        let empty = "<EnumerationResults><Blobs /><NextMarker>2!x</NextMarker></EnumerationResults>";
        assert_eq!(quick_xml::de::from_str::<Listing>(empty).expect("a listing").next_marker, "2!x");
    }

    #[test]
    fn a_key_that_is_no_base64_is_told_without_being_shown() {
        let mut ask = Ask::new(Method::GET, "/c".to_owned());
        let error = sign(&mut ask, "a", "", &SecretString::from("not base64 !")).expect_err("no key");
        assert!(error.contains("account_key") && !error.contains("not base64 !"), "{error}");
        sign(&mut ask, "a", "", &SecretString::from("a2V5")).expect("a key");
        assert!(
            ask.headers
                .last()
                .is_some_and(|(name, value)| *name == "authorization" && value.starts_with("SharedKey a:"))
        );
    }
}
