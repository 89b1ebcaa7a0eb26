//! Ticks, the resolution of time-outs, and the moments counted in them.

use std::ops::Add;
use std::time::Duration;

/// The interval at which a worker looks at its deadlines, its settings and whether to drain, and says that it is
/// alive: the resolution of every time-out, for ten wake-ups a second of an idle worker.
pub const TICK: Duration = Duration::from_millis(TICK_MS);

/// The length of a tick in milliseconds.
pub const TICK_MS: u64 = 100;

/// A moment in the life of a worker, as the number of ticks before it. Each worker counts its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// The moment before all others.
    pub const FIRST: Tick = Tick(0);

    /// The moment behind all others.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Returns the moment with `number` ticks before it.
    pub const fn number(number: u64) -> Tick {
        Tick(number)
    }

    /// Returns the moment `ticks` earlier, or the first.
    pub const fn earlier_by(self, ticks: u64) -> Tick {
        Tick(self.0.saturating_sub(ticks))
    }

    /// Returns the ticks since `earlier`; 0 where that is later.
    pub const fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Tick {
    type Output = Tick;

    /// Returns the moment `ticks` later.
    fn add(self, ticks: u64) -> Tick {
        Tick(self.0.saturating_add(ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::Tick;

    #[test]
    fn ticks_neither_pass_the_end_nor_the_beginning() {
        let (early, late) = (Tick::number(3), Tick::number(5));
        assert_eq!((late.since(early), early.since(late)), (2, 0));
        assert_eq!((early + 2, late.earlier_by(2), early.earlier_by(9)), (late, early, Tick::FIRST));
        assert_eq!(late + u64::MAX, Tick::NEVER);
    }
}
