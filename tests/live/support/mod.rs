//! What the live tests are made of: the servers, a mailbox, the ticket system, the program itself, and
//! waiting with a deadline. Nothing here knows what is tested.

#![expect(dead_code, reason = "a word for the tests to come is worth more than a warning about it")]

pub(crate) mod bad_disk;
pub(crate) mod disk;
pub(crate) mod flaky;
pub(crate) mod mailbox;
pub(crate) mod post;
pub(crate) mod program;
pub(crate) mod relay;
pub(crate) mod servers;
pub(crate) mod tickets;

use std::time::{Duration, Instant};

/// Asks again and again, 20 times a second, until `ask` gives a value; panics with `what` after `limit`.
pub(crate) async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(begun.elapsed() < limit, "after {limit:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
