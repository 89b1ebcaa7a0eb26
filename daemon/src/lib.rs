//! streamd streams files and byte streams over TCP at the speed of the kernel.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | settings, each with its default's reason |
//! | [`protocol`] | frames and HTTP/1.1, sans-I/O |
//! | [`limits`] | the limits of one address and the node |
//! | [`job`] | the vocabulary between the planes |
//! | [`decision`] | which share decides about a path |
//! | [`files`] | names to open files |
//! | [`dataplane`] | workers, connections, engines |
//! | [`control`] | health, streams, metrics over hyper |
//! | [`telemetry`] | counters, their exposition, log lines |
//! | [`host`] | the capabilities of this host |
//! | [`sandbox`] | the rights that the daemon gives up |
//! | [`systemd`] | messages to the service manager, and the sockets it passes |
//! | [`sys`] | the only unsafe code |
//!
//! [`Daemon`] wires them; nothing else does.

pub mod config;
pub mod control;
pub mod dataplane;
pub mod decision;
pub mod files;
pub mod host;
pub mod job;
pub mod limits;
pub mod protocol;
pub mod sandbox;
pub mod sys;
pub mod systemd;
pub mod telemetry;

mod daemon;

pub use daemon::{Daemon, DaemonError};
