//! A session document (JSON, domain.md sections 1 and 10) becomes a `Session`.
//!
//! Lenient in what it reads: absent, `null`, `""` and words for none; numbers in strings; camelCase keys;
//! statuses as words or numbers. Exact in what it says: odd values become warnings and stay in `raw`, a
//! document that is no session is told apart from one that is nearly one. It never fails on a value.

mod nested;
mod people;

pub(crate) use people::split_disposition;

use serde_json::{Map, Value};

use super::normalize::{self, Read, shown};
use super::profile::{Profile, Slot};
use super::{Channel, EndUser, Menu, Session, Time};

/// Why a document is not read as a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASession {
    /// What is wrong, if it is nearly one; `None` for any other JSON.
    pub is_near: Option<String>,
}

/// A document, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The session.
    pub session: Session,
    /// Sentences about odd values.
    pub warnings: Vec<String>,
    /// Field of the session that has a value → the place in the document, a JSON pointer without its first `/`.
    pub from: Vec<(&'static str, String)>,
}

/// Reads a document; the warnings are sentences about odd values.
pub fn read(document: &Value, instance: &str, profile: &Profile) -> Result<(Session, Vec<String>), NotASession> {
    read_traced(document, instance, profile, None).map(|r| (r.session, r.warnings))
}

/// As `read`, and tells where each value was. The hint is the channel that a file name or label tells,
/// for documents that do not say it themselves.
pub fn read_traced(
    document: &Value,
    instance: &str,
    profile: &Profile,
    hint: Option<Channel>,
) -> Result<Reading, NotASession> {
    let Value::Object(object) = document else { return Err(NotASession { is_near: None }) };
    let mut rest = Vec::new();
    let slots = Slots::of(object, profile, |key, value| rest.push((key, value)));
    let id = slots.recognise(object, profile)?;
    let (raw, warnings, from) = (Map::new(), Vec::new(), Vec::with_capacity(40));
    Ok(Reader { profile, slots, rest, raw, warnings, from }.session(object, id, instance, hint))
}

/// True if the object looks like a session, broken or not: cheap, for walks through envelopes.
pub fn looks_like_session(object: &Map<String, Value>, profile: &Profile) -> bool {
    let slots = Slots::of(object, profile, |_, _| {});
    !matches!(slots.recognise(object, profile), Err(NotASession { is_near: None }))
}

/// The values of a document by the fields of a session, each with its key.
struct Slots<'d>([Option<(&'d str, &'d Value)>; Slot::ALL.len()]);

impl<'d> Slots<'d> {
    /// Sorts a document's values; `rest` gets those that are no field's, or a second one's.
    fn of(object: &'d Map<String, Value>, profile: &Profile, mut rest: impl FnMut(&'d str, &'d Value)) -> Self {
        let mut slots = [None; Slot::ALL.len()];
        for (key, value) in object {
            match profile.key(key).and_then(|slot| slots.get_mut(slot as usize)) {
                Some(place) => match place {
                    None => *place = Some((key.as_str(), value)),
                    // Two keys for one field: what is filled counts, the other is kept.
                    Some((_, held)) if !is_filled(held) && is_filled(value) => *place = Some((key, value)),
                    Some((_, held)) if *held != value && is_filled(value) => rest(key, value),
                    Some(_) => {}
                },
                None => rest(key, value),
            }
        }
        Self(slots)
    }

    fn get(&self, slot: Slot) -> Option<(&'d str, &'d Value)> {
        self.0.get(slot as usize).copied().flatten()
    }

    /// The id, if this is a session.
    fn recognise(&self, object: &Map<String, Value>, profile: &Profile) -> Result<String, NotASession> {
        let not = |is_near| Err(NotASession { is_near });
        let mut signs = Slot::ALL.iter().filter(|s| profile.is_signature(**s) && self.get(**s).is_some()).count();
        if let Some((_, Value::String(word))) = self.get(Slot::SessionType)
            && profile.session_type(word).is_some()
        {
            signs += 1;
        }
        let foreign = profile.signature.foreign.iter().any(|k| object.contains_key(k));
        if signs == 0 || (foreign && signs < 3) {
            return not(None);
        }
        let known = self.0.iter().flatten().count();
        let id = self.get(Slot::Id);
        match id.and_then(|(_, v)| normalize::digits(v)) {
            Some(id) if known >= 3 => Ok(id),
            Some(_) => not(None),
            None if signs < 2 || known < 4 => not(None),
            None => not(Some(match id {
                None => "`id` is missing".to_owned(),
                Some((_, Value::Null)) => "`id` is null".to_owned(),
                Some(_) => "`id` is not a whole number".to_owned(),
            })),
        }
    }
}

