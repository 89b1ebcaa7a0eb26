//! What the disk threads do, as metrics and /health tell of it.

use std::sync::Arc;
use std::time::Duration;

/// The lanes, as metrics name them.
pub const LANE_NAMES: [&str; 5] = ["lookup", "read", "write", "digest", "listing"];

/// One lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneState {
    /// Its name.
    pub name: &'static str,
    /// Tasks that wait for a thread.
    pub waiting: usize,
    /// Tasks that have one.
    pub running: usize,
    /// Tasks that were done, or dropped since nobody waited for them, so far.
    pub ended: u64,
    /// Tasks that were turned away, or given up, so far.
    pub refused: u64,
    /// How long the oldest of them all has been there.
    pub oldest: Duration,
}

/// A mount that does nothing of what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentMount {
    /// Where it is.
    pub point: Arc<str>,
    /// For how long.
    pub silence: Duration,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// One after the other.
    pub lanes: Vec<LaneState>,
    /// Those that don't answer.
    pub silent: Vec<SilentMount>,
    /// Whether they hold every thread.
    pub is_stuck: bool,
}

impl Default for DiskState {
    /// Before there are any threads.
    fn default() -> Self {
        let lanes = LANE_NAMES.map(|name| LaneState { name, ..LaneState::default() });
        DiskState { lanes: lanes.to_vec(), silent: Vec::new(), is_stuck: false }
    }
}
