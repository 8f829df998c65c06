//! Documents read as sessions, and what is no session.

use serde_json::{Value, json};

use super::*;
use crate::session::Agent;

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/sessions/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a fixture")).expect("JSON")
}

fn session(document: &Value) -> (Session, Vec<String>) {
    read(document, "default", Profile::builtin()).expect("a session")
}

fn base() -> Value {
    json!({ "id": 1, "call_type": "Voice Inbound (IVR)", "status": "finished", "out_ticket_id": "C-1" })
}

fn with(key: &str, value: Value) -> (Session, Vec<String>) {
    let mut document = base();
    document[key] = value;
    session(&document)
}

fn names(agents: &[Agent]) -> Vec<&str> {
    agents.iter().filter_map(|a| a.name.as_deref()).collect()
}

#[test]
fn a_call_is_read_whole() {
    let (s, warnings) = session(&fixture("voice-48213-v2.json"));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((s.channel, s.id.as_str(), s.key.as_str()), (Channel::Voice, "48213", "voice-48213"));
    assert_eq!(
        (s.session_type.as_deref(), s.status.as_deref(), s.status_code),
        (Some("voice_inbound_ivr"), Some("finished"), Some(8))
    );
    assert_eq!((s.handle_duration, s.wait_duration, s.hold_duration), (Some(481), Some(53), Some(20)));
    assert_eq!((s.menu_path.as_deref(), s.menu_path_id.as_deref()), (Some("Billing/Refunds"), Some("210/214")));
    assert_eq!(s.updated_at.map(|t| t.to_string()).as_deref(), Some("2026-02-17T10:11:41-06:00"));
    assert_eq!(names(&s.agents), ["Omar Benali", "Pia Lindqvist"]);
    assert_eq!(s.agent.as_ref().and_then(|a| a.agent_number.as_deref()), Some("1044"));
    assert_eq!(s.transfers[0].to_agent.as_ref().and_then(|a| a.name.as_deref()), Some("Pia Lindqvist"));
    let by: Vec<_> =
        s.dispositions.iter().map(|d| (d.code.as_deref(), d.agent.as_ref().and_then(|a| a.name.as_deref()))).collect();
    assert_eq!(by, [(Some("Passed to refunds"), Some("Omar Benali")), (Some("Resolved"), Some("Pia Lindqvist"))]);
    assert_eq!(
        (s.dispositions[0].custom_code_id.as_deref(), s.dispositions[1].custom_code_id.as_deref()),
        (None, Some("RES"))
    );
    let user = s.end_user.expect("a customer");
    assert_eq!((user.out_contact_id.as_deref(), user.phone_number.as_deref()), (Some("K-88120"), Some("+15550167788")));
    assert!(
        s.raw.contains_key("handle_durations")
            && s.raw.contains_key("disconnected_by")
            && !s.raw.contains_key("call_type")
    );
}

#[test]
fn a_chat_takes_its_missing_times_from_its_legs() {
    let (s, warnings) = session(&fixture("chat-7731.json"));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((s.channel, s.handle_duration), (Channel::Chat, Some(483)));
    assert_eq!(s.queued_at.map(|t| t.to_string()).as_deref(), Some("2026-02-17T14:21:37-06:00"));
    assert_eq!(s.connected_at.map(|t| t.to_string()).as_deref(), Some("2026-02-17T14:22:02-06:00"));
    assert_eq!(names(&s.agents), ["parcel_helper", "Tomas Reyes"]);
    assert_eq!(s.escalations[0].from_agent.as_ref().map(|a| a.is_virtual), Some(true));
    assert_eq!(s.end_user.and_then(|u| u.email).as_deref(), Some("ana.k@shop.example.test"));
}

#[test]
fn a_bot_alone_is_the_agent() {
    let (s, _) = session(&fixture("chat-7740-bot-only.json"));
    assert_eq!((s.agents.len(), s.agent.map(|a| (a.is_virtual, a.id))), (1, Some((true, Some("3".to_owned())))));
}

#[test]
fn the_agent_comes_from_the_participants_when_agent_info_is_absent() {
    let (s, warnings) = session(&fixture("voice-48240-outbound-denied.json"));
    assert_eq!(s.agent.and_then(|a| a.name).as_deref(), Some("Pia Lindqvist"));
    assert_eq!(s.recording_url, None);
    assert!(!serde_json::to_string(&s.raw).expect("JSON").contains("rec-48240"));
    assert!(warnings.contains(&"recording_url is withheld: recording_permission is denied".to_owned()));
    assert!(warnings.contains(&"rating 5 is outside the documented 1-4".to_owned()));
}

