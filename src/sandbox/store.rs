//! Tickets, attachments and the journal, in memory, behind one lock that is held for one change at a time.
//!
//! An update happens whole or not at all, and a ticket's version grows only if something changed. As in a
//! real CRM, a note that comes twice is there twice, whatever its marker. Readers get a shared snapshot of a
//! ticket, so that writing JSON never holds the lock. The time is an argument.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::records::Records;
use super::update::{NewAttachment, NewNote, Update};

mod life;

/// The status in which a ticket takes nothing but another status.
pub(crate) const CLOSED: &str = "closed";
/// How many merges are followed from one ticket to the next.
const MERGES: usize = 16;

/// One ticket, as `GET /api/tickets/{id}` tells it.
#[derive(Debug, Clone, Serialize)]
pub struct Ticket {
    /// Its id.
    pub id: String,
    /// A word of the caller's; `open` at first. `closed` takes no updates.
    pub status: String,
    /// Fields in the order in which they were first set.
    pub fields: Map<String, Value>,
    /// Tags, as last set.
    pub tags: Vec<String>,
    /// Notes, oldest first.
    pub notes: Vec<Note>,
    /// Attachments, oldest first.
    pub attachments: Vec<Attachment>,
    /// 1 at first; one more with every update that changed something.
    pub version: u64,
    /// The ticket that took this one's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
    /// The ticket that this one follows, and the marker with which it was asked for.
    #[serde(skip)]
    pub follows: Option<(String, Option<String>)>,
    /// The journal number of the last effect; 0 if there was none.
    #[serde(skip)]
    pub seq: u64,
    /// When the last effect was.
    #[serde(skip)]
    pub changed_at: Option<Timestamp>,
}

/// A note on a ticket.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    /// Counts through the whole store.
    pub id: u64,
    /// Plain text.
    pub text: String,
    /// What the writer left to recognise it by.
    pub marker: Option<String>,
    /// The attachments that came with it.
    pub attachments: Vec<u64>,
    /// How it came.
    pub via: Via,
    /// When it came.
    pub at: Timestamp,
}

/// How an effect came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Over the REST interface.
    Rest,
    /// By mail.
    Mail,
}

impl Via {
    /// `rest` or `mail`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Mail => "mail",
        }
    }
}

/// A file on a ticket.
#[derive(Debug, Clone, Serialize)]
pub struct Attachment {
    /// Counts through the whole store.
    pub id: u64,
    /// The file name as sent.
    pub name: String,
    /// The content type as sent.
    pub content_type: String,
    /// Bytes.
    pub size: usize,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// The content.
    #[serde(skip)]
    pub content: Bytes,
}

/// One effect, as `GET /api/journal` tells it.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// On which ticket.
    pub ticket: String,
    /// `status`, `fields`, `tags`, `attachment`, `note`, `merged` or `follow_up`.
    pub kind: &'static str,
    /// How.
    pub via: Via,
    /// The marker of the note in the same update.
    pub marker: Option<String>,
    /// The ticket's version after it. Effects of one update share it.
    pub version: u64,
    /// What changed, as the answer to the update said: `fields.x`, `note`…
    pub changed: Vec<String>,
    /// The id of the note or attachment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The ticket.
    pub id: String,
    /// Its version now.
    pub version: u64,
    /// `status`, `fields.NAME`, `tags`, `attachment`, `note`: what is different now.
    pub changed: Vec<String>,
}

/// Why an update was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such ticket.
    NotFound,
    /// The ticket is closed and the update does not change that.
    Closed,
    /// Another ticket took its place.
    Merged {
        /// That ticket.
        into: String,
    },
    /// Somebody else holds the ticket.
    Locked,
    /// The ticket is open: nothing has to follow it.
    Open,
    /// The update names a version that is not the current one.
    Stale {
        /// The current one.
        version: u64,
    },
}

/// The store.
#[derive(Debug)]
pub struct Store {
    records: Records,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tickets: HashMap<String, Arc<Ticket>>,
    attachments: Vec<Attachment>,
    notes: u64,
    journal: Vec<Entry>,
    /// Tickets that were removed.
    gone: HashSet<String>,
    /// How many updates of a ticket are still refused.
    locks: HashMap<String, u32>,
}

