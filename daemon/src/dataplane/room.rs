//! Room for newcomers where a limit of the whole node is reached: idle connections go first, then the slowest of the
//! address that holds most, then whoever moves less than the minimum of progress.
//!
//! Each worker knows its own connections alone. What an address holds is counted over all of them, but who of it is the
//! slowest is asked of the worker that needs the room; where that has none to end, the others look at their next tick.

use std::collections::HashMap;

use super::connection::Connection;
use super::context::{IDLE_GRACE_MS, Worker};
use super::room_requests::Want;
use crate::limits::{Holder, PaceMinimum};

/// Idle connections that are closed in one go, as a part of all: looking through them costs the same for one.
const IDLE_PART_DIVISOR: usize = 1024;

impl Worker {
    /// Makes room if it can, and says for how many. What was ended is gone a moment later. Where nothing of this worker
    /// can be ended the others are asked, and have looked after a tick.
    pub(super) fn make_room(&self, want: Want) -> usize {
        let made = self.make_room_here(want);
        if made == 0 {
            self.room_requests.ask(want, self.number, self.workers());
        }
        made
    }

    /// Makes the room that another worker asked for, if it can.
    pub(super) fn make_room_for_others(&self) {
        if let Some(want) = self.room_requests.of(self.number)
            && self.make_room_here(want) > 0
        {
            self.room_requests.close();
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
        let now = self.clock.now();
        let idle_min = self.clock.deadline(IDLE_GRACE_MS).timeout_ticks;
        let held: HashMap<Holder, u64> = self.resources.shares.connections.counts();
        let mut idle = Vec::new();
        self.registry.each(|connection| {
            if let (Some(idle_ticks), Some(holder)) = (connection.idle_ticks(now), connection.holder())
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
