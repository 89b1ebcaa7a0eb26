//! The thread of a simulated worker: its time, and its tasks, which go on when whoever plays says so.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

/// The time that the wall clock is ahead of the host's own: files that were made by then are no news.
const WALL_CLOCK_AHEAD: Duration = Duration::from_secs(60);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Host>>> = const { RefCell::new(None) };
}

/// Time and tasks.
pub(in crate::dataplane) struct Host {
    began: Instant,
    wall_clock_began: SystemTime,
    elapsed: Cell<Duration>,
    sleepers: RefCell<Vec<(Duration, Waker)>>,
    tasks: RefCell<Vec<Task>>,
    spawned: RefCell<Vec<Task>>,
}

/// A task, polled only where it was woken.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    is_woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As long as this is there its thread plays a simulation.
pub(in crate::dataplane) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        let host = CURRENT.take();
        // Tasks look at the time when they are dropped.
        drop(host);
    }
}

impl Host {
    /// Has this thread play a simulation.
    pub(in crate::dataplane) fn enter() -> (Rc<Host>, Entered) {
        let host = Rc::new(Host {
            began: Instant::now(),
            wall_clock_began: SystemTime::now() + WALL_CLOCK_AHEAD,
            elapsed: Cell::default(),
            sleepers: RefCell::default(),
            tasks: RefCell::default(),
            spawned: RefCell::default(),
        });
        CURRENT.set(Some(Rc::clone(&host)));
        (host, Entered)
    }

    /// That of this thread, where it plays one.
    pub(in crate::dataplane) fn current() -> Option<Rc<Host>> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(in crate::dataplane) fn now(&self) -> Instant {
        self.began + self.elapsed.get()
    }

    pub(in crate::dataplane) fn wall_clock(&self) -> SystemTime {
        self.wall_clock_began + self.elapsed.get()
    }

    /// So much time passes.
    pub(in crate::dataplane) fn advance(&self, time: Duration) {
        let now = self.elapsed.get() + time;
        self.elapsed.set(now);
        self.sleepers.borrow_mut().retain(|(end, waker)| {
            if *end <= now {
                waker.wake_by_ref();
            }
            *end > now
        });
    }

    pub(in crate::dataplane) async fn sleep(&self, time: Duration) {
        let end = self.elapsed.get() + time;
        let mut has_yielded = false;
        std::future::poll_fn(|context| {
            if self.elapsed.get() >= end {
                if std::mem::replace(&mut has_yielded, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            has_yielded = true;
            self.sleepers.borrow_mut().push((end, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    pub(in crate::dataplane) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let is_woken = Arc::new(Woken(AtomicBool::new(true)));
        self.spawned.borrow_mut().push(Task { future: Box::pin(task), is_woken });
    }

    /// Tasks that have not ended.
    pub(in crate::dataplane) fn running(&self) -> usize {
        self.tasks.borrow().len() + self.spawned.borrow().len()
    }

    /// Goes on with one of the tasks that were woken, which `choose` picks of so many. False: there is none.
    pub(in crate::dataplane) fn go_on(&self, choose: impl FnOnce(usize) -> usize) -> bool {
        let mut tasks = self.tasks.take();
        tasks.append(&mut self.spawned.borrow_mut());
        let is_woken = |task: &Task| task.is_woken.0.load(Ordering::Relaxed);
        let woken: Vec<usize> = (0..tasks.len()).filter(|place| is_woken(&tasks[*place])).collect();
        if !woken.is_empty() {
            let place = woken[choose(woken.len())];
            let task = &mut tasks[place];
            task.is_woken.0.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&task.is_woken));
            if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(tasks.remove(place));
            }
        }
        self.tasks.replace(tasks);
        !woken.is_empty()
    }

    /// Drops the tasks that are left.
    pub(in crate::dataplane) fn clear(&self) {
        drop(self.tasks.take());
        drop(self.spawned.take());
        self.sleepers.borrow_mut().clear();
    }
}
