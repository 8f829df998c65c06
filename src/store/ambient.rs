//! Credentials that a machine, a container or a workload has by itself: Google's metadata server, AWS's roles (web
//! identity, containers, IMDSv2), Azure's workload and managed identities. Addresses and variables are the vendors' own.

use std::env;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::fresh::unauthorized;
use super::origin::{Ask, Origin};
use super::uri;
use crate::outcome::{Reason, Verdict};

/// Credentials are renewed so long before they end.
const EARLY: Duration = Duration::from_secs(300);
/// Where clouds tell their machines who they are.
const METADATA: &str = "http://169.254.169.254";

/// An access token with how long to use it.
pub(super) type Token = (SecretString, Duration);

/// An access key of AWS.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: SecretString,
    pub(super) session: Option<SecretString>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    // Azure's metadata server writes it as text.
    expires_in: serde_json::Value,
}

/// Reads what a token endpoint grants.
pub(super) fn granted(body: &[u8]) -> Option<Token> {
    let granted: Granted = serde_json::from_slice(body).ok()?;
    let seconds = granted.expires_in.as_u64().or_else(|| granted.expires_in.as_str()?.parse().ok())?;
    let life = Duration::from_secs(seconds);
    Some((granted.access_token.into(), life.checked_sub(EARLY).unwrap_or(life / 2)))
}

/// A variable that is set.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Sends a request to a service that hands out credentials.
async fn ask(endpoint: &str, ask: Ask, what: &str) -> Result<bytes::Bytes, Verdict> {
    let origin = Origin::new(endpoint, None).map_err(unauthorized)?;
    let answer = origin.send(ask).await.map_err(|verdict| match verdict.reason {
        Reason::Unreachable | Reason::Timeout | Reason::Dns => {
            unauthorized(format!("there are no credentials in the configuration, and {what} does not answer"))
        }
        _ => verdict,
    })?;
    if !answer.is_success() {
        return Err(unauthorized(format!("{what} gives no credentials: it answers with status {}", answer.status)));
    }
    Ok(answer.body)
}

fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Verdict> {
    serde_json::from_slice(body).map_err(|_| unauthorized(format!("{what} answers in an unknown form")))
}

/// The file that a variable names.
fn file(path: &str) -> Result<String, Verdict> {
    let text = std::fs::read_to_string(path).map_err(|e| unauthorized(format!("can't read `{path}`: {e}")))?;
    Ok(text.trim().to_owned())
}

/// A token of the machine's service account at Google.
pub(super) async fn google() -> Result<Token, Verdict> {
    let what = "Google's metadata server";
    let host = variable("GCE_METADATA_HOST").map_or(METADATA.to_owned(), |host| format!("http://{host}"));
    let path = "/computeMetadata/v1/instance/service-accounts/default/token".to_owned();
    let body = ask(&host, Ask::new(Method::GET, path).header("metadata-flavor", "Google"), what).await?;
    granted(&body).ok_or_else(|| unauthorized(format!("{what} answers in an unknown form")))
}

/// A token for storage of the workload's or the machine's identity at Azure.
pub(super) async fn azure() -> Result<Token, Verdict> {
    const STORAGE: &str = "https://storage.azure.com/";
    let workload = (variable("AZURE_FEDERATED_TOKEN_FILE"), variable("AZURE_CLIENT_ID"), variable("AZURE_TENANT_ID"));
    let (what, body) = if let (Some(path), Some(client), Some(tenant)) = workload {
        let what = "Azure's token endpoint";
        let host = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
        let form = uri::query(&[
            ("grant_type", "client_credentials"),
            ("client_id", &client),
            ("scope", &format!("{STORAGE}.default")),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &file(&path)?),
        ]);
        let request = Ask::new(Method::POST, format!("/{}/oauth2/v2.0/token", uri::encode(&tenant)));
        (what, ask(&host, request.body("application/x-www-form-urlencoded", form.into()), what).await?)
    } else {
        let what = "Azure's metadata server";
        let request = Ask::new(Method::GET, "/metadata/identity/oauth2/token".to_owned());
        let request = request.query(&[("api-version", "2018-02-01"), ("resource", STORAGE)]).header("metadata", "true");
        (what, ask(METADATA, request, what).await?)
    };
    granted(&body).ok_or_else(|| unauthorized(format!("{what} answers in an unknown form")))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleKey {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: String,
    expiration: Timestamp,
}

