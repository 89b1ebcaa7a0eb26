//! The files and disks that a worker doesn't believe to be in memory any more, since it had to wait for them.
//!
//! A file is doubted after one wait. After a short one its windows are read whole before they are believed, since most
//! of a file in use is there, and what is there is sent best by workers; after a second or a long one disk threads read
//! it. A disk is doubted after waits for a few of its files, or whoever has many files that each lack a page would hold
//! up the worker once for each. A file of which a disk thread read slowly isn't believed by a few places: of what is
//! being read ahead some pages are there before others, and each of these costs a worker as long.

use std::cell::{Cell, RefCell};

use crate::files::FileId;
use crate::limits::Tick;

/// Files that are doubted at once; of more the first is believed again. Their disk is doubted long before.
const FILES_MAX: usize = 64;

/// Disks that are doubted at once.
const DEVICES_MAX: usize = 16;

/// Waits for so many files of one disk, each within one term of the one before, and its windows are read whole before
/// they are believed.
const DEVICE_FILES_READ_WHOLE: u32 = 2;

/// Waits for so many, and they aren't believed at all: what was just read whole is gone before it is sent.
const DEVICE_FILES_NOT_BELIEVED: u32 = 5;

/// The proof that it takes to believe that a window is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Belief {
    /// A look at a few places.
    Places,
    /// A read of all of it, at tick `since` or later.
    Whole {
        /// When that began.
        since: Tick,
    },
    /// Nothing: a disk thread reads it.
    Nothing,
}

/// The files and disks that one worker doubts.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// The first tick at which nothing is doubted any more.
    end: Cell<Tick>,
    lists: RefCell<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    files: Vec<FileDoubt>,
    /// Those that disk threads read slowly.
    slow: Vec<SlowFile>,
    devices: Vec<DeviceDoubt>,
}

#[derive(Debug)]
struct FileDoubt {
    id: FileId,
    /// When reads of whole windows began to be what it takes.
    since: Tick,
    nothing_end: Tick,
    /// The first tick at which it is believed again.
    end: Tick,
}

#[derive(Debug)]
struct SlowFile {
    id: FileId,
    /// When reads of whole windows began to be what it takes.
    since: Tick,
    /// The first tick at which they aren't any more.
    end: Tick,
}

#[derive(Debug)]
struct DeviceDoubt {
    device: u64,
    /// Files that were waited for.
    files: u32,
    /// The first tick at which they don't count any more.
    files_end: Tick,
    /// When reads of whole windows began to be what it takes.
    since: Tick,
    whole_end: Tick,
    nothing_end: Tick,
}

impl Doubts {
    /// Returns the proof that it takes to believe that a window of this file is in memory at tick `now`.
    pub(super) fn belief(&self, id: FileId, now: Tick) -> Belief {
        if now >= self.end.get() {
            return Belief::Places;
        }
        let lists = self.lists.borrow();
        let file = lists.files.iter().find(|doubt| doubt.id == id && now < doubt.end);
        if file.is_some_and(|doubt| now < doubt.nothing_end) {
            return Belief::Nothing;
        }
        let device = lists.devices.iter().find(|doubt| doubt.device == id.device);
        if device.is_some_and(|doubt| now < doubt.nothing_end) {
            return Belief::Nothing;
        }
        let device = device.filter(|doubt| now < doubt.whole_end).map(|doubt| doubt.since);
        let slow = lists.slow.iter().find(|slow| slow.id == id && now < slow.end).map(|slow| slow.since);
        device
            .max(slow)
            .max(file.map(|doubt| doubt.since))
            .map_or(Belief::Places, |since| Belief::Whole { since })
    }

    /// A disk thread read slowly of this file at tick `now`: for `term` ticks its windows are read whole before they
    /// are believed.
    pub(super) fn note_slow(&self, id: FileId, now: Tick, term: u64) {
        let slow = &mut self.lists.borrow_mut().slow;
        slow.retain(|slow| now < slow.end);
        let end = now + term;
        match slow.iter_mut().find(|slow| slow.id == id) {
            Some(slow) => slow.end = end,
            None => push_within(slow, SlowFile { id, since: now, end }, FILES_MAX),
        }
        self.end.set(self.end.get().max(end));
    }

