//! The load generator and comparison bench of streamd, on an io_uring runtime of its own.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`judge`], [`usage`] | the check whether it can be carried out, and its error |
//! | [`single`] | one measurement on a server that runs already |
//! | [`compare`] | every peer in turn |
//! | [`scenario`] | a piece of work, and the standard set |
//! | [`load`] | client threads, connections, what they count |
//! | [`peer`] | the servers: set up, started, watched, stopped |
//! | [`fixture`] | the files that are asked for |
//! | [`result`] | the result of a run as JSON |
//! | [`statistics`] | medians, ratios pair by pair, noise |
//! | [`report`] | tables and the page with plots |
//! | [`output`] | the file that a result is written to |
//! | [`host`], [`progress`] | the host of a run, and its progress |

pub mod arguments;
pub mod compare;
pub mod fixture;
pub mod host;
pub mod judge;
pub mod load;
pub mod output;
pub mod peer;
pub mod progress;
pub mod report;
pub mod result;
pub mod scenario;
pub mod single;
pub mod statistics;
pub mod usage;
