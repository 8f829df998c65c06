//! Names of mailboxes as they go over the wire: modified UTF-7 (RFC 3501 section 5.1.3), quoted.
//! The operator writes plain Unicode; nothing in a name can end the quoted string.

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

#[cfg(test)]
mod tests {
    use super::quoted;

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
}
