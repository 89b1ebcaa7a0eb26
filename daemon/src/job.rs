//! The vocabulary between the planes: the control plane hands a [`StreamJob`] to a worker through its mailbox,
//! watches its [`StreamProgress`], and gets one [`JobEnd`] back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use crate::files::FileError;
use crate::limits::Full;
use crate::protocol::name::{Name, NameError};

/// The most jobs that wait in one worker's mailbox. A worker takes each at its next turn; more than this means
/// that it is stuck, and the client should be told so instead of waiting.
pub const MAILBOX_JOBS_MAX: usize = 256;

/// The source of a stream's bytes.
#[derive(Clone, Debug)]
pub enum Source {
    /// Random bytes from memory.
    Synthetic {
        /// The number of bytes.
        bytes: u64,
    },
    /// A range of a file below the root.
    File {
        /// The name of the file.
        name: Name,
        /// The offset of the range.
        offset: u64,
        /// The length of the range; None for the rest of the file.
        length: Option<u64>,
    },
}

impl Source {
    /// Makes a range of the file at `path`, a path below the root as a URL would spell it.
    pub fn file(path: &str, offset: u64, length: Option<u64>) -> Result<Source, NameError> {
        Ok(Source::File { name: Name::parse(path.as_bytes())?, offset, length })
    }
}

/// The protocol that the target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetProtocol {
    /// One length-prefixed frame, answered with `done`.
    Frame,
    /// Bare bytes up to our FIN; success is the target's own close.
    Raw,
}

/// The progress of a stream, written by its worker and read by the control plane.
#[derive(Debug, Default)]
pub struct StreamProgress {
    bytes_requested: AtomicU64,
    bytes_sent: AtomicU64,
    is_evicted: AtomicBool,
}

impl StreamProgress {
    /// Returns the bytes that the stream will send in all; 0 until its file is open.
    pub fn bytes_requested(&self) -> u64 {
        self.bytes_requested.load(Ordering::Relaxed)
    }

    /// Sets the bytes that the stream will send in all.
    pub fn set_bytes_requested(&self, bytes: u64) {
        self.bytes_requested.store(bytes, Ordering::Relaxed);
    }

    /// Returns the payload bytes handed to the kernel so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Starts the count anew, since the bytes were sent in vain and all of them are sent again.
    pub fn restart(&self) {
        self.bytes_sent.store(0, Ordering::Relaxed);
    }

    /// Notes that the stream is about to be cancelled to make room for others.
    pub fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
    }

    /// Whether the stream is cancelled to make room.
    pub fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Adds payload bytes handed to the kernel.
    pub fn add_bytes_sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One stream to be run.
#[derive(Debug)]
pub struct StreamJob {
    /// The stream's id, for log lines.
    pub id: String,
    /// The source of its bytes.
    pub source: Source,
    /// The target, the address that was checked against the allow list.
    pub target: SocketAddr,
    /// The place of the listener that the target is, where it is one of the own data plane.
    pub own_listener: Option<u16>,
    /// The protocol that the target speaks.
    pub protocol: TargetProtocol,
    /// The progress, shared with the control plane.
    pub progress: Arc<StreamProgress>,
    /// The channel that is told once how the stream ended. Its receiver going away cancels the stream.
    pub end: oneshot::Sender<JobEnd>,
}

/// How a stream ended: the engine that moved its bytes, or why it failed.
pub type JobEnd = Result<&'static str, StreamError>;

