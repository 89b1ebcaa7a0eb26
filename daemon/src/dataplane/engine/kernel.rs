//! The system below the engines, as one seam: the calls that move bytes, the waits between them, and what is known of
//! files and memory. The daemon has [`System`](super::system::System); tests have scripts.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::super::disk::DiskError;
use super::super::disk_waits::{Belief, Care};
use super::super::error::TransferError;
use crate::config::EngineChoice;
use crate::files::Synthetic;
use crate::files::residency::Residency;
use crate::limits::{Full, Peer, Reserved, Tick};
use crate::telemetry::WorkerCounters;

/// One connection, and what a transfer on it needs of its worker. No call of it but those that are futures waits, and
/// none of those waits for a peer without a deadline.
pub(in crate::dataplane) trait Kernel {
    /// A file that is sent.
    type File: Source;
    /// A pipe that files are spliced through.
    type Pipe: Conduit<<Self::File as Source>::Reader>;

    /// Hands bytes to the socket, and says how many it took. `more`: others follow at once.
    fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno>;

    /// Hands two pieces to the socket in one call, and says how many bytes of both it took.
    fn send_both(&self, first: &[u8], second: &[u8]) -> Result<usize, Errno>;

    /// Hands up to `bytes` bytes of a file to the socket, and says how many it took; 0 where the file ends before
    /// `offset`.
    fn sendfile(&self, file: &Self::File, offset: u64, bytes: usize) -> Result<usize, Errno>;

    /// [`Kernel::sendfile`] of random bytes.
    fn sendfile_synthetic(&self, source: &Synthetic, offset: u64, bytes: usize) -> Result<usize, Errno>;

    /// A pipe that is empty; None where there may be no further one.
    fn take_pipe(&self) -> Option<Arc<Self::Pipe>>;

    /// Takes back a pipe that is empty.
    fn put_back_pipe(&self, pipe: Arc<Self::Pipe>);

    /// Hands up to `bytes` bytes that the pipe holds to the socket, and says how many it took. `more`: others follow.
    fn empty_pipe(&self, pipe: &Self::Pipe, bytes: usize, more: bool) -> Result<usize, Errno>;

    /// Waits until the socket takes more, for `timeout_ms` at most without progress.
    fn writable(&self, timeout_ms: u64) -> impl Future<Output = Result<(), TransferError>>;

    /// Waits until there is something to receive from the peer, which may still be taking what was sent, for
    /// `timeout_ms` at most without progress.
    fn readable(&self, timeout_ms: u64) -> impl Future<Output = Result<(), TransferError>>;

    /// Lets other tasks of the worker run.
    fn yield_now(&self) -> impl Future<Output = ()>;

    /// Runs `work`, which may wait for the disk of a file, on a disk thread. It takes the share of the connection's
    /// client, or that of nobody where `is_ours`.
    fn on_disk_thread<R: Send + 'static>(
        &self,
        file: &Self::File,
        is_ours: bool,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, DiskError>>;

    /// A disk thread took so long to read of a file.
    fn note_read(&self, file: &Self::File, took: Duration);

    /// The proof that it takes to believe that a window of a file is in memory.
    fn belief(&self, file: &Self::File) -> Belief;

    /// Looks at a few places of a range.
    fn probe(&self, file: &Self::File, offset: u64, length: u64) -> Residency;

    /// Looks at one place of a range.
    fn glance(&self, file: &Self::File, offset: u64, length: u64) -> Residency;

    /// Reads all of a range that is in memory.
    fn read_whole(&self, file: &Self::File, offset: u64, length: u64) -> Residency;

    /// Whether a disk thread has read all of a range at tick `since` or later, and that still counts.
    fn was_read(&self, file: &Self::File, offset: u64, length: u64, since: Tick) -> bool;

    /// A disk thread has read a window; that counts for `time_ms`.
    fn note_window_read(&self, file: &Self::File, offset: u64, length: u64, since: Tick, time_ms: u64);

