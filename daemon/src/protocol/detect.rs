//! Detection of a connection's protocol: two share one port, and the last of the first 8 bytes tells them apart.
//!
//! A frame begins with its size as 8 little-endian bytes, and no size above 2^56 - 1 is ever accepted
//! ([`FRAME_BYTES_LIMIT`](crate::protocol::frame::FRAME_BYTES_LIMIT)), so byte 7 of a valid header is 0. Every
//! HTTP/1.x request has a printable byte, CR or LF there. Fewer bytes would not do: a frame of 542,393,671 bytes
//! begins with `GET `.

use std::ops::RangeInclusive;

/// The number of bytes that must have come before [`detect`] can decide.
pub const PREFIX_BYTES: usize = 8;

/// The protocol of a connection, from its first byte to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Length-prefixed frames, see [`frame`](crate::protocol::frame).
    Frame,
    /// HTTP/1.x, see [`http1`](crate::protocol::http1).
    Http,
    /// TLS, which isn't spoken here: see [`TLS_ALERT`].
    Tls,
}

/// Bytes of a handshake message before its content (RFC 8446 4): its kind and its length.
const HANDSHAKE_HEADER_BYTES: u16 = 4;

/// The error text for a client that begins with a ClientHello.
pub const TLS_ON_PLAIN_PORT: &str =
    "the client speaks TLS: this port speaks plain HTTP, so write http:// or go by a proxy that ends TLS";

/// The bytes that a TLS client is sent (RFC 8446 6, RFC 5246 7.2): a fatal alert, `protocol_version`.
pub const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 70];

/// The connection speaks neither protocol. Holds byte 7 of what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither HTTP nor a frame: byte 7 of the connection is 0x{0:02x}, where HTTP has a printable byte and a \
     frame of at most 2^56 - 1 bytes has 0x00 (a negative or larger frame size is refused here as well)"
)]
pub struct UnknownProtocol(pub u8);

/// Decides by the first 8 bytes which protocol a connection speaks. Bytes that begin like TLS may also be a frame
/// of more than 2^40 bytes: a caller that takes such frames looks at the size first.
///
/// # Errors
/// [`UnknownProtocol`] when byte 7 is neither 0, nor CR or LF, nor in 0x20..=0x7e, and the bytes before it don't
/// begin a request either: a request with a raw byte there gets an answer that says so.
pub fn detect(prefix: [u8; PREFIX_BYTES]) -> Result<Protocol, UnknownProtocol> {
    if begins_tls(&prefix) {
        return Ok(Protocol::Tls);
    }
    match prefix[PREFIX_BYTES - 1] {
        0 => Ok(Protocol::Frame),
        b'\r' | b'\n' | 0x20..=0x7e => Ok(Protocol::Http),
        _ if begins_request(&prefix) => Ok(Protocol::Http),
        other => Err(UnknownProtocol(other)),
    }
}

/// Whether bytes begin a TLS ClientHello: a handshake record of version 3.0 to 3.4 (RFC 8446 5.1), in it message 1 of
/// less than 32 KiB (4.1.2) that fills the record.
#[must_use]
pub fn begins_tls(bytes: &[u8]) -> bool {
    let [0x16, 0x03, 0x00..=0x04, record_high, record_low, 0x01, 0x00, hello_high, ..] = *bytes else {
        return false;
    };
    let record_bytes = u16::from_be_bytes([record_high, record_low]);
    // Most hellos fill their record; a long one may be cut into several.
    let in_record = record_bytes.checked_sub(HANDSHAKE_HEADER_BYTES);
    hello_high < 0x80 && in_record.is_some_and(|in_record| hello_high >= in_record.to_be_bytes()[0])
}

/// Whether bytes [begin TLS](begins_tls); `None` while too few have come to tell.
#[must_use]
pub fn tell_tls(bytes: &[u8]) -> Option<bool> {
    const FORM: [RangeInclusive<u8>; PREFIX_BYTES] =
        [0x16..=0x16, 3..=3, 0..=4, 0..=0xff, 0..=0xff, 1..=1, 0..=0, 0..=0x7f];
    let may_begin = bytes.iter().zip(&FORM).all(|(byte, form)| form.contains(byte));
    if may_begin && bytes.len() < FORM.len() { None } else { Some(begins_tls(bytes)) }
}

