//! Room for newcomers where a limit of the whole node is reached: idle connections go first, then the slowest of the
//! address that holds most, then whoever moves less than the minimum of progress.
//!
//! Each worker knows its own connections alone. What an address holds is counted over all of them, but who of it is the
//! slowest is asked of the worker that needs the room; where that has none to end, the others look at their next tick.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::connection::Connection;
use super::worker::{IDLE_GRACE_MS, Worker};
use crate::limits::{Holder, PaceMinimum};
use crate::telemetry::Limit;

/// Idle connections that are closed in one go, as a part of all: looking through them costs the same for one.
const IDLE_PART_DIVISOR: usize = 1024;

/// What room is wanted for.
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
    fn limit(self) -> Limit {
        match self {
            Want::Descriptor => Limit::Descriptors,
            Want::Connection(_) => Limit::Connections,
            Want::Upload(_) => Limit::Uploads,
        }
    }
}

/// What one worker couldn't make room for, asked of the others.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    want: Want,
    by: usize,
    /// Looks that the others still take: each at most one, or one takes another's, which asking again makes up for.
    looks_left: usize,
}

impl Asked {
    /// Asks the other workers in place of whatever was asked before.
    fn ask(&self, want: Want, by: usize, workers: usize) {
        let looks_left = workers.saturating_sub(1);
        *self.lock() = (looks_left > 0).then_some(Open { want, by, looks_left });
    }

    /// What another worker asks of `worker`.
    fn of(&self, worker: usize) -> Option<Want> {
        let mut asked = self.lock();
        let open = asked.as_mut().filter(|open| open.by != worker)?;
        open.looks_left -= 1;
        let want = open.want;
        if open.looks_left == 0 {
            *asked = None;
        }
        Some(want)
    }

    fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Makes room if it can, and says for how many. What was ended is gone a moment later. Where nothing of this worker
    /// can be ended the others are asked, and have looked after a tick.
    pub(super) fn make_room(&self, want: Want) -> usize {
        let made = self.make_room_here(want);
        if made == 0 {
            self.asked.ask(want, self.number, self.workers());
        }
        made
    }

    /// Makes the room that another worker asked for, if it can.
    pub(super) fn make_room_for_others(&self) {
        if let Some(want) = self.asked.of(self.number)
            && self.make_room_here(want) > 0
        {
            self.asked.close();
        }
    }

    fn make_room_here(&self, want: Want) -> usize {
        let made = match want {
            Want::Descriptor => self.close_idle_for_others(),
            Want::Connection(newcomer) => match self.close_idle_for_others() {
                0 => {
                    let outweighing = self.resources.shares.connections.outweighing(newcomer);
                    self.end_slowest(outweighing.map(Some), |_| true)
                }
                closed => closed,
            },
            Want::Upload(newcomer) => {
                let outweighing = self.resources.shares.uploads.outweighing(newcomer);
                self.end_slowest(outweighing.map(Some), Connection::is_uploading)
            }
        };
        self.counters.limited.add(want.limit(), made as u64);
        made
    }

    /// Closes those of the holders with most connections that have been idle for longest.
    fn close_idle_for_others(&self) -> usize {
        let ticks = self.clock.ticks();
        let idle_min = self.clock.deadline(IDLE_GRACE_MS).timeout_ticks;
        let held: HashMap<Holder, u64> = self.resources.shares.connections.counts();
        let mut idle = Vec::new();
        self.registry.each(|connection| {
            if let (Some(idle_ticks), Some(holder)) = (connection.idle_ticks(ticks), connection.holder())
                && idle_ticks >= idle_min
            {
                idle.push((held.get(&holder).copied().unwrap_or(0), idle_ticks, connection.token()));
            }
        });
        let count = (self.live().settings.connections_max / IDLE_PART_DIVISOR).clamp(1, idle.len().max(1));
        if idle.len() > count {
            idle.select_nth_unstable_by(count - 1, |left, right| right.cmp(left));
            idle.truncate(count);
        }
        idle.iter().for_each(|(_, _, token)| self.registry.evict(*token));
        idle.len()
    }

    /// Ends the slowest of the holder that outweighs the newcomer, else the slowest of those that move less than the
    /// minimum. Only whoever is waited for: what works for itself is nobody's fault.
    fn end_slowest(&self, outweighing: Option<Holder>, concerns: impl Fn(&Connection) -> bool) -> usize {
        let minimum = PaceMinimum::of(&self.live().settings);
        let mut slowest: Option<(bool, u64, u64)> = None;
        self.registry.each(|connection| {
            let Some(holder) = connection.holder() else { return };
            if !connection.is_waited_for() || !concerns(connection) {
                return;
            }
            let is_outweighing = outweighing == Some(holder);
            if is_outweighing || connection.is_below(&minimum) {
                let pace = connection.bytes_a_second().unwrap_or(u64::MAX);
                let candidate = (!is_outweighing, pace, connection.token());
                slowest = Some(slowest.map_or(candidate, |found| found.min(candidate)));
            }
        });
        let Some((_, _, token)) = slowest else { return 0 };
        self.registry.evict(token);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Want};

    #[test]
    fn others_are_asked_once_each_until_one_has_made_room() {
        let asked = Asked::default();
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
