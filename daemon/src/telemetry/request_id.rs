//! What a request is called: as its client says, else by a name that no other request has.

use std::cell::Cell;

/// Hex digits of what is random in a made id, 48 bits: two workers of all daemons that write into one log don't meet.
const RANDOM_DIGITS: usize = 12;

/// Hex digits of what counts in one, 48 bits: decades at a million requests a second.
const COUNT_DIGITS: usize = 12;

const MADE_BYTES: usize = RANDOM_DIGITS + COUNT_DIGITS;

/// What a request is called in its answer and in its line.
pub enum RequestId {
    /// As the client called it, checked to be short and printable.
    Sent(Box<str>),
    /// As its worker does.
    Made([u8; MADE_BYTES]),
}

impl RequestId {
    /// As bytes of visible ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Sent(id) => id.as_bytes(),
            RequestId::Made(digits) => digits,
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        match self {
            RequestId::Sent(id) => id,
            RequestId::Made(digits) => std::str::from_utf8(digits).unwrap_or_default(),
        }
    }
}

/// Makes the ids of one worker, or of the control plane: a random beginning, and a count. To ask the system for random
/// bytes each time would cost more than the rest of an access line.
pub struct RequestIds {
    next: Cell<[u8; MADE_BYTES]>,
}

impl Default for RequestIds {
    /// With a beginning of their own.
    fn default() -> RequestIds {
        let mut random = [0; RANDOM_DIGITS / 2];
        // Without randomness the counts of two workers are alike; that ends nothing but a search in the log.
        let _ = getrandom::fill(&mut random);
        let mut next = [b'0'; MADE_BYTES];
        for (pair, byte) in next.chunks_exact_mut(2).zip(random) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        RequestIds { next: Cell::new(next) }
    }
}

impl RequestIds {
    /// The id of a request that its client called `sent`.
    pub fn name(&self, sent: Option<Box<str>>) -> RequestId {
        sent.map_or_else(|| self.make(), RequestId::Sent)
    }

    /// A new one.
    pub fn make(&self) -> RequestId {
        let made = self.next.get();
        let mut next = made;
        // Counts in place, as one does on paper: fifteen times in sixteen one digit changes.
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
