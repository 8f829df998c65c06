//! Lists: of one member, as one text, and the operator's field map in the two forms that CRMs take.

use serde_json::{Map, Value};

use super::{Args, is_empty, scalar};

/// The items as one text, with `, ` or the given text between them; empty ones are left out.
///
/// `{{join raw.tags '; '}}` gives `"a; b"`
/// `{{join (pick dispositions 'code')}}` gives `"Billing, Resolved"`
/// `{{join photos}}` gives `null`
pub(super) fn join(args: &Args<'_>) -> Result<Value, String> {
    let between = if args.values.len() > 1 { args.text(1)?.unwrap_or_default() } else { ", ".to_owned() };
    let mut texts = Vec::new();
    for item in args.list(0)?.iter().filter(|i| !is_empty(i)) {
        let text =
            scalar(item).map_err(|_| "the items are no texts: use `pick` first, such as `(pick agents 'name')`")?;
        texts.extend(text);
    }
    Ok(if texts.is_empty() { Value::Null } else { texts.join(&between).into() })
}

/// One member of every item (`'agent.name'` for one inside another); empty ones are left out.
///
/// `{{pick dispositions 'code'}}` gives `["Billing","Resolved"]`
/// `{{pick dispositions 'agent.name'}}` gives `["Ada Lovelace","Ada Lovelace"]`
pub(super) fn pick(args: &Args<'_>) -> Result<Value, String> {
    let path = args.word(1, "the member's name")?;
    let member = |item: &Value| path.split('.').try_fold(item, |value, name| value.get(name)).cloned();
    Ok(args.list(0)?.iter().filter_map(member).filter(|v| !is_empty(v)).collect())
}

/// Every item once, in the order of their first places.
///
/// `{{unique (pick dispositions 'agent.name')}}` gives `["Ada Lovelace"]`
pub(super) fn unique(args: &Args<'_>) -> Result<Value, String> {
    let mut seen = std::collections::HashSet::new();
    Ok(args.list(0)?.iter().filter(|item| seen.insert(item.to_string())).cloned().collect())
}

/// The first item.
///
/// `{{first (pick dispositions 'code')}}` gives `"Billing"`
pub(super) fn first(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.list(0)?.first().cloned().unwrap_or(Value::Null))
}

/// The last item.
///
/// `{{last (pick dispositions 'code')}}` gives `"Resolved"`
pub(super) fn last(args: &Args<'_>) -> Result<Value, String> {
    Ok(args.list(0)?.last().cloned().unwrap_or(Value::Null))
}

/// How many items or members; characters of a text; 0 for nothing.
///
/// `{{count dispositions}}` gives `2`
/// `{{count photos}}` gives `0`
/// `{{count id}}` gives `5`
pub(super) fn count(args: &Args<'_>) -> Result<Value, String> {
    let count = match args.get(0) {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        value => scalar(value)?.map_or(0, |text| text.chars().count()),
    };
    Ok(count.into())
}

/// A field map as an object: CRM field → value. `nested='.'` makes objects of `a.b`; `strings=';'` makes every value
/// a text, with `;` between the items of a list.
///
/// `{{field_map fields}}` gives `{"360":4,"cf_f":"kind"}`
/// `{{field_map fields strings=';'}}` gives `{"360":"4","cf_f":"kind"}`
/// `{{field_map fields nested='_'}}` gives `{"360":4,"cf":{"f":"kind"}}`
pub(super) fn field_map(args: &Args<'_>) -> Result<Value, String> {
    let between = args.named("nested").and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut map = Map::new();
    for item in args.list(0)? {
        let (field, value) = field(item)?;
        if is_empty(value) {
            continue;
        }
        let (name, value) = (scalar(field)?.unwrap_or_default(), written(args, value)?);
        let mut parts: Vec<&str> = between.map_or_else(|| vec![name.as_str()], |between| name.split(between).collect());
        let last = parts.pop().unwrap_or_default();
        let mut place = &mut map;
        for part in parts {
            let member = place.entry(part).or_insert_with(|| Value::Object(Map::new()));
            place = member.as_object_mut().ok_or("one field of the map is inside another")?;
        }
        place.insert(last.to_owned(), value);
    }
    Ok(Value::Object(map))
}

/// A field map as a list of pairs, with the names that the CRM wants for the two; integer ids stay integers;
/// `strings` as in `field_map`.
///
/// `{{field_pairs fields 'id' 'value'}}` gives `[{"id":360,"value":4},{"id":"cf_f","value":"kind"}]`
pub(super) fn field_pairs(args: &Args<'_>) -> Result<Value, String> {
    let (id, name) = (args.word(1, "the name of the field's key")?, args.word(2, "the name of the value's key")?);
    let mut pairs = Vec::new();
    for item in args.list(0)? {
        let (field, value) = field(item)?;
        if !is_empty(value) {
            let value = written(args, value)?;
            pairs.push(Value::Object(Map::from_iter([(id.clone(), field.clone()), (name.clone(), value)])));
        }
    }
    Ok(Value::Array(pairs))
}

/// The value, as text if `strings` says so.
fn written(args: &Args<'_>, value: &Value) -> Result<Value, String> {
    let Some(between) = args.named("strings") else { return Ok(value.clone()) };
    let between = between.as_str().unwrap_or(";");
    match value {
        Value::Array(items) => {
            let texts = items.iter().filter(|item| !is_empty(item)).map(scalar);
            Ok(texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect::<Vec<_>>().join(between).into())
        }
        value => Ok(scalar(value)?.map_or(Value::Null, Value::from)),
    }
}

fn field(item: &Value) -> Result<(&Value, &Value), String> {
    match (item.get("field"), item.get("value")) {
        (Some(field), Some(value)) => Ok((field, value)),
        _ => Err("the value is no field map: use `fields`".to_owned()),
    }
}
