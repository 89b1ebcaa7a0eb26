use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use monoio::{LegacyDriver, RuntimeBuilder};

use super::queue::WAITING_MAX;
use super::{Disk, DiskError, DiskThreads, Lane, MountNames, Owner};
use crate::files::MountId;

const OWNER: Owner = Owner { mount: MountId::UNKNOWN, group: None };

/// Longer than any test takes.
const NO_TIMEOUT_MS: u64 = 3_600_000;

fn disk(threads: usize, timeout_ms: u64) -> (DiskThreads, Disk) {
    let threads = DiskThreads::start(threads, timeout_ms, MountNames::new(Vec::new())).unwrap();
    let disk = Disk::new(&threads);
    (threads, disk)
}

fn block_on(future: impl Future<Output = ()>) {
    RuntimeBuilder::<monoio::time::TimeDriver<LegacyDriver>>::new().build().unwrap().block_on(future);
}

/// Like an open file: it matters where it goes.
struct Closed(Sender<String>);

impl Drop for Closed {
    fn drop(&mut self) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.0.send(name).unwrap();
    }
}

#[test]
fn what_a_task_holds_is_dropped_on_a_disk_thread_however_many_wait() {
    let (_threads, disk) = disk(1, NO_TIMEOUT_MS);
    let (go, gone) = channel::<()>();
    let (sender, closed) = channel();
    disk.discard(Lane::Write, OWNER, CallOnDrop(Some(move || assert!(gone.recv().is_ok()))));
    for _ in 0..2 * WAITING_MAX {
        disk.discard(Lane::Write, OWNER, Closed(sender.clone()));
    }
    assert!(closed.try_recv().is_err(), "none before its turn");
    go.send(()).unwrap();
    drop(sender);
    let names: Vec<String> = closed.iter().collect();
    assert_eq!(names.len(), 2 * WAITING_MAX);
    assert!(names.iter().all(|name| name == "streamd-disk-0"), "{names:?}");
}

struct CallOnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for CallOnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

#[test]
fn work_that_nobody_waits_for_any_more_is_never_begun_and_its_files_go_on_a_disk_thread() {
    let (_threads, disk) = disk(1, NO_TIMEOUT_MS);
    let (go, gone) = channel::<()>();
    let (sender, closed) = channel();
    disk.discard(Lane::Read, OWNER, CallOnDrop(Some(move || assert!(gone.recv().is_ok()))));
    block_on(async {
        let file = Closed(sender);
        let mut asked = Box::pin(disk.run(Lane::Read, OWNER, move || {
            drop(file);
            panic!("it was begun");
        }));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asked.as_mut().poll(&mut context).is_pending());
        drop(asked);
    });
    assert!(closed.try_recv().is_err(), "it isn't dropped here");
    go.send(()).unwrap();
    assert_eq!(closed.recv().unwrap(), "streamd-disk-0");
    assert!(closed.recv().is_err());
}

#[test]
fn work_that_nobody_waits_for_any_more_takes_no_room_of_those_who_come() {
    let (threads, disk) = disk(1, NO_TIMEOUT_MS);
    let (go, gone) = channel::<()>();
    disk.discard(Lane::LookUp, OWNER, CallOnDrop(Some(move || assert!(gone.recv().is_ok()))));
    let waiting = || threads.pool().report().lanes[Lane::LookUp as usize].waiting;
    block_on(async {
        let mut context = Context::from_waker(Waker::noop());
        for round in 0..3 {
            let (sender, closed) = channel();
            let asked: Vec<_> = (0..WAITING_MAX)
                .map(|number| {
                    let held = Closed(sender.clone());
                    let work = move || drop(held);
                    let mut asked = if number % 2 == 0 {
                        Box::pin(disk.run_or_refuse(Lane::LookUp, OWNER, work))
                    } else {
                        Box::pin(disk.run(Lane::LookUp, OWNER, work))
                    };
                    assert!(asked.as_mut().poll(&mut context).is_pending(), "{round}");
                    asked
                })
                .collect();
            drop(asked);
            // Work that holds nothing slow to close is dropped at once, the rest on a disk thread.
            assert_eq!(closed.try_iter().count(), WAITING_MAX / 2, "{round}");
            assert!(waiting() <= 1, "{round}: {}", waiting());
        }
    });
    go.send(()).unwrap();
}

