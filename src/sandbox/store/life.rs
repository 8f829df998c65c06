//! What becomes of tickets beside updates: notes to closed ones, follow-ups, locks, removal, and a search.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Applied, Change, Kind, Note, Refusal, Store, Ticket, Via};
use crate::sandbox::update::NewNote;

/// The most follow-ups of one ticket.
const FOLLOW_UPS: usize = 1_000;

impl Store {
    /// Adds a note, which a closed ticket takes too.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Merged` or `Locked`; the ticket is then as it was.
    pub fn add_note(&self, id: &str, note: NewNote, now: Timestamp) -> Result<Applied, Refusal> {
        let mut inner = self.lock();
        let ticket = self.find(&mut inner, id).ok_or(Refusal::NotFound)?;
        if let Some(into) = &ticket.merged_into {
            return Err(Refusal::Merged { into: into.clone() });
        }
        inner.unlocked(id)?;
        let mut change = Change::default();
        inner.notes += 1;
        let number = inner.notes;
        change.push("note", Some(number));
        let NewNote { text, marker } = note;
        if let Some(ticket) = inner.tickets.get_mut(id).map(Arc::make_mut) {
            let marker = marker.clone();
            ticket.notes.push(Note { id: number, text, marker, attachments: Vec::new(), via: Via::Rest, at: now });
        }
        Ok(inner.close_books(id, change, marker, Via::Rest, now))
    }

    /// Opens a new ticket that follows a closed one. As in a real CRM, asking twice makes two.
    ///
    /// # Errors
    ///
    /// `NotFound`, or `Open` if the ticket is not closed.
    pub fn follow_up(&self, id: &str, marker: Option<String>, now: Timestamp) -> Result<Applied, Refusal> {
        let mut inner = self.lock();
        let ticket = self.find(&mut inner, id).ok_or(Refusal::NotFound)?;
        if ticket.status != super::CLOSED {
            return Err(Refusal::Open);
        }
        let free = (1..FOLLOW_UPS).map(|n| format!("{id}.{n}")).find(|name| !inner.tickets.contains_key(name));
        let name = free.ok_or(Refusal::NotFound)?;
        let ticket = Ticket { follows: Some((id.to_owned(), marker.clone())), ..Ticket::new(name.clone()) };
        inner.tickets.insert(name.clone(), Arc::new(ticket));
        let kinds = vec![Kind { name: "follow_up", changed: 1, item: None }];
        let change = Change { kinds, changed: vec!["follow_up".to_owned()] };
        Ok(inner.close_books(&name, change, marker, Via::Rest, now))
    }

    /// The follow-ups of a ticket that were asked for with this marker.
    pub fn follow_ups(&self, id: &str, marker: Option<&str>) -> Vec<Arc<Ticket>> {
        let fits = |ticket: &Arc<Ticket>| {
            let follows = ticket.follows.as_ref();
            follows.is_some_and(|(of, by)| of == id && (marker.is_none() || by.as_deref() == marker))
        };
        self.tickets().into_iter().filter(fits).collect()
    }

    /// Removes a ticket for good: it is not found any more, also where tickets are made when asked for.
    pub fn remove(&self, id: &str) {
        let mut inner = self.lock();
        inner.tickets.remove(id);
        inner.gone.insert(id.to_owned());
    }

    /// Somebody else holds the ticket for so many updates.
    pub fn hold(&self, id: &str, updates: u32) {
        self.lock().locks.insert(id.to_owned(), updates);
    }

    /// Tickets whose field has this value, whatever the case, the least recently changed first.
    pub fn search(&self, field: &str, value: &str) -> Vec<Arc<Ticket>> {
        let fits = |ticket: &Arc<Ticket>| {
            let found = ticket.fields.get(field).and_then(|v| v.as_str());
            ticket.merged_into.is_none() && found.is_some_and(|v| v.eq_ignore_ascii_case(value))
        };
        self.tickets().into_iter().filter(fits).collect()
    }
}