/// Sums for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tickets.
    pub tickets: usize,
    /// Notes.
    pub notes: u64,
    /// Attachments.
    pub attachments: usize,
    /// Effects in the journal.
    pub effects: usize,
}

impl Store {
    /// The tickets that `records` says exist, all open and empty.
    pub fn new(records: Records) -> Self {
        let store = Self { records, inner: Mutex::default() };
        store.reset();
        store
    }

    /// Everything as at the start.
    pub fn reset(&self) {
        let tickets = self.records.known().map(|id| (id.clone(), Arc::new(Ticket::new(id)))).collect();
        *self.lock() = Inner { tickets, ..Inner::default() };
    }

    /// A ticket as it is now.
    pub fn ticket(&self, id: &str) -> Option<Arc<Ticket>> {
        let mut inner = self.lock();
        self.find(&mut inner, id).map(Arc::clone)
    }

    /// The ticket that a message for `id` belongs to: the ticket itself or the one it was merged into.
    pub fn surviving(&self, id: &str) -> Option<Arc<Ticket>> {
        let mut ticket = self.ticket(id)?;
        for _ in 0..MERGES {
            let Some(into) = ticket.merged_into.as_deref() else { return Some(ticket) };
            ticket = self.ticket(into)?;
        }
        None
    }

    /// All tickets, the least recently changed first (untouched ones by id before all others).
    pub fn tickets(&self) -> Vec<Arc<Ticket>> {
        let mut all: Vec<_> = self.lock().tickets.values().cloned().collect();
        all.sort_unstable_by(|a, b| {
            // Untouched ones by number: C-9 before C-10.
            a.seq.cmp(&b.seq).then_with(|| a.id.len().cmp(&b.id.len())).then_with(|| a.id.cmp(&b.id))
        });
        all
    }

    /// An attachment with its content.
    pub fn attachment(&self, id: u64) -> Option<Attachment> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        self.lock().attachments.get(index).cloned()
    }

    /// Up to `limit` effects after number `since`, oldest first, on all tickets or one.
    pub fn journal(&self, since: u64, limit: usize, ticket: Option<&str>) -> Vec<Entry> {
        let inner = self.lock();
        let start = usize::try_from(since).unwrap_or(usize::MAX).min(inner.journal.len());
        let later = inner.journal.get(start..).unwrap_or_default();
        later.iter().filter(|entry| ticket.is_none_or(|id| entry.ticket == id)).take(limit).cloned().collect()
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            tickets: inner.tickets.len(),
            notes: inner.notes,
            attachments: inner.attachments.len(),
            effects: inner.journal.len(),
        }
    }

    /// Applies an update whole.
    ///
    /// # Errors
    ///
    /// The refusal; the ticket is then as it was.
    pub fn update(&self, id: &str, update: Update, via: Via, now: Timestamp) -> Result<Applied, Refusal> {
        let mut inner = self.lock();
        let ticket = self.find(&mut inner, id).ok_or(Refusal::NotFound)?;
        if let Some(into) = &ticket.merged_into {
            return Err(Refusal::Merged { into: into.clone() });
        }
        if update.version.is_some_and(|version| version != ticket.version) {
            return Err(Refusal::Stale { version: ticket.version });
        }
        let ticket = ticket.clone();
        inner.unlocked(id)?;
        if ticket.status == CLOSED && update.status.as_deref().is_none_or(|status| status == CLOSED) {
            return Err(Refusal::Closed);
        }
        Ok(inner.apply(id, update, via, now))
    }

    /// Lets `into` take the place of `id`.
    ///
    /// # Errors
    ///
    /// `NotFound` if either does not exist, `Merged` if one is merged already or both are the same.
    pub fn merge(&self, id: &str, into: &str, now: Timestamp) -> Result<Applied, Refusal> {
        let mut inner = self.lock();
        for name in [into, id] {
            let ticket = self.find(&mut inner, name).ok_or(Refusal::NotFound)?;
            if let Some(into) = &ticket.merged_into {
                return Err(Refusal::Merged { into: into.clone() });
            }
        }
        if id == into {
            return Err(Refusal::Merged { into: into.to_owned() });
        }
        let mut change = Change { kinds: Vec::new(), changed: vec!["merged_into".to_owned()] };
        change.kinds.push(Kind { name: "merged", changed: 1, item: None });
        if let Some(ticket) = inner.tickets.get_mut(id).map(Arc::make_mut) {
            ticket.merged_into = Some(into.to_owned());
        }
        Ok(inner.close_books(id, change, None, Via::Rest, now))
    }

    fn find<'a>(&self, inner: &'a mut Inner, id: &str) -> Option<&'a Arc<Ticket>> {
        if !inner.tickets.contains_key(id) && !inner.gone.contains(id) && self.records.makes(id) {
            inner.tickets.insert(id.to_owned(), Arc::new(Ticket::new(id.to_owned())));
        }
        inner.tickets.get(id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held can't have left a half-made ticket that matters to a sandbox.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one update changed, in the order of the journal.
#[derive(Debug, Default)]
struct Change {
    kinds: Vec<Kind>,
    changed: Vec<String>,
}

#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// How many of the change's names are its own.
    changed: usize,
    item: Option<u64>,
}

