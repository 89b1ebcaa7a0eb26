//! A kernel that does what its plan says, to the real engines and to peers that look at each byte.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use super::super::super::disk::{DiskError, Lane};
use super::super::super::disk_waits::{Belief, Care};
use super::super::super::error::TransferError;
use super::super::kernel::{Conduit, Kernel};
use super::file::{ScriptedFile, bytes_of};
use super::peer::Peer;
use super::plan::{Call, Facts, Outcome, Plan};
use super::run::{Events, Expected};
use crate::config::EngineChoice;
use crate::files::residency::Residency;
use crate::files::{Synthetic, WINDOW_BYTES};
use crate::limits::{Budget, Full, Plane, Reserved, Tick};
use crate::telemetry::WorkerCounters;

/// The time that a peer has for each step, in milliseconds.
pub(super) const TIMEOUT_MS: u64 = 60_000;

/// The state that the scripted connections of one worker share.
pub(super) struct Host {
    pub(super) events: Rc<Events>,
    pub(super) counters: WorkerCounters,
    pub(super) now: Cell<Tick>,
    pub(super) budget: Arc<Budget>,
    pub(super) waiting_bytes_max: u64,
    pub(super) pipes: RefCell<Vec<Arc<ScriptedPipe>>>,
    pub(super) pipe_bytes: usize,
    /// Pipes that are open.
    pub(super) pipes_open: Arc<AtomicUsize>,
    pub(super) engine: EngineChoice,
    pub(super) is_paced: bool,
}

impl Host {
    pub(super) fn new(engine: EngineChoice) -> Host {
        Host {
            events: Rc::default(),
            counters: WorkerCounters::default(),
            now: Cell::new(Tick::number(1)),
            budget: Arc::default(),
            waiting_bytes_max: 64 << 20,
            pipes: RefCell::default(),
            pipe_bytes: usize::try_from(WINDOW_BYTES).unwrap(),
            pipes_open: Arc::default(),
            engine,
            is_paced: false,
        }
    }
}

/// A connection to one peer.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) host: Rc<Host>,
    pub(super) peer: Rc<Peer>,
    pub(super) plan: Arc<Mutex<Plan>>,
}

impl Script {
    fn next(&self, call: Call, bytes: usize) -> Outcome {
        self.plan.lock().unwrap().next(call, bytes)
    }

    fn facts(&self) -> Facts {
        self.plan.lock().unwrap().facts()
    }

    fn wait(&self, timeout_ms: u64) -> Expected<Result<(), TransferError>> {
        assert!(timeout_ms > 0 && timeout_ms < u64::MAX, "a wait without a deadline");
        let plan = Arc::clone(&self.plan);
        self.host.events.expect(move || match plan.lock().unwrap().next(Call::Writable, 0) {
            Outcome::GivenUp => Err(TransferError::TimedOut),
            _ => Ok(()),
        })
    }
}

impl Kernel for Script {
    type File = ScriptedFile;
    type Pipe = ScriptedPipe;

    fn send(&self, bytes: &[u8], _more: bool) -> Result<usize, Errno> {
        let count = bytes_of(self.next(Call::Send, bytes.len()), bytes.len())?;
        self.peer.take(&bytes[..count]);
        Ok(count)
    }

    fn send_both(&self, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
        let bytes = first.len() + second.len();
        let count = bytes_of(self.next(Call::Send, bytes), bytes)?;
        self.peer.take(&first[..count.min(first.len())]);
        self.peer.take(&second[..count.saturating_sub(first.len())]);
        Ok(count)
    }

    fn sendfile(&self, file: &ScriptedFile, offset: u64, bytes: usize) -> Result<usize, Errno> {
        let bytes = file.content.read(offset, bytes_of(self.next(Call::Sendfile, bytes), bytes)?);
        self.peer.take(bytes);
        Ok(bytes.len())
    }

    fn sendfile_synthetic(&self, source: &Synthetic, offset: u64, bytes: usize) -> Result<usize, Errno> {
        let count = bytes_of(self.next(Call::Sendfile, bytes), bytes)?;
        let left = usize::try_from(source.bytes() - offset).unwrap();
        let count = count.min(left);
        self.peer.take_synthetic(offset, count as u64);
        Ok(count)
    }

    fn take_pipe(&self) -> Option<Arc<ScriptedPipe>> {
        if let Some(pipe) = self.host.pipes.borrow_mut().pop() {
            return Some(pipe);
        }
        bytes_of(self.next(Call::Pipe, 0), 0).ok()?;
        self.host.pipes_open.fetch_add(1, Ordering::Relaxed);
        let (capacity, open) = (self.host.pipe_bytes, Arc::clone(&self.host.pipes_open));
        Some(Arc::new(ScriptedPipe { held: Mutex::default(), capacity, open }))
    }

    fn put_back_pipe(&self, pipe: Arc<ScriptedPipe>) {
        assert_eq!(pipe.held(), 0, "a pipe is put back with bytes in it");
        self.host.pipes.borrow_mut().push(pipe);
    }

