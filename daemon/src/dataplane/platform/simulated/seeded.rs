//! Numbers that follow from a seed, the same on every host.

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(in crate::dataplane) struct Seeded {
    state: u64,
    /// Whether it draws nothing rare.
    is_quiet: bool,
}

impl Seeded {
    pub(in crate::dataplane) fn new(seed: u64) -> Seeded {
        Seeded { state: seed, is_quiet: false }
    }

    /// Numbers with which nothing happens that happens only now and then.
    pub(in crate::dataplane) fn quiet() -> Seeded {
        Seeded { state: 0, is_quiet: true }
    }

    /// The next number.
    pub(in crate::dataplane) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`; 0 where that is 0.
    pub(in crate::dataplane) fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// True once in `times`, on average; never where that is 0.
    pub(in crate::dataplane) fn one_in(&mut self, times: u64) -> bool {
        times > 0 && !self.is_quiet && self.below(times) == 0
    }

    /// One of them.
    pub(in crate::dataplane) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }

    /// A place in a list of this length, which isn't 0.
    pub(in crate::dataplane) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// From 1 to `max`, seldom just a few.
    pub(in crate::dataplane) fn length(&mut self, max: usize) -> usize {
        let max = if self.one_in(8) { max.min(5) } else { max };
        1 + self.index(max.max(1))
    }
}
