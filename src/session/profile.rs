//! A contact-centre platform as data (`templates/_profiles/<vendor>.toml`): its JSON keys, labels, statuses
//! and session types, indexed once so that a message costs look-ups only. Pure; faults in the file are
//! diagnostics with their place. Nothing here knows a vendor.

use std::collections::HashMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Channel;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, suggest};

/// The fields of a session document that the reader understands, under the names a profile uses.
macro_rules! slots {
    ($($name:ident = $word:literal,)*) => {
        /// A field of a session document that the reader understands, whatever key or label names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Slot { $(#[doc = concat!("`", $word, "`")] $name,)* }

        impl Slot {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Slot] = &[$(Slot::$name,)*];

            /// The name in profiles, and the key in documents that labels make.
            pub fn name(self) -> &'static str {
                match self { $(Slot::$name => $word,)* }
            }

            /// The slot with this name.
            pub fn from_name(name: &str) -> Option<Slot> {
                match name { $($word => Some(Slot::$name),)* _ => None }
            }
        }
    };
}

slots! {
    Id = "id", Channel = "channel", Lang = "lang", SessionTypeV2 = "session_type_v2", SessionType = "session_type",
    CallType = "call_type", ChatType = "chat_type", Status = "status", CreatedAt = "created_at",
    QueuedAt = "queued_at", AssignedAt = "assigned_at", ConnectedAt = "connected_at", EndsAt = "ends_at",
    ScheduledAt = "scheduled_at", UpdatedAt = "updated_at", WaitDuration = "wait_duration",
    HandleDuration = "handle_duration", CallDuration = "call_duration", ChatDuration = "chat_duration",
    HoldDuration = "hold_duration", AnswerType = "answer_type", OutTicketId = "out_ticket_id",
    OutTicketUrl = "out_ticket_url", IsOutTicketAccount = "is_out_ticket_account",
    RecordingPermission = "recording_permission", RecordingUrl = "recording_url", SupportNumber = "support_number",
    OutboundNumber = "outbound_number", MenuPath = "menu_path", MenuPathId = "menu_path_id",
    SelectedMenu = "selected_menu", QueuePriorityLevel = "queue_priority_level", Rating = "rating",
    Feedback = "feedback", Verified = "verified", Photos = "photos", Videos = "videos",
    SmartActionText = "smart_action_text", AgentInfo = "agent_info", Transfers = "transfers",
    Escalations = "escalations", Deflection = "deflection", Dispositions = "dispositions",
    InCallSms = "in_call_sms", WaitTimeSms = "wait_time_sms", Participants = "participants", EndUser = "end_user",
    FailReason = "fail_reason",
}

/// The form of a value that a label announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One line.
    #[default]
    Text,
    /// Free text, several lines possible.
    Long,
    /// A name, with the address perhaps.
    Agent,
    /// `code; note`.
    Disposition,
    /// The code of a disposition, or another one-line part of it.
    Code,
    /// The note of a disposition, several lines possible.
    Note,
    /// A menu: its path of ids, or its name.
    Menu,
    /// Links, one or more.
    Links,
    /// Names of participants.
    People,
    /// Text messages, one a line.
    Texts,
}

impl Form {
    /// True if the value goes on over the lines below its label.
    pub fn is_long(self) -> bool {
        matches!(self, Form::Long | Form::Disposition | Form::Note | Form::Texts | Form::People | Form::Links)
    }
}

/// One field of the vendor, as the profile spells it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The field of the reader.
    pub key: String,
    /// JSON keys that mean it, beside `key` itself.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The label of the vendor's page.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Other labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Labels that ordinary mail uses too.
    #[serde(default)]
    pub weak: Vec<String>,
    /// Where a labelled value goes in the document made from labels, if not `key`.
    #[serde(default)]
    pub at: Option<String>,
    /// The form of a labelled value.
    #[serde(default)]
    pub value: Form,
    /// The channel that the label itself tells.
    #[serde(default)]
    pub channel: Option<Channel>,
}

