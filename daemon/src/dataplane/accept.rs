//! Takes connections off a worker's listeners, each by a task of its own.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpListener;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SocketFlags, accept_with, acceptfrom_with, sockopt};

use super::connection::Via;
use super::context::Worker;
use super::listener::WorkerListener;
use super::room_requests::Want;
use super::socket::Socket;
use super::{dispatch, pacing, platform};
use crate::config::TrustedProxies;
use crate::limits::{Holder, LocalPeer, Peer, TICK, Tick};
use crate::sys;
use crate::telemetry::{Limit, shown_address};

/// Connections taken in one go before others get their turn.
const BATCH: usize = 64;

/// Most connections taken in one go from a listener that the workers share: whoever comes first must leave something to
/// the others, which were woken as well.
const BATCH_SHARED: usize = 1;

/// Wait after the host ran out of descriptors or memory, or the connection limit was reached, in milliseconds:
/// connections that end meanwhile make room, and the kernel's queue keeps the newcomers.
const PAUSE_MS: u64 = 100;

/// Time between two lines that say that there is no room, in milliseconds.
const SAID_MS: u64 = 10_000;

/// Time for a connection that was ended to be gone before another is, in milliseconds: a client that is gone
/// acknowledges nothing of its last answer.
const ROOM_MS: u64 = 1_000;

/// How often it is looked whether a connection that was ended is gone.
const ROOM_LOOK: Duration = Duration::from_millis(1);

/// Newcomers that are taken from the queue while there is no room: a part of all connections, within these bounds.
const NEWCOMERS_DIVISOR: usize = 16;
const NEWCOMERS_MIN: usize = 4;
const NEWCOMERS_MAX: usize = 64;

/// A connection that isn't served yet.
struct Newcomer {
    descriptor: OwnedFd,
    peer: Peer,
}

impl Newcomer {
    /// Whom it counts as until more is known: whom a proxy stands for is said on the connection.
    fn holder(&self, proxies: &TrustedProxies) -> Holder {
        if self.peer.is_trusted(proxies) { None } else { self.peer.group() }
    }
}

/// A listener that connections are taken from.
pub(super) struct Source {
    place: u16,
    socket: TcpListener,
    is_local: bool,
    is_paced: bool,
    is_kept: bool,
    /// The most connections that are taken in one go.
    batch: usize,
}

impl Source {
    pub(super) fn new(listener: WorkerListener) -> io::Result<Source> {
        let WorkerListener { place, socket, is_local, is_shared, is_kept } = listener;
        let is_paced = !is_local && pacing::is_on(&socket);
        let batch = if is_shared { BATCH_SHARED } else { BATCH };
        Ok(Source { place, socket: TcpListener::from_std(socket)?, is_local, is_paced, is_kept, batch })
    }
}

/// The result of one try.
enum Accepted {
    Connection(Newcomer),
    NoneWaiting,
    /// This one is gone; the next may be fine.
    Lost,
    /// No room for now.
    Exhausted(Errno),
}

/// Accepts until the worker drains, and then what is still in the queue: closing a listener resets whatever
/// waits in it. Not so with a listener that a service manager keeps: there it waits for the next daemon.
pub(super) async fn run(worker: Rc<Worker>, source: Source) {
    let mut acceptor =
        Acceptor { worker, source, has_paused: false, last_said: None, newcomers: VecDeque::new() };
    while !acceptor.worker.is_draining() {
        acceptor.turn().await;
    }
    while let Some(newcomer) = acceptor.newcomers.pop_front() {
        acceptor.serve(newcomer);
    }
    if acceptor.source.is_kept {
        return;
    }
    loop {
        match accept_one(&acceptor.source) {
            Accepted::Connection(newcomer) => acceptor.serve(newcomer),
            Accepted::Lost => {}
            Accepted::NoneWaiting | Accepted::Exhausted(_) => return,
        }
    }
}

/// One of a worker's listeners and who comes from it.
struct Acceptor {
    worker: Rc<Worker>,
    source: Source,
    has_paused: bool,
    /// When the log was last told that there is no room.
    last_said: Option<Tick>,
    /// Taken from the queue while there was no room, and served once there is some.
    newcomers: VecDeque<Newcomer>,
}

