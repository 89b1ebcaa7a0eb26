//! The decision when memory that the program doesn't need any more goes back to the system.

use crate::sys;

/// The bytes that have to be free beyond those left free the last time: fewer aren't worth the lock on the
/// allocator.
const TRIMMED_BYTES_MIN: u64 = 256 << 10;

/// The number of looks after which memory is given back whatever was free before: memory that was taken and freed
/// between two looks shows in none of them. Usual work then takes a little of it again every 10 s.
const TRIMMED_LOOKS: u32 = 5;

/// The knowledge of the allocator from the last looks. Without this, pages that lie between others still in use
/// stay with the process for ever: of 199 MB for a hundred listings 170.
#[derive(Debug, Default)]
pub struct Heap {
    /// The least bytes that have been free since memory was last given back: those that usual work goes on taking
    /// and giving back, or that have no pages any more.
    floor_bytes: u64,
    /// The looks since then.
    looks: u32,
}

impl Heap {
    /// Gives free memory back, if there is a good deal more of it than after the last time, or that is a while
    /// ago.
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
        // The bytes are still free, but their pages are gone.
        heap.floor_bytes = 10 * TRIMMED_BYTES_MIN;
        assert!(!heap.is_worth_it(10 * TRIMMED_BYTES_MIN));
        assert!(heap.is_worth_it(11 * TRIMMED_BYTES_MIN));
        heap.looks = 0;
        // The bytes were taken and given back again, so their pages are there.
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
