//! What a token endpoint answers (RFC 6749 sections 5.1 and 5.2): a token, a refusal that a person must mend, or
//! something that passes. Passes on no text of the server but known words: descriptions name people.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::grant::{Grant, Words};
use crate::outcome::Reason;

/// A token that does not say how long it lives is used for so long.
const UNKNOWN_LIFE: u64 = 300;
/// No token is used longer without a renewal.
const LONGEST_LIFE: u64 = 24 * 3600;
/// Renewal comes this much before the end, or a fifth of the life if that is less.
const EARLY: u64 = 300;

/// An answer.
pub(super) enum Answer {
    Granted(Granted),
    Refused {
        /// It is the refresh token that was refused, not the application.
        is_invalid_grant: bool,
        detail: String,
    },
    Passing(Reason, String),
}

/// A token that was given.
pub(super) struct Granted {
    pub(super) access: SecretString,
    /// In exchange for the one that was shown.
    pub(super) refresh: Option<SecretString>,
    /// The address at which it is good, if the answer was to say so.
    pub(super) base: Option<String>,
    life: u64,
}

impl Granted {
    /// From the request on, how long it may be used.
    pub(super) fn use_for(&self) -> Duration {
        Duration::from_secs(self.life - EARLY.min(self.life / 5))
    }
}

/// Reads an answer to this grant.
pub(super) fn read(status: u16, body: &[u8], grant: &Grant) -> Answer {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |key: &str| json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    // Some say no with a 200.
    if matches!(status, 200 | 201) && text("error").is_none() {
        let unusable = |what: &str| Answer::Passing(Reason::UnexpectedReply, what.to_owned());
        let Some(access) = text("access_token") else { return unusable("answers without an access token") };
        // It becomes part of a line: what is no token must not end one.
        if !access.bytes().all(|b| b.is_ascii_graphic()) {
            return unusable("gives a token with characters that no token has");
        }
        if text("token_type").is_some_and(|word| !word.eq_ignore_ascii_case("bearer")) {
            return unusable("gives a token that is not of the type `Bearer`");
        }
        let base = match &grant.base {
            None => None,
            Some(base) => match base.path.query(&json).first().and_then(Value::as_str) {
                Some(given) if base.allow.is_match(given) => Some(given.trim_end_matches('/').to_owned()),
                Some(_) => {
                    let detail = "gives a token for an address that the connector's `base_url.allow` does not allow";
                    return Answer::Refused { is_invalid_grant: false, detail: detail.to_owned() };
                }
                None => return unusable("answers without the address at which the token is good"),
            },
        };
        let life = match json.get("expires_in") {
            Some(Value::Number(number)) => number.as_f64().map(|seconds| seconds as u64),
            Some(Value::String(digits)) => digits.trim().parse().ok(),
            _ => None,
        };
        let unknown = grant.life.map_or(UNKNOWN_LIFE, u64::from);
        return Answer::Granted(Granted {
            access: access.to_owned().into(),
            refresh: text("refresh_token").map(|token| token.to_owned().into()),
            base,
            life: life.unwrap_or(unknown).min(LONGEST_LIFE),
        });
    }
    let code = text("error").unwrap_or_default();
    let Words { client, consent, address, scope } = &grant.words;
    let hint = match code {
        "invalid_grant" | "invalid_code" => {
            format!(
                "agree again at the provider and write it anew in {consent}: the old one has ended, was withdrawn, or is of another application"
            )
        }
        "invalid_client" | "invalid_client_secret" => format!("check {client}: the secret may have ended"),
        "unauthorized_client" | "unsupported_grant_type" => {
            format!("allow this grant for the application at the provider, or check {consent}")
        }
        "invalid_scope" => format!("check {scope}"),
        "invalid_request" | "invalid_resource" => format!("check {address}, {scope} and the other parameters"),
        "access_denied" | "interaction_required" | "consent_required" | "login_required" => {
            "let the owner or an administrator agree again at the provider".to_owned()
        }
        _ if matches!(status, 429 | 503) || matches!(code, "temporarily_unavailable" | "server_error") => {
            let reason = if status == 429 { Reason::RateLimited } else { Reason::Unavailable };
            return Answer::Passing(reason, format!("asks for patience (HTTP {status})"));
        }
        _ if matches!(status, 200..500) && !matches!(status, 408 | 425) => {
            format!("check {address}, and {client}")
        }
        _ => return Answer::Passing(Reason::Unavailable, format!("gives no token (HTTP {status})")),
    };
    let word = |text: &str| text.len() <= 40 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let code = if !code.is_empty() && word(code) { format!("`{code}`") } else { format!("HTTP {status}") };
    let more = text("error_description").and_then(microsoft_code).map(|code| format!(", {code}")).unwrap_or_default();
    let detail = format!("gives no token ({code}{more}): {hint}");
    Answer::Refused { is_invalid_grant: text("error") == Some("invalid_grant"), detail }
}