impl Acceptor {
    async fn turn(&mut self) {
        if self.worker.is_full() {
            return self.turn_full().await;
        }
        let accepted = match self.newcomers.pop_front() {
            Some(newcomer) => self.serve_within(newcomer),
            None => self.accept_batch(),
        };
        match accepted {
            Accepted::Exhausted(errno) => self.make_room_in_process(errno).await,
            _ if !self.newcomers.is_empty() => {}
            _ => {
                self.has_paused = false;
                // A dropped readiness wait loses nothing, and the time-out lets a drain be noticed.
                let _ = monoio::time::timeout(TICK, self.source.socket.readable(false)).await;
            }
        }
    }

    /// The limit of connections is reached: room is made for those who want to come, if there is anybody.
    async fn turn_full(&mut self) {
        self.take_newcomers();
        if self.newcomers.is_empty() {
            let _ = monoio::time::timeout(TICK, self.source.socket.readable(false)).await;
            return;
        }
        // Whose address holds least: where none is ended for this one, none is for the others.
        let (held, live) = (&self.worker.resources.shares.connections, self.worker.live());
        let holder = |place: usize| self.newcomers[place].holder(&live.proxies);
        let least = (0..self.newcomers.len()).min_by_key(|place| held.held_by(holder(*place)));
        let least = least.unwrap_or_default();
        if self.worker.make_room(Want::Connection(holder(least))) > 0 {
            self.newcomers.swap(0, least);
            return self.await_room().await;
        }
        self.pause(self.worker.full_reason()).await;
    }

    /// Takes from the queue whoever waits there, to see for whom room is wanted. Where too many wait those of the
    /// address that has most go, the oldest first: the queue behind them is everybody's.
    fn take_newcomers(&mut self) {
        let part = self.worker.descriptors().connections_max / NEWCOMERS_DIVISOR;
        let newcomers_max = part.clamp(NEWCOMERS_MIN, NEWCOMERS_MAX);
        for _ in 0..self.source.batch {
            if self.newcomers.len() >= newcomers_max && !(self.is_queued() && self.refuse_newcomer()) {
                return;
            }
            match accept_one(&self.source) {
                Accepted::Connection(newcomer) => self.newcomers.push_back(newcomer),
                Accepted::Lost => {}
                Accepted::NoneWaiting | Accepted::Exhausted(_) => return,
            }
        }
    }