impl Change {
    fn push(&mut self, name: &'static str, item: Option<u64>) {
        self.kinds.push(Kind { name, changed: 1, item });
        self.changed.push(name.to_owned());
    }
}

impl Inner {
    /// Counts a refusal of a ticket that somebody else holds.
    fn unlocked(&mut self, id: &str) -> Result<(), Refusal> {
        match self.locks.get_mut(id) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(Refusal::Locked)
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, id: &str, update: Update, via: Via, now: Timestamp) -> Applied {
        let mut change = Change::default();
        let marker = update.note.as_ref().and_then(|note| note.marker.clone());
        if let Some(ticket) = self.tickets.get_mut(id).map(Arc::make_mut) {
            ticket.set(update.status, update.fields, update.tags, &mut change);
            let mut ids = Vec::new();
            for file in update.attachments {
                let attachment = Attachment::new(self.attachments.len() as u64 + 1, file);
                change.push("attachment", Some(attachment.id));
                ids.push(attachment.id);
                self.attachments.push(attachment.clone());
                ticket.attachments.push(attachment);
            }
            if let Some(NewNote { text, marker }) = update.note {
                self.notes += 1;
                change.push("note", Some(self.notes));
                ticket.notes.push(Note { id: self.notes, text, marker, attachments: ids, via, at: now });
            }
        }
        self.close_books(id, change, marker, via, now)
    }

    /// The version and the journal.
    fn close_books(&mut self, id: &str, change: Change, marker: Option<String>, via: Via, now: Timestamp) -> Applied {
        let Change { kinds, changed } = change;
        let mut version = 0;
        if let Some(ticket) = self.tickets.get_mut(id).map(Arc::make_mut) {
            if !kinds.is_empty() {
                ticket.version += 1;
                ticket.changed_at = Some(now);
                ticket.seq = (self.journal.len() + kinds.len()) as u64;
            }
            version = ticket.version;
        }
        let mut names = changed.iter();
        for kind in kinds {
            self.journal.push(Entry {
                seq: self.journal.len() as u64 + 1,
                at: now,
                ticket: id.to_owned(),
                kind: kind.name,
                via,
                marker: marker.clone(),
                version,
                changed: names.by_ref().take(kind.changed).cloned().collect(),
                item: kind.item,
            });
        }
        Applied { id: id.to_owned(), version, changed }
    }
}

impl Ticket {
    fn new(id: String) -> Self {
        Self {
            id,
            status: "open".to_owned(),
            fields: Map::new(),
            tags: Vec::new(),
            notes: Vec::new(),
            attachments: Vec::new(),
            version: 1,
            merged_into: None,
            follows: None,
            seq: 0,
            changed_at: None,
        }
    }

    fn set(
        &mut self,
        status: Option<String>,
        fields: Map<String, Value>,
        tags: Option<Vec<String>>,
        change: &mut Change,
    ) {
        if let Some(status) = status.filter(|status| *status != self.status) {
            self.status = status;
            change.push("status", None);
        }
        let before = change.changed.len();
        for (name, value) in fields {
            let differs = match self.fields.get(&name) {
                Some(old) => *old != value,
                None => !value.is_null(),
            };
            if differs {
                change.changed.push(format!("fields.{name}"));
                if value.is_null() {
                    self.fields.shift_remove(&name);
                } else {
                    self.fields.insert(name, value);
                }
            }
        }
        let set = change.changed.len() - before;
        if set > 0 {
            change.kinds.push(Kind { name: "fields", changed: set, item: None });
        }
        if let Some(tags) = tags.filter(|tags| *tags != self.tags) {
            self.tags = tags;
            change.push("tags", None);
        }
    }
}