/// Why a stream failed. The bytes sent so far stand in its [`StreamProgress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// There is no such file below the root.
    #[error("no such file below the root")]
    NotFound,
    /// There is no root.
    #[error("no files are served: start streamd with --root DIR")]
    NoRoot,
    /// The range doesn't lie inside the file.
    #[error("offset {offset} and length {length} reach beyond the file's {size} bytes")]
    BeyondEnd {
        /// The offset that was asked for.
        offset: u64,
        /// The length that was asked for.
        length: u64,
        /// The file's size.
        size: u64,
    },
    /// The range is above the stream limit.
    #[error("{bytes} bytes are above the limit of {stream_bytes_max}")]
    OverLimit {
        /// The bytes that were asked for.
        bytes: u64,
        /// The limit in bytes.
        stream_bytes_max: u64,
    },
    /// The file couldn't be read, or got shorter on the way.
    #[error("the source failed: {0}")]
    SourceFailed(SourceError),
    /// The target didn't accept the connection.
    #[error("the target refused the connection: {0}")]
    TargetRefused(TargetError),
    /// This host could not begin a connection to the target.
    #[error(
        "this host has no free local port for {target}: widen net.ipv4.ip_local_port_range, or wait until former \
         connections to it have left TIME_WAIT{}",
        if .target.is_ipv6() { "; or it has no IPv6 address at all" } else { "" }
    )]
    NoLocalPort {
        /// The address of the target.
        target: SocketAddr,
    },
    /// The target went away before the stream was whole and acknowledged.
    #[error("the target broke off: {0}")]
    TargetBrokeOff(BrokeOff),
    /// The target made no progress within this time, in milliseconds.
    #[error("the target was silent for {0} ms")]
    TargetSilent(u64),
    /// The target took less than the minimum of progress.
    #[error("the target took fewer than progress_bytes_min bytes a second")]
    TargetSlow,
    /// The stream had to make room for others.
    #[error("the stream made room for another address's: streams_max is reached")]
    Evicted,
    /// The client that asked for the stream went away.
    #[error("the client that asked for the stream went away")]
    Cancelled,
    /// The daemon stops, or the worker doesn't take jobs.
    #[error("the data plane takes no streams: {0}")]
    Unavailable(Unavailable),
}

/// Why a stream's source failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A stream says first how long it will be, and this file doesn't say it.
    #[error("the file doesn't say how long it is (/proc, or direct I/O of FUSE): fetch it by GET")]
    NoLength,
    /// The file can't be opened, or its disk doesn't answer.
    #[error(transparent)]
    NoFile(#[from] FileError),
    /// The file is shorter than it was when the stream began.
    #[error("the file got shorter: nothing at offset {offset}")]
    Shrank {
        /// Where bytes were expected.
        offset: u64,
    },
    /// The file isn't what it was when the stream began.
    #[error("the file was changed while it was sent")]
    Changed,
    /// The file can't be read.
    #[error("the file can't be read at offset {offset}: {errno}")]
    Unreadable {
        /// Where reading failed.
        offset: u64,
        /// What the system said.
        errno: Errno,
    },
    /// Too much waits for its readers.
    #[error(transparent)]
    NoRoom(#[from] Full),
    /// Anything else.
    #[error("the source can't be used")]
    Unusable,
}

/// Why a target took no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// What the system said of the connection, or of the socket for it.
    #[error(transparent)]
    System(#[from] Errno),
    /// It closed the connection at once.
    #[error("the peer closed the connection")]
    Closed,
}

/// How a target broke off a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokeOff {
    /// The target closed or reset the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The target answered a frame with something else than its acknowledgement.
    #[error("the target's answer is no `done`")]
    NotAcknowledged,
}

/// Why the data plane doesn't take a stream, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No worker takes one more job.
    #[error("every worker's mailbox is full or closed")]
    MailboxesFull,
    /// The daemon drains, and nothing new begins.
    #[error("the daemon drains")]
    Draining,
    /// The time to finish running streams is over.
    #[error("the daemon stopped before the end")]
    Stopped,
    /// The worker of the stream has ended.
    #[error("the worker ended before the stream")]
    WorkerEnded,
}

/// The workers' mailboxes, used in turn.
#[derive(Clone, Debug)]
pub struct Mailboxes {
    senders: Arc<[mpsc::Sender<StreamJob>]>,
    next: Arc<AtomicUsize>,
}

impl Mailboxes {
    /// Makes mailboxes of these workers.
    pub fn new(senders: Vec<mpsc::Sender<StreamJob>>) -> Mailboxes {
        Mailboxes { senders: senders.into(), next: Arc::new(AtomicUsize::new(0)) }
    }

    /// Hands `job` to the next worker that takes it; the error is returned if all mailboxes are full or closed.
    pub fn post(&self, job: StreamJob) -> Result<(), StreamError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut job = job;
        for step in 0..self.senders.len() {
            let sender = &self.senders[(first + step) % self.senders.len()];
            match sender.try_send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    job = back
                }
            }
        }
        Err(StreamError::Unavailable(Unavailable::MailboxesFull))
    }
}
