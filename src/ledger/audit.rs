//! Proves from the tables alone that nothing is lost: every message in one state, every session with the
//! version that counts, every leg of it with a delivery, every delivery on its way or at its end. What
//! does not add up is named, never repaired.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::handle::Ledger;
use super::sql::{Sql, params};
use super::{DeliveryState, Fault, MessageState};
use crate::digest::sha256;
use crate::session::version;

/// Places named per rule; more are counted.
const NAMED: usize = 20;

/// The account of a ledger.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// All messages, by state. Every state is there.
    pub messages: BTreeMap<&'static str, u64>,
    /// All deliveries, by state. Every state is there.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// Deliveries that the brake holds back; `parked` counts them too.
    pub braked: u64,
    /// Deliveries that wait for a person to choose their record; they are counted as `parked` or `dead` too.
    pub ambiguous: u64,
    /// Deliveries that came to another record than the one their session names, or that names none.
    pub led: u64,
    /// Versions that name another record than former ones of their session went to.
    pub moved: u64,
    /// Messages whose raw bytes are gone, for their age or with a session that was erased.
    pub raws_removed: u64,
    /// Sessions that were erased by hand.
    pub erased: u64,
    /// Sessions whose documents were removed for their age.
    pub emptied: u64,
    /// Sessions.
    pub sessions: u64,
    /// Distinct contents of sessions.
    pub versions: u64,
    /// Sessions found in messages, duplicates too, by standing.
    pub found: BTreeMap<String, u64>,
    /// What does not add up; empty if all is well.
    pub gaps: Vec<Gap>,
}

/// One rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// What is wrong, as a sentence.
    pub rule: String,
    /// How many rows.
    pub count: u64,
    /// The first of them, such as `message 12`.
    pub rows: Vec<String>,
}

/// A rule: the sentence if it is broken, and the rows that break it.
struct Rule(&'static str, &'static str);

