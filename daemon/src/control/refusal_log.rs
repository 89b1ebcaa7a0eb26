//! Refused callers in the log, without letting them fill it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ApiError;
use crate::limits::Peer;

/// The least time between two lines: whoever guesses tokens must not fill the log.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// A log of refusals, with the number of those that were left out.
#[derive(Default)]
pub(super) struct RefusalLog(Mutex<Throttle>);

#[derive(Default)]
struct Throttle {
    last: Option<Instant>,
    left_out: u64,
}

impl RefusalLog {
    /// Logs that `peer` was refused on `path`, which is escaped, unless a line was written just before.
    pub(super) fn refused(&self, peer: Peer, path: &str, error: &ApiError) {
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(left_out) = admitted {
            tracing::warn!(%peer, path, reason = %error, left_out, "control request refused");
        }
    }
}

impl Throttle {
    /// Returns how many lines were left out since the last, if one may be written now.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LINE_INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Throttle;

    #[test]
    fn one_line_a_second_with_the_number_left_out() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start + Duration::from_millis(1)), None);
        assert_eq!(throttle.admit(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.admit(start + Duration::from_millis(1000)), Some(2));
        assert_eq!(throttle.admit(start + Duration::from_millis(2000)), Some(0));
    }
}
