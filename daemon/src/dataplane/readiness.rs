//! Which connections have something to receive, told by one epoll instance for all of a worker's.
//!
//! A wait through the ring costs each request a poll that is submitted, completed and reported. Registered once and
//! edge-triggered, a connection costs nothing while its client sends, is answered and sends again; the ring waits for
//! the epoll instance as a whole.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Poll, Waker};

use monoio::net::UnixStream;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::connection::Connection;
use super::registry::Registry;
use crate::sys;

/// Events taken from the kernel in one call; what is left is there at the next.
const EVENTS_MAX: usize = 256;

/// A worker's epoll instance.
pub(super) struct ReadinessEvents {
    /// monoio waits for any descriptor that poll(2) knows, whatever it is called.
    epoll: UnixStream,
    events: RefCell<Vec<Event>>,
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
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(ReadinessEvents {
            epoll: UnixStream::from_std(epoll.into())?,
            events: RefCell::new(Vec::with_capacity(EVENTS_MAX)),
            state: Cell::new(State::Running),
            waker: Cell::default(),
        })
    }

    /// From now on delivers readiness of `connection`, and what is ready already. Where the kernel refuses
    /// (fs.epoll.max_user_watches), the connection goes on waiting through the ring.
    pub(super) fn watch(&self, connection: &Connection) {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(connection.token());
        if epoll::add(sys::borrow(&self.epoll), &connection.socket, data, flags).is_ok() {
            connection.socket.use_events();
        }
    }

    /// Notifies connections that are readable, until it is stopped.
    pub(super) async fn deliver(&self, registry: &Registry) {
        while self.wait().await {
            let mut events = self.events.borrow_mut();
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(sys::borrow(&self.epoll), room, Some(&Timespec::default())) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => tracing::error!(%errno, "epoll_wait failed"),
            }
            for Event { flags, data } in events.iter().copied() {
                let is_end = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                registry.notify_readable(data.u64(), is_end);
            }
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
        let mut readable = pin!(self.epoll.readable(false));
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