    fn empty_pipe(&self, pipe: &ScriptedPipe, bytes: usize, _more: bool) -> Result<usize, Errno> {
        let mut held = pipe.held.lock().unwrap();
        let all: usize = held.iter().map(|piece| piece.len()).sum();
        assert!(bytes <= all, "more is asked of a pipe than it holds");
        let count = bytes_of(self.next(Call::Empty, bytes), bytes)?;
        let mut rest = count;
        while rest > 0 {
            let piece = held[0];
            let part = rest.min(piece.len());
            self.peer.take(&piece[..part]);
            held[0] = &piece[part..];
            if held[0].is_empty() {
                held.remove(0);
            }
            rest -= part;
        }
        Ok(count)
    }

    fn writable(&self, timeout_ms: u64) -> impl Future<Output = Result<(), TransferError>> {
        self.wait(timeout_ms)
    }

    fn readable(&self, timeout_ms: u64) -> impl Future<Output = Result<(), TransferError>> {
        self.wait(timeout_ms)
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        let plan = Arc::clone(&self.plan);
        self.host.events.expect(move || {
            let outcome = plan.lock().unwrap().next(Call::Turn, 0);
            assert_eq!(outcome, Outcome::Whole);
        })
    }

    fn on_disk_thread<R: Send + 'static>(
        &self,
        file: &ScriptedFile,
        _is_ours: bool,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, DiskError>> {
        let (plan, content, told) =
            (Arc::clone(&self.plan), Arc::clone(&file.content), Arc::clone(&file.content));
        let works = move || match plan.lock().unwrap().next(Call::Disk, 0) {
            Outcome::GivenUp => Err(DiskError::Busy(Lane::Read)),
            _ => Ok(()),
        };
        self.host.events.expect_late(move || works().map(|()| content.work(work)), move || told.tell())
    }

    fn note_read(&self, _file: &ScriptedFile, _took: Duration) {}

    fn belief(&self, _file: &ScriptedFile) -> Belief {
        self.facts().belief
    }

    fn probe(&self, _file: &ScriptedFile, _offset: u64, _length: u64) -> Residency {
        self.facts().residency
    }

    fn glance(&self, _file: &ScriptedFile, _offset: u64, _length: u64) -> Residency {
        self.facts().glance
    }

    fn read_whole(&self, _file: &ScriptedFile, _offset: u64, _length: u64) -> Residency {
        self.facts().residency
    }

    fn was_read(&self, _file: &ScriptedFile, _offset: u64, _length: u64, _since: Tick) -> bool {
        self.facts().was_read
    }

    fn note_window_read(&self, _file: &ScriptedFile, _offset: u64, _length: u64, _since: Tick, time_ms: u64) {
        assert!(time_ms < u64::MAX, "what was read counts for ever");
    }

    fn care(&self, care: Care) -> Care {
        self.facts().care.unwrap_or(care)
    }

    fn look_at<R>(
        &self,
        _file: &ScriptedFile,
        _care: Care,
        _offset: u64,
        _bytes: u64,
        call: impl FnOnce() -> R,
    ) -> (R, bool) {
        (call(), self.facts().has_waited)
    }

    fn reserve(&self, _is_ours: bool, bytes: usize) -> Result<Reserved, Full> {
        let reserved = self.host.budget.reserve(Plane::Data(None), bytes as u64, self.host.waiting_bytes_max);
        if reserved.is_err() {
            self.plan.lock().unwrap().note_failure();
        }
        reserved
    }

    fn now(&self) -> Tick {
        self.host.now.get()
    }

    fn cache_valid_ticks(&self) -> u64 {
        10
    }

    fn engine_choice(&self) -> EngineChoice {
        self.host.engine
    }

    fn is_paced(&self) -> bool {
        self.host.is_paced
    }

    fn counters(&self) -> &WorkerCounters {
        &self.host.counters
    }

    fn client(&self) -> crate::limits::Peer {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into()
    }
}

/// A pipe, which has pieces of files.
pub(super) struct ScriptedPipe {
    held: Mutex<Vec<&'static [u8]>>,
    capacity: usize,
    open: Arc<AtomicUsize>,
}

impl ScriptedPipe {
    fn held(&self) -> usize {
        self.held.lock().unwrap().iter().map(|piece| piece.len()).sum()
    }
}

impl Drop for ScriptedPipe {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Conduit<ScriptedFile> for ScriptedPipe {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn fill(&self, reader: &ScriptedFile, offset: u64, bytes: usize) -> Result<usize, Errno> {
        assert_eq!(self.held(), 0, "a pipe is filled that isn't empty");
        let outcome = reader.plan.lock().unwrap().next(Call::Fill, bytes);
        let piece = reader.content.read(offset, bytes_of(outcome, bytes)?.min(self.capacity));
        self.held.lock().unwrap().extend((!piece.is_empty()).then_some(piece));
        Ok(piece.len())
    }
}
