//! The threads for what may wait for a disk: few, shared by all workers, and divided into lanes, so that nobody's work
//! holds up work of another kind, for another mount or of another address.
//!
//! Work that takes long comes in many short tasks, each with a turn of its own: then it stops when nobody waits for it
//! any more, and others have their turns in between.
//!
//! A task's contents are dropped on a disk thread, whether or not it is done: the last close of a file may wait for a
//! disk. So a task of which nobody wants to hear any more stays in its queue, where it takes no room. One that could
//! have been [turned away](Disk::run_or_refuse) holds nothing that is slow to close, and leaves: of a mount that does
//! nothing the queue would never be taken.

mod lane;
mod mount_names;
mod queue;
mod shares;
mod task;
mod threads;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use slab::Slab;

use super::platform;
use crate::files::{FileError, KnownFile, MountId, SourceFile};
pub(in crate::dataplane) use lane::{Lane, Owner};
pub(in crate::dataplane) use mount_names::{MountNames, ShareMounts};
pub(in crate::dataplane) use task::Part;
use task::{Abandoned, Awaited, Awaiting, Slot, Unawaited};
use threads::Admission;
#[cfg(test)]
pub(in crate::dataplane) use threads::SimulatedThreads;
pub(super) use threads::{DiskThreads, Pool};

/// Why work wasn't done, or nobody waited for its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::dataplane) enum DiskError {
    /// Too much of the kind waits already, or it waited too long.
    #[error("the disk is busy: {}", too_many(*.0))]
    Busy(Lane),
    /// The file system does nothing of what it is asked for.
    #[error("the disk of {0} doesn't answer")]
    Silent(Arc<str>),
}

impl DiskError {
    /// Seconds after which it may be otherwise, as `Retry-After` has them.
    pub(in crate::dataplane) fn retry_after(&self) -> &'static str {
        match self {
            DiskError::Busy(_) => "1",
            DiskError::Silent(_) => SILENT_RETRY_AFTER,
        }
    }
}

/// Somebody has to mend what doesn't answer.
pub(in crate::dataplane) const SILENT_RETRY_AFTER: &str = "30";

fn too_many(lane: Lane) -> &'static str {
    match lane {
        Lane::LookUp => "too many requests wait for their files to be found",
        Lane::Read => "too many requests wait to be read",
        Lane::Write => "too many requests wait to be written",
        Lane::Digest => "too many requests wait for digests",
        Lane::Listing => "too many requests wait for listings",
    }
}

impl From<DiskError> for FileError {
    fn from(error: DiskError) -> FileError {
        match error {
            DiskError::Busy(lane) => FileError::Busy(too_many(lane)),
            DiskError::Silent(mount) => FileError::Silent(mount),
        }
    }
}

/// A worker's access to the disk threads.
pub(super) struct Disk {
    pool: Arc<Pool>,
    waits: RefCell<Slab<Wait>>,
}

/// Somebody waits for a task.
struct Wait {
    lane: Lane,
    owner: Owner,
    /// That of the task in the queue; None for a part of another.
    number: Option<u64>,
    since: Instant,
    manner: Manner,
    task: Arc<dyn Awaited>,
    verdict: Option<DiskError>,
}

/// The state of work before it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Nothing has come of what it is for: it is turned away at once, or once it has waited for long.
    Beginning,
    /// It is all of what it is for: turned away at once, and then waited for as what is under way.
    Whole,
    /// The transfer that needs the work is under way, and has files open.
    UnderWay,
}

/// A wait so young isn't looked at: most are over by then.
const AGE_MIN: Duration = Duration::from_secs(1);

/// A single task may take so many times as long as a mount may be silent: others of the mount go on, so it is this one
/// file that doesn't answer.
const TASK_PATIENCE: u32 = 4;

impl Disk {
    /// For one worker.
    pub(super) fn new(threads: &DiskThreads) -> Disk {
        Disk { pool: Arc::clone(threads.pool()), waits: RefCell::default() }
    }

