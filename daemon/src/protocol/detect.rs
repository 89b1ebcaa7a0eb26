//! Two protocols on one port, told apart by the last of the first 8 bytes.
//!
//! A frame begins with its size as 8 little-endian bytes, and no size above 2^56 - 1 is ever accepted
//! ([`FRAME_BYTES_LIMIT`](crate::protocol::frame::FRAME_BYTES_LIMIT)), so byte 7 of a valid header is 0.
//! Every HTTP/1.x request has a printable byte, CR or LF there. Fewer bytes would not do: a frame of
//! 542,393,671 bytes begins with `GET `.

/// How many bytes must have come before [`detect`] can decide.
pub const PREFIX_BYTES: usize = 8;

/// What a connection speaks from its first byte to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Length-prefixed frames, see [`frame`](crate::protocol::frame).
    Frame,
    /// HTTP/1.x, see [`http1`](crate::protocol::http1).
    Http,
}

/// The connection speaks neither protocol. Holds byte 7 of what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither HTTP nor a frame: byte 7 of the connection is 0x{0:02x}, where HTTP has a printable byte and a \
     frame of at most 2^56 - 1 bytes has 0x00 (a negative or larger frame size is refused here as well)"
)]
pub struct UnknownProtocol(pub u8);

/// Decides what a connection speaks by the first 8 bytes that came.
///
/// # Errors
/// [`UnknownProtocol`] when byte 7 is neither 0, nor CR or LF, nor in 0x20..=0x7e.
pub fn detect(prefix: [u8; PREFIX_BYTES]) -> Result<Protocol, UnknownProtocol> {
    match prefix[PREFIX_BYTES - 1] {
        0 => Ok(Protocol::Frame),
        b'\r' | b'\n' | 0x20..=0x7e => Ok(Protocol::Http),
        other => Err(UnknownProtocol(other)),
    }
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
    fn negative_and_huge_sizes_are_neither() {
        assert_eq!(detect((-1i64).to_le_bytes()), Err(UnknownProtocol(0xff)));
        assert_eq!(detect(i64::MIN.to_le_bytes()), Err(UnknownProtocol(0x80)));
        assert_eq!(detect(i64::MAX.to_le_bytes()), Err(UnknownProtocol(0x7f)));
        assert_eq!(detect(encode_header(FRAME_BYTES_LIMIT + 1)), Err(UnknownProtocol(1)));
    }

    proptest! {
        #[test]
        fn every_size_up_to_the_limit_is_a_frame(size in 0..=FRAME_BYTES_LIMIT) {
            prop_assert_eq!(detect(encode_header(size)), Ok(Protocol::Frame));
        }
    }
}
