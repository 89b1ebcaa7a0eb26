use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{DIGESTS_WAITING_MAX, Kind, Lane, Owner, Queue, Shares, WAITING_MAX, waiting_of_address_max};
use crate::files::MountId;
use crate::limits::AddressGroup;

fn owner(mount: u64, host: u8) -> Owner {
    let group = (host > 0).then(|| AddressGroup::of(IpAddr::from([192, 0, 2, host])).unwrap());
    Owner { mount: MountId::numbered(mount), group }
}

fn queue(threads: usize) -> Queue<usize> {
    Queue::new(Shares::of(threads), vec![MountId::numbered(1)])
}

/// Takes tasks as threads of a kind do, until none may take more.
fn take_all(queue: &mut Queue<usize>, kind: Kind, now: Instant) -> Vec<(Lane, MountId, usize)> {
    std::iter::from_fn(|| queue.take(kind, now)).collect()
}

fn running(queue: &Queue<usize>) -> [usize; 5] {
    Lane::ALL.map(|lane| queue.running(lane))
}

#[test]
fn addresses_and_mounts_have_their_turns() {
    let (mut queue, now) = (queue(1), Instant::now());
    for number in 0..3 {
        queue.push(Lane::Read, owner(1, 1), number, now);
    }
    queue.push(Lane::Read, owner(1, 2), 10, now);
    queue.push(Lane::Read, owner(2, 1), 20, now);
    queue.push(Lane::Read, owner(2, 1), 21, now);
    let mut order = Vec::new();
    while let Some((lane, mount, task)) = queue.take(Kind::Prompt, now) {
        order.push(task);
        queue.end(lane, mount, now);
    }
    assert_eq!(order, [0, 20, 10, 21, 1, 2]);
    assert!(queue.is_idle() && queue.oldest(Lane::Read).is_none());
}

#[test]
fn no_lane_takes_what_others_have_for_themselves() {
    for threads in 5..=64 {
        let (mut queue, now) = (queue(threads), Instant::now());
        for number in 0..1000 {
            for lane in [Lane::Read, Lane::Digest] {
                queue.push(lane, owner(1, 0), number, now);
            }
        }
        for kind in Kind::ALL {
            take_all(&mut queue, kind, now);
        }
        for lane in [Lane::LookUp, Lane::Write, Lane::Listing] {
            queue.push(lane, owner(1, 0), 0, now);
            let kind = queue.shares().lane(lane).kind;
            assert_eq!(queue.take(kind, now).map(|(of, ..)| of), Some(lane), "{threads}");
        }
    }
}

#[test]
fn a_mount_that_gives_nothing_back_leaves_threads_of_each_lane_to_the_others() {
    for threads in 8..=64 {
        let (mut queue, began) = (queue(threads), Instant::now());
        for number in 0..1000 {
            for lane in Lane::ALL {
                queue.push(lane, owner(9, 0), number, began);
            }
        }
        let held: usize = Kind::ALL.map(|kind| take_all(&mut queue, kind, began).len()).iter().sum();
        assert!(held <= threads / 2, "{threads}: {held}");
        // It has been silent for a while when the others come, cold reads first.
        let now = began + Duration::from_secs(5);
        for lane in [Lane::Read, Lane::Digest, Lane::Write, Lane::Listing, Lane::LookUp] {
            for number in 0..1000 {
                queue.push(lane, owner(1, 0), number, now);
            }
            let before = running(&queue);
            let kind = queue.shares().lane(lane).kind;
            let taken = take_all(&mut queue, kind, now);
            assert!(running(&queue)[lane as usize] > before[lane as usize], "{threads} {lane:?}: {before:?}");
            // Long work takes turns.
            for (lane, mount, _) in taken.into_iter().filter(|_| kind == Kind::Patient) {
                queue.end(lane, mount, now);
            }
        }
        assert!(queue.silence(Lane::Read, MountId::numbered(9), now) >= Duration::from_secs(5));
    }
}