/// One document on its way to a session.
struct Reader<'d> {
    profile: &'d Profile,
    slots: Slots<'d>,
    rest: Vec<(&'d str, &'d Value)>,
    raw: Map<String, Value>,
    warnings: Vec<String>,
    from: Vec<(&'static str, String)>,
}

impl<'d> Reader<'d> {
    fn slot(&self, slot: Slot) -> Option<(&'d str, &'d Value)> {
        self.slots.get(slot)
    }

    fn filled(&self, slot: Slot) -> Option<(&'d str, &'d Value)> {
        self.slot(slot).filter(|(_, v)| is_filled(v))
    }

    fn session(mut self, object: &Map<String, Value>, id: String, instance: &str, hint: Option<Channel>) -> Reading {
        let (session_type, session_type_label, type_channel) = self.session_type();
        let channel = self.channel(object, type_channel, hint);
        let (status, status_code) = self.status();
        if let Some((key, _)) = self.slot(Slot::Id) {
            self.from.push(("id", key.to_owned()));
        }
        let lang = self.text("lang", Slot::Lang);
        let created_at = self.time("created_at", Slot::CreatedAt);
        let mut queued_at = self.time("queued_at", Slot::QueuedAt);
        let assigned_at = self.time("assigned_at", Slot::AssignedAt);
        let mut connected_at = self.time("connected_at", Slot::ConnectedAt);
        let ends_at = self.time("ends_at", Slot::EndsAt);
        let scheduled_at = self.time("scheduled_at", Slot::ScheduledAt);
        let updated_at = self.time("updated_at", Slot::UpdatedAt);
        let wait_duration = self.seconds("wait_duration", Slot::WaitDuration);
        let handle_duration = self.handle_duration(channel);
        let hold_duration = self.seconds("hold_duration", Slot::HoldDuration);
        let answer_type = self.text("answer_type", Slot::AnswerType);
        let out_ticket_id = self.out_ticket_id();
        let out_ticket_url = self.reference("out_ticket_url", Slot::OutTicketUrl);
        let is_out_ticket_account = self.boolean("is_out_ticket_account", Slot::IsOutTicketAccount);
        let recording_permission = self.permission();
        let mut recording_url = self.reference("recording_url", Slot::RecordingUrl);
        let support_number = self.reference("support_number", Slot::SupportNumber);
        let outbound_number = self.reference("outbound_number", Slot::OutboundNumber);
        let (menu_path, menu_path_id) = self.menu_path();
        let selected_menu = self.menu();
        let queue_priority_level = self.integer("queue_priority_level", Slot::QueuePriorityLevel);
        self.range("queue_priority_level", queue_priority_level, 1, 8);
        let rating = self.integer("rating", Slot::Rating);
        self.range("rating", rating, 1, 4);
        let feedback = self.text("feedback", Slot::Feedback);
        let verified = self.boolean("verified", Slot::Verified);
        let photos = self.list("photos", Slot::Photos, nested::media);
        let videos = self.list("videos", Slot::Videos, nested::media);
        let smart_action_text = self.smart_action_text();
        let transfers = self.list("transfers", Slot::Transfers, nested::transfer);
        let escalations = self.list("escalations", Slot::Escalations, nested::escalation);
        let deflection = self.text("deflection", Slot::Deflection);
        let in_call_sms = self.list("in_call_sms", Slot::InCallSms, nested::sms);
        let wait_time_sms = self.list("wait_time_sms", Slot::WaitTimeSms, nested::sms);
        let participants = self.list("participants", Slot::Participants, people::participant);
        let cast = self.cast(&transfers, &escalations);
        let dispositions = self.dispositions(&cast);
        let end_user = self.end_user(object, &participants);
        let fail_reason = self.text("fail_reason", Slot::FailReason);
        if channel == Channel::Chat {
            self.chat_times(object, &mut queued_at, &mut connected_at);
        }
        for (name, seconds) in
            [("wait_duration", wait_duration), ("handle_duration", handle_duration), ("hold_duration", hold_duration)]
        {
            if let Some(seconds) = seconds.filter(|s| *s < 0) {
                self.warnings.push(format!("{name} {seconds} is negative"));
            }
        }
        let denied = recording_permission.as_deref() == Some("denied");
        if denied && recording_url.take().is_some() {
            self.from.retain(|(field, _)| *field != "recording_url");
            self.warnings.push("recording_url is withheld: recording_permission is denied".to_owned());
        }
        self.keep_rest(denied);
        let Self { warnings, from, raw, .. } = self;
        let session = Session {
            instance: instance.to_owned(),
            channel,
            key: format!("{}-{id}", channel.as_str()),
            id,
            record_id: out_ticket_id.clone(),
            lang,
            session_type,
            session_type_label,
            status,
            status_code,
            created_at,
            queued_at,
            assigned_at,
            connected_at,
            ends_at,
            scheduled_at,
            updated_at,
            wait_duration,
            handle_duration,
            hold_duration,
            answer_type,
            out_ticket_id,
            out_ticket_url,
            is_out_ticket_account,
            recording_permission,
            recording_url,
            support_number,
            outbound_number,
            menu_path,
            menu_path_id,
            selected_menu,
            queue_priority_level,
            rating,
            feedback,
            verified,
            photos,
            videos,
            smart_action_text,
            agent: cast.agent,
            agents: cast.agents,
            transfers,
            escalations,
            deflection,
            dispositions,
            in_call_sms,
            wait_time_sms,
            participants,
            end_user,
            fail_reason,
            raw,
        };
        Reading { session, warnings, from }
    }

