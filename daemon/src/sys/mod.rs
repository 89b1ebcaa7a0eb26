//! The only unsafe code, and only what rustix lacks: borrowing a descriptor that monoio owns, asking a socket for
//! its unacknowledged bytes and for what it has transferred, telling it how much to gather, having a range of a file
//! written to its disk, locking a byte of one, asking for the attributes of one by its name, mapping pages for direct
//! writes, letting a thread's reads come last, asking what a thread has waited for, having a write beyond the limit of
//! file sizes fail and not end the process, asking the allocator what it has to spare, taking over descriptors that a
//! service manager passed, and asking the kernel whether it grants an io_uring.

#![allow(
    unsafe_code,
    reason = "the one place for it; each block names owner, lifetime and what the kernel keeps"
)]

mod attributes;
mod descriptor;
mod file_size_signal;
mod heap;
mod io_priority;
mod pages;
mod passed;
mod range_lock;
mod receive_low_water;
mod socket_queue;
mod thread_usage;
mod transferred;
pub mod uring;
mod write_back;

pub use attributes::has_attributes;
pub use descriptor::borrow;
pub use file_size_signal::ignore_file_size_signal;
pub use heap::{bound_heap, free_heap_bytes, trim_heap};
pub use io_priority::read_when_idle;
pub use pages::Pages;
pub use passed::passed_descriptors;
pub use range_lock::{try_lock_byte, unlock_byte};
pub use receive_low_water::set_receive_low_water;
pub use socket_queue::unacknowledged_bytes;
pub use thread_usage::ThreadUsage;
pub use transferred::transferred_bytes;
pub use write_back::{finish_write_back, start_write_back};
