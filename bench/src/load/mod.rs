//! The load: threads with a ring each, connections as tasks, and what they counted.
//!
//! The client must never be the bottleneck that it measures. Bodies are dropped inside the kernel (recv with
//! MSG_TRUNC) unless `--client-mode read` asks for bytes, requests are written once and sent as they are, and
//! nothing is shared between threads while the clock runs.

mod body;
mod connection;
mod exchange;
mod frames;
mod operation;
mod pace;
mod plan;
mod probe;
mod tally;
mod thread;
mod upload;

pub use body::Body;
pub use plan::{
    Answer, CONNECTIONS_MAX, ClientMode, ColdPull, Counted, Load, Pace, Source, THREADS_MAX, Upload, Work,
};
pub use probe::probe_length;
pub use tally::Tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// Time that connections get to connect and send their first request before the clock starts.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Time that threads get to end after the clock has stopped; their sockets are shut down, so that a wait is a
/// fault.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Time that uploads which have begun get to be answered once the clock is to stop.
const WHOLE_TIME_MAX: Duration = Duration::from_secs(120);

/// How often it is looked whether they are.
const WHOLE_CHECK: Duration = Duration::from_millis(1);

/// Set by Ctrl-C: every load ends at once with what it has measured.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C has ended this run.
pub fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Tells threads when to count and when to end.
#[derive(Debug, Default)]
pub struct Phase {
    /// The clock runs.
    counting: AtomicBool,
    /// Connections end.
    stopping: AtomicBool,
    /// What has begun and counts as a whole.
    under_way: AtomicUsize,
    /// What of it the clock didn't wait for any longer.
    overdue: AtomicUsize,
    /// Threads that have ended, because they were told to or because all their connections have given up.
    threads_ended: AtomicUsize,
}

/// A piece of work that counts as a whole, for which the clock waits.
struct Turn<'a>(&'a Phase);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Phase {
    /// Begins a piece of work that counts as a whole; None while the clock doesn't run. It is counted before the clock
    /// is looked at, and who stops the clock does so before looking at the count: one of the two sees the other.
    fn begin(&self) -> Option<Turn<'_>> {
        if !self.is_counting() {
            return None;
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let turn = Turn(self);
        self.counting.load(Ordering::SeqCst).then_some(turn)
    }

    fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn thread_ended(&self) {
        self.threads_ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A load whose connections are open and busy; the clock doesn't run yet.
pub struct RunningLoad {
    phase: Arc<Phase>,
    tallies: mpsc::Receiver<Tally>,
    threads: usize,
}

/// Starts `load` and waits until its connections are open.
pub fn start(load: &Load) -> Result<RunningLoad> {
    load.check()?;
    let phase = Arc::new(Phase::default());
    let (ready_sender, ready) = mpsc::channel();
    let (tally_sender, tallies) = mpsc::channel();
    for number in 0..load.threads {
        thread::spawn(number, load.clone(), Arc::clone(&phase), ready_sender.clone(), tally_sender.clone())?;
    }
    drop((ready_sender, tally_sender));
    let running = RunningLoad { phase, tallies, threads: load.threads };
    for _ in 0..load.threads {
        match ready.recv_timeout(START_TIME_MAX) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let _ = running.stop();
                bail!("{}: {error}", load.address);
            }
            Err(_) => {
                let _ = running.stop();
                bail!("{}: not all connections were open within {START_TIME_MAX:?}", load.address);
            }
        }
    }
    Ok(running)
}

impl RunningLoad {
    /// Lets the clock run for `duration`, or until Ctrl-C, or until every connection has given up on a server that
    /// is gone. Returns the time that it ran.
    pub fn count(&self, duration: Duration, progress: &Progress) -> Duration {
        let begin = self.start_clock();
        while begin.elapsed() < duration && !INTERRUPTED.load(Ordering::Relaxed) && !self.has_ended() {
            let left = duration.saturating_sub(begin.elapsed());
            std::thread::park_timeout(left.min(Duration::from_millis(100)));
            progress.tick();
        }
        self.stop_clock(begin)
    }

    /// From now on answers count.
    pub fn start_clock(&self) -> Instant {
        self.phase.counting.store(true, Ordering::Relaxed);
        Instant::now()
    }

    /// From now on none that begins does; waits for those that have begun and count as a whole. Returns the time since
    /// `begin`.
    pub fn stop_clock(&self, begin: Instant) -> Duration {
        self.phase.counting.store(false, Ordering::SeqCst);
        let deadline = Instant::now() + WHOLE_TIME_MAX;
        while self.phase.under_way.load(Ordering::SeqCst) > 0
            && Instant::now() < deadline
            && !INTERRUPTED.load(Ordering::Relaxed)
            && !self.has_ended()
        {
            std::thread::park_timeout(WHOLE_CHECK);
        }
        self.phase.overdue.store(self.phase.under_way.load(Ordering::SeqCst), Ordering::Relaxed);
        begin.elapsed()
    }

    fn has_ended(&self) -> bool {
        self.phase.threads_ended.load(Ordering::Relaxed) == self.threads
    }

    /// Ends all connections and returns what they counted.
    pub fn stop(self) -> Result<Tally> {
        self.phase.stopping.store(true, Ordering::Relaxed);
        let mut sum = Tally::new()?;
        let overdue = self.phase.overdue.load(Ordering::Relaxed);
        if overdue > 0 && !was_interrupted() {
            sum.failed(format!("{overdue} uploads were not answered within {WHOLE_TIME_MAX:?}"));
        }
        for _ in 0..self.threads {
            match self.tallies.recv_timeout(STOP_TIME_MAX) {
                Ok(tally) => sum.add(tally),
                Err(RecvTimeoutError::Disconnected) => break,
                // What the others counted is shown.
                Err(RecvTimeoutError::Timeout) => {
                    sum.failed(format!("a client thread did not end within {STOP_TIME_MAX:?}"));
                    break;
                }
            }
        }
        Ok(sum)
    }
}

/// Runs `load` for `warm_up` uncounted and then for `duration`. `sample` is asked twice, right when the clock
/// starts and right when it stops, so that what it reads covers the same time.
pub fn run<S>(
    load: &Load,
    warm_up: Duration,
    duration: Duration,
    progress: &Progress,
    sample: impl Fn() -> S,
) -> Result<(Tally, Duration, S, S)> {
    let running = start(load).context("starting the load")?;
    std::thread::park_timeout(warm_up);
    let before = sample();
    let elapsed = running.count(duration, progress);
    let after = sample();
    Ok((running.stop()?, elapsed, before, after))
}
