//! Takes connections off a worker's listener.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpListener;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::connection;
use super::socket::Socket;
use super::worker::{TICK, Worker};
use crate::sys;

/// Connections taken in one go before others get their turn.
const BATCH: usize = 64;

/// The same from a listener that the workers share: whoever comes first must leave something to the others, which were
/// woken as well.
const BATCH_SHARED: usize = 1;

/// Wait after the host ran out of descriptors or memory, or the connection limit was reached: connections
/// that end meanwhile make room, and the kernel's queue keeps the newcomers.
const PAUSE: Duration = Duration::from_millis(100);

/// What one try gave.
enum Accepted {
    Connection(OwnedFd, SocketAddr),
    NoneWaiting,
    /// This one is gone; the next may be fine.
    Lost,
    /// No room for now.
    Exhausted(Errno),
}

/// Accepts until the worker drains, and then what is still in the queue: closing a listener resets whatever
/// waits in it. Not so with a listener that a service manager keeps: there it waits for the next daemon.
pub(super) async fn run(worker: Rc<Worker>, listener: TcpListener, is_passed: bool) {
    let batch = if is_passed { BATCH_SHARED } else { BATCH };
    let mut exhausted = false;
    while !worker.is_draining() {
        if worker.is_full() {
            pause(&worker, &mut exhausted, "connections_max is reached").await;
            continue;
        }
        match accept_batch(&worker, &listener, batch) {
            Accepted::Exhausted(errno) => {
                pause(&worker, &mut exhausted, &describe(errno)).await;
            }
            _ => {
                exhausted = false;
                // A dropped readiness wait loses nothing, and the time-out lets a drain be noticed.
                let _ = monoio::time::timeout(TICK, listener.readable(false)).await;
            }
        }
    }
    if is_passed {
        return;
    }
    loop {
        match accept_one(&listener) {
            Accepted::Connection(descriptor, peer) => serve(&worker, descriptor, peer),
            Accepted::Lost => {}
            Accepted::NoneWaiting | Accepted::Exhausted(_) => return,
        }
    }
}

fn accept_batch(worker: &Rc<Worker>, listener: &TcpListener, batch: usize) -> Accepted {
    for _ in 0..batch {
        // Asked for each: a whole batch above the limit would make it a suggestion.
        if worker.is_full() {
            break;
        }
        match accept_one(listener) {
            Accepted::Connection(descriptor, peer) => serve(worker, descriptor, peer),
            Accepted::Lost => {}
            other => return other,
        }
    }
    Accepted::NoneWaiting
}

fn accept_one(listener: &TcpListener) -> Accepted {
    // accept4: non-blocking and close-on-exec from birth, which monoio's own accept leaves off.
    match acceptfrom_with(sys::borrow(listener), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok((descriptor, Some(peer))) => match SocketAddr::try_from(peer) {
            Ok(peer) => Accepted::Connection(descriptor, peer),
            Err(_) => Accepted::Lost,
        },
        // No address: the peer reset the connection while it waited.
        Ok((_, None)) => Accepted::Lost,
        Err(Errno::AGAIN) => Accepted::NoneWaiting,
        // Pending errors of the new connection are its own affair (accept(2), "Error handling").
        Err(
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
            | Errno::PERM,
        ) => Accepted::Lost,
        // The rest lasts: trying again at once would spin.
        Err(errno) => Accepted::Exhausted(errno),
    }
}

fn serve(worker: &Rc<Worker>, descriptor: OwnedFd, peer: SocketAddr) {
    match Socket::new(descriptor, peer) {
        Ok(socket) => {
            worker.counters.connections_accepted.add(1);
            let registered = worker.registry.add(socket);
            monoio::spawn(connection::run(Rc::clone(worker), registered));
        }
        Err(error) => tracing::warn!(%peer, %error, "a connection could not be watched"),
    }
}

fn describe(errno: Errno) -> String {
    match errno {
        Errno::MFILE => "out of descriptors: raise LimitNOFILE= (or ulimit -n)".to_owned(),
        Errno::NFILE => "this host is out of descriptors: raise fs.file-max".to_owned(),
        errno => errno.to_string(),
    }
}

/// Says once why accepting pauses, and waits.
async fn pause(worker: &Worker, exhausted: &mut bool, reason: &str) {
    if !*exhausted {
        *exhausted = true;
        worker.counters.accept_pauses.add(1);
        tracing::warn!(worker = worker.number, reason, "accepting pauses");
    }
    monoio::time::sleep(PAUSE).await;
}