impl RoleKey {
    fn with_life(self) -> (Key, Duration) {
        let left = self.expiration.duration_since(Timestamp::now()).unsigned_abs();
        let key =
            Key { id: self.access_key_id, secret: self.secret_access_key.into(), session: Some(self.token.into()) };
        (key, left.checked_sub(EARLY).unwrap_or(left / 2))
    }
}

/// The answer of `AssumeRoleWithWebIdentity`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    assume_role_with_web_identity_result: AssumedResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedResult {
    credentials: RoleKey,
}

/// The key of the role that the workload, the container or the machine has at AWS.
pub(super) async fn aws(region: &str) -> Result<(Key, Duration), Verdict> {
    if let (Some(path), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        let what = "AWS's token service";
        let form = uri::query(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &role),
            ("RoleSessionName", "mail2crm"),
            ("WebIdentityToken", &file(&path)?),
        ]);
        let host = variable("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
        let request = Ask::new(Method::POST, "/".to_owned()).body("application/x-www-form-urlencoded", form.into());
        let body = ask(&host, request, what).await?;
        let assumed: Assumed = quick_xml::de::from_reader(&body[..])
            .map_err(|_| unauthorized(format!("{what} answers in an unknown form")))?;
        return Ok(assumed.assume_role_with_web_identity_result.credentials.with_life());
    }
    let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("http://169.254.170.2{path}"));
    if let Some(uri) = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").or(relative) {
        let what = "AWS's service for the container";
        let mut request = Ask::new(Method::GET, String::new());
        let token = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| file(&path)).transpose()?;
        if let Some(token) = token.or_else(|| variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")) {
            request = request.header("authorization", token);
        }
        return Ok(read::<RoleKey>(&ask(&uri, request, what).await?, what)?.with_life());
    }
    let what = "AWS's metadata server";
    let host = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
    let request = Ask::new(Method::PUT, "/latest/api/token".to_owned());
    let token = ask(&host, request.header("x-aws-ec2-metadata-token-ttl-seconds", "300"), what).await?;
    let token = String::from_utf8_lossy(&token).into_owned();
    let path = "/latest/meta-data/iam/security-credentials/";
    let get = |path: String| Ask::new(Method::GET, path).header("x-aws-ec2-metadata-token", token.clone());
    let role = ask(&host, get(path.to_owned()), what).await?;
    let role = String::from_utf8_lossy(&role).lines().next().unwrap_or_default().to_owned();
    let body = ask(&host, get(format!("{path}{}", uri::encode(&role))), what).await?;
    Ok(read::<RoleKey>(&body, what)?.with_life())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_before_they_end() {
        let life = |body: &str| granted(body.as_bytes()).map(|(_, life)| life.as_secs());
        assert_eq!(life(r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#), Some(3299));
        assert_eq!(life(r#"{"access_token":"t","expires_in":"120"}"#), Some(60));
        assert_eq!(life(r#"{"error":"invalid_grant"}"#), None);
    }

    #[test]
    fn a_key_of_a_role_is_read_in_both_forms() {
        let text = r#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":"2100-01-01T00:00:00Z"}"#;
        let (key, life) = read::<RoleKey>(text.as_bytes(), "it").expect("a key").with_life();
        assert_eq!((key.id.as_str(), key.session.is_some()), ("A", true));
        assert!(life > Duration::from_secs(3600));
        let xml = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
            <AssumeRoleWithWebIdentityResult><Audience>a</Audience><Credentials><SessionToken>T</SessionToken>\
            <SecretAccessKey>S</SecretAccessKey><Expiration>2100-01-01T00:00:00Z</Expiration><AccessKeyId>A</AccessKeyId>\
            </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        let assumed: Assumed = quick_xml::de::from_str(xml).expect("a key");
        assert_eq!(assumed.assume_role_with_web_identity_result.credentials.access_key_id, "A");
    }
}
