//! Random numbers that nobody outside foresees, cheaper than the kernel's. They aren't for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A SplitMix64 generator (Steele, Lea and Flood, 2014), with a seed of the standard library's randomness.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Random(RandomState::new().build_hasher().finish())
    }
}

impl Random {
    /// Returns the next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which isn't 0; small ones are likelier by less than `end` in 2^64.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_number() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn two_of_them_differ_and_all_numbers_are_below_the_end() {
        let (mut one, mut other) = (Random::default(), Random::default());
        assert_ne!(one.next_number(), other.next_number());
        assert!((0..1000).all(|_| one.below(7) < 7));
        assert_eq!((one.below(1), one.below(0)), (0, 0));
    }
}
