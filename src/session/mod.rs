//! A contact-centre session as its metadata tells it: the one type behind templates, ledger and output.
//!
//! Names are the vendor's JSON keys where there is one (product.md section 6). Every field is always
//! present in the serialized form, `null` or `[]` when the document says nothing, so its shape never
//! changes. Values are the document's own: nothing is invented, out-of-range values become warnings.

pub mod document;
mod event;
pub mod evidence;
pub mod extract;
pub mod normalize;
pub mod profile;
pub mod redact;
pub mod stored;
pub mod time;
pub mod version;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use time::Time;

/// Voice or chat: calls and chats count their ids separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A call, whatever started it.
    Voice,
    /// A chat: web, mobile, SMS, WhatsApp.
    Chat,
}

impl Channel {
    /// The word in keys and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Chat => "chat",
        }
    }

    /// The channel with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "voice" => Some(Self::Voice),
            "chat" => Some(Self::Chat),
            _ => None,
        }
    }
}

/// What makes a session that session: instance, channel and id together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The contact-centre instance (tenant), as the operator names it.
    pub instance: String,
    /// Voice or chat.
    pub channel: Channel,
    /// The digits of the document's `id`.
    pub id: String,
}

impl fmt::Display for SessionKey {
    /// `voice-48213`, or `emea/voice-48213` for an instance other than `default`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.instance != "default" {
            write!(f, "{}/", self.instance)?;
        }
        write!(f, "{}-{}", self.channel.as_str(), self.id)
    }
}

/// One interaction. Times keep the offset of the document and compare as instants; durations are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// The contact-centre instance it comes from, as the source's configuration names it.
    pub instance: String,
    /// `voice` or `chat`.
    pub channel: Channel,
    /// Vendor: Session ID. The identifier of the interaction, a string of digits.
    pub id: String,
    /// Channel and id, such as `voice-48213`.
    pub key: String,
    /// The CRM record that it belongs to: `out_ticket_id`, or what a connector's look-up found.
    pub record_id: Option<String>,
    /// Vendor: Lang. The selected language (ISO 639).
    pub lang: Option<String>,
    /// Vendor: Session type, in normal form such as `voice_inbound_ivr`.
    pub session_type: Option<String>,
    /// Vendor: Session type, as the document writes it.
    pub session_type_label: Option<String>,
    /// Vendor: Session status, as a word such as `finished`.
    pub status: Option<String>,
    /// Vendor: Session status, as the number of the vendor's page, where it has one.
    pub status_code: Option<i64>,
    /// Vendor: Created.
    pub created_at: Option<Time>,
    /// Vendor: Queued. For a chat, the start of its first queue.
    pub queued_at: Option<Time>,
    /// Vendor: Assigned.
    pub assigned_at: Option<Time>,
    /// Vendor: Connected. For a chat, when its first agent connected. May be earlier than `queued_at`.
    pub connected_at: Option<Time>,
    /// Vendor: Ended.
    pub ends_at: Option<Time>,
    /// Vendor: Scheduled.
    pub scheduled_at: Option<Time>,
    /// Vendor: Updated. Orders the versions of one session.
    pub updated_at: Option<Time>,
    /// Seconds in queues.
    pub wait_duration: Option<i64>,
    /// Vendor: Handle time (call or chat duration), wrap-up included. Seconds.
    pub handle_duration: Option<i64>,
    /// Vendor: Hold duration or Hold time. Seconds.
    pub hold_duration: Option<i64>,
    /// Vendor: Answer type. Kept as written.
    pub answer_type: Option<String>,
    /// Vendor: OutTicket ID. The id that the CRM gave the record.
    pub out_ticket_id: Option<String>,
    /// Vendor: OutTicket URL. May point to a file, not to the record.
    pub out_ticket_url: Option<String>,
    /// True if `out_ticket_id` names an account, not a case.
    pub is_out_ticket_account: Option<bool>,
    /// Vendor: Recording permission: `granted`, `denied` or `not_asked`.
    pub recording_permission: Option<String>,
    /// Vendor: Recording URL. Withheld when the permission is `denied`.
    pub recording_url: Option<String>,
    /// Vendor: Support phone number (E.164).
    pub support_number: Option<String>,
    /// Vendor: Outbound number.
    pub outbound_number: Option<String>,
    /// Vendor: Menu path. Names joined by `/`.
    pub menu_path: Option<String>,
    /// Vendor: Menu path ID. Ids joined by `/`.
    pub menu_path_id: Option<String>,
    /// Vendor: Selected menu.
    pub selected_menu: Option<Menu>,
    /// Vendor: Queue priority. The page says 1-8; 0 occurs.
    pub queue_priority_level: Option<i64>,
    /// Vendor: CSAT Rating. The page says 1-4; 5 occurs.
    pub rating: Option<i64>,
    /// Vendor: Comment. What the end user wrote with the rating.
    pub feedback: Option<String>,
    /// Vendor: SmartActions | Verification status.
    pub verified: Option<bool>,
    /// Vendor: SmartActions | Photos and screenshots uploaded.
    pub photos: Vec<Media>,
    /// Vendor: SmartActions | Video files uploaded.
    pub videos: Vec<Media>,
    /// Vendor: SmartActions | Text input.
    pub smart_action_text: Option<String>,
    /// Vendor: Agent info. The last agent, human or virtual.
    pub agent: Option<Agent>,
    /// Every agent who took part, human and virtual, in the order of joining, each once.
    pub agents: Vec<Agent>,
    /// Vendor: Transfer information.
    pub transfers: Vec<Transfer>,
    /// Hand-overs from a virtual agent to a person.
    pub escalations: Vec<Escalation>,
    /// Vendor: Deflection information. `no_deflection` when none.
    pub deflection: Option<String>,
    /// Vendor: Disposition Codes and Notes, one for each agent leg that has one.
    pub dispositions: Vec<Disposition>,
    /// Vendor: In call SMS.
    pub in_call_sms: Vec<Sms>,
    /// Vendor: Wait time SMS.
    pub wait_time_sms: Vec<Sms>,
    /// Vendor: Participants.
    pub participants: Vec<Participant>,
    /// The customer: what look-ups can use when there is no OutTicket ID.
    pub end_user: Option<EndUser>,
    /// Why it failed; `nothing` when it did not.
    pub fail_reason: Option<String>,
    /// Every other key of the document, whole, as it was.
    pub raw: Map<String, Value>,
}