/// A lane whose tasks take longer than a mount may hold threads unseen.
fn press(queue: &mut Queue<usize>, mount: u64, began: Instant) -> Instant {
    for number in 0..1000 {
        queue.push(Lane::Read, owner(mount, 0), number, began);
    }
    take_all(queue, Kind::Prompt, began);
    let now = began + Duration::from_secs(5);
    // Whoever ends something meanwhile asks for more.
    take_all(queue, Kind::Prompt, now);
    now
}

#[test]
fn a_slow_mount_takes_no_more_threads_for_being_slow() {
    for threads in 5..=64 {
        let mut queue = queue(threads);
        let now = press(&mut queue, 1, Instant::now());
        assert!(queue.running(Lane::Read) <= queue.shares().lane(Lane::Read).max, "{threads}");
        for lane in [Lane::LookUp, Lane::Write] {
            for number in 0..queue.shares().lane(lane).min {
                queue.push(lane, owner(1, 0), number, now);
                assert_eq!(queue.take(Kind::Prompt, now).map(|(of, ..)| of), Some(lane), "{threads}");
            }
        }
    }
}

#[test]
fn several_slow_mounts_leave_what_others_have_for_themselves() {
    for threads in 12..=64 {
        let mut queue = queue(threads);
        let now = press(&mut queue, 1, Instant::now());
        let now = press(&mut queue, 2, now);
        assert!(queue.busy.iter().any(|busy| busy.mount == MountId::numbered(2)), "{threads}: each goes on");
        for lane in [Lane::LookUp, Lane::Write] {
            queue.push(lane, owner(1, 0), 0, now);
            let taken = queue.take(Kind::Prompt, now);
            assert_eq!(taken.map(|(of, ..)| of), Some(lane), "{threads}");
            // Where threads are few the lanes share one.
            queue.end(lane, MountId::numbered(1), now);
        }
    }
}

#[test]
fn the_only_mount_has_all_threads() {
    for threads in 1..=64 {
        let (mut queue, now) = (queue(threads), Instant::now());
        for lane in Lane::ALL {
            for number in 0..1000 {
                queue.push(lane, owner(1, 0), number, now);
            }
        }
        let taken: usize = Kind::ALL.map(|kind| take_all(&mut queue, kind, now).len()).iter().sum();
        assert_eq!(taken, threads);
    }
}

#[test]
fn one_thread_does_all_by_turns_and_what_is_waited_for_most_more_often() {
    let (mut queue, now) = (queue(1), Instant::now());
    for lane in Lane::ALL {
        for number in 0..1000 {
            queue.push(lane, owner(1, 0), number, now);
        }
    }
    let mut turns = [0; 5];
    for _ in 0..190 {
        let (lane, mount, _) = queue.take(Kind::Prompt, now).unwrap();
        turns[lane as usize] += 1;
        queue.end(lane, mount, now);
    }
    assert_eq!(turns, [80, 40, 40, 10, 20]);
    // A lane that was quiet has no claim on what it didn't want.
    let (mut queue, mut turns) = (self::queue(1), [0; 5]);
    for number in 0..100 {
        queue.push(Lane::Read, owner(1, 0), number, now);
    }
    for _ in 0..50 {
        let (lane, mount, _) = queue.take(Kind::Prompt, now).unwrap();
        queue.end(lane, mount, now);
    }
    for number in 0..100 {
        queue.push(Lane::Write, owner(1, 0), number, now);
    }
    for _ in 0..20 {
        let (lane, mount, _) = queue.take(Kind::Prompt, now).unwrap();
        turns[lane as usize] += 1;
        queue.end(lane, mount, now);
    }
    assert!(turns[Lane::Read as usize] >= 9, "{turns:?}");
}

