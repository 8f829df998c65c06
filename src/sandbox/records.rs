//! Which tickets the sandbox has: a text such as `C-1..C-500, VIP-7` or `C-*` into a set of ids.
//!
//! `PREFIX*` makes a ticket when its id is first asked for: handy in a demo, and the one thing a bridge must
//! never rely on, so it has to be written out.

use std::fmt;
use std::str::FromStr;

/// The most tickets a range may name.
const MOST: u64 = 200_000;
/// The longest id.
const LONGEST: usize = 64;

/// Which tickets exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Every well-formed id with this beginning: made when first asked for.
    Any(String),
    One(String),
    Range {
        prefix: String,
        first: u64,
        last: u64,
        /// Digits to fill up with zeros; 0 for none.
        width: usize,
    },
}

impl Records {
    /// A ticket for every well-formed id that begins with `prefix`, made when it is first asked for.
    pub fn any(prefix: &str) -> Self {
        Self { rules: vec![Rule::Any(prefix.to_owned())] }
    }

    /// Exactly these tickets. Ids that are not well-formed can't be asked for and are left out.
    pub fn list<I: IntoIterator<Item = S>, S: Into<String>>(ids: I) -> Self {
        Self { rules: ids.into_iter().map(Into::into).filter(|id| well_formed(id)).map(Rule::One).collect() }
    }

    /// The tickets `{prefix}{first}` to `{prefix}{last}`.
    pub fn range(prefix: &str, first: u64, last: u64) -> Self {
        Self { rules: vec![Rule::Range { prefix: prefix.to_owned(), first, last, width: 0 }] }
    }

    /// Those that exist from the start, in the order written.
    pub(crate) fn known(&self) -> impl Iterator<Item = String> + '_ {
        self.rules.iter().flat_map(|rule| -> Box<dyn Iterator<Item = String> + '_> {
            match rule {
                Rule::Any(_) => Box::new(std::iter::empty()),
                Rule::One(id) => Box::new(std::iter::once(id.clone())),
                Rule::Range { prefix, first, last, width } => {
                    Box::new((*first..=*last).map(move |n| format!("{prefix}{n:0width$}", width = *width)))
                }
            }
        })
    }

    /// Whether a ticket of this id is made when it is asked for.
    pub(crate) fn makes(&self, id: &str) -> bool {
        well_formed(id)
            && self.rules.iter().any(|rule| matches!(rule, Rule::Any(prefix) if id.starts_with(prefix.as_str())))
    }
}

/// Ids are 1 to 64 ASCII letters, digits, `-`, `_` and `.`.
pub(crate) fn well_formed(id: &str) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rule) in self.rules.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match rule {
                Rule::Any(prefix) => write!(f, "{prefix}*")?,
                Rule::One(id) => f.write_str(id)?,
                Rule::Range { prefix, first, last, width } => {
                    write!(f, "{prefix}{first:0width$}..{prefix}{last:0width$}", width = *width)?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Records {
    type Err = String;

    /// `PREFIX*`, `PREFIX1..PREFIX500` (or `PREFIX1..500`) and single ids, with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        let rules = text.split(',').map(|part| rule(part.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { rules })
    }
}

fn rule(part: &str) -> Result<Rule, String> {
    if let Some(prefix) = part.strip_suffix('*') {
        return if prefix.is_empty() || well_formed(prefix) {
            Ok(Rule::Any(prefix.to_owned()))
        } else {
            Err(not_an_id(prefix))
        };
    }
    let Some((from, to)) = part.split_once("..") else {
        return if well_formed(part) { Ok(Rule::One(part.to_owned())) } else { Err(not_an_id(part)) };
    };
    let prefix = from.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = from.strip_prefix(prefix).unwrap_or_default();
    let end = to.strip_prefix(prefix).unwrap_or(to);
    let (Ok(first), Ok(last)) = (digits.parse::<u64>(), end.parse::<u64>()) else {
        return Err(format!("`{part}` is not a range of records: write it as `C-1..C-500`"));
    };
    if !well_formed(from) {
        return Err(not_an_id(from));
    }
    if last < first {
        return Err(format!("the range `{part}` ends before it begins"));
    }
    if last - first >= MOST {
        return Err(format!("the range `{part}` has more than {MOST} records"));
    }
    let width = if digits.starts_with('0') { digits.len() } else { 0 };
    Ok(Rule::Range { prefix: prefix.to_owned(), first, last, width })
}

fn not_an_id(part: &str) -> String {
    format!("`{part}` is not a record id: up to {LONGEST} letters, digits, `-`, `_` and `.`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ids_and_ranges_is_read_and_written_back() {
        let records: Records = "C-1..3, C-008..C-010,VIP-7 , T*".parse().expect("records");
        assert_eq!(records.to_string(), "C-1..C-3, C-008..C-010, VIP-7, T*");
        let known: Vec<_> = records.known().collect();
        assert_eq!(known, ["C-1", "C-2", "C-3", "C-008", "C-009", "C-010", "VIP-7"]);
    }

    #[test]
    fn only_a_star_makes_tickets() {
        let records: Records = "C-1..C-9,T-*".parse().expect("records");
        assert!(records.makes("T-77"));
        assert!(!records.makes("C-77"));
        assert!(!records.makes("T-<b>"));
        assert!(!Records::any("").makes(""));
    }

    #[test]
    fn what_is_no_id_is_told() {
        for (text, part) in
            [("C 1", "C 1"), ("C-9..C-1", "before"), ("C-1..9999999", "more than"), ("", "``"), ("a..b", "range")]
        {
            let error = text.parse::<Records>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
