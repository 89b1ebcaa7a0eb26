//! The budget of bytes that wait for their readers, one for all of the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Holder, Share, Shares};

/// The divisor of the budget that gives the share of one address, so that nobody uses it up alone.
const ADDRESS_DIVISOR: u64 = 2;

/// The divisor of the budget that gives the part which the data plane leaves to the control plane, so that a
/// client that reads no listing doesn't keep an operator from the metrics that tell of it.
const CONTROL_SHARE: u64 = 8;

/// The bytes that wait for readers now. It is shared by all threads.
#[derive(Debug)]
pub struct Budget {
    taken_bytes: AtomicU64,
    /// The most bytes that this host allows, whatever the settings say.
    cap_bytes: AtomicU64,
    refusals: AtomicU64,
    /// The bytes that each address holds on the data plane.
    shares: Arc<Shares>,
    address_refusals: AtomicU64,
}

/// The error text for an address that holds its share.
pub const ADDRESS_FULL: &str =
    "answers and heads of this address wait for as much as one address may hold: half of waiting_bytes_max";

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All clients together hold as many bytes as may wait.
    #[error("too many answers wait for their readers (waiting_bytes_max)")]
    Node,
    /// The address holds its share.
    #[error("{ADDRESS_FULL}")]
    Address,
}

/// The plane whose answers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// The data plane: listings, other answers without a file and heads that don't end, and their holder.
    Data(Holder),
    /// The control plane: metrics and lists of streams.
    Control,
}

/// Bytes that are taken from the budget, given back when this is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    plane: Plane,
    /// The part of the address's share; None where there is no address.
    share: Option<Share>,
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            taken_bytes: AtomicU64::new(0),
            cap_bytes: AtomicU64::new(u64::MAX),
            refusals: AtomicU64::new(0),
            shares: Arc::default(),
            address_refusals: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// Limits the budget to `bytes` from now on, even where the settings allow more.
    pub fn cap(&self, bytes: u64) {
        self.cap_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Takes `bytes`, unless all would then have taken more than `bytes_max`, or one address half of it; the data
    /// plane has to leave some.
    pub fn reserve(self: &Arc<Self>, plane: Plane, bytes: u64, bytes_max: u64) -> Result<Reserved, Full> {
        let share = match plane {
            Plane::Data(Some(group)) => self.shares.take(Some(group), 0, u64::MAX),
            Plane::Data(None) | Plane::Control => None,
        };
        let mut reserved = Reserved { budget: Arc::clone(self), plane, share, bytes: 0 };
        reserved.grow(bytes, bytes_max).map(|()| reserved)
    }

    /// Returns the bytes that are taken now.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Returns how often there was no room.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Returns how often there was no room for one address alone.
    pub fn address_refusals(&self) -> u64 {
        self.address_refusals.load(Ordering::Relaxed)
    }

    fn of_address_max(&self, bytes_max: u64) -> u64 {
        bytes_max.min(self.cap_bytes.load(Ordering::Relaxed)) / ADDRESS_DIVISOR
    }

    fn take(&self, plane: Plane, bytes: u64, bytes_max: u64) -> bool {
        let bytes_max = bytes_max.min(self.cap_bytes.load(Ordering::Relaxed));
        let bytes_max = match plane {
            Plane::Data(_) => bytes_max - bytes_max / CONTROL_SHARE,
            Plane::Control => bytes_max,
        };
        // The numbers guard no memory, so relaxed ordering is enough.
        let take = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= bytes_max);
        let is_taken = self.taken_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !is_taken {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }
}

impl Reserved {
    /// Returns how many bytes are taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `bytes` more, or nothing where there is no room.
    pub fn grow(&mut self, bytes: u64, bytes_max: u64) -> Result<(), Full> {
        let of_address_max = self.budget.of_address_max(bytes_max);
        if let Some(share) = &mut self.share
            && !share.grow(bytes, of_address_max)
        {
            self.budget.refusals.fetch_add(1, Ordering::Relaxed);
            self.budget.address_refusals.fetch_add(1, Ordering::Relaxed);
            return Err(Full::Address);
        }
        if !self.budget.take(self.plane, bytes, bytes_max) {
            if let Some(share) = &mut self.share {
                share.shrink(bytes);
            }
            return Err(Full::Node);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let over = self.bytes.saturating_sub(bytes);
        self.bytes -= over;
        self.budget.taken_bytes.fetch_sub(over, Ordering::Relaxed);
        if let Some(share) = &mut self.share {
            share.shrink(over);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Budget, Full, Plane};
    use crate::limits::AddressGroup;

    #[test]
    fn what_is_taken_is_given_back_and_never_passes_the_limit() {
        let budget = Arc::<Budget>::default();
        let mut first = budget.reserve(Plane::Control, 60, 100).unwrap();
        assert_eq!(budget.reserve(Plane::Control, 41, 100).unwrap_err(), Full::Node);
        assert!(first.grow(40, 100).is_ok() && first.grow(1, 100).is_err());
        assert_eq!((budget.taken_bytes(), first.bytes(), budget.refusals()), (100, 100, 2));
        // The limit was lowered meanwhile.
        assert!(first.grow(0, 50).is_err());
        first.shrink_to(10);
        assert_eq!((budget.taken_bytes(), first.bytes()), (10, 10));
        first.shrink_to(20);
        assert_eq!(first.bytes(), 10);
        assert!(first.grow(u64::MAX, u64::MAX).is_err());
        drop(first);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn the_data_plane_leaves_an_eighth_to_the_control_plane() {
        let budget = Arc::<Budget>::default();
        let listings = budget.reserve(Plane::Data(None), 70, 80);
        assert!(listings.is_ok() && budget.reserve(Plane::Data(None), 1, 80).is_err());
        assert!(budget.reserve(Plane::Control, 10, 80).is_ok());
    }

    #[test]
    fn one_address_has_half_and_the_others_the_rest() {
        let budget = Arc::<Budget>::default();
        let plane = |address: &str| Plane::Data(AddressGroup::of(address.parse().unwrap()));
        let (one, other) = (plane("192.0.2.1"), plane("192.0.2.2"));
        let mut held = budget.reserve(one, 30, 80).unwrap();
        let mut further = budget.reserve(one, 10, 80).unwrap();
        assert_eq!(further.grow(1, 80), Err(Full::Address));
        assert_eq!(budget.reserve(one, 1, 80).unwrap_err(), Full::Address);
        assert_eq!((budget.refusals(), budget.address_refusals(), budget.taken_bytes()), (2, 2, 40));
        // Where all is taken the node is full, and the shares don't change.
        let of_other = budget.reserve(other, 30, 80).unwrap();
        assert_eq!(budget.reserve(other, 1, 80).unwrap_err(), Full::Node);
        held.shrink_to(29);
        drop((further, of_other));
        assert!(held.grow(11, 80).is_ok() && held.grow(1, 80) == Err(Full::Address));
        // Loopback stands for everybody on this host.
        assert!(budget.reserve(plane("127.0.0.1"), 30, 80).is_ok());
        drop(held);
        assert_eq!((budget.taken_bytes(), budget.shares.total()), (0, 0));
    }

    #[test]
    fn a_small_host_has_less_than_the_settings_say() {
        let budget = Arc::<Budget>::default();
        budget.cap(10);
        assert!(budget.reserve(Plane::Control, 11, 100).is_err());
        assert!(budget.reserve(Plane::Control, 10, 100).is_ok());
    }
}
