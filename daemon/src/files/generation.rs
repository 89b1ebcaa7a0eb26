//! A count of the daemon's own changes to the served files.

/// Bits that count publications: enough for a million a second in three years.
const PUBLICATIONS_BITS: u32 = 48;

/// A state of the served files: facts about a file from an earlier generation may be out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

impl Generation {
    /// Makes the generation after `roots` roots, and `publications` publications and removals below the present
    /// one.
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
