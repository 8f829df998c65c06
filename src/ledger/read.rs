//! Lists for people and programs: messages, sessions, deliveries with filters, newest first; single raw
//! messages; positions. Lists never read raw bytes or documents.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::claim::session_key;
use super::delivery::{moment, state_of};
use super::handle::Ledger;
use super::sql::{self, Held, OptionalExtension, Row, Sql};
use super::{DeliveryState, Fault, MessageState};
use crate::connector::Candidate;
use crate::ids::{DeliveryId, MessageId, VersionId};
use crate::outcome::Reason;
use crate::session::SessionKey;

/// What a list is narrowed to; everything that is set must fit. `S` is the kind of state.
#[derive(Debug, Clone)]
pub struct Filter<S> {
    /// For sessions: those with a delivery in this state.
    pub state: Option<S>,
    /// For sessions: those with a delivery that has it.
    pub reason: Option<Reason>,
    /// The name of the source it came from.
    pub source: Option<String>,
    /// For messages and sessions: those with a delivery to it.
    pub destination: Option<String>,
    /// The record of a delivery.
    pub record: Option<String>,
    /// The session.
    pub session: Option<SessionKey>,
    /// Recorded (messages, deliveries) or changed (sessions) at this moment or later.
    pub since: Option<Timestamp>,
    /// … and before this one.
    pub until: Option<Timestamp>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

impl<S> Default for Filter<S> {
    fn default() -> Self {
        Self {
            state: None,
            reason: None,
            source: None,
            destination: None,
            record: None,
            session: None,
            since: None,
            until: None,
            limit: None,
        }
    }
}

/// A message in a list.
#[derive(Debug, Clone, Serialize)]
pub struct MessageRow {
    /// Its number.
    pub id: MessageId,
    /// The source.
    pub source: String,
    /// The item's name in the source.
    pub input: String,
    /// `Message-ID`.
    pub message_id: Option<String>,
    /// SHA-256 of the raw bytes.
    pub raw_digest: String,
    /// True if it is a document, not a mail.
    pub is_document: bool,
    /// When the source got it.
    pub received_at: Timestamp,
    /// When it was committed.
    pub recorded_at: Timestamp,
    /// Where it stands.
    pub state: MessageState,
    /// Why, when not processed.
    pub reason: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// What a person said who discarded it.
    pub note: Option<String>,
    /// Why its raw bytes are gone: `retention` or `erased`. None while they are there.
    pub raw_removed: Option<String>,
    /// Since when.
    pub raw_removed_at: Option<Timestamp>,
    /// The sessions in it, such as `voice-48213`.
    pub sessions: Vec<String>,
}

/// A session in a list.
#[derive(Debug, Clone, Serialize)]
pub struct SessionRow {
    /// Such as `voice-48213`.
    pub key: String,
    /// The contact-centre instance.
    pub instance: String,
    /// The number of the version that counts.
    pub newest: u32,
    /// How many versions there are.
    pub versions: u32,
    /// The newest `updated_at`.
    pub updated_at: Option<Timestamp>,
    /// First seen.
    pub created_at: Timestamp,
    /// Last changed.
    pub changed_at: Timestamp,
    /// Since when its documents are gone, as old as they were kept.
    pub content_removed_at: Option<Timestamp>,
    /// Its deliveries, counted by state.
    pub deliveries: BTreeMap<String, u64>,
}

/// A delivery in a list.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryRow {
    /// Its number.
    pub id: DeliveryId,
    /// Such as `voice-48213`.
    pub session: String,
    /// The version it carries.
    pub version: VersionId,
    /// That version's number within its session.
    pub version_number: u32,
    /// Where to.
    pub destination: String,
    /// The record.
    pub record: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why.
    pub reason: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// Attempts that ended.
    pub attempts: u32,
    /// Waiting: not before. Parked: its deadline.
    pub next_at: Option<Timestamp>,
    /// Parked: when its record is looked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_at: Option<Timestamp>,
    /// The records that it could belong to, where more than one fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// The record that former versions of its session went to, if that was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    /// True if an effect is not known.
    pub uncertain: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub changed_at: Timestamp,
    /// Since when the requests and answers of its attempts are gone, as old as they were kept.
    pub exchanges_removed_at: Option<Timestamp>,
}

