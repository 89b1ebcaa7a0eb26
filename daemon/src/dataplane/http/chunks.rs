//! How a client sees the end of a body that is sent in pieces.

use crate::protocol::http1::request::Version;

/// The sign by which a client sees the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The length in `Content-Length` has come.
    Length(u64),
    /// The last chunk has come (RFC 9112 7.1): without it the body isn't whole.
    Chunks,
    /// The connection has ended (RFC 9112 6.3). A reset instead says that the body isn't whole.
    Connection,
}

/// The end of each chunk, and the chunk that ends the body.
const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Framing {
    /// The framing of a body whose length isn't known, for a client of this version.
    pub(super) fn of_unknown_length(version: Version) -> Framing {
        match version {
            Version::Http11 => Framing::Chunks,
            Version::Http10 => Framing::Connection,
        }
    }

    /// Appends the framing before a piece of `length` bytes, which must not be 0: that would be the end.
    pub(super) fn begin(self, length: usize, before: &mut Vec<u8>) {
        debug_assert!(length > 0);
        if self == Framing::Chunks {
            before.extend_from_slice(format!("{length:x}\r\n").as_bytes());
        }
    }

    /// Appends the end of a body where its last piece wasn't known to be the last.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        if self == Framing::Chunks {
            out.extend_from_slice(LAST_CHUNK);
        }
    }

    /// Appends the framing behind a piece.
    pub(super) fn end(self, is_last: bool, piece: &mut Vec<u8>) {
        if self == Framing::Chunks {
            piece.extend_from_slice(CHUNK_END);
            piece.extend_from_slice(if is_last { LAST_CHUNK } else { b"" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Framing;
    use crate::protocol::http1::request::Version;

    fn framed(framing: Framing) -> Vec<u8> {
        let mut sent = Vec::new();
        for (number, piece) in ["first piece of all", "last"].iter().enumerate() {
            let mut piece = piece.as_bytes().to_vec();
            framing.begin(piece.len(), &mut sent);
            framing.end(number == 1, &mut piece);
            sent.extend(piece);
        }
        sent
    }

    #[test]
    fn chunks_say_their_length_and_the_last_that_it_is_the_last() {
        let chunks = framed(Framing::of_unknown_length(Version::Http11));
        assert_eq!(chunks, b"12\r\nfirst piece of all\r\n4\r\nlast\r\n0\r\n\r\n");
        for framing in [Framing::of_unknown_length(Version::Http10), Framing::Length(22)] {
            assert_eq!(framed(framing), b"first piece of alllast");
        }
    }
}
