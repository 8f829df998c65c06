//! Names of mailboxes as they go over the wire and come from it: modified UTF-7 (RFC 3501 section 5.1.3), quoted.
//! The operator writes and reads plain Unicode; nothing in a name can end the quoted string.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

const MODIFIED: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// A name as a quoted string in modified UTF-7.
pub(super) fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    let mut shifted: Vec<u8> = Vec::new();
    out.push('"');
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            unshift(&mut shifted, &mut out);
            match c {
                '&' => out.push_str("&-"),
                '"' | '\\' => out.extend(['\\', c]),
                c => out.push(c),
            }
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                shifted.extend(unit.to_be_bytes());
            }
        }
    }
    unshift(&mut shifted, &mut out);
    out.push('"');
    out
}

fn unshift(shifted: &mut Vec<u8>, out: &mut String) {
    if !shifted.is_empty() {
        out.push('&');
        MODIFIED.encode_string(&*shifted, out);
        out.push('-');
        shifted.clear();
    }
}

/// A name as the client library gives it, which leaves the escapes of a quoted string in. `None`: it is not what
/// RFC 3501 allows, and to write it back would name another mailbox.
pub(super) fn plain(wire: &str) -> Option<String> {
    let mut name = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((before, shifted)) = rest.split_once('&') {
        name.push_str(before);
        let (encoded, after) = shifted.split_once('-')?;
        if encoded.is_empty() {
            name.push('&');
        } else {
            let bytes = MODIFIED.decode(encoded).ok()?;
            let units: Vec<u16> =
                bytes.chunks(2).map(|pair| pair.iter().fold(0, |n, b| n << 8 | u16::from(*b))).collect();
            name.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = after;
    }
    name.push_str(rest);
    let name = name.replace("\\\"", "\"").replace("\\\\", "\\");
    let again = quoted(&name);
    (again.strip_prefix('"')?.strip_suffix('"')? == wire).then_some(name)
}

/// Whether two names are of one mailbox: `INBOX` is in any case (RFC 3501 section 5.1).
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b || (a.eq_ignore_ascii_case("INBOX") && b.eq_ignore_ascii_case("INBOX"))
}

#[cfg(test)]
mod tests {
    use super::{plain, quoted, same};

    #[test]
    fn names_follow_the_examples_of_the_rfc() {
        assert_eq!(quoted("~peter/mail/台北/日本語"), "\"~peter/mail/&U,BTFw-/&ZeVnLIqe-\"");
        assert_eq!(quoted("Tom & Jerry"), "\"Tom &- Jerry\"");
        assert_eq!(quoted("Gelöscht"), "\"Gel&APY-scht\"");
        assert_eq!(quoted("📬"), "\"&2D3c7A-\"");
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
        assert_eq!(quoted("a\r\nb"), "\"a&AA0ACg-b\"");
    }

    #[test]
    fn a_name_comes_back_as_it_was_written_or_not_at_all() {
        for name in ["~peter/mail/台北/日本語", "Tom & Jerry", "Gelöscht", "📬", "a\"b\\c", "INBOX", ""] {
            let wire = quoted(name);
            assert_eq!(plain(&wire[1..wire.len() - 1]).as_deref(), Some(name));
        }
        // Shifted without need, cut off, half a unit, half a pair, not encoded at all.
        for wrong in ["&AGE-", "a&AOQ", "&AA-", "&2D0-", "Gelöscht", "&&"] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
        assert!(same("Inbox", "INBOX") && !same("a", "A"));
    }
}
