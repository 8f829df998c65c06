//! Who took part in a session: agents of both shapes, participants, and who applied each disposition.
//!
//! `agent_info` is a person, a bot, `null` or absent, and absent also when there were both (domain.md
//! 1.2); so people come from the participants and the hand-overs as well, each once.

use serde_json::{Map, Value};

use super::{Reader, nested};
use crate::session::normalize::{self, Read};
use crate::session::profile::Slot;
use crate::session::{Agent, Disposition, DispositionAgent, Escalation, Participant, Time, Transfer};

/// The people of one session.
pub(super) struct Cast {
    /// The last person, else the last bot.
    pub(super) agent: Option<Agent>,
    /// Everyone, in the order of joining.
    pub(super) agents: Vec<Agent>,
    /// Participant id → user id and name.
    legs: Vec<(Option<String>, Option<String>, Option<String>)>,
}

/// A person or bot as an object, or just a name.
pub(super) fn agent(value: &Value, is_virtual: bool) -> Option<Agent> {
    let o = match value {
        Value::Object(o) => o,
        Value::String(name) if !name.trim().is_empty() => {
            return Some(Agent { name: Some(name.trim().to_owned()), is_virtual, ..Agent::default() });
        }
        _ => return None,
    };
    let first_name = nested::text(o, "first_name");
    let last_name = nested::text(o, "last_name");
    let marked = o.contains_key("va_alias") || o.contains_key("vaAlias");
    let typed = nested::text(o, "type").is_some_and(|t| t.contains("virtual"));
    let agent = Agent {
        id: nested::text(o, "id"),
        name: nested::text(o, "name").or_else(|| full_name(first_name.as_deref(), None, last_name.as_deref())),
        email: nested::text(o, "email"),
        first_name,
        last_name,
        agent_number: nested::text(o, "agent_number"),
        is_virtual: is_virtual || marked || typed,
    };
    (agent.id.is_some() || agent.name.is_some() || agent.email.is_some()).then_some(agent)
}

fn full_name(first: Option<&str>, middle: Option<&str>, last: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = [first, middle, last].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn participant_name(o: &Map<String, Value>) -> Option<String> {
    let part = |name| nested::text(o, name);
    part("name").or_else(|| {
        full_name(part("first_name").as_deref(), part("middle_name").as_deref(), part("last_name").as_deref())
    })
}

pub(super) fn participant(value: &Value) -> Option<Participant> {
    let o = value.as_object()?;
    let seconds = |name| nested::seconds(o, name);
    Some(Participant {
        id: nested::text(o, "id"),
        kind: nested::text(o, "type"),
        user_id: nested::text(o, "user_id"),
        name: participant_name(o),
        email: nested::text(o, "email"),
        phone_number: nested::text(o, "phone_number"),
        status: nested::text(o, "status"),
        fail_reason: nested::text(o, "fail_reason"),
        connected_at: nested::time(o, "connected_at"),
        ended_at: nested::time(o, "ended_at").or_else(|| nested::time(o, "finished_at")),
        duration: seconds("call_duration").or_else(|| seconds("chat_duration")).or_else(|| seconds("duration")),
    })
}

/// The place and time of the first agent to connect, a person before a bot.
pub(super) fn first_connected(people: &[Value]) -> Option<(usize, Time)> {
    let of = |is_person: bool| {
        people
            .iter()
            .enumerate()
            .filter_map(|(i, p)| {
                let o = p.as_object()?;
                let kind = nested::text(o, "type")?;
                let fits = if is_person { kind == "agent" } else { kind.contains("virtual_agent") };
                Some((i, nested::time(o, "connected_at").filter(|_| fits)?))
            })
            .min_by_key(|(_, time)| time.instant)
    };
    of(true).or_else(|| of(false))
}

/// The same agent again adds what was not known yet.
fn add(agents: &mut Vec<Agent>, new: Agent) {
    let same = agents.iter_mut().find(|a| {
        a.is_virtual == new.is_virtual
            && match (&a.id, &new.id) {
                (Some(x), Some(y)) => x == y,
                _ => {
                    (a.email.is_some() && a.email == new.email)
                        || (a.name.is_some() && a.name == new.name && (a.email.is_none() || new.email.is_none()))
                }
            }
    });
    match same {
        Some(held) => {
            for (to, from) in [
                (&mut held.id, new.id),
                (&mut held.name, new.name),
                (&mut held.email, new.email),
                (&mut held.first_name, new.first_name),
                (&mut held.last_name, new.last_name),
                (&mut held.agent_number, new.agent_number),
            ] {
                if to.is_none() {
                    *to = from;
                }
            }
        }
        None => agents.push(new),
    }
}

impl Reader<'_> {
    /// Everyone who handled the session.
    pub(super) fn cast(&mut self, transfers: &[Transfer], escalations: &[Escalation]) -> Cast {
        let info = self.filled(Slot::AgentInfo);
        let top = info.and_then(|(_, v)| agent(v, false));
        if let Some((key, value)) = info.filter(|(_, v)| top.is_none() && !v.is_object()) {
            self.note_odd("agent", key, value, "an agent");
        }
        let people = self.filled(Slot::Participants);
        let rows: &[Value] = people.and_then(|(_, v)| v.as_array()).map_or(&[], Vec::as_slice);
        let mut legs = Vec::new();
        let mut joined: Vec<(Option<Time>, Agent)> = Vec::new();
        for o in rows.iter().filter_map(Value::as_object) {
            let kind = nested::text(o, "type").unwrap_or_default();
            let is_virtual = kind.contains("virtual_agent");
            let user_id = nested::text(o, "user_id");
            let name = participant_name(o);
            legs.push((nested::text(o, "id"), user_id.clone(), name.clone()));
            if !(is_virtual || kind == "agent" || (kind.is_empty() && user_id.is_some())) {
                continue;
            }
            let member = Agent {
                id: if is_virtual { nested::text(o, "virtual_agent_id") } else { user_id },
                name,
                email: nested::text(o, "email"),
                first_name: nested::text(o, "first_name"),
                last_name: nested::text(o, "last_name"),
                agent_number: nested::text(o, "agent_number"),
                is_virtual,
            };
            if member.id.is_some() || member.name.is_some() || member.email.is_some() {
                joined.push((nested::time(o, "connected_at"), member));
            }
        }
        if joined.iter().all(|(time, _)| time.is_some()) {
            joined.sort_by_key(|(time, _)| time.map(|t| t.instant));
        }
        let last_person = joined.iter().rev().find(|(_, a)| !a.is_virtual).map(|(_, a)| a.clone());
        let mut agents = Vec::new();
        for (_, member) in joined {
            add(&mut agents, member);
        }
        for escalation in escalations {
            for member in [&escalation.from_agent, &escalation.to_agent].into_iter().flatten() {
                add(&mut agents, member.clone());
            }
        }
        for transfer in transfers {
            for member in [&transfer.from_agent, &transfer.to_agent].into_iter().flatten() {
                add(&mut agents, member.clone());
            }
        }
        let bots = self.rest.iter().find(|(key, _)| *key == "virtual_agent_handle_durations").map(|(_, v)| *v);
        for row in bots.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            if let Some(bot) = nested::get(row, "virtual_agent").and_then(|(_, v)| agent(v, true)) {
                add(&mut agents, bot);
            }
        }
        if let Some(top) = &top {
            add(&mut agents, top.clone());
        }
        let chosen = match top {
            Some(person) if !person.is_virtual => Some(person),
            other => last_person.or_else(|| agents.iter().rev().find(|a| !a.is_virtual).cloned()).or(other),
        };
        let chosen = chosen.or_else(|| agents.last().cloned());
        // What the other rows know of the chosen one.
        let chosen = chosen.map(|c| {
            let mut all = vec![c];
            for other in &agents {
                let mut merged = all.clone();
                add(&mut merged, other.clone());
                if merged.len() == 1 {
                    all = merged;
                }
            }
            all.swap_remove(0)
        });
        let source = info.or(people).map_or("agents", |(key, _)| key).to_owned();
        if chosen.is_some() {
            self.from.push(("agent", source.clone()));
        }
        if !agents.is_empty() {
            self.from.push(("agents", people.or(info).map_or(source, |(key, _)| key.to_owned())));
        }
        Cast { agent: chosen, agents, legs }
    }

    /// One for each leg that has one, with the agent by participant, then by user.
    pub(super) fn dispositions(&mut self, cast: &Cast) -> Vec<Disposition> {
        let read = |value: &Value| match value {
            Value::Object(o) => disposition(o, cast),
            Value::String(text) => split_disposition(text),
            _ => None,
        };
        self.list("dispositions", Slot::Dispositions, read)
    }
}

