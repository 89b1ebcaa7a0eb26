//! Work on its way to a disk thread, and its result on the way back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::super::platform;

/// Work for a disk thread.
pub(super) trait Task: Send {
    /// Does the work, unless nobody waits for it any more, and hands over what comes of it.
    fn run(self: Box<Self>);
}

/// Work that somebody waits for.
pub(super) trait Awaited {
    /// When it was begun.
    fn began(&self) -> Option<Instant>;

    /// Has whoever waits look again.
    fn interrupt(&self);
}

/// Where the result of work is handed over.
pub(super) struct Slot<R>(Mutex<State<R>>);

/// How far work was that nobody waits for any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Abandoned<R> {
    /// It never begins.
    Unbegun,
    /// A disk thread drops what comes of it, or did.
    Begun,
    /// The result has just come: whoever gets it here has to take it.
    Done(R),
}

enum State<R> {
    Waiting {
        began: Option<Instant>,
        waker: Option<Waker>,
    },
    Done(R),
    /// The work was dropped undone, or its result has been taken.
    Over,
    /// Nobody waits for it.
    Abandoned,
}

impl<R> Slot<R> {
    pub(super) fn new() -> Arc<Slot<R>> {
        Arc::new(Slot(Mutex::new(State::Waiting { began: None, waker: None })))
    }

