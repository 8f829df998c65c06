//! What happened in one made-up session, and the metadata document that tells it, in the shapes seen in
//! voice and chat exports: the nulls, the nested legs, the participants and the durations.

use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::Serialize;
use serde_json::{Value, json};

/// 2026-02-17T06:00:00Z: when the corpus begins.
pub(crate) const EPOCH: i64 = 1_771_308_000;

const AGENTS: [(u64, &str, &str); 6] = [
    (31, "Omar", "Benali"),
    (44, "Pia", "Lindqvist"),
    (52, "Tomás", "Reyes"),
    (58, "Aiko", "Mori"),
    (63, "Grete", "Sørensen"),
    (71, "Chidi", "Okafor"),
];
const MENUS: [(&str, &str); 5] = [
    ("Billing/Refunds", "210/214"),
    ("Billing/Invoices", "210/216"),
    ("Delivery", "330"),
    ("Orders/Returns/Damaged", "340/342/347"),
    ("Account/Password", "350/351"),
];
const VOICE: [&str; 4] = ["Voice Inbound (IVR)", "Voice Inbound (Mobile)", "Voice Outbound", "Voice Callback (Web)"];
const CHAT: [&str; 3] = ["Messaging Inbound (Web Chat)", "Messaging Inbound (SMS)", "Messaging (Whatsapp)"];
const CODES: [(&str, u64); 5] = [
    ("Resolved", 15),
    ("Follow-up required", 21),
    ("Passed to refunds", 12),
    ("No answer", 30),
    ("Rückruf vereinbart", 33),
];
const NOTES: [&str; 7] = [
    "Second charge reversed, reference R-5521.",
    "Parcel stuck at depot; new drop date agreed for Friday.",
    "Caller said \"never again\", then thanked us. Follow up {{tomorrow}}.",
    "Zusätzliche Gebühr erklärt, Gutschrift über 12 € zugesagt.",
    "Wants a call back after 17:00: number on file is right.",
    "Customer needed to know our hours of operation, provided them. Customer had no further questions.",
    "Sent link to reset the password / verified by SMS code.",
];
const FEEDBACK: [&str; 3] = ["Quick and friendly, thank you", "Took too long", "Très bien, merci"];

/// Call or chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// A call.
    Voice,
    /// A chat.
    Chat,
}

impl Channel {
    /// `voice` or `chat`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Chat => "chat",
        }
    }
}

/// One version of a session: what every shape of mail carries, under the session's names. Times are as
/// written in the document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) session_type: &'static str,
    pub(crate) status: &'static str,
    pub(crate) out_ticket_id: String,
    pub(crate) out_ticket_url: String,
    pub(crate) created_at: String,
    pub(crate) ends_at: String,
    pub(crate) updated_at: String,
    pub(crate) wait_duration: u64,
    pub(crate) handle_duration: u64,
    pub(crate) menu_path: &'static str,
    pub(crate) menu_path_id: &'static str,
    pub(crate) agent_name: String,
    pub(crate) rating: Option<u64>,
    pub(crate) feedback: Option<&'static str>,
    pub(crate) verified: bool,
    pub(crate) disposition_code: Option<&'static str>,
    pub(crate) disposition_note: Option<String>,
    #[serde(skip)]
    agent: usize,
    #[serde(skip)]
    start: i64,
    #[serde(skip)]
    updated: i64,
    #[serde(skip)]
    legs: u64,
}

fn time(second: i64) -> String {
    let at = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::fixed(Offset::constant(-6))).strftime("%Y-%m-%dT%H:%M:%S.000%:z").to_string()
}

impl Facts {
    /// The final version of the `number`th session.
    pub(crate) fn new(random: &mut Rng, channel: Channel, number: usize, record: &str) -> Self {
        let start = EPOCH + number as i64 * 7 + random.i64(0..7);
        let wait = random.u64(2..240);
        let handle = random.u64(30..1_500);
        let ends = start + wait as i64 + handle as i64 + 20;
        let agent = random.usize(..AGENTS.len());
        let (menu_path, menu_path_id) = MENUS[random.usize(..MENUS.len())];
        let rated = random.usize(..100) < 40;
        let updated = ends + 900 + random.i64(0..60);
        Self {
            id: 40_000 + number as u64,
            session_type: match channel {
                Channel::Voice => VOICE[random.usize(..VOICE.len())],
                Channel::Chat => CHAT[random.usize(..CHAT.len())],
            },
            status: if random.usize(..100) < 94 { "finished" } else { "failed" },
            out_ticket_id: record.to_owned(),
            out_ticket_url: format!("https://crm.example.test/cases/{record}"),
            created_at: time(start),
            ends_at: time(ends),
            updated_at: time(updated),
            wait_duration: wait,
            handle_duration: handle,
            menu_path,
            menu_path_id,
            agent_name: format!("{} {}", AGENTS[agent].1, AGENTS[agent].2),
            rating: rated.then(|| random.u64(1..=4)),
            feedback: rated.then(|| FEEDBACK[random.usize(..FEEDBACK.len())]),
            verified: random.bool(),
            disposition_code: Some(CODES[random.usize(..CODES.len())].0),
            disposition_note: Some(format!("{} (no. {number})", NOTES[random.usize(..NOTES.len())])),
            agent,
            start,
            updated,
            legs: random.u64(1..=3),
        }
    }

