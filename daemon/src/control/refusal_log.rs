//! Refused callers in the log, without letting them fill it.

use std::time::Duration;

use super::error::ApiError;
use crate::limits::{Peer, Throttle};

/// The least time between two lines: whoever guesses tokens must not fill the log.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// A log of refusals, with the number of those that were left out.
pub(super) struct RefusalLog(Throttle);

impl Default for RefusalLog {
    fn default() -> RefusalLog {
        RefusalLog(Throttle::new(LINE_INTERVAL))
    }
}

impl RefusalLog {
    /// Logs that `peer` was refused on `path`, which is escaped, unless a line was written just before.
    pub(super) fn refused(&self, peer: Peer, path: &str, error: &ApiError) {
        if let Some(left_out) = self.0.admit() {
            tracing::warn!(%peer, path, reason = %error, left_out, "control request refused");
        }
    }
}