#[test]
fn old_spellings_and_numbers_in_strings_are_read() {
    let (s, warnings) = session(&fixture("voice-1207-old-tenant.json"));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        (s.session_type.as_deref(), s.session_type_label.as_deref()),
        (Some("voice_inbound_ivr"), Some("IvrCall"))
    );
    assert_eq!((s.status.as_deref(), s.status_code), (Some("finished"), Some(8)));
    assert_eq!((s.handle_duration, s.rating, s.out_ticket_id.as_deref()), (Some(245), Some(3), Some("5512")));
    assert_eq!((s.out_ticket_url, s.recording_permission.as_deref()), (None, Some("not_asked")));
    assert_eq!(s.menu_path.as_deref(), Some("Main/Sales"));
}

#[test]
fn camel_case_keys_say_the_same() {
    let (s, warnings) = session(&fixture("voice-48213-camel-case.json"));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((s.out_ticket_id.as_deref(), s.handle_duration), (Some("C-100482"), Some(481)));
    assert_eq!((s.menu_path_id.as_deref(), names(&s.agents)), (Some("210/214"), vec!["Pia Lindqvist"]));
    assert_eq!(s.dispositions[0].agent.as_ref().and_then(|a| a.name.as_deref()), Some("Pia Lindqvist"));
    assert_eq!(s.participants[0].duration, Some(275));
    assert!(s.raw.is_empty(), "{:?}", s.raw);
}

#[test]
fn the_finest_type_names_the_session_and_the_older_is_kept() {
    let (s, _) = session(&fixture("chat-7750-sms.json"));
    assert_eq!(s.session_type.as_deref(), Some("messaging_outbound_sms_api"));
    assert_eq!(s.raw.get("chat_type"), Some(&json!("Messaging (SMS)")));
    assert_eq!(s.ends_at.map(|t| t.to_string()).as_deref(), Some("2026-03-02T09:20:00-06:00"));
    assert_eq!(s.agent.and_then(|a| a.name).as_deref(), Some("Tomas Reyes"));
}

#[test]
fn statuses_are_words_or_numbers() {
    for (value, word, code) in [
        (json!("voicemail_received"), "voicemail_received", Some(81)),
        (json!(81), "voicemail_received", Some(81)),
        (json!("81"), "voicemail_received", Some(81)),
        (json!("Voicemail received (81)"), "voicemail_received", Some(81)),
        (json!("va_dismissed"), "va_dismissed", None),
    ] {
        let (s, warnings) = with("status", value.clone());
        assert_eq!((s.status.as_deref(), s.status_code, warnings.len()), (Some(word), code, 0), "{value}");
    }
    let (s, warnings) = with("status", json!(6));
    assert_eq!(
        (s.status, s.status_code, warnings),
        (None, Some(6), vec!["status code 6 is not documented".to_owned()])
    );
    let (s, warnings) = with("status", json!("parked"));
    assert_eq!((s.status.as_deref(), warnings), (Some("parked"), vec!["status `parked` is not documented".to_owned()]));
}

#[test]
fn odd_values_are_warnings_and_stay_in_raw() {
    for (key, value) in [
        ("rating", json!("great")),
        ("created_at", json!("yesterday")),
        ("hold_duration", json!({})),
        ("verified", json!("maybe")),
        ("selected_menu", json!([1])),
        ("photos", json!(["x"])),
        ("transfers", json!("yes")),
        ("status", json!([8])),
        ("agent_info", json!(7)),
        ("end_user", json!("someone")),
        ("lang", json!({ "a": 1 })),
        ("feedback", json!([])),
    ] {
        let (s, warnings) = with(key, value.clone());
        if value == json!([]) {
            assert!(warnings.is_empty() || s.raw.contains_key(key), "{key}");
            continue;
        }
        assert_eq!(warnings.len(), 1, "{key}: {warnings:?}");
        assert_eq!(s.raw.get(key), Some(&value), "{key}");
    }
    assert_eq!(with("queue_priority_level", json!(0)).1, ["queue_priority_level 0 is outside the documented 1-8"]);
}

