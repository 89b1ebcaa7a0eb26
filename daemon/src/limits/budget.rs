//! One budget for the bytes that wait for their readers, whoever made them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The part of the budget that the data plane leaves to the control plane, so that whoever reads no listing doesn't
/// keep an operator from the metrics that tell of it: one in so many.
const CONTROL_SHARE: u64 = 8;

/// What waits for readers now. Shared by all threads.
#[derive(Debug)]
pub struct Budget {
    taken_bytes: AtomicU64,
    /// What this host allows, whatever the settings say.
    cap_bytes: AtomicU64,
    refusals: AtomicU64,
}

/// Which plane's answers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Listings and what else has no file behind it.
    Data,
    /// Metrics and lists of streams.
    Control,
}

/// Bytes that wait; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    plane: Plane,
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            taken_bytes: AtomicU64::new(0),
            cap_bytes: AtomicU64::new(u64::MAX),
            refusals: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// From now on at most so much is given out, even where the settings allow more.
    pub fn cap(&self, bytes: u64) {
        self.cap_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Takes `bytes`, unless more than `bytes_max` would then be taken by all; the data plane has to leave some.
    pub fn reserve(self: &Arc<Self>, plane: Plane, bytes: u64, bytes_max: u64) -> Option<Reserved> {
        let mut reserved = Reserved { budget: Arc::clone(self), plane, bytes: 0 };
        reserved.grow(bytes, bytes_max).then_some(reserved)
    }

    /// What is taken now.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// How often there was no room.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    fn take(&self, plane: Plane, bytes: u64, bytes_max: u64) -> bool {
        let bytes_max = bytes_max.min(self.cap_bytes.load(Ordering::Relaxed));
        let bytes_max = match plane {
            Plane::Data => bytes_max - bytes_max / CONTROL_SHARE,
            Plane::Control => bytes_max,
        };
        // No memory is handed over by these numbers, so their order beside others doesn't matter.
        let take = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= bytes_max);
        let is_taken = self.taken_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !is_taken {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }
}

impl Reserved {
    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `bytes` more. False, and nothing taken, where there is no room.
    pub fn grow(&mut self, bytes: u64, bytes_max: u64) -> bool {
        let is_taken = self.budget.take(self.plane, bytes, bytes_max);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let over = self.bytes.saturating_sub(bytes);
        self.bytes -= over;
        self.budget.taken_bytes.fetch_sub(over, Ordering::Relaxed);
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

    use super::{Budget, Plane};

    #[test]
    fn what_is_taken_is_given_back_and_never_passes_the_limit() {
        let budget = Arc::<Budget>::default();
        let mut first = budget.reserve(Plane::Control, 60, 100).unwrap();
        assert!(budget.reserve(Plane::Control, 41, 100).is_none());
        assert!(first.grow(40, 100) && !first.grow(1, 100));
        assert_eq!((budget.taken_bytes(), first.bytes(), budget.refusals()), (100, 100, 2));
        // A limit that was lowered meanwhile.
        assert!(!first.grow(0, 50));
        first.shrink_to(10);
        assert_eq!((budget.taken_bytes(), first.bytes()), (10, 10));
        first.shrink_to(20);
        assert_eq!(first.bytes(), 10);
        assert!(!first.grow(u64::MAX, u64::MAX));
        drop(first);
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn the_data_plane_leaves_an_eighth_to_the_control_plane() {
        let budget = Arc::<Budget>::default();
        let listings = budget.reserve(Plane::Data, 70, 80);
        assert!(listings.is_some() && budget.reserve(Plane::Data, 1, 80).is_none());
        assert!(budget.reserve(Plane::Control, 10, 80).is_some());
    }

    #[test]
    fn a_small_host_has_less_than_the_settings_say() {
        let budget = Arc::<Budget>::default();
        budget.cap(10);
        assert!(budget.reserve(Plane::Control, 11, 100).is_none());
        assert!(budget.reserve(Plane::Control, 10, 100).is_some());
    }
}
