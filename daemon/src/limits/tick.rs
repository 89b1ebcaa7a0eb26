//! How finely time-outs are kept.

use std::time::Duration;

/// How often a worker looks at its deadlines, its settings and whether to drain, and says that it is alive:
/// the resolution of every time-out, for ten wake-ups a second of an idle worker.
pub const TICK: Duration = Duration::from_millis(TICK_MS);

/// The same in milliseconds.
pub const TICK_MS: u64 = 100;
