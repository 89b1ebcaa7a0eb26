//! The open connections of a worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slab::Slab;

use super::connection::{Connection, Token, Via};
use super::socket::Socket;
use crate::limits::{PaceMinimum, Tick};

/// All connections of a worker.
#[derive(Default)]
pub(super) struct Registry {
    connections: RefCell<Slab<Rc<Connection>>>,
    added: Cell<u32>,
}

impl Registry {
    /// Adds a connection. It stays until the guard is dropped.
    pub(super) fn add(self: &Rc<Self>, socket: Socket, via: Via) -> Registered {
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        let key = place.key();
        self.added.set(self.added.get().wrapping_add(1));
        let token = u64::from(self.added.get()) << u32::BITS | key as u64;
        let connection = Rc::new(Connection::new(socket, via, token));
        place.insert(Rc::clone(&connection));
        drop(connections);
        Registered { connection, registry: Rc::clone(self), key }
    }

    /// Notifies the connection that `token` names that it is readable, if it is still there.
    pub(super) fn notify_readable(&self, token: Token, is_end: bool) {
        self.with(token, |connection| connection.notify_readable(is_end));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Interrupts all that missed their deadline, and all whose peers move less than `minimum`: says how many those
    /// are.
    pub(super) fn sweep(&self, now: Tick, minimum: &PaceMinimum) -> u64 {
        let connections = self.connections.borrow();
        connections.iter().map(|(_, connection)| u64::from(connection.sweep(now, minimum))).sum()
    }

    /// Shows each connection.
    pub(super) fn each(&self, mut look: impl FnMut(&Connection)) {
        self.connections.borrow().iter().for_each(|(_, connection)| look(connection));
    }

    /// Ends the connection that `token` names for others, if it is still there.
    pub(super) fn evict(&self, token: Token) {
        self.with(token, Connection::evict);
    }

    /// Interrupts all that have waited for their next request for `ticks_min`.
    pub(super) fn close_idle(&self, now: Tick, ticks_min: u64) {
        self.each(|connection| connection.close_if_idle(now, ticks_min));
    }

    /// Interrupts all that wait, and breaks all connections off.
    pub(super) fn abort_all(&self) {
        self.each(Connection::break_off);
    }

    /// Shows the connection that `token` names, if it is still there.
    fn with(&self, token: Token, look: impl FnOnce(&Connection)) {
        let connections = self.connections.borrow();
        let key = usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        if let Some(connection) = connections.get(key).filter(|connection| connection.token() == token) {
            look(connection);
        }
    }
}

/// Keeps a connection in its registry.
pub(super) struct Registered {
    connection: Rc<Connection>,
    registry: Rc<Registry>,
    key: usize,
}

impl std::ops::Deref for Registered {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.connections.borrow_mut().remove(self.key);
    }
}
