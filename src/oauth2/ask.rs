//! What a CRM's token endpoint is asked, as a manifest and an operator's settings say it: the grant, how it is
//! sent, and what of the answer counts. Data only: secrets are references, and nobody is asked.

use std::path::PathBuf;
use std::sync::Arc;

use regex::Regex;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json_path::JsonPath;

use super::assertion::Assertion;
use super::grant::is_this_machine;
use crate::secret::Secret;

/// How a token request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendAs {
    /// As a form, with the client's id and secret in it.
    #[default]
    Form,
    /// As JSON, with the client's id and secret in it.
    Json,
    /// As a form; id and secret by HTTP Basic (RFC 6749 section 2.3.1).
    Basic,
}

/// How an access token is got.
#[derive(Debug, Clone)]
pub enum How {
    /// The client acts by itself (RFC 6749 section 4.4).
    ClientCredentials,
    /// Somebody agreed once (RFC 6749 section 6).
    RefreshToken(Secret),
    /// A signed assertion is the grant (RFC 7523 section 2.1).
    JwtBearer,
}

/// A token request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The token endpoint.
    pub token_url: String,
    /// The grant.
    pub how: How,
    /// How it is sent.
    pub send_as: SendAs,
    /// The client's id.
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// What is signed: the grant of `JwtBearer`, or what stands in place of a client's secret.
    pub assertion: Option<Assertion>,
    /// More parameters.
    pub params: Vec<(String, String)>,
    /// More parameters that are secret.
    pub secret_params: Vec<(String, Secret)>,
    /// Seconds that a token is used if the answer does not say how long it lives.
    pub life: Option<u32>,
    /// Where the answer says at which address the token is good.
    pub base: Option<Arc<Base>>,
    /// Authorities to trust at the token endpoint besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// An address that comes with a token.
#[derive(Debug)]
pub struct Base {
    /// Where it is in the answer.
    pub path: JsonPath,
    /// What the whole of it must fit.
    pub allow: Regex,
}

impl Ask {
    /// All secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let refresh = match &self.how {
            How::RefreshToken(secret) => Some(secret),
            How::ClientCredentials | How::JwtBearer => None,
        };
        let key = self.assertion.as_ref().map(|a| &a.key);
        self.client_secret.iter().chain(refresh).chain(key).chain(self.secret_params.iter().map(|(_, secret)| secret))
    }
}

/// A token endpoint's address. The error completes "the token address `…` …".
pub fn token_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    match url.scheme() {
        _ if url.host_str().is_none_or(str::is_empty) => Err("has no host"),
        "https" => Ok(url),
        "http" if url.host_str().is_some_and(is_this_machine) => Ok(url),
        _ => Err("would send credentials in clear over a network: it must begin with `https://`"),
    }
}
