//! Bearer tokens (RFC 6750).

use secrecy::{ExposeSecret, SecretString};

use super::Credential;

/// `Authorization: Bearer …`.
pub(crate) fn credential(token: &SecretString) -> Credential {
    Credential { name: "Authorization".into(), value: format!("Bearer {}", token.expose_secret()).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_the_scheme() {
        assert_eq!(credential(&"abc".to_owned().into()).value.expose_secret(), "Bearer abc");
    }
}
