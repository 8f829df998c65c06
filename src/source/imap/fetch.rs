//! What there is in a mailbox (UID, size, date), and the bytes of messages, by UID FETCH (RFC 3501 section 6.4.5).
//! Only `BODY.PEEK[]`: reading leaves no trace. A message that is not had is told apart: gone, or not given.

use std::collections::{BTreeMap, BTreeSet};

use async_imap::imap_proto::{AttributeValue, Response};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::strtime;
use tracing::error;

use super::connection::{Answer, Connection};
use super::cursor::uid_set;
use crate::outcome::Reason;
use crate::source::Fault;

/// A message as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) uid: u32,
    /// RFC822.SIZE; `u32::MAX` as long as the server does not say.
    pub(super) size: u32,
    /// INTERNALDATE.
    pub(super) received_at: Option<Timestamp>,
}

/// The outcome of fetching some messages; what is in neither is gone from the mailbox.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    pub(super) got: BTreeMap<u32, Bytes>,
    /// Still listed, but the server does not give them.
    pub(super) failed: BTreeSet<u32>,
}

/// Lists the messages of a UID set, in order, each once. `about` is how many may come.
pub(super) async fn list(connection: &mut Connection, set: &str, about: u32) -> Result<Vec<Listed>, Fault> {
    let mut found: Vec<Listed> = Vec::new();
    let command = format!("UID FETCH {set} (UID RFC822.SIZE INTERNALDATE)");
    let bytes = u64::from(about) * 100;
    let answer = connection.run("list", &command, bytes, |response| found.extend(listed(response))).await?;
    if !answer.ok {
        let reason = if answer.is_overload() { Reason::Unavailable } else { Reason::UnexpectedReply };
        let detail = format!("the server does not list the messages: {}", answer.text);
        return Err(Fault { reason, step: "list", detail });
    }
    found.sort_unstable_by_key(|one| one.uid);
    found.dedup_by_key(|one| one.uid);
    Ok(found)
}

/// The UID among the attributes of a FETCH response.
pub(super) fn uid_of(attributes: &[AttributeValue<'_>]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::Uid(uid) => Some(*uid),
        _ => None,
    })
}

// A FETCH response may also come unasked, to tell of a flag: that one has no size.
fn listed(response: &Response<'_>) -> Option<Listed> {
    let Response::Fetch(_, attributes) = response else { return None };
    let mut one = Listed { uid: uid_of(attributes)?, size: u32::MAX, received_at: None };
    let mut asked = false;
    for attribute in attributes {
        match attribute {
            AttributeValue::Rfc822Size(size) => (one.size, asked) = (*size, true),
            AttributeValue::InternalDate(text) => (one.received_at, asked) = (internal_date(text), true),
            _ => {}
        }
    }
    asked.then_some(one)
}

fn internal_date(text: &str) -> Option<Timestamp> {
    strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?.to_timestamp().ok()
}

/// Downloads messages. One that does not come is asked for alone, so that it takes no other with it.
pub(super) async fn bodies(connection: &mut Connection, wanted: &[Listed]) -> Result<Bodies, Fault> {
    let mut bodies = Bodies::default();
    let answer = download(connection, wanted, &mut bodies.got).await?;
    let missing: Vec<u32> = wanted.iter().map(|one| one.uid).filter(|uid| !bodies.got.contains_key(uid)).collect();
    if missing.is_empty() {
        return Ok(bodies);
    }
    // A server may not tell of expunged messages during a FETCH; here it may.
    connection.run("noop", "NOOP", 0, |_| {}).await?;
    let about = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    let there = list(connection, &uid_set(missing.iter().copied()), about).await?;
    for one in there.iter().filter(|one| missing.contains(&one.uid)) {
        let mut text = answer.text.clone();
        if wanted.len() > 1 {
            text = download(connection, std::slice::from_ref(one), &mut bodies.got).await?.text;
        }
        if !bodies.got.contains_key(&one.uid) {
            error!(uid = one.uid, "the mail server lists message {} but does not give it: {text}", one.uid);
            bodies.failed.insert(one.uid);
        }
    }
    Ok(bodies)
}

async fn download(
    connection: &mut Connection,
    wanted: &[Listed],
    got: &mut BTreeMap<u32, Bytes>,
) -> Result<Answer, Fault> {
    let Some(largest) = wanted.iter().map(|one| u64::from(one.size)).max() else {
        return Ok(Answer { ok: true, is_bad: false, text: String::new(), try_create: false, read_only: false });
    };
    let bytes = if largest == u64::from(u32::MAX) { 0 } else { wanted.iter().map(|one| u64::from(one.size)).sum() };
    let command = format!("UID FETCH {} (UID BODY.PEEK[])", uid_set(wanted.iter().map(|one| one.uid)));
    let answer = connection
        .run("fetch", &command, bytes, |response| {
            let Response::Fetch(_, attributes) = response else { return };
            let Some(one) = uid_of(attributes).and_then(|uid| wanted.iter().find(|one| one.uid == uid)) else { return };
            for attribute in attributes {
                if let AttributeValue::BodySection { section: None, index: None, data: Some(data) } = attribute
                    && (!data.is_empty() || one.size == 0)
                {
                    got.insert(one.uid, Bytes::copy_from_slice(data));
                }
            }
        })
        .await?;
    if !answer.ok && answer.is_overload() {
        let detail = format!("the server gives no messages for now: {}", answer.text);
        return Err(Fault { reason: Reason::Unavailable, step: "fetch", detail });
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_dates_are_read_with_one_digit_days_too() {
        let expected: Timestamp = "1996-07-07T09:44:25Z".parse().expect("a time");
        assert_eq!(internal_date(" 7-Jul-1996 02:44:25 -0700"), Some(expected));
        assert_eq!(internal_date("07-Jul-1996 02:44:25 -0700"), Some(expected));
        assert_eq!(internal_date("yesterday"), None);
    }
}