    // ── values of one field ──

    fn note_odd(&mut self, field: &'static str, key: &str, value: &Value, expected: &str) {
        self.warnings.push(format!("{field} is not {expected}"));
        self.raw.insert(key.to_owned(), value.clone());
    }

    fn value<T>(
        &mut self,
        field: &'static str,
        slot: Slot,
        read: impl Fn(&Value) -> Read<T>,
        expected: &str,
    ) -> Option<T> {
        let (key, value) = self.slot(slot)?;
        match read(value) {
            Read::Value(v) => {
                self.from.push((field, key.to_owned()));
                Some(v)
            }
            Read::Empty => None,
            Read::Odd if matches!(value, Value::String(s) if self.profile.is_none(s)) => None,
            Read::Odd => {
                self.note_odd(field, key, value, expected);
                None
            }
        }
    }

    fn text(&mut self, field: &'static str, slot: Slot) -> Option<String> {
        self.value(field, slot, normalize::text, "text")
    }

    fn time(&mut self, field: &'static str, slot: Slot) -> Option<Time> {
        self.value(field, slot, normalize::time, "a time")
    }

    fn seconds(&mut self, field: &'static str, slot: Slot) -> Option<i64> {
        self.value(field, slot, normalize::seconds, "a duration")
    }

    fn integer(&mut self, field: &'static str, slot: Slot) -> Option<i64> {
        self.value(field, slot, normalize::integer, "a whole number")
    }

    fn boolean(&mut self, field: &'static str, slot: Slot) -> Option<bool> {
        self.value(field, slot, normalize::boolean, "true or false")
    }

    /// An id, link or number of another system: words for none are none.
    fn reference(&mut self, field: &'static str, slot: Slot) -> Option<String> {
        let profile = self.profile;
        let read = |value: &Value| match normalize::text(value) {
            Read::Value(text) if profile.is_none(&text) => Read::Empty,
            other => other,
        };
        self.value(field, slot, read, "text")
    }

    fn out_ticket_id(&mut self) -> Option<String> {
        let id = self.reference("out_ticket_id", Slot::OutTicketId)?;
        // The vendor has sent names with its variables unresolved; such an id names nothing.
        let unresolved = id.starts_with(['{', '<', '%', '$']) || id.contains("{{");
        if unresolved || id.chars().any(char::is_control) {
            self.from.retain(|(field, _)| *field != "out_ticket_id");
            self.warnings.push("out_ticket_id is a placeholder, not an id".to_owned());
            return None;
        }
        Some(id)
    }

