//! When deliveries of a destination that is down go the way of its fallback, and when they come back. The ledger
//! commits the choice before anything is sent; a delivery takes one route or the other, never both.

use jiff::SignedDuration;

use super::Dispatcher;

impl Dispatcher {
    /// Lets waiting deliveries of destinations that have been held for long go their fallback's way, as many as it
    /// has room for, and takes those that have not gone back to a destination that works.
    pub(super) async fn look_at_fallbacks(&self) {
        let now = self.clock.now();
        for (name, target) in &self.targets {
            let Some(fallback) = &target.fallback else { continue };
            let (Some(lane), Some(other)) = (self.lanes.get(name), self.lanes.get(&fallback.to)) else { continue };
            let after = SignedDuration::try_from(fallback.after).unwrap_or(SignedDuration::MAX);
            let moved = match lane.hold() {
                None => self.ledger.undivert(name, &fallback.to).await.map(|count| (count, "take their own way again")),
                // A person's hold is a person's decision. While it is being probed, the next one is the probe.
                Some(hold)
                    if hold.until.is_some_and(|until| until > now) && now.duration_since(hold.since) >= after =>
                {
                    let room = other.room(now);
                    self.ledger.divert(name, &fallback.to, room).await.map(|count| (count, "take the fallback's way"))
                }
                Some(_) => continue,
            };
            match moved {
                Ok((0, _)) => {}
                Ok((count, what)) => {
                    tracing::warn!(
                        destination = name,
                        fallback = fallback.to,
                        count,
                        "deliveries of a destination {what}"
                    );
                }
                Err(fault) => tracing::error!(error = %fault, destination = name, "its fallback can't be looked after"),
            }
        }
    }
}
