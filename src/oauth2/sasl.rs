//! The SASL answers that carry a bearer token: OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's and Microsoft's
//! pages). Pure: a mail protocol's own code sends them.

use serde_json::Value;

/// A mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 7628.
    OAuthBearer,
    /// What came before it.
    XOAuth2,
}

impl Mechanism {
    /// The one to use, from what the server offers; the standard's first.
    pub fn choose(offers: impl Fn(&str) -> bool) -> Option<Self> {
        [Self::OAuthBearer, Self::XOAuth2].into_iter().find(|mechanism| offers(mechanism.name()))
    }

    /// Its name in a protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }

    /// The initial response, before its base64.
    pub fn initial(self, user: &str, host: &str, port: u16, token: &str) -> String {
        match self {
            Self::OAuthBearer => {
                let user = user.replace('=', "=3D").replace(',', "=2C");
                format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01")
            }
            Self::XOAuth2 => format!("user={user}\x01auth=Bearer {token}\x01\x01"),
        }
    }

    /// What answers the server's error challenge, so that it comes to its NO.
    pub fn after_error(self) -> &'static str {
        match self {
            Self::OAuthBearer => "\x01",
            Self::XOAuth2 => "",
        }
    }
}

/// What an error challenge says, for people: its status and the scope that is wanted, without other text.
pub fn error_in(challenge: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(challenge).ok()?;
    let word = |key: &str| {
        let text = json.get(key)?.as_str()?;
        let is_plain =
            text.len() <= 200 && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !text.contains('@');
        is_plain.then_some(text)
    };
    let status = word("status")?;
    Some(word("scope").map_or_else(|| status.to_owned(), |scope| format!("{status}, it wants the scope `{scope}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_those_of_the_documents() {
        // RFC 7628 section 4.1 and Google's example.
        let bearer = Mechanism::OAuthBearer.initial("user@example.com", "server.example.com", 143, "vF9dft4qmT");
        assert_eq!(
            bearer,
            "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmT\x01\x01"
        );
        let old = Mechanism::XOAuth2.initial("someuser@example.com", "h", 1, "ya29.vF9dft4qmT");
        assert_eq!(old, "user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmT\x01\x01");
        assert!(Mechanism::OAuthBearer.initial("a,b=c", "h", 1, "t").starts_with("n,a=a=2Cb=3Dc,"));
    }

    #[test]
    fn the_standard_is_preferred_and_nothing_is_made_up() {
        assert_eq!(Mechanism::choose(|_| true), Some(Mechanism::OAuthBearer));
        assert_eq!(Mechanism::choose(|name| name == "XOAUTH2"), Some(Mechanism::XOAuth2));
        assert_eq!(Mechanism::choose(|_| false), None);
    }

    #[test]
    fn an_error_is_told_in_its_own_words_but_not_in_others() {
        let told = error_in(br#"{"status":"invalid_token","scope":"mail","openid-configuration":"x"}"#);
        assert_eq!(told.as_deref(), Some("invalid_token, it wants the scope `mail`"));
        assert_eq!(error_in(br#"{"status":"for pia@acme.example"}"#), None);
        assert_eq!(error_in(b"\xff"), None);
    }
}