#[test]
fn one_address_leaves_room_for_others() {
    let (mut queue, now) = (queue(16), Instant::now());
    let mut number = 0;
    while queue.has_room(Lane::LookUp, owner(1, 1)) {
        queue.push(Lane::LookUp, owner(1, 1), number, now);
        number += 1;
    }
    assert_eq!(number, waiting_of_address_max(Lane::LookUp));
    assert!(queue.has_room(Lane::LookUp, owner(1, 2)) && queue.has_room(Lane::LookUp, owner(1, 0)));
    while queue.has_room(Lane::LookUp, owner(1, 0)) {
        queue.push(Lane::LookUp, owner(1, 0), number, now);
        number += 1;
    }
    assert_eq!(number, WAITING_MAX);
    assert!(queue.has_room(Lane::Read, owner(1, 1)));
    for number in 0..DIGESTS_WAITING_MAX {
        assert!(queue.has_room(Lane::Digest, owner(1, 0)));
        queue.push(Lane::Digest, owner(1, 0), number, now);
    }
    assert!(!queue.has_room(Lane::Digest, owner(1, 0)));
}

#[test]
fn a_mount_whose_places_are_all_taken_leaves_room_for_others() {
    for lane in Lane::ALL {
        let (mut queue, now) = (queue(16), Instant::now());
        for mount in [8, 9] {
            for number in 0..WAITING_MAX {
                for host in 0..3 {
                    queue.push(lane, owner(mount, host), number, now);
                }
            }
            assert!(!queue.has_room(lane, owner(mount, 4)), "{lane:?}");
        }
        for host in 0..5 {
            assert!(queue.has_room(lane, owner(1, host)), "{lane:?}");
        }
    }
}

#[test]
fn who_holds_nothing_is_not_silent() {
    let (mut queue, began) = (queue(16), Instant::now());
    let (mount, hour) = (MountId::numbered(1), Duration::from_secs(3600));
    queue.push(Lane::Read, owner(1, 0), 0, began);
    assert_eq!(queue.silence(Lane::Read, mount, began + hour), Duration::ZERO);
    queue.take(Kind::Prompt, began + hour).unwrap();
    assert_eq!(queue.silence(Lane::Read, mount, began + 2 * hour), hour);
    assert_eq!(queue.silence(Lane::Write, mount, began + 2 * hour), Duration::ZERO);
    queue.end(Lane::Read, mount, began + 3 * hour);
    assert_eq!(queue.silence(Lane::Read, mount, began + 4 * hour), Duration::ZERO);
}

#[test]
fn a_task_that_nobody_wants_takes_no_room_and_leaves_where_it_may() {
    let (mut queue, now) = (queue(1), Instant::now());
    let later = now + Duration::from_secs(1);
    let stays = queue.push(Lane::Read, owner(1, 1), 0, now);
    let leaves = queue.push(Lane::Read, owner(1, 1), 1, now);
    let wanted = queue.push(Lane::Read, owner(1, 1), 2, later);
    let alone = queue.push(Lane::Read, owner(2, 2), 3, now);
    assert_eq!(queue.abandon(Lane::Read, owner(1, 1), stays, false), None);
    assert_eq!(queue.abandon(Lane::Read, owner(1, 1), leaves, true), Some(1));
    assert_eq!(queue.abandon(Lane::Read, owner(2, 2), alone, true), Some(3));
    assert_eq!(queue.waiting(Lane::Read), 1);
    assert_eq!(queue.oldest(Lane::Read), Some(later));
    // It has been taken, so that whoever did drops it.
    for (task, number) in [(0, stays), (2, wanted)] {
        let (lane, mount, taken) = queue.take(Kind::Prompt, now).unwrap();
        assert_eq!(taken, task);
        assert_eq!(queue.abandon(Lane::Read, owner(1, 1), number, true), None);
        queue.end(lane, mount, now);
    }
    assert_eq!(queue.waiting(Lane::Read), 0);
    assert!(queue.take(Kind::Prompt, now).is_none() && queue.oldest(Lane::Read).is_none());
}
