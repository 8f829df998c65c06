//! What a person does to deliveries and messages: retry, discard, release. Every answer says what was
//! there before and what is now; what is not allowed is left alone and said. With `dry_run` nothing is
//! written and the answers are the same.

use jiff::Timestamp;
use serde::Serialize;

use super::delivery::{Change, Delivery};
use super::handle::Ledger;
use super::sql::{OptionalExtension, params};
use super::{DeliveryState, Fault, MessageState, Parking, progress};
use crate::ids::{DeliveryId, MessageId};
use crate::outcome::Reason;

/// What was done to one delivery or message by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handled<I, S> {
    /// Which.
    pub id: I,
    /// Its state before; `None` if there is no such one.
    pub before: Option<S>,
    /// Its state now; `None` if it was left as it is.
    pub after: Option<S>,
    /// A sentence for people.
    pub detail: String,
}

type Answer = (Option<DeliveryState>, String);

impl Ledger {
    /// Puts dead, discarded or waiting deliveries in line, due now; the retry horizon begins anew. One
    /// without a record is parked again; one whose session has a newer version becomes superseded.
    pub async fn retry(
        &self,
        ids: Vec<DeliveryId>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Vec<Handled<DeliveryId, DeliveryState>>, Fault> {
        self.by_hand(ids, dry_run, None, None, now, |delivery| match delivery.state {
            DeliveryState::Dead | DeliveryState::Discarded | DeliveryState::Waiting if !delivery.newest => {
                (Some(DeliveryState::Superseded), "a newer version of its session took its place".to_owned())
            }
            DeliveryState::Discarded if delivery.emptied => {
                (None, "what it carried was removed, as `keep_sessions_days` says".to_owned())
            }
            DeliveryState::Dead | DeliveryState::Discarded if delivery.record.is_none() => {
                (Some(DeliveryState::Parked), "it waits for a record id again".to_owned())
            }
            DeliveryState::Dead | DeliveryState::Discarded | DeliveryState::Waiting => {
                (Some(DeliveryState::Waiting), "it is tried again now".to_owned())
            }
            DeliveryState::Parked if delivery.braked() => {
                (Some(DeliveryState::Waiting), "the brake lets it go: it is tried now".to_owned())
            }
            DeliveryState::Parked if delivery.record.is_some() => {
                (Some(DeliveryState::Waiting), "it is tried again now".to_owned())
            }
            DeliveryState::Parked => (None, "it is parked without a record id: use `release` with one".to_owned()),
            state => (None, format!("nothing to retry: it is {}", state.as_str())),
        })
        .await
    }

    /// Lets waiting, parked or dead deliveries go, with the reason of a person.
    pub async fn discard(
        &self,
        ids: Vec<DeliveryId>,
        why: &str,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Vec<Handled<DeliveryId, DeliveryState>>, Fault> {
        self.by_hand(ids, dry_run, Some(why.to_owned()), None, now, |delivery| match delivery.state {
            DeliveryState::Waiting | DeliveryState::Parked | DeliveryState::Dead => {
                (Some(DeliveryState::Discarded), "it was let go".to_owned())
            }
            state => (None, format!("nothing to discard: it is {}", state.as_str())),
        })
        .await
    }

    /// Gives parked (or dead) deliveries the record they belong to and puts them in line. Without one, those
    /// go that have a record already: what the brake holds back.
    pub async fn release(
        &self,
        ids: Vec<DeliveryId>,
        record: Option<&str>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Vec<Handled<DeliveryId, DeliveryState>>, Fault> {
        let named = record.is_some();
        self.by_hand(ids, dry_run, None, record.map(str::to_owned), now, move |delivery| match delivery.state {
            DeliveryState::Parked | DeliveryState::Dead if !delivery.newest => {
                (Some(DeliveryState::Superseded), "a newer version of its session took its place".to_owned())
            }
            DeliveryState::Parked | DeliveryState::Dead if named => {
                (Some(DeliveryState::Waiting), "it has a record now".to_owned())
            }
            DeliveryState::Parked | DeliveryState::Dead if delivery.record.is_some() => {
                (Some(DeliveryState::Waiting), "it goes to the record it has".to_owned())
            }
            DeliveryState::Parked | DeliveryState::Dead => {
                (None, "it has no record: name one with `--record`".to_owned())
            }
            state => (None, format!("nothing to release: it is {}", state.as_str())),
        })
        .await
    }

    async fn by_hand(
        &self,
        ids: Vec<DeliveryId>,
        dry_run: bool,
        why: Option<String>,
        record: Option<String>,
        now: Timestamp,
        decide: impl Fn(&Delivery) -> Answer + Send + 'static,
    ) -> Result<Vec<Handled<DeliveryId, DeliveryState>>, Fault> {
        self.write(move |tx| {
            let mut handled = Vec::with_capacity(ids.len());
            for &id in &ids {
                let Some(mut delivery) = Delivery::find(tx.sql, id.0)? else {
                    let detail = "there is no such delivery".to_owned();
                    handled.push(Handled { id, before: None, after: None, detail });
                    continue;
                };
                let (after, detail) = decide(&delivery);
                let before = Some(delivery.state);
                if let Some(to) = after.filter(|_| !dry_run) {
                    let (reason, next_at) = match to {
                        DeliveryState::Waiting => {
                            // Whether what was under way took effect is what a person has looked at.
                            if delivery.state == DeliveryState::Dead {
                                progress::forget_in_flight(tx.sql, delivery.id)?;
                            }
                            delivery.put_in_line(tx.sql, record.as_deref(), now)?;
                            tx.wake();
                            handled.push(Handled { id, before, after, detail });
                            continue;
                        }
                        DeliveryState::Discarded => (Some(Reason::Discarded), None),
                        DeliveryState::Superseded => (Some(Reason::Superseded), None),
                        _ => (Some(Reason::NoRecordId), Some(now.as_millisecond() + Parking::default().for_ms)),
                    };
                    // The dispatcher knows for how long, and whether there are look-ups.
                    let look_at = (to == DeliveryState::Parked).then_some(now.as_millisecond());
                    let change = Change::new(to, reason, why.as_deref());
                    delivery.become_(tx.sql, Change { next_at, look_at, ..change }, now)?;
                    if to == DeliveryState::Parked {
                        let at = now.as_millisecond();
                        tx.sql.prepare_cached("UPDATE deliveries SET since = ?2 WHERE id = ?1")?.execute([id.0, at])?;
                        tx.wake();
                    }
                }
                handled.push(Handled { id, before, after, detail });
            }
            Ok(handled)
        })
        .await
    }

    /// Lets quarantined messages go, with the reason of a person. Their bytes stay.
    pub async fn message_discard(
        &self,
        ids: Vec<MessageId>,
        why: &str,
    ) -> Result<Vec<Handled<MessageId, MessageState>>, Fault> {
        let why = why.to_owned();
        self.write(move |tx| {
            let mut handled = Vec::with_capacity(ids.len());
            for &id in &ids {
                let state: Option<String> = tx
                    .sql
                    .prepare_cached("SELECT state FROM messages WHERE id = ?1 /*pg FOR UPDATE*/")?
                    .query_row([id.0], |row| row.get(0))
                    .optional()?;
                let before = state.as_deref().and_then(MessageState::from_word);
                let (after, detail) = match before {
                    None => (None, "there is no such message".to_owned()),
                    Some(MessageState::Quarantined) => (Some(MessageState::Discarded), "it was let go".to_owned()),
                    Some(state) => (None, format!("nothing to discard: it is {}", state.as_str())),
                };
                if let Some(after) = after {
                    tx.sql
                        .prepare_cached("UPDATE messages SET state = ?2, note = ?3 WHERE id = ?1")?
                        .execute(params![id.0, after.as_str(), why])?;
                }
                handled.push(Handled { id, before, after, detail });
            }
            Ok(handled)
        })
        .await
    }
}