    /// Runs `work` on a disk thread, or turns it away: for what has not begun, so that its client can be told. Where
    /// it is turned away, or nobody waits for it before it begins, `work` is dropped here, so it holds nothing that is
    /// slow to close.
    pub(in crate::dataplane) fn run_or_refuse<R: Send + 'static>(
        &self,
        lane: Lane,
        owner: Owner,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Asked<'_, R> {
        let refusal = match self.pool.admits(lane, owner) {
            Admission::Room => None,
            Admission::Full => Some(DiskError::Busy(lane)),
            Admission::Silent => Some(self.silent(owner.mount)),
        };
        self.ask(lane, owner, refusal, Manner::Beginning, work)
    }

    /// Runs `work` on a disk thread when its turn comes: for what is under way and is broken off only where its mount
    /// doesn't answer.
    pub(in crate::dataplane) fn run<R: Send + 'static>(
        &self,
        lane: Lane,
        owner: Owner,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Asked<'_, R> {
        // A write has files open that are its own: it waits for a disk thread to drop them.
        let refusal = if lane == Lane::Write { None } else { self.silence_of(lane, owner) };
        self.ask(lane, owner, refusal, Manner::UnderWay, work)
    }

    /// Runs work of which nothing is under way yet: it is turned away at once where its mount doesn't answer. Then,
    /// and where nobody waits for it before it begins, `work` is dropped here, so it holds nothing that is slow to
    /// close.
    pub(in crate::dataplane) fn run_whole<R: Send + 'static>(
        &self,
        lane: Lane,
        owner: Owner,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Asked<'_, R> {
        self.ask(lane, owner, self.known_silence_of(lane, owner), Manner::Whole, work)
    }

    /// Waits for `work`, as [`Disk::run_whole`] does, that goes in one task with others, to which the part belongs that
    /// is returned. None where it was turned away.
    pub(in crate::dataplane) fn wait_for_part<R: Send + 'static>(
        &self,
        lane: Lane,
        owner: Owner,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> (Asked<'_, R>, Option<Part<R>>) {
        if let Some(error) = self.refusal(lane, owner) {
            return (Asked::Refused(error), None);
        }
        let slot = Slot::new();
        let part = Part::new(Box::new(work), Arc::clone(&slot));
        (self.wait(lane, owner, None, Manner::Whole, slot), Some(part))
    }

    /// Lets go of a file, and closes it if nobody else needs it.
    pub(super) fn release(&self, known: Rc<KnownFile>) {
        if let Some(known) = Rc::into_inner(known) {
            self.close(known.file);
        }
    }

    /// Closes a file. The last close of an unlinked file frees its blocks, and on FUSE or a network file system a
    /// close asks a server: neither may happen on a worker.
    pub(super) fn close(&self, file: SourceFile) {
        if file.is_last() && file.close_may_wait() {
            let owner = Owner { mount: file.mount(), group: None };
            self.discard(Lane::Write, owner, file);
        }
    }

    /// Has a disk thread drop what may be slow to drop. Nobody waits for it.
    pub(in crate::dataplane) fn discard(&self, lane: Lane, owner: Owner, what: impl Send + 'static) {
        self.pool.submit(lane, owner, Box::new(Unawaited(move || drop(what))));
    }

    /// Has a disk thread do `work` that nobody waits for and that may as well not be done: where more than a few tasks
    /// of its owner wait, or its mount doesn't answer, it is dropped here, so it holds nothing that is slow to close.
    pub(in crate::dataplane) fn run_unless_busy(
        &self,
        lane: Lane,
        owner: Owner,
        work: impl FnOnce() + Send + 'static,
    ) {
        if self.pool.admits_unawaited(lane, owner) {
            self.pool.submit(lane, owner, Box::new(Unawaited(work)));
        }
    }

    /// How many wait for work of theirs.
    #[cfg(test)]
    pub(in crate::dataplane) fn waiting(&self) -> usize {
        self.waits.borrow().len()
    }

    /// Gives up what has waited for too long; to be called once a tick.
    pub(super) fn sweep(&self, timeout_ms: u64) {
        self.pool.set_timeout(timeout_ms);
        let now = platform::now();
        let age_min = AGE_MIN.min(Duration::from_millis(timeout_ms));
        for (_, wait) in self.waits.borrow_mut().iter_mut() {
            if wait.verdict.is_none() && now.saturating_duration_since(wait.since) >= age_min {
                wait.verdict = self.overdue(wait, now);
                if wait.verdict.is_some() {
                    self.pool.count_refused(wait.lane);
                    wait.task.interrupt();
                }
            }
        }
        self.pool.tell_silent(now);
    }

    /// Returns the error for whoever would wait for a mount that is known not to answer.
    pub(in crate::dataplane) fn refusal(&self, lane: Lane, owner: Owner) -> Option<DiskError> {
        self.known_silence_of(lane, owner).inspect(|_| self.pool.count_refused(lane))
    }

    fn silence_of(&self, lane: Lane, owner: Owner) -> Option<DiskError> {
        let silence = self.pool.silence(lane, owner.mount, platform::now());
        (silence >= self.pool.patience(lane)).then(|| self.silent(owner.mount))
    }

    /// Returns [`Disk::silence_of`] as of the last tick, for calls so frequent that they must take no lock.
    fn known_silence_of(&self, lane: Lane, owner: Owner) -> Option<DiskError> {
        if self.pool.has_silent() { self.silence_of(lane, owner) } else { None }
    }

    fn silent(&self, mount: MountId) -> DiskError {
        DiskError::Silent(self.pool.names().shown(mount))
    }

    fn ask<R: Send + 'static>(
        &self,
        lane: Lane,
        owner: Owner,
        refusal: Option<DiskError>,
        manner: Manner,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Asked<'_, R> {
        if let Some(error) = refusal {
            self.pool.count_refused(lane);
            return Asked::Refused(error);
        }
        let slot = Slot::new();
        let number = self.pool.submit(lane, owner, Box::new(Awaiting::new(work, Arc::clone(&slot))));
        self.wait(lane, owner, Some(number), manner, slot)
    }

    fn wait<R: Send + 'static>(
        &self,
        lane: Lane,
        owner: Owner,
        number: Option<u64>,
        manner: Manner,
        slot: Arc<Slot<R>>,
    ) -> Asked<'_, R> {
        let task: Arc<dyn Awaited> = Arc::<Slot<R>>::clone(&slot);
        let wait = Wait { lane, owner, number, since: platform::now(), manner, task, verdict: None };
        let key = self.waits.borrow_mut().insert(wait);
        Asked::Waiting(Waiting { disk: self, key, lane, slot })
    }

    /// Why a wait is given up, if it is.
    fn overdue(&self, wait: &Wait, now: Instant) -> Option<DiskError> {
        // Before anything has come of an upload there is nothing that could take long to write.
        let is_beginning = wait.manner == Manner::Beginning;
        let patience_of = if is_beginning { Lane::LookUp } else { wait.lane };
        let patience = self.pool.patience(patience_of);
        let age = now.saturating_duration_since(wait.since);
        if age >= patience && self.pool.silence(wait.lane, wait.owner.mount, now) >= patience {
            return Some(self.silent(wait.owner.mount));
        }
        match wait.task.began() {
            Some(began) => {
                let is_too_long =
                    now.saturating_duration_since(began) >= patience.saturating_mul(TASK_PATIENCE);
                is_too_long.then(|| self.silent(wait.owner.mount))
            }
            None => (is_beginning && age >= patience).then_some(DiskError::Busy(wait.lane)),
        }
    }
}