    /// The worker waited for this file at tick `now`: it is doubted for `term` ticks. After a long wait so is its disk,
    /// which has so much to do that the next may be as long. True: nothing of the file is believed any more.
    pub(super) fn add(&self, id: FileId, is_long: bool, now: Tick, term: u64) -> bool {
        let Lists { files, devices, .. } = &mut *self.lists.borrow_mut();
        files.retain(|doubt| now < doubt.end);
        devices.retain(|doubt| now < doubt.files_end.max(doubt.whole_end));
        let end = now + term;
        let known = files.iter_mut().find(|doubt| doubt.id == id);
        let is_unbelieved = known.is_some() || is_long;
        if let Some(doubt) = known {
            (doubt.nothing_end, doubt.end) = (end, end);
        } else {
            let nothing_end = if is_long { end } else { now };
            push_within(files, FileDoubt { id, since: now, nothing_end, end }, FILES_MAX);
            if !devices.iter().any(|doubt| doubt.device == id.device) {
                push_within(devices, DeviceDoubt::new(id.device), DEVICES_MAX);
            }
            devices.iter_mut().filter(|doubt| doubt.device == id.device).for_each(|doubt| {
                doubt.add(is_long, now, term);
            });
        }
        let ends = devices.iter().map(|doubt| doubt.whole_end).chain([end]);
        self.end.set(ends.fold(self.end.get(), Tick::max));
        is_unbelieved
    }

    /// A window of this disk began in memory at tick `now` and wasn't all there: a disk that is doubted is so for
    /// `term` ticks more.
    pub(super) fn note_part(&self, device: u64, now: Tick, term: u64) {
        let devices = &mut self.lists.borrow_mut().devices;
        for doubt in devices.iter_mut().filter(|doubt| doubt.device == device && now < doubt.whole_end) {
            doubt.whole_end = doubt.whole_end.max(now + term);
            self.end.set(self.end.get().max(doubt.whole_end));
        }
    }
}

impl DeviceDoubt {
    fn new(device: u64) -> DeviceDoubt {
        DeviceDoubt {
            device,
            files: 0,
            files_end: Tick::FIRST,
            since: Tick::FIRST,
            whole_end: Tick::FIRST,
            nothing_end: Tick::FIRST,
        }
    }

    /// One more of its files was waited for.
    fn add(&mut self, is_long: bool, now: Tick, term: u64) {
        let files = if now < self.files_end { self.files + 1 } else { 1 };
        self.files = if is_long { DEVICE_FILES_NOT_BELIEVED } else { files };
        if self.files >= DEVICE_FILES_READ_WHOLE && now >= self.whole_end {
            self.since = now;
        }
        if self.files >= DEVICE_FILES_NOT_BELIEVED {
            self.nothing_end = now + term;
            self.whole_end = now + 2 * term;
            // As many more, once windows that were read whole are believed again.
            self.files = DEVICE_FILES_READ_WHOLE;
        } else if self.files >= DEVICE_FILES_READ_WHOLE {
            self.whole_end = self.whole_end.max(now + term);
        }
        self.files_end = self.whole_end.max(now + term);
    }
}

