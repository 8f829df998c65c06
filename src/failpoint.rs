//! Boundaries between what a message and a delivery go through, at which a test can let the process die as
//! `kill -9` would: `MAIL2CRM_DIES_AT=committed`, or `committed:3` for the third time that it is crossed.
//!
//! Only in builds with debug assertions or with the feature `failpoints`. In a release there is no code behind
//! `cross`, so no variable of an environment can end a service.

/// A boundary, in the order in which it is crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The source has handed over a message.
    Received,
    /// Everything of it is written, and not committed.
    Stored,
    /// It is committed, and nobody knows.
    Committed,
    /// The source knows.
    Acknowledged,
    /// The source has done what it does with a message that is taken.
    Moved,
    /// A worker has leased a delivery.
    Claimed,
    /// A request is ready, and what must come before it is written down.
    Rendered,
    /// The CRM has answered.
    Sent,
    /// The answer was judged.
    Answered,
    /// The end of the attempt is committed.
    Recorded,
}

impl Boundary {
    /// Every boundary, in order.
    pub const ALL: &'static [Self] = &[
        Self::Received,
        Self::Stored,
        Self::Committed,
        Self::Acknowledged,
        Self::Moved,
        Self::Claimed,
        Self::Rendered,
        Self::Sent,
        Self::Answered,
        Self::Recorded,
    ];

    /// The word in the variable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Stored => "stored",
            Self::Committed => "committed",
            Self::Acknowledged => "acknowledged",
            Self::Moved => "moved",
            Self::Claimed => "claimed",
            Self::Rendered => "rendered",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Recorded => "recorded",
        }
    }
}

/// Ends the process here if that was asked for.
#[inline]
pub fn cross(boundary: Boundary) {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    armed::cross(boundary);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    let _ = boundary;
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Which boundary, and how often it is still crossed before that.
    static PLAN: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("MAIL2CRM_DIES_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(times.parse().ok()?)))
    });

    pub(super) fn cross(boundary: super::Boundary) {
        if let Some((name, left)) = &*PLAN
            && name == boundary.as_str()
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
    }
}