const RULES: &[Rule] = &[
    Rule(
        "a processed message has no session",
        "SELECT 'message ' || id FROM messages m WHERE state = 'processed' AND raw_removed IS DISTINCT FROM 'erased' \
         AND NOT EXISTS (SELECT 1 FROM found f WHERE f.message = m.id)",
    ),
    Rule(
        "a message that is not processed has sessions",
        "SELECT 'message ' || id FROM messages m WHERE state <> 'processed' \
         AND EXISTS (SELECT 1 FROM found f WHERE f.message = m.id)",
    ),
    Rule(
        "a message that is not processed has no reason",
        "SELECT 'message ' || id FROM messages WHERE state <> 'processed' AND reason IS NULL",
    ),
    Rule(
        "a message has no raw bytes",
        "SELECT 'message ' || id FROM messages m WHERE raw_removed IS NULL \
         AND NOT EXISTS (SELECT 1 FROM raws r WHERE r.message = m.id)",
    ),
    Rule(
        "a message still has the raw bytes that were removed",
        "SELECT 'message ' || id FROM messages m WHERE raw_removed IS NOT NULL \
         AND EXISTS (SELECT 1 FROM raws r WHERE r.message = m.id)",
    ),
    Rule(
        "a delivery is held back by the brake without a record",
        "SELECT 'delivery ' || id FROM deliveries WHERE state = 'parked' AND reason = 'braked' AND record IS NULL",
    ),
    Rule(
        "a delivery that ended has progress still",
        "SELECT DISTINCT 'delivery ' || d.id FROM progress p JOIN deliveries d ON d.id = p.delivery \
         WHERE d.state IN ('delivered', 'unchanged', 'superseded', 'discarded')",
    ),
    Rule(
        "the sessions of a message are not numbered from 0 without a hole",
        "SELECT 'message ' || message FROM found GROUP BY message HAVING max(place) + 1 <> count(*)",
    ),
    Rule(
        "what was found belongs to a version of another session",
        "SELECT 'message ' || f.message FROM found f JOIN versions v ON v.id = f.version WHERE v.session <> f.session",
    ),
    Rule(
        "a version was found in no message",
        "SELECT 'version ' || v.id FROM versions v WHERE NOT EXISTS (SELECT 1 FROM found f \
         WHERE f.message = v.message AND f.version = v.id AND f.standing = v.standing)",
    ),
    Rule(
        "a session does not have the version that counts",
        "SELECT 'session ' || s.id FROM sessions s WHERE NOT EXISTS (SELECT 1 FROM versions v \
         WHERE v.session = s.id AND v.number = s.newest AND v.standing <> 'older')",
    ),
    Rule(
        "a later version that counts is not the newest",
        "SELECT 'session ' || s.id FROM sessions s JOIN versions v ON v.session = s.id \
         WHERE v.standing <> 'older' AND v.number > s.newest",
    ),
    Rule(
        "a version is of a later moment than its session",
        "SELECT 'version ' || v.id FROM versions v JOIN sessions s ON s.id = v.session \
         WHERE coalesce(v.updated_us, -9e18) > coalesce(s.updated_us, -9e18)",
    ),
    Rule(
        "the versions of a session are not numbered from 1 without a hole",
        "SELECT 'session ' || session FROM versions GROUP BY session HAVING min(number) <> 1 OR max(number) <> count(*)",
    ),
    Rule(
        "a version does not have a delivery for each of its legs",
        "SELECT 'version ' || v.id FROM versions v \
         LEFT JOIN (SELECT version, count(*) n FROM deliveries GROUP BY version) d ON d.version = v.id \
         WHERE coalesce(d.n, 0) < v.legs OR (v.standing = 'older' AND d.n > 0)",
    ),
    Rule(
        "a delivery carries a version of another session",
        "SELECT 'delivery ' || d.id FROM deliveries d JOIN versions v ON v.id = d.version WHERE v.session <> d.session",
    ),
    Rule(
        "a version that no longer counts is still to be sent",
        "SELECT 'delivery ' || d.id FROM deliveries d JOIN versions v ON v.id = d.version \
         JOIN sessions s ON s.id = d.session WHERE d.state IN ('waiting', 'parked') AND v.number <> s.newest",
    ),
    Rule(
        "a delivery that waits has no time to be tried, or one that does not wait has one",
        "SELECT 'delivery ' || id FROM deliveries WHERE (state IN ('waiting', 'parked')) <> (next_at IS NOT NULL)",
    ),
    Rule(
        "a delivery that is being sent has no lease, or another one has",
        "SELECT 'delivery ' || id FROM deliveries WHERE (state = 'sending') <> (leased_until IS NOT NULL)",
    ),
    Rule(
        "a delivery that waits has no record, and none is looked for",
        "SELECT 'delivery ' || id FROM deliveries WHERE state IN ('waiting', 'sending') AND record IS NULL \
         AND look_at IS NULL",
    ),
    Rule(
        "a delivery was led to another record than the one it has",
        "SELECT 'delivery ' || d.id FROM deliveries d JOIN moves m ON m.delivery = d.id \
         WHERE m.place = (SELECT max(place) FROM moves l WHERE l.delivery = d.id) \
         AND d.record IS DISTINCT FROM m.to_record",
    ),
    Rule(
        "a lane that nobody sends has no head, or the wrong one",
        "SELECT 'delivery ' || d.id FROM deliveries d WHERE d.state = 'waiting' AND (d.head = 1) <> (\
         NOT EXISTS (SELECT 1 FROM deliveries b WHERE b.state = 'sending' AND b.destination = d.destination \
         AND b.lane = d.lane) \
         AND NOT EXISTS (SELECT 1 FROM deliveries b WHERE b.state = 'waiting' AND b.destination = d.destination \
         AND b.lane = d.lane AND b.id < d.id))",
    ),
    Rule(
        "a delivery that ended has no reason",
        "SELECT 'delivery ' || id FROM deliveries WHERE state NOT IN ('waiting', 'sending') AND reason IS NULL",
    ),
    Rule(
        "a delivery is delivered without an attempt",
        "SELECT 'delivery ' || id FROM deliveries d WHERE state = 'delivered' \
         AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.delivery = d.id)",
    ),
    Rule(
        "a delivery has more attempts written down than counted",
        "SELECT 'delivery ' || d.id FROM deliveries d \
         JOIN (SELECT delivery, count(*) n FROM attempts GROUP BY delivery) a ON a.delivery = d.id \
         WHERE a.n > d.attempts OR d.lease < d.attempts",
    ),
    Rule(
        "the version that counts was taken for replaced",
        "SELECT 'delivery ' || d.id FROM deliveries d JOIN versions v ON v.id = d.version \
         JOIN sessions s ON s.id = d.session WHERE d.state = 'superseded' AND v.number = s.newest",
    ),
    Rule(
        "a session is in line more than once for one destination",
        "SELECT 'session ' || session FROM deliveries WHERE state IN ('waiting', 'parked') \
         GROUP BY session, destination, coalesce(record, '') HAVING count(*) > 1",
    ),
    Rule(
        "a delivery stands at the head of a line in which it does not wait",
        "SELECT 'delivery ' || id FROM deliveries WHERE head = 1 AND state <> 'waiting'",
    ),
    Rule(
        "a delivery stands in the line of another record",
        "SELECT 'delivery ' || id FROM deliveries WHERE record IS NOT NULL AND lane <> record",
    ),
    Rule(
        "a delivery is delivered, and no attempt says so",
        "SELECT 'delivery ' || id FROM deliveries d WHERE state = 'delivered' \
         AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.delivery = d.id AND a.outcome = 'delivered')",
    ),
    Rule(
        "a delivery has fewer attempts written down than counted",
        "SELECT 'delivery ' || d.id FROM deliveries d WHERE d.attempts > 0 \
         AND d.attempts > (SELECT count(*) FROM attempts a WHERE a.delivery = d.id)",
    ),
    Rule(
        "what was applied was applied by a delivery of another session or destination",
        "SELECT 'delivery ' || d.id FROM applied a JOIN deliveries d ON d.id = a.delivery \
         WHERE d.session <> a.session OR d.destination <> a.destination",
    ),
    Rule(
        "a first version is not the first, or the first one is no first version",
        "SELECT 'version ' || id FROM versions WHERE (standing = 'first') <> (number = 1)",
    ),
    Rule(
        "a session has no document, and nothing says that it was removed",
        "SELECT 'session ' || s.id FROM sessions s JOIN versions v ON v.session = s.id AND v.number = s.newest \
         WHERE (octet_length(v.document) = 0) <> (s.content_removed_at IS NOT NULL)",
    ),
    Rule(
        "the content of a session was removed before all of it had ended",
        "SELECT 'delivery ' || d.id FROM deliveries d JOIN sessions s ON s.id = d.session \
         WHERE s.content_removed_at IS NOT NULL AND d.state IN ('waiting', 'sending', 'parked', 'dead')",
    ),
    Rule(
        "a row belongs to one that is not there",
        "SELECT 'raws of messages ' || message FROM raws c WHERE NOT EXISTS (SELECT 1 FROM messages p WHERE p.id = c.message) \
         UNION ALL SELECT 'versions of sessions ' || session FROM versions c WHERE NOT EXISTS (SELECT 1 FROM sessions p WHERE p.id = c.session) \
         UNION ALL SELECT 'versions of messages ' || message FROM versions c WHERE NOT EXISTS (SELECT 1 FROM messages p WHERE p.id = c.message) \
         UNION ALL SELECT 'found of messages ' || message FROM found c WHERE NOT EXISTS (SELECT 1 FROM messages p WHERE p.id = c.message) \
         UNION ALL SELECT 'found of sessions ' || session FROM found c WHERE NOT EXISTS (SELECT 1 FROM sessions p WHERE p.id = c.session) \
         UNION ALL SELECT 'found of versions ' || version FROM found c WHERE NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = c.version) \
         UNION ALL SELECT 'deliveries of sessions ' || session FROM deliveries c WHERE NOT EXISTS (SELECT 1 FROM sessions p WHERE p.id = c.session) \
         UNION ALL SELECT 'deliveries of versions ' || version FROM deliveries c WHERE NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = c.version) \
         UNION ALL SELECT 'attempts of deliveries ' || delivery FROM attempts c WHERE NOT EXISTS (SELECT 1 FROM deliveries p WHERE p.id = c.delivery) \
         UNION ALL SELECT 'applied of sessions ' || session FROM applied c WHERE NOT EXISTS (SELECT 1 FROM sessions p WHERE p.id = c.session) \
         UNION ALL SELECT 'applied of deliveries ' || delivery FROM applied c WHERE NOT EXISTS (SELECT 1 FROM deliveries p WHERE p.id = c.delivery) \
         UNION ALL SELECT 'repeats of deliveries ' || delivery FROM repeats c WHERE NOT EXISTS (SELECT 1 FROM deliveries p WHERE p.id = c.delivery)",
    ),
];

