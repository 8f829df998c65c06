//! What is in a source, as a look at all of it tells: names to compare with the ledger, and where the source stands
//! to each, so that what the ledger does not know can be explained.

use jiff::Timestamp;

use super::{Content, Start};
use crate::digest::sha256;

/// Something that is in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighted {
    /// Its name, as [`super::Received::input`] would say it.
    pub input: String,
    /// The digest of its bytes; `None` if it was not downloaded for this: its name tells it from all others.
    pub digest: Option<String>,
    /// When the source got it, if it says so.
    pub received_at: Option<Timestamp>,
    /// Where the source stands to it.
    pub place: Place,
}

/// Where a source stands to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It was there before the first contact, or is older than `start`: not to be taken.
    Before,
    /// The source is past it: it was taken, or was there before the first contact.
    Passed,
    /// The source is past it, and does not know which was there before the first contact.
    Early,
    /// Still to be read.
    Ahead,
    /// It could not be had yet; it is tried again.
    Unreadable,
}

impl Place {
    /// Of something that the source has passed by.
    pub(super) fn passed(start: Start) -> Self {
        if start == Start::Now { Self::Early } else { Self::Passed }
    }
}

/// As the ledger takes the digest.
pub(super) fn digest_of(content: &Content) -> String {
    match content {
        Content::Mail(bytes) | Content::Document(bytes) => sha256(bytes),
        Content::TooLarge(_) => sha256(&[]),
    }
}
