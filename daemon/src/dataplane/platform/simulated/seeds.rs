//! Plays a simulation for one seed after the other, and names the seed that fails.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The seeds from which on all that can happen has happened.
const SEEDS_TELLING: u64 = 1_000;

/// How often each ending came.
pub(in crate::dataplane) type Endings = BTreeMap<String, u64>;

/// Plays `seeds` seeds, or what the variables say: `STREAMD_SIMULATION_SEED` plays one alone,
/// `STREAMD_SIMULATION_SEEDS` says how many. Each of `endings` has to come, where the seeds are enough to tell.
pub(in crate::dataplane) fn play_seeds(
    what: &str,
    seeds: u64,
    endings: &[&str],
    play: impl Fn(u64) -> Endings,
) {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    if let Some(seed) = number("STREAMD_SIMULATION_SEED") {
        eprintln!("{what}, seed {seed}: {:?}", play(seed));
        return;
    }
    let seeds = number("STREAMD_SIMULATION_SEEDS").unwrap_or(seeds);
    let mut all = Endings::new();
    for seed in 0..seeds {
        let Ok(ended) = catch_unwind(AssertUnwindSafe(|| play(seed))) else {
            panic!("seed {seed} failed; STREAMD_SIMULATION_SEED={seed} plays it alone");
        };
        for (ending, count) in ended {
            *all.entry(ending).or_default() += count;
        }
    }
    eprintln!("{what}, {seeds} seeds: {all:?}");
    let missing = endings.iter().find(|ending| !all.contains_key(**ending));
    assert!(seeds < SEEDS_TELLING || missing.is_none(), "{missing:?} never happened: {all:?}");
}
