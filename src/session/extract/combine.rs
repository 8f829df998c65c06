//! Several readings of one session become one: the stronger wins, the weaker fills what is missing, and a
//! disagreement is a warning. Two record ids of equal strength are refused, never chosen between.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::lenient::MAX_VALUES;
use super::{Candidate, Harvest, MAX_SESSIONS, Place};
use crate::outcome::Reason;
use crate::session::document::{self, Reading, is_filled};
use crate::session::evidence::{Evidence, Extraction, Found, How};
use crate::session::profile::{Profile, Slot};
use crate::session::redact::Redaction;
use crate::session::version::{self, Relation};
use crate::session::{Channel, Session};

/// Sentences about the readings of one session that are kept.
const MAX_WARNINGS: usize = 50;

/// One reading, understood.
struct Understood {
    document: Value,
    how: How,
    place: Place,
    reading: Reading,
    /// Sentences about what was masked in it.
    masked: Vec<String>,
    /// Something says whether it is a call or a chat.
    sure: bool,
    changed: bool,
}

/// Judges a harvest.
pub(super) fn combine(harvest: Harvest, instance: &str, profile: &Profile, privacy: &Redaction) -> Extraction {
    let Harvest { found, mut broken, notes, ambiguous, values } = harvest;
    if found.len() > MAX_SESSIONS {
        return Extraction::Refused(Reason::TooLarge, format!("more than {MAX_SESSIONS} sessions in one message"));
    }
    if values > MAX_VALUES {
        return Extraction::Refused(Reason::TooLarge, "the sessions in one message are too large together".to_owned());
    }
    if let Some(sentence) = ambiguous {
        return Extraction::Refused(Reason::Ambiguous, sentence);
    }
    let mut all = Vec::with_capacity(found.len());
    for candidate in found {
        let name = candidate.place.name();
        match understand(candidate, instance, profile, privacy) {
            Ok(understood) => all.push(understood),
            Err(Some(what)) => broken.push(super::Broken {
                reason: Reason::MalformedMetadata,
                sentence: format!("`{name}` is nearly a session, but {what}"),
            }),
            Err(None) => {}
        }
    }
    let mut sessions = Vec::new();
    for group in groups(all, instance, profile) {
        match one(group, instance, profile) {
            Ok(found) => sessions.push(found),
            Err(sentence) => return Extraction::Refused(Reason::Ambiguous, sentence),
        }
    }
    match (sessions.first_mut(), broken.into_iter().next()) {
        (None, None) => Extraction::None,
        (None, Some(broken)) => Extraction::Refused(broken.reason, broken.sentence),
        (Some(first), broken) => {
            first.warnings.extend(broken.map(|b| b.sentence).into_iter().chain(notes).take(MAX_WARNINGS));
            Extraction::Sessions(sessions)
        }
    }
}

fn understand(
    candidate: Candidate,
    instance: &str,
    profile: &Profile,
    privacy: &Redaction,
) -> Result<Understood, Option<String>> {
    let Candidate { mut document, how, place, hint, file_id } = candidate;
    let masked = privacy.document(&mut document);
    let mut reading = document::read_traced(&document, instance, profile, hint).map_err(|not| {
        not.is_near.or_else(|| {
            // Labels have proved themselves by other means.
            matches!(place, Place::Lines(_)).then(|| "too little of it is known".to_owned())
        })
    })?;
    if let Some(promised) = file_id.filter(|id| *id != reading.session.id) {
        reading.warnings.push(format!("the file name says {promised}, the document {}", reading.session.id));
    }
    let sure = hint.is_some() || reading.from.iter().any(|(field, _)| *field == "channel");
    let mut changed = false;
    if reading.session.recording_permission.as_deref() == Some("denied") {
        changed = withhold_recording(&mut document, profile);
    }
    Ok(Understood { document, how, place, reading, masked, sure, changed })
}

/// The document goes to CRMs as well: a refused recording leaves no link in it.
fn withhold_recording(document: &mut Value, profile: &Profile) -> bool {
    let Value::Object(object) = document else { return false };
    let mut changed = false;
    for (key, value) in object.iter_mut() {
        if profile.key(key) == Some(Slot::RecordingUrl) && is_filled(value) {
            *value = Value::Null;
            changed = true;
        }
    }
    changed
}

