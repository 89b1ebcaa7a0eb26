//! The bodies of uploads: pieces of one random memory, so that the bytes that arrived can be compared with those
//! that were sent.

use std::sync::OnceLock;

/// The random bytes that bodies repeat. Their number is a prime: the sizes that servers move at a time don't
/// divide it, so that a block that is left out, repeated or put into another's place changes the bytes.
const MEMORY_BYTES: usize = 1_048_583;

/// The distances between the beginnings of two connections' bodies, and of two bodies of one connection, so that
/// bytes of another upload aren't taken for this one's.
const CONNECTION_STEP: u64 = 7_919;
const UPLOAD_STEP: u64 = 104_729;

/// The rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// The place in the memory at which it goes on.
    at: usize,
    /// The bytes to its end.
    left: u64,
}

impl Body {
    /// Makes the body of `bytes` bytes that connection `number` sends as its upload `upload`.
    pub fn new(number: usize, upload: u64, bytes: u64) -> Body {
        let start =
            (number as u64).wrapping_mul(CONNECTION_STEP).wrapping_add(upload.wrapping_mul(UPLOAD_STEP));
        // The remainder is below 2^21.
        let at = usize::try_from(start % MEMORY_BYTES as u64).unwrap_or_default();
        Body { at, left: bytes }
    }

    /// Returns the next bytes, as many as lie side by side; none at the end.
    pub fn next_bytes(&self) -> &'static [u8] {
        let rest = &memory()[self.at..];
        &rest[..usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len())]
    }

    /// Skips `count` bytes of [`Self::next_bytes`].
    pub fn advance(&mut self, count: usize) {
        self.at = (self.at + count) % MEMORY_BYTES;
        self.left = self.left.saturating_sub(count as u64);
    }

    /// Returns the bytes to the end.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether the body continues with `bytes`, which are skipped then.
    pub fn goes_on_with(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.next_bytes();
            let count = expected.len().min(bytes.len());
            if count == 0 || expected[..count] != bytes[..count] {
                return false;
            }
            self.advance(count);
            bytes = &bytes[count..];
        }
        true
    }
}

/// Returns the random memory, the same in every process: splitmix64 (Steele, Lea, Flood 2014).
fn memory() -> &'static [u8] {
    static MEMORY: OnceLock<Vec<u8>> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let mut state = 0_u64;
        let words = std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        words.flat_map(u64::to_le_bytes).take(MEMORY_BYTES).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::{Body, MEMORY_BYTES};

    fn whole(mut body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        while body.left() > 0 {
            let next = body.next_bytes();
            bytes.extend_from_slice(next);
            body.advance(next.len());
        }
        assert!(body.next_bytes().is_empty());
        bytes
    }

    #[test]
    fn a_body_has_its_length_and_is_known_again_in_any_pieces() {
        for bytes in [0, 1, 4096, MEMORY_BYTES as u64, 3 << 20] {
            let body = Body::new(3, 5, bytes);
            let sent = whole(body);
            assert_eq!(sent.len() as u64, bytes);
            for piece_bytes in [1000, 1 << 16, 5 << 20] {
                let mut expected = body;
                assert!(sent.chunks(piece_bytes).all(|piece| expected.goes_on_with(piece)));
                assert_eq!(expected.left(), 0);
                assert!(!expected.goes_on_with(&[0]), "a byte too many");
            }
        }
    }

    #[test]
    fn bytes_that_are_wrong_or_in_the_wrong_place_are_noticed() {
        const BLOCK: usize = 1 << 18;
        let body = Body::new(0, 0, 3 << 20);
        let sent = whole(body);
        let check = |bytes: &[u8]| Body::new(0, 0, 3 << 20).goes_on_with(bytes);
        let mut flipped = sent.clone();
        flipped[1 << 20] ^= 1;
        let dropped = [&sent[..BLOCK], &sent[BLOCK + 1..]].concat();
        let repeated = [&sent[..4 * BLOCK], &sent[..8 * BLOCK]].concat();
        assert!(check(&sent) && !check(&flipped) && !check(&dropped) && !check(&repeated));
        for (number, upload) in [(1, 0), (0, 1), (1, 1)] {
            assert!(!Body::new(number, upload, 4096).goes_on_with(&sent[..4096]), "another's body");
        }
    }
}