    /// What the export right after the session knew: no wrap-up, no rating yet.
    pub(crate) fn first_export(&self, random: &mut Rng) -> Self {
        let updated = self.updated - 880 - random.i64(0..10);
        Self {
            rating: None,
            feedback: None,
            disposition_code: None,
            disposition_note: None,
            updated,
            updated_at: time(updated),
            ..self.clone()
        }
    }
}

/// The document of a session, as it is exported.
pub(crate) fn document(channel: Channel, facts: &Facts) -> Value {
    let mut value = match channel {
        Channel::Voice => voice(facts),
        Channel::Chat => chat(facts),
    };
    if let (Some(object), Some(code), Some(note)) =
        (value.as_object_mut(), facts.disposition_code, &facts.disposition_note)
    {
        let number = CODES.iter().find(|(name, _)| *name == code).map_or(0, |(_, number)| *number);
        let disposition = json!([{
            "user_id": AGENTS[facts.agent].0, "transfer_id": null, "participant_id": facts.id * 10 + facts.legs,
            "note": note, "code": code, "ujet_code_id": number, "list": "Outcomes",
            "list_path": format!("{}/Outcomes", facts.menu_path), "ujet_list_id": 9, "custom_list_id": "",
            "custom_code_id": "",
        }]);
        object.insert("dispositions".to_owned(), disposition);
    }
    value
}

fn agent(index: usize) -> Value {
    let (id, first, last) = AGENTS[index % AGENTS.len()];
    json!({"id": id, "agent_number": 1_000 + id, "email": format!("agent-{id}@agents.example.test"),
        "name": format!("{first} {last}"), "last_name": last, "first_name": first,
        "avatar_url": format!("https://cc.example.test/avatar/{id}.png")})
}

fn menu(facts: &Facts) -> Value {
    json!({"items_count": facts.menu_path.split('/').count(), "name": facts.menu_path,
        "materialized_path": facts.menu_path_id})
}

fn selected_menu(facts: &Facts, kind: &str) -> Value {
    let mut ids = facts.menu_path_id.rsplit('/').map(|id| id.parse::<u64>().ok());
    json!({"id": ids.next().flatten(), "name": facts.menu_path.rsplit('/').next(), "parent_id": ids.next().flatten(),
        "position": 1, "deleted": false, "menu_type": kind, "hidden": false})
}

/// The times of leg `n`: each has its share of the handling.
fn leg(facts: &Facts, n: u64) -> (i64, i64, u64) {
    let share = facts.handle_duration / facts.legs;
    let from = facts.start + facts.wait_duration as i64 + (n * share) as i64;
    let long = if n + 1 == facts.legs { facts.handle_duration - share * n } else { share };
    (from, from + long as i64, long)
}

fn handle_durations(facts: &Facts, channel: Channel) -> Vec<Value> {
    let key = if channel == Channel::Voice { "call_duration" } else { "chat_duration" };
    let row = |n| {
        let (from, to, long) = leg(facts, n);
        json!({"id": facts.id * 4 + n, "agent_id": AGENTS[(facts.agent + n as usize) % AGENTS.len()].0,
            "acw_duration": 14, "bcw_duration": 0, key: long, "menu_path_id": 77, "menu_path": facts.menu_path,
            "lang": "en", "barged": false, "transfer": n > 0, "transfer_id": (n > 0).then_some(facts.id * 3 + n),
            "transfer_cold": null, "started_at": time(from), "ended_at": time(to), "scheduled_at": null,
            "hold_duration": 0, "assigned_connection_duration": 6})
    };
    (0..facts.legs).map(row).collect()
}

