//! Claims: who has begun to upload to a destination by its name, so that no later part is mistaken for another
//! client's.
//!
//! A part that names no upload says only to which place of which file it belongs. It may continue the one upload
//! that exists if nobody else could have sent it: whoever has begun an upload of this name and length has a claim
//! until all of it has been published. A claim outlives its upload, since its client may not know that it has
//! ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::name::Name;

/// The most claims that are kept of ended uploads: some hundred bytes each. The oldest is forgotten for one more.
const ENDED_MAX: usize = 4096;

/// How long the claim of an ended upload is kept: a client that doesn't know of the end comes back within minutes.
const ENDED_KEPT: Duration = Duration::from_secs(60 * 60);

/// The number of a claim: one that was made later has a greater one.
pub(super) type Serial = u64;

/// The number of no claim.
pub(super) const NONE: Serial = 0;

/// All claims. Nothing here waits for a disk.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Made>);

#[derive(Debug, Default)]
struct Made {
    newest: Serial,
    claims: BTreeMap<Serial, Claim>,
    /// The claims whose uploads have ended, in the order of their ends.
    ended: VecDeque<Serial>,
}

#[derive(Debug)]
struct Claim {
    destination: Name,
    /// Bytes of the whole file; with None it may turn out to be any number.
    length: Option<u64>,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    /// The newest claim at this one's end: the claims up to it overlapped this one.
    newest: Serial,
    /// The offsets at which its client may go on, for all that it knows.
    offsets: Vec<u64>,
}

/// A claim other than that of the upload that a part would continue.
#[derive(Clone, Debug)]
pub(super) struct Rival {
    pub(super) serial: Serial,
    pub(super) destination: Name,
}

impl Claims {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a claim for a client that begins an upload.
    pub(super) fn make(&self, destination: &Name, length: Option<u64>) -> Serial {
        let mut made = self.made();
        made.newest += 1;
        let serial = made.newest;
        made.claims.insert(serial, Claim { destination: destination.clone(), length, ended: None });
        serial
    }

    /// Makes a claim for a client whose upload has ended and that may go on with it at one of `offsets`.
    pub(super) fn make_ended(&self, destination: &Name, length: Option<u64>, offsets: Vec<u64>) -> Serial {
        let serial = self.make(destination, length);
        self.end(serial, offsets);
        serial
    }

    /// Ends a claim's upload, while its client may go on with it at one of `offsets` all the same.
    pub(super) fn end(&self, serial: Serial, offsets: Vec<u64>) {
        let mut made = self.made();
        let newest = made.newest;
        let Some(claim) = made.claims.get_mut(&serial) else { return };
        let was_ended = claim.ended.replace(Ended { at: Instant::now(), newest, offsets }).is_some();
        if was_ended {
            made.ended.retain(|ended| *ended != serial);
        }
        made.ended.push_back(serial);
        made.forget_ended();
    }

    /// Removes the claim of a client that is done and won't go on.
    pub(super) fn settle(&self, serial: Serial) {
        let mut made = self.made();
        if made.claims.remove(&serial).is_some_and(|claim| claim.ended.is_some()) {
            made.ended.retain(|ended| *ended != serial);
        }
    }

    /// Returns the claims by which a part of a file of `length` bytes may be another client's than `own`: those
    /// that exist or existed beside it, and those that had ended before and would continue right where the part
    /// begins. A client that asks where to go on has no `offset`, and may hold any ended claim. Whether they are
    /// for the same file is to be found out by their names.
    pub(super) fn rivals(&self, own: Serial, length: Option<u64>, offset: Option<u64>) -> Vec<Rival> {
        let mut made = self.made();
        made.forget_ended();
        let others = made.claims.iter().filter(|(serial, _)| **serial != own);
        let rivals = others.filter(|(_, claim)| claim.can_have(length) && claim.could_send(offset, own));
        rivals
            .map(|(serial, claim)| Rival { serial: *serial, destination: claim.destination.clone() })
            .collect()
    }

