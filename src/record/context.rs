//! The only data that a template can see: a session at the top level, and around it what belongs to this
//! one delivery. Made once per delivery and used by all its templates.
//!
//! Secrets never enter here: of the settings, only those that are no secret are given.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::fields::Field;
use crate::session::Session;

/// What a delivery adds to its session.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// The destination's settings, without the secret ones.
    pub settings: Map<String, Value>,
    /// The key by which the effect of a write can be recognised in the CRM.
    pub marker: String,
    /// Which version of the session this is, from 1.
    pub version: i64,
    /// The document as a file.
    pub metadata: Metadata,
    /// The destination's name in the configuration.
    pub destination: String,
}

/// The session's document, as a file to attach.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Such as `metadata-48213.json`.
    pub name: String,
    /// The document's text.
    pub json: String,
}

/// The data of one delivery as templates see it.
#[derive(Debug, Clone)]
pub struct Context {
    inner: handlebars::Context,
}

impl Context {
    /// The session's fields at the top level, and `settings`, `marker`, `version`, `metadata`
    /// (`name`, `json`, `size` in bytes), `destination`, `disposition` (the last one, or null), `steps` and
    /// `fields` (both empty as yet).
    pub fn new(session: &Session, extras: Extras) -> Self {
        let mut root = match serde_json::to_value(session) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let last = root.get("dispositions").and_then(Value::as_array).and_then(|all| all.last()).cloned();
        root.insert("disposition".into(), last.unwrap_or(Value::Null));
        root.insert("settings".into(), Value::Object(extras.settings));
        root.insert("marker".into(), extras.marker.into());
        root.insert("version".into(), extras.version.into());
        root.insert("destination".into(), extras.destination.into());
        let size = extras.metadata.json.len();
        root.insert("metadata".into(), json!({ "name": extras.metadata.name, "json": null, "size": size }));
        if let Some(json) = root.get_mut("metadata").and_then(|m| m.get_mut("json")) {
            *json = Value::String(extras.metadata.json);
        }
        root.insert("steps".into(), Value::Object(Map::new()));
        root.insert("fields".into(), Value::Array(Vec::new()));
        Self { inner: Value::Object(root).into() }
    }

    /// Makes what a step captured visible as `steps.<step>.<name>`.
    pub fn with_step(&mut self, step: &str, captures: Map<String, Value>) {
        if let Some(Value::Object(steps)) = self.inner.data_mut().get_mut("steps") {
            steps.insert(step.to_owned(), Value::Object(captures));
        }
    }

    /// Makes the item of a list that a step is sent for visible as `item`.
    pub fn with_item(&mut self, item: Value) {
        if let Value::Object(root) = self.inner.data_mut() {
            root.insert("item".to_owned(), item);
        }
    }

    /// Makes the operator's field map visible as `fields`: a list of `name`, `field`, `value`.
    pub fn with_fields(&mut self, fields: &[Field]) {
        let list = fields.iter().map(|f| json!({ "name": f.name, "field": f.field, "value": f.value })).collect();
        if let Some(place) = self.inner.data_mut().get_mut("fields") {
            *place = Value::Array(list);
        }
    }

    /// All of it, as the value that templates walk.
    pub fn data(&self) -> &Value {
        self.inner.data()
    }

    pub(super) fn inner(&self) -> &handlebars::Context {
        &self.inner
    }
}

/// The JSON Schema of a session, each field with its description: `mail2crm schema session`.
pub fn session_schema() -> Value {
    schema_for!(Session).to_value()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A full session for the tests of this module.
    pub(in crate::record) fn session() -> Session {
        serde_json::from_str(
            r#"{
            "instance": "default", "channel": "voice", "id": "48213", "key": "voice-48213", "record_id": "1001",
            "lang": "en", "session_type": "voice_inbound_ivr", "session_type_label": "Voice Inbound (IVR)",
            "status": "finished", "status_code": 3,
            "created_at": "2026-02-17T10:08:01-06:00", "queued_at": "2026-02-17T10:08:10-06:00",
            "assigned_at": "2026-02-17T10:08:20-06:00", "connected_at": "2026-02-17T10:08:25-06:00",
            "ends_at": "2026-02-17T10:11:31-06:00", "scheduled_at": null, "updated_at": "2026-02-17T16:12:00Z",
            "wait_duration": 15, "handle_duration": 186, "hold_duration": 0, "answer_type": "manual",
            "out_ticket_id": "1001", "out_ticket_url": "https://crm.example/t/1001?x=1", "is_out_ticket_account": false,
            "recording_permission": "granted", "recording_url": "https://rec.example/48213.mp3",
            "support_number": "+1 (800) 555-0100", "outbound_number": null, "menu_path": "Support/Billing",
            "menu_path_id": "1/2", "selected_menu": { "id": "2", "name": "Billing", "menu_type": "ivr_menu" },
            "queue_priority_level": 4, "rating": 4, "feedback": "Quick & kind", "verified": true,
            "photos": [], "videos": [], "smart_action_text": null,
            "agent": { "id": "7", "name": "Ada Lovelace", "email": "ada@acme.example", "is_virtual": false },
            "agents": [{ "id": "7", "name": "Ada Lovelace", "email": "ada@acme.example", "is_virtual": false }],
            "transfers": [], "escalations": [], "deflection": "no_deflection",
            "dispositions": [
                { "code": "Billing", "note": "Asked about \"March\".\nWill pay.", "agent": { "id": "7", "name": "Ada Lovelace" } },
                { "code": "Resolved", "note": "Paid <b>today</b> {{key}}", "agent": { "id": "7", "name": "Ada Lovelace" } }
            ],
            "in_call_sms": [], "wait_time_sms": [], "participants": [],
            "end_user": { "id": "9", "phone_number": "+13125550123" }, "fail_reason": "nothing",
            "raw": { "virtual_queue": { "name": "Q1" }, "tags": ["a", "b"] }
        }"#,
        )
        .expect("a session")
    }

    /// A context with settings, for the tests of this module.
    pub(in crate::record) fn context() -> Context {
        let settings = match json!({ "time_zone": "America/Chicago", "tags": ["ccaip"], "subject": null }) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let extras = Extras {
            settings,
            marker: "m2c-1".into(),
            version: 2,
            metadata: Metadata { name: "metadata-48213.json".into(), json: "{\"id\":48213}".into() },
            destination: "helpdesk".into(),
        };
        Context::new(&session(), extras)
    }

    #[test]
    fn the_session_is_at_the_top_and_the_delivery_around_it() {
        let mut context = context();
        context.with_step("ticket", Map::from_iter([("etag".to_owned(), json!("\"a1\""))]));
        let data = context.data();
        assert_eq!(data["key"], "voice-48213");
        assert_eq!(data["disposition"]["code"], "Resolved");
        assert_eq!(data["metadata"]["size"], 12);
        assert_eq!(data["steps"]["ticket"]["etag"], "\"a1\"");
    }

    #[test]
    fn the_schema_describes_every_field_in_a_sentence() {
        let schema = session_schema();
        let Some(fields) = schema["properties"].as_object() else { panic!("properties") };
        assert!(fields.len() >= 50, "{}", fields.len());
        assert_eq!(fields.keys().cloned().collect::<Vec<_>>(), {
            let value = serde_json::to_value(session()).expect("a value");
            value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
        });
        let text = schema.to_string();
        assert!(text.contains("Vendor: Disposition Codes and Notes"), "{text}");
    }
}
