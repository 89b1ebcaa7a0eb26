use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 4096;

fn limits(bytes_max: u64, files_max: u64, address_bytes_max: u64) -> SpoolLimits {
    SpoolLimits {
        bytes_max,
        files_max,
        address_bytes_max,
        address_files_max: u64::MAX,
        min_free_bytes: 0,
        min_free_inodes: 0,
    }
}

fn group(number: u8) -> Option<AddressGroup> {
    AddressGroup::of(std::net::IpAddr::from([192, 0, 2, number]))
}

fn ledger() -> Arc<Ledger> {
    Arc::new(Ledger::new(Count::default(), BLOCK))
}

/// Returns bytes and files of all frames.
fn taken(ledger: &Ledger) -> (u64, u64) {
    let [stored, incoming] = ledger.totals();
    (stored.0 + incoming.0, stored.1 + incoming.1)
}

#[test]
fn a_sender_is_known_by_the_ids_of_its_frames_and_nobody_is_by_those_of_others() {
    let senders = [group(1), group(2), None].map(Sender::of);
    for sender in senders {
        assert_eq!(Sender::of_id(sender.id(u128::MAX)), sender);
        assert_eq!(Sender::of_id(sender.id(0)), sender);
    }
    assert!(senders[0] != senders[1] && !senders[2].is_counted());
    assert_ne!(senders[0].id(u128::MAX), senders[0].id(0));
}

#[test]
fn a_frame_takes_what_came_of_it_in_blocks_and_at_least_one() {
    let ledger = ledger();
    let limits = limits(4 * BLOCK, 10, u64::MAX);
    let mut held = Held::new(&ledger, 1, &limits).unwrap();
    for (length, blocks) in [(0, 1), (1, 1), (BLOCK, 1), (BLOCK + 1, 2), (4 * BLOCK, 4)] {
        held.grow(length, &limits).unwrap();
        assert_eq!(taken(&ledger), (blocks * BLOCK, 1), "{length}");
    }
    assert!(matches!(held.grow(4 * BLOCK + 1, &limits), Err(SpoolError::Full { .. })));
    drop(held);
    assert_eq!(taken(&ledger), (0, 0));
}

#[test]
fn whoever_has_its_share_is_refused_and_others_are_not() {
    let ledger = ledger();
    let limits = limits(100 * BLOCK, 100, 2 * BLOCK);
    let [first, second] = [1, 2].map(|number| Sender::of(group(number)));
    let stored = Held::new(&ledger, first.id(1), &limits).unwrap();
    stored.is_about_to_be_stored();
    stored.store();
    let incoming = Held::new(&ledger, first.id(2), &limits).unwrap();
    assert!(matches!(Held::new(&ledger, first.id(3), &limits), Err(SpoolError::OverShare { .. })));
    assert!(matches!(ledger.check(second, 3 * BLOCK, &limits), Err(SpoolError::OverShare { .. })));
    ledger.check(second, 2 * BLOCK, &limits).unwrap();
    // Loopback isn't counted as one address.
    ledger.check(Sender::of(None), 50 * BLOCK, &limits).unwrap();
    drop(incoming);
    Held::new(&ledger, first.id(4), &limits).unwrap();
}

#[test]
fn whoever_has_its_share_of_files_is_refused_and_others_are_not() {
    let ledger = ledger();
    let limits = SpoolLimits { address_files_max: 2, ..limits(u64::MAX, 100, u64::MAX) };
    let [first, second] = [1, 2].map(|number| Sender::of(group(number)));
    let stored = Held::new(&ledger, first.id(1), &limits).unwrap();
    stored.is_about_to_be_stored();
    stored.store();
    let mut incoming = Held::new(&ledger, first.id(2), &limits).unwrap();
    let refused = Held::new(&ledger, first.id(3), &limits);
    assert!(matches!(refused, Err(SpoolError::TooManyOfAddress { used: 2, limit: 2 })), "{refused:?}");
    assert!(ledger.check(first, 1, &limits).is_err(), "before a frame comes");
    // A frame that is there grows: it is one file, however long it gets.
    incoming.grow(50 * BLOCK, &limits).unwrap();
    ledger.check(second, 1, &limits).unwrap();
    let local: Vec<Held> =
        (0..5).map(|number| Held::new(&ledger, Sender::of(None).id(number), &limits).unwrap()).collect();
    drop((incoming, local));
    Held::new(&ledger, first.id(4), &limits).unwrap();
}

