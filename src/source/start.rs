//! Where reading starts in a place that was never read before: `"now"`, `"all"`, or a date.
//! Looked at on first contact only; from then on the position in the ledger decides.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Which of the mail that is there already is taken on first contact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// `"now"`: none of it, only what comes from now on.
    #[default]
    Now,
    /// `"all"`: all of it.
    All,
    /// `"2026-02-01"` (midnight UTC) or an RFC 3339 time: what was received since then.
    Since(Timestamp),
}

impl Start {
    /// Whether a mail that arrived at this time is wanted. What does not say when it arrived is.
    pub fn admits(self, received_at: Option<Timestamp>) -> bool {
        match (self, received_at) {
            (Self::Since(start), Some(received_at)) => received_at >= start,
            _ => true,
        }
    }
}

impl FromStr for Start {
    type Err = String;

    /// Reads `now`, `all`, a date or an RFC 3339 time. The error is a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "now" => Ok(Self::Now),
            "all" => Ok(Self::All),
            text => {
                if let Ok(time) = text.parse::<Timestamp>() {
                    return Ok(Self::Since(time));
                }
                text.parse::<Date>()
                    .and_then(|date| date.to_zoned(TimeZone::UTC))
                    .map(|midnight| Self::Since(midnight.timestamp()))
                    .map_err(|_| {
                        format!("`{text}` is not `now`, `all`, a date such as `2026-02-01` or an RFC 3339 time")
                    })
            }
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Start;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`now`, `all`, a date such as `2026-02-01` or an RFC 3339 time")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Start, E> {
                text.parse().map_err(E::custom)
            }

            // A TOML date without quotes comes as a map with one entry, its text.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Start, A::Error> {
                match map.next_entry::<String, String>()? {
                    Some((_, text)) => text.parse().map_err(A::Error::custom),
                    None => Err(A::Error::custom("an empty table is not a start")),
                }
            }
        }
        from.deserialize_any(Text)
    }
}

impl JsonSchema for Start {
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`now`, `all`, a date (midnight UTC) or an RFC 3339 time",
            "type": "string",
            "examples": ["now", "all", "2026-02-01", "2026-02-01T08:00:00+01:00"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Table {
        start: Start,
    }

    fn read(toml: &str) -> Result<Start, toml::de::Error> {
        toml::from_str::<Table>(toml).map(|t| t.start)
    }

    #[test]
    fn words_dates_and_times_are_read_with_and_without_quotes() {
        let first = Start::Since("2026-02-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(read("start = 'now'"), Ok(Start::Now));
        assert_eq!(read("start = 'all'"), Ok(Start::All));
        assert_eq!(read("start = '2026-02-01'").as_ref(), Ok(&first));
        assert_eq!(read("start = 2026-02-01").as_ref(), Ok(&first));
        assert_eq!(read("start = 2026-02-01T01:00:00+01:00").as_ref(), Ok(&first));
    }

    #[test]
    fn anything_else_is_a_fault_that_says_what_is_expected() {
        for wrong in ["'yesterday'", "7", "'2026-02-31'", "{}"] {
            let error = read(&format!("start = {wrong}")).expect_err(wrong).to_string();
            assert!(error.contains("start") || error.contains("2026-02-01"), "{error}");
        }
    }
}
