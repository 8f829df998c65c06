//! Conditions for `{{#if (…)}}` and `$if`.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Args, is_true, number_of, scalar};
use crate::session::Time;

/// The same value; a number and its digits are the same.
///
/// `{{eq channel 'voice'}}` gives `true`
/// `{{eq id 48213}}` gives `true`
/// `{{eq smart_action_text null}}` gives `true`
pub(super) fn eq(args: &Args<'_>) -> Result<Value, String> {
    Ok(same(args.get(0), args.get(1)).into())
}

/// Not the same value.
///
/// `{{ne channel 'chat'}}` gives `true`
pub(super) fn ne(args: &Args<'_>) -> Result<Value, String> {
    Ok((!same(args.get(0), args.get(1))).into())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x.as_f64() == y.as_f64(),
        (Value::Number(_), Value::String(_)) | (Value::String(_), Value::Number(_)) => scalar(a) == scalar(b),
        _ => a == b,
    }
}

/// Numbers as numbers, times as instants, other texts by their letters; none if one of the two is missing.
fn order(args: &Args<'_>) -> Option<Ordering> {
    let (a, b) = (args.get(0), args.get(1));
    if let (Some(a), Some(b)) = (number_of(a), number_of(b)) {
        return a.partial_cmp(&b);
    }
    let (Value::String(a), Value::String(b)) = (a, b) else { return None };
    match (Time::parse(a), Time::parse(b)) {
        (Some(a), Some(b)) => Some(a.instant.cmp(&b.instant)),
        _ => Some(a.cmp(b)),
    }
}

/// Greater, later.
///
/// `{{gt rating 3}}` gives `true`
/// `{{gt ends_at created_at}}` gives `true`
/// `{{gt smart_action_text 3}}` gives `false`
pub(super) fn gt(args: &Args<'_>) -> Result<Value, String> {
    Ok((order(args) == Some(Ordering::Greater)).into())
}

/// Greater or equal.
///
/// `{{gte rating 4}}` gives `true`
pub(super) fn gte(args: &Args<'_>) -> Result<Value, String> {
    Ok(order(args).is_some_and(Ordering::is_ge).into())
}

/// Less, earlier.
///
/// `{{lt rating 3}}` gives `false`
pub(super) fn lt(args: &Args<'_>) -> Result<Value, String> {
    Ok((order(args) == Some(Ordering::Less)).into())
}

/// Less or equal.
///
/// `{{lte rating 4}}` gives `true`
pub(super) fn lte(args: &Args<'_>) -> Result<Value, String> {
    Ok(order(args).is_some_and(Ordering::is_le).into())
}

/// True if all values are neither empty nor false nor 0.
///
/// `{{and recording_url (eq recording_permission 'granted')}}` gives `true`
pub(super) fn and(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.values.iter().all(|v| is_true(v)).into())
}

/// True if one of the values is neither empty nor false nor 0.
///
/// `{{or photos videos}}` gives `false`
pub(super) fn or(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.values.iter().any(|v| is_true(v)).into())
}

/// True for what is empty, false or 0.
///
/// `{{not photos}}` gives `true`
pub(super) fn not(args: &Args<'_>) -> Result<Value, String> {
    Ok((!is_true(args.get(0))).into())
}

/// True if a list has the item, or a text the part.
///
/// `{{contains (pick dispositions 'code') 'Resolved'}}` gives `true`
/// `{{contains menu_path 'Bill'}}` gives `true`
/// `{{contains feedback 'slow'}}` gives `false`
pub(super) fn contains(args: &Args<'_>) -> Result<Value, String> {
    let found = match args.get(0) {
        Value::Array(items) => items.iter().any(|item| same(item, args.get(1))),
        Value::Null => false,
        _ => args.text(0)?.unwrap_or_default().contains(&args.word(1, "the part to look for")?),
    };
    Ok(found.into())
}
