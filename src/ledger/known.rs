//! What of a list from elsewhere the ledger knows: items of a source by their names, sessions of an export by their
//! ids. For `audit --source` and `audit --sessions`; changes nothing.

use jiff::Timestamp;

use super::Fault;
use super::handle::Ledger;
use super::sql::{OptionalExtension, params};
use crate::session::SessionKey;

/// What the ledger has of a session that an export names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSession {
    /// The instant of its newest version; `None` if that has none.
    pub updated_at: Option<Timestamp>,
    /// Whether it has this very content, as a version or as what was merged into one.
    pub has_content: bool,
}

impl Ledger {
    /// For each item of a source, by name and (if it is told) digest of the bytes, whether it was recorded.
    pub async fn knows_items(&self, source: &str, items: Vec<(String, Option<String>)>) -> Result<Vec<bool>, Fault> {
        let source = source.to_owned();
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT 1 FROM messages WHERE source = ?1 AND input = ?2 AND (?3 = '' OR raw_digest = ?3) LIMIT 1",
            )?;
            let mut known = Vec::with_capacity(items.len());
            for (input, digest) in items {
                known.push(statement.exists(params![source, input, digest.unwrap_or_default()])?);
            }
            Ok(known)
        })
        .await
    }

    /// For each session, with the digest of its document (or none), what is recorded of it; `None`: nothing.
    pub async fn knows_sessions(
        &self,
        sessions: Vec<(SessionKey, Option<String>)>,
    ) -> Result<Vec<Option<KnownSession>>, Fault> {
        self.read(move |sql| {
            let mut find = sql.prepare_cached(
                "SELECT id, updated_us FROM sessions WHERE instance = ?1 AND channel = ?2 AND session_id = ?3",
            )?;
            let mut holds = sql.prepare_cached(
                "SELECT 1 FROM versions WHERE session = ?1 AND (digest = ?2 OR found_digest = ?2) AND note_only = 0 LIMIT 1",
            )?;
            let mut known = Vec::with_capacity(sessions.len());
            for (key, digest) in sessions {
                let row: Option<(i64, Option<i64>)> = find
                    .query_row(params![key.instance, key.channel.as_str(), key.id], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?;
                let Some((id, updated_us)) = row else {
                    known.push(None);
                    continue;
                };
                let updated_at = updated_us.and_then(|us| Timestamp::from_microsecond(us).ok());
                let has_content = match digest {
                    Some(digest) => holds.exists(params![id, digest])?,
                    None => false,
                };
                known.push(Some(KnownSession { updated_at, has_content }));
            }
            Ok(known)
        })
        .await
    }
}