impl Audit {
    /// Whether everything adds up.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |states: &BTreeMap<&'static str, u64>| -> String {
            let some =
                states.iter().filter(|(_, n)| **n > 0).map(|(state, n)| format!("{n} {state}")).collect::<Vec<_>>();
            if some.is_empty() { "none".to_owned() } else { some.join(", ") }
        };
        writeln!(f, "messages    {} ({})", self.messages.values().sum::<u64>(), counts(&self.messages))?;
        writeln!(f, "sessions    {} in {} versions", self.sessions, self.versions)?;
        writeln!(f, "deliveries  {} ({})", self.deliveries.values().sum::<u64>(), counts(&self.deliveries))?;
        if self.braked > 0 {
            writeln!(f, "BRAKE       {} deliveries held back: `deliveries list --state parked`", self.braked)?;
        }
        if self.ambiguous > 0 {
            writeln!(
                f,
                "AMBIGUOUS   {} deliveries fit more than one record: `deliveries list --json`, `deliveries release`",
                self.ambiguous
            )?;
        }
        if self.led > 0 {
            writeln!(f, "led         {} deliveries to a record found by a look-up, a policy or a person", self.led)?;
        }
        if self.moved > 0 {
            writeln!(
                f,
                "moved       {} deliveries to another record than former versions of their session",
                self.moved
            )?;
        }
        if self.raws_removed + self.erased > 0 {
            writeln!(f, "removed     raw bytes of {} messages; {} sessions erased", self.raws_removed, self.erased)?;
        }
        if self.emptied > 0 {
            writeln!(f, "removed     documents of {} sessions that are finished", self.emptied)?;
        }
        for gap in &self.gaps {
            writeln!(f, "NOT ACCOUNTED FOR: {} ({}: {})", gap.rule, gap.count, gap.rows.join(", "))?;
        }
        writeln!(f, "{}", if self.is_complete() { "all is accounted for" } else { "it does not add up" })
    }
}

