//! Short files of one worker that wait to be published. One trip to a disk thread publishes all that wait by then:
//! what each costs by itself is less than waking a thread for it, and threads that change one directory at once only
//! wait for each other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::disk::{DiskError, Lane, Owner};
use super::worker::Worker;
use crate::files::MountId;
use crate::files::upload::{Published, UploadError};

/// Most files of one trip: a millisecond or so.
const FILES_MAX: usize = 16;

/// Trips at once: a disk that lets one wait may have others done. A further one begins only for so many that wait.
const TRIPS_MAX: usize = 4;
const WAITING_PER_TRIP: usize = FILES_MAX / 2;

type Outcome = Result<Published, UploadError>;

/// What has to be done to publish a file, on a disk thread.
type Work = Box<dyn FnOnce() -> Outcome + Send>;

/// One that waits, and who wants to know what became of it.
type Waiting = (Work, oneshot::Sender<Outcome>);

/// Those that wait.
#[derive(Default)]
pub(super) struct Publications {
    waiting: RefCell<VecDeque<Waiting>>,
    trips: Cell<usize>,
}

impl Publications {
    /// Those of the next trip.
    fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(FILES_MAX);
        waiting.drain(..count).collect()
    }
}

/// Publishes a file with the next trip.
///
/// # Errors
/// Where the disk threads took too long to come to it.
pub(super) async fn publish(
    worker: &Rc<Worker>,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> Result<Outcome, DiskError> {
    let (sender, outcome) = oneshot::channel();
    let publications = &worker.publications;
    publications.waiting.borrow_mut().push_back((Box::new(work), sender));
    let waiting = publications.waiting.borrow().len();
    let trips = publications.trips.get();
    if trips < TRIPS_MAX && trips * WAITING_PER_TRIP < waiting {
        publications.trips.set(trips + 1);
        // It begins after the tasks that are awake by now, whose files it takes along.
        drop(monoio::spawn(take_trips(Rc::clone(worker))));
    }
    // The trip that had it was given up.
    outcome.await.map_err(|_| DiskError::Busy(Lane::Write))
}

/// Makes one trip after the other, until nothing waits.
async fn take_trips(worker: Rc<Worker>) {
    let publications = &worker.publications;
    loop {
        let files = publications.next();
        if files.is_empty() {
            publications.trips.set(publications.trips.get() - 1);
            return;
        }
        // Only files on the root's own mount go together, so that no other holds them up. They are of several clients.
        let served = worker.served();
        let mount = served.root.as_ref().map_or(MountId::UNKNOWN, |root| root.mounts().home());
        let publish = move || {
            // Whoever waits is told on the worker, which isn't woken for each.
            files.into_iter().map(|(work, sender)| (work(), sender)).collect::<Vec<_>>()
        };
        let done = worker.disk.run(Lane::Write, Owner { mount, group: None }, publish);
        // Where it was refused the senders are gone, which tells.
        for (outcome, sender) in done.await.unwrap_or_default() {
            // Who waits no more was told that the daemon ends.
            let _ = sender.send(outcome);
        }
    }
}
