//! Publishes short files in trips to a disk thread, each with all that wait by then.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::super::context::Worker;
use super::super::super::disk::{DiskError, Lane, Owner, Part};
use super::super::super::platform;
use super::super::super::publications::Outcome;
use crate::files::{MountId, Root};
use crate::limits::AddressGroup;

/// Publishes a file with the next trip.
///
/// # Errors
/// Where the disk doesn't answer, or its trip was given up.
pub(super) async fn publish(
    worker: &Rc<Worker>,
    group: Option<AddressGroup>,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> Result<Outcome, DiskError> {
    let (asked, part) = worker.disk.wait_for_part(Lane::Write, Owner { mount: mount(worker), group }, work);
    if let Some(part) = part
        && worker.publications.add(group, part)
    {
        // It begins after the tasks that are awake by now, whose files it takes along.
        platform::spawn(take_trips(Rc::clone(worker)));
    }
    let mut waiting = Waiting { worker, is_published: false };
    let outcome = asked.await;
    waiting.is_published = outcome.is_ok();
    outcome
}

/// Waits for a file. Where the wait ends before the file is published, those that nobody waits for any more are dropped
/// from the next trip at once.
struct Waiting<'a> {
    worker: &'a Worker,
    is_published: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            self.worker.publications.retain(Part::is_wanted);
        }
    }
}

/// Only files on one mount go together, so that no other holds them up.
fn mount(worker: &Worker) -> MountId {
    worker.served().mount_of_trips()
}

/// Whether a file in a share with this root may go with others: it lies on the mount that trips are made to.
pub(super) fn lead_to(worker: &Worker, root: &Root) -> bool {
    root.mounts().root() == mount(worker)
}

/// Makes one trip after the other, until nothing waits.
async fn take_trips(worker: Rc<Worker>) {
    while let Some(files) = worker.publications.next_trip() {
        let files = Arc::new(Mutex::new(files));
        let to_publish = Arc::clone(&files);
        let publish = move || {
            // The worker tells those who wait, so that it isn't woken for each.
            let mut published = Vec::new();
            while let Some(mut file) = next(&to_publish) {
                file.run();
                published.push(file);
            }
            published
        };
        // The files are of several clients, so the trip is no address's.
        let owner = Owner { mount: mount(&worker), group: None };
        drop(worker.disk.run_whole(Lane::Write, owner, publish).await);
        // Where the trip was given up, so are the files that it didn't come to.
        drop(std::mem::take(&mut *files.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

fn next(files: &Mutex<VecDeque<Part<Outcome>>>) -> Option<Part<Outcome>> {
    files.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}