    /// How closely a call is to be looked at that otherwise takes `care`.
    fn care(&self, care: Care) -> Care;

    /// Makes a call that takes `bytes` bytes of a file from `offset` on, and says whether it waited for a disk.
    fn look_at<R>(
        &self,
        file: &Self::File,
        care: Care,
        offset: u64,
        bytes: u64,
        call: impl FnOnce() -> R,
    ) -> (R, bool);

    /// Room for memory that waits for the peer, in the share of the connection's client, or in nobody's where
    /// `is_ours`.
    fn reserve(&self, is_ours: bool, bytes: usize) -> Result<Reserved, Full>;

    /// The present tick.
    fn now(&self) -> Tick;

    /// Ticks for which what was found out of a file counts.
    fn cache_valid_ticks(&self) -> u64;

    /// Which engine the operator asked for.
    fn engine_choice(&self) -> EngineChoice;

    /// Whether TCP paces the connection.
    fn is_paced(&self) -> bool;

    /// Those of the worker.
    fn counters(&self) -> &WorkerCounters;

    /// Who is served.
    fn client(&self) -> Peer;
}

/// A file that is open to be sent. Clones share what is open.
pub(in crate::dataplane) trait Source: Clone + Send + 'static {
    /// A handle by which a disk thread reads the file.
    type Reader: Reader;
    /// Places of the file that were seen while it was sent.
    type Witnesses: Clone + Default + Send + 'static;

    /// The state of a file at one moment.
    type State: PartialEq + Send + 'static;

    /// For a disk thread.
    fn reader(&self) -> Self::Reader;

    /// Its length in bytes when it was opened.
    fn size(&self) -> u64;

    /// Reads what is in memory of the bytes from `offset` on, up to where one isn't, without waiting for a disk.
    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;

    /// Looks at a place between `start` and `end`, which are being sent.
    fn look(&self, witnesses: &mut Self::Witnesses, start: u64, end: u64);

    /// Whether nothing was seen so far.
    fn are_none(witnesses: &Self::Witnesses) -> bool;

    /// Whether it still has every byte that was seen. Waits for the disk.
    fn agrees(&self, witnesses: &Self::Witnesses) -> bool;

    /// Whether it has the bytes that it had when it was opened, as far as its times tell. Waits where it is elsewhere.
    fn is_as_opened(&self) -> bool;

    /// The state that it is in now. Waits where it is elsewhere.
    fn state(&self) -> Option<Self::State>;

    /// Whether it is longer than when it was opened. Waits where it is elsewhere.
    fn has_grown(&self) -> bool;

    /// Whether every question about it may ask a server.
    fn is_elsewhere(&self) -> bool;

    /// Whether no part of it is ever cold.
    fn lives_in_memory(&self) -> bool;

    /// Whether its file system tells what of it is in memory.
    fn tells_residency(&self) -> bool;

    /// It was asked, and its file system doesn't tell.
    fn note_mute(&self);

    /// Whether the window of this number was found in memory at tick `since` or later, and that still counts at `now`.
    fn is_known_hot(&self, window: u64, since: Tick, now: Tick) -> bool;

    /// The window of this number was found in memory at tick `now`, which counts until `end`.
    fn note_hot(&self, window: u64, since: Tick, now: Tick, end: Tick);

    /// Forgets the windows that were found in memory: they may not be there any more.
    fn forget_hot(&self);
}

/// Reads a file where waiting for its disk does no harm.
pub(in crate::dataplane) trait Reader: Send + 'static {
    /// Fills the buffer from `offset` on, and says how far; 0 is the file's end.
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;
}

/// A pipe.
pub(in crate::dataplane) trait Conduit<R>: Send + Sync + 'static {
    /// Bytes of whole pages that it holds.
    fn capacity(&self) -> usize;

    /// Moves up to `bytes` bytes of a file into it, and says how many.
    fn fill(&self, reader: &R, offset: u64, bytes: usize) -> Result<usize, Errno>;
}