/// Conditions with their values.
#[derive(Default)]
struct Where {
    conditions: Vec<String>,
    values: Vec<Held>,
}

impl Where {
    /// A condition whose `?` is this value.
    fn and(&mut self, condition: &str, value: impl Into<Held>) {
        self.conditions.push(condition.to_owned());
        self.values.push(value.into());
    }

    fn when<T>(&mut self, value: Option<T>, then: impl FnOnce(&mut Self, T)) {
        if let Some(value) = value {
            then(self, value);
        }
    }

    fn of_deliveries(filter: Filter<DeliveryState>) -> Self {
        let mut fits = Self::default();
        fits.when(filter.state, |w, state| w.conditions.push(format!("d.state = '{}'", state.as_str())));
        fits.when(filter.reason, |w, reason| w.and("d.reason = ?", reason.as_str().to_owned()));
        fits.when(filter.destination, |w, name| w.and("d.destination = ?", name));
        fits.when(filter.record, |w, record| w.and("d.record = ?", record));
        fits.when(filter.source, |w, source| {
            w.and("EXISTS (SELECT 1 FROM messages m WHERE m.id = v.message AND m.source = ?)", source);
        });
        fits.when(filter.session, |w, key| w.session(&key));
        fits.times("d.created_at", filter.since, filter.until);
        fits
    }

    fn session(&mut self, key: &SessionKey) {
        self.conditions.push("s.instance = ? AND s.channel = ? AND s.session_id = ?".to_owned());
        let words = [key.instance.clone(), key.channel.as_str().to_owned(), key.id.clone()];
        self.values.extend(words.map(Held::from));
    }

    fn times(&mut self, column: &str, since: Option<Timestamp>, until: Option<Timestamp>) {
        self.when(since, |w, at| w.and(&format!("{column} >= ?"), at.as_millisecond()));
        self.when(until, |w, at| w.and(&format!("{column} < ?"), at.as_millisecond()));
    }

