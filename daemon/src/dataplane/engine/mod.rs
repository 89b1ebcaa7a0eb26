//! How a transfer's bytes move. A range is sent window by window; each window's engine is chosen from what is
//! known of it, so a file that is half in memory is sent by two engines.

mod choice;
mod cold;
mod copy;
mod kernel;
mod range;
mod sendfile;
mod splice;
mod system;
#[cfg(test)]
mod tests;
mod transfer;
mod unchanged;
mod window;

pub(super) use choice::{Engine, Facts, choose};
pub(super) use range::send_range;
pub(super) use sendfile::send_synthetic;
pub(super) use transfer::{JobCaller, Transfer};
pub(super) use unchanged::check;

/// Bodies above this length are corked; shorter ones have their head held back by MSG_MORE, two calls fewer. That
/// holds only until the next acknowledgement arrives, which releases segments that aren't full: at 1 MiB the cork
/// saves 9 % of the server's CPU and 16 % of the client's, at 100 KiB nothing.
pub(super) const UNCORKED_BYTES_MAX: u64 = 256 << 10;