impl Attachment {
    fn new(id: u64, file: NewAttachment) -> Self {
        let NewAttachment { name, content_type, content, sha256 } = file;
        Self { id, name, content_type, size: content.len(), sha256, content }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn store() -> Store {
        Store::new(Records::range("C-", 1, 3))
    }

    fn update(value: &Value) -> Update {
        Update::read(value.to_string().as_bytes()).expect("an update")
    }

    #[test]
    fn an_update_happens_whole_and_says_what_changed() {
        let store = store();
        let all = update(&json!({"fields": {"a": 1, "b": "x"}, "status": "pending", "tags": ["t"],
            "note": {"text": "hello", "marker": "m2c-1"},
            "attachment": {"name": "a.json", "content_type": "application/json", "data": "e30="}}));
        let applied = store.update("C-1", all, Via::Rest, NOW).expect("applied");
        assert_eq!(applied.changed, ["status", "fields.a", "fields.b", "tags", "attachment", "note"]);
        assert_eq!(applied.version, 2);
        let ticket = store.ticket("C-1").expect("a ticket");
        assert_eq!(ticket.notes[0].attachments, [1]);
        assert_eq!(ticket.attachments[0].sha256, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert_eq!(&store.attachment(1).expect("content").content[..], b"{}");
        let kinds: Vec<_> = store.journal(0, 100, None).iter().map(|e| e.kind).collect();
        assert_eq!(kinds, ["status", "fields", "tags", "attachment", "note"]);
        assert_eq!(store.journal(0, 100, None)[1].changed, ["fields.a", "fields.b"]);
        assert_eq!(ticket.seq, 5);
    }

    #[test]
    fn the_same_values_again_change_nothing_but_a_note_is_doubled() {
        let store = store();
        let body = json!({"fields": {"a": 1}, "note": {"text": "n", "marker": "m"}});
        store.update("C-1", update(&body), Via::Rest, NOW).expect("applied");
        let again = store.update("C-1", update(&body), Via::Rest, NOW).expect("applied");
        assert_eq!(again.changed, ["note"]);
        let same = store.update("C-1", update(&json!({"fields": {"a": 1}})), Via::Rest, NOW).expect("applied");
        assert_eq!((same.changed.len(), same.version), (0, 3));
        assert_eq!(store.ticket("C-1").expect("a ticket").notes.len(), 2);
    }

    #[test]
    fn a_null_empties_a_field() {
        let store = store();
        store.update("C-1", update(&json!({"fields": {"a": 1}})), Via::Rest, NOW).expect("applied");
        let applied = store.update("C-1", update(&json!({"fields": {"a": null, "b": null}})), Via::Rest, NOW);
        assert_eq!(applied.expect("applied").changed, ["fields.a"]);
        assert!(store.ticket("C-1").expect("a ticket").fields.is_empty());
    }

    #[test]
    fn closed_merged_stale_and_unknown_tickets_refuse() {
        let store = store();
        let refusal = |id: &str, body: Value| store.update(id, update(&body), Via::Rest, NOW).expect_err("refused");
        let note = json!({"note": {"text": "n"}});
        assert_eq!(refusal("C-9", note.clone()), Refusal::NotFound);
        assert_eq!(refusal("C-1", json!({"version": 7, "status": "x"})), Refusal::Stale { version: 1 });
        store.update("C-1", update(&json!({"status": "closed"})), Via::Rest, NOW).expect("closed");
        assert_eq!(refusal("C-1", note.clone()), Refusal::Closed);
        store.update("C-1", update(&json!({"status": "open", "fields": {"a": 1}})), Via::Rest, NOW).expect("open");
        store.merge("C-2", "C-3", NOW).expect("merged");
        assert_eq!(refusal("C-2", note), Refusal::Merged { into: "C-3".into() });
        assert_eq!(store.surviving("C-2").expect("a ticket").id, "C-3");
        assert_eq!(store.merge("C-3", "C-2", NOW), Err(Refusal::Merged { into: "C-3".into() }));
    }
}
