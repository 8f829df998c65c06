//! OAuth 2.0 (RFC 6749, RFC 7523): a manifest's words and an operator's settings → what the token endpoint is
//! asked. The asking, keeping and renewing is `crate::oauth2`'s; the token goes into a header like any secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::connector::reply::Statuses;
use crate::oauth2::{Algorithm, Ask, Assertion, Base, How, SendAs, token_url};
use crate::record::{Context, Inline, RenderFault};
use crate::secret::Secret;

/// An `oauth2` scheme of a manifest, compiled.
#[derive(Debug)]
pub(crate) struct Oauth2 {
    pub(crate) grant: Grant,
    pub(crate) token_url: Inline,
    pub(crate) send_as: SendAs,
    pub(crate) client_id: Option<Inline>,
    /// The name of a setting, like all secrets here.
    pub(crate) client_secret: Option<String>,
    pub(crate) assertion: Option<Signing>,
    pub(crate) params: Vec<(String, Inline)>,
    pub(crate) secret_params: Vec<(String, String)>,
    pub(crate) life: Option<u32>,
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) header: String,
    pub(crate) prefix: String,
    pub(crate) renew_on: Statuses,
}

/// The grants, with the secret that is shown.
#[derive(Debug)]
pub(crate) enum Grant {
    ClientCredentials,
    RefreshToken(String),
    JwtBearer,
}

/// What is signed, and with which setting's key.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: String,
    pub(crate) head: Vec<(String, Inline)>,
    pub(crate) claims: Vec<(String, Inline)>,
    pub(crate) life: u32,
}

/// A token request of one destination, and what is done with the token.
#[derive(Debug, Clone)]
pub struct Grants {
    /// What the token endpoint is asked.
    pub ask: Ask,
    pub(crate) header: String,
    pub(crate) prefix: String,
    pub(crate) renew_on: Statuses,
}

impl Grants {
    /// True for the status of an answer that says: this token has ended.
    pub fn is_ended(&self, status: u16) -> bool {
        self.renew_on.has(status)
    }
}

impl Oauth2 {
    /// The settings with the secrets that it needs.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let refresh = match &self.grant {
            Grant::RefreshToken(name) => Some(name.as_str()),
            Grant::ClientCredentials | Grant::JwtBearer => None,
        };
        let key = self.assertion.as_ref().map(|a| a.key.as_str());
        let own = self.client_secret.as_deref().into_iter().chain(refresh).chain(key);
        own.chain(self.secret_params.iter().map(|(_, name)| name.as_str())).collect()
    }

    /// The request with these settings. Nothing if a secret is not set, or a sentence on the token address.
    pub(crate) fn grants(
        &self,
        settings: &Context,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<Option<Result<Grants, String>>, RenderFault> {
        let secret = |name: &String| secrets.get(name).cloned();
        if self.secrets().iter().any(|name| !secrets.contains_key(*name)) {
            return Ok(None);
        }
        let texts = |list: &[(String, Inline)]| -> Result<Vec<(String, String)>, RenderFault> {
            let rendered = list.iter().map(|(name, text)| Ok((name.clone(), text.text(settings)?)));
            Ok(rendered.collect::<Result<Vec<_>, RenderFault>>()?.into_iter().filter(|(_, v)| !v.is_empty()).collect())
        };
        let url = self.token_url.text(settings)?;
        if let Err(why) = token_url(&url) {
            return Ok(Some(Err(format!("the token address `{url}` {why}"))));
        }
        let how = match &self.grant {
            Grant::ClientCredentials => How::ClientCredentials,
            Grant::JwtBearer => How::JwtBearer,
            Grant::RefreshToken(name) => match secret(name) {
                Some(token) => How::RefreshToken(token),
                None => return Ok(None),
            },
        };
        let assertion = match &self.assertion {
            None => None,
            Some(signing) => match secret(&signing.key) {
                None => return Ok(None),
                Some(key) => Some(Assertion {
                    algorithm: signing.algorithm,
                    key,
                    head: texts(&signing.head)?,
                    claims: texts(&signing.claims)?,
                    life: signing.life,
                }),
            },
        };
        let ask = Ask {
            token_url: url,
            how,
            send_as: self.send_as,
            client_id: self.client_id.as_ref().map(|t| t.text(settings)).transpose()?.filter(|id| !id.is_empty()),
            client_secret: self.client_secret.as_ref().and_then(secret),
            assertion,
            params: texts(&self.params)?,
            secret_params: self.secret_params.iter().filter_map(|(p, name)| Some((p.clone(), secret(name)?))).collect(),
            life: self.life,
            base: self.base.clone(),
            ca_file: None,
        };
        let (header, prefix, renew_on) = (self.header.clone(), self.prefix.clone(), self.renew_on.clone());
        Ok(Some(Ok(Grants { ask, header, prefix, renew_on })))
    }
}