#[test]
fn a_mount_that_ends_nothing_is_given_up_and_the_others_go_on() {
    let (threads, disk) = disk(16, 200);
    let silent = Owner { mount: MountId::numbered(7), group: None };
    let (go, gone) = channel::<()>();
    let gone = Arc::new(std::sync::Mutex::new(gone));
    let hanging = threads.pool().report().lanes.len();
    assert_eq!(hanging, Lane::ALL.len());
    block_on(async {
        let ask = |lane| {
            let gone = Arc::clone(&gone);
            disk.run_or_refuse(lane, silent, move || assert!(gone.lock().unwrap().recv().is_err()))
        };
        let sweep = async {
            let end = Instant::now() + Duration::from_secs(30);
            while threads.pool().report().silent.is_empty() || !disk.waits.borrow().is_empty() {
                assert!(Instant::now() < end, "not given up within 30 s");
                monoio::time::sleep(Duration::from_millis(10)).await;
                disk.sweep(200);
                for lane in Lane::ALL {
                    assert_eq!(disk.run(lane, OWNER, || 7).await, Ok(7), "{lane:?}");
                }
            }
        };
        let all = async {
            let asked = (0..20).map(|_| Box::pin(ask(Lane::LookUp))).collect::<Vec<_>>();
            for ask in asked {
                assert_eq!(ask.await, Err(DiskError::Silent("/".into())));
            }
        };
        monoio::join!(all, sweep);
        assert_eq!(ask(Lane::LookUp).await, Err(DiskError::Silent("/".into())), "refused at once");
        assert!(threads.pool().report().lanes[0].oldest >= Duration::from_millis(200));
        drop(go);
        let end = Instant::now() + Duration::from_secs(30);
        while !threads.pool().report().silent.is_empty() {
            assert!(Instant::now() < end, "silent for ever");
            monoio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(disk.run_or_refuse(Lane::LookUp, silent, || 7).await, Ok(7));
    });
}

/// Waits until the disk has a mount that is told of as silent.
async fn wait_for_silence(threads: &DiskThreads, disk: &Disk, timeout_ms: u64) {
    let end = Instant::now() + Duration::from_secs(30);
    while !threads.pool().has_silent() {
        assert!(Instant::now() < end, "not silent within 30 s");
        monoio::time::sleep(Duration::from_millis(10)).await;
        disk.sweep(timeout_ms);
    }
}

#[test]
fn parts_of_a_task_on_a_mount_that_ends_nothing_are_given_up_and_those_that_come_refused() {
    let (threads, disk) = disk(4, 20);
    let (go, gone) = channel::<()>();
    let silent = Owner { mount: MountId::numbered(7), group: None };
    disk.discard(Lane::Write, silent, CallOnDrop(Some(move || assert!(gone.recv().is_err()))));
    block_on(async {
        let (sender, closed) = channel();
        let held = Closed(sender);
        let (asked, part) = disk.wait_for_part(Lane::Write, silent, move || drop(held));
        let part = part.unwrap();
        assert!(part.is_wanted());
        wait_for_silence(&threads, &disk, 20).await;
        let sweep = async {
            while part.is_wanted() {
                monoio::time::sleep(Duration::from_millis(10)).await;
                disk.sweep(20);
            }
        };
        let (outcome, ()) = monoio::join!(asked, sweep);
        assert_eq!(outcome, Err(DiskError::Silent("/".into())));
        assert!(closed.try_recv().is_err());
        drop(part);
        assert!(closed.try_recv().is_ok(), "what it holds goes with it");
        let (asked, part) = disk.wait_for_part(Lane::Write, silent, || ());
        assert!(part.is_none());
        assert_eq!(asked.await, Err(DiskError::Silent("/".into())));
        let refused = disk.run_whole(Lane::Write, silent, || ()).await;
        assert_eq!(refused, Err(DiskError::Silent("/".into())));
        disk.run_unless_busy(Lane::Write, silent, || panic!("it was begun"));
        assert_eq!(threads.pool().report().lanes[Lane::Write as usize].waiting, 0, "it is left undone");
        let (asked, part) = disk.wait_for_part(Lane::Write, OWNER, || 7);
        let mut part = part.unwrap();
        part.run();
        drop(part);
        assert_eq!(asked.await, Ok(7));
        let (asked, part) = disk.wait_for_part(Lane::Write, OWNER, || 7);
        drop(part);
        assert_eq!(asked.await, Err(DiskError::Busy(Lane::Write)), "undone");
    });
    drop(go);
}

#[test]
fn a_task_that_panics_costs_itself_alone() {
    let (threads, disk) = disk(1, NO_TIMEOUT_MS);
    block_on(async {
        let outcome = disk.run(Lane::Read, OWNER, || panic!("as it is meant to be")).await;
        assert_eq!(outcome, Err::<(), _>(DiskError::Busy(Lane::Read)));
        assert_eq!(disk.run(Lane::Read, OWNER, || 7).await, Ok(7));
        // The thread tells of its end after whoever waits for its result.
        let end = Instant::now() + Duration::from_secs(30);
        while threads.pool().report().lanes[Lane::Read as usize].running > 0 {
            assert!(Instant::now() < end, "the task never ends");
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
