//! Values and their types: what to send instead, which type, which word.

use serde_json::{Number, Value};

use super::{Args, is_empty, is_true, number_of, scalar};

/// The first value that is not empty (`default` with two values, `coalesce` with any number).
///
/// `{{default rating 0}}` gives `4`
/// `{{default smart_action_text 'none'}}` gives `"none"`
/// `{{coalesce smart_action_text feedback 'none'}}` gives `"Quick & kind"`
pub(super) fn coalesce(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.values.iter().find(|v| !is_empty(v)).map_or(Value::Null, |v| (*v).clone()))
}

/// A word for a word: by name, or in pairs if a word is no name. Nothing if no pair fits and there is no `default`.
///
/// `{{map status finished='solved' failed='open' default='pending'}}` gives `"solved"`
/// `{{map rating 1 'bad' 4 'good'}}` gives `"good"`
/// `{{map session_type_label 'Voice Inbound (IVR)' 12}}` gives `12`
/// `{{map lang de='Deutsch' default='other'}}` gives `"other"`
/// `{{map lang de='Deutsch'}}` gives `null`
pub(super) fn map(args: &Args<'_>) -> Result<Value, String> {
    let pairs = args.values.get(1..).unwrap_or(&[]).chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err("the last word has nothing to stand for: words are given in pairs".to_owned());
    }
    if let Some(word) = args.text(0)? {
        for pair in pairs {
            if let [from, to] = pair
                && scalar(from)?.as_deref() == Some(&word)
            {
                return Ok((*to).clone());
            }
        }
        if let Some(to) = args.named(&word).filter(|_| word != "default") {
            return Ok(to.clone());
        }
    }
    Ok(args.named("default").cloned().unwrap_or(Value::Null))
}

/// A number from a text; nothing if it is none.
///
/// `{{number id}}` gives `48213`
/// `{{number '4.50'}}` gives `4.5`
/// `{{number feedback}}` gives `null`
pub(super) fn number(args: &Args<'_>) -> Result<Value, String> {
    let value = args.get(0);
    if value.is_number() {
        return Ok(value.clone());
    }
    if let Some(whole) = args.text(0)?.and_then(|t| t.trim().parse::<i64>().ok()) {
        return Ok(whole.into());
    }
    Ok(number_of(value).and_then(Number::from_f64).map_or(Value::Null, Value::Number))
}

/// A value as text.
///
/// `{{string rating}}` gives `"4"`
/// `{{string verified}}` gives `"true"`
pub(super) fn string(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.text(0)?.map_or(Value::Null, Value::String))
}

/// One of two words for true and false; nothing if it is not known.
///
/// `{{bool_word verified 'yes' 'no'}}` gives `"yes"`
/// `{{bool_word smart_action_text 'yes' 'no'}}` gives `null`
pub(super) fn bool_word(args: &Args<'_>) -> Result<Value, String> {
    match args.get(0) {
        Value::Null => Ok(Value::Null),
        value => Ok(args.get(if is_true(value) { 1 } else { 2 }).clone()),
    }
}

/// The value as it is, and sent even if it is empty: clears the CRM's field.
///
/// `{{keep_empty smart_action_text}}` gives `null`
/// `{{keep_empty ''}}` gives `""`
pub(super) fn keep_empty(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.get(0).clone())
}

/// A value as compact JSON.
///
/// `{{json raw.tags}}` gives `"[\"a\",\"b\"]"`
pub(super) fn json(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.get(0).to_string().into())
}

/// A value as JSON on several lines.
///
/// `{{json_pretty raw.tags}}` gives `"[\n  \"a\",\n  \"b\"\n]"`
pub(super) fn json_pretty(args: &Args<'_>) -> Result<Value, String> {
    serde_json::to_string_pretty(args.get(0)).map(Value::String).map_err(|e| e.to_string())
}

/// A member whose name, or an item whose place, is itself a value.
///
/// `{{lookup raw 'virtual_queue'}}` gives `{"name":"Q1"}`
/// `{{lookup raw.tags 1}}` gives `"b"`
pub(super) fn lookup(args: &Args<'_>) -> Result<Value, String> {
    let found = match args.get(0) {
        Value::Object(members) => args.text(1)?.and_then(|name| members.get(&name)),
        Value::Array(items) => number_of(args.get(1)).filter(|n| *n >= 0.0).and_then(|n| items.get(n as usize)),
        _ => None,
    };
    Ok(found.cloned().unwrap_or(Value::Null))
}