/// Whether the bytes begin with the first letters of a method, after empty lines.
fn begins_request(prefix: &[u8; PREFIX_BYTES]) -> bool {
    const LETTERS: usize = b"GET".len();
    let mut rest = prefix.as_slice();
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    rest.first_chunk::<LETTERS>().is_some_and(|method| method.iter().all(u8::is_ascii_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{FRAME_BYTES_LIMIT, encode_header};
    use proptest::prelude::*;

    #[test]
    fn byte_7_decides_for_each_of_its_values() {
        for byte in 0..=u8::MAX {
            let expected = match byte {
                0 => Ok(Protocol::Frame),
                b'\r' | b'\n' => Ok(Protocol::Http),
                b' '..=b'~' => Ok(Protocol::Http),
                other => Err(UnknownProtocol(other)),
            };
            assert_eq!(detect([b'G', 0, 0xff, b' ', 0, 0, 0, byte]), expected, "byte {byte:#x}");
        }
    }

    #[test]
    fn request_lines_are_http() {
        for line in ["GET / HTTP/1.1", "HEAD /a HTTP/1.0", "\r\n\r\nGET / HTTP/1.1", "PRI * HTTP/2.0"] {
            let prefix = line.as_bytes()[..PREFIX_BYTES].try_into().unwrap();
            assert_eq!(detect(prefix), Ok(Protocol::Http), "{line:?}");
        }
    }

    #[test]
    fn a_frame_whose_size_spells_get_is_a_frame() {
        let header = encode_header(542_393_671);
        assert_eq!(&header[..4], b"GET ");
        assert_eq!(detect(header), Ok(Protocol::Frame));
    }

    #[test]
    fn a_request_with_a_raw_byte_there_is_a_request() {
        for line in ["GET /ab\u{e4}", "PUT /\u{e4}b", "get /ab\u{1}", "\r\nGET /\u{e4}", "\r\n\r\nGET\u{7f}"]
        {
            let prefix = line.as_bytes()[..PREFIX_BYTES].try_into().unwrap();
            assert_eq!(detect(prefix), Ok(Protocol::Http), "{line:?}");
        }
        for prefix in [*b"GE /abc\xe4", *b"\r\n\r\n\r\nG\xe4", *b"1234567\x01"] {
            assert_eq!(detect(prefix), Err(UnknownProtocol(prefix[7])));
        }
    }

    #[test]
    fn hellos_of_tls() {
        for (prefix, expected) in [
            // The rows are openssl and curl, 517 bytes; a short hello; one of 1.7 KiB with a post-quantum key; one
            // in several records.
            ([0x16, 3, 1, 0x02, 0x00, 1, 0, 0x01], true),
            ([0x16, 3, 1, 0x00, 0xc8, 1, 0, 0x00], true),
            ([0x16, 3, 3, 0x06, 0xf0, 1, 0, 0x06], true),
            ([0x16, 3, 1, 0x01, 0x00, 1, 0, 0x06], true),
            // These rows are no hello, no TLS, and an impossible length.
            ([0x16, 3, 1, 0x02, 0x00, 2, 0, 0x01], false),
            ([0x16, 2, 1, 0x02, 0x00, 1, 0, 0x01], false),
            ([0x16, 3, 9, 0x02, 0x00, 1, 0, 0x01], false),
            ([0x16, 3, 1, 0x02, 0x00, 1, 1, 0x01], false),
            ([0x16, 3, 1, 0x03, 0x05, 1, 0, 0x01], false),
            ([0x16, 3, 1, 0x00, 0x03, 1, 0, 0x00], false),
        ] {
            assert_eq!(begins_tls(&prefix), expected, "{prefix:x?}");
            assert_eq!(detect(prefix) == Ok(Protocol::Tls), expected, "{prefix:x?}");
        }
        assert!(!begins_tls(&[0x16, 3, 1]));
        let hello = [0x16, 3, 1, 0x02, 0x00, 1, 0, 0x01, 0xfc];
        for bytes in 0..=hello.len() {
            assert_eq!(tell_tls(&hello[..bytes]), (bytes >= PREFIX_BYTES).then_some(true), "{bytes}");
        }
        assert_eq!(tell_tls(b"G"), Some(false));
        assert_eq!(tell_tls(&[0x16, 3, 9]), Some(false));
        assert_eq!(tell_tls(&[0x16, 3, 1, 0x00, 0x03, 1, 0, 0x00]), Some(false));
    }

    #[test]
    fn negative_and_huge_sizes_are_neither() {
        assert_eq!(detect((-1i64).to_le_bytes()), Err(UnknownProtocol(0xff)));
        assert_eq!(detect(i64::MIN.to_le_bytes()), Err(UnknownProtocol(0x80)));
        assert_eq!(detect(i64::MAX.to_le_bytes()), Err(UnknownProtocol(0x7f)));
        assert_eq!(detect(encode_header(FRAME_BYTES_LIMIT + 1)), Err(UnknownProtocol(1)));
    }

    proptest! {
        #[test]
        fn every_size_up_to_the_limit_is_a_frame(size in 0..=FRAME_BYTES_LIMIT) {
            let header = encode_header(size);
            // A frame can look like TLS only above 2^40 bytes, see `detect`.
            let is_like_tls = begins_tls(&header) && size > 1 << 40;
            let expected = if is_like_tls { Protocol::Tls } else { Protocol::Frame };
            prop_assert_eq!(detect(header), Ok(expected));
        }
    }
}
