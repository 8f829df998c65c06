//! The unguessable address of a source, `inbox+TOKEN@acme.example` (RFC 5233 subaddress), for senders who
//! can't sign. The envelope counts if the source knows it; else the fields that a delivery writes, and `To`.

use crate::message::{Message, fields};

/// Fields in which mail hosts keep the address that they delivered to.
const DELIVERED: [&str; 4] = ["Delivered-To", "X-Original-To", "Envelope-To", "X-Delivered-To"];
/// Addresses that are looked at.
const ADDRESSES: usize = 200;

/// Whether one of the addresses holds the token, in a time that does not tell how much of a guess was right.
/// `None`: none of them holds anything behind a `+`. Case does not count: hosts change it.
pub fn is_in(message: &Message<'_>, recipients: &[String], token: &str) -> Option<bool> {
    let mut delivered = Vec::new();
    if recipients.is_empty() {
        for name in DELIVERED {
            for field in message.fields_named(name).take(ADDRESSES) {
                fields::addresses(&field.value, &mut delivered);
            }
        }
    }
    let own = if recipients.is_empty() { message.to.as_slice() } else { &[] };
    let all = recipients.iter().chain(&delivered).chain(own).take(ADDRESSES);
    let mut seen = None;
    for guess in all.filter_map(|address| guess(address)) {
        let is_it = same(guess.as_bytes(), token.as_bytes());
        seen = Some(seen.unwrap_or(false) | is_it);
    }
    seen
}

/// What stands between the first `+` and the `@`.
fn guess(address: &str) -> Option<&str> {
    let (local, _) = address.trim().trim_matches(['<', '>']).rsplit_once('@')?;
    local.split_once('+').map(|(_, detail)| detail).filter(|detail| !detail.is_empty())
}

fn same(guess: &[u8], token: &[u8]) -> bool {
    if guess.len() != token.len() || token.is_empty() {
        return false;
    }
    let differing = guess
        .iter()
        .zip(token)
        .fold(0, |all, (a, b)| std::hint::black_box(all | (a.to_ascii_lowercase() ^ b.to_ascii_lowercase())));
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Limits, parse::parse};

    const TOKEN: &str = "k7Qm2vX9pLr4TzN8";

    fn found(head: &str, recipients: &[&str]) -> Option<bool> {
        let raw = format!("{head}\r\n\r\nbody");
        let recipients: Vec<String> = recipients.iter().map(|r| (*r).to_owned()).collect();
        is_in(&parse(raw.as_bytes(), &Limits::default()), &recipients, TOKEN)
    }

    #[test]
    fn the_envelope_goes_before_the_head() {
        let to = format!("To: Sessions <inbox+{TOKEN}@acme.example>");
        assert_eq!(found(&to, &[]), Some(true));
        assert_eq!(found(&to, &["inbox@acme.example"]), None);
        assert_eq!(found("To: x@y.example", &["inbox+k7qm2vx9plr4tzn8@acme.example"]), Some(true));
        let delivered = format!("Delivered-To: inbox+{TOKEN}@acme.example\r\nTo: inbox+wrong@acme.example");
        assert_eq!(found(&delivered, &[]), Some(true));
    }

    #[test]
    fn a_wrong_token_is_told_from_none() {
        assert_eq!(found("To: inbox+k7Qm2vX9pLr4TzN9@acme.example", &[]), Some(false));
        assert_eq!(found("To: inbox+k7Qm@acme.example", &[]), Some(false));
        assert_eq!(found("To: inbox@acme.example", &[]), None);
        assert_eq!(found("To: inbox+@acme.example", &[]), None);
    }
}
