//! The windows of a file that were found in memory a moment ago, so that a file in demand isn't probed again and
//! again.

use crate::limits::Tick;

/// Bytes that one residency question covers, and that one cold read brings in: long enough for a disk to
/// stream, short enough that the first byte doesn't wait long for the last.
pub const WINDOW_BYTES: u64 = 1 << 20;

const WORD_BITS: u64 = u64::BITS as u64;

/// The most windows that are noted of a file: 8 KiB of bits, for the first 64 GiB.
const HOT_WINDOWS_MAX: u64 = (64 << 30) / WINDOW_BYTES;

/// The windows of one file that were found hot, all at about the same time.
#[derive(Clone, Debug, Default)]
pub struct HotWindows {
    /// The tick of the first note.
    began: Tick,
    /// The first tick at which no note counts any more.
    end: Tick,
    /// One bit for each window.
    found: Vec<u64>,
}

impl HotWindows {
    /// Whether this window was found in memory at tick `since` or later, and the note still counts at `now`.
    pub fn has(&self, window: u64, since: Tick, now: Tick) -> bool {
        let word = usize::try_from(window / WORD_BITS).ok().and_then(|index| self.found.get(index));
        since <= self.began
            && now < self.end
            && word.is_some_and(|word| word & (1 << (window % WORD_BITS)) != 0)
    }

    /// Notes that this window was found in memory at tick `now`. Notes count until tick `end`, taken from the
    /// first of them; those from before `since` are dropped.
    pub fn note(&mut self, window: u64, since: Tick, now: Tick, end: Tick) {
        if window >= HOT_WINDOWS_MAX {
            return;
        }
        if now >= self.end || self.began < since {
            *self = HotWindows { began: now, end, found: std::mem::take(&mut self.found) };
            self.found.clear();
        }
        let index = usize::try_from(window / WORD_BITS).unwrap_or_default();
        if self.found.len() <= index {
            self.found.resize(index + 1, 0);
        }
        self.found[index] |= 1 << (window % WORD_BITS);
    }

    /// Drops all notes.
    pub fn forget(&mut self) {
        self.end = Tick::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::{HOT_WINDOWS_MAX, HotWindows, Tick};

    fn has(hot: &HotWindows, window: u64, since: u64, now: u64) -> bool {
        hot.has(window, Tick::number(since), Tick::number(now))
    }

    fn note(hot: &mut HotWindows, window: u64, since: u64, now: u64, end: u64) {
        hot.note(window, Tick::number(since), Tick::number(now), Tick::number(end));
    }

    #[test]
    fn a_window_is_known_hot_from_its_note_to_the_end_of_the_first() {
        let mut hot = HotWindows::default();
        assert!(!has(&hot, 0, 0, 0));
        note(&mut hot, 0, 0, 5, 15);
        note(&mut hot, 1000, 0, 14, 24);
        assert!(has(&hot, 0, 0, 14) && has(&hot, 1000, 0, 14));
        assert!(!has(&hot, 1, 0, 14) && !has(&hot, 999, 0, 14));
        assert!(!has(&hot, 0, 0, 15) && !has(&hot, 1000, 0, 15));
        note(&mut hot, 1, 0, 15, 25);
        assert!(has(&hot, 1, 0, 24) && !has(&hot, 0, 0, 24));
        hot.forget();
        assert!(!has(&hot, 1, 0, 16));
    }

    #[test]
    fn notes_from_before_a_doubt_do_not_count() {
        let mut hot = HotWindows::default();
        note(&mut hot, 0, 0, 5, 15);
        assert!(has(&hot, 0, 5, 6) && !has(&hot, 0, 6, 6));
        note(&mut hot, 1, 6, 7, 17);
        assert!(has(&hot, 1, 6, 16) && !has(&hot, 0, 0, 8));
    }

    #[test]
    fn notes_are_bounded_and_may_not_count_at_all() {
        let mut hot = HotWindows::default();
        note(&mut hot, HOT_WINDOWS_MAX, 0, 0, 10);
        assert!(!has(&hot, HOT_WINDOWS_MAX, 0, 0));
        // With `cache_valid_ms = 0` the end is now.
        note(&mut hot, 3, 0, 7, 7);
        assert!(!has(&hot, 3, 0, 7));
    }
}
