//! The DMARC record of the author's domain (RFC 9989, found by its tree walk) → whether a pass of a domain
//! above or below it may count: `adkim=s` and `aspf=s` want the very domain of `From`.
//!
//! Asked for only if a verdict hangs on it. Its policy (`p=`) is not: it is about mail that nobody vouches
//! for, which never has an effect here. A domain that the operator names as an author needs no alignment.

use std::collections::HashMap;

use tokio::time::timeout_at;

use super::dns::Missing;
use super::key::{Asking, tags};
use crate::message::authenticity::policy::Trusted;
use crate::message::authenticity::{Authenticity, TrustPolicy, Word, related};

/// Labels of the second name that is asked about, so that there are eight questions at most (section 4.10).
const LABELS: usize = 7;

/// Takes back each pass that the author's own domain does not want to count, and makes it temporary where
/// DNS does not say.
pub(super) async fn hold(found: &mut Authenticity, policy: &TrustPolicy, asking: &Asking<'_>) {
    let Some(author) = found.author.clone() else { return };
    let named =
        |names: fn(&Trusted, &str) -> bool| matches!(policy, TrustPolicy::Named(trusted) if names(trusted, &author));
    let (by_dkim, by_spf) = (named(Trusted::names_dkim), named(Trusted::names_spf));
    let dkim = found.dkim.iter_mut().filter(|_| !by_dkim).map(|checked| (checked, "adkim"));
    let spf = found.spf.iter_mut().filter(|_| !by_spf).map(|checked| (checked, "aspf"));
    let relaxed: Vec<_> = dkim
        .chain(spf)
        .filter(|(c, _)| c.result == Word::Pass && c.domain != author && related(&author, &c.domain))
        .collect();
    if relaxed.is_empty() {
        return;
    }
    let record = record(&author, asking).await;
    for (checked, tag) in relaxed {
        match &record {
            Ok(record) if record.get(tag).is_some_and(|form| form.eq_ignore_ascii_case("s")) => {
                checked.result = Word::Policy;
                checked.why = format!("the DMARC record of {author} wants the very domain of `From` (`{tag}=s`)");
            }
            Ok(_) => {}
            Err(why) => {
                checked.result = Word::TempError;
                checked.why = format!("the DMARC record of {author}: {why}");
            }
        }
    }
}

/// The tags of the record that applies to an author's domain, its own or that of its organisational domain;
/// none if there is no record.
async fn record(author: &str, asking: &Asking<'_>) -> Result<HashMap<String, String>, String> {
    let labels: Vec<&str> = author.split('.').collect();
    let mut found = HashMap::new();
    for start in std::iter::once(0).chain(labels.len().saturating_sub(LABELS).max(1)..labels.len()) {
        let name = format!("_dmarc.{}.", labels.get(start..).unwrap_or_default().join("."));
        let texts = match timeout_at(asking.deadline, asking.dns.txt(&name)).await {
            Ok(Ok(texts)) => texts,
            Ok(Err(Missing::NotThere)) => continue,
            Ok(Err(Missing::NoAnswer(why))) => return Err(why),
            Err(_) => return Err("DNS did not answer in time".to_owned()),
        };
        let mut records: Vec<_> = texts
            .iter()
            .filter(|text| text.trim_ascii_start().starts_with(b"v"))
            .filter_map(|text| tags(text))
            .filter(|tags| tags.get("v").is_some_and(|v| v == "DMARC1"))
            .collect();
        // Several records at one name are none (section 4.10.1).
        let (Some(record), true) = (records.pop(), records.is_empty()) else { continue };
        let of_registry = match record.get("psd").map(String::as_str) {
            _ if start == 0 => return Ok(record),
            Some("n") => return Ok(record),
            other => other == Some("y"),
        };
        if of_registry {
            return Ok(if found.is_empty() { record } else { found });
        }
        found = record;
    }
    Ok(found)
}
