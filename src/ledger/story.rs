//! The whole story of a message, a session or a delivery, for `show` and for disputes: what was found and
//! where, which version it became, where it went, and every attempt with its requests and answers.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::claim::session_key;
use super::course::{self, MoveRow};
use super::delivery::moment;
use super::handle::Ledger;
use super::read::{
    DELIVERY, DeliveryRow, MESSAGE, MessageRow, SESSION, SessionRow, delivery_row, message_row, session_row,
};
use super::sql::{self, OptionalExtension, Row, Sql, params};
use super::{Fault, Standing};
use crate::ids::{DeliveryId, MessageId, VersionId};
use crate::session::SessionKey;

/// One try.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptRow {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// `delivered`, `deferred` or `failed`.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// A sentence for people.
    pub detail: String,
    /// Requests and answers, as they were recorded.
    pub exchanges: Value,
}

/// A session as one message held it.
#[derive(Debug, Clone, Serialize)]
pub struct FoundRow {
    /// The message.
    pub message: MessageId,
    /// Such as `voice-48213`.
    pub session: String,
    /// What it meant beside what was known.
    pub standing: Standing,
    /// The version that it became, or that it repeats.
    pub version: VersionId,
    /// That version's number within its session.
    pub version_number: u32,
    /// Field → how and where it was found.
    pub evidence: Value,
    /// Sentences about odd values.
    pub warnings: Vec<String>,
}

/// One version of a session.
#[derive(Debug, Clone, Serialize)]
pub struct VersionRow {
    /// Its row.
    pub id: VersionId,
    /// Its number within the session, from 1.
    pub number: u32,
    /// What it meant when it came.
    pub standing: Standing,
    /// True if it is the one that counts.
    pub newest: bool,
    /// `updated_at`, as an instant.
    pub updated_at: Option<Timestamp>,
    /// Of the document.
    pub digest: String,
    /// The message it came with.
    pub message: MessageId,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// The document, merged where it is a supplement.
    pub document: Value,
}

/// The story of a message.
#[derive(Debug, Clone, Serialize)]
pub struct MessageStory {
    /// The message.
    pub message: MessageRow,
    /// Bytes of the raw message.
    pub raw_bytes: u64,
    /// What it held, in order.
    pub found: Vec<FoundRow>,
    /// The deliveries of the versions it made.
    pub deliveries: Vec<DeliveryStory>,
}

/// The story of a session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionStory {
    /// The session.
    pub session: SessionRow,
    /// Its versions, in order.
    pub versions: Vec<VersionRow>,
    /// Every message that held it, duplicates too.
    pub found: Vec<FoundRow>,
    /// Its deliveries, in order.
    pub deliveries: Vec<DeliveryStory>,
}

/// The story of a delivery.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryStory {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryRow,
    /// How it came to its record, if its session did not name that one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoveRow>,
    /// Every try, in order.
    pub attempts: Vec<AttemptRow>,
    /// Steps whose last applied request came from it, with the request's digest.
    pub applied: Vec<(String, String)>,
}