fn queue_durations(facts: &Facts) -> Value {
    json!([{"id": facts.id * 5, "agent_id": AGENTS[facts.agent].0, "ended_at": time(facts.start + facts.wait_duration as i64),
        "lang": "en", "menu_path_id": 77, "menu_path": facts.menu_path, "queue_duration": facts.wait_duration,
        "started_at": time(facts.start), "transfer_cold": null, "transfer": false, "transfer_id": null,
        "service_level_abandon_time_threshold": 10, "service_level_event": "in_sla",
        "service_level_target_percent": 80, "service_level_target_time": 45}])
}

fn participants(facts: &Facts, channel: Channel) -> Vec<Value> {
    let (id, duration) = match channel {
        Channel::Voice => ("call_id", "call_duration"),
        Channel::Chat => ("chat_id", "chat_duration"),
    };
    let customer = json!({"id": facts.id * 10, "type": "end_user", "entry_type": "queue_or_transfer", "user_id": null,
        "end_user_id": facts.id + 30_000, "virtual_agent_id": null, "status": "finished", "fail_reason": "nothing",
        "connected_at": facts.created_at, "phone_number": "+15550167788", "sip_headers": null, id: facts.id,
        duration: facts.handle_duration + facts.wait_duration, "hold_duration": 0, "ended_at": facts.ends_at,
        "agent_assist": null, "virtual_agent": null, "adapter_fail_code": null, "adapter_fail_message": null});
    let agent = |n: u64| {
        let (from, to, long) = leg(facts, n);
        let (user, first, last) = AGENTS[(facts.agent + n as usize) % AGENTS.len()];
        json!({"id": facts.id * 10 + n + 1, "type": "agent", "entry_type": "queue_or_transfer", "user_id": user,
            "end_user_id": null, "virtual_agent_id": null, "status": "finished", "fail_reason": "nothing",
            "connected_at": time(from), "sip_headers": null, "location": null, "location_id": null,
            "email": format!("agent-{user}@agents.example.test"), "first_name": first, "last_name": last,
            "middle_name": null, "teams": [], id: facts.id, duration: long, "hold_duration": null,
            "ended_at": time(to), "agent_assist": null, "virtual_agent": null, "adapter_fail_code": null,
            "adapter_fail_message": null})
    };
    std::iter::once(customer).chain((0..facts.legs).map(agent)).collect()
}

fn transfers(facts: &Facts, channel: Channel) -> Vec<Value> {
    let key = if channel == Channel::Voice { "call_duration" } else { "chat_duration" };
    let transfer = |n: u64| {
        let (from, to, long) = leg(facts, n);
        json!({"id": facts.id * 3 + n, "status": "transferred", "fail_reason": "nothing", "created_at": time(from - 28),
            "assigned_at": time(from - 6), "connected_at": time(from), "updated_at": time(to + 30), key: long,
            "wait_duration": 22, "deflection": "no_deflection", "answer_type_path": "manual_to_manual",
            "from_menu_path": menu(facts), "to_menu_path": menu(facts),
            "from_agent": agent(facts.agent + n as usize - 1), "to_agent": agent(facts.agent + n as usize),
            "from_virtual_agent": null, "to_virtual_agent": null, "from_queue_priority_level": 3,
            "to_queue_priority_level": 3})
    };
    (1..facts.legs).map(transfer).collect()
}

/// Both halves of a document that is too long for one `json!`.
fn joined(mut head: Value, rest: Value) -> Value {
    if let (Some(head), Value::Object(rest)) = (head.as_object_mut(), rest) {
        head.extend(rest);
    }
    head
}

