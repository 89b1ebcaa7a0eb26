//! The phase of a load, which all its threads look at: whether answers count, and whether connections end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The state that tells threads when to count and when to end.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// Whether the clock runs.
    counting: AtomicBool,
    /// Whether connections end.
    stopping: AtomicBool,
    /// The number of pieces of work that have begun and count as a whole.
    in_flight: AtomicUsize,
    /// The number of threads that have ended, because they were told to or because all their connections have
    /// given up.
    threads_ended: AtomicUsize,
}

/// A piece of work that counts as a whole, for which the clock waits. It ends when this is dropped.
pub(super) struct InFlight<'a>(&'a Phase);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Phase {
    /// Makes answers count from now on.
    pub(super) fn start_counting(&self) {
        self.counting.store(true, Ordering::Relaxed);
    }

    /// Makes no further piece of work count.
    pub(super) fn stop_counting(&self) {
        self.counting.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    /// Begins a piece of work that counts as a whole; None while the clock doesn't run. The work is counted before
    /// the clock is looked at, and the clock is stopped before the count is looked at: one of the two sees the
    /// other.
    pub(super) fn begin_whole(&self) -> Option<InFlight<'_>> {
        if !self.is_counting() {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let in_flight = InFlight(self);
        self.counting.load(Ordering::SeqCst).then_some(in_flight)
    }

    /// Returns the number of pieces of work that have begun and count as a whole.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Makes connections end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn thread_ended(&self) {
        self.threads_ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn threads_ended(&self) -> usize {
        self.threads_ended.load(Ordering::Relaxed)
    }
}