fn disposition(o: &Map<String, Value>, cast: &Cast) -> Option<Disposition> {
    let participant = nested::text(o, "participant_id");
    let leg = participant.as_ref().and_then(|p| cast.legs.iter().find(|(id, ..)| id.as_ref() == Some(p)));
    let user = leg.and_then(|(_, user, _)| user.clone()).or_else(|| nested::text(o, "user_id"));
    let name = leg
        .and_then(|(.., name)| name.clone())
        .or_else(|| {
            cast.legs.iter().find(|(_, u, n)| u.is_some() && *u == user && n.is_some()).and_then(|(.., n)| n.clone())
        })
        .or_else(|| {
            cast.agents.iter().find(|a| !a.is_virtual && a.id.is_some() && a.id == user).and_then(|a| a.name.clone())
        });
    let given = nested::get(o, "agent").and_then(|(_, v)| agent(v, false));
    let who = match given {
        Some(agent) => DispositionAgent { id: agent.id.or(user), name: agent.name.or(name) },
        None => DispositionAgent { id: user, name },
    };
    let disposition = Disposition {
        code: nested::text(o, "code"),
        note: nested::text(o, "note").or_else(|| nested::text(o, "notes")),
        list: nested::text(o, "list"),
        list_path: nested::text(o, "list_path"),
        custom_code_id: nested::text(o, "custom_code_id"),
        custom_list_id: nested::text(o, "custom_list_id"),
        transfer_id: nested::text(o, "transfer_id"),
        agent: (who != DispositionAgent::default()).then_some(who),
    };
    (disposition.code.is_some() || disposition.note.is_some() || disposition.list.is_some()).then_some(disposition)
}

/// `Resolved; Customer needed …`, as the vendor's page displays code and note.
pub(crate) fn split_disposition(text: &str) -> Option<Disposition> {
    let Read::Value(text) = normalize::text(&Value::String(text.to_owned())) else { return None };
    let (code, note) = match text.split_once([';', '\n']) {
        Some((code, note)) => (code.trim(), note.trim()),
        None => (text.as_str(), ""),
    };
    let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    Some(Disposition { code: some(code), note: some(note), ..Disposition::default() })
}
