//! How finely time-outs are kept, and the moments that they are kept by.

use std::ops::Add;
use std::time::Duration;

/// How often a worker looks at its deadlines, its settings and whether to drain, and says that it is alive:
/// the resolution of every time-out, for ten wake-ups a second of an idle worker.
pub const TICK: Duration = Duration::from_millis(TICK_MS);

/// The same in milliseconds.
pub const TICK_MS: u64 = 100;

/// A moment in the life of a worker, of which each has its own: the number of ticks before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// Before all others.
    pub const FIRST: Tick = Tick(0);

    /// Behind all that come.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The moment with so many ticks before it.
    pub const fn number(number: u64) -> Tick {
        Tick(number)
    }

    /// So many ticks earlier, or the first.
    pub const fn earlier_by(self, ticks: u64) -> Tick {
        Tick(self.0.saturating_sub(ticks))
    }

    /// Ticks since `earlier`; 0 where that is later.
    pub const fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Tick {
    type Output = Tick;

    /// So many ticks later.
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