    fn range(&mut self, field: &'static str, value: Option<i64>, low: i64, high: i64) {
        if let Some(value) = value.filter(|v| !(low..=high).contains(v)) {
            self.warnings.push(format!("{field} {value} is outside the documented {low}-{high}"));
        }
    }

    fn list<T>(&mut self, field: &'static str, slot: Slot, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        let Some((key, value)) = self.filled(slot) else { return Vec::new() };
        let items: Vec<T> = match value {
            Value::Array(items) => items.iter().filter(|i| is_filled(i)).filter_map(&read).collect(),
            Value::String(s) if self.profile.is_none(s) => return Vec::new(),
            one => read(one).into_iter().collect(),
        };
        let given = value.as_array().map_or(1, |a| a.iter().filter(|i| is_filled(i)).count());
        if items.len() < given {
            self.note_odd(field, key, value, "a list of the documented form");
        }
        if !items.is_empty() {
            self.from.push((field, key.to_owned()));
        }
        items
    }

    // ── fields with rules of their own ──

    /// The finest vocabulary names the type; the older ones are asked only where it is silent.
    fn session_type(&mut self) -> (Option<String>, Option<String>, Option<Channel>) {
        let profile = self.profile;
        let written: Vec<(&str, &str)> = [Slot::SessionTypeV2, Slot::SessionType, Slot::CallType, Slot::ChatType]
            .into_iter()
            .filter_map(|slot| self.filled(slot).and_then(|(key, v)| Some((key, v.as_str()?.trim()))))
            .filter(|(_, label)| !profile.is_none(label))
            .collect();
        let is_known = |(_, label): &&(&str, &str)| profile.session_type(label).is_some();
        let known = written.iter().find(is_known);
        let finest = written.first().filter(|(key, _)| profile.key(key) == Some(Slot::SessionTypeV2));
        let Some((key, label)) = finest.or(known).or(written.first()).copied() else { return (None, None, None) };
        self.trace_type(key);
        let by_known = known.and_then(|(_, l)| profile.session_type(l)).map(|t| t.channel);
        if let Some(kind) = profile.session_type(label) {
            return (Some(kind.name.clone()), Some(label.to_owned()), Some(kind.channel));
        }
        self.warnings.push(format!("session type `{}` is not documented", shown(label)));
        let slug = normalize::slug(label);
        let channel = by_known.or_else(|| channel_in_words(&slug));
        (Some(slug).filter(|s| !s.is_empty()), Some(label.to_owned()), channel)
    }

    fn trace_type(&mut self, key: &str) {
        self.from.push(("session_type", key.to_owned()));
        self.from.push(("session_type_label", key.to_owned()));
        // The older fields repeat the type; they are kept where they say something else.
        let label = self.slots.0.iter().flatten().find(|(k, _)| *k == key).map(|(_, v)| *v);
        for slot in [Slot::SessionType, Slot::CallType, Slot::ChatType] {
            if let Some((other, value)) = self.filled(slot)
                && Some(value) != label
            {
                self.raw.insert(other.to_owned(), value.clone());
            }
        }
    }

    fn channel(&mut self, object: &Map<String, Value>, by_type: Option<Channel>, hint: Option<Channel>) -> Channel {
        let said = match self.filled(Slot::Channel) {
            Some((key, value)) => {
                let channel = value.as_str().and_then(|w| channel_in_words(&normalize::slug(w)));
                if channel.is_none() {
                    self.raw.insert(key.to_owned(), value.clone());
                }
                channel.map(|c| (c, key))
            }
            None => None,
        };
        let has = |slot, channel| self.slot(slot).map(|(key, _)| (channel, key));
        let type_key = self.from.iter().find(|(f, _)| *f == "session_type").map(|(_, k)| k.clone());
        let profile = self.profile;
        let by_keys = || {
            let count = |keys: &[String]| keys.iter().filter(|k| object.contains_key(k.as_str())).count();
            let (voice, chat) = (count(&profile.channel.voice), count(&profile.channel.chat));
            (voice != chat).then_some(if voice > chat { Channel::Voice } else { Channel::Chat })
        };
        let by_word = self
            .filled(Slot::ChatType)
            .map(|(k, _)| (Channel::Chat, k))
            .or_else(|| self.filled(Slot::CallType).map(|(k, _)| (Channel::Voice, k)));
        if let Some((channel, key)) = by_word {
            self.from.push(("channel", key.to_owned()));
            return channel;
        }
        if let Some(channel) = by_type {
            self.from.push(("channel", type_key.unwrap_or_default()));
            return channel;
        }
        let by_duration =
            said.or_else(|| has(Slot::ChatDuration, Channel::Chat)).or_else(|| has(Slot::CallDuration, Channel::Voice));
        if let Some((channel, key)) = by_duration {
            self.from.push(("channel", key.to_owned()));
            return channel;
        }
        by_keys().or(hint).unwrap_or_else(|| {
            self.warnings.push("nothing says whether it is a call or a chat: taken as a call".to_owned());
            Channel::Voice
        })
    }

