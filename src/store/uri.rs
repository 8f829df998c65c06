//! Percent-encoding (RFC 3986 section 2.1) as the stores' signatures need it: all but the unreserved characters.

use std::fmt::Write as _;

/// Text as one part of a path or query.
pub(super) fn encode(text: &str) -> String {
    encoded(text, false)
}

/// Text as a path, whose slashes stay.
pub(super) fn encode_path(text: &str) -> String {
    encoded(text, true)
}

fn encoded(text: &str, keeps_slash: bool) -> String {
    text.bytes().fold(String::with_capacity(text.len() + 8), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keeps_slash && byte == b'/' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The text that was encoded; nothing if it is none.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let (digits, behind) = behind.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(out).ok()
}

/// Pairs as a query, in the order of their names, which signatures want.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut encoded: Vec<_> = pairs.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    encoded.sort_unstable();
    let parts: Vec<String> = encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_whole_and_come_back() {
        let name = "metadata/{{date}} Jürgen+☎%.json";
        assert_eq!(encode_path(name), "metadata/%7B%7Bdate%7D%7D%20J%C3%BCrgen%2B%E2%98%8E%25.json");
        assert_eq!(encode("a/b"), "a%2Fb");
        assert_eq!(decode(&encode(name)).as_deref(), Some(name));
        for wrong in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        assert_eq!(query(&[("prefix", "a b"), ("list-type", "2")]), "list-type=2&prefix=a%20b");
    }
}