    /// Notes that the client of an ended claim is active: nobody goes on without proof beside it.
    pub(super) fn surface(&self, serial: Serial) {
        let mut made = self.made();
        let newest = made.newest;
        if let Some(ended) = made.claims.get_mut(&serial).and_then(|claim| claim.ended.as_mut()) {
            ended.newest = newest;
        }
    }
}

impl Claim {
    fn can_have(&self, length: Option<u64>) -> bool {
        self.length.is_none() || length.is_none() || self.length == length
    }

    /// Whether its client may have sent a part at `offset`, or asked for one, beside the claim `own`.
    fn could_send(&self, offset: Option<u64>, own: Serial) -> bool {
        match (&self.ended, offset) {
            (None, _) | (Some(_), None) => true,
            (Some(ended), Some(offset)) => ended.newest >= own || ended.offsets.contains(&offset),
        }
    }
}

impl Made {
    fn forget_ended(&mut self) {
        while let Some(serial) = self.ended.front().copied() {
            let ended = self.claims.get(&serial).and_then(|claim| claim.ended.as_ref());
            let is_kept = ended.is_some_and(|ended| ended.at.elapsed() < ENDED_KEPT);
            if is_kept && self.ended.len() <= ENDED_MAX {
                return;
            }
            self.ended.pop_front();
            self.claims.remove(&serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Name {
        Name::parse(path.as_bytes()).unwrap()
    }

    fn rivals(claims: &Claims, own: Serial, length: u64, offset: u64) -> Vec<Serial> {
        claims.rivals(own, Some(length), Some(offset)).into_iter().map(|rival| rival.serial).collect()
    }

    #[test]
    fn whoever_is_there_is_a_rival_and_who_has_all_is_none() {
        let claims = Claims::default();
        let first = claims.make(&name("/a"), Some(100));
        assert_eq!(rivals(&claims, first, 100, 50), [] as [Serial; 0]);
        let second = claims.make(&name("/b"), Some(100));
        let other_length = claims.make(&name("/a"), Some(99));
        let any_length = claims.make(&name("/a"), None);
        assert_eq!(rivals(&claims, first, 100, 50), [second, any_length]);
        assert_eq!(rivals(&claims, second, 100, 50), [first, any_length]);
        for serial in [second, other_length, any_length] {
            claims.settle(serial);
        }
        assert_eq!(rivals(&claims, first, 100, 50), [] as [Serial; 0]);
        claims.settle(first);
        assert!(claims.made().claims.is_empty() && claims.made().ended.is_empty());
    }

    #[test]
    fn one_that_ended_is_a_rival_of_those_that_it_met_and_else_where_it_would_go_on() {
        let claims = Claims::default();
        let ended = claims.make(&name("/a"), Some(100));
        let beside = claims.make(&name("/a"), Some(100));
        claims.end(ended, vec![50, 70]);
        let after = claims.make(&name("/a"), Some(100));
        claims.settle(beside);
        for (offset, expected) in [(50, vec![ended]), (70, vec![ended]), (60, vec![])] {
            assert_eq!(rivals(&claims, after, 100, offset), expected, "{offset}");
            assert_eq!(rivals(&claims, beside, 100, offset), [ended, after], "{offset}");
        }
        let of_who_asks = claims.rivals(after, Some(100), None);
        assert_eq!(of_who_asks.iter().map(|rival| rival.serial).collect::<Vec<_>>(), [ended]);
        claims.surface(ended);
        assert_eq!(rivals(&claims, after, 100, 60), [ended]);
        claims.settle(ended);
        assert_eq!(rivals(&claims, after, 100, 60), [] as [Serial; 0]);
    }

    #[test]
    fn so_many_that_ended_are_known_and_no_more() {
        let claims = Claims::default();
        for _ in 0..=ENDED_MAX {
            claims.make_ended(&name("/a"), Some(1), vec![1]);
        }
        assert_eq!(claims.made().claims.len(), ENDED_MAX);
        assert_eq!(claims.made().claims.keys().next(), Some(&2));
        claims.end(2, vec![2]);
        assert_eq!(claims.made().ended.back(), Some(&2));
        claims.end(NONE, vec![]);
        claims.settle(NONE);
        assert_eq!(claims.made().ended.len(), ENDED_MAX);
    }
}
