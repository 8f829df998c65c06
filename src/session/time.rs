//! A moment as a session document writes it: an instant, with the offset it was written in.
//!
//! ISO 8601 / RFC 3339 in, RFC 3339 out (`2026-02-17T10:11:31-06:00`, fractions only when there are
//! some). Comparison is of instants: one document mixes offsets.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant and the offset from UTC that the document wrote it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time {
    /// The instant.
    pub instant: Timestamp,
    /// The offset it was written in.
    pub offset: Offset,
}

impl Time {
    /// An instant, written in UTC.
    pub fn utc(instant: Timestamp) -> Self {
        Self { instant, offset: Offset::UTC }
    }

    /// Reads an RFC 3339 / ISO 8601 date-time. A time without an offset counts as UTC.
    /// Stray characters of the vendor's pages (`>` and blanks at the ends) are ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_matches(['<', '>', '"', '\'']).trim();
        // The fast path: with an offset.
        if let Ok(pieces) = jiff::fmt::temporal::Pieces::parse(text) {
            let time = pieces.time()?;
            let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
            let instant = offset.to_timestamp(pieces.date().to_datetime(time)).ok()?;
            return Some(Self { instant, offset });
        }
        None
    }
}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.instant.cmp(&other.instant).then(self.offset.cmp(&other.offset))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.offset == Offset::UTC {
            return write!(f, "{}", self.instant);
        }
        write!(f, "{}", self.instant.display_with_offset(self.offset))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("expected an RFC 3339 date-time"))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_offset_and_drops_empty_fractions() {
        let time = Time::parse("2026-02-17T10:11:31.000-06:00").expect("a time");
        assert_eq!(time.to_string(), "2026-02-17T10:11:31-06:00");
        assert_eq!(Time::parse("2026-02-17T16:08:10.250Z").expect("a time").to_string(), "2026-02-17T16:08:10.25Z");
    }

    #[test]
    fn mixed_offsets_compare_as_instants() {
        let a = Time::parse("2026-02-17T10:00:00-08:00").expect("a time");
        let b = Time::parse("2026-02-17T18:30:00Z").expect("a time");
        assert!(a < b);
    }

    #[test]
    fn the_vendors_stray_character_is_ignored() {
        assert!(Time::parse("2023-09-11T09:42:01.000+03:00>").is_some());
        assert!(Time::parse("yesterday").is_none());
        assert!(Time::parse("2026-02-17").is_none());
    }
}