    /// Runs the query, newest first.
    fn rows<T>(
        self,
        sql: &Sql,
        select: &str,
        id: &str,
        limit: Option<usize>,
        read: impl FnMut(&Row<'_>) -> sql::Result<T>,
    ) -> Result<Vec<T>, Fault> {
        let conditions = if self.conditions.is_empty() { "1 = 1".to_owned() } else { self.conditions.join(" AND ") };
        let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        let mut statement = sql.prepare_cached(&format!("{select} WHERE {conditions} ORDER BY {id} DESC{limit}"))?;
        let rows = statement.query_map(self.values, read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Ledger {
    /// Messages that fit, newest first.
    pub async fn messages(&self, filter: Filter<MessageState>) -> Result<Vec<MessageRow>, Fault> {
        self.read(move |sql| {
            let mut fits = Where::default();
            fits.when(filter.state, |w, state| w.conditions.push(format!("m.state = '{}'", state.as_str())));
            fits.when(filter.reason, |w, reason| w.and("m.reason = ?", reason.as_str().to_owned()));
            fits.when(filter.source, |w, source| w.and("m.source = ?", source));
            fits.when(filter.destination, |w, name| {
                w.and(
                    "m.id IN (SELECT v.message FROM versions v JOIN deliveries d ON d.session = v.session \
                       AND d.version = v.id WHERE d.destination = ?)",
                    name,
                );
            });
            fits.when(filter.record, |w, record| {
                w.and(
                    "m.id IN (SELECT v.message FROM versions v JOIN deliveries d ON d.session = v.session \
                       AND d.version = v.id WHERE d.record = ?)",
                    record,
                );
            });
            fits.when(filter.session, |w, key| {
                let start = w.conditions.len();
                w.session(&key);
                let of = w.conditions.split_off(start).join("");
                w.conditions.push(format!(
                    "m.id IN (SELECT f.message FROM found f JOIN sessions s ON s.id = f.session WHERE {of})"
                ));
            });
            fits.times("m.recorded_at", filter.since, filter.until);
            fits.rows(sql, MESSAGE, "m.id", filter.limit, message_row)
        })
        .await
    }

    /// Sessions that fit, those first that came last.
    pub async fn sessions(&self, filter: Filter<DeliveryState>) -> Result<Vec<SessionRow>, Fault> {
        self.read(move |sql| {
            let mut fits = Where::default();
            let with = "EXISTS (SELECT 1 FROM deliveries d WHERE d.session = s.id AND";
            fits.when(filter.state, |w, state| w.conditions.push(format!("{with} d.state = '{}')", state.as_str())));
            fits.when(filter.reason, |w, reason| w.and(&format!("{with} d.reason = ?)"), reason.as_str().to_owned()));
            fits.when(filter.destination, |w, name| w.and(&format!("{with} d.destination = ?)"), name));
            fits.when(filter.record, |w, record| w.and(&format!("{with} d.record = ?)"), record));
            fits.when(filter.source, |w, source| {
                w.and(
                    "EXISTS (SELECT 1 FROM found f JOIN messages m ON m.id = f.message \
                     WHERE f.session = s.id AND m.source = ?)",
                    source,
                );
            });
            fits.when(filter.session, |w, key| w.session(&key));
            fits.times("s.changed_at", filter.since, filter.until);
            fits.rows(sql, SESSION, "s.id", filter.limit, |row| session_row(sql, row))
        })
        .await
    }

    /// Deliveries that fit, newest first.
    pub async fn deliveries(&self, filter: Filter<DeliveryState>) -> Result<Vec<DeliveryRow>, Fault> {
        self.read(move |sql| {
            let limit = filter.limit;
            Where::of_deliveries(filter).rows(sql, DELIVERY, "d.id", limit, delivery_row)
        })
        .await
    }

    /// The numbers of the deliveries that fit, oldest first.
    pub async fn delivery_ids(&self, filter: Filter<DeliveryState>) -> Result<Vec<DeliveryId>, Fault> {
        self.read(move |sql| {
            let limit = filter.limit;
            let select =
                "SELECT d.id FROM deliveries d JOIN versions v ON v.id = d.version JOIN sessions s ON s.id = d.session";
            let mut ids =
                Where::of_deliveries(filter).rows(sql, select, "d.id", limit, |row| Ok(DeliveryId(row.get(0)?)))?;
            ids.reverse();
            Ok(ids)
        })
        .await
    }

    /// The raw bytes of a message as they were received. Empty for one that was never downloaded; `None` if there
    /// is no such message, or its bytes were removed.
    pub async fn message_raw(&self, id: MessageId) -> Result<Option<Vec<u8>>, Fault> {
        self.read(move |sql| {
            Ok(sql
                .prepare_cached("SELECT bytes FROM raws WHERE message = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Where a source stands: what its last commits left, key → value.
    pub async fn positions(&self, source: &str) -> Result<BTreeMap<String, String>, Fault> {
        let source = source.to_owned();
        self.read(move |sql| {
            let mut statement = sql.prepare_cached("SELECT key, value FROM positions WHERE source = ?1")?;
            let rows = statement.query_map([source], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

pub(super) const MESSAGE: &str = "SELECT m.id, m.source, m.input, m.message_id, m.raw_digest, m.is_document, \
    m.received_at, m.recorded_at, m.state, m.reason, m.detail, m.note, \
    (SELECT string_agg(CASE WHEN s.instance = 'default' THEN '' ELSE s.instance || '/' END || s.channel || '-' || \
     s.session_id, '\u{1f}' ORDER BY f.place) FROM found f JOIN sessions s ON s.id = f.session WHERE f.message = m.id), m.raw_removed, m.raw_removed_at FROM messages m";

pub(super) fn message_row(row: &Row<'_>) -> sql::Result<MessageRow> {
    let word = row.get_ref(8)?.as_str()?;
    let keys: Option<String> = row.get(12)?;
    Ok(MessageRow {
        id: MessageId(row.get(0)?),
        source: row.get(1)?,
        input: row.get(2)?,
        message_id: row.get(3)?,
        raw_digest: row.get(4)?,
        is_document: row.get(5)?,
        received_at: moment(row.get(6)?),
        recorded_at: moment(row.get(7)?),
        state: MessageState::from_word(word).ok_or_else(|| sql::Error::word(word))?,
        reason: row.get(9)?,
        detail: row.get(10)?,
        note: row.get(11)?,
        raw_removed: row.get(13)?,
        raw_removed_at: row.get::<_, Option<i64>>(14)?.map(moment),
        sessions: keys.iter().flat_map(|keys| keys.split('\u{1f}')).map(str::to_owned).collect(),
    })
}

pub(super) const SESSION: &str = "SELECT s.id, s.instance, s.channel, s.session_id, s.newest, \
    (SELECT count(*) FROM versions v WHERE v.session = s.id), s.updated_us, s.created_at, s.changed_at, s.content_removed_at \
    FROM sessions s";

pub(super) fn session_row(sql: &Sql, row: &Row<'_>) -> sql::Result<SessionRow> {
    let id: i64 = row.get(0)?;
    let mut statement =
        sql.prepare_cached("SELECT state, count(*) FROM deliveries WHERE session = ?1 GROUP BY state")?;
    let deliveries = statement.query_map([id], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(SessionRow {
        key: session_key(row, 1)?.to_string(),
        instance: row.get(1)?,
        newest: row.get(4)?,
        versions: row.get(5)?,
        updated_at: row.get::<_, Option<i64>>(6)?.and_then(|us| Timestamp::from_microsecond(us).ok()),
        created_at: moment(row.get(7)?),
        changed_at: moment(row.get(8)?),
        content_removed_at: row.get::<_, Option<i64>>(9)?.map(moment),
        deliveries: deliveries.collect::<Result<_, _>>()?,
    })
}

pub(super) const DELIVERY: &str = "SELECT d.id, s.instance, s.channel, s.session_id, d.version, v.number, \
    d.destination, d.record, d.state, d.reason, d.detail, d.attempts, d.next_at, d.uncertain, d.created_at, \
    d.changed_at, d.exchanges_removed_at, d.look_at, d.candidates, d.moved_from FROM deliveries d JOIN versions v ON v.id = d.version JOIN sessions s ON s.id = d.session";

pub(super) fn delivery_row(row: &Row<'_>) -> sql::Result<DeliveryRow> {
    Ok(DeliveryRow {
        id: DeliveryId(row.get(0)?),
        session: session_key(row, 1)?.to_string(),
        version: VersionId(row.get(4)?),
        version_number: row.get(5)?,
        destination: row.get(6)?,
        record: row.get(7)?,
        state: state_of(row, 8)?,
        reason: row.get(9)?,
        detail: row.get(10)?,
        attempts: row.get(11)?,
        next_at: row.get::<_, Option<i64>>(12)?.map(moment),
        look_at: row.get::<_, Option<i64>>(17)?.map(moment),
        candidates: row
            .get::<_, Option<String>>(18)?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
        moved_from: row.get(19)?,
        uncertain: row.get(13)?,
        created_at: moment(row.get(14)?),
        changed_at: moment(row.get(15)?),
        exchanges_removed_at: row.get::<_, Option<i64>>(16)?.map(moment),
    })
}