fn voice(facts: &Facts) -> Value {
    let connected = facts.start + facts.wait_duration as i64;
    let head = json!({
        "id": facts.id, "call_uuid": format!("5b0e7a52-6f0c-4a8d-9a3e-{:012x}", facts.id), "lang": "en",
        "call_type": facts.session_type, "session_type": facts.session_type, "session_type_v2": facts.session_type,
        "status": facts.status, "sub_status": null, "created_at": facts.created_at, "queued_at": facts.created_at,
        "assigned_at": time(connected - 6), "connected_at": time(connected), "ends_at": facts.ends_at,
        "scheduled_at": null, "updated_at": facts.updated_at, "wait_duration": facts.wait_duration,
        "call_duration": facts.handle_duration, "hold_duration": 0, "rating": facts.rating,
        "has_feedback": facts.feedback.is_some(), "voip_provider": "deprecated",
        "out_ticket_id": facts.out_ticket_id, "out_ticket_url": facts.out_ticket_url, "is_out_ticket_account": false,
        "verified": facts.verified, "recording_url": format!("https://crm.example.test/files/rec-{}", facts.id),
        "recording_permission": "granted", "voicemail_reason": "not_voicemail", "deflection": "no_deflection",
        "disconnected_by": "disconnected_by_end_user",
        "fail_reason": if facts.status == "failed" { "eu_abandoned" } else { "nothing" },
        "fail_details": null, "adapter_fail_code": null, "adapter_fail_message": null,
    });
    let rest = json!({
        "support_number": "+15550142200", "selected_menu": selected_menu(facts, "ivr_menu"),
        "menu_path": menu(facts), "queue_priority_level": 3, "agent_info": agent(facts.agent),
        "end_user": {"id": facts.id + 30_000, "identifier": format!("shopper-{}", facts.id), "out_contact_id": "K-88120"},
        "photos": [], "videos": [], "transfers": transfers(facts, Channel::Voice), "escalations": [],
        "deflection_details": [], "handle_durations": handle_durations(facts, Channel::Voice),
        "queue_durations": queue_durations(facts), "virtual_agent_deflected_escalations": [],
        "virtual_agent_handle_durations": [],
        "consumer_handle_durations": [{"id": facts.id * 6, "call_duration": facts.handle_duration, "hold_duration": 0,
            "started_at": facts.created_at, "ended_at": facts.ends_at}],
        "consumer_event_durations": [], "consumer_in_menu_durations": [],
        "participants": participants(facts, Channel::Voice),
        "recordings": [{"id": facts.id * 7, "call_id": facts.id, "conference_sid": format!("conf-{}-a", facts.id),
            "duration": facts.handle_duration, "recording_type": "default", "redaction_times": [],
            "started_at": time(connected)}],
        "offer_type": "cascade", "offer_events": [{"casting_time": facts.created_at, "group": "Group 1"}],
        "answer_type": "manual", "outbound_number": null, "wait_time_sms": [], "in_call_sms": [], "email": null,
        "feedback": facts.feedback, "smart_action_text": null, "custom_data_secured": null,
        "custom_data_not_secured": null,
    });
    joined(head, rest)
}

fn chat(facts: &Facts) -> Value {
    let connected = facts.start + facts.wait_duration as i64;
    let head = json!({
        "id": facts.id, "lang": "en", "chat_type": facts.session_type, "session_type": facts.session_type,
        "session_type_v2": facts.session_type, "status": facts.status, "created_at": facts.created_at,
        "assigned_at": time(connected), "ends_at": facts.ends_at, "updated_at": facts.updated_at,
        "first_msg_sent_at": time(facts.start + 14), "last_msg_sent_at": time(facts.start + 90),
        "wait_duration": facts.wait_duration, "chat_duration": facts.handle_duration, "verified": facts.verified,
        "rating": facts.rating, "has_feedback": facts.feedback.is_some(), "out_ticket_id": facts.out_ticket_id,
        "out_ticket_url": facts.out_ticket_url, "is_out_ticket_account": false,
        "fail_reason": if facts.status == "failed" { Value::from("eu_canceled") } else { Value::Null },
    });
    let rest = json!({
        "provider_type": "twilio_conversations", "provider_channel_id": format!("CH{:032}", facts.id),
        "message_count": 17, "average_response_time": 21, "longest_response_time": 64,
        "selected_menu": selected_menu(facts, "web_menu"), "menu_path": menu(facts), "transcript": true,
        "agent_info": agent(facts.agent),
        "end_user": {"id": facts.id + 30_000, "identifier": format!("ana-{}@shop.example.test", facts.id),
            "out_contact_id": "K-88231"},
        "photos": [{"id": facts.id * 8, "photo_type": "photo",
            "url": format!("https://cc.example.test/media/chat-{0}-photo.jpg", facts.id)}],
        "videos": [], "transfers": transfers(facts, Channel::Chat), "escalations": [],
        "participants": participants(facts, Channel::Chat),
        "handle_durations": handle_durations(facts, Channel::Chat), "queue_durations": queue_durations(facts),
        "virtual_agent_handle_durations": [], "virtual_agent_deflected_escalations": [],
        "consumer_handle_durations": [{"id": facts.id * 6, "chat_duration": facts.handle_duration,
            "started_at": facts.created_at, "ended_at": facts.ends_at, "message_count": 8}],
        "consumer_event_durations": [], "offer_type": "cascade",
        "offer_events": [{"casting_time": facts.created_at, "group": "Group 1"}], "answer_type": "manual",
        "after_hours": false, "transfer_limit": null, "email": format!("ana-{}@shop.example.test", facts.id),
        "feedback": facts.feedback, "smart_action_text": null, "custom_data_secured": null,
        "custom_data_not_secured": {"orderNo": {"label": "Order number", "value": format!("W-{}", facts.id)}},
    });
    joined(head, rest)
}
