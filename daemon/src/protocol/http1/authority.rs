//! The authority, `host [":" port]` (RFC 3986 3.2), as it stands in `Host` and in absolute targets.

use std::net::Ipv6Addr;

/// A checked authority, which says whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'b> {
    /// The whole authority as sent.
    pub text: &'b [u8],
    /// The name or address as sent, an IPv6 address in its brackets; never empty.
    pub host: &'b [u8],
    /// The port, if the authority has one.
    pub port: Option<u16>,
}

impl<'b> Authority<'b> {
    /// Reads a host with an optional port; `None` where the text isn't one. User information is refused: RFC 9110
    /// 4.2.4 has it treated as an error, because it hides which host is meant. An empty host is refused too: no
    /// http URL has one (RFC 9110 4.2.1), so that no client has one to name.
    #[must_use]
    pub fn parse(text: &'b [u8]) -> Option<Authority<'b>> {
        let (host, port) = split(text);
        let host_fits = match host {
            [b'[', inner @ .., b']'] => is_address(inner),
            name => !name.is_empty() && is_name(name),
        };
        if !host_fits {
            return None;
        }
        match port {
            None | Some([]) => Some(Authority { text, host, port: None }),
            Some(port) => Some(Authority { text, host, port: Some(parse_port(port)?) }),
        }
    }
}

/// Splits off the host, with its brackets if it is an IPv6 address, from the text behind the colon.
fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let host_end = if authority.starts_with(b"[") {
        memchr::memchr(b']', authority).map_or(authority.len(), |bracket| bracket + 1)
    } else {
        memchr::memchr(b':', authority).unwrap_or(authority.len())
    };
    match authority.split_at(host_end) {
        (host, []) => (host, None),
        (host, [b':', port @ ..]) => (host, Some(port)),
        // The text after the bracket is no port, and the whole fits no host.
        _ => (authority, None),
    }
}

/// Whether the text is an IPv6 address. The `IPvFuture` forms of RFC 3986 have never been given out.
fn is_address(inner: &[u8]) -> bool {
    std::str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Whether the text is made of `unreserved`, `sub-delims` and whole escapes (RFC 3986 2).
fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', first, second, rest @ ..] if first.is_ascii_hexdigit() && second.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if NAME_BYTES[usize::from(*byte)] => rest,
            _ => return false,
        }
    }
}

/// For each byte whether a name may hold it unescaped. It is a table, since every request has a name.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Parses decimal digits alone: `parse` would take a sign.
fn parse_port(port: &[u8]) -> Option<u16> {
    port.iter().try_fold(0_u16, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports() {
        for (text, host, port) in [
            ("a", "a", None),
            ("a.example:8080", "a.example", Some(8080)),
            ("a_b:", "a_b", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]", "[::1]", None),
            ("[::ffff:192.0.2.1]:80", "[::ffff:192.0.2.1]", Some(80)),
            ("%41", "%41", None),
            ("x-y~:00080", "x-y~", Some(80)),
        ] {
            let expected = Authority { text: text.as_bytes(), host: host.as_bytes(), port };
            assert_eq!(Authority::parse(text.as_bytes()), Some(expected), "{text:?}");
        }
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "user@a",
            "a:80:90",
            "a:x",
            "a:-1",
            "a:+1",
            "a:65536",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:x",
            "a\\b",
            "\"a\"",
            "<a>",
            "a\tb",
            "ä",
            "[a/b]",
            "a]",
            "[[::1]]",
            "[zzz]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "a%zz",
            "a%4",
            "a%",
            "%",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
