//! The only unsafe code, and only what rustix lacks: borrowing a descriptor that monoio owns, asking a socket for
//! its unacknowledged bytes, telling it how much to gather, having a range of a file written to its disk, mapping pages
//! for direct writes, taking over descriptors that a service manager passed, and asking the kernel whether it grants
//! an io_uring.

#![allow(
    unsafe_code,
    reason = "the one place for it; each block names owner, lifetime and what the kernel keeps"
)]

mod descriptor;
mod pages;
mod passed;
mod receive_low_water;
mod socket_queue;
pub mod uring;
mod write_back;

pub use descriptor::borrow;
pub use pages::Pages;
pub use passed::passed_descriptors;
pub use receive_low_water::set_receive_low_water;
pub use socket_queue::unacknowledged_bytes;
pub use write_back::{finish_write_back, start_write_back};
