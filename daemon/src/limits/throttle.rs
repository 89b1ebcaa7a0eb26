//! How often a line is written that others can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit of one line in each interval, so that nobody fills the log.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Makes a limit with this interval.
    pub fn new(interval: Duration) -> Throttle {
        Throttle { interval, state: Mutex::default() }
    }

    /// Returns how many lines were left out since the last, if one may be written now.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < self.interval) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Throttle;

    #[test]
    fn one_line_an_interval_with_the_number_left_out() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(throttle.admit_at(start), Some(0));
        assert_eq!(throttle.admit_at(start + Duration::from_millis(1)), None);
        assert_eq!(throttle.admit_at(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.admit_at(start + Duration::from_millis(1000)), Some(2));
        assert_eq!(throttle.admit_at(start + Duration::from_millis(2000)), Some(0));
    }
}
