//! The data plane: workers that accept connections, tell frames from HTTP, and move bytes.
//!
//! A file uses what stands below it and nothing above, so each can be read without those that use it; ARCHITECTURE.md
//! shows the floors. Streams asked for by the control plane enter through a worker's mailbox and take the same engines
//! outward.

mod accept;
mod account;
mod client;
mod clock;
mod connection;
mod context;
mod disk;
mod disk_waits;
mod dispatch;
mod engine;
mod error;
mod frames;
mod http;
mod idle_targets;
mod input;
mod lingering_close;
mod listener;
mod look_up;
mod pacing;
mod pipe_pool;
mod plane;
mod platform;
mod proxy;
mod publications;
mod readiness;
mod registry;
mod room;
mod room_requests;
mod served;
#[cfg(test)]
mod simulation;
mod socket;
mod stream;
mod worker;

pub use context::{Driver, Resources};
pub use plane::{Bound, DataPlane, DataPlaneError, GivenSocket, WorkerEnded};
pub use served::{Served, ServedShare};
