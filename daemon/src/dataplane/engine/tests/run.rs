//! A small executor: what tasks wait for are events, and whoever runs them says which comes next.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// The function that makes an event happen.
type Event = Box<dyn FnOnce()>;

/// The events that are waited for.
#[derive(Default)]
pub(super) struct Events(RefCell<Vec<Event>>);

impl Events {
    /// Something that has happened once its event comes.
    pub(super) fn expect<T: 'static>(&self, happens: impl FnOnce() -> T + 'static) -> Expected<T> {
        let slot = Rc::<RefCell<Slot<T>>>::default();
        let filled = Rc::clone(&slot);
        self.0.borrow_mut().push(Box::new(move || {
            // Nobody may be waiting any more: then it doesn't happen.
            if Rc::strong_count(&filled) > 1 {
                fill(&filled, happens());
            }
        }));
        Expected(slot)
    }

    /// Expects an event of which the waiter is told only with a further one; it happens whether or not somebody waits.
    pub(super) fn expect_late<T: 'static>(
        self: &Rc<Self>,
        happens: impl FnOnce() -> T + 'static,
        told: impl FnOnce() + 'static,
    ) -> Expected<T> {
        let slot = Rc::<RefCell<Slot<T>>>::default();
        let (filled, events) = (Rc::clone(&slot), Rc::clone(self));
        self.0.borrow_mut().push(Box::new(move || {
            let result = happens();
            events.0.borrow_mut().push(Box::new(move || {
                told();
                fill(&filled, result);
            }));
        }));
        Expected(slot)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Makes one of them happen.
    pub(super) fn happen(&self, index: usize) {
        let event = self.0.borrow_mut().remove(index);
        event();
    }
}

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { value: None, waker: None }
    }
}

fn fill<T>(slot: &RefCell<Slot<T>>, value: T) {
    let mut slot = slot.borrow_mut();
    slot.value = Some(value);
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}

/// The result of an event.
pub(super) struct Expected<T>(Rc<RefCell<Slot<T>>>);

impl<T> Future for Expected<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.borrow_mut();
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Tasks, each polled only when it was woken.
#[derive(Default)]
pub(super) struct Tasks<'a>(Vec<Task<'a>>);

struct Task<'a> {
    future: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
    flag: Arc<Flag>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Tasks<'a> {
    pub(super) fn spawn(&mut self, future: impl Future<Output = ()> + 'a) {
        self.0.push(Task { future: Some(Box::pin(future)), flag: Arc::new(Flag(AtomicBool::new(true))) });
    }

    /// Polls all that were woken, those from `first` on before the others.
    pub(super) fn poll(&mut self, first: usize) {
        let count = self.0.len();
        for number in 0..count {
            let task = &mut self.0[(first + number) % count];
            if !task.flag.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            let waker = Waker::from(Arc::clone(&task.flag));
            let polled =
                task.future.as_mut().map(|future| future.as_mut().poll(&mut Context::from_waker(&waker)));
            if polled == Some(Poll::Ready(())) {
                task.future = None;
            }
        }
    }

    /// Tasks that haven't ended.
    pub(super) fn running(&self) -> usize {
        self.0.iter().filter(|task| task.future.is_some()).count()
    }
}
