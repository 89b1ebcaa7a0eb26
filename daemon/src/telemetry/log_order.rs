//! The order of log lines by their times. Workers hand their access lines over in batches, once a tick, while
//! every other line comes by itself: late lines must be sorted before some that are there already.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The longest time that a line waits for earlier ones of a worker: five of the worker's ticks. A stuck worker
/// must not hold back the line which says that it is stuck.
const HELD_TIME_MAX: Duration = Duration::from_millis(500);

/// The length of `2026-11-24T18:37:22.123456Z`, which sorts as the times do.
const TIME_BYTES: usize = 27;

/// The text before the time in a line of JSON.
const JSON_BEGINNING: &[u8] = b"{\"timestamp\":\"";

/// The mark of a buffer that holds no line.
const NOTHING: u64 = u64::MAX;

/// For each buffer the time of its first line that hasn't been handed over.
#[derive(Clone, Default)]
pub(super) struct LineBuffers(Arc<Mutex<Vec<Arc<AtomicU64>>>>);

/// The entry of one buffer, which the buffer's owner keeps up to date.
pub(super) struct Oldest(Arc<AtomicU64>);

impl LineBuffers {
    /// Adds an entry for one more buffer.
    pub(super) fn add(&self) -> Oldest {
        let oldest = Arc::new(AtomicU64::new(NOTHING));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| Arc::strong_count(known) > 1);
        all.push(Arc::clone(&oldest));
        Oldest(oldest)
    }

    /// Returns the time before which no further line can come, as lines spell it; None where that is now.
    fn safe_until(&self) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = all.iter().map(|oldest| oldest.load(Ordering::Acquire)).min()?;
        if oldest == NOTHING {
            return None;
        }
        let patience_ends = SystemTime::now() - HELD_TIME_MAX;
        let oldest = SystemTime::UNIX_EPOCH + Duration::from_micros(oldest);
        Some(humantime::format_rfc3339_micros(oldest.max(patience_ends)).to_string())
    }
}

impl Oldest {
    /// Notes that the buffer, which was empty, holds a line of this time now.
    pub(super) fn began(&self, since_1970: Duration) {
        self.0.store(u64::try_from(since_1970.as_micros()).unwrap_or(0), Ordering::Release);
    }

    /// Notes that the buffer's lines have been handed over.
    pub(super) fn ended(&self) {
        self.0.store(NOTHING, Ordering::Release);
    }
}

/// Lines that have come and aren't written yet.
#[derive(Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// The place of each line in the text.
    places: Vec<Range<usize>>,
    is_in_order: bool,
}

impl Lines {
    /// Returns the bytes of all lines.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds one line, which may hold line breaks of its own, or a batch of lines that hold none; returns how many
    /// bytes it added.
    pub(super) fn add(&mut self, text: &[u8], is_batch: bool) -> usize {
        let start = self.text.len();
        self.is_in_order = start == 0;
        self.text.extend_from_slice(text);
        if !is_batch {
            self.places.push(start..self.text.len());
            return text.len();
        }
        let mut line_start = start;
        for end in memchr::memchr_iter(b'\n', text) {
            self.places.push(line_start..start + end + 1);
            line_start = start + end + 1;
        }
        text.len()
    }

    /// Takes out the lines that no earlier one can follow any more, or all, in their order.
    pub(super) fn take(&mut self, buffers: Option<&LineBuffers>) -> Vec<u8> {
        let Some(last) = self.places.last() else { return Vec::new() };
        let until = buffers.and_then(LineBuffers::safe_until);
        let is_safe = |text: &[u8], place: &Range<usize>| {
            until.as_deref().is_none_or(|until| time_of(&text[place.clone()]) <= until.as_bytes())
        };
        if self.is_in_order && is_safe(&self.text, last) {
            self.places.clear();
            return std::mem::take(&mut self.text);
        }
        let Lines { text, mut places, .. } = std::mem::take(self);
        // The sort is stable, and quick where long runs are in order already.
        places.sort_by(|one, other| time_of(&text[one.clone()]).cmp(time_of(&text[other.clone()])));
        let ready = places.partition_point(|place| is_safe(&text, place));
        for place in places.split_off(ready) {
            self.add(&text[place], false);
        }
        let mut sorted = Vec::with_capacity(text.len());
        for place in places {
            sorted.extend_from_slice(&text[place]);
        }
        sorted
    }
}

/// Returns the time at the beginning of a line; the whole line where it has none.
fn time_of(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(JSON_BEGINNING).unwrap_or(line);
    line.get(..TIME_BYTES).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{HELD_TIME_MAX, LineBuffers, Lines};

    /// Makes a line of text or of JSON, at the time `after` the moment.
    fn line(is_json: bool, moment: SystemTime, after: Duration, name: &str) -> String {
        let time = humantime::format_rfc3339_micros(moment + after);
        if is_json {
            format!("{{\"timestamp\":\"{time}\",\"name\":\"{name}\"}}\n")
        } else {
            format!("{time} {name}\n")
        }
    }

    fn names(text: &[u8]) -> String {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.lines().map(|line| line.trim_end_matches(['"', '}']).chars().last().unwrap()).collect()
    }

    #[test]
    fn a_batch_that_comes_late_goes_where_its_times_belong() {
        for is_json in [false, true] {
            let (buffers, now) = (LineBuffers::default(), SystemTime::now());
            let oldest = buffers.add();
            let at = |ms: u64, name: &str| line(is_json, now, Duration::from_millis(ms), name);
            oldest.began((now + Duration::from_millis(2)).duration_since(SystemTime::UNIX_EPOCH).unwrap());
            let mut lines = Lines::default();
            lines.add(at(1, "a").as_bytes(), false);
            lines.add(at(5, "e").as_bytes(), false);
            lines.add(at(3, "c").as_bytes(), false);
            assert_eq!(names(&lines.take(Some(&buffers))), "a", "{is_json}: a line may still come before c");
            lines.add((at(2, "b") + &at(4, "d")).as_bytes(), true);
            oldest.ended();
            assert_eq!(names(&lines.take(Some(&buffers))), "bcde", "{is_json}");
            assert_eq!((lines.bytes(), lines.take(None).len()), (0, 0));
        }
    }

    #[test]
    fn a_worker_that_is_stuck_holds_nothing_back_for_long() {
        let (buffers, now) = (LineBuffers::default(), SystemTime::now());
        let oldest = buffers.add();
        let long_ago = now - 4 * HELD_TIME_MAX;
        oldest.began(long_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let mut lines = Lines::default();
        lines.add(line(false, now - 2 * HELD_TIME_MAX, Duration::ZERO, "a").as_bytes(), false);
        lines.add(line(false, now + HELD_TIME_MAX, Duration::ZERO, "b").as_bytes(), false);
        assert_eq!(names(&lines.take(Some(&buffers))), "a");
        assert_eq!(names(&lines.take(None)), "b", "at the end all goes");
    }

    #[test]
    fn a_line_of_several_stays_whole_and_one_without_a_time_is_no_trouble() {
        let mut lines = Lines::default();
        let now = SystemTime::now();
        let both = line(false, now, Duration::from_secs(1), "x") + "its second line y\n";
        lines.add(both.as_bytes(), false);
        lines.add(line(false, now, Duration::ZERO, "a").as_bytes(), false);
        lines.add(b"z\n", false);
        let text = String::from_utf8(lines.take(None)).unwrap();
        assert!(text.contains(&both) && text.ends_with("z\n"), "{text}");
        assert!(text.find(" a\n").unwrap() < text.find(" x\n").unwrap(), "{text}");
    }
}
