//! The memory of glibc's allocator, and the way to give back the part that it doesn't need.

/// The bytes from which a piece of memory is mapped by itself, and unmapped as soon as it is freed; and the bytes
/// that may be free at the end of an arena. Both are glibc's initial values.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 128 << 10;

/// Keeps glibc from raising these limits (mallopt(3)): each large piece that is freed makes the next of that size
/// part of an arena, and lets each arena, of which there are eight a core, keep twice as much at its end, up to 64
/// MiB, which not even [`trim_heap`] gives back. Must be called before there are threads.
#[cfg(target_env = "gnu")]
pub fn bound_heap() {
    for limit in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: owner, lifetime: no memory is passed; the allocator keeps a number. The kernel isn't asked. No other
        // thread allocates meanwhile, by what is said above.
        unsafe { libc::mallopt(limit, MAPPED_BYTES_MIN) };
    }
}

/// Does nothing with another C library, whose allocator has its own rules.
#[cfg(not(target_env = "gnu"))]
pub fn bound_heap() {}

/// Returns the bytes that the program has given back to the allocator, in all its arenas. The allocator may have
/// returned their pages to the system. The call looks through every arena under its lock: some microseconds, a
/// millisecond where a hundred thousand pieces are free.
#[cfg(target_env = "gnu")]
pub fn free_heap_bytes() -> u64 {
    // SAFETY: owner, lifetime: no memory is passed; what comes back is a copy of numbers (mallinfo2(3), glibc 2.33).
    // The kernel isn't asked.
    let info = unsafe { libc::mallinfo2() };
    info.fordblks as u64
}

/// Returns the pages of all free memory to the system, in the middle of arenas too (malloc_trim(3), in all arenas
/// since glibc 2.8). Holds each arena's lock while it does: a few milliseconds for 64 MiB.
#[cfg(target_env = "gnu")]
pub fn trim_heap() {
    // SAFETY: owner: the allocator, of memory that nobody else has any more. Lifetime: the call's. The kernel keeps
    // nothing: it takes the pages back (madvise(2), brk(2)), and the addresses stay the allocator's.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns 0 with another C library, whose allocator has its own rules.
#[cfg(not(target_env = "gnu"))]
pub fn free_heap_bytes() -> u64 {
    0
}

/// Does nothing with another C library, whose allocator has its own rules.
#[cfg(not(target_env = "gnu"))]
pub fn trim_heap() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::{free_heap_bytes, trim_heap};

    #[test]
    fn what_is_freed_between_what_stays_is_counted_and_can_be_given_back() {
        // The pieces are shorter than those that are mapped by themselves (M_MMAP_THRESHOLD), so that they lie in
        // an arena.
        let mut pieces: Vec<Vec<u8>> = (0..512).map(|_| vec![1; 32 << 10]).collect();
        let before = free_heap_bytes();
        let kept: Vec<Vec<u8>> = pieces.drain(..).step_by(2).collect();
        assert!(free_heap_bytes() >= before + (7 << 20), "{before} {}", free_heap_bytes());
        trim_heap();
        assert!(kept.iter().all(|piece| piece.iter().all(|byte| *byte == 1)));
    }
}