#[test]
fn what_gets_its_name_during_a_count_is_counted_once() {
    let limits = limits(u64::MAX, u64::MAX, u64::MAX);
    // The name is given, and the frame stored, before or after the end of the count, which sees the name or
    // doesn't.
    for ends_first in [false, true] {
        let ledger = ledger();
        ledger.start_count();
        let held = Held::new(&ledger, 7, &limits).unwrap();
        held.is_about_to_be_stored();
        assert!(ledger.counts_itself(7), "the count sees it and leaves it out");
        if ends_first {
            ledger.end_count(Some(Count::default()));
            held.store();
        } else {
            held.store();
            assert!(ledger.counts_itself(7));
            ledger.end_count(Some(Count::default()));
        }
        assert_eq!(ledger.totals(), [(BLOCK, 1), (0, 0)]);
        assert!(!ledger.counts_itself(7), "the next count has to see it");
        ledger.start_count();
        ledger.end_count(Some(Count::default()));
        assert_eq!(taken(&ledger), (0, 0), "it was consumed");
    }
}

#[test]
fn a_count_that_failed_changes_nothing() {
    let ledger = ledger();
    let limits = limits(u64::MAX, u64::MAX, u64::MAX);
    ledger.start_count();
    Held::new(&ledger, 7, &limits).unwrap().store();
    ledger.end_count(None);
    assert_eq!(ledger.totals(), [(BLOCK, 1), (0, 0)]);
}

/// A step of a thread that uses the ledger.
#[derive(Clone, Debug)]
enum Step {
    Begin {
        sender: u8,
    },
    Grow {
        bytes: u64,
    },
    Drop,
    Store,
    /// A count that finds nothing but frames that count themselves.
    Recount,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8).prop_map(|sender| Step::Begin { sender }),
        3 => (0..8 * BLOCK).prop_map(|bytes| Step::Grow { bytes }),
        2 => Just(Step::Drop),
        1 => Just(Step::Store),
        1 => Just(Step::Recount),
    ]
}

/// Does the steps, with a few frames open, and checks after each that no limit is passed.
fn run(ledger: &Arc<Ledger>, thread: u128, steps: &[Step], limits: &SpoolLimits) {
    let mut open = VecDeque::new();
    for (number, step) in (0_u128..).zip(steps) {
        match step {
            Step::Begin { sender } => {
                let sender = Sender::of(if *sender == 0 { None } else { group(*sender) });
                let id = sender.id((thread << 16 | number) << SENDER_BITS);
                open.extend(Held::new(ledger, id, limits).ok().map(|held| (held, 0)));
            }
            Step::Grow { bytes } => {
                if let Some((held, length)) = open.back_mut()
                    && held.grow(*length + bytes, limits).is_ok()
                {
                    *length += bytes;
                }
            }
            Step::Drop => drop(open.pop_front()),
            Step::Store => {
                if let Some((held, _)) = open.pop_front() {
                    held.is_about_to_be_stored();
                    held.store();
                }
            }
            Step::Recount if thread == 0 => {
                ledger.start_count();
                ledger.end_count(Some(Count::default()));
            }
            Step::Recount => {}
        }
        let usage = ledger.lock();
        let (stored, incoming) = (&usage.stored, &usage.incoming);
        assert!(stored.bytes + incoming.bytes <= limits.bytes_max);
        assert!(stored.files + incoming.files <= limits.files_max);
        for sender in [1, 2].map(|number| Sender::of(group(number))) {
            let [stored, incoming] = [stored, incoming].map(|count| count.of_sender(sender));
            assert!(stored.bytes + incoming.bytes <= limits.address_bytes_max);
            assert!(stored.files + incoming.files <= limits.address_files_max);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever threads do at once, no limit is passed, nothing gets below zero, and all is given back.
    #[test]
    fn no_limit_is_passed_and_all_is_given_back(
        of_threads in prop::collection::vec(prop::collection::vec(step(), 0..60), 4),
    ) {
        let ledger = ledger();
        let limits = SpoolLimits { address_files_max: 5, ..limits(20 * BLOCK, 12, 9 * BLOCK) };
        std::thread::scope(|scope| {
            for (number, steps) in (0_u128..).zip(&of_threads) {
                let ledger = &ledger;
                scope.spawn(move || run(ledger, number, steps, &limits));
            }
        });
        let [_, incoming] = ledger.totals();
        prop_assert_eq!(incoming, (0, 0));
        ledger.start_count();
        ledger.end_count(Some(Count::default()));
        prop_assert_eq!(taken(&ledger), (0, 0));
        let usage = ledger.lock();
        prop_assert!(usage.incoming.by_sender.is_empty() && usage.stored.by_sender.is_empty());
        prop_assert!(usage.fresh.is_empty() && usage.named.is_empty());
    }
}
