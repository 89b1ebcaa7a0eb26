//! Telemetry: counters per worker, their exposition, and log lines.
//!
//! A counter is written by one thread and read by the one that answers `GET /metrics`; relaxed atomics are enough,
//! since no figure promises to be in step with another.

mod access_log;
mod address;
mod counters;
mod disk;
mod exposition;
mod labels;
mod log_order;
mod log_queue;
pub mod logging;
mod node;
mod request_id;

pub use access_log::{AccessLine, AccessLog};
pub use address::shown_address;
pub use counters::{
    ControlCounters, Counter, CounterFamily, Gauge, RootGauge, RootState, SpoolGauges, UploadGauges,
    WorkerCounters,
};
pub use disk::{DiskState, LANE_NAMES, LaneState, SilentMount};
pub use exposition::Exposition;
pub use labels::{
    EngineLabel, FrameRefusal, Label, Limit, LogLoss, Outcome, ProxyRefusal, SpaceRefusal, Status,
    UploadOutcome,
};
pub use log_queue::LogQueue;
pub use node::{HEARTBEAT_AGE_MAX, Health, Part, Telemetry};
pub use request_id::{RequestId, RequestIds};
