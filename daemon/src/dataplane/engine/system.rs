//! The real thing below the engines: Linux, by way of a worker and one of its connections.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, pread};
use rustix::pipe::{SpliceFlags, splice};

use super::super::connection::{Connection, Phase};
use super::super::context::Worker;
use super::super::disk::{DiskError, Lane, Owner};
use super::super::disk_waits::{Belief, Care};
use super::super::error::TransferError;
use super::super::pipe_pool::Pipe;
use super::kernel::{Conduit, Kernel, Reader, Source};
use crate::config::EngineChoice;
use crate::files::residency::Residency;
use crate::files::{FileState, SourceFile, Synthetic, Witnesses};
use crate::limits::{Full, Peer, Reserved, Tick};
use crate::telemetry::WorkerCounters;

/// A connection and its worker.
#[derive(Clone, Copy)]
pub(in crate::dataplane) struct System<'a> {
    pub(super) worker: &'a Worker,
    pub(super) connection: &'a Connection,
}

impl Kernel for System<'_> {
    type File = SourceFile;
    type Pipe = Pipe;

    fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        self.connection.socket.stream.send(bytes, more)
    }

    fn send_both(&self, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
        self.connection.socket.stream.send_both(first, second)
    }

    fn sendfile(&self, file: &SourceFile, offset: u64, bytes: usize) -> Result<usize, Errno> {
        self.connection.socket.stream.sendfile(file, offset, bytes)
    }

    fn sendfile_synthetic(&self, source: &Synthetic, offset: u64, bytes: usize) -> Result<usize, Errno> {
        self.connection.socket.stream.sendfile(source, offset, bytes)
    }

    fn take_pipe(&self) -> Option<Arc<Pipe>> {
        self.worker.pipes.take()
    }

    fn put_back_pipe(&self, pipe: Arc<Pipe>) {
        self.worker.pipes.put_back(pipe);
    }

    fn empty_pipe(&self, pipe: &Pipe, bytes: usize, more: bool) -> Result<usize, Errno> {
        self.connection.socket.stream.empty_pipe(pipe.output.as_fd(), bytes, more)
    }

    fn writable(&self, timeout_ms: u64) -> impl Future<Output = Result<(), TransferError>> {
        self.connection.writable(self.worker.clock.deadline(timeout_ms))
    }

    fn readable(&self, timeout_ms: u64) -> impl Future<Output = Result<(), TransferError>> {
        self.connection.readable(Phase::Sending, self.worker.clock.deadline(timeout_ms))
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        self.worker.yield_now()
    }

    fn on_disk_thread<R: Send + 'static>(
        &self,
        file: &SourceFile,
        is_ours: bool,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, DiskError>> {
        let group = if is_ours { None } else { self.connection.group() };
        self.worker.disk.run(Lane::Read, Owner { mount: file.mount(), group }, work)
    }

    fn note_read(&self, file: &SourceFile, took: Duration) {
        self.worker.waits.note_read(&self.worker.clock, file, took);
    }

    fn belief(&self, file: &SourceFile) -> Belief {
        self.worker.waits.belief(file, self.now())
    }

    fn probe(&self, file: &SourceFile, offset: u64, length: u64) -> Residency {
        self.worker.waits.probe(&self.worker.clock, file, offset, length)
    }

    fn glance(&self, file: &SourceFile, offset: u64, length: u64) -> Residency {
        self.worker.waits.glance(&self.worker.clock, file, offset, length)
    }

    fn read_whole(&self, file: &SourceFile, offset: u64, length: u64) -> Residency {
        self.worker.waits.read_whole(&self.worker.clock, file, offset, length)
    }

    fn was_read(&self, file: &SourceFile, offset: u64, length: u64, since: Tick) -> bool {
        self.worker.waits.read.covers(file.id(), offset, length, since, self.now())
    }

    fn note_window_read(&self, file: &SourceFile, offset: u64, length: u64, since: Tick, time_ms: u64) {
        let (now, end) = (self.now(), self.worker.clock.deadline(time_ms).tick);
        self.worker.waits.read.note(file.id(), offset, length, since, now, end);
    }

    fn care(&self, care: Care) -> Care {
        self.worker.waits.care(care, self.now())
    }

    fn look_at<R>(
        &self,
        file: &SourceFile,
        care: Care,
        offset: u64,
        bytes: u64,
        call: impl FnOnce() -> R,
    ) -> (R, bool) {
        let Worker { waits, clock, .. } = self.worker;
        let look = waits.begin(care, bytes);
        let result = call();
        let waited = waits.end(&look, clock);
        if let Some(waited) = waited {
            waits.add(clock, file, offset, waited);
        }
        (result, waited.is_some())
    }

    fn reserve(&self, is_ours: bool, bytes: usize) -> Result<Reserved, Full> {
        let holder = if is_ours { None } else { self.connection.group() };
        self.worker.reserve(holder, bytes)
    }

    fn now(&self) -> Tick {
        self.worker.clock.now()
    }

    fn cache_valid_ticks(&self) -> u64 {
        self.worker.clock.ticks_within(self.worker.live().settings.cache_valid_ms)
    }

    fn engine_choice(&self) -> EngineChoice {
        self.worker.live().settings.engine
    }

    fn is_paced(&self) -> bool {
        self.connection.via.is_paced
    }

    fn counters(&self) -> &WorkerCounters {
        &self.worker.counters
    }

    fn client(&self) -> Peer {
        self.connection.client()
    }
}

impl Source for SourceFile {
    type Reader = Arc<OwnedFd>;
    type Witnesses = Witnesses;
    type State = FileState;

    fn reader(&self) -> Arc<OwnedFd> {
        self.descriptor()
    }

    fn size(&self) -> u64 {
        SourceFile::size(self)
    }

    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        SourceFile::read_at_once(self, buffer, offset)
    }

    fn look(&self, witnesses: &mut Witnesses, start: u64, end: u64) {
        witnesses.look(self, start, end);
    }

    fn are_none(witnesses: &Witnesses) -> bool {
        witnesses.are_none()
    }

    fn agrees(&self, witnesses: &Witnesses) -> bool {
        witnesses.agree(self)
    }

    fn is_as_opened(&self) -> bool {
        SourceFile::is_as_opened(self)
    }

    fn state(&self) -> Option<FileState> {
        SourceFile::state(self)
    }

    fn has_grown(&self) -> bool {
        SourceFile::has_grown(self)
    }

    fn is_elsewhere(&self) -> bool {
        SourceFile::is_elsewhere(self)
    }

    fn lives_in_memory(&self) -> bool {
        SourceFile::lives_in_memory(self)
    }

    fn tells_residency(&self) -> bool {
        SourceFile::tells_residency(self)
    }

    fn note_mute(&self) {
        SourceFile::note_mute(self);
    }

    fn is_known_hot(&self, window: u64, since: Tick, now: Tick) -> bool {
        SourceFile::is_known_hot(self, window, since, now)
    }

    fn note_hot(&self, window: u64, since: Tick, now: Tick, end: Tick) {
        SourceFile::note_hot(self, window, since, now, end);
    }

    fn forget_hot(&self) {
        SourceFile::forget_hot(self);
    }
}

impl Reader for Arc<OwnedFd> {
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        pread(self, buffer, offset)
    }
}

impl Conduit<Arc<OwnedFd>> for Pipe {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn fill(&self, reader: &Arc<OwnedFd>, mut offset: u64, bytes: usize) -> Result<usize, Errno> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        splice(reader, Some(&mut offset), &self.input, None, bytes, flags)
    }
}
