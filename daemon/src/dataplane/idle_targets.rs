//! Idle frame connections to targets, kept for the next stream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use super::clock::Clock;
use super::registry::Registered;
use crate::limits::Tick;

/// Idle connections kept to one target; as many as streams run at once by default.
const KEPT_PER_TARGET_MAX: usize = 64;

/// Time that a connection is kept, in milliseconds: far below the idle time-out of our own data plane and of
/// usual targets, so that a stream rarely meets one that is just being closed.
const KEPT_MS: u64 = 5_000;

/// The idle connections of a worker.
#[derive(Default)]
pub(super) struct IdleTargets(RefCell<HashMap<SocketAddr, Vec<Idle>>>);

struct Idle {
    connection: Registered,
    expires: Tick,
}

impl IdleTargets {
    /// Keeps a connection on which nothing is under way.
    pub(super) fn keep(&self, clock: &Clock, target: SocketAddr, connection: Registered) {
        let mut targets = self.0.borrow_mut();
        let kept = targets.entry(target).or_default();
        if kept.len() < KEPT_PER_TARGET_MAX {
            kept.push(Idle { connection, expires: clock.deadline(KEPT_MS).tick });
        }
    }

    /// A connection to `target` that `is_silent`: nothing may have come meanwhile, neither its end nor bytes that
    /// nobody asked for.
    pub(super) fn take(
        &self,
        target: SocketAddr,
        is_silent: impl Fn(&Registered) -> bool,
    ) -> Option<Registered> {
        loop {
            let idle = self.0.borrow_mut().get_mut(&target)?.pop()?;
            if is_silent(&idle.connection) {
                return Some(idle.connection);
            }
        }
    }

    /// Closes what has been kept long enough.
    pub(super) fn expire(&self, now: Tick) {
        self.0.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| idle.expires > now);
            !kept.is_empty()
        });
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
