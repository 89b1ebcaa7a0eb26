//! A worker's idea of time: ticks for deadlines and a ready-made Date field, so that a request costs no clock
//! reads and no formatting.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::registry::Deadline;

/// Advanced by the worker once a tick.
pub(super) struct Clock {
    tick: Duration,
    ticks: Cell<u64>,
    date: RefCell<Rc<str>>,
}

impl Clock {
    pub(super) fn new(tick: Duration) -> Clock {
        Clock { tick, ticks: Cell::new(0), date: RefCell::new(date_now()) }
    }

    /// One tick has passed.
    pub(super) fn advance(&self) {
        self.ticks.set(self.ticks.get() + 1);
        *self.date.borrow_mut() = date_now();
    }

    /// When something that starts now has lasted for at least `timeout_ms`.
    pub(super) fn deadline(&self, timeout_ms: u64) -> Deadline {
        // One more: the current tick is partly over.
        let timeout_ticks = timeout_ms.div_ceil(self.tick_ms()).saturating_add(1);
        Deadline { tick: self.ticks.get().saturating_add(timeout_ticks), timeout_ticks }
    }

    /// Ticks that begin and end within `time_ms` from now: the current one is partly over, and a busy worker's are
    /// longer than planned, so one less.
    pub(super) fn ticks_within(&self, time_ms: u64) -> u64 {
        (time_ms / self.tick_ms()).saturating_sub(1)
    }

    fn tick_ms(&self) -> u64 {
        u64::try_from(self.tick.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Ticks so far.
    pub(super) fn ticks(&self) -> u64 {
        self.ticks.get()
    }

    /// Now, as the Date field wants it (RFC 9110 6.6.1); at most one tick old.
    pub(super) fn date(&self) -> Rc<str> {
        Rc::clone(&self.date.borrow())
    }
}

fn date_now() -> Rc<str> {
    httpdate::fmt_http_date(SystemTime::now()).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Clock;

    #[test]
    fn a_deadline_is_never_early() {
        let clock = Clock::new(Duration::from_millis(100));
        // 150 ms are over after two whole ticks, and the first tick may be nearly over already.
        assert_eq!(clock.deadline(150).tick, 3);
        clock.advance();
        assert_eq!(clock.deadline(100).tick, 3);
        assert_eq!(clock.deadline(u64::MAX).tick, u64::MAX / 100 + 1 + 1 + 1);
    }
}
