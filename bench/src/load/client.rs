//! The state that the connections of a client thread share.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_uring::net::TcpStream;

use super::operation::{DiscardMemory, pause};
use super::pace::Schedule;
use super::phase::Phase;
use super::tally::Tally;
use super::work::Load;

/// The time for which a connection waits for its next start before it looks whether the load has ended.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The most connects under way at once: connects that overflow a server's queue of new connections (1,024 and
/// more) are dropped, and tried again by the kernel a second later.
const CONNECTS_AT_ONCE_MAX: usize = 256;

/// A client thread, as its connections see it.
pub(super) struct Client {
    pub(super) load: Load,
    pub(super) phase: Arc<Phase>,
    pub(super) schedule: Schedule,
    pub(super) discard: DiscardMemory,
    pub(super) tally: RefCell<Tally>,
    /// The permits to connect.
    pub(super) connects: Semaphore,
    /// The number of connections that have had their first answer.
    pub(super) warm: Cell<usize>,
    /// The bytes of uploads that were sent, whether they count or not.
    pub(super) bytes_moved: Cell<u64>,
    /// The open sockets, by connection, so that they can be broken off at the end.
    pub(super) streams: RefCell<Vec<Option<Rc<TcpStream>>>>,
}

impl Client {
    /// Makes the state of a thread that has `connections` of the load's connections.
    pub(super) fn new(load: Load, phase: Arc<Phase>, mut tally: Tally, connections: usize) -> Client {
        tally.connection_bytes = vec![0; connections];
        Client {
            schedule: Schedule::new(load.pace, load.threads),
            load,
            phase,
            discard: DiscardMemory::new(),
            tally: RefCell::new(tally),
            connects: Semaphore::new(CONNECTS_AT_ONCE_MAX),
            warm: Cell::new(0),
            bytes_moved: Cell::new(0),
            streams: RefCell::new(vec![None; connections]),
        }
    }

    /// Waits for the intended start of the next request, and returns it.
    pub(super) async fn wait_for_start(&self) -> io::Result<Instant> {
        let start = self.schedule.next_start();
        loop {
            let early = start.saturating_duration_since(Instant::now());
            if early.is_zero() || self.phase.is_stopping() {
                return Ok(start);
            }
            // A load that ends doesn't wait for the next start of a slow schedule.
            pause(early.min(WAIT_MAX)).await?;
        }
    }
}