#[test]
fn words_for_none_are_none_where_they_name_something() {
    for word in [json!(""), json!("null"), json!("N/A"), json!("none"), json!("-"), json!(null)] {
        let (s, warnings) = with("out_ticket_id", word.clone());
        assert_eq!((s.out_ticket_id, s.record_id, warnings.len()), (None, None, 0), "{word}");
    }
    assert_eq!(with("out_ticket_id", json!("{RECORD_ID}")).0.out_ticket_id, None);
    assert_eq!(with("out_ticket_id", json!(5512)).0.out_ticket_id.as_deref(), Some("5512"));
    assert_eq!(with("feedback", json!("None")).0.feedback.as_deref(), Some("None"));
    assert_eq!(with("deflection", json!("no_deflection")).0.deflection.as_deref(), Some("no_deflection"));
    let (s, _) = session(
        &json!({ "id": 1, "call_type": "x", "out_ticket_id": null, "out_ticket_url": "https://x.example/C-1" }),
    );
    assert_eq!(s.record_id, None);
}

#[test]
fn what_is_no_session_is_told_from_what_nearly_is() {
    let judge = |document: Value| read(&document, "default", Profile::builtin()).map(|_| ()).map_err(|n| n.is_near);
    for other in [
        json!({}),
        json!([]),
        json!("x"),
        json!({ "id": 1 }),
        json!({ "id": 1, "status": "open", "created_at": "2026-01-01T00:00:00Z" }),
        json!({ "id": 1, "session_type": "web", "status": "x" }),
        json!({ "id": 903, "status": "transferred", "created_at": null, "call_duration": 3, "wait_duration": 1, "deflection": "x" }),
        json!({ "id": 7731, "chat_type": "Messaging Inbound (Web Chat)", "status": "finished", "entries": [{ "text": "hello" }] }),
    ] {
        assert_eq!(judge(other.clone()), Err(None), "{other}");
    }
    for (id, sentence) in [
        (json!("abc"), "`id` is not a whole number"),
        (json!(null), "`id` is null"),
        (json!(-4), "`id` is not a whole number"),
    ] {
        let mut document = fixture("voice-48213-v2.json");
        document["id"] = id;
        assert_eq!(judge(document), Err(Some(sentence.to_owned())));
    }
    let mut document = fixture("chat-7731.json");
    document.as_object_mut().expect("an object").remove("id");
    assert_eq!(judge(document), Err(Some("`id` is missing".to_owned())));
}

#[test]
fn free_forms_of_text_actions_and_messages_are_read() {
    assert_eq!(with("smart_action_text", json!(["a", { "text": "b" }])).0.smart_action_text.as_deref(), Some("a\nb"));
    let (s, _) = with(
        "in_call_sms",
        json!([{ "body": "see photo", "from": "end_user", "created_at": "2026-02-17T10:00:00Z" }, "ok"]),
    );
    assert_eq!(s.in_call_sms.iter().filter_map(|m| m.text.as_deref()).collect::<Vec<_>>(), ["see photo", "ok"]);
    assert!(s.in_call_sms[0].sent_at.is_some());
}

#[test]
fn any_wrong_type_anywhere_is_survived() {
    let odd =
        [json!(null), json!([]), json!({}), json!("x"), json!(-1.5), json!(true), json!([[[1]]]), json!({ "id": [] })];
    for name in ["voice-48213-v2.json", "chat-7731.json"] {
        let good = fixture(name);
        for key in good.as_object().expect("an object").keys() {
            for value in &odd {
                let mut document = good.clone();
                document[key.as_str()] = value.clone();
                if let Ok((s, _)) = read(&document, "default", Profile::builtin()) {
                    assert!(key != "id" || value.is_number(), "{key} {value} {}", s.id);
                }
                if let Some(list) = good[key.as_str()].as_array().filter(|l| !l.is_empty()) {
                    let mut list = list.clone();
                    list[0] = value.clone();
                    document[key.as_str()] = Value::Array(list);
                    let _ = read(&document, "default", Profile::builtin());
                }
            }
        }
    }
}

#[test]
fn the_serialized_form_comes_back_the_same() {
    for name in ["voice-48213-v2.json", "chat-7731.json", "chat-7740-bot-only.json", "voice-77-minimal.json"] {
        let (s, _) = session(&fixture(name));
        let text = serde_json::to_string(&s).expect("JSON");
        assert_eq!(serde_json::from_str::<Session>(&text).expect("a session"), s);
    }
}
