//! The places of control connections. Where none is free a newcomer takes that of an idle connection, so that a
//! client that only holds connections can't keep a health check out.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::head_deadline::RequestClock;
use crate::limits::{Holder, Share};

/// All places of control connections.
pub(super) struct Slots {
    connections_max: usize,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    next: u64,
    by_number: HashMap<u64, Member>,
}

struct Member {
    clock: RequestClock,
    holder: Holder,
    eviction: Arc<Mutex<Eviction>>,
}

/// A signal by which a connection is told to end.
#[derive(Default)]
struct Eviction {
    is_due: bool,
    waker: Option<Waker>,
}

/// The place of one connection, free again when this is dropped.
pub(super) struct Place {
    slots: Arc<Slots>,
    number: u64,
    eviction: Arc<Mutex<Eviction>>,
    /// The connection's part of its address's limit.
    _share: Share,
}

impl Slots {
    /// Makes places without connections.
    pub(super) fn new(connections_max: usize) -> Arc<Slots> {
        Arc::new(Slots { connections_max, members: Mutex::default() })
    }

    /// Whether a newcomer gets a place, possibly that of another connection.
    pub(super) fn has_room(&self) -> bool {
        let members = self.lock();
        members.by_number.len() < self.connections_max || members.victim().is_some()
    }

    /// Whether a newcomer gets a place only from another connection.
    pub(super) fn is_full(&self) -> bool {
        self.lock().by_number.len() >= self.connections_max
    }

    /// Tells an idle connection to end, and gives its place away at once; false where none is idle.
    pub(super) fn evict_one(&self) -> bool {
        let mut members = self.lock();
        let victim = members.victim().and_then(|number| members.by_number.remove(&number));
        let Some(victim) = victim else { return false };
        drop(members);
        let mut eviction = victim.eviction.lock().unwrap_or_else(PoisonError::into_inner);
        eviction.is_due = true;
        if let Some(waker) = eviction.waker.take() {
            waker.wake();
        }
        true
    }

    /// Gives a connection a place, which must be free.
    pub(super) fn take(self: &Arc<Self>, clock: RequestClock, share: Share) -> Place {
        let eviction = Arc::default();
        let mut members = self.lock();
        let number = members.next;
        members.next += 1;
        let member = Member { clock, holder: share.holder(), eviction: Arc::clone(&eviction) };
        members.by_number.insert(number, member);
        drop(members);
        Place { slots: Arc::clone(self), number, eviction, _share: share }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    /// Returns the connection that has to make room: among those between two requests, the longest idle one of the
    /// holder that has most of them; else one that waits for its request's body, chosen likewise. A connection
    /// with a stream is never chosen.
    fn victim(&self) -> Option<u64> {
        let mut held: HashMap<Holder, u64> = HashMap::new();
        for member in self.by_number.values() {
            *held.entry(member.holder).or_default() += 1;
        }
        let candidates = self.by_number.iter().filter(|(_, member)| !member.clock.is_working());
        let rank = |number: u64, member: &Member| {
            let held = held.get(&member.holder).copied().unwrap_or_default();
            (!member.clock.is_in_request(), held, member.clock.since_last(), std::cmp::Reverse(number))
        };
        candidates.max_by_key(|(number, member)| rank(**number, member)).map(|(number, _)| *number)
    }
}

impl Place {
    /// Waits until another connection gets the place.
    pub(super) async fn evicted(&self) {
        poll_fn(|context| {
            let mut eviction = self.eviction.lock().unwrap_or_else(PoisonError::into_inner);
            if eviction.is_due {
                return Poll::Ready(());
            }
            // This is polled with each event of the connection, mostly by the same task.
            if !eviction.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                eviction.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The entry is gone already where the place was given away.
        self.slots.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::head_deadline::RequestClock;
    use super::{Place, Slots};
    use crate::limits::{AddressGroup, Shares};

    fn open(slots: &Arc<Slots>, shares: &Arc<Shares>, address: &str) -> (RequestClock, Place) {
        std::thread::park_timeout(Duration::from_millis(2));
        let clock = RequestClock::default();
        let group = AddressGroup::of(address.parse().unwrap());
        (clock.clone(), slots.take(clock, shares.take(group, 1, 99).unwrap()))
    }

    fn is_evicted(place: &Place) -> bool {
        place.eviction.lock().unwrap().is_due
    }

    #[test]
    fn the_longest_idle_of_the_fullest_address_goes_and_nobody_who_works() {
        let (slots, shares) = (Slots::new(5), Arc::<Shares>::default());
        let open = |address| open(&slots, &shares, address);
        let (_, single) = open("192.0.2.1");
        let (first_clock, first) = open("192.0.2.2");
        let (_, second) = open("192.0.2.2");
        let (third_clock, third) = open("192.0.2.2");
        let (fourth_clock, fourth) = open("127.0.0.1");
        assert!(slots.is_full() && slots.has_room());
        // The first connection had a request after the second was opened.
        std::thread::park_timeout(Duration::from_millis(2));
        drop(first_clock.start_request());
        let works = third_clock.start_request();
        works.begin_work();
        let waits_for_body = fourth_clock.start_request();
        let order = [&second, &first, &single, &fourth];
        for (gone, place) in order.iter().enumerate() {
            assert!(!is_evicted(place) && slots.evict_one() && is_evicted(place), "{gone}");
            assert!(!slots.is_full());
        }
        assert!(!slots.evict_one() && !is_evicted(&third));
        drop((works, waits_for_body));
        assert!(slots.evict_one() && is_evicted(&third));
        drop((single, first, second, third, fourth));
        assert_eq!(shares.total(), 0);
    }
}
