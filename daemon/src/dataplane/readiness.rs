//! Which connections have something to receive, told by one epoll instance for all of a worker's.
//!
//! A wait through the ring costs each request a poll that is submitted, completed and reported. Registered once and
//! edge-triggered, a connection costs nothing while its client sends, is answered and sends again; the ring waits for
//! the epoll instance as a whole.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Poll, Waker};

use super::connection::Connection;
use super::platform::Events;
use super::registry::Registry;

/// A worker's epoll instance.
pub(super) struct ReadinessEvents {
    events: Events,
    state: Cell<State>,
    waker: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Stopping,
    Stopped,
}

impl ReadinessEvents {
    pub(super) fn new() -> io::Result<ReadinessEvents> {
        let events = Events::new()?;
        Ok(ReadinessEvents { events, state: Cell::new(State::Running), waker: Cell::default() })
    }

    /// From now on delivers readiness of `connection`, and what is ready already. Where the kernel refuses
    /// (fs.epoll.max_user_watches), the connection goes on waiting through the ring.
    pub(super) fn watch(&self, connection: &Connection) {
        if self.events.add(&connection.socket.stream, connection.token()) {
            connection.socket.use_events();
        }
    }

    /// Notifies connections that are readable, until it is stopped.
    pub(super) async fn deliver(&self, registry: &Registry) {
        while self.wait().await {
            self.events.take(|event| registry.notify_readable(event.token, event.is_end));
        }
        self.state.set(State::Stopped);
    }

    /// Ends [`ReadinessEvents::deliver`].
    pub(super) fn stop(&self) {
        if self.state.get() == State::Running {
            self.state.set(State::Stopping);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether it has ended.
    pub(super) fn has_stopped(&self) -> bool {
        self.state.get() == State::Stopped
    }

    /// Waits for events. False: nobody waits for them any more.
    async fn wait(&self) -> bool {
        let mut readable = pin!(self.events.readable());
        poll_fn(|context| {
            if self.state.get() != State::Running {
                return Poll::Ready(false);
            }
            self.waker.set(Some(context.waker().clone()));
            readable.as_mut().poll(context).map(|_| true)
        })
        .await
    }
}
