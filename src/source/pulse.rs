//! Signs of life of a source, for those who ask whether it works: when it last looked and found nothing amiss, and
//! when something of it was last safely taken. Says nothing of what was taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A source's signs of life. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    looked: AtomicI64,
    taken: AtomicI64,
}

impl Pulse {
    /// It looked, or listens, and nothing is amiss.
    pub fn looked(&self) {
        self.0.looked.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
    }

    /// Something of it was committed.
    pub fn took(&self) {
        self.looked();
        self.0.taken.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
    }

    /// When it last looked; `None`: never.
    pub fn last_look(&self) -> Option<Timestamp> {
        moment(&self.0.looked)
    }

    /// When something was last committed, since the start of this process.
    pub fn last_taken(&self) -> Option<Timestamp> {
        moment(&self.0.taken)
    }
}

fn moment(of: &AtomicI64) -> Option<Timestamp> {
    let at = of.load(Ordering::Relaxed);
    Timestamp::from_millisecond(at).ok().filter(|_| at != 0)
}
