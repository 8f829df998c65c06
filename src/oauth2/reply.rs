//! What a token endpoint answers (RFC 6749 sections 5.1 and 5.2): a token, a refusal that a person must mend, or
//! something that passes. Passes on no text of the server but known words: descriptions name people.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

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
    life: u64,
}

impl Granted {
    /// From the request on, how long it may be used.
    pub(super) fn use_for(&self) -> Duration {
        Duration::from_secs(self.life - EARLY.min(self.life / 5))
    }
}

/// Reads an answer.
pub(super) fn read(status: u16, body: &[u8]) -> Answer {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |key: &str| json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if status == 200 {
        let unusable = |what: &str| Answer::Passing(Reason::UnexpectedReply, what.to_owned());
        let Some(access) = text("access_token") else { return unusable("answers without an access token") };
        // It becomes part of a line: what is no token must not end one.
        if !access.bytes().all(|b| b.is_ascii_graphic()) {
            return unusable("gives a token with characters that no token has");
        }
        if text("token_type").is_some_and(|word| !word.eq_ignore_ascii_case("bearer")) {
            return unusable("gives a token that is not of the type `Bearer`");
        }
        let life = match json.get("expires_in") {
            Some(Value::Number(number)) => number.as_f64().map(|seconds| seconds as u64),
            Some(Value::String(digits)) => digits.trim().parse().ok(),
            _ => None,
        };
        return Answer::Granted(Granted {
            access: access.to_owned().into(),
            refresh: text("refresh_token").map(|token| token.to_owned().into()),
            life: life.unwrap_or(UNKNOWN_LIFE).min(LONGEST_LIFE),
        });
    }
    let code = text("error").unwrap_or_default();
    let hint = match code {
        "invalid_grant" => {
            "let the mailbox's owner agree again and write the new `oauth2.refresh_token`: the old one has ended, was withdrawn, or is of another application"
        }
        "invalid_client" => "check `oauth2.client_id` and `oauth2.client_secret`: the secret may have ended",
        "unauthorized_client" | "unsupported_grant_type" => {
            "allow this grant for the application at the provider, or write `oauth2.refresh_token`"
        }
        "invalid_scope" => "check `oauth2.scope`",
        "invalid_request" | "invalid_resource" => "check `oauth2.token_url`, `oauth2.tenant` and `oauth2.scope`",
        "access_denied" | "interaction_required" | "consent_required" | "login_required" => {
            "let the owner or an administrator agree again at the provider"
        }
        _ if matches!(status, 429 | 503) => {
            let reason = if status == 429 { Reason::RateLimited } else { Reason::Unavailable };
            return Answer::Passing(reason, format!("asks for patience (HTTP {status})"));
        }
        _ if matches!(status, 401 | 403 | 404 | 405) => "check `oauth2.token_url`, `oauth2.client_id` and its secret",
        _ => return Answer::Passing(Reason::Unavailable, format!("gives no token (HTTP {status})")),
    };
    let code = if code.is_empty() { format!("HTTP {status}") } else { format!("`{code}`") };
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
}
