//! The platform below the data plane, as one seam: the calls of a connection's socket, what waits for them, time, and
//! who runs tasks. The daemon has Linux and monoio ([`linux`]). Test builds have both that and a simulation of it
//! (`simulated`), in which a seed says what each call comes to and when whatever is waited for happens.
//!
//! The builds differ in these names alone, as with loom: what stands above is the same text, has no parameter for it,
//! and in the daemon there is nothing left of the choice.

mod linux;
#[cfg(test)]
pub(in crate::dataplane) mod simulated;

#[cfg(not(test))]
pub(in crate::dataplane) use linux::{Events, SharedStream, Stream, now, sleep, spawn, wall_clock};
#[cfg(test)]
pub(in crate::dataplane) use simulated::{Events, SharedStream, Stream, now, sleep, spawn, wall_clock};
