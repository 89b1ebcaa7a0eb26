//! Ids of requests: the client's own, else a made one that no other request has.

use std::cell::Cell;

/// The hex digits of a made id's random part, 48 bits: two workers of all daemons that write into one log don't
/// meet.
const RANDOM_DIGITS: usize = 12;

/// The hex digits of a made id's count, 48 bits: decades at a million requests a second.
const COUNT_DIGITS: usize = 12;

const MADE_BYTES: usize = RANDOM_DIGITS + COUNT_DIGITS;

/// The id of a request in its answer and in its access line.
pub enum RequestId {
    /// The client's id, checked to be short and printable.
    Sent(Box<str>),
    /// An id that the worker made.
    Made([u8; MADE_BYTES]),
}

impl RequestId {
    /// Returns the id as bytes of visible ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Sent(id) => id.as_bytes(),
            RequestId::Made(digits) => digits,
        }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        match self {
            RequestId::Sent(id) => id,
            RequestId::Made(digits) => std::str::from_utf8(digits).unwrap_or_default(),
        }
    }
}

/// A maker of ids for one worker, or for the control plane: a random beginning, and a count. To ask the system for
/// random bytes each time would cost more than the rest of an access line.
pub struct RequestIds {
    next: Cell<[u8; MADE_BYTES]>,
}

impl Default for RequestIds {
    /// Makes a maker with a random beginning of its own.
    fn default() -> RequestIds {
        let mut random = [0; RANDOM_DIGITS / 2];
        // Without randomness the ids of two workers are alike, which only confuses a search in the log.
        let _ = getrandom::fill(&mut random);
        let mut next = [b'0'; MADE_BYTES];
        for (pair, byte) in next.chunks_exact_mut(2).zip(random) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        RequestIds { next: Cell::new(next) }
    }
}

impl RequestIds {
    /// Returns the id of a request that its client called `sent`.
    pub fn name(&self, sent: Option<Box<str>>) -> RequestId {
        sent.map_or_else(|| self.make(), RequestId::Sent)
    }

    /// Makes a new id.
    pub fn make(&self) -> RequestId {
        let made = self.next.get();
        let mut next = made;
        // This counts in place, digit by digit from the end: fifteen times in sixteen one digit changes.
        for digit in next[RANDOM_DIGITS..].iter_mut().rev() {
            *digit = match *digit {
                b'9' => b'a',
                b'f' => b'0',
                lower => lower + 1,
            };
            if *digit != b'0' {
                break;
            }
        }
        self.next.set(next);
        RequestId::Made(made)
    }
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{MADE_BYTES, RANDOM_DIGITS, RequestIds};

    #[test]
    fn no_two_are_alike_and_all_are_hex() {
        let (ids, others) = (RequestIds::default(), RequestIds::default());
        let made: HashSet<String> = (0..5_000).map(|_| ids.make().as_str().to_owned()).collect();
        assert_eq!(made.len(), 5_000);
        assert!(!made.contains(others.make().as_str()));
        for id in &made {
            assert!(
                id.len() == MADE_BYTES && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                "{id}"
            );
        }
    }

    #[test]
    fn they_count_in_hex() {
        let ids = RequestIds::default();
        for expected in 0..1_000_u64 {
            let made = ids.make();
            assert_eq!(u64::from_str_radix(&made.as_str()[RANDOM_DIGITS..], 16), Ok(expected));
        }
    }

    #[test]
    fn what_the_client_says_goes_first() {
        let ids = RequestIds::default();
        assert_eq!(ids.name(Some("mine".into())).as_str(), "mine");
        assert_eq!(ids.name(None).as_str().len(), MADE_BYTES);
    }
}