/// Work that was asked for: its result, once it is awaited.
#[must_use]
pub(in crate::dataplane) enum Asked<'a, R> {
    /// It was turned away.
    Refused(DiskError),
    /// A disk thread has it, or will.
    Waiting(Waiting<'a, R>),
}

impl<R> Future for Asked<'_, R> {
    type Output = Result<R, DiskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Asked::Refused(error) => Poll::Ready(Err(error.clone())),
            Asked::Waiting(waiting) => match waiting.slot.poll(context) {
                Poll::Ready(result) => Poll::Ready(result.ok_or_else(|| waiting.why_undone())),
                Poll::Pending => match waiting.verdict() {
                    Some(error) => Poll::Ready(waiting.give_up().ok_or(error)),
                    None => Poll::Pending,
                },
            },
        }
    }
}

/// Somebody waits as long as this is there. Then a task that was not begun never is.
pub(in crate::dataplane) struct Waiting<'a, R> {
    disk: &'a Disk,
    key: usize,
    lane: Lane,
    slot: Arc<Slot<R>>,
}

impl<R> Waiting<'_, R> {
    fn verdict(&self) -> Option<DiskError> {
        self.disk.waits.borrow().get(self.key).and_then(|wait| wait.verdict.clone())
    }

    fn why_undone(&self) -> DiskError {
        let waits = self.disk.waits.borrow();
        let of_wait =
            |wait: &Wait| wait.verdict.clone().or_else(|| self.disk.known_silence_of(wait.lane, wait.owner));
        waits.get(self.key).and_then(of_wait).unwrap_or(DiskError::Busy(self.lane))
    }

    /// The result, where it has come in this moment.
    fn give_up(&self) -> Option<R> {
        match self.slot.abandon() {
            Abandoned::Done(result) => return Some(result),
            Abandoned::Begun => {}
            Abandoned::Unbegun => {
                let waits = self.disk.waits.borrow();
                if let Some(&Wait { lane, owner, number: Some(number), manner, .. }) = waits.get(self.key) {
                    drop(waits);
                    self.disk.pool.abandon(lane, owner, number, manner != Manner::UnderWay);
                }
            }
        }
        None
    }
}

impl<R> Drop for Waiting<'_, R> {
    fn drop(&mut self) {
        // A result that came in this moment is dropped here.
        drop(self.give_up());
        self.disk.waits.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests;
