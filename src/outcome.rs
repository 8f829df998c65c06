//! What became of an attempt, in words that logs, the ledger and the command line share.
//!
//! `Outcome` is the result of one attempt, `Reason` the closed set of causes. HTTP status codes, SMTP
//! reply codes and io errors become an [`Verdict`] here and nowhere else. Unknown means temporary.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of one attempt (RFC 3464 would say: delivered, delayed, failed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The record now is as the session says.
    Delivered,
    /// Not now: it is tried again by itself.
    Deferred,
    /// Not as it is: a person has to change something.
    Failed,
}

impl Outcome {
    /// The word in the ledger and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal,)*) => {
        /// Why: one closed set for messages, deliveries and attempts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason { $($(#[doc = $doc])* $name,)* }

        impl Reason {
            /// Every reason, for schemas and metrics.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word in the ledger, in logs and in manifests.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $word,)* }
            }

            /// The reason with this word.
            pub fn from_word(word: &str) -> Option<Reason> {
                match word { $($word => Some(Reason::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    // messages: product.md section 5
    /// An ordinary mail without session metadata.
    NoMetadata = "no_metadata",
    /// An automatic reply (RFC 3834).
    AutoReply = "auto_reply",
    /// A delivery status notification (RFC 3464).
    Bounce = "bounce",
    /// List or bulk mail.
    Bulk = "bulk",
    /// Mail that this program wrote.
    OwnMail = "own_mail",
    /// Mail that goes in a circle.
    Loop = "loop",
    /// Its source's `trust` does not let it cause an effect.
    Untrusted = "untrusted",
    /// Larger than a limit.
    TooLarge = "too_large",
    /// Reading it would take more work than a limit allows.
    TooMuchWork = "too_much_work",
    /// Nested deeper than a limit.
    TooDeep = "too_deep",
    /// Nearly a session, but broken.
    MalformedMetadata = "malformed_metadata",
    /// Two readings that contradict each other in what decides the record.
    Ambiguous = "ambiguous",
    // deliveries
    /// Applied: the record is as the session says.
    Applied = "applied",
    /// Nothing to send: all of it was applied before.
    Unchanged = "unchanged",
    /// The effect was found in the CRM after an uncertain result.
    AlreadyApplied = "already_applied",
    /// Part of it was applied and part refused.
    Partial = "partial",
    /// A newer version of the session took its place.
    Superseded = "superseded",
    /// Held back by the brake: the same contents come back again and again.
    Braked = "braked",
    /// The session names no record yet.
    NoRecordId = "no_record_id",
    /// The record id does not have the form that the connector expects.
    BadRecordId = "bad_record_id",
    /// The CRM has no such record.
    RecordNotFound = "record_not_found",
    /// The record is closed for changes.
    RecordClosed = "record_closed",
    /// Another record took its place.
    RecordMerged = "record_merged",
    /// More than one record fits.
    RecordAmbiguous = "record_ambiguous",
    /// Somebody else changed the record at the same time.
    Conflict = "conflict",
    /// The CRM says: too many requests.
    RateLimited = "rate_limited",
    /// The CRM is down or failing.
    Unavailable = "unavailable",
    /// No answer in time; whether it took effect is not known.
    Timeout = "timeout",
    /// The connection broke after the request was written; whether it took effect is not known.
    ConnectionLost = "connection_lost",
    /// No connection could be made.
    Unreachable = "unreachable",
    /// The name of the host is not known.
    Dns = "dns",
    /// The TLS handshake failed.
    Tls = "tls",
    /// The credentials are refused.
    Unauthorized = "unauthorized",
    /// The account may not do this.
    NotPermitted = "not_permitted",
    /// The address answers, but it is not the CRM's interface.
    BadBaseUrl = "bad_base_url",
    /// A quota that lasts longer than a rate limit.
    Quota = "quota",
    /// The CRM refuses this content.
    RejectedPayload = "rejected_payload",
    /// The CRM does not know a field that the template names.
    UnknownField = "unknown_field",
    /// The answer is not one that the manifest expects.
    UnexpectedReply = "unexpected_reply",
    /// The template could not be rendered for this session.
    TemplateFailed = "template_failed",
    /// The mail server refuses the recipient or the message for good.
    MailRefused = "mail_refused",
    /// The mail server asks to try later.
    MailDeferred = "mail_deferred",
    /// The disk or folder does not take the file.
    StorageFailed = "storage_failed",
    /// The result of a step that must not be repeated is not known: a person decides.
    Uncertain = "uncertain",
    /// Tried for longer than the retry horizon.
    Expired = "expired",
    /// The destination is paused.
    Paused = "paused",
    /// Discarded by hand.
    Discarded = "discarded",
    /// The process stopped while it was under way.
    Interrupted = "interrupted",
    /// A fault inside this program.
    Internal = "internal",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the dispatcher does next with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It worked: go on.
    Ok,
    /// Part of it took effect; do not send it again.
    Partial,
    /// Try again later.
    Retry,
    /// Somebody else holds the record: try again very soon.
    Conflict,
    /// The operator's configuration is wrong: hold the whole destination, burn no delivery.
    Pause,
    /// This delivery can't succeed as it is.
    Dead,
    /// The record is not there, or not ready: wait for it until the deadline, and look again now and then.
    Park,
}

/// A judged answer: class, reason, whether the effect is uncertain, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to do next.
    pub class: Class,
    /// Why.
    pub reason: Reason,
    /// True if the request may have taken effect although no proper answer came.
    pub uncertain: bool,
    /// The server's own wish (`Retry-After`), if it said one.
    pub retry_after: Option<Duration>,
    /// A sentence for people; never contains credentials or personal data.
    pub detail: String,
}

impl Verdict {
    /// A verdict with a sentence.
    pub fn new(class: Class, reason: Reason, detail: impl Into<String>) -> Self {
        Self { class, reason, uncertain: false, retry_after: None, detail: detail.into() }
    }

    /// All is well.
    pub fn ok() -> Self {
        Self::new(Class::Ok, Reason::Applied, "")
    }

    /// The same verdict, with the effect not known.
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self
    }
}

/// What an HTTP status says when no reply table says otherwise (RFC 9110 section 15).
pub fn of_http_status(status: u16) -> Verdict {
    let (class, reason) = match status {
        200..=299 => (Class::Ok, Reason::Applied),
        300..=399 => (Class::Pause, Reason::BadBaseUrl),
        401 => (Class::Pause, Reason::Unauthorized),
        403 => (Class::Pause, Reason::NotPermitted),
        404 | 410 => (Class::Dead, Reason::RecordNotFound),
        409 | 412 | 423 => (Class::Conflict, Reason::Conflict),
        408 => (Class::Retry, Reason::Timeout),
        425 | 429 => (Class::Retry, Reason::RateLimited),
        413 => (Class::Dead, Reason::TooLarge),
        400..=499 => (Class::Dead, Reason::RejectedPayload),
        _ => (Class::Retry, Reason::Unavailable),
    };
    Verdict::new(class, reason, format!("HTTP status {status}"))
}

/// What an SMTP reply code says (RFC 5321 section 4.2): 4yz temporary, 5yz permanent.
pub fn of_smtp_code(code: u16) -> Verdict {
    let (class, reason) = match code {
        200..=399 => (Class::Ok, Reason::Applied),
        400..=499 => (Class::Retry, Reason::MailDeferred),
        530 | 534 | 535 | 538 => (Class::Pause, Reason::Unauthorized),
        500..=599 => (Class::Dead, Reason::MailRefused),
        _ => (Class::Retry, Reason::MailDeferred),
    };
    Verdict::new(class, reason, format!("SMTP reply {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_comes_back_from_it() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(*reason));
            assert_eq!(serde_json::to_value(reason).ok(), Some(reason.as_str().into()));
        }
    }

    #[test]
    fn configuration_faults_pause_and_overload_retries() {
        for status in [301, 302, 401, 403] {
            assert_eq!(of_http_status(status).class, Class::Pause, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(of_http_status(status).class, Class::Retry, "{status}");
        }
        for status in [400, 404, 413, 422] {
            assert_eq!(of_http_status(status).class, Class::Dead, "{status}");
        }
    }

    #[test]
    fn smtp_replies_follow_their_first_digit() {
        assert_eq!(of_smtp_code(250).class, Class::Ok);
        assert_eq!(of_smtp_code(451).class, Class::Retry);
        assert_eq!(of_smtp_code(552).class, Class::Dead);
        assert_eq!(of_smtp_code(535).class, Class::Pause);
    }
}
