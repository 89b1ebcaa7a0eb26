//! The minimum of progress that a peer makes while it is waited for.

use std::time::Duration;

use crate::config::Settings;

/// The time for which a peer is waited for before its bytes are looked at: most waits are over by then, and cost
/// nothing.
const UNWATCHED: Duration = Duration::from_secs(1);

/// The divisor of the interval that gives the time after which a peer below the minimum has to make room for
/// others.
const PRESSED_DIVISOR: u32 = 4;

/// The least bytes that a peer has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceMinimum {
    bytes_a_second: u64,
    interval: Duration,
}

/// The time that one peer has been waited for, and the bytes that it had moved when the measurement began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The time waited, in milliseconds; at most the interval and a second.
    waited_ms: u32,
    /// The bytes moved before; set from [`UNWATCHED`] on.
    bytes_before: u64,
}

impl PaceMinimum {
    /// Takes the minimum from the settings.
    pub fn of(settings: &Settings) -> PaceMinimum {
        PaceMinimum {
            bytes_a_second: settings.progress_bytes_min,
            interval: Duration::from_millis(settings.progress_interval_ms),
        }
    }

    fn wants(&self, watched: Duration, bytes: u64) -> bool {
        let wanted = u128::from(self.bytes_a_second) * watched.as_millis() / 1_000;
        u128::from(bytes) < wanted
    }
}

impl Pace {
    /// Whether nobody has been waited for yet.
    pub fn is_new(&self) -> bool {
        self.waited_ms == 0
    }

    /// Notes that the peer has been waited for `time` more; true where it moved less than the minimum in the whole
    /// interval. `moved` returns the bytes that it has moved since the beginning of the connection, and is asked
    /// twice in an interval.
    pub fn wait(&mut self, time: Duration, minimum: &PaceMinimum, moved: impl Fn() -> u64) -> bool {
        let before = self.waited_ms;
        self.waited_ms = before.saturating_add(milliseconds(time));
        if before < milliseconds(UNWATCHED) {
            if self.waited_ms >= milliseconds(UNWATCHED) {
                self.bytes_before = moved();
            }
            return false;
        }
        let Some(watched) = self.watched().filter(|watched| *watched >= minimum.interval) else {
            return false;
        };
        let now = moved();
        if minimum.wants(watched, now.saturating_sub(self.bytes_before)) {
            return true;
        }
        *self = Pace { waited_ms: milliseconds(UNWATCHED), bytes_before: now };
        false
    }

    /// Returns the bytes a second since the measurement began; None where it didn't yet, or just did.
    pub fn bytes_a_second(&self, moved: impl Fn() -> u64) -> Option<u64> {
        let watched = self.watched()?;
        let bytes = u128::from(moved().saturating_sub(self.bytes_before));
        u64::try_from(bytes * 1_000 / watched.as_millis().max(1)).ok()
    }

    /// Whether the peer has moved less than the minimum for so long that it has to go where others need its place.
    pub fn is_below(&self, minimum: &PaceMinimum, moved: impl Fn() -> u64) -> bool {
        self.watched().is_some_and(|watched| {
            watched >= minimum.interval / PRESSED_DIVISOR
                && minimum.wants(watched, moved().saturating_sub(self.bytes_before))
        })
    }

    fn watched(&self) -> Option<Duration> {
        let watched_ms =
            self.waited_ms.checked_sub(milliseconds(UNWATCHED)).filter(|watched| *watched > 0)?;
        Some(Duration::from_millis(watched_ms.into()))
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Pace, PaceMinimum};
    use crate::config::Settings;
    use crate::limits::TICK;

    /// Returns the number of seconds, at most 200, after which a peer that moves `bytes_each` every `seconds` is
    /// too slow.
    fn ends_after(minimum: PaceMinimum, bytes_each: u64, seconds: u64) -> Option<u64> {
        let mut pace = Pace::default();
        (0..2000)
            .find(|tick| pace.wait(TICK, &minimum, || tick / 10 / seconds * bytes_each))
            .map(|tick| tick / 10)
    }

    fn usual() -> PaceMinimum {
        PaceMinimum::of(&Settings::default())
    }

    #[test]
    fn who_moves_the_minimum_stays_and_who_does_not_goes_after_the_interval() {
        assert_eq!(ends_after(usual(), 0, 1), Some(60));
        assert_eq!(ends_after(usual(), 1, 1), Some(60));
        assert_eq!(ends_after(usual(), 63, 1), Some(60));
        assert_eq!(ends_after(usual(), 64, 1), None);
        // The bytes come in steps, as a window opens: 800 bytes a second in 4 KiB.
        assert_eq!(ends_after(usual(), 4096, 5), None);
    }

    #[test]
    fn who_was_fast_before_must_go_on() {
        let mut pace = Pace::default();
        let moved = |tick: u64| tick.min(300) * 1_000_000;
        let ended = (0..3000).find(|tick| pace.wait(TICK, &usual(), || moved(*tick)));
        assert!(ended.is_some_and(|tick| (600..=1300).contains(&tick)), "{ended:?}");
    }

    #[test]
    fn a_minimum_of_nothing_asks_for_nothing() {
        let none = PaceMinimum::of(&Settings { progress_bytes_min: 0, ..Settings::default() });
        assert_eq!(ends_after(none, 0, 1), None);
        assert!(!Pace { waited_ms: 99_000, bytes_before: 0 }.is_below(&none, || 0));
    }

    #[test]
    fn nobody_is_asked_before_a_second_or_more_than_twice_in_an_interval() {
        let asked = std::cell::Cell::new(0);
        let mut pace = Pace::default();
        let moved = || {
            asked.set(asked.get() + 1);
            u64::from(asked.get()) * 10_000
        };
        for tick in 1..=1210_u64 {
            assert!(!pace.wait(TICK, &usual(), moved));
            let max = if tick < 10 { 0 } else { 1 + (tick - 10) / 600 };
            assert!(asked.get() <= u32::try_from(max).unwrap(), "{tick}: {}", asked.get());
        }
        assert!(asked.get() >= 2);
    }

    #[test]
    fn under_pressure_a_quarter_of_the_interval_is_enough() {
        let after = |seconds: u32, moved| {
            let pace = Pace { waited_ms: seconds * 1_000, bytes_before: 0 };
            (pace.is_below(&usual(), || moved), pace.bytes_a_second(|| moved))
        };
        assert_eq!(after(1, 0), (false, None));
        assert_eq!(after(15, 0), (false, Some(0)));
        assert_eq!(after(16, 0), (true, Some(0)));
        assert_eq!(after(16, 15 * 64), (false, Some(64)));
    }
}