    /// The result once it is there; None in it where there will be none.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Option<R>> {
        let mut state = self.lock();
        match &mut *state {
            State::Waiting { waker, .. } => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(take(&mut state)),
        }
    }

    /// Gives up waiting.
    pub(super) fn abandon(&self) -> Abandoned<R> {
        let mut state = self.lock();
        match *state {
            State::Waiting { began, .. } => {
                *state = State::Abandoned;
                if began.is_some() { Abandoned::Begun } else { Abandoned::Unbegun }
            }
            State::Abandoned => Abandoned::Begun,
            _ => take(&mut state).map_or(Abandoned::Begun, Abandoned::Done),
        }
    }

    /// Whether the work is to be done.
    fn begin(&self) -> bool {
        match &mut *self.lock() {
            State::Waiting { began, .. } => {
                *began = Some(platform::now());
                true
            }
            _ => false,
        }
    }

    /// Hands the result over, or drops it here.
    fn finish(&self, outcome: Option<R>) {
        let mut state = self.lock();
        if let State::Waiting { waker, .. } = &mut *state {
            let waker = waker.take();
            *state = outcome.map_or(State::Over, State::Done);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take<R>(state: &mut State<R>) -> Option<R> {
    match std::mem::replace(state, State::Over) {
        State::Done(result) => Some(result),
        _ => None,
    }
}

impl<R: Send> Awaited for Slot<R> {
    fn began(&self) -> Option<Instant> {
        match *self.lock() {
            State::Waiting { began, .. } => began,
            _ => None,
        }
    }

    fn interrupt(&self) {
        let mut state = self.lock();
        if let State::Waiting { waker, .. } = &mut *state
            && let Some(waker) = waker.take()
        {
            drop(state);
            waker.wake();
        }
    }
}

/// Work whose result is awaited.
pub(super) struct Awaiting<F, R> {
    work: Option<F>,
    slot: Arc<Slot<R>>,
}

impl<F: FnOnce() -> R + Send, R: Send> Awaiting<F, R> {
    pub(super) fn new(work: F, slot: Arc<Slot<R>>) -> Awaiting<F, R> {
        Awaiting { work: Some(work), slot }
    }
}

impl<F: FnOnce() -> R + Send, R: Send> Task for Awaiting<F, R> {
    fn run(mut self: Box<Self>) {
        if let Some(work) = self.work.take()
            && self.slot.begin()
        {
            self.slot.finish(Some(work()));
        }
    }
}

impl<F, R> Drop for Awaiting<F, R> {
    fn drop(&mut self) {
        // Undone, be it that it panicked or that the daemon ends. After its end this does nothing.
        self.slot.finish(None);
    }
}

/// Work whose end nobody waits for.
pub(super) struct Unawaited<F>(pub(super) F);

impl<F: FnOnce() + Send> Task for Unawaited<F> {
    fn run(self: Box<Self>) {
        (self.0)();
    }
}

/// Work that goes together with others in one task. Whoever waits is told when this is dropped.
pub(in crate::dataplane) struct Part<R> {
    work: Option<Box<dyn FnOnce() -> R + Send>>,
    slot: Arc<Slot<R>>,
    outcome: Option<R>,
}

impl<R> Part<R> {
    pub(super) fn new(work: Box<dyn FnOnce() -> R + Send>, slot: Arc<Slot<R>>) -> Part<R> {
        Part { work: Some(work), slot, outcome: None }
    }

    /// Whether somebody waits for it.
    pub(in crate::dataplane) fn is_wanted(&self) -> bool {
        matches!(*self.slot.lock(), State::Waiting { .. })
    }

    /// Does the work, unless nobody waits for it any more.
    pub(in crate::dataplane) fn run(&mut self) {
        if let Some(work) = self.work.take()
            && self.slot.begin()
        {
            self.outcome = Some(work());
        }
    }
}

impl<R> Drop for Part<R> {
    fn drop(&mut self) {
        self.slot.finish(self.outcome.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Poll, Wake};

    use super::{Abandoned, Awaited, Awaiting, Slot, Task};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells where it goes.
    struct Dropped(Sender<&'static str>, &'static str);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(self.1).unwrap();
        }
    }

    #[test]
    fn a_result_wakes_whoever_waits_and_is_had_once() {
        let (slot, wakes) = (Slot::new(), Arc::<Wakes>::default());
        let waker = Arc::clone(&wakes).into();
        let context = Context::from_waker(&waker);
        let task = Box::new(Awaiting::new(|| 7, Arc::clone(&slot)));
        assert_eq!(slot.poll(&context), Poll::Pending);
        assert!(slot.began().is_none());
        task.run();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(slot.poll(&context), Poll::Ready(Some(7)));
        assert_eq!(slot.poll(&context), Poll::Ready(None));
    }

    #[test]
    fn work_that_is_dropped_undone_ends_the_wait() {
        let (slot, wakes) = (Slot::<u8>::new(), Arc::<Wakes>::default());
        let waker = Arc::clone(&wakes).into();
        let context = Context::from_waker(&waker);
        let task = Awaiting::new(|| 7, Arc::clone(&slot));
        assert_eq!(slot.poll(&context), Poll::Pending);
        drop(task);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(slot.poll(&context), Poll::Ready(None));
    }

    #[test]
    fn work_that_nobody_waits_for_is_not_begun_and_a_late_result_stays_with_its_thread() {
        let (sender, dropped) = channel();
        let slot = Slot::new();
        let held = Dropped(sender.clone(), "held");
        let work = move || {
            drop(held);
            panic!("it was begun")
        };
        let task = Box::new(Awaiting::<_, u8>::new(work, Arc::clone(&slot)));
        assert_eq!(slot.abandon(), Abandoned::Unbegun);
        task.run();
        assert_eq!(dropped.try_recv(), Ok("held"));

        let slot = Slot::new();
        let of_work = Arc::clone(&slot);
        let work = move || {
            assert!(matches!(of_work.abandon(), Abandoned::Begun));
            Dropped(sender, "late")
        };
        Box::new(Awaiting::new(work, Arc::clone(&slot))).run();
        assert_eq!(dropped.try_recv(), Ok("late"), "the slot doesn't keep it");
        drop(slot);
    }

    #[test]
    fn a_result_that_came_before_the_waiting_ended_is_not_lost() {
        let slot = Slot::new();
        Box::new(Awaiting::new(|| 7, Arc::clone(&slot))).run();
        assert_eq!(slot.abandon(), Abandoned::Done(7));
    }
}