/// Readings of the same session together, in the order of the first of each.
fn groups(all: Vec<Understood>, instance: &str, profile: &Profile) -> Vec<Vec<Understood>> {
    let mut groups: Vec<Vec<Understood>> = Vec::new();
    let mut places: HashMap<(Channel, String), usize> = HashMap::new();
    let (sure, unsure): (Vec<_>, Vec<_>) = all.into_iter().partition(|u| u.sure);
    for mut reading in sure.into_iter().chain(unsure) {
        let id = reading.reading.session.id.clone();
        let mut channel = reading.reading.session.channel;
        if !reading.sure
            && let Some(known) =
                [Channel::Voice, Channel::Chat].into_iter().find(|c| places.contains_key(&(*c, id.clone())))
        {
            // Another reading of the same mail tells the channel.
            channel = known;
            if let Ok(again) = document::read_traced(&reading.document, instance, profile, Some(channel)) {
                reading.reading = again;
            }
        }
        let place = *places.entry((channel, id)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.push(reading);
        }
    }
    groups
}

/// One session from its readings; the error is the sentence of a refusal.
fn one(mut group: Vec<Understood>, instance: &str, profile: &Profile) -> Result<Found, String> {
    group.sort_by_key(|u| u.how);
    let mut rest = group.into_iter();
    let Some(mut best) = rest.next() else { return Err("no reading".to_owned()) };
    let (mut warnings, mut digest) = (Vec::new(), None);
    let mut evidence = best.evidence();
    let mut masked = std::mem::take(&mut best.masked);
    for mut other in rest {
        masked.append(&mut other.masked);
        let equal = other.how == best.how;
        let (held, new) = (&best.reading.session, &other.reading.session);
        if equal
            && let (Some(a), Some(b)) = (&held.out_ticket_id, &new.out_ticket_id)
            && a != b
        {
            return Err(format!(
                "{} names two records, in {} and in {}",
                held.key,
                best.place.name(),
                other.place.name()
            ));
        }
        if best.document == other.document {
            continue;
        }
        let relation = if equal { relation(&best, &mut digest, &other) } else { Relation::Supplement };
        match relation {
            Relation::Duplicate => continue,
            Relation::Older => {
                warnings.push(format!("an older version of it in {} is left aside", other.place.name()));
                continue;
            }
            Relation::Newer => {
                warnings.push(format!("an older version of it in {} is left aside", best.place.name()));
                evidence = other.evidence();
                best = other;
                digest = None;
                continue;
            }
            Relation::Supplement => {}
        }
        disagreements(held, &best.place.name(), new, &other.place.name(), &mut warnings);
        let merged = fill(&best.document, &other.document, &best.reading, &other.reading, profile);
        if merged != best.document {
            best.document = merged;
            best.changed = true;
            digest = None;
            for (field, place) in other.evidence() {
                if !evidence.iter().any(|(f, _)| *f == field) {
                    evidence.push((field, place));
                }
            }
        }
    }
    let mut reading = best.reading;
    if best.changed
        && let Ok(again) = document::read_traced(&best.document, instance, profile, Some(reading.session.channel))
    {
        // What was filled in may fill derived fields too; warnings of the first reading stay.
        let known = std::mem::take(&mut reading.warnings);
        reading = again;
        let new = std::mem::replace(&mut reading.warnings, known);
        for warning in new {
            if !reading.warnings.contains(&warning) {
                reading.warnings.push(warning);
            }
        }
        evidence.retain(|(field, _)| reading.from.iter().any(|(f, _)| f == field));
    }
    reading.warnings.extend(warnings.into_iter().take(MAX_WARNINGS));
    for sentence in masked.into_iter().take(MAX_WARNINGS) {
        if !reading.warnings.contains(&sentence) {
            reading.warnings.push(sentence);
        }
    }
    let rank = |field: &str| FIELDS.iter().position(|f| *f == field).unwrap_or(FIELDS.len());
    evidence.sort_by_cached_key(|(field, _)| rank(field));
    Ok(Found {
        digest: version::digest(&best.document),
        session: reading.session,
        document: best.document,
        evidence: evidence.into_iter().map(|(field, place)| (field.to_owned(), place)).collect(),
        warnings: reading.warnings,
    })
}