    fn status(&mut self) -> (Option<String>, Option<i64>) {
        let Some((key, value)) = self.filled(Slot::Status) else { return (None, None) };
        let (word, code) = match value {
            Value::String(s) if self.profile.is_none(s) => return (None, None),
            Value::String(s) => self.status_in(s.trim()),
            Value::Number(n) => match n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)) {
                Some(code) => self.status_of(code),
                None => (None, None),
            },
            _ => {
                self.note_odd("status", key, value, "a word or a number");
                return (None, None);
            }
        };
        if word.is_some() {
            self.from.push(("status", key.to_owned()));
        }
        if code.is_some() {
            self.from.push(("status_code", key.to_owned()));
        }
        (word, code)
    }

    fn status_of(&mut self, code: i64) -> (Option<String>, Option<i64>) {
        let word = self.profile.status_of_code(code).map(str::to_owned);
        if word.is_none() {
            self.warnings.push(format!("status code {code} is not documented"));
        }
        (word, Some(code))
    }

    /// `finished`, `81`, `voicemail_received (81)`, `Voicemail received`, `81 - voicemail_received`.
    fn status_in(&mut self, text: &str) -> (Option<String>, Option<i64>) {
        if let Ok(code) = text.parse::<i64>() {
            return self.status_of(code);
        }
        let words: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        let number: String = text.chars().filter(char::is_ascii_digit).collect();
        match self.profile.status_word(&words).map(str::to_owned) {
            Some(word) => {
                let code = self.profile.status_code(&word);
                if let Ok(said) = number.parse::<i64>()
                    && code != Some(said)
                {
                    self.warnings.push(format!("status {word} comes with the number {said}"));
                }
                (Some(word), code)
            }
            None => {
                self.warnings.push(format!("status `{}` is not documented", shown(text)));
                (Some(normalize::slug(text)).filter(|s| !s.is_empty()), None)
            }
        }
    }

    fn handle_duration(&mut self, channel: Channel) -> Option<i64> {
        let slots = match channel {
            Channel::Voice => [Slot::CallDuration, Slot::HandleDuration, Slot::ChatDuration],
            Channel::Chat => [Slot::ChatDuration, Slot::HandleDuration, Slot::CallDuration],
        };
        slots.into_iter().find_map(|slot| self.seconds("handle_duration", slot))
    }

    fn permission(&mut self) -> Option<String> {
        let text = self.reference("recording_permission", Slot::RecordingPermission)?;
        if let Some(word) = self.profile.permission(&text) {
            return Some(word.to_owned());
        }
        self.warnings.push(format!("recording_permission `{}` is not documented", shown(&text)));
        Some(normalize::slug(&text)).filter(|s| !s.is_empty())
    }

    fn menu_path(&mut self) -> (Option<String>, Option<String>) {
        let (mut name, mut ids) = (None, None);
        match self.filled(Slot::MenuPath) {
            Some((key, Value::Object(path))) => {
                name = nested::text(path, "name");
                ids = nested::text(path, "materialized_path");
                for (field, part, found) in
                    [("menu_path", "name", name.is_some()), ("menu_path_id", "materialized_path", ids.is_some())]
                {
                    if found {
                        self.from.push((field, format!("{key}/{part}")));
                    }
                }
            }
            Some(_) => name = self.text("menu_path", Slot::MenuPath),
            None => {}
        }
        if ids.is_none() {
            ids = self.text("menu_path_id", Slot::MenuPathId);
        }
        (name, ids)
    }

    fn menu(&mut self) -> Option<Menu> {
        let (key, value) = self.filled(Slot::SelectedMenu)?;
        let menu = match value {
            Value::Object(menu) => Menu {
                id: nested::text(menu, "id"),
                name: nested::text(menu, "name"),
                menu_type: nested::text(menu, "menu_type"),
            },
            Value::String(name) => Menu { name: Some(name.trim().to_owned()), ..Menu::default() },
            Value::Number(id) => Menu { id: Some(id.to_string()), ..Menu::default() },
            _ => {
                self.note_odd("selected_menu", key, value, "an object");
                return None;
            }
        };
        if menu == Menu::default() {
            return None;
        }
        self.from.push(("selected_menu", key.to_owned()));
        Some(menu)
    }

    fn smart_action_text(&mut self) -> Option<String> {
        let (key, value) = self.filled(Slot::SmartActionText)?;
        let text = nested::texts(value);
        if text.is_none() {
            self.note_odd("smart_action_text", key, value, "text");
        } else {
            self.from.push(("smart_action_text", key.to_owned()));
        }
        text
    }

    fn end_user(&mut self, object: &Map<String, Value>, participants: &[super::Participant]) -> Option<EndUser> {
        let mut user = EndUser::default();
        let mut place = None;
        match self.filled(Slot::EndUser) {
            Some((key, Value::Object(given))) => {
                user.id = nested::text(given, "id");
                user.identifier = nested::text(given, "identifier");
                user.out_contact_id = nested::text(given, "out_contact_id");
                user.email = nested::text(given, "email");
                user.phone_number = nested::text(given, "phone_number").or_else(|| nested::text(given, "phone"));
                place = Some(key.to_owned());
            }
            Some((key, value)) => self.note_odd("end_user", key, value, "an object"),
            None => {}
        }
        if user.email.is_none() {
            user.email = nested::text(object, "email");
            place = place.or_else(|| user.email.is_some().then(|| "email".to_owned()));
        }
        if user.phone_number.is_none() {
            user.phone_number = participants
                .iter()
                .filter(|p| p.kind.as_deref() == Some("end_user"))
                .find_map(|p| p.phone_number.clone());
            place = place.or_else(|| user.phone_number.is_some().then(|| "participants".to_owned()));
        }
        if user == EndUser::default() {
            return None;
        }
        self.from.push(("end_user", place.unwrap_or_default()));
        Some(user)
    }

    /// Chats carry no times of queue and connection at the top; the legs do.
    fn chat_times(&mut self, object: &Map<String, Value>, queued: &mut Option<Time>, connected: &mut Option<Time>) {
        if queued.is_none()
            && let Some((_, Value::Array(legs))) = nested::get(object, "queue_durations")
            && let Some(time) = legs.first().and_then(|l| nested::time(l.as_object()?, "started_at"))
        {
            *queued = Some(time);
            self.from.push(("queued_at", "queue_durations/0/started_at".to_owned()));
        }
        if connected.is_none()
            && let Some((key, Value::Array(people))) = self.filled(Slot::Participants)
            && let Some((i, time)) = people::first_connected(people)
        {
            *connected = Some(time);
            self.from.push(("connected_at", format!("{key}/{i}/connected_at")));
        }
    }

    /// Every other key, whole. A recording that the caller refused leaves no link behind.
    fn keep_rest(&mut self, denied: bool) {
        for (key, value) in std::mem::take(&mut self.rest) {
            if denied && self.profile.key(key) == Some(Slot::RecordingUrl) {
                continue;
            }
            let mut value = value.clone();
            if denied && key.contains("recording") {
                nested::drop_links(&mut value);
            }
            self.raw.insert(key.to_owned(), value);
        }
        if denied {
            let profile = self.profile;
            self.raw.retain(|key, _| profile.key(key) != Some(Slot::RecordingUrl));
        }
    }
}

/// False for `null`, `""`, `[]` and `{}`.
pub(crate) fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(s) => !s.trim().is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        _ => true,
    }
}

/// The channel that a slug's words tell.
fn channel_in_words(slug: &str) -> Option<Channel> {
    let says = |words: &[&str]| slug.split('_').any(|w| words.contains(&w));
    if says(&["chat", "messaging", "sms", "whatsapp", "message", "text"]) {
        Some(Channel::Chat)
    } else if says(&["voice", "call", "phone", "ivr", "telephone", "telephony"]) {
        Some(Channel::Voice)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
