//! Moments in a named zone (IANA, strftime formats as in jiff) and durations in the forms that CRMs take.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Args, number_of};
use crate::session::Time;

fn moment(args: &Args<'_>) -> Result<Option<Time>, String> {
    match args.text(0)? {
        Some(text) if !text.trim().is_empty() => {
            Time::parse(&text).map(Some).ok_or_else(|| "the value is no date-time".to_owned())
        }
        _ => Ok(None),
    }
}

fn zone(args: &Args<'_>) -> Result<TimeZone, String> {
    match args.named("tz") {
        None => Ok(TimeZone::UTC),
        Some(Value::String(name)) if name.trim().is_empty() || name == "UTC" => Ok(TimeZone::UTC),
        Some(Value::String(name)) => TimeZone::get(name).map_err(|_| NO_ZONE.to_owned()),
        Some(_) => Err(NO_ZONE.to_owned()),
    }
}

const NO_ZONE: &str = "`tz` is no time zone: the names are those of the IANA database, such as `America/Chicago`";

/// A zone that is written in a template.
pub(super) fn check_zone(value: &Value) -> Result<(), String> {
    let named = [("tz", value)];
    zone(&Args { values: &[], named: &named }).map(drop)
}

/// A format that is written in a template.
pub(super) fn check_format(value: &Value) -> Result<(), String> {
    let Value::String(format) = value else { return Err("the format is no text, such as `'%Y-%m-%d'`".to_owned()) };
    let zoned = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    strtime::format(format, &zoned).map(drop).map_err(|e| format!("the format can't be used: {e}"))
}

/// A moment in a format, in UTC or the zone `tz`.
///
/// `{{date ends_at '%d.%m.%Y %H:%M'}}` gives `"17.02.2026 16:11"`
/// `{{date ends_at '%b %-d, %-I:%M %p' tz='America/Chicago'}}` gives `"Feb 17, 10:11 AM"`
/// `{{date ends_at '%F' tz=settings.time_zone}}` gives `"2026-02-17"`
/// `{{date scheduled_at '%F'}}` gives `null`
pub(super) fn date(args: &Args<'_>) -> Result<Value, String> {
    let Some(time) = moment(args)? else { return Ok(Value::Null) };
    let format = args.word(1, "the format")?;
    let zoned = time.instant.to_zoned(zone(args)?);
    strtime::format(&format, &zoned).map(Value::String).map_err(|e| format!("the format can't be used: {e}"))
}

/// A moment as RFC 3339, in UTC or the zone `tz`.
///
/// `{{iso ends_at}}` gives `"2026-02-17T16:11:31Z"`
/// `{{iso ends_at tz='Europe/Berlin'}}` gives `"2026-02-17T17:11:31+01:00"`
pub(super) fn iso(args: &Args<'_>) -> Result<Value, String> {
    let Some(time) = moment(args)? else { return Ok(Value::Null) };
    let offset = zone(args)?.to_offset(time.instant);
    Ok(Time { instant: time.instant, offset }.to_string().into())
}

/// Seconds since 1970.
///
/// `{{epoch ends_at}}` gives `1771344691`
pub(super) fn epoch(args: &Args<'_>) -> Result<Value, String> {
    Ok(moment(args)?.map_or(Value::Null, |t| t.instant.as_second().into()))
}

/// Milliseconds since 1970.
///
/// `{{epoch_ms ends_at}}` gives `1771344691000`
pub(super) fn epoch_ms(args: &Args<'_>) -> Result<Value, String> {
    Ok(moment(args)?.map_or(Value::Null, |t| t.instant.as_millisecond().into()))
}

fn duration(args: &Args<'_>) -> Result<Option<i64>, String> {
    match args.get(0) {
        Value::Null => Ok(None),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        value => match number_of(value) {
            // Past a hundred years it is no duration, and sums of it could overflow.
            Some(n) if (0.0..=4e9).contains(&n) => Ok(Some(n.round() as i64)),
            _ => Err("the value is no number of seconds".to_owned()),
        },
    }
}

/// A duration in whole seconds.
///
/// `{{seconds handle_duration}}` gives `186`
/// `{{seconds '12.6'}}` gives `13`
pub(super) fn seconds(args: &Args<'_>) -> Result<Value, String> {
    Ok(duration(args)?.map_or(Value::Null, Value::from))
}

/// A duration in minutes, rounded up.
///
/// `{{minutes handle_duration}}` gives `4`
/// `{{minutes hold_duration}}` gives `0`
pub(super) fn minutes(args: &Args<'_>) -> Result<Value, String> {
    Ok(duration(args)?.map_or(Value::Null, |s| Value::from((s + 59) / 60)))
}

/// A duration for people: hours, minutes, seconds.
///
/// `{{hms handle_duration}}` gives `"0:03:06"`
/// `{{hms 36610}}` gives `"10:10:10"`
pub(super) fn hms(args: &Args<'_>) -> Result<Value, String> {
    let Some(s) = duration(args)? else { return Ok(Value::Null) };
    Ok(format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60).into())
}

/// A duration as hours and minutes, minutes rounded up.
///
/// `{{hhmm handle_duration}}` gives `"00:04"`
/// `{{hhmm 3601}}` gives `"01:01"`
pub(super) fn hhmm(args: &Args<'_>) -> Result<Value, String> {
    let Some(s) = duration(args)? else { return Ok(Value::Null) };
    let minutes = (s + 59) / 60;
    Ok(format!("{:02}:{:02}", minutes / 60, minutes % 60).into())
}