impl Ledger {
    /// Everything about a message; `None` if there is no such one.
    pub async fn message_story(&self, id: MessageId) -> Result<Option<MessageStory>, Fault> {
        self.read(move |sql| {
            let message =
                sql.prepare_cached(&format!("{MESSAGE} WHERE m.id = ?1"))?.query_row([id.0], message_row).optional()?;
            let Some(message) = message else { return Ok(None) };
            let raw_bytes: Option<i64> = sql
                .prepare_cached("SELECT length(bytes) FROM raws WHERE message = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?;
            Ok(Some(MessageStory {
                message,
                raw_bytes: raw_bytes.unwrap_or(0).unsigned_abs(),
                found: found(sql, "f.message = ?1", id.0)?,
                deliveries: deliveries(
                    sql,
                    "v.message = ?1 AND d.session IN (SELECT session FROM found WHERE message = ?1)",
                    id.0,
                )?,
            }))
        })
        .await
    }

    /// Everything about a session; `None` if it was never seen.
    pub async fn session_story(&self, key: &SessionKey) -> Result<Option<SessionStory>, Fault> {
        let key = key.clone();
        self.read(move |sql| {
            let condition = "s.instance = ?1 AND s.channel = ?2 AND s.session_id = ?3";
            let session = sql
                .prepare_cached(&format!("{SESSION} WHERE {condition}"))?
                .query_row(params![key.instance, key.channel.as_str(), key.id], |row| {
                    Ok((row.get::<_, i64>(0)?, session_row(sql, row)?))
                })
                .optional()?;
            let Some((id, session)) = session else { return Ok(None) };
            Ok(Some(SessionStory {
                session,
                versions: versions(sql, id)?,
                found: found(sql, "f.session = ?1", id)?,
                deliveries: deliveries(sql, "d.session = ?1", id)?,
            }))
        })
        .await
    }

    /// Everything about a delivery; `None` if there is no such one.
    pub async fn delivery_story(&self, id: DeliveryId) -> Result<Option<DeliveryStory>, Fault> {
        self.read(move |sql| Ok(deliveries(sql, "d.id = ?1", id.0)?.pop())).await
    }

    /// A version with its document; `None` if there is no such one.
    pub async fn version(&self, id: VersionId) -> Result<Option<VersionRow>, Fault> {
        self.read(move |sql| {
            let session: Option<i64> = sql
                .prepare_cached("SELECT session FROM versions WHERE id = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?;
            let Some(session) = session else { return Ok(None) };
            Ok(versions(sql, session)?.into_iter().find(|version| version.id == id))
        })
        .await
    }
}

fn standing_of(row: &Row<'_>, column: usize) -> sql::Result<Standing> {
    let word = row.get_ref(column)?.as_str()?;
    Standing::from_word(word).ok_or_else(|| sql::Error::word(word))
}

/// JSON that the ledger wrote; what can't be read is shown as text.
fn json_of(row: &Row<'_>, column: usize) -> sql::Result<Value> {
    let text = row.get_ref(column)?.as_str()?;
    Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}

fn found(sql: &Sql, condition: &str, id: i64) -> Result<Vec<FoundRow>, Fault> {
    let mut statement = sql.prepare_cached(&format!(
        "SELECT f.message, s.instance, s.channel, s.session_id, f.standing, f.version, v.number, f.evidence, \
         f.warnings FROM found f JOIN sessions s ON s.id = f.session JOIN versions v ON v.id = f.version \
         WHERE {condition} ORDER BY f.message, f.place"
    ))?;
    let rows = statement.query_map([id], |row| {
        Ok(FoundRow {
            message: MessageId(row.get(0)?),
            session: session_key(row, 1)?.to_string(),
            standing: standing_of(row, 4)?,
            version: VersionId(row.get(5)?),
            version_number: row.get(6)?,
            evidence: json_of(row, 7)?,
            warnings: serde_json::from_str(row.get_ref(8)?.as_str()?).unwrap_or_default(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn versions(sql: &Sql, session: i64) -> Result<Vec<VersionRow>, Fault> {
    let mut statement = sql.prepare_cached(
        "SELECT v.id, v.number, v.standing, v.number = s.newest, v.updated_us, v.digest, v.message, v.created_at, \
         v.document FROM versions v JOIN sessions s ON s.id = v.session WHERE s.id = ?1 ORDER BY v.number",
    )?;
    let rows = statement.query_map([session], |row| {
        Ok(VersionRow {
            id: VersionId(row.get(0)?),
            number: row.get(1)?,
            standing: standing_of(row, 2)?,
            newest: row.get(3)?,
            updated_at: row.get::<_, Option<i64>>(4)?.and_then(|us| Timestamp::from_microsecond(us).ok()),
            digest: row.get(5)?,
            message: MessageId(row.get(6)?),
            created_at: moment(row.get(7)?),
            document: json_of(row, 8)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn deliveries(sql: &Sql, condition: &str, id: i64) -> Result<Vec<DeliveryStory>, Fault> {
    let mut statement = sql.prepare_cached(&format!("{DELIVERY} WHERE {condition} ORDER BY d.id"))?;
    let rows = statement.query_map([id], |row| {
        let delivery = delivery_row(row)?;
        let attempts = attempts(sql, delivery.id)?;
        let applied = applied(sql, delivery.id)?;
        Ok(DeliveryStory { delivery, moves: Vec::new(), attempts, applied })
    })?;
    let mut all = rows.collect::<Result<Vec<DeliveryStory>, _>>()?;
    for story in &mut all {
        story.moves = course::moves(sql, story.delivery.id.0)?;
    }
    Ok(all)
}

fn attempts(sql: &Sql, delivery: DeliveryId) -> sql::Result<Vec<AttemptRow>> {
    let mut statement = sql.prepare_cached(
        "SELECT started_at, duration_ms, outcome, reason, detail, exchanges FROM attempts WHERE delivery = ?1 \
         ORDER BY lease",
    )?;
    let rows = statement.query_map([delivery.0], |row| {
        Ok(AttemptRow {
            started_at: moment(row.get(0)?),
            duration_ms: row.get(1)?,
            outcome: row.get(2)?,
            reason: row.get(3)?,
            detail: row.get(4)?,
            exchanges: json_of(row, 5)?,
        })
    })?;
    rows.collect()
}

fn applied(sql: &Sql, delivery: DeliveryId) -> sql::Result<Vec<(String, String)>> {
    let mut statement = sql.prepare_cached(
        "SELECT a.step, a.digest FROM deliveries d JOIN applied a ON a.session = d.session \
         AND a.destination = d.destination WHERE d.id = ?1 AND a.delivery = d.id ORDER BY a.step",
    )?;
    let rows = statement.query_map([delivery.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
