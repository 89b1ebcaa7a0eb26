//! The shares that each address holds of one thing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::AddressGroup;

/// The amounts that addresses hold of one thing (connections, uploads, bytes of the spool). It is shared by all
/// threads.
#[derive(Debug, Default)]
pub struct Shares {
    held: Mutex<Held>,
}

/// The holder of a share: an address group, or None for all without one together, who have no limit.
pub type Holder = Option<AddressGroup>;

#[derive(Debug, Default)]
struct Held {
    by_address: HashMap<AddressGroup, u64>,
    /// The amount that all without a group hold. It is kept apart, since most requests of a proxied or local node
    /// count here.
    unnamed: u64,
    total: u64,
}

impl Held {
    fn by(&self, holder: Holder) -> u64 {
        holder.map_or(self.unnamed, |group| self.by_address.get(&group).copied().unwrap_or_default())
    }

    fn set(&mut self, holder: Holder, amount: u64) {
        match holder {
            None => self.unnamed = amount,
            // An entry without an amount is removed, so that the table is no longer than there are holders.
            Some(group) if amount == 0 => {
                self.by_address.remove(&group);
            }
            Some(group) => {
                self.by_address.insert(group, amount);
            }
        }
    }
}

/// The amount that one holder took, given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    holder: Holder,
    amount: u64,
}

/// The things that are shared by address, over both planes and all workers.
#[derive(Clone, Debug, Default)]
pub struct AddressShares {
    /// Connections of both planes.
    pub connections: Arc<Shares>,
    /// Requests that bring an upload or a part of one.
    pub uploads: Arc<Shares>,
    /// Streams, by the address that asked for them.
    pub streams: Arc<Shares>,
    /// Listings that are being sent.
    pub listings: Arc<Shares>,
}

impl Shares {
    /// Takes `amount` for an address, unless it would then hold more than `amount_max`. A holder without a group
    /// is never refused.
    pub fn take(self: &Arc<Self>, holder: Holder, amount: u64, amount_max: u64) -> Option<Share> {
        let mut share = Share { shares: Arc::clone(self), holder, amount: 0 };
        share.grow(amount, amount_max).then_some(share)
    }

    /// Returns the amount that an address holds.
    pub fn held(&self, group: AddressGroup) -> u64 {
        self.held_by(Some(group))
    }

    /// Returns the amount that an address holds, or all without one together.
    pub fn held_by(&self, holder: Holder) -> u64 {
        self.lock().by(holder)
    }

    /// Returns the amount that all hold together.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// Returns the amounts that each holds now.
    pub fn counts(&self) -> HashMap<Holder, u64> {
        let held = self.lock();
        let unnamed = (held.unnamed > 0).then_some((None, held.unnamed));
        held.by_address.iter().map(|(group, held)| (Some(*group), *held)).chain(unnamed).collect()
    }

    /// Returns the address that holds most, and how much.
    pub fn fullest(&self) -> Option<(AddressGroup, u64)> {
        let held = self.lock();
        held.by_address.iter().map(|(group, held)| (*group, *held)).max_by_key(|(_, held)| *held)
    }

    /// Returns the address that has to make room for a newcomer: the fullest, if it holds more than the newcomer
    /// then would.
    pub fn outweighing(&self, newcomer: Holder) -> Option<AddressGroup> {
        let (fullest, held) = self.fullest()?;
        (Some(fullest) != newcomer && held > self.held_by(newcomer) + 1).then_some(fullest)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Returns the holder of the share.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Takes `amount` more; false, with nothing taken, where the address would then hold more than `amount_max`.
    pub fn grow(&mut self, amount: u64, amount_max: u64) -> bool {
        let mut held = self.shares.lock();
        let after = held.by(self.holder).saturating_add(amount);
        if self.holder.is_some() && after > amount_max {
            return false;
        }
        held.set(self.holder, after);
        held.total = held.total.saturating_add(amount);
        self.amount += amount;
        true
    }

    /// Gives back `amount` of the share, at most all.
    pub fn shrink(&mut self, amount: u64) {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        let mut held = self.shares.lock();
        held.total = held.total.saturating_sub(amount);
        let left = held.by(self.holder).saturating_sub(amount);
        held.set(self.holder, left);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{AddressGroup, Shares};

    fn group(address: &str) -> Option<AddressGroup> {
        AddressGroup::of(address.parse().unwrap())
    }

    #[test]
    fn an_address_holds_no_more_than_its_share_and_gives_it_back() {
        let shares = Arc::<Shares>::default();
        let (one, other) = (group("192.0.2.1"), group("192.0.2.2"));
        let mut first = shares.take(one, 3, 4).unwrap();
        assert!(shares.take(one, 2, 4).is_none());
        assert!(first.grow(1, 4) && !first.grow(1, 4));
        let second = shares.take(other, 2, 4).unwrap();
        assert_eq!(shares.fullest(), Some((one.unwrap(), 4)));
        first.shrink(3);
        assert_eq!(shares.fullest(), Some((other.unwrap(), 2)));
        assert_eq!(shares.total(), 3);
        drop((first, second));
        assert_eq!(shares.fullest(), None);
        assert_eq!((shares.held(one.unwrap()), shares.total()), (0, 0));
        assert!(shares.counts().is_empty());
    }

    #[test]
    fn who_has_no_group_is_never_refused() {
        let shares = Arc::<Shares>::default();
        let local = shares.take(group("127.0.0.1"), 10, 1);
        assert!(local.is_some());
        assert_eq!(shares.fullest(), None);
        assert_eq!((shares.held_by(None), shares.total()), (10, 10));
    }

    #[test]
    fn an_address_makes_room_only_for_those_who_would_hold_less() {
        let shares = Arc::<Shares>::default();
        let (full, other) = (group("192.0.2.1"), group("192.0.2.2"));
        let held = shares.take(full, 3, 9).unwrap();
        assert_eq!(shares.outweighing(other), full);
        assert_eq!(shares.outweighing(full), None);
        let mut of_other = shares.take(other, 1, 9).unwrap();
        assert_eq!(shares.outweighing(other), full);
        of_other.grow(1, 9);
        // The other address would hold three then, as many.
        assert_eq!(shares.outweighing(other), None);
        let local = shares.take(None, 2, 9).unwrap();
        assert_eq!(shares.outweighing(None), None, "who has no address counts as one");
        drop(local);
        assert_eq!(shares.outweighing(None), full);
        drop((held, of_other));
        // A holder without an address never has to make room.
        let locals = shares.take(None, 9, 9).unwrap();
        assert_eq!(shares.outweighing(full), None);
        drop(locals);
    }
}