impl Ledger {
    /// Accounts for everything in the ledger, as of one moment. Reads all of it but raw bytes and documents.
    pub async fn audit(&self) -> Result<Audit, Fault> {
        self.read(|sql| {
            let mut gaps = Vec::new();
            for rule in RULES {
                gaps.extend(rule.broken(sql)?);
            }
            let mut audit = Audit {
                messages: MessageState::ALL.iter().map(|state| (state.as_str(), 0)).collect(),
                deliveries: DeliveryState::ALL.iter().map(|state| (state.as_str(), 0)).collect(),
                braked: count(sql, "SELECT count(*) FROM deliveries WHERE state = 'parked' AND reason = 'braked'")?,
                ambiguous: count(
                    sql,
                    "SELECT count(*) FROM deliveries WHERE state IN ('parked', 'dead') AND reason = 'record_ambiguous'",
                )?,
                led: count(sql, "SELECT count(DISTINCT delivery) FROM moves")?,
                moved: count(sql, "SELECT count(*) FROM deliveries WHERE moved_from IS NOT NULL")?,
                raws_removed: count(sql, "SELECT count(*) FROM messages WHERE raw_removed IS NOT NULL")?,
                erased: count(sql, "SELECT count(*) FROM erasures")?,
                emptied: count(sql, "SELECT count(*) FROM sessions WHERE content_removed_at IS NOT NULL")?,
                sessions: count(sql, "SELECT count(*) FROM sessions")?,
                versions: count(sql, "SELECT count(*) FROM versions")?,
                found: by(sql, "SELECT standing, count(*) FROM found GROUP BY 1")?.into_iter().collect(),
                gaps,
            };
            let tables = [
                ("messages", &mut audit.messages, "SELECT state, count(*) FROM messages GROUP BY 1"),
                ("deliveries", &mut audit.deliveries, "SELECT state, count(*) FROM deliveries GROUP BY 1"),
            ];
            for (table, states, query) in tables {
                for (word, n) in by(sql, query)? {
                    states.iter_mut().filter(|(state, _)| **state == word).for_each(|(_, count)| *count = n);
                }
                let (all, named) = (count(sql, &format!("SELECT count(*) FROM {table}"))?, states.values().sum());
                if all != named {
                    let rule = format!("{table} are in states that have no name");
                    audit.gaps.push(Gap { rule, count: all.abs_diff(named), rows: Vec::new() });
                }
            }
            Ok(audit)
        })
        .await
    }
}

