//! Room for which one worker asks the others: what it couldn't make of its own connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::Holder;
use crate::telemetry::Limit;

/// The use that room is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A descriptor for a connection of which nobody knows yet whose it is: idle ones are closed for it.
    Descriptor,
    /// A connection of this holder.
    Connection(Holder),
    /// An upload of this holder.
    Upload(Holder),
}

impl Want {
    /// The limit that makes it wanted.
    pub(super) fn limit(self) -> Limit {
        match self {
            Want::Descriptor => Limit::Descriptors,
            Want::Connection(_) => Limit::Connections,
            Want::Upload(_) => Limit::Uploads,
        }
    }
}

/// The room that one worker couldn't make, asked of the others.
#[derive(Debug, Default)]
pub(super) struct RoomRequests(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    want: Want,
    by: usize,
    /// Looks that the others still take: each at most one, or one takes another's, which asking again makes up for.
    looks_left: usize,
}

impl RoomRequests {
    /// Asks the other workers in place of whatever was asked before.
    pub(super) fn ask(&self, want: Want, by: usize, workers: usize) {
        let looks_left = workers.saturating_sub(1);
        *self.lock() = (looks_left > 0).then_some(Open { want, by, looks_left });
    }

    /// Returns the room that another worker asks of `worker`.
    pub(super) fn of(&self, worker: usize) -> Option<Want> {
        let mut asked = self.lock();
        let open = asked.as_mut().filter(|open| open.by != worker)?;
        open.looks_left -= 1;
        let want = open.want;
        if open.looks_left == 0 {
            *asked = None;
        }
        Some(want)
    }

    /// The room has been made.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{RoomRequests, Want};

    #[test]
    fn others_are_asked_once_each_until_one_has_made_room() {
        let asked = RoomRequests::default();
        let want = Want::Connection(None);
        asked.ask(want, 0, 3);
        assert_eq!(asked.of(0), None, "who asks isn't asked");
        assert_eq!((asked.of(1), asked.of(2), asked.of(1)), (Some(want), Some(want), None));
        asked.ask(want, 1, 3);
        assert_eq!(asked.of(0), Some(want));
        asked.close();
        assert_eq!(asked.of(2), None);
        asked.ask(want, 0, 1);
        assert_eq!(asked.of(1), None, "there is nobody else");
    }
}
