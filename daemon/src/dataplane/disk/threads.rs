//! The threads: each takes what is next, or sleeps until it is called. One call wakes one thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rustix::process::nice;

use super::super::platform;
use super::lane::{Lane, Owner};
use super::mount_names::MountNames;
use super::queue::Queue;
use super::shares::{Kind, Shares};
use super::task::Task;
use crate::files::MountId;
use crate::telemetry::{DiskState, LaneState, SilentMount};

/// Patient threads leave the processor to whoever wants it now: workers, and threads that somebody waits for.
const NICENESS: i32 = 10;

/// The disk threads of one daemon. They end when every clone of this is gone and their work is done.
#[derive(Clone)]
pub(in crate::dataplane) struct DiskThreads(Arc<End>);

/// Tells the threads to end.
struct End(Arc<Pool>);

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        for sleeper in state.asleep.iter_mut().flat_map(std::mem::take) {
            sleeper.thread.unpark();
        }
    }
}

pub(in crate::dataplane) struct Pool {
    state: Mutex<State>,
    /// `disk_timeout_ms`.
    timeout_ms: AtomicU64,
    /// Whether some mount was silent at the last tick: only then newcomers ask which, under the lock.
    has_silent: AtomicBool,
    names: RwLock<Arc<MountNames>>,
}

struct State {
    queue: Queue<Box<dyn Task>>,
    /// The lane that each thread works for, and since when.
    running: Vec<Option<(Lane, Instant)>>,
    /// Those that sleep, of each kind. The last is called first: its memory is warm.
    asleep: [Vec<Sleeper>; Kind::ALL.len()],
    ended: [u64; Lane::ALL.len()],
    refused: [u64; Lane::ALL.len()],
    /// Mounts that were told to the log as silent.
    told: Vec<MountId>,
    is_over: bool,
}

/// A task that a thread has taken, and for what it counts.
type Taken = (Lane, MountId, Box<dyn Task>);

/// Whether a task may wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Room,
    /// Too many of its owner wait already.
    Full,
    /// Its mount doesn't answer.
    Silent,
}

struct Sleeper {
    number: usize,
    thread: Thread,
}

/// Times that whoever writes is waited for longer: what waits in memory to be written may be gigabytes, and making it
/// durable takes as long as writing all of it. 150 s by default, in which a disk of 50 MB/s writes 7.5 GB.
const WRITES_PATIENCE: u32 = 10;

/// Tasks that may wait for a mount in a lane before those that nobody waits for are dropped: as many as digests wait.
const UNAWAITED_WAITING_MAX: usize = 32;

/// How long a mount may have ended nothing before those that nobody waits for are dropped: they aren't worth a thread
/// of a disk that may have stopped. Less where a mount counts as silent sooner.
const UNAWAITED_SILENCE_MAX: Duration = Duration::from_secs(1);

impl DiskThreads {
    /// Starts `count` threads.
    pub(in crate::dataplane) fn start(
        count: usize,
        timeout_ms: u64,
        names: MountNames,
    ) -> io::Result<DiskThreads> {
        let threads = DiskThreads::unstarted(count, timeout_ms, names);
        for number in 0..count {
            let pool = Arc::clone(threads.pool());
            let name = format!("streamd-disk-{number}");
            // Not joined: a thread that hangs in a dead file system must not hold up the end of the daemon.
            std::thread::Builder::new().name(name).spawn(move || pool.serve(number))?;
        }
        Ok(threads)
    }

    /// Makes the work of `count` threads, for whoever does it instead of them.
    pub(super) fn unstarted(count: usize, timeout_ms: u64, names: MountNames) -> DiskThreads {
        let shares = Shares::of(count);
        let state = State {
            queue: Queue::new(shares, names.root_mounts()),
            running: vec![None; count],
            asleep: Default::default(),
            ended: Default::default(),
            refused: Default::default(),
            told: Vec::new(),
            is_over: false,
        };
        let (timeout_ms, has_silent) = (AtomicU64::new(timeout_ms), AtomicBool::new(false));
        let names = RwLock::new(Arc::new(names));
        let pool = Pool { state: Mutex::new(state), timeout_ms, has_silent, names };
        DiskThreads(Arc::new(End(Arc::new(pool))))
    }

    /// Returns the state that all threads share. Whoever holds only this doesn't keep them from ending.
    pub(in crate::dataplane) fn pool(&self) -> &Arc<Pool> {
        &self.0.0
    }
}

