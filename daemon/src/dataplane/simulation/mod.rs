//! Whole connections, simulated: clients that send requests in any pieces, take their answers or don't, and a worker
//! over a platform that does what a seed says. One thread, no sockets, no time but the simulation's.
//!
//! `STREAMD_SIMULATION_SEED` plays one seed alone, `STREAMD_SIMULATION_SEEDS` says how many are played.

mod answer;
mod client;
mod parts;
mod request;
mod world;

use super::platform::simulated::{Endings, Seeded, play_seeds};
use world::World;

/// Seeds that are played where nobody says how many: some seconds.
const SEEDS: u64 = 2_000;

/// Steps of one seed: one with more has something that doesn't end.
const STEPS_MAX: u64 = 2_000_000;

/// Clients of one worker.
const CLIENTS_MAX: usize = 3;

/// The endings that the seeds have to have shown.
const ENDINGS: [&str; 18] = [
    "answer 200",
    "answer 201",
    "answer 204",
    "answer 206",
    "answer 304",
    "answer 400",
    "answer 404",
    "answer 408",
    "answer 412",
    "answer 416",
    "by copy",
    "by sendfile",
    "by splice",
    "line complete",
    "line peer_closed",
    "line timed_out",
    "client broken off",
    "file changed",
];

#[test]
fn each_request_gets_its_answer_and_its_line_whatever_happens_and_nothing_is_left() {
    play_seeds("connections", SEEDS, &ENDINGS, play);
}

/// Plays one seed.
fn play(seed: u64) -> Endings {
    let mut seeded = Seeded::new(seed);
    let mut world = World::new(&mut seeded);
    for number in 0..1 + seeded.index(CLIENTS_MAX) {
        world.connect(number, &mut seeded);
    }
    let mut steps = 0;
    while !world.is_over() {
        world.step(&mut seeded);
        steps += 1;
        assert!(steps < STEPS_MAX, "something doesn't end: {}", world.unended());
    }
    world.end(&mut seeded)
}