/// `digest` is that of the first, once it is known: many readings may be compared with a large one.
fn relation(a: &Understood, digest: &mut Option<String>, b: &Understood) -> Relation {
    let digest = digest.get_or_insert_with(|| version::digest(&a.document));
    let (a, b_digest) = (&a.reading.session, version::digest(&b.document));
    version::order(a.updated_at, digest, b.reading.session.updated_at, &b_digest)
}

/// The stronger document with what only the weaker one says. Fields, not keys, decide what is missing.
fn fill(strong: &Value, weak: &Value, strong_reading: &Reading, weak_reading: &Reading, profile: &Profile) -> Value {
    let (Value::Object(a), Value::Object(b)) = (strong, weak) else { return strong.clone() };
    let has = |reading: &Reading, key: &str| reading.from.iter().any(|(_, from)| from.split('/').next() == Some(key));
    let held: Vec<Slot> = a.iter().filter(|(_, v)| is_filled(v)).filter_map(|(k, _)| profile.key(k)).collect();
    let fields = |reading: &Reading, key: &str| -> Vec<&'static str> {
        reading.from.iter().filter(|(_, from)| from.split('/').next() == Some(key)).map(|(f, _)| *f).collect()
    };
    let mut out = a.clone();
    for (key, value) in b.iter().filter(|(_, v)| is_filled(v)) {
        let slot = profile.key(key);
        let same_key = a.iter().find(|(k, _)| *k == key || (slot.is_some() && profile.key(k) == slot));
        match (same_key, value) {
            (Some((held_key, Value::Object(x))), Value::Object(y)) => {
                out.insert(held_key.clone(), Value::Object(fill_object(x, y)));
            }
            (Some((_, held)), _) if is_filled(held) => {}
            _ => {
                // The stronger document may say the same under another key, such as the type.
                let said = slot.is_some_and(|s| held.contains(&s))
                    || (has(weak_reading, key)
                        && fields(weak_reading, key).iter().all(|f| strong_reading.from.iter().any(|(g, _)| g == f)));
                if !said {
                    let place = same_key.map_or(key, |(k, _)| k);
                    out.insert(place.clone(), value.clone());
                }
            }
        }
    }
    Value::Object(out)
}

fn fill_object(strong: &Map<String, Value>, weak: &Map<String, Value>) -> Map<String, Value> {
    let mut out = strong.clone();
    for (key, value) in weak {
        if is_filled(value) && !strong.get(key).is_some_and(is_filled) {
            out.insert(key.clone(), value.clone());
        }
    }
    out
}