impl Pool {
    /// The mounts that tasks are for.
    pub(super) fn names(&self) -> Arc<MountNames> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on tasks are for these mounts; what runs for others goes on.
    pub(in crate::dataplane) fn take_names(&self, names: MountNames) {
        self.lock().queue.set_root_mounts(names.root_mounts());
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    /// From now on so long is waited for a mount.
    pub(super) fn set_timeout(&self, timeout_ms: u64) {
        self.timeout_ms.store(timeout_ms, Ordering::Relaxed);
    }

    /// How long a mount may end nothing of a lane before it counts as one that doesn't answer.
    pub(super) fn patience(&self, lane: Lane) -> Duration {
        let timeout = Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed));
        if lane == Lane::Write { timeout.saturating_mul(WRITES_PATIENCE) } else { timeout }
    }

    /// How long a mount has ended nothing of a lane while it holds threads of it.
    pub(super) fn silence(&self, lane: Lane, mount: MountId, now: Instant) -> Duration {
        self.lock().queue.silence(lane, mount, now)
    }

    /// Whether some mount didn't answer a tick ago.
    pub(super) fn has_silent(&self) -> bool {
        self.has_silent.load(Ordering::Relaxed)
    }

    /// Whether a task of an owner may wait for its turn, where it may as well be told that it can't.
    pub(super) fn admits(&self, lane: Lane, owner: Owner) -> Admission {
        let (now, patience) = (platform::now(), self.patience(lane));
        let state = self.lock();
        if state.queue.silence(lane, owner.mount, now) >= patience {
            Admission::Silent
        } else if state.queue.has_room(lane, owner) {
            Admission::Room
        } else {
            Admission::Full
        }
    }

    /// Whether a task of an owner that nobody waits for may wait for its turn.
    pub(super) fn admits_unawaited(&self, lane: Lane, owner: Owner) -> bool {
        let now = platform::now();
        let state = self.lock();
        // Each may have a file open: so few wait, and none for a disk that does nothing now.
        state.queue.silence(lane, owner.mount, now) < UNAWAITED_SILENCE_MAX.min(self.patience(lane))
            && state.queue.waiting_of(lane, owner.mount) < UNAWAITED_WAITING_MAX
    }

    /// Nobody waits any more for a task that was not begun. If it `may_leave` what it holds is dropped here, else on a
    /// disk thread when its turn comes.
    pub(super) fn abandon(&self, lane: Lane, owner: Owner, number: u64, may_leave: bool) {
        let task = self.lock().queue.abandon(lane, owner, number, may_leave);
        drop(task);
    }

    /// Counts a task that was refused, or given up.
    pub(super) fn count_refused(&self, lane: Lane) {
        self.lock().refused[lane as usize] += 1;
    }

    /// Has a thread do `task` when its turn comes, and tells its number.
    pub(super) fn submit(&self, lane: Lane, owner: Owner, task: Box<dyn Task>) -> u64 {
        let now = platform::now();
        let mut state = self.lock();
        let number = state.queue.push(lane, owner, task, now);
        let kind = state.queue.shares().lane(lane).kind;
        let sleeper = state.next_sleeper(kind, now);
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.thread.unpark();
        }
        number
    }

    /// Tells the log which mounts don't answer, and which do again.
    pub(super) fn tell_silent(&self, now: Instant) {
        let mut state = self.lock();
        if state.told.is_empty() && state.queue.is_idle() {
            return;
        }
        let silent = self.silent(&state, now);
        self.has_silent.store(!silent.is_empty(), Ordering::Relaxed);
        let told = std::mem::replace(&mut state.told, silent.iter().map(|(mount, ..)| *mount).collect());
        drop(state);
        let names = self.names();
        for (mount, silence, threads) in silent.iter().filter(|(mount, ..)| !told.contains(mount)) {
            let (mount, seconds) = (names.point(*mount), silence.as_secs());
            tracing::warn!(%mount, seconds, threads, "a mount doesn't answer: what needs it gets 503");
        }
        for mount in told.into_iter().filter(|told| !silent.iter().any(|(mount, ..)| mount == told)) {
            let mount = names.point(mount);
            tracing::info!(%mount, "a mount answers again");
        }
    }

    /// Reports the work of the lanes, and which mounts don't answer.
    pub(in crate::dataplane) fn report(&self) -> DiskState {
        let now = platform::now();
        let state = self.lock();
        let lanes = Lane::ALL.map(|lane| {
            let running =
                state.running.iter().flatten().filter(|(of, _)| *of == lane).map(|(_, since)| *since);
            let oldest = running.chain(state.queue.oldest(lane)).min();
            LaneState {
                name: lane.name(),
                waiting: state.queue.waiting(lane),
                running: state.queue.running(lane),
                ended: state.ended[lane as usize],
                refused: state.refused[lane as usize],
                oldest: oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            }
        });
        let silent = self.silent(&state, now);
        let held: usize = silent.iter().map(|(.., threads)| threads).sum();
        let is_stuck = held >= state.running.len();
        drop(state);
        let names = self.names();
        let silent = silent.into_iter();
        let silent = silent.map(|(mount, silence, _)| SilentMount { point: names.point(mount), silence });
        DiskState { lanes: lanes.to_vec(), silent: silent.collect(), is_stuck }
    }

    /// The mounts that have ended nothing of a lane for too long, with the time and how many threads they hold in all.
    fn silent(&self, state: &State, now: Instant) -> Vec<(MountId, Duration, usize)> {
        let mut silent: Vec<(MountId, Duration, usize)> = Vec::new();
        for (mount, lane, silence, _) in state.queue.silences(now) {
            if silence < self.patience(lane) {
                continue;
            }
            match silent.iter_mut().find(|(of, ..)| *of == mount) {
                Some((_, longest, _)) => *longest = silence.max(*longest),
                None => silent.push((mount, silence, 0)),
            }
        }
        for (mount, _, _, running) in state.queue.silences(now) {
            if let Some((.., threads)) = silent.iter_mut().find(|(of, ..)| *of == mount) {
                *threads += running;
            }
        }
        silent
    }
}

