//! Random numbers that can be repeated.

/// The variable that gives the seed, to repeat a failure. Its name doesn't begin as the daemon's own do.
const SEED_VARIABLE: &str = "TEST_SEED";

/// A generator of numbers from a seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Takes a new seed, or that in the environment, and prints it, which a test that fails shows.
    pub(crate) fn seeded() -> Random {
        let given = std::env::var(SEED_VARIABLE).ok();
        let seed = given.map_or_else(|| getrandom::u64().unwrap(), |seed| seed.parse().unwrap());
        eprintln!("{SEED_VARIABLE}={seed} repeats this");
        Random(seed)
    }

    /// Makes a generator from this seed.
    pub(crate) fn from_seed(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Returns `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            std::iter::repeat_with(|| self.next().to_le_bytes()).take(length.div_ceil(8)).flatten().collect();
        bytes.truncate(length);
        bytes
    }
}