impl Session {
    /// The three parts of its identity.
    pub fn session_key(&self) -> SessionKey {
        SessionKey { instance: self.instance.clone(), channel: self.channel, id: self.id.clone() }
    }
}

/// A menu (queue) of the contact centre.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Menu {
    /// Its id.
    pub id: Option<String>,
    /// Its own name, the leaf of the path.
    pub name: Option<String>,
    /// `ivr_menu`, `mobile_menu` or `web_menu`.
    pub menu_type: Option<String>,
}

/// A photo, screenshot or video that the end user sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Media {
    /// Its id.
    pub id: Option<String>,
    /// `photo` or another word of the vendor; empty for videos.
    pub photo_type: Option<String>,
    /// Where it is.
    pub url: Option<String>,
}

/// A person or bot who handled the session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Agent {
    /// The vendor's user id, or the virtual agent's id.
    pub id: Option<String>,
    /// The name for people.
    pub name: Option<String>,
    /// The work address.
    pub email: Option<String>,
    /// The given name.
    pub first_name: Option<String>,
    /// The family name.
    pub last_name: Option<String>,
    /// The contact centre's own number for the agent.
    pub agent_number: Option<String>,
    /// True for a bot.
    pub is_virtual: bool,
}

/// A hand-over between agents or menus.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Transfer {
    /// Its id.
    pub id: Option<String>,
    /// `transferred`, `transferring`, or another word of the vendor.
    pub status: Option<String>,
    /// Why it failed; `nothing` when it did not.
    pub fail_reason: Option<String>,
    /// When it began.
    pub created_at: Option<Time>,
    /// When the new agent connected.
    pub connected_at: Option<Time>,
    /// Seconds of handling after it.
    pub handle_duration: Option<i64>,
    /// Seconds of waiting in it.
    pub wait_duration: Option<i64>,
    /// `no_deflection` when none.
    pub deflection: Option<String>,
    /// Menu path before, names joined by `/`.
    pub from_menu_path: Option<String>,
    /// Menu path after.
    pub to_menu_path: Option<String>,
    /// Who handed over.
    pub from_agent: Option<Agent>,
    /// Who took over.
    pub to_agent: Option<Agent>,
}

/// A hand-over from a virtual agent to a person.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Escalation {
    /// Its id.
    pub id: Option<String>,
    /// `escalated`, or another word of the vendor.
    pub status: Option<String>,
    /// `by_virtual_agent`, or another word of the vendor.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at: Option<Time>,
    /// When the person took over.
    pub escalated_at: Option<Time>,
    /// The virtual agent that handed over.
    pub from_agent: Option<Agent>,
    /// The person who took over.
    pub to_agent: Option<Agent>,
    /// Menu path before.
    pub from_menu_path: Option<String>,
    /// Menu path after.
    pub to_menu_path: Option<String>,
}

/// An agent's wrap-up code and note for one leg of the session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Disposition {
    /// The code, such as `Resolved`.
    pub code: Option<String>,
    /// The agent's note: plain text, several lines possible.
    pub note: Option<String>,
    /// The list that the code is from.
    pub list: Option<String>,
    /// The list with those above it, joined by `/`.
    pub list_path: Option<String>,
    /// The operator's own id of the code.
    pub custom_code_id: Option<String>,
    /// The operator's own id of the list.
    pub custom_list_id: Option<String>,
    /// The leg: empty for the first, else the transfer that began it.
    pub transfer_id: Option<String>,
    /// Who applied it.
    pub agent: Option<DispositionAgent>,
}

/// Who applied a disposition.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DispositionAgent {
    /// The vendor's user id.
    pub id: Option<String>,
    /// The name, if the participants tell it.
    pub name: Option<String>,
}

/// A text message in or before a call. The vendor documents no shape: what is text-like is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sms {
    /// The text.
    pub text: Option<String>,
    /// Who sent it, as far as it is said.
    pub from: Option<String>,
    /// When.
    pub sent_at: Option<Time>,
}

/// Anyone who took part: agents, end users, virtual agents, third parties.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Participant {
    /// Its id.
    pub id: Option<String>,
    /// `end_user`, `agent`, `virtual_agent`, or another word of the vendor (key `type`).
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The agent's user id.
    pub user_id: Option<String>,
    /// The name, for agents.
    pub name: Option<String>,
    /// The address, for agents.
    pub email: Option<String>,
    /// The number, for end users.
    pub phone_number: Option<String>,
    /// `waiting`, `connected` or `finished`.
    pub status: Option<String>,
    /// Why the leg failed; `nothing` when it did not.
    pub fail_reason: Option<String>,
    /// When the leg began.
    pub connected_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Seconds in the session.
    pub duration: Option<i64>,
}

/// The customer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EndUser {
    /// The contact centre's id.
    pub id: Option<String>,
    /// The operator's own id for the customer.
    pub identifier: Option<String>,
    /// The CRM's contact id.
    pub out_contact_id: Option<String>,
    /// The mail address, if known.
    pub email: Option<String>,
    /// The phone number, if known.
    pub phone_number: Option<String>,
}