/// Rows whose contents are compared in one read.
const COMPARED: usize = 256;

impl Ledger {
    /// Reads every byte that is kept and compares it with its digest, and asks the database of its own soundness. What
    /// does not fit, as rules.
    pub async fn audit_contents(&self) -> Result<Vec<Gap>, Fault> {
        let mut gaps = vec![
            Gap {
                rule: "the raw bytes of a message are not those that were recorded".to_owned(),
                count: 0,
                rows: Vec::new(),
            },
            Gap {
                rule: "the document of a version is not the one that was recorded".to_owned(),
                count: 0,
                rows: Vec::new(),
            },
        ];
        let queries = [
            (
                "message",
                "SELECT r.message, r.bytes, m.raw_digest FROM raws r JOIN messages m ON m.id = r.message \
                         WHERE r.message > ?1 ORDER BY r.message LIMIT ?2",
            ),
            ("version", "SELECT id, document, digest FROM versions WHERE id > ?1 ORDER BY id LIMIT ?2"),
        ];
        for (gap, (what, query)) in gaps.iter_mut().zip(queries) {
            let mut after = Some(0);
            while let Some(from) = after {
                let (wrong, next) = self.read(move |sql| compare(sql, what, query, from)).await?;
                for row in wrong {
                    gap.count += 1;
                    if gap.rows.len() < NAMED {
                        gap.rows.push(row);
                    }
                }
                after = next;
            }
        }
        let said: Vec<String> = self
            .read(|sql| {
                // PostgreSQL sees to its own soundness (`data_checksums`).
                let Sql::Lite(_) = sql else { return Ok(Vec::new()) };
                let mut statement = sql.prepare_cached("PRAGMA integrity_check(20)")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        let said: Vec<String> = said.into_iter().filter(|line| line != "ok").collect();
        let rule = "the database itself is damaged: restore a copy".to_owned();
        gaps.push(Gap { rule, count: said.len() as u64, rows: said });
        gaps.retain(|gap| gap.count > 0);
        Ok(gaps)
    }
}

/// Rows whose bytes do not have their digest, and where to go on.
fn compare(sql: &Sql, what: &str, query: &str, from: i64) -> Result<(Vec<String>, Option<i64>), Fault> {
    let mut statement = sql.prepare_cached(query)?;
    let rows = statement.query_map(params![from, COMPARED as i64], |row| {
        let bytes = row.get_ref(1)?.as_bytes();
        let digest: String = row.get(2)?;
        let is_same = match what {
            "message" => sha256(bytes) == digest,
            // Removed for its age, which has a rule of its own.
            _ if bytes.is_empty() => true,
            _ => serde_json::from_slice(bytes).is_ok_and(|document| version::digest(&document) == digest),
        };
        Ok((row.get::<_, i64>(0)?, is_same))
    })?;
    let rows: Vec<(i64, bool)> = rows.collect::<Result<_, _>>()?;
    let wrong = rows.iter().filter(|(_, is_same)| !is_same).map(|(id, _)| format!("{what} {id}")).collect();
    Ok((wrong, rows.last().map(|(id, _)| *id).filter(|_| rows.len() == COMPARED)))
}

impl Rule {
    fn broken(&self, sql: &Sql) -> Result<Option<Gap>, Fault> {
        let count = count(sql, &format!("SELECT count(*) FROM ({}) AS broken", self.1))?;
        if count == 0 {
            return Ok(None);
        }
        let mut first = sql.prepare_cached(&format!("{} LIMIT {NAMED}", self.1))?;
        let rows = first.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Some(Gap { rule: self.0.to_owned(), count, rows }))
    }
}

fn count(sql: &Sql, query: &str) -> Result<u64, Fault> {
    Ok(sql.query_row(query, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

fn by(sql: &Sql, query: &str) -> Result<Vec<(String, u64)>, Fault> {
    let mut statement = sql.prepare_cached(query)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
