//! `[privacy]`: what is masked in sessions before anything else of the program sees them.

use jiff::{SignedDuration, Timestamp};
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostic::Diagnostics;
use crate::session::redact::{Pattern, Redaction};
use crate::settings::Places;

/// Bytes that a compiled pattern may take.
const LARGEST_PATTERN: usize = 1 << 20;
/// Characters that a pattern may leave.
const MOST_KEPT: u32 = 8;

/// What is masked in notes, comments, messages and all other free text of a session. The mail in the ledger
/// stays as it came.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyTable {
    /// What this program knows how to find: `"card"`, payment card numbers. `[]` masks none.
    pub mask: Vec<Mask>,
    /// What the operator wants masked besides.
    pub pattern: Vec<PatternTable>,
    /// How long raw mail is kept, in days, or `"forever"`. 30 if not set. Then its bytes are removed; what was
    /// found in it stays. What is in quarantine is kept until a person has decided.
    pub keep_raw_days: Keep,
    /// How long the requests and answers of deliveries are kept after they ended, in days, or `"forever"`, which it is
    /// if not set. What is dead keeps its own until a person has decided.
    pub keep_attempts_days: Keep,
    /// How long the documents of a session are kept, in days since it last changed, or `"forever"`, which it is if not
    /// set. Only if all its deliveries ended, and none is dead. Its id, record ids, times and digests stay, so that old
    /// mail that comes again is known and changes nothing; it can't be replayed then.
    pub keep_sessions_days: Keep,
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Keep {
    /// For so many days.
    Days(#[schemars(range(min = 1, max = 36500))] u32),
    /// Until somebody erases it.
    Word(Forever),
}

/// The word for no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forever {
    /// Never removed by age.
    Forever,
}

const FOREVER: Keep = Keep::Word(Forever::Forever);

impl Keep {
    /// What was finished before this moment goes; `None`: nothing does.
    pub fn until(self, now: Timestamp) -> Option<Timestamp> {
        let Self::Days(days) = self else { return None };
        now.checked_sub(SignedDuration::from_hours(i64::from(days) * 24)).ok()
    }
}

/// How long everything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Raw mail.
    pub raw: Keep,
    /// Requests and answers.
    pub attempts: Keep,
    /// The documents of sessions.
    pub sessions: Keep,
}

impl From<&PrivacyTable> for Keeping {
    fn from(table: &PrivacyTable) -> Self {
        Self { raw: table.keep_raw_days, attempts: table.keep_attempts_days, sessions: table.keep_sessions_days }
    }
}

impl Default for PrivacyTable {
    fn default() -> Self {
        Self {
            mask: vec![Mask::Card],
            pattern: Vec::new(),
            keep_raw_days: Keep::Days(30),
            keep_attempts_days: FOREVER,
            keep_sessions_days: FOREVER,
        }
    }
}

/// What this program knows how to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Payment card numbers, found by their check digit.
    Card,
}

/// A pattern of the operator.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatternTable {
    /// What warnings call it.
    pub name: String,
    /// A regular expression (RE2 syntax, no look-around). All of what it matches is masked.
    pub regex: String,
    /// Characters at the end that stay, at most half of what was found. None if not set.
    #[serde(default)]
    #[schemars(range(max = 8))]
    pub keep_last: u32,
}

pub(super) fn check(table: PrivacyTable, places: &Places, faults: &mut Diagnostics) -> Redaction {
    let mut patterns: Vec<Pattern> = Vec::new();
    for (i, pattern) in table.pattern.into_iter().enumerate() {
        let number = i.to_string();
        let mut fault = |key: &str, sentence: String, hint: &str| {
            faults.push(places.fault(&["privacy", "pattern", &number, key], "bad_value", sentence).hint(hint));
        };
        let PatternTable { name, regex, keep_last } = pattern;
        let is_plain = |c: char| c.is_alphanumeric() || " ._-".contains(c);
        if name.trim().is_empty() || name.chars().count() > 40 || !name.chars().all(is_plain) {
            fault(
                "name",
                "this can't name a pattern".to_owned(),
                "use up to 40 letters, digits, blanks, `.`, `_` and `-`",
            );
        } else if patterns.iter().any(|p| p.name == name) {
            fault("name", format!("there are two patterns `{name}`"), "warnings name them: give each its own name");
        }
        if keep_last > MOST_KEPT {
            fault("keep_last", format!("a pattern can leave {MOST_KEPT} characters at most"), "leave 4 or fewer");
        }
        match compile(&regex) {
            Ok(regex) => {
                let keep_last = usize::try_from(keep_last).unwrap_or_default();
                patterns.push(Pattern { name, regex, keep_last });
            }
            Err(sentence) => {
                fault("regex", sentence, "try it in single quotes: `regex = '\\b\\d{3}-\\d{2}-\\d{4}\\b'`")
            }
        }
    }
    Redaction { cards: table.mask.contains(&Mask::Card), patterns }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build().map_err(|error| {
        let said = error.to_string();
        let last = said.lines().last().unwrap_or_default();
        format!("this is no regular expression: {}", last.trim().trim_start_matches("error: "))
    })?;
    // It would mask every text, or nothing.
    if regex.is_match("") {
        return Err("this matches the empty text".to_owned());
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;
    use crate::settings;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct File {
        #[serde(default)]
        privacy: PrivacyTable,
    }

    fn checked(text: &str) -> (Redaction, String) {
        let parsed = settings::parse::<File>(&SourceFile::new("c.toml", text.to_owned())).expect("a table");
        let mut faults = Diagnostics::new();
        let redaction = check(parsed.value.privacy, &parsed.places, &mut faults);
        (redaction, faults.render())
    }

    #[test]
    fn card_numbers_are_masked_unless_told_otherwise() {
        assert!(checked("").0.cards);
        assert!(checked("[[privacy.pattern]]\nname = 'x'\nregex = 'y+'\n").0.cards);
        assert!(!checked("[privacy]\nmask = []\n").0.cards);
    }

    #[test]
    fn patterns_that_can_not_work_are_told_with_their_place() {
        let (redaction, faults) = checked(
            "[[privacy.pattern]]\nname = 'iban'\nregex = '[A-Z]{2}\\d{20}'\nkeep_last = 4\n\
             [[privacy.pattern]]\nname = 'iban'\nregex = '('\n\
             [[privacy.pattern]]\nname = 'all'\nregex = '.*'\n\
             [[privacy.pattern]]\nname = ''\nregex = 'x{1000}{1000}'\n",
        );
        assert_eq!((redaction.patterns[0].name.as_str(), redaction.patterns[0].keep_last), ("iban", 4));
        for part in [
            "c.toml:6:8",
            "two patterns `iban`",
            "c.toml:7:9",
            "no regular expression",
            "c.toml:10:9",
            "empty text",
            "can't name",
            "c.toml:13:9",
        ] {
            assert!(faults.contains(part), "{part} in\n{faults}");
        }
    }
}
