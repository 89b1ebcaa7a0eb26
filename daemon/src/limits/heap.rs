//! When memory that the program doesn't need any more goes back to the system.

use crate::sys;

/// Bytes that have to be free beyond what was left free the last time: less isn't worth an allocator that is locked.
const TRIMMED_BYTES_MIN: u64 = 256 << 10;

/// Looks after which it is worth it whatever was free before: what was taken and freed between two looks shows in none
/// of them. What usual work takes again then is a little every 10 s.
const TRIMMED_LOOKS: u32 = 5;

/// What is known of the allocator from the last looks. Without this, pages that lie between others still in use stay
/// with the process for ever: of 199 MB for a hundred listings 170.
#[derive(Debug, Default)]
pub struct Heap {
    /// The least that has been free since the last time that something was given back: what goes on being taken and
    /// given back by usual work, or has no pages any more.
    floor_bytes: u64,
    /// Looks since then.
    looks: u32,
}

impl Heap {
    /// Gives back what is free, if there is a good deal more of it than after the last time, or that is a while ago.
    pub fn give_back(&mut self) {
        if self.is_worth_it(sys::free_heap_bytes()) {
            sys::trim_heap();
            self.looks = 0;
            self.floor_bytes = sys::free_heap_bytes();
        }
    }

    fn is_worth_it(&mut self, free_bytes: u64) -> bool {
        self.floor_bytes = self.floor_bytes.min(free_bytes);
        self.looks = self.looks.saturating_add(1);
        let needed = if self.looks >= TRIMMED_LOOKS { 0 } else { self.floor_bytes };
        free_bytes >= needed + TRIMMED_BYTES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::{Heap, TRIMMED_BYTES_MIN, TRIMMED_LOOKS};

    #[test]
    fn what_has_been_given_back_is_not_given_back_again() {
        let mut heap = Heap::default();
        assert!(!heap.is_worth_it(TRIMMED_BYTES_MIN - 1));
        assert!(heap.is_worth_it(TRIMMED_BYTES_MIN));
        // Free still, but its pages are gone.
        heap.floor_bytes = 10 * TRIMMED_BYTES_MIN;
        assert!(!heap.is_worth_it(10 * TRIMMED_BYTES_MIN));
        assert!(heap.is_worth_it(11 * TRIMMED_BYTES_MIN));
        heap.looks = 0;
        // Taken again and given back again: those pages are there.
        assert!(!heap.is_worth_it(TRIMMED_BYTES_MIN));
        assert!(heap.is_worth_it(10 * TRIMMED_BYTES_MIN));
    }

    #[test]
    fn what_was_taken_and_freed_between_two_looks_is_given_back_too() {
        let mut heap = Heap { floor_bytes: 10 * TRIMMED_BYTES_MIN, looks: 0 };
        let looks = (1..=TRIMMED_LOOKS).filter(|_| heap.is_worth_it(10 * TRIMMED_BYTES_MIN));
        assert_eq!(looks.collect::<Vec<_>>(), [TRIMMED_LOOKS]);
        assert!(!heap.is_worth_it(TRIMMED_BYTES_MIN - 1));
    }
}
