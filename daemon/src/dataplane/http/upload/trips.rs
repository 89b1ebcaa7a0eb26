//! Publishes short files in trips to a disk thread, each with all that wait by then.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::super::super::context::Worker;
use super::super::super::disk::{DiskError, Lane, Owner};
use super::super::super::publications::Outcome;
use crate::files::MountId;

/// Publishes a file with the next trip.
///
/// # Errors
/// Where the disk threads took too long to come to it.
pub(super) async fn publish(
    worker: &Rc<Worker>,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> Result<Outcome, DiskError> {
    let (sender, outcome) = oneshot::channel();
    if worker.publications.add(Box::new(work), sender) {
        // It begins after the tasks that are awake by now, whose files it takes along.
        drop(monoio::spawn(take_trips(Rc::clone(worker))));
    }
    // The trip that had it was given up.
    outcome.await.map_err(|_| DiskError::Busy(Lane::Write))
}

/// Makes one trip after the other, until nothing waits.
async fn take_trips(worker: Rc<Worker>) {
    while let Some(files) = worker.publications.next_trip() {
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
