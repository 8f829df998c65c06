//! What a delivery does where its record is closed, merged or gone: the manifest's choices, compiled, and the
//! one that the operator picked.
//!
//! Nothing here makes a record by itself: a step that `creates` is reached only by a choice that the operator
//! wrote out (`load` sees to that), so a mistyped id never becomes a new record.

use crate::outcome::Reason;
use crate::record::Inline;

/// The choice in which a person decides.
pub(crate) const DEAD: &str = "dead";
/// The choice in which the delivery waits for the record.
pub(crate) const PARK: &str = "park";

/// The choices for one reason.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) when: Reason,
    pub(crate) default: String,
    /// With `dead` and `park`, in the order of their names.
    pub(crate) choices: Vec<(String, Choice)>,
}

/// How a delivery goes on.
#[derive(Debug)]
pub(crate) enum Choice {
    /// It does not.
    Dead,
    /// It waits for the record until the deadline.
    Park,
    /// It goes on.
    Course(Box<Course>),
}

/// Steps to send and to leave out, and where to go then.
#[derive(Debug)]
pub(crate) struct Course {
    /// Indexes of steps that are sent before it goes on.
    pub(crate) first: Vec<usize>,
    /// Indexes of steps that are not sent any more.
    pub(crate) skip: Vec<usize>,
    /// The record to go on with.
    pub(crate) record: Option<Inline>,
}

impl Policy {
    /// What every connector can do: wait for a record that is not there.
    pub(crate) fn not_found() -> Self {
        let choices = vec![(DEAD.to_owned(), Choice::Dead), (PARK.to_owned(), Choice::Park)];
        Self { when: Reason::RecordNotFound, default: DEAD.to_owned(), choices }
    }

    /// The choice with this name.
    pub(crate) fn choice(&self, name: &str) -> Option<(&str, &Choice)> {
        self.choices.iter().find(|(n, _)| n == name).map(|(n, choice)| (n.as_str(), choice))
    }
}
