//! The edge that sends: a planned request, a written mail or a file goes out, and what became of it comes
//! back as a [`Verdict`](crate::outcome::Verdict).
//!
//! One list of senders: [`http`] (an HTTP request, RFC 9112), [`smtp`] (a mail, RFC 5321) and [`storage`] (a
//! file in a folder, a bucket or on an SFTP server). They share no trait: a request has an answer to be judged by a manifest, a mail only
//! a reply code, a file neither.
//!
//! Each tries once. Retrying, ordering and pausing belong to the dispatcher; what a sender owes it is an
//! exact answer to one question: may this have taken effect? A verdict never names a credential, an
//! address, a path below an origin or anything that was sent.

pub mod http;
pub mod smtp;
pub mod storage;

/// A length of time in a configuration file: seconds, fractions allowed, more than none and at most a day.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if seconds > 0.0 && seconds <= 86_400.0 {
            Ok(Duration::from_secs_f64(seconds))
        } else {
            Err(D::Error::custom(format!("{seconds} is not a number of seconds above 0 and up to 86400")))
        }
    }
}