    /// Whether somebody waits in the queue of the listener.
    fn is_queued(&self) -> bool {
        let listener = sys::borrow(&self.source.socket);
        let mut events = [PollFd::new(&listener, PollFlags::IN)];
        poll(&mut events, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Refuses the one that has waited for longest of the address that holds and wants most. False: nobody of those who
    /// wait has an address of its own, or none holds anything.
    fn refuse_newcomer(&mut self) -> bool {
        let (held, live) = (&self.worker.resources.shares.connections, self.worker.live());
        let holders = || self.newcomers.iter().map(|newcomer| newcomer.holder(&live.proxies));
        let wanted = |holder| holders().filter(|other| *other == holder).count() as u64;
        let addresses = holders().filter(Option::is_some);
        let count = |holder: &Holder| held.held_by(*holder) + wanted(*holder);
        let Some(fullest) = addresses.max_by_key(count).filter(|fullest| count(fullest) > 1) else {
            return false;
        };
        self.worker.counters.limited.add(Limit::Connections, 1);
        let place = holders().position(|holder| holder == fullest);
        place.is_some_and(|place| self.newcomers.remove(place).is_some())
    }

    /// Waits until what was ended is gone, a moment at most.
    async fn await_room(&mut self) {
        if self.may_say() {
            let (worker, reason) = (self.worker.number, self.worker.full_reason());
            tracing::warn!(worker, reason, "connections are closed for newcomers");
        }
        let end = self.worker.clock.deadline(ROOM_MS).tick;
        while self.worker.is_full() && self.worker.clock.now() < end {
            monoio::time::sleep(ROOM_LOOK).await;
        }
    }

    /// Descriptors are used up, those of the process or the part of data connections.
    async fn make_room_in_process(&mut self, errno: Errno) {
        if errno == Errno::MFILE {
            self.worker.make_room(Want::Descriptor);
        }
        self.pause(&describe(errno)).await;
    }

    fn accept_batch(&mut self) -> Accepted {
        for _ in 0..self.source.batch {
            // Asked for each: a whole batch above the limit would make it a suggestion.
            if self.worker.is_full() {
                break;
            }
            match accept_one(&self.source) {
                Accepted::Connection(newcomer) => {
                    if let exhausted @ Accepted::Exhausted(_) = self.serve_within(newcomer) {
                        return exhausted;
                    }
                }
                Accepted::Lost => {}
                other => return other,
            }
        }
        Accepted::NoneWaiting
    }

    /// Serves a newcomer whose descriptor is none of those that belong to others, and else keeps it for later.
    fn serve_within(&mut self, newcomer: Newcomer) -> Accepted {
        let end = self.worker.descriptors().data_end;
        if is_below(&newcomer.descriptor, end) {
            self.serve(newcomer);
            return Accepted::NoneWaiting;
        }
        // A copy has the lowest number that is free by now.
        match fcntl_dupfd_cloexec(&newcomer.descriptor, 0) {
            Ok(lower) if is_below(&lower, end) => {
                self.serve(Newcomer { descriptor: lower, peer: newcomer.peer });
                Accepted::NoneWaiting
            }
            _ => {
                self.newcomers.push_front(newcomer);
                Accepted::Exhausted(Errno::MFILE)
            }
        }
    }

    fn serve(&self, newcomer: Newcomer) {
        let Newcomer { descriptor, peer } = newcomer;
        match Socket::new(descriptor, peer) {
            Ok(socket) => {
                self.worker.counters.connections_accepted.add(1);
                let is_proxy = peer.is_trusted(&self.worker.live().proxies);
                let via = Via { listener: self.source.place, is_proxy, is_paced: self.source.is_paced };
                let registered = self.worker.registry.add(socket, via);
                platform::spawn(dispatch::run(Rc::clone(&self.worker), registered));
            }
            Err(error) => tracing::warn!(%peer, %error, "a connection could not be watched"),
        }
    }

    /// Says once why accepting pauses, and waits.
    async fn pause(&mut self, reason: &str) {
        if !self.has_paused {
            self.has_paused = true;
            self.worker.counters.accept_pauses.add(1);
            if self.may_say() {
                tracing::warn!(worker = self.worker.number, reason, "accepting pauses");
            }
        }
        monoio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
    }

    /// Whether the log may be told that there is no room: not if it was just before, since newcomers must not write it.
    fn may_say(&mut self) -> bool {
        let (now, pause) = (self.worker.clock.now(), self.worker.clock.deadline(SAID_MS).timeout_ticks);
        let may_say = self.last_said.is_none_or(|last| now >= last + pause);
        if may_say {
            self.last_said = Some(now);
        }
        may_say
    }
}

fn is_below(descriptor: &OwnedFd, end: u64) -> bool {
    u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number < end)
}

fn accept_one(source: &Source) -> Accepted {
    // accept4: non-blocking and close-on-exec from birth, which monoio's own accept leaves off.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    if source.is_local {
        let accepted = accept_with(sys::borrow(&source.socket), flags);
        return accepted.map_or_else(failed, |descriptor| {
            let peer = Peer::Local(local_peer(&descriptor));
            Accepted::Connection(Newcomer { descriptor, peer })
        });
    }
    match acceptfrom_with(sys::borrow(&source.socket), flags) {
        Ok((descriptor, Some(peer))) => match SocketAddr::try_from(peer) {
            Ok(peer) => Accepted::Connection(Newcomer { descriptor, peer: shown_address(peer).into() }),
            Err(_) => Accepted::Lost,
        },
        // No address: the peer reset the connection while it waited.
        Ok((_, None)) => Accepted::Lost,
        Err(errno) => failed(errno),
    }
}

/// The process on the other end of a Unix socket. Its user alone is known where the kernel has no credentials of it.
fn local_peer(descriptor: &OwnedFd) -> LocalPeer {
    let Ok(credentials) = sockopt::socket_peercred(descriptor) else { return LocalPeer::default() };
    let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or_default();
    LocalPeer { uid: credentials.uid.as_raw(), pid }
}

/// Sorts the errors of accept(2).
fn failed(errno: Errno) -> Accepted {
    match errno {
        Errno::AGAIN => Accepted::NoneWaiting,
        // Pending errors of the new connection are its own affair (accept(2), "Error handling").
        Errno::CONNABORTED
        | Errno::INTR
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NONET
        | Errno::PERM => Accepted::Lost,
        // The rest lasts: trying again at once would spin.
        errno => Accepted::Exhausted(errno),
    }
}

fn describe(errno: Errno) -> String {
    match errno {
        Errno::MFILE => "out of descriptors: raise LimitNOFILE= (or ulimit -n)".to_owned(),
        Errno::NFILE => "this host is out of descriptors: raise fs.file-max".to_owned(),
        errno => errno.to_string(),
    }
}
