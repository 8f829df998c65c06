//! What time it is for deliveries: the system's, or one that a test moves by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A clock. Its copies show the same.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// One that stands still until it is `set`.
    pub fn standing(at: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(at.as_millisecond()))))
    }

    /// Moves a standing clock; the system's is left alone.
    pub fn set(&self, at: Timestamp) {
        if let Some(milliseconds) = &self.0 {
            milliseconds.store(at.as_millisecond(), Ordering::SeqCst);
        }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        let Some(milliseconds) = &self.0 else { return Timestamp::now() };
        Timestamp::from_millisecond(milliseconds.load(Ordering::SeqCst)).unwrap_or_default()
    }
}
