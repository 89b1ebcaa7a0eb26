//! The limits of one address, one kind of work and the whole node.

mod address_group;
mod budget;
mod descriptors;
mod heap;
mod memory;
mod pace;
mod peer;
mod shares;
mod throttle;
mod tick;

pub use address_group::AddressGroup;
pub use budget::{ADDRESS_FULL, Budget, Full, Plane, Reserved};
pub use descriptors::{DATA_CONNECTIONS_MIN, Descriptors, KNOWN_FILES_MAX};
pub use heap::Heap;
pub use memory::memory_limit_bytes;
pub use pace::{Pace, PaceMinimum};
pub use peer::{LocalPeer, Peer};
pub use shares::{AddressShares, Holder, Share, Shares};
pub use throttle::Throttle;
pub use tick::{TICK, TICK_MS, Tick};
