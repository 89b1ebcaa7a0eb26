//! The trailer fields of a chunked body (RFC 9110 6.5) that matter here: the digests, which a sender that makes
//! the body as it goes knows only at its end. All others are dropped.

use crate::protocol::digest::{self, Digest, DigestError};
use crate::protocol::http1::field::join;

/// The digests that the trailers of a body name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailers {
    /// The digests of the whole file.
    pub repr_digest: Result<Vec<Digest>, DigestError>,
    /// The digests of the body.
    pub content_digest: Result<Vec<Digest>, DigestError>,
}

impl Default for Trailers {
    fn default() -> Trailers {
        Trailers { repr_digest: Ok(Vec::new()), content_digest: Ok(Vec::new()) }
    }
}

impl Trailers {
    /// Reads field lines, each ended by CR LF, whose form has been checked
    /// ([`ChunkedDecoder`](crate::protocol::http1::chunked::ChunkedDecoder)).
    #[must_use]
    pub fn parse(lines: &[u8]) -> Trailers {
        let (mut repr_digest, mut content_digest) = (None, None);
        for line in lines.split(|&byte| byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"repr-digest") {
                join(&mut repr_digest, value);
            } else if name.eq_ignore_ascii_case(b"content-digest") {
                join(&mut content_digest, value);
            }
        }
        let read = |field: Option<Vec<u8>>| field.map_or(Ok(Vec::new()), |field| digest::parse(&field));
        Trailers { repr_digest: read(repr_digest), content_digest: read(content_digest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digests_are_read_and_others_dropped() {
        let crc32c = |bytes| Ok(vec![Digest::Crc32c(bytes)]);
        let table = [
            ("", Ok(vec![]), Ok(vec![])),
            ("X: y\r\n", Ok(vec![]), Ok(vec![])),
            ("Repr-Digest: crc32c=:AAAAAA==:\r\n", crc32c([0; 4]), Ok(vec![])),
            ("X: y\r\ncontent-DIGEST:crc32c=:4waSgw==:  \r\n", Ok(vec![]), crc32c([0xe3, 0x06, 0x92, 0x83])),
            ("Repr-Digest: md5=:AAAA:\r\nRepr-Digest: crc32c=:AAAAAA==:\r\n", crc32c([0; 4]), Ok(vec![])),
            ("Repr-Digest: nonsense=\r\n", Err(DigestError::Malformed), Ok(vec![])),
        ];
        for (lines, repr_digest, content_digest) in table {
            let expected = Trailers { repr_digest, content_digest };
            assert_eq!(Trailers::parse(lines.as_bytes()), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_lines_panic(lines: Vec<u8>) {
            let _ = Trailers::parse(&lines);
        }
    }
}
