//! How requests are authorised: one file for each scheme, which says the one header to add. Nothing is fetched
//! here, and nothing is kept: who sends reveals the secrets or gets the token, and asks for the header.

pub(crate) mod basic;
pub(crate) mod bearer;
pub(crate) mod header;
pub(crate) mod hmac;
pub(crate) mod oauth2;

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::http::Request;
use crate::record::{Context, Inline, RenderFault};
use crate::secret::Secret;

pub use oauth2::Grants;

/// A header that carries a credential.
pub struct Credential {
    /// The header's name.
    pub name: String,
    /// Its value, for the wire only.
    pub value: SecretString,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: (hidden)", self.name)
    }
}

/// One `[[auth]]` of a manifest, compiled.
#[derive(Debug)]
pub(crate) struct Scheme {
    pub(crate) when: Option<Inline>,
    pub(crate) way: Way,
}

/// The ways to authorise. Of a secret, the name of its setting.
#[derive(Debug)]
pub(crate) enum Way {
    None,
    Basic { user: basic::Part<Box<Inline>>, password: basic::Part<Box<Inline>> },
    Bearer { token: String },
    Header { name: Box<Inline>, prefix: Box<Inline>, value: String },
    Hmac { name: Box<Inline>, prefix: Box<Inline>, user: Option<Box<Inline>>, signing: hmac::Signing },
    Oauth2(Box<oauth2::Oauth2>),
}

/// The way that a destination's settings chose, its templates rendered.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    None,
    Basic { user: basic::Part<String>, password: basic::Part<String> },
    Bearer { token: String },
    Header { name: String, prefix: String, value: String },
    Hmac(Box<hmac::Signing>),
    Oauth2(Box<oauth2::Grants>),
}

impl Way {
    /// The settings with the secrets that it needs.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::Basic { user, password } => user.secret().into_iter().chain(password.secret()).collect(),
            Self::Bearer { token: name } | Self::Header { value: name, .. } => vec![name],
            Self::Hmac { signing, .. } => vec![&signing.key],
            Self::Oauth2(way) => way.secrets(),
        }
    }

    /// With these settings; `None` if a secret is not set. The inner error is a sentence on the settings.
    pub(crate) fn choose(
        &self,
        settings: &Context,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<Option<Result<Chosen, String>>, RenderFault> {
        if self.secrets().iter().any(|name| !secrets.contains_key(*name)) {
            return Ok(None);
        }
        Ok(Some(Ok(match self {
            Self::None => Chosen::None,
            Self::Basic { user, password } => {
                Chosen::Basic { user: user.render(settings)?, password: password.render(settings)? }
            }
            Self::Bearer { token } => Chosen::Bearer { token: token.clone() },
            Self::Header { name, prefix, value } => {
                Chosen::Header { name: name.text(settings)?, prefix: prefix.text(settings)?, value: value.clone() }
            }
            Self::Hmac { name, prefix, user, signing } => Chosen::Hmac(Box::new(hmac::Signing {
                name: name.text(settings)?,
                prefix: prefix.text(settings)?,
                user: user.as_ref().map(|u| u.text(settings)).transpose()?,
                ..signing.clone()
            })),
            Self::Oauth2(way) => match way.grants(settings, secrets)? {
                None => return Ok(None),
                Some(grants) => return Ok(Some(grants.map(|grants| Chosen::Oauth2(Box::new(grants))))),
            },
        })))
    }
}

impl Chosen {
    /// The settings with the secrets that the header is made of, in the order in which `credential` takes them;
    /// none if a token is asked for first.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::None | Self::Oauth2(_) => Vec::new(),
            Self::Basic { user, password } => user.secret().into_iter().chain(password.secret()).collect(),
            Self::Bearer { token: name } | Self::Header { value: name, .. } => vec![name],
            Self::Hmac(signing) => vec![&signing.key],
        }
    }

    /// The header for revealed secrets (or for a token) and one request to `base_url`.
    pub(crate) fn credential(&self, secrets: &[SecretString], request: &Request, base_url: &str) -> Option<Credential> {
        let secret = secrets.first();
        match self {
            Self::None => None,
            Self::Basic { user, password } => {
                let mut rest = secrets.iter();
                let user = user.text(&mut rest)?;
                Some(basic::credential(&user, &password.text(&mut rest)?))
            }
            Self::Bearer { .. } => secret.map(bearer::credential),
            Self::Header { name, prefix, .. } => Some(header::credential(name, prefix, secret?)),
            Self::Hmac(signing) => signing.credential(secret?, request, base_url),
            Self::Oauth2(grants) => Some(header::credential(&grants.header, &grants.prefix, secret?)),
        }
    }
}
