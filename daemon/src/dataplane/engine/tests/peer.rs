//! The peer of a scripted kernel: knows what it has to get, and looks at each byte that comes.

use std::cell::Cell;
use std::sync::Arc;

use super::file::Content;

/// A part of what a peer has to get.
pub(super) enum Piece {
    /// Bytes that are no payload.
    Head(Vec<u8>),
    /// Bytes between two parts, which are.
    Text(Vec<u8>),
    /// Bytes of a file.
    File(Arc<Content>, u64, u64),
    /// So many bytes of a random memory that is sent over and over, and has so many.
    Synthetic(u64, u64),
}

/// One peer.
pub(super) struct Peer {
    pieces: Vec<Piece>,
    taken: Cell<u64>,
    payload: Cell<u64>,
    is_mixed: Cell<bool>,
}

impl Piece {
    fn bytes(&self) -> u64 {
        match self {
            Piece::Head(bytes) | Piece::Text(bytes) => bytes.len() as u64,
            Piece::File(_, _, bytes) | Piece::Synthetic(bytes, _) => *bytes,
        }
    }
}

impl Peer {
    pub(super) fn new(pieces: Vec<Piece>) -> Peer {
        Peer { pieces, taken: Cell::new(0), payload: Cell::new(0), is_mixed: Cell::new(false) }
    }

    /// Bytes of payload that it got.
    pub(super) fn payload(&self) -> u64 {
        self.payload.get()
    }

    /// Whether it got all.
    pub(super) fn has_all(&self) -> bool {
        self.taken.get() == self.pieces.iter().map(Piece::bytes).sum::<u64>()
    }

    /// Bytes that it got.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Whether some of it is from another state of the file than that which was opened.
    pub(super) fn is_mixed(&self) -> bool {
        self.is_mixed.get()
    }

    /// Takes bytes, each of which has to be the next.
    pub(super) fn take(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, offset) = self.next();
            let count = bytes.len().min(usize::try_from(piece.bytes() - offset).unwrap());
            self.compare(piece, offset, &bytes[..count]);
            self.advance(piece, count as u64);
            bytes = &bytes[count..];
        }
    }

    /// Takes random bytes that are at `offset` of their memory.
    pub(super) fn take_synthetic(&self, offset: u64, count: u64) {
        let (piece, done) = self.next();
        let Piece::Synthetic(bytes, memory_bytes) = piece else {
            panic!("random bytes inside of something else")
        };
        assert_eq!(offset, done % memory_bytes, "random bytes are skipped or repeated");
        assert!(done + count <= *bytes && offset + count <= *memory_bytes, "more than was asked for");
        self.advance(piece, count);
    }

    fn advance(&self, piece: &Piece, count: u64) {
        self.taken.set(self.taken.get() + count);
        if !matches!(piece, Piece::Head(_)) {
            self.payload.set(self.payload.get() + count);
        }
    }

    fn next(&self) -> (&Piece, u64) {
        let mut offset = self.taken.get();
        for piece in &self.pieces {
            if offset < piece.bytes() {
                return (piece, offset);
            }
            offset -= piece.bytes();
        }
        panic!("more bytes than the response has: {} were taken before", self.taken.get());
    }

    fn compare(&self, piece: &Piece, offset: u64, bytes: &[u8]) {
        let place = self.taken.get();
        match piece {
            Piece::Head(expected) | Piece::Text(expected) => {
                let start = usize::try_from(offset).unwrap();
                assert!(
                    bytes == &expected[start..start + bytes.len()],
                    "other bytes than the head's at {place}"
                );
            }
            Piece::File(content, start, _) => {
                let offset = start + offset;
                if content.opened(offset, bytes.len()) != bytes {
                    assert!(
                        content.had(offset, bytes),
                        "other bytes than the file's at {place}, offset {offset}"
                    );
                    self.is_mixed.set(true);
                }
            }
            Piece::Synthetic(..) => panic!("bytes of something else among random ones at {place}"),
        }
    }
}