/// `AADSTS70008`, by which Microsoft's pages explain a refusal.
fn microsoft_code(description: &str) -> Option<&str> {
    let start = description.find("AADSTS")?;
    let rest = description.get(start..)?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    rest.get(..end.min(16))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn grant() -> Grant {
        let text = "client_id = 'c'\nclient_secret = 's'\ntoken_url = 'https://a.example/t'";
        Grant::of(&toml::from_str(text).expect("settings")).expect("a grant")
    }

    fn read(status: u16, body: &[u8]) -> Answer {
        super::read(status, body, &grant())
    }

    fn granted(body: &str) -> Granted {
        match read(200, body.as_bytes()) {
            Answer::Granted(granted) => granted,
            _ => panic!("no token in {body}"),
        }
    }

    #[test]
    fn a_token_is_used_for_most_of_its_life() {
        let seconds = |more: &str| granted(&format!(r#"{{"access_token":"t","token_type":"bearer"{more}}}"#)).use_for();
        assert_eq!(seconds(r#","expires_in":3600"#), Duration::from_secs(3300));
        assert_eq!(seconds(r#","expires_in":"3600""#), Duration::from_secs(3300));
        assert_eq!(seconds(r#","expires_in":10"#), Duration::from_secs(8));
        assert_eq!(seconds(r#","expires_in":-5"#), Duration::ZERO);
        assert_eq!(seconds(""), Duration::from_secs(240));
        assert_eq!(seconds(r#","expires_in":1e300"#), Duration::from_secs(24 * 3600 - 300));
        let exchanged = granted(r#"{"access_token":"t","refresh_token":"new"}"#);
        assert_eq!(exchanged.refresh.expect("one").expose_secret(), "new");
    }

    #[test]
    fn what_is_no_token_is_not_used() {
        for body in [
            "",
            "[]",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a\r\nb"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
        ] {
            assert!(matches!(read(200, body.as_bytes()), Answer::Passing(Reason::UnexpectedReply, _)), "{body}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_nothing_of_people() {
        let body = r#"{"error":"invalid_grant","error_description":"AADSTS70008: pia@acme.example let it end. Trace"}"#;
        let Answer::Refused { is_invalid_grant: true, detail } = read(400, body.as_bytes()) else { panic!("{body}") };
        assert!(detail.contains("`invalid_grant`, AADSTS70008") && detail.contains("oauth2.refresh_token"), "{detail}");
        assert!(!detail.contains("pia"), "{detail}");
        assert!(matches!(read(401, b"<html>"), Answer::Refused { is_invalid_grant: false, .. }));
        for (status, reason) in [(429, Reason::RateLimited), (503, Reason::Unavailable), (500, Reason::Unavailable)] {
            assert!(matches!(read(status, b"{}"), Answer::Passing(found, _) if found == reason), "{status}");
        }
    }

    #[test]
    fn a_no_with_a_200_and_a_stranger_address_are_refusals() {
        assert!(matches!(read(200, br#"{"error":"invalid_code"}"#), Answer::Refused { .. }));
        assert!(matches!(read(400, br#"{"error":"server_error"}"#), Answer::Passing(Reason::Unavailable, _)));
        let base = crate::oauth2::Base {
            path: serde_json_path::JsonPath::parse("$.instance_url").expect("a path"),
            allow: regex::Regex::new(r"^https://[a-z0-9.-]+\.crm\.example$").expect("a pattern"),
        };
        let mut grant = grant();
        (grant.base, grant.life) = (Some(std::sync::Arc::new(base)), Some(900));
        let read = |url: &str| {
            super::read(200, format!(r#"{{"access_token":"t","instance_url":"{url}"}}"#).as_bytes(), &grant)
        };
        let Answer::Granted(granted) = read("https://eu7.crm.example") else { panic!("no token") };
        assert_eq!((granted.base.as_deref(), granted.use_for().as_secs()), (Some("https://eu7.crm.example"), 720));
        assert!(matches!(read("https://crm.example.evil.example"), Answer::Refused { .. }));
        assert!(matches!(super::read(200, br#"{"access_token":"t"}"#, &grant), Answer::Passing(..)));
    }
}
