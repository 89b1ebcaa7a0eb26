//! Short files of one worker that wait to be published. One trip to a disk thread publishes all that wait by then:
//! what each costs by itself is less than waking a thread for it, and threads that change one directory at once only
//! wait for each other. Where more wait than one trip takes, addresses have their turns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::disk::Part;
use crate::files::upload::{Published, UploadError};
use crate::limits::AddressGroup;

/// Most files of one trip: a millisecond or so.
const FILES_MAX: usize = 16;

/// Trips at once: a disk that lets one wait may have others done. A further one begins only for so many that wait.
const TRIPS_MAX: usize = 4;
const WAITING_PER_TRIP: usize = FILES_MAX / 2;

/// The outcome of a file.
pub(super) type Outcome = Result<Published, UploadError>;

/// Those that wait.
pub(super) struct Publications<T = Part<Outcome>> {
    waiting: RefCell<Waiting<T>>,
    trips: Cell<usize>,
}

struct Waiting<T> {
    /// In the order of their turns.
    turns: VecDeque<OfAddress<T>>,
    count: usize,
    /// Memory of those that wait no more, for the next.
    spare: Vec<VecDeque<T>>,
}

struct OfAddress<T> {
    group: Option<AddressGroup>,
    files: VecDeque<T>,
}

impl<T> Default for Publications<T> {
    fn default() -> Publications<T> {
        let waiting = Waiting { turns: VecDeque::new(), count: 0, spare: Vec::new() };
        Publications { waiting: RefCell::new(waiting), trips: Cell::new(0) }
    }
}

impl<T> Publications<T> {
    /// Adds one of this address. True: a further trip begins, which whoever added it has to make.
    pub(super) fn add(&self, group: Option<AddressGroup>, file: T) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push(group, file);
        let trips = self.trips.get();
        let begins = trips < TRIPS_MAX && trips * WAITING_PER_TRIP < waiting.count;
        if begins {
            self.trips.set(trips + 1);
        }
        begins
    }

    /// Takes the files of the next trip. None: nothing waits, and whoever made trips one after the other makes no more.
    pub(super) fn next_trip(&self) -> Option<VecDeque<T>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.count == 0 {
            self.trips.set(self.trips.get() - 1);
            return None;
        }
        let mut files = VecDeque::with_capacity(waiting.count.min(FILES_MAX));
        while files.len() < FILES_MAX
            && let Some(file) = waiting.pop()
        {
            files.push_back(file);
        }
        Some(files)
    }

    /// Drops those that aren't wanted any more, and with them what they hold.
    pub(super) fn retain(&self, is_wanted: impl Fn(&T) -> bool) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.turns.retain_mut(|of_address| {
            of_address.files.retain(&is_wanted);
            !of_address.files.is_empty()
        });
        waiting.count = waiting.turns.iter().map(|of_address| of_address.files.len()).sum();
    }
}

impl<T> Waiting<T> {
    fn push(&mut self, group: Option<AddressGroup>, file: T) {
        self.count += 1;
        if let Some(of_address) = self.turns.iter_mut().find(|of_address| of_address.group == group) {
            of_address.files.push_back(file);
            return;
        }
        let mut files = self.spare.pop().unwrap_or_default();
        files.push_back(file);
        self.turns.push_back(OfAddress { group, files });
    }

    fn pop(&mut self) -> Option<T> {
        let mut of_address = self.turns.pop_front()?;
        let file = of_address.files.pop_front()?;
        self.count -= 1;
        if !of_address.files.is_empty() {
            self.turns.push_back(of_address);
        } else if self.spare.len() < FILES_MAX {
            self.spare.push(of_address.files);
        }
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{AddressGroup, FILES_MAX, Publications, TRIPS_MAX};

    fn group(host: u8) -> Option<AddressGroup> {
        AddressGroup::of(IpAddr::from([192, 0, 2, host]))
    }

    #[test]
    fn addresses_have_their_turns_and_files_of_one_go_in_order() {
        let publications = Publications::default();
        for number in 0..100 {
            publications.add(group(1), (1, number));
        }
        publications.add(group(2), (2, 0));
        publications.add(group(3), (3, 0));
        let first = publications.next_trip().unwrap();
        assert_eq!(first.len(), FILES_MAX);
        assert_eq!(first.iter().take(4).copied().collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 0), (1, 1)]);
        let mut of_one: Vec<_> = first.into_iter().filter(|(host, _)| *host == 1).collect();
        while let Some(files) = publications.next_trip() {
            of_one.extend(files);
            if of_one.len() == 100 {
                break;
            }
        }
        assert!(of_one.iter().map(|(_, number)| *number).eq(0..100), "{of_one:?}");
    }

    #[test]
    fn trips_begin_as_more_wait_and_end_when_nothing_does() {
        let publications = Publications::default();
        let begun = (0..1000).filter(|number| publications.add(group(1), *number)).count();
        assert_eq!(begun, TRIPS_MAX);
        publications.retain(|number| number % 100 == 0);
        assert_eq!(publications.next_trip().unwrap(), [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
        for _ in 0..TRIPS_MAX {
            assert!(publications.next_trip().is_none());
        }
        assert!(publications.add(group(1), 0));
    }
}