/// Adds to a list, from which the oldest goes where it is full.
fn push_within<T>(list: &mut Vec<T>, item: T, length_max: usize) {
    if list.len() >= length_max {
        list.remove(0);
    }
    list.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: u64 = 100;

    fn file(device: u64, inode: u64) -> FileId {
        FileId { device, inode }
    }

    fn belief(doubts: &Doubts, id: FileId, now: u64) -> Belief {
        doubts.belief(id, Tick::number(now))
    }

    fn whole_since(since: u64) -> Belief {
        Belief::Whole { since: Tick::number(since) }
    }

    #[test]
    fn a_file_is_doubted_after_one_wait_and_for_its_term() {
        let doubts = Doubts::default();
        assert_eq!(belief(&doubts, file(1, 1), 0), Belief::Places);
        assert!(!doubts.add(file(1, 1), false, Tick::number(5), TERM));
        assert_eq!(belief(&doubts, file(1, 1), 104), whole_since(5));
        assert_eq!(belief(&doubts, file(1, 2), 5), Belief::Places);
        assert_eq!(belief(&doubts, file(2, 1), 5), Belief::Places);
        assert_eq!(belief(&doubts, file(1, 1), 105), Belief::Places);
        // A window that was read whole was gone again: no more of the file is believed.
        assert!(!doubts.add(file(1, 1), false, Tick::number(105), TERM));
        assert!(doubts.add(file(1, 1), false, Tick::number(110), TERM));
        assert!(doubts.add(file(1, 1), false, Tick::number(111), TERM));
        assert_eq!(belief(&doubts, file(1, 1), 210), Belief::Nothing);
        assert_eq!(belief(&doubts, file(1, 2), 111), Belief::Places);
    }

    #[test]
    fn a_disk_is_doubted_after_waits_for_several_files_and_more_after_more() {
        let doubts = Doubts::default();
        doubts.add(file(1, 1), false, Tick::number(0), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 99), Belief::Places);
        doubts.add(file(1, 3), false, Tick::number(99), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 99), whole_since(99));
        doubts.add(file(1, 3), false, Tick::number(150), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 150), whole_since(99));
        assert_eq!(belief(&doubts, file(1, 3), 150), Belief::Nothing);
        assert_eq!(belief(&doubts, file(2, 9), 150), Belief::Places);
        doubts.add(file(1, 4), false, Tick::number(160), TERM);
        doubts.add(file(1, 5), false, Tick::number(160), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 200), whole_since(99));
        doubts.add(file(1, 6), false, Tick::number(200), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 299), Belief::Nothing);
        assert_eq!(belief(&doubts, file(1, 9), 300), whole_since(99));
        assert_eq!(belief(&doubts, file(1, 9), 399), whole_since(99));
        assert_eq!(belief(&doubts, file(1, 9), 400), Belief::Places);
    }

    #[test]
    fn a_disk_is_not_believed_at_all_after_one_long_wait() {
        let doubts = Doubts::default();
        doubts.add(file(1, 1), true, Tick::number(5), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 104), Belief::Nothing);
        assert_eq!(belief(&doubts, file(1, 9), 105), whole_since(5));
        assert_eq!(belief(&doubts, file(1, 9), 205), Belief::Places);
    }

    #[test]
    fn what_a_disk_thread_read_slowly_is_read_whole_before_it_is_believed() {
        let doubts = Doubts::default();
        doubts.note_slow(file(1, 1), Tick::number(5), TERM);
        doubts.note_slow(file(1, 1), Tick::number(50), TERM);
        assert_eq!(belief(&doubts, file(1, 1), 149), whole_since(5));
        assert_eq!(belief(&doubts, file(1, 2), 50), Belief::Places);
        assert_eq!(belief(&doubts, file(1, 1), 150), Belief::Places);
        // A long wait weighs more, and is forgotten by none of these.
        assert!(doubts.add(file(1, 1), true, Tick::number(160), TERM));
        for number in 0..2 * FILES_MAX as u64 {
            doubts.note_slow(file(1, number), Tick::number(160), TERM);
        }
        assert_eq!(belief(&doubts, file(1, 1), 160), Belief::Nothing);
        assert_eq!(doubts.lists.borrow().slow.len(), FILES_MAX);
    }

    #[test]
    fn waits_far_apart_are_no_pattern() {
        let doubts = Doubts::default();
        for number in 0..20 {
            doubts.add(file(1, number), false, Tick::number(number * TERM), TERM);
            assert_eq!(belief(&doubts, file(1, 99), number * TERM), Belief::Places);
        }
    }

    #[test]
    fn what_goes_on_is_doubted_on() {
        let doubts = Doubts::default();
        doubts.note_part(1, Tick::number(0), TERM);
        assert_eq!(belief(&doubts, file(1, 9), 0), Belief::Places);
        for number in 0..3 {
            doubts.add(file(1, number), false, Tick::number(0), TERM);
        }
        for now in (50..500).step_by(50) {
            doubts.note_part(1, Tick::number(now), TERM);
        }
        assert_eq!(belief(&doubts, file(1, 9), 549), whole_since(0));
        assert_eq!(belief(&doubts, file(1, 9), 550), Belief::Places);
    }

    #[test]
    fn so_many_are_doubted_and_the_last_among_them() {
        let doubts = Doubts::default();
        for number in 0..10_000 {
            doubts.add(file(number, number), false, Tick::number(0), TERM);
        }
        assert_eq!(belief(&doubts, file(9999, 9999), 0), whole_since(0));
        assert_eq!(belief(&doubts, file(0, 0), 0), Belief::Places);
        let lists = doubts.lists.borrow();
        assert_eq!((lists.files.len(), lists.devices.len()), (FILES_MAX, DEVICES_MAX));
    }
}
