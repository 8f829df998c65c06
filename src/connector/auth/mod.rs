//! How requests are authorised: one file for each scheme, which says the one header to add. Nothing is fetched
//! here, and nothing is kept: the sender reveals the secret, adds the header, and forgets both.

pub(crate) mod basic;
pub(crate) mod bearer;
pub(crate) mod header;

use secrecy::SecretString;

use crate::record::{Context, Inline, RenderFault};

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

/// The ways to authorise, with the name of the secret setting that each needs.
#[derive(Debug)]
pub(crate) enum Way {
    None,
    Basic { user: Box<Inline>, password: String },
    Bearer { token: String },
    Header { name: Box<Inline>, prefix: Box<Inline>, value: String },
}

/// The way that a destination's settings chose, its templates rendered.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    None,
    Basic { user: String, password: String },
    Bearer { token: String },
    Header { name: String, prefix: String, value: String },
}

impl Way {
    pub(crate) fn choose(&self, settings: &Context) -> Result<Chosen, RenderFault> {
        Ok(match self {
            Self::None => Chosen::None,
            Self::Basic { user, password } => Chosen::Basic { user: user.text(settings)?, password: password.clone() },
            Self::Bearer { token } => Chosen::Bearer { token: token.clone() },
            Self::Header { name, prefix, value } => {
                Chosen::Header { name: name.text(settings)?, prefix: prefix.text(settings)?, value: value.clone() }
            }
        })
    }
}

impl Chosen {
    /// The setting with the secret that it needs.
    pub(crate) fn secret(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Basic { password, .. } => Some(password),
            Self::Bearer { token } => Some(token),
            Self::Header { value, .. } => Some(value),
        }
    }

    /// The header for a revealed secret.
    pub(crate) fn credential(&self, secret: &SecretString) -> Option<Credential> {
        match self {
            Self::None => None,
            Self::Basic { user, .. } => Some(basic::credential(user, secret)),
            Self::Bearer { .. } => Some(bearer::credential(secret)),
            Self::Header { name, prefix, .. } => Some(header::credential(name, prefix, secret)),
        }
    }
}