/// One session type: its normal form and how it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionType {
    /// The normal form, such as `voice_inbound_ivr`.
    pub name: String,
    /// Call or chat.
    pub channel: Channel,
    /// Every spelling.
    pub spellings: Vec<String>,
}

/// How a session document is told from other JSON.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Keys that only session documents have.
    pub keys: Vec<String>,
    /// Keys of other files of the vendor.
    #[serde(default)]
    pub foreign: Vec<String>,
}

/// Keys that only calls or only chats have.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelKeys {
    /// Of calls.
    #[serde(default)]
    pub voice: Vec<String>,
    /// Of chats.
    #[serde(default)]
    pub chat: Vec<String>,
}

/// File names that promise something; `{id}` stands for digits.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Names of metadata documents.
    #[serde(default)]
    pub metadata: Vec<String>,
    /// Beginnings or parts of names of transcripts, which are never read as metadata.
    #[serde(default)]
    pub transcript: Vec<String>,
}

/// Session statuses.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statuses {
    /// Word to number.
    pub codes: HashMap<String, i64>,
    /// Words without a number.
    #[serde(default)]
    pub words: Vec<String>,
}

/// Spellings of the recording permission.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// The end user opted in.
    pub granted: Vec<String>,
    /// The end user opted out.
    pub denied: Vec<String>,
    /// Nobody asked.
    pub not_asked: Vec<String>,
}

/// A contact-centre platform: what its documents and mails look like.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name, as the file is called.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// Words that stand for no value.
    #[serde(default)]
    pub none: Vec<String>,
    /// How a document is recognised.
    pub signature: Signature,
    /// How the channel is told when no type says it.
    #[serde(default)]
    pub channel: ChannelKeys,
    /// What file names promise.
    #[serde(default)]
    pub files: Files,
    /// Session statuses.
    pub status: Statuses,
    /// Recording permissions.
    pub permission: Permissions,
    /// Session types.
    #[serde(rename = "type")]
    pub types: Vec<SessionType>,
    /// Fields.
    #[serde(rename = "field")]
    pub fields: Vec<Field>,
    #[serde(skip)]
    index: Index,
}

/// By a folded word. The words are the profile's, so no stranger chooses what collides.
type Table<T> = HashMap<String, T, foldhash::fast::FixedState>;

/// Everything that is looked up per message, folded once.
#[derive(Debug, Clone, Default)]
struct Index {
    keys: Table<Slot>,
    folded_keys: Table<Slot>,
    labels: Table<Label>,
    longest_label: usize,
    types: Table<usize>,
    statuses: Table<String>,
    codes: HashMap<i64, String>,
    permissions: Table<&'static str>,
    none: Vec<String>,
    signature: Vec<bool>,
}

/// What a label means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Number of the field in `Profile::fields`.
    pub field: usize,
    /// The reader's field.
    pub slot: Slot,
    /// True for labels that ordinary mail uses too.
    pub weak: bool,
    /// The form of its value.
    pub form: Form,
}

static BUILTIN: LazyLock<Profile> = LazyLock::new(|| {
    let text = include_str!("../../templates/_profiles/ccaip.toml");
    match Profile::from_toml(&SourceFile::new("templates/_profiles/ccaip.toml", text)) {
        Ok(profile) => profile,
        // A test reads the file, so this can't be reached by a build that passed.
        Err(faults) => panic!("{faults}"),
    }
});

