//! `host [":" port]` (RFC 3986 3.2) as it stands in `Host` and in absolute targets.

/// Whether `authority` is a host, perhaps empty, with an optional port. User information is refused: RFC 9110
/// 4.2.4 has it treated as an error, because it hides which host is meant.
#[must_use]
pub fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split(authority);
    let host_fits = match host {
        [b'[', inner @ .., b']'] => is_address(inner),
        name => name.iter().copied().all(is_name_byte),
    };
    host_fits && port.is_none_or(|port| port.iter().all(u8::is_ascii_digit))
}

/// Whether `authority` also names a host, as an http URL must (RFC 9110 4.2.1).
#[must_use]
pub fn names_host(authority: &[u8]) -> bool {
    is_authority(authority) && !split(authority).0.is_empty()
}

/// The host, with its brackets if it is an IPv6 address, and what follows the colon.
fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let host_end = if authority.starts_with(b"[") {
        memchr::memchr(b']', authority).map_or(authority.len(), |bracket| bracket + 1)
    } else {
        memchr::memchr(b':', authority).unwrap_or(authority.len())
    };
    match authority.split_at(host_end) {
        (host, []) => (host, None),
        (host, [b':', port @ ..]) => (host, Some(port)),
        // Something after the bracket that is no port: no host fits.
        _ => (authority, None),
    }
}

/// The characters of `IP-literal`: IPv6 addresses and the `IPvFuture` forms.
fn is_address(inner: &[u8]) -> bool {
    !inner.is_empty() && inner.iter().all(|&byte| byte == b':' || is_name_byte(byte))
}

/// `unreserved`, `sub-delims` and the `%` of escapes in RFC 3986 2.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports() {
        for text in
            ["", "a", "a.example:8080", "a_b:", ":80", "127.0.0.1:1", "[::1]", "[::1]:80", "%41", "x-y~"]
        {
            assert!(is_authority(text.as_bytes()), "{text:?}");
        }
        for text in [
            "a b", "a/b", "a?b", "a#b", "user@a", "a:80:90", "a:x", "a:-1", "[::1", "::1", "[]", "[::1]x",
            "[::1]:x", "a\\b", "\"a\"", "<a>", "a\tb", "ä", "[a/b]", "a]", "[[::1]]",
        ] {
            assert!(!is_authority(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_url_must_name_a_host() {
        assert!(names_host(b"a:80") && names_host(b"[::1]"));
        for text in ["", ":80", "user@a", "a b"] {
            assert!(!names_host(text.as_bytes()), "{text:?}");
        }
    }
}
