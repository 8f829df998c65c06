//! HTTP Basic (RFC 7617): user and password in UTF-8, joined by a colon, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::Credential;
use crate::record::{Context, Inline, RenderFault};

/// The user or the password: a template over the settings, or the name of a secret one.
#[derive(Debug, Clone)]
pub(crate) enum Part<T> {
    Text(T),
    Secret(String),
}

impl<T> Part<T> {
    pub(crate) fn secret(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Secret(name) => Some(name),
        }
    }
}

impl Part<Box<Inline>> {
    pub(crate) fn render(&self, settings: &Context) -> Result<Part<String>, RenderFault> {
        Ok(match self {
            Self::Text(template) => Part::Text(template.text(settings)?),
            Self::Secret(name) => Part::Secret(name.clone()),
        })
    }
}

impl Part<String> {
    /// Takes the next of the revealed secrets if it is one.
    pub(crate) fn text<'a>(&self, revealed: &mut impl Iterator<Item = &'a SecretString>) -> Option<SecretString> {
        match self {
            Self::Text(text) => Some(text.clone().into()),
            Self::Secret(_) => revealed.next().cloned(),
        }
    }
}

/// `Authorization: Basic …`.
pub(crate) fn credential(user: &SecretString, password: &SecretString) -> Credential {
    let pair = STANDARD.encode(format!("{}:{}", user.expose_secret(), password.expose_secret()));
    Credential { name: "Authorization".into(), value: format!("Basic {pair}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7617_comes_out() {
        let made = credential(&"Aladdin".to_owned().into(), &"open sesame".to_owned().into());
        assert_eq!(made.value.expose_secret(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{made:?}"), "Authorization: (hidden)");
    }
}
