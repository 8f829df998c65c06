//! The words of the states as the tables hold them, and the law of what may become what. `README.md` has
//! the same law as tables; a test compares the two.

use super::{DeliveryState, Fault, MessageState, Standing};

impl MessageState {
    /// Every state, in the order of the README.
    pub const ALL: &'static [Self] = &[Self::Processed, Self::Ignored, Self::Quarantined, Self::Discarded];

    /// The word in the ledger, on the command line and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Ignored => "ignored",
            Self::Quarantined => "quarantined",
            Self::Discarded => "discarded",
        }
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }

    /// What it may become. Staying as it is needs no permission.
    pub fn may_become(self) -> &'static [Self] {
        match self {
            Self::Processed => &[],
            Self::Ignored => &[Self::Processed, Self::Quarantined],
            Self::Quarantined => &[Self::Processed, Self::Ignored, Self::Discarded],
            Self::Discarded => &[Self::Processed, Self::Ignored, Self::Quarantined],
        }
    }
}

impl DeliveryState {
    /// Every state, in the order of the README.
    pub const ALL: &'static [Self] = &[
        Self::Waiting,
        Self::Sending,
        Self::Parked,
        Self::Delivered,
        Self::Unchanged,
        Self::Superseded,
        Self::Dead,
        Self::Discarded,
    ];

    /// The word in the ledger, on the command line and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Parked => "parked",
            Self::Delivered => "delivered",
            Self::Unchanged => "unchanged",
            Self::Superseded => "superseded",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }

    /// What it may become. Staying as it is needs no permission.
    pub fn may_become(self) -> &'static [Self] {
        match self {
            Self::Waiting => &[Self::Sending, Self::Superseded, Self::Discarded],
            Self::Sending => {
                &[Self::Waiting, Self::Parked, Self::Delivered, Self::Unchanged, Self::Superseded, Self::Dead]
            }
            Self::Parked => &[Self::Waiting, Self::Superseded, Self::Dead, Self::Discarded],
            Self::Dead => &[Self::Waiting, Self::Parked, Self::Superseded, Self::Discarded],
            Self::Discarded => &[Self::Waiting, Self::Parked, Self::Superseded],
            Self::Delivered | Self::Unchanged | Self::Superseded => &[],
        }
    }

    /// True if nothing is done with it any more, unless a person wants it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Delivered | Self::Unchanged | Self::Superseded | Self::Discarded)
    }

    /// Refuses what the law does not allow: a fault of this program, caught before it is written.
    pub(super) fn check_change(self, to: Self) -> Result<(), Fault> {
        if self == to || self.may_become().contains(&to) {
            return Ok(());
        }
        Err(Fault::new(format!("a delivery that is `{}` can't become `{}`", self.as_str(), to.as_str())))
    }
}

impl Standing {
    /// Every standing.
    pub const ALL: &'static [Self] = &[Self::First, Self::Newer, Self::Supplement, Self::Duplicate, Self::Older];

    /// The word in the ledger and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Newer => "newer",
            Self::Supplement => "supplement",
            Self::Duplicate => "duplicate",
            Self::Older => "older",
        }
    }

    /// The standing with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|standing| standing.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows below a heading: the state, and the back-quoted words of the column `may become`.
    fn table(heading: &str) -> Vec<(String, Vec<String>)> {
        let words = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let section = include_str!("README.md").split("\n## ").find(|s| s.starts_with(heading)).expect("the heading");
        section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').collect();
                (words(cells[1]).remove(0), words(cells[3]))
            })
            .collect()
    }

    #[test]
    fn the_readme_tells_the_message_states_and_what_may_become_of_them() {
        let code: Vec<_> = MessageState::ALL
            .iter()
            .map(|s| (s.as_str().to_owned(), s.may_become().iter().map(|t| t.as_str().to_owned()).collect()))
            .collect();
        assert_eq!(table("Messages"), code);
    }

    #[test]
    fn the_readme_tells_the_delivery_states_and_what_may_become_of_them() {
        let code: Vec<_> = DeliveryState::ALL
            .iter()
            .map(|s| (s.as_str().to_owned(), s.may_become().iter().map(|t| t.as_str().to_owned()).collect()))
            .collect();
        assert_eq!(table("Deliveries"), code);
    }

    #[test]
    fn every_word_comes_back_and_is_the_one_that_output_uses() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_word(state.as_str()), Some(*state));
            assert_eq!(serde_json::to_value(state).ok(), Some(state.as_str().into()));
        }
        for state in MessageState::ALL {
            assert_eq!(MessageState::from_word(state.as_str()), Some(*state));
            assert_eq!(serde_json::to_value(state).ok(), Some(state.as_str().into()));
        }
        for standing in Standing::ALL {
            assert_eq!(Standing::from_word(standing.as_str()), Some(*standing));
            assert_eq!(serde_json::to_value(standing).ok(), Some(standing.as_str().into()));
        }
    }

    #[test]
    fn what_is_final_stays_so() {
        for state in [DeliveryState::Delivered, DeliveryState::Unchanged, DeliveryState::Superseded] {
            for to in DeliveryState::ALL {
                assert_eq!(state.check_change(*to).is_ok(), state == *to);
            }
        }
    }
}
