//! The pace of a load: the intended start of each request.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::work::Pace;

/// The schedule of one thread's connections together.
pub(super) struct Schedule {
    /// The time of the first question: the warm-up of each connection, which goes before, isn't late.
    begin: Cell<Option<Instant>>,
    /// The seconds between two starts of this thread; None in a closed loop.
    interval_s: Option<f64>,
    next: Cell<u64>,
}

impl Schedule {
    /// Makes the schedule of one of `threads` threads.
    pub(super) fn new(pace: Pace, threads: usize) -> Schedule {
        let interval_s = match pace {
            Pace::Closed => None,
            Pace::Open { rate_per_s } => Some(threads as f64 / rate_per_s),
        };
        Schedule { begin: Cell::new(None), interval_s, next: Cell::new(0) }
    }

    /// Returns the intended start of the next request; now in a closed loop. Latency is measured from it, so a
    /// server that is late makes all requests late that it holds up (no coordinated omission).
    pub(super) fn next_start(&self) -> Instant {
        let Some(interval_s) = self.interval_s else { return Instant::now() };
        let begin = self.begin.get().unwrap_or_else(Instant::now);
        self.begin.set(Some(begin));
        let number = self.next.replace(self.next.get() + 1);
        // Each start is computed from the first, so that no fraction of a nanosecond adds up.
        begin + Duration::from_secs_f64(number as f64 * interval_s)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pace, Schedule};

    #[test]
    fn an_open_loop_goes_on_however_late_it_is() {
        let schedule = Schedule::new(Pace::Open { rate_per_s: 1000.0 }, 2);
        let first = schedule.next_start();
        assert_eq!(schedule.next_start() - first, Duration::from_millis(2));
        assert_eq!(schedule.next_start() - first, Duration::from_millis(4));
        let schedule = Schedule::new(Pace::Open { rate_per_s: 3_000_000.0 }, 1);
        let first = schedule.next_start();
        let last = (0..3_000_000).map(|_| schedule.next_start()).last();
        assert_eq!(last.map(|last| last - first), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_closed_loop_starts_now() {
        let before = Instant::now();
        assert!(Schedule::new(Pace::Closed, 1).next_start() >= before);
    }
}
