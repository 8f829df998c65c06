//! What lists are narrowed to, the same words for messages, sessions and deliveries.

use jiff::{Timestamp, ToSpan as _, Zoned};

use super::{Failure, Result};
use crate::ledger::Filter;
use crate::outcome::Reason;
use crate::session::{Channel, SessionKey};

/// Everything that is given must fit.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FilterArgs {
    /// Only those that came from this source.
    #[arg(long)]
    source: Option<String>,
    /// Only those that go to this destination.
    #[arg(long)]
    destination: Option<String>,
    /// Only those of this record of the CRM.
    #[arg(long)]
    record: Option<String>,
    /// Only those of this session, such as `voice-48213` or `emea/voice-48213`.
    #[arg(long)]
    session: Option<String>,
    /// Only those with this reason, such as `unknown_field` or `untrusted`.
    #[arg(long)]
    reason: Option<String>,
    /// Only those since then: `2h`, `3d`, `2026-02-17`, `2026-02-17T10:00:00Z`.
    #[arg(long)]
    since: Option<String>,
    /// Only those before then.
    #[arg(long)]
    until: Option<String>,
    /// At most so many, the newest. Lists: 100 if not said.
    #[arg(long)]
    limit: Option<usize>,
}

impl FilterArgs {
    /// The ledger's filter for a list, with a state of its own kind.
    pub(super) fn filter<S>(self, state: Option<S>) -> Result<Filter<S>> {
        let mut filter = self.every(state)?;
        filter.limit.get_or_insert(100);
        Ok(filter)
    }

    /// Whether it narrows anything; a number alone does not.
    pub(super) fn is_empty(&self) -> bool {
        let Self { source, destination, record, session, reason, since, until, limit: _ } = self;
        [source, destination, record, session, reason, since, until].iter().all(|given| given.is_none())
    }

    /// The ledger's filter for all that fit.
    pub(super) fn every<S>(self, state: Option<S>) -> Result<Filter<S>> {
        Ok(Filter {
            state,
            reason: reason(self.reason.as_deref())?,
            source: self.source,
            destination: self.destination,
            record: self.record,
            session: self.session.as_deref().map(session_key).transpose()?,
            since: self.since.as_deref().map(|t| moment("--since", t)).transpose()?,
            until: self.until.as_deref().map(|t| moment("--until", t)).transpose()?,
            limit: self.limit,
        })
    }
}

/// `voice-48213`, or `emea/voice-48213` for an instance other than `default`.
pub(super) fn session_key(text: &str) -> Result<SessionKey> {
    let (instance, rest) = text.split_once('/').unwrap_or(("default", text));
    let key = rest.split_once('-').and_then(|(channel, id)| {
        let channel = Channel::from_word(channel)?;
        Some(SessionKey { instance: instance.to_owned(), channel, id: id.to_owned() })
    });
    key.ok_or_else(|| {
        Failure::Usage(
            format!("`{text}` is no session"),
            "write channel and id, such as `voice-48213`, or `emea/voice-48213` for another instance than `default`"
                .to_owned(),
        )
    })
}

/// A moment: so long ago, a date, or a time.
pub(super) fn moment(option: &str, text: &str) -> Result<Timestamp> {
    let now = Zoned::now();
    let ago = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(number, unit)| {
        let number: i64 = number.parse().ok()?;
        let span = match unit {
            "m" => number.minutes(),
            "h" => number.hours(),
            "d" => number.days(),
            "w" => number.weeks(),
            _ => return None,
        };
        now.checked_sub(span).ok().map(|t| t.timestamp())
    });
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(now.time_zone().clone()).ok().map(|t| t.timestamp());
    ago.or_else(|| text.parse().ok()).or_else(date).ok_or_else(|| {
        Failure::Usage(
            format!("`{option} {text}` is no time"),
            "write `2h`, `3d`, `2026-02-17` or `2026-02-17T10:00:00Z`".to_owned(),
        )
    })
}

fn reason(word: Option<&str>) -> Result<Option<Reason>> {
    let Some(word) = word else { return Ok(None) };
    Reason::from_word(word).map(Some).ok_or_else(|| {
        let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        Failure::Usage(format!("`{word}` is no reason"), crate::diagnostic::suggest(word, known))
    })
}

/// A state, or what the states are.
pub(super) fn state<S>(
    word: Option<&str>,
    known: &[&'static str],
    read: impl Fn(&str) -> Option<S>,
) -> Result<Option<S>> {
    let Some(word) = word else { return Ok(None) };
    read(word).map(Some).ok_or_else(|| {
        Failure::Usage(format!("`{word}` is no state"), crate::diagnostic::suggest(word, known.iter().copied()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_as_lists_print_it() {
        for text in ["voice-48213", "emea/chat-7"] {
            assert_eq!(session_key(text).expect("a key").to_string(), text);
        }
        assert!(session_key("48213").is_err());
    }

    #[test]
    fn a_time_is_so_long_ago_a_date_or_a_moment() {
        let ago = Timestamp::now().duration_since(moment("--since", "2h").expect("a time")).as_secs();
        assert!((7190..7210).contains(&ago), "{ago}");
        assert!(moment("--since", "2026-02-17").is_ok());
        assert_eq!(moment("--since", "2026-02-17T10:00:00Z").expect("a time").to_string(), "2026-02-17T10:00:00Z");
        assert!(moment("--since", "ä").is_err());
        assert!(moment("--since", "yesterday").is_err());
    }
}
