//! Reads documents that the ledger keeps: by the profile of their contact-centre instance, and as a session of
//! the channel that their key has. A document need not say its own channel; the name of the file or the label that
//! told it is not kept, the key is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::profile::Profile;
use super::{Session, SessionKey, document};

/// The profile of each instance.
#[derive(Debug, Clone)]
pub struct Stored {
    profiles: BTreeMap<String, Arc<Profile>>,
    otherwise: Arc<Profile>,
}

impl Stored {
    /// Instances with their profiles, and the profile of all others.
    pub fn new(profiles: impl IntoIterator<Item = (String, Arc<Profile>)>, otherwise: Arc<Profile>) -> Self {
        Self { profiles: profiles.into_iter().collect(), otherwise }
    }

    /// The session of a stored document; `None` if it no longer reads as one.
    pub fn read(&self, key: &SessionKey, document: &Value) -> Option<Session> {
        let profile = self.profiles.get(&key.instance).unwrap_or(&self.otherwise);
        let reading = document::read_traced(document, &key.instance, profile, Some(key.channel)).ok()?;
        Some(reading.session)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::session::Channel;

    #[test]
    fn a_document_that_does_not_say_its_channel_is_read_with_that_of_its_key() {
        let stored = Stored::new([], Arc::new(Profile::builtin().clone()));
        let silent = json!({ "id": 7, "status": "finished", "created_at": "2026-02-17T10:00:00Z",
            "updated_at": "2026-02-17T10:05:00Z", "out_ticket_id": "C-7", "rating": 4, "participants": [] });
        for channel in [Channel::Chat, Channel::Voice] {
            let key = SessionKey { instance: "emea".to_owned(), channel, id: "7".to_owned() };
            assert_eq!(stored.read(&key, &silent).expect("a session").session_key(), key);
        }
        let key = SessionKey { instance: "emea".to_owned(), channel: Channel::Voice, id: "7".to_owned() };
        assert!(stored.read(&key, &json!({ "hello": 1 })).is_none());
    }
}
