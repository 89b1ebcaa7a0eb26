//! When each request is meant to begin.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::plan::Pace;

/// The schedule of one thread's connections together.
pub(super) struct Schedule {
    begin: Instant,
    /// Time between two starts of this thread; zero for a closed loop.
    interval: Duration,
    next: Cell<u32>,
}

impl Schedule {
    /// For one of `threads` threads.
    pub(super) fn new(pace: Pace, threads: usize) -> Schedule {
        let interval = match pace {
            Pace::Closed => Duration::ZERO,
            Pace::Open { rate_per_s } => Duration::from_secs_f64(threads as f64 / rate_per_s),
        };
        Schedule { begin: Instant::now(), interval, next: Cell::new(0) }
    }

    /// The intended start of the next request; now in a closed loop. Latency counts from here, so a server that
    /// is late makes all that it holds up late too (no coordinated omission).
    pub(super) fn next_start(&self) -> Instant {
        if self.interval.is_zero() {
            return Instant::now();
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.begin + self.interval * number
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
    }

    #[test]
    fn a_closed_loop_starts_now() {
        let before = Instant::now();
        assert!(Schedule::new(Pace::Closed, 1).next_start() >= before);
    }
}
