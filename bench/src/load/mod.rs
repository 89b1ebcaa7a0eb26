//! The load: threads with a ring each, connections as tasks, and their counts.
//!
//! The client must never be the bottleneck that it measures. Bodies are dropped inside the kernel (recv with
//! MSG_TRUNC) unless `--client-mode read` asks for bytes, requests are written once and sent as they are, and
//! nothing is shared between threads while the clock runs.

mod body;
mod client;
mod connection;
mod exchange;
mod frames;
mod operation;
mod pace;
mod phase;
mod probe;
mod tally;
mod thread;
mod upload;
mod work;

pub use body::Body;
pub use probe::probe_length;
pub use tally::Tally;
pub use work::{
    Answer, CONNECTIONS_MAX, ClientMode, ColdPull, ConnectionWork, Counted, Load, Pace, Source, THREADS_MAX,
    Upload,
};

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::progress::Progress;
use phase::Phase;
use thread::ClientThread;

/// The time in which connections must connect and have their first answer before the clock starts.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// The time in which threads must end after the clock has stopped; their sockets are shut down, so that a wait is
/// a fault.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// The time in which uploads that have begun must be answered once the clock is to stop.
const WHOLE_TIME_MAX: Duration = Duration::from_secs(120);

/// The interval of looks whether those uploads are answered.
const WHOLE_CHECK: Duration = Duration::from_millis(1);

/// A flag that Ctrl-C sets: every load ends at once with its results so far.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C has ended this run.
pub fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// A load whose connections are open and busy; the clock doesn't run yet.
pub struct RunningLoad {
    phase: Arc<Phase>,
    tallies: mpsc::Receiver<Tally>,
    threads: usize,
    /// The number of pieces of work that count as a whole and for which the clock didn't wait any longer.
    overdue: Cell<usize>,
}

/// Starts `load` and waits until its connections are open.
pub fn start(load: &Load) -> Result<RunningLoad> {
    load.check()?;
    let phase = Arc::new(Phase::default());
    let (ready_sender, ready) = mpsc::channel();
    let (tally_sender, tallies) = mpsc::channel();
    for number in 0..load.threads {
        let thread = ClientThread {
            number,
            load: load.clone(),
            phase: Arc::clone(&phase),
            ready: ready_sender.clone(),
            tallies: tally_sender.clone(),
        };
        thread.spawn()?;
    }
    drop((ready_sender, tally_sender));
    let running = RunningLoad { phase, tallies, threads: load.threads, overdue: Cell::new(0) };
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
        while begin.elapsed() < duration && !was_interrupted() && !self.has_ended() {
            let left = duration.saturating_sub(begin.elapsed());
            std::thread::park_timeout(left.min(Duration::from_millis(100)));
            progress.tick();
        }
        self.stop_clock(begin)
    }

    /// Makes answers count from now on.
    pub fn start_clock(&self) -> Instant {
        self.phase.start_counting();
        Instant::now()
    }

    /// Makes no answer count from now on, and waits for the pieces of work that have begun and count as a whole.
    /// Returns the time since `begin`.
    pub fn stop_clock(&self, begin: Instant) -> Duration {
        self.phase.stop_counting();
        let deadline = Instant::now() + WHOLE_TIME_MAX;
        while self.phase.in_flight() > 0
            && Instant::now() < deadline
            && !was_interrupted()
            && !self.has_ended()
        {
            std::thread::park_timeout(WHOLE_CHECK);
        }
        self.overdue.set(self.phase.in_flight());
        begin.elapsed()
    }

    fn has_ended(&self) -> bool {
        self.phase.threads_ended() == self.threads
    }

    /// Ends all connections and returns their counts.
    pub fn stop(self) -> Result<Tally> {
        self.phase.stop();
        let mut sum = Tally::new()?;
        let overdue = self.overdue.get();
        if overdue > 0 && !was_interrupted() {
            sum.failed(format!("{overdue} uploads were not answered within {WHOLE_TIME_MAX:?}"));
        }
        for _ in 0..self.threads {
            match self.tallies.recv_timeout(STOP_TIME_MAX) {
                Ok(tally) => sum.add(tally),
                Err(RecvTimeoutError::Disconnected) => break,
                // The counts of the others are shown.
                Err(RecvTimeoutError::Timeout) => {
                    sum.failed(format!("a client thread did not end within {STOP_TIME_MAX:?}"));
                    break;
                }
            }
        }
        Ok(sum)
    }
}
