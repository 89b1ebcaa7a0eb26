//! The state of the disk threads, as metrics and /health show it.

use std::sync::Arc;
use std::time::Duration;

/// The names of the lanes in metrics.
pub const LANE_NAMES: [&str; 5] = ["lookup", "read", "write", "digest", "listing"];

/// The state of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneState {
    /// The name of the lane.
    pub name: &'static str,
    /// Tasks that wait for a thread.
    pub waiting: usize,
    /// Tasks that are running on a thread.
    pub running: usize,
    /// Tasks that ended so far: done, or dropped since nobody waited for them.
    pub ended: u64,
    /// Tasks that were refused or given up so far.
    pub refused: u64,
    /// The age of the lane's oldest task.
    pub oldest: Duration,
}

/// A mount that doesn't answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentMount {
    /// The mount point.
    pub point: Arc<str>,
    /// The time since it last answered.
    pub silence: Duration,
}

/// The state of all disk threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// The state of each lane.
    pub lanes: Vec<LaneState>,
    /// The mounts that don't answer.
    pub silent: Vec<SilentMount>,
    /// Whether tasks of silent mounts hold every thread.
    pub is_stuck: bool,
}

impl Default for DiskState {
    /// Returns the state before there are any threads.
    fn default() -> Self {
        let lanes = LANE_NAMES.map(|name| LaneState { name, ..LaneState::default() });
        DiskState { lanes: lanes.to_vec(), silent: Vec::new(), is_stuck: false }
    }
}
