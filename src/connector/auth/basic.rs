//! HTTP Basic (RFC 7617): user and password in UTF-8, joined by a colon, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::Credential;

/// `Authorization: Basic …`.
pub(crate) fn credential(user: &str, password: &SecretString) -> Credential {
    let pair = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
    Credential { name: "Authorization".into(), value: format!("Basic {pair}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7617_comes_out() {
        let made = credential("Aladdin", &"open sesame".to_owned().into());
        assert_eq!(made.value.expose_secret(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{made:?}"), "Authorization: (hidden)");
    }
}
