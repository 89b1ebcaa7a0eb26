//! Short files of one worker that wait to be published. One trip to a disk thread publishes all that wait by then:
//! what each costs by itself is less than waking a thread for it, and threads that change one directory at once only
//! wait for each other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::files::upload::{Published, UploadError};

/// Most files of one trip: a millisecond or so.
const FILES_MAX: usize = 16;

/// Trips at once: a disk that lets one wait may have others done. A further one begins only for so many that wait.
const TRIPS_MAX: usize = 4;
const WAITING_PER_TRIP: usize = FILES_MAX / 2;

/// What became of a file.
pub(super) type Outcome = Result<Published, UploadError>;

/// What has to be done to publish a file, on a disk thread.
pub(super) type Work = Box<dyn FnOnce() -> Outcome + Send>;

/// One that waits, and who wants to know what became of it.
pub(super) type Waiting = (Work, oneshot::Sender<Outcome>);

/// Those that wait.
#[derive(Default)]
pub(super) struct Publications {
    waiting: RefCell<VecDeque<Waiting>>,
    trips: Cell<usize>,
}

impl Publications {
    /// Adds one. True: a further trip begins, which whoever added it has to make.
    pub(super) fn add(&self, work: Work, sender: oneshot::Sender<Outcome>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push_back((work, sender));
        let trips = self.trips.get();
        let begins = trips < TRIPS_MAX && trips * WAITING_PER_TRIP < waiting.len();
        if begins {
            self.trips.set(trips + 1);
        }
        begins
    }

    /// What the next trip takes along. None: nothing waits, and whoever made trips one after the other makes no more.
    pub(super) fn next_trip(&self) -> Option<Vec<Waiting>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.trips.set(self.trips.get() - 1);
            return None;
        }
        let count = waiting.len().min(FILES_MAX);
        Some(waiting.drain(..count).collect())
    }
}