/// A sentence for each value that two readings give differently. Personal values are not repeated.
fn disagreements(strong: &Session, strong_place: &str, weak: &Session, weak_place: &str, out: &mut Vec<String>) {
    let mut differs = |field: &str, a: Option<String>, b: Option<String>, shown: bool| {
        let (Some(a), Some(b)) = (a, b) else { return };
        let same = a.split_whitespace().eq(b.split_whitespace());
        if same {
            return;
        }
        out.push(if shown {
            let (a, b) = (crate::session::normalize::shown(&a), crate::session::normalize::shown(&b));
            format!("{weak_place} says {field} {b}, {strong_place} says {a}")
        } else {
            format!("{weak_place} and {strong_place} differ in {field}")
        });
    };
    let word = |v: &Option<String>| v.clone();
    let number = |v: Option<i64>| v.map(|n| n.to_string());
    let truth = |v: Option<bool>| v.map(|b| b.to_string());
    // Labels often leave the fraction out.
    let time = |v: Option<crate::session::Time>| v.map(|t| t.instant.as_second().to_string());
    differs("out_ticket_id", word(&strong.out_ticket_id), word(&weak.out_ticket_id), true);
    differs("session_type", word(&strong.session_type), word(&weak.session_type), true);
    differs("status", word(&strong.status), word(&weak.status), true);
    differs("lang", word(&strong.lang), word(&weak.lang), true);
    differs("wait_duration", number(strong.wait_duration), number(weak.wait_duration), true);
    differs("handle_duration", number(strong.handle_duration), number(weak.handle_duration), true);
    differs("hold_duration", number(strong.hold_duration), number(weak.hold_duration), true);
    differs("queue_priority_level", number(strong.queue_priority_level), number(weak.queue_priority_level), true);
    differs("rating", number(strong.rating), number(weak.rating), true);
    differs("verified", truth(strong.verified), truth(weak.verified), true);
    differs("recording_permission", word(&strong.recording_permission), word(&weak.recording_permission), true);
    differs("menu_path_id", word(&strong.menu_path_id), word(&weak.menu_path_id), true);
    differs("deflection", word(&strong.deflection), word(&weak.deflection), true);
    for (field, a, b) in [
        ("created_at", strong.created_at, weak.created_at),
        ("queued_at", strong.queued_at, weak.queued_at),
        ("assigned_at", strong.assigned_at, weak.assigned_at),
        ("connected_at", strong.connected_at, weak.connected_at),
        ("ends_at", strong.ends_at, weak.ends_at),
        ("scheduled_at", strong.scheduled_at, weak.scheduled_at),
        ("updated_at", strong.updated_at, weak.updated_at),
    ] {
        differs(field, time(a), time(b), false);
    }
    differs("out_ticket_url", word(&strong.out_ticket_url), word(&weak.out_ticket_url), false);
    differs("recording_url", word(&strong.recording_url), word(&weak.recording_url), false);
    differs("support_number", word(&strong.support_number), word(&weak.support_number), false);
    differs("outbound_number", word(&strong.outbound_number), word(&weak.outbound_number), false);
    differs("feedback", word(&strong.feedback), word(&weak.feedback), false);
    differs("smart_action_text", word(&strong.smart_action_text), word(&weak.smart_action_text), false);
    let name = |s: &Session| s.agent.as_ref().and_then(|a| a.name.clone());
    differs("agent", name(strong), name(weak), false);
    let odd = weak.dispositions.iter().find(|w| {
        let same = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => a.split_whitespace().eq(b.split_whitespace()),
            _ => true,
        };
        !strong.dispositions.is_empty()
            && !strong.dispositions.iter().any(|s| same(&s.code, &w.code) && same(&s.note, &w.note))
    });
    if odd.is_some() {
        out.push(format!("{weak_place} and {strong_place} differ in dispositions"));
    }
}

impl Understood {
    /// Where each field of the session was found.
    fn evidence(&self) -> Vec<(&'static str, Evidence)> {
        self.reading
            .from
            .iter()
            .map(|(field, from)| (*field, Evidence { how: self.how, place: self.place.of(from) }))
            .collect()
    }
}

impl Place {
    /// The place of one value.
    fn of(&self, from: &str) -> String {
        match self {
            Place::Json(base) => format!("{base}/{from}"),
            Place::Lines(places) => {
                let top = from.split('/').next().unwrap_or(from);
                let exact = from.replace('/', ".");
                places
                    .iter()
                    .find(|(path, _)| *path == exact)
                    .or_else(|| places.iter().find(|(path, _)| path.split('.').next() == Some(top)))
                    .map_or_else(String::new, |(_, place)| place.clone())
            }
        }
    }

    /// The file or body as a whole.
    fn name(&self) -> String {
        match self {
            Place::Json(base) => base.split('#').next().unwrap_or(base).to_owned(),
            Place::Lines(places) => places
                .first()
                .map_or_else(String::new, |(_, place)| place.split(", ").next().unwrap_or(place).to_owned()),
        }
    }
}

/// The fields of a session in their order, for evidence.
const FIELDS: [&str; 46] = [
    "channel",
    "id",
    "lang",
    "session_type",
    "session_type_label",
    "status",
    "status_code",
    "created_at",
    "queued_at",
    "assigned_at",
    "connected_at",
    "ends_at",
    "scheduled_at",
    "updated_at",
    "wait_duration",
    "handle_duration",
    "hold_duration",
    "answer_type",
    "out_ticket_id",
    "out_ticket_url",
    "is_out_ticket_account",
    "recording_permission",
    "recording_url",
    "support_number",
    "outbound_number",
    "menu_path",
    "menu_path_id",
    "selected_menu",
    "queue_priority_level",
    "rating",
    "feedback",
    "verified",
    "photos",
    "videos",
    "smart_action_text",
    "agent",
    "agents",
    "transfers",
    "escalations",
    "deflection",
    "dispositions",
    "in_call_sms",
    "wait_time_sms",
    "participants",
    "end_user",
    "fail_reason",
];