impl Profile {
    /// The profile that comes with the program.
    pub fn builtin() -> &'static Profile {
        &BUILTIN
    }

    /// Reads a profile; every fault of the file at once.
    pub fn from_toml(file: &SourceFile) -> Result<Profile, Diagnostics> {
        let mut profile: Profile = toml::from_str(&file.text).map_err(|fault| {
            let span = fault.span().unwrap_or(0..0);
            Diagnostics::from(file.fault(span, "bad_profile", first_line(fault.message())))
        })?;
        let mut faults = Diagnostics::new();
        profile.build_index(file, &mut faults);
        faults.into_result(profile)
    }

    fn build_index(&mut self, file: &SourceFile, faults: &mut Diagnostics) {
        let mut index = Index { signature: vec![false; Slot::ALL.len()], ..Index::default() };
        let known = Slot::ALL.iter().map(|s| s.name());
        for (number, field) in self.fields.iter().enumerate() {
            let Some(slot) = Slot::from_name(&field.key) else {
                let message = format!("`{}` is no field of a session", field.key);
                faults
                    .push(at_word(file, &field.key, "unknown_field", message).hint(suggest(&field.key, known.clone())));
                continue;
            };
            for key in std::iter::once(&field.key).chain(&field.keys) {
                if *index.keys.entry(key.clone()).or_insert(slot) != slot {
                    faults.push(at_word(file, key, "repeated_key", format!("the key `{key}` belongs to two fields")));
                }
                index.folded_keys.entry(fold(key)).or_insert(slot);
            }
            let label = Label { field: number, slot, weak: false, form: field.value };
            // Keys are labels too; a key that is an everyday word says no more than that word.
            let strong = field.vendor.iter().chain(&field.labels).map(|l| (l, false));
            let weak = field.weak.iter().map(|l| (l, true));
            for (text, weak) in strong.chain(weak) {
                let folded = fold(text);
                index.longest_label = index.longest_label.max(text.chars().count());
                let before = index.labels.insert(folded, Label { weak, ..label });
                if before.is_some_and(|b| b.field != number) {
                    faults.push(at_word(
                        file,
                        text,
                        "repeated_label",
                        format!("the label `{text}` belongs to two fields"),
                    ));
                }
            }
        }
        for (number, field) in self.fields.iter().enumerate() {
            let Some(slot) = Slot::from_name(&field.key) else { continue };
            for key in std::iter::once(&field.key).chain(&field.keys) {
                index.labels.entry(fold(key)).or_insert(Label { field: number, slot, weak: false, form: field.value });
            }
        }
        for (number, kind) in self.types.iter().enumerate() {
            for spelling in std::iter::once(&kind.name).chain(&kind.spellings) {
                let before = index.types.insert(fold(spelling), number);
                if before.is_some_and(|b| b != number) {
                    let message = format!("the spelling `{spelling}` belongs to two session types");
                    faults.push(at_word(file, spelling, "repeated_spelling", message));
                }
            }
        }
        for (word, code) in &self.status.codes {
            index.statuses.insert(fold(word), word.clone());
            if index.codes.insert(*code, word.clone()).is_some() {
                faults.push(at_word(file, word, "repeated_code", format!("status code {code} belongs to two words")));
            }
        }
        for word in &self.status.words {
            index.statuses.insert(fold(word), word.clone());
        }
        let permissions = [
            (&self.permission.granted, "granted"),
            (&self.permission.denied, "denied"),
            (&self.permission.not_asked, "not_asked"),
        ];
        for (spellings, name) in permissions {
            for spelling in spellings {
                index.permissions.insert(fold(spelling), name);
            }
        }
        for key in &self.signature.keys {
            match Slot::from_name(key) {
                Some(slot) => {
                    if let Some(flag) = index.signature.get_mut(slot as usize) {
                        *flag = true;
                    }
                }
                None => faults.push(
                    at_word(
                        file,
                        key,
                        "unknown_field",
                        format!("`{key}` in `signature.keys` is no field of a session"),
                    )
                    .hint(suggest(key, known.clone())),
                ),
            }
        }
        index.none = self.none.iter().map(|w| w.trim().to_lowercase()).collect();
        self.index = index;
    }

    /// The field that a JSON key means, in snake case, camelCase or any other dress.
    pub fn key(&self, key: &str) -> Option<Slot> {
        if let Some(slot) = self.index.keys.get(key) {
            return Some(*slot);
        }
        let odd = key.bytes().any(|b| b.is_ascii_uppercase() || !(b.is_ascii_alphanumeric() || b == b'_'));
        if odd && key.len() <= 64 { self.index.folded_keys.get(&fold(key)).copied() } else { None }
    }

    /// What a label means; `scratch` saves an allocation per line.
    pub fn label(&self, text: &str, scratch: &mut String) -> Option<Label> {
        if text.len() > 96 {
            return None;
        }
        fold_into(text, scratch);
        if scratch.is_empty() {
            return None;
        }
        if let Some(label) = self.index.labels.get(scratch.as_str()) {
            return Some(*label);
        }
        // `Handle time (seconds)`: what is in brackets explains the label.
        let (before, _) = text.split_once(['(', '['])?;
        fold_into(before, scratch);
        self.index.labels.get(scratch.as_str()).copied()
    }

    /// The longest label, in characters.
    pub fn longest_label(&self) -> usize {
        self.index.longest_label
    }

    /// The session type that a spelling means.
    pub fn session_type(&self, spelling: &str) -> Option<&SessionType> {
        self.index.types.get(&fold(spelling)).and_then(|i| self.types.get(*i))
    }

    /// The known status word that a spelling means.
    pub fn status_word(&self, spelling: &str) -> Option<&str> {
        self.index.statuses.get(&fold(spelling)).map(String::as_str)
    }

    /// The number of a status word.
    pub fn status_code(&self, word: &str) -> Option<i64> {
        self.status.codes.get(word).copied()
    }

    /// The status word with a number.
    pub fn status_of_code(&self, code: i64) -> Option<&str> {
        self.index.codes.get(&code).map(String::as_str)
    }

    /// `granted`, `denied` or `not_asked`.
    pub fn permission(&self, spelling: &str) -> Option<&'static str> {
        self.index.permissions.get(&fold(spelling)).copied()
    }

    /// True if the text stands for no value.
    pub fn is_none(&self, text: &str) -> bool {
        let text = text.trim();
        text.is_empty() || (text.len() <= 16 && self.index.none.iter().any(|n| n.eq_ignore_ascii_case(text)))
    }

    /// True if only session documents have this field.
    pub fn is_signature(&self, slot: Slot) -> bool {
        self.index.signature.get(slot as usize).copied().unwrap_or(false)
    }

    /// True if a file of this name must hold a session.
    pub fn promises_session(&self, file_name: &str) -> bool {
        let name = file_name.to_ascii_lowercase();
        self.files
            .metadata
            .iter()
            .any(|p| name_fits(&name, p).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ', '('])))
    }

    /// True if a file of this name is a transcript.
    pub fn is_transcript(&self, file_name: &str) -> bool {
        let name = file_name.to_ascii_lowercase();
        self.files
            .transcript
            .iter()
            .any(|p| if p.contains("{id}") { name_fits(&name, p).is_some() } else { name.contains(p.as_str()) })
    }
}

/// What follows the pattern in the name, if the name begins with it; `{id}` takes digits.
fn name_fits<'n>(name: &'n str, pattern: &str) -> Option<&'n str> {
    match pattern.split_once("{id}") {
        Some((before, after)) => {
            let rest = name.strip_prefix(before)?;
            let tail = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            (tail.len() < rest.len()).then_some(tail)?.strip_prefix(after)
        }
        None => name.strip_prefix(pattern),
    }
}