impl State {
    /// The thread of this number takes what is next for its kind.
    fn begin(&mut self, number: usize, kind: Kind, now: Instant) -> Option<Taken> {
        let taken = self.queue.take(kind, now);
        self.running[number] = taken.as_ref().map(|(lane, ..)| (*lane, now));
        taken
    }

    /// It has done what it took.
    fn end(&mut self, number: usize, (lane, mount): (Lane, MountId), now: Instant) {
        self.queue.end(lane, mount, now);
        self.ended[lane as usize] += 1;
        self.running[number] = None;
    }

    /// A thread of this kind to be woken, if one sleeps and would find a task.
    fn next_sleeper(&mut self, kind: Kind, now: Instant) -> Option<Sleeper> {
        let asleep = &mut self.asleep[kind as usize];
        if asleep.is_empty() || !self.queue.has_any(kind, now) { None } else { asleep.pop() }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kind(&self, number: usize) -> Kind {
        let prompt = self.lock().queue.shares().threads(Kind::Prompt);
        if number < prompt { Kind::Prompt } else { Kind::Patient }
    }

    /// Does one task after the other.
    fn serve(&self, number: usize) {
        let kind = self.kind(number);
        if kind == Kind::Patient {
            // Where it is refused everything still is done.
            let _ = nice(NICENESS);
        }
        let (mut ended, mut has_slept) = (None, false);
        loop {
            let now = platform::now();
            let mut state = self.lock();
            if std::mem::take(&mut has_slept) {
                // park(3) may return for no reason, and then nobody took it off the list.
                state.asleep[kind as usize].retain(|sleeper| sleeper.number != number);
            }
            if let Some((lane, mount)) = ended.take() {
                state.end(number, (lane, mount), now);
            }
            let Some((lane, mount, task)) = state.begin(number, kind, now) else {
                if state.is_over {
                    return;
                }
                state.asleep[kind as usize].push(Sleeper { number, thread: std::thread::current() });
                drop(state);
                std::thread::park();
                has_slept = true;
                continue;
            };
            // Its end may have made room for two.
            let sleeper = state.next_sleeper(kind, now);
            drop(state);
            if let Some(sleeper) = sleeper {
                sleeper.thread.unpark();
            }
            // In builds that unwind: whoever waits is told by the task's drop, and the thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| task.run()));
            ended = Some((lane, mount));
        }
    }
}

/// Threads of which each takes a task, does it and is through with it when it is told to.
#[cfg(test)]
pub(in crate::dataplane) struct SimulatedThreads {
    threads: DiskThreads,
    begun: Vec<Option<Taken>>,
}

#[cfg(test)]
impl SimulatedThreads {
    pub(in crate::dataplane) fn new(count: usize, timeout_ms: u64, names: MountNames) -> SimulatedThreads {
        let threads = DiskThreads::unstarted(count, timeout_ms, names);
        SimulatedThreads { threads, begun: (0..count).map(|_| None).collect() }
    }

    pub(in crate::dataplane) fn threads(&self) -> &DiskThreads {
        &self.threads
    }

    /// The thread of this number does the task that it took, or takes one. False: there is none for it.
    pub(in crate::dataplane) fn step(&mut self, number: usize) -> bool {
        let pool = self.threads.pool();
        if let Some((lane, mount, task)) = self.begun[number].take() {
            task.run();
            pool.lock().end(number, (lane, mount), platform::now());
            return true;
        }
        let kind = pool.kind(number);
        self.begun[number] = pool.lock().begin(number, kind, platform::now());
        self.begun[number].is_some()
    }

    /// Whether nothing waits for them, and they do nothing.
    pub(in crate::dataplane) fn are_idle(&self) -> bool {
        let state = self.threads.pool().lock();
        state.queue.is_idle() && Lane::ALL.iter().all(|lane| state.queue.waiting(*lane) == 0)
    }
}
