//! Absolute addresses (RFC 3986) from a base, a rendered path and a query: a value can't leave the base's
//! origin or path, and can't add a parameter.

/// Percent-encodes all but the unreserved characters.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            escape(byte, &mut out);
        }
    }
    out
}

/// `application/x-www-form-urlencoded`: like `encode`, with `+` for a blank.
pub(super) fn form(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v)).replace("%20", "+")).collect();
    pairs.join("&")
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        out.push(char::from(DIGITS.get(nibble as usize).copied().unwrap_or(b'0')));
    }
}

/// A base address as settings give it: `http` or `https`, a host, perhaps a path; no query, no credentials.
/// A slash at its end is dropped. The error is a sentence that completes "… ".
pub(super) fn base(text: &str) -> Result<String, &'static str> {
    let text = text.trim().trim_end_matches('/');
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        return Err("must begin with `https://` or `http://`");
    };
    let host = rest.split('/').next().unwrap_or("");
    if host.contains('@') {
        return Err("must not hold a user or a password");
    }
    if host.is_empty() || host.starts_with(':') {
        return Err("has no host");
    }
    if let Some((_, port)) = host.rsplit_once(':').filter(|(_, p)| !p.ends_with(']'))
        && !port.parse::<u16>().is_ok_and(|p| p > 0)
    {
        return Err("has no proper port");
    }
    if text.contains(['?', '#']) {
        return Err("must not hold a query");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || "\\<>\"{}|^`".contains(c)) {
        return Err("holds a character that has no place in an address");
    }
    if rest.split('/').any(dots) {
        return Err("must not hold `..`");
    }
    Ok(text.to_owned())
}

fn dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// Base, path and query as one address. `None` if the path climbs (`..`) or holds what ends a request line.
pub(super) fn join(base: &str, path: &str, query: &[(String, String)]) -> Option<String> {
    let (path, own_query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    if path.split('/').any(dots) || path.contains(['\\', '#']) {
        return None;
    }
    let mut url = base.to_owned();
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    push(path, &mut url)?;
    let mut separator = '?';
    if let Some(own) = own_query.filter(|q| !q.is_empty()) {
        url.push(separator);
        push(own, &mut url)?;
        separator = '&';
    }
    for (name, value) in query {
        url.push(separator);
        url.push_str(&encode(name));
        url.push('=');
        url.push_str(&encode(value));
        separator = '&';
    }
    Some(url)
}

/// The address with one parameter of its query set, in place of one that is there.
pub(super) fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let name = encode(name);
    let others = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(name.as_str()));
    let mut all: Vec<String> = others.map(str::to_owned).collect();
    all.push(format!("{name}={}", encode(value)));
    format!("{path}?{}", all.join("&"))
}

/// An address or a part of one that an answer gave, as an address with the same scheme and host as `url`; none if it
/// is elsewhere.
pub(super) fn beside(url: &str, given: &str) -> Option<String> {
    let end = url.find("://")? + 3;
    let end = url.get(end..)?.find(['/', '?']).map_or(url.len(), |i| end + i);
    let origin = url.get(..end)?;
    let rest = match given.strip_prefix(origin) {
        Some(rest) => rest,
        None if given.starts_with('/') && !given.starts_with("//") => given,
        None if given.starts_with('?') => return join(url.split('?').next()?, given, &[]),
        None => return None,
    };
    if !rest.is_empty() && !rest.starts_with(['/', '?']) {
        return None;
    }
    join(origin, rest, &[])
}

/// Literal parts of a template may hold blanks and letters of any script; a line end is a fault.
fn push(text: &str, url: &mut String) -> Option<()> {
    for byte in text.bytes() {
        match byte {
            0..=31 | 127 | b'#' => return None,
            b' ' | b'"' | b'<' | b'>' | b'{' | b'}' | b'|' | b'^' | b'`' | 128.. => escape(byte, url),
            _ => url.push(char::from(byte)),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_its_base() {
        let join = |path: &str| join("https://crm.example/api", path, &[("q".into(), "a&b=c d".into())]);
        assert_eq!(join("/t/1").as_deref(), Some("https://crm.example/api/t/1?q=a%26b%3Dc%20d"));
        assert_eq!(join("t?x=1").as_deref(), Some("https://crm.example/api/t?x=1&q=a%26b%3Dc%20d"));
        assert_eq!(join("/t/é").as_deref(), Some("https://crm.example/api/t/%C3%A9?q=a%26b%3Dc%20d"));
        for bad in ["/t/../admin", "/t/%2e%2E/admin", "/t\r\nX: y", "/t#x", "/a\\b"] {
            assert_eq!(join(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_base_is_an_origin_with_a_path() {
        assert_eq!(base("https://crm.example/rt/").as_deref(), Ok("https://crm.example/rt"));
        assert_eq!(base("http://[::1]:8025").as_deref(), Ok("http://[::1]:8025"));
        for bad in [
            "crm.example",
            "ftp://x",
            "https://",
            "https://u:p@h",
            "https://h?x",
            "https://h/..",
            "https://h:x",
            "https://h h",
        ] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_form_is_encoded_as_browsers_do() {
        assert_eq!(form(&[("a b".into(), "ü&=".into())]), "a+b=%C3%BC%26%3D");
    }
}
