//! A header of the CRM's own, such as `Authorization: token …` or `X-Api-Key: …`.

use secrecy::{ExposeSecret, SecretString};

use super::Credential;

/// The prefix and the secret under the name that the CRM wants.
pub(crate) fn credential(name: &str, prefix: &str, value: &SecretString) -> Credential {
    Credential { name: name.to_owned(), value: format!("{prefix}{}", value.expose_secret()).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_before_the_secret() {
        let made = credential("Authorization", "token ", &"1-14-x".to_owned().into());
        assert_eq!(made.value.expose_secret(), "token 1-14-x");
    }
}
