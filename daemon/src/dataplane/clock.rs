//! A worker's idea of time: ticks for deadlines and the fields with which answers begin, so that a request costs no
//! clock reads and no formatting.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::platform;
use crate::limits::Tick;
use crate::protocol::date::http_date;
use crate::protocol::http1::response::FieldBlock;

/// Until when a wait may last, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) tick: Tick,
    /// Ticks that progress of the peer adds.
    pub(super) timeout_ticks: u64,
}

impl Deadline {
    /// The deadline of a connection that waits for nothing.
    pub(super) const NONE: Deadline = Deadline { tick: Tick::NEVER, timeout_ticks: 0 };
}

/// Advanced by the worker once a tick.
pub(super) struct Clock {
    tick: Duration,
    now: Cell<Tick>,
    beginning: RefCell<Rc<FieldBlock>>,
    newest: Cell<SystemTime>,
}

impl Clock {
    pub(super) fn new(tick: Duration) -> Clock {
        let now = platform::wall_clock();
        let (beginning, newest) = (RefCell::new(beginning(now)), Cell::new(end_of_second(now)));
        Clock { tick, now: Cell::new(Tick::FIRST), beginning, newest }
    }

    /// One tick has passed.
    pub(super) fn advance(&self) {
        self.now.set(self.now.get() + 1);
        self.look();
    }

    /// Looks what time it is.
    pub(super) fn look(&self) {
        let now = platform::wall_clock();
        *self.beginning.borrow_mut() = beginning(now);
        self.newest.set(end_of_second(now));
    }

    /// When something that starts now has lasted for at least `timeout_ms`.
    pub(super) fn deadline(&self, timeout_ms: u64) -> Deadline {
        // One more: the current tick is partly over.
        let timeout_ticks = timeout_ms.div_ceil(self.tick_ms()).saturating_add(1);
        Deadline { tick: self.now.get() + timeout_ticks, timeout_ticks }
    }

    /// Ticks that begin and end within `time_ms` from now: the current one is partly over, and a busy worker's are
    /// longer than planned, so one less.
    pub(super) fn ticks_within(&self, time_ms: u64) -> u64 {
        (time_ms / self.tick_ms()).saturating_sub(1)
    }

    fn tick_ms(&self) -> u64 {
        u64::try_from(self.tick.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The present moment.
    pub(super) fn now(&self) -> Tick {
        self.now.get()
    }

    /// Returns the fields that every answer begins with. Its Date (RFC 9110 6.6.1) is at most one tick old.
    pub(super) fn beginning(&self) -> Rc<FieldBlock> {
        Rc::clone(&self.beginning.borrow())
    }

    /// The latest time that [`Clock::beginning`] says: what is later must not be shown beside it.
    pub(super) fn newest(&self) -> SystemTime {
        self.newest.get()
    }
}

fn beginning(now: SystemTime) -> Rc<FieldBlock> {
    Rc::new(FieldBlock::of_date(&http_date(now)))
}

fn end_of_second(time: SystemTime) -> SystemTime {
    let nanoseconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    time + Duration::from_nanos(u64::from(999_999_999 - nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, Tick, beginning};

    #[test]
    fn the_newest_time_is_the_last_of_the_second_that_the_date_names() {
        let clock = Clock::new(Duration::from_millis(100));
        assert_eq!(beginning(clock.newest()), clock.beginning());
        assert_ne!(beginning(clock.newest() + Duration::from_nanos(1)), clock.beginning());
    }

    #[test]
    fn a_deadline_is_never_early() {
        let clock = Clock::new(Duration::from_millis(100));
        // 150 ms are over after two whole ticks, and the first tick may be nearly over already.
        assert_eq!(clock.deadline(150).tick, Tick::number(3));
        clock.advance();
        assert_eq!(clock.deadline(100).tick, Tick::number(3));
        assert_eq!(clock.deadline(u64::MAX).tick, Tick::number(u64::MAX / 100 + 1 + 1 + 1));
    }
}