fn at_word(file: &SourceFile, word: &str, code: &'static str, message: String) -> Diagnostic {
    let quoted = format!("\"{word}\"");
    match file.text.find(&quoted) {
        Some(at) => file.fault(at..at + quoted.len(), code, message),
        None => Diagnostic::of_file(file.name.to_string(), code, message),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// Letters and digits only, lower case: what labels, keys and words are compared by.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    fold_into(text, &mut out);
    out
}

/// As `fold`, into a buffer that is emptied first. `#` counts as a letter: `Call #` is not `Call`.
pub fn fold_into(text: &str, out: &mut String) {
    out.clear();
    for c in text.chars() {
        if c.is_ascii() {
            if c.is_ascii_alphanumeric() || c == '#' {
                out.push(c.to_ascii_lowercase());
            }
        } else if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_of_the_vendors_page_has_a_field() {
        let mut scratch = String::new();
        for label in [
            "Lang",
            "Session ID",
            "Session type",
            "Session status",
            "Created",
            "Queued",
            "Assigned",
            "Connected",
            "Ended",
            "Scheduled",
            "Updated",
            "Handle time (call or chat duration)",
            "Hold duration or Hold time",
            "Hold time",
            "Answer type",
            "OutTicket ID",
            "OutTicket URL",
            "Recording permission",
            "Recording URL",
            "Support phone number",
            "Outbound number",
            "Menu path",
            "Menu path ID",
            "Queue priority",
            "CSAT Rating",
            "Comment",
            "SmartActions | Verification status",
            "SmartActions | Photos and screenshots uploaded",
            "SmartActions | Video files uploaded",
            "SmartActions | Text input",
            "Selected menu and menu path",
            "Agent info",
            "Transfer information",
            "Deflection information",
            "Disposition Codes and Notes",
            "In call SMS",
            "Wait time SMS",
            "Participants",
            "Handle time (seconds)",
            "out_ticket_id",
        ] {
            assert!(Profile::builtin().label(label, &mut scratch).is_some(), "{label}");
        }
        assert!(Profile::builtin().label("Dear customer", &mut scratch).is_none());
    }

    #[test]
    fn types_are_known_in_every_spelling() {
        for (spelling, name) in [
            ("Voice Inbound (IVR)", "voice_inbound_ivr"),
            ("voice inbound(ivr)", "voice_inbound_ivr"),
            ("IvrCall", "voice_inbound_ivr"),
            ("Voice inbound (IVR by Mobile)", "voice_inbound_ivr_mobile"),
            ("Messaging (Whatsapp)", "messaging_whatsapp"),
            ("Messaging outbound (SMS by API)", "messaging_outbound_sms_api"),
            ("Messaging (Web)", "messaging_inbound_web_chat"),
            ("SMS", "messaging_sms"),
            ("voice_campaign", "voice_campaign"),
        ] {
            assert_eq!(Profile::builtin().session_type(spelling).map(|t| t.name.as_str()), Some(name), "{spelling}");
        }
    }

    #[test]
    fn all_codes_of_the_vendors_page_are_there() {
        let codes = [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 80, 81];
        assert!(codes.iter().all(|c| Profile::builtin().status_of_code(*c).is_some()));
        assert_eq!(Profile::builtin().status.codes.len(), codes.len());
        assert_eq!(Profile::builtin().status_of_code(81), Some("voicemail_received"));
    }

    #[test]
    fn keys_are_known_in_camel_case() {
        assert_eq!(Profile::builtin().key("outTicketId"), Some(Slot::OutTicketId));
        assert_eq!(Profile::builtin().key("sessionTypeV2"), Some(Slot::SessionTypeV2));
        assert_eq!(Profile::builtin().key("recordings"), None);
    }

    #[test]
    fn file_names_promise_a_session_or_a_transcript() {
        let profile = Profile::builtin();
        assert!(profile.promises_session("metadata-48213.json"));
        assert!(profile.promises_session("Metadata-48213.TXT"));
        assert!(!profile.promises_session("metadata.json"));
        assert!(profile.is_transcript("chat-7731.txt"));
        assert!(!profile.is_transcript("chat-7731.json"));
    }

    #[test]
    fn faults_of_a_profile_have_a_place() {
        let good = include_str!("../../templates/_profiles/ccaip.toml");
        let bad = good
            .replace("key = \"deflection\"", "key = \"deflecton\"")
            .replace("vendor = \"Lang\"", "vendor = \"OutTicket ID\"");
        let faults = Profile::from_toml(&SourceFile::new("p.toml", bad)).expect_err("two faults");
        let text = faults.render();
        assert!(
            text.contains("did you mean `deflection`?") && text.contains("`OutTicket ID` belongs to two fields"),
            "{text}"
        );
        let typo = good.replace("[signature]", "[signatur]");
        assert!(
            Profile::from_toml(&SourceFile::new("p.toml", typo)).expect_err("a fault").render().contains("p.toml:")
        );
    }
}
