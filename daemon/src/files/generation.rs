//! What the daemon itself has changed of what is served.

/// Bits that count what was published: enough for a million a second in three years.
const PUBLICATIONS_BITS: u32 = 48;

/// A state of what is served: what is known of a file from an earlier one may not be so any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

impl Generation {
    /// After so many roots, and so many publications and removals below the present one.
    pub const fn of(roots: u64, publications: u64) -> Generation {
        Generation((roots << PUBLICATIONS_BITS) | publications)
    }
}

#[cfg(test)]
mod tests {
    use super::Generation;

    #[test]
    fn each_publication_and_each_root_begins_another() {
        let before = Generation::of(1, 7);
        assert_eq!(before, Generation::of(1, 7));
        assert_ne!(before, Generation::of(1, 8));
        assert_ne!(before, Generation::of(2, 7));
    }
}
