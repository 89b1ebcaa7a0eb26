//! Transfers of random responses over a kernel of random outcomes, several at once, all of it drawn from one seed.
//! `STREAMD_SIMULATION_SEED` plays one alone, `STREAMD_SIMULATION_SEEDS` says how many are played.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::super::super::platform::simulated::{Endings, Seeded, play_seeds};
use super::file::Change;
use super::plan::Plan;
use super::run::Tasks;
use super::script::Host;
use super::simulated::Simulated;
use crate::config::EngineChoice;
use crate::telemetry::{EngineLabel, Label};

/// Seeds that are played where nobody says how many: a few seconds.
const SEEDS: u64 = 3_000;

/// Transfers of one worker at once.
const TRANSFERS_MAX: usize = 4;

/// Events of one seed: one with more has a transfer that doesn't end.
const EVENTS_MAX: u64 = 100_000;

/// The endings that the seeds have to have shown.
const ENDINGS: [&str; 12] = [
    "complete",
    "PeerGone",
    "TimedOut",
    "SourceShrank",
    "SourceChanged",
    "SourceFailed",
    "Disk",
    "NoRoom",
    "Cancelled",
    "by copy",
    "by sendfile",
    "by splice",
];

#[test]
fn whatever_happens_a_peer_gets_its_bytes_or_a_prefix_of_them_and_an_error() {
    play_seeds("transfers", SEEDS, &ENDINGS, play);
}

/// Plays one seed.
fn play(seed: u64) -> Endings {
    let mut seeded = Seeded::new(seed);
    let outcomes = Arc::new(Mutex::new(Seeded::new(seeded.number())));
    let failures_in = if seeded.one_in(2) { 0 } else { 20 + seeded.below(400) };
    let changes_in = if seeded.one_in(2) { 0 } else { 5 + seeded.below(60) };
    let host = Rc::new(host(&mut seeded));
    let mut all = Vec::new();
    for number in 0..1 + seeded.index(TRANSFERS_MAX) {
        let plan = Plan::Random { seeded: Arc::clone(&outcomes), has_failed: false, failures_in, calls: 0 };
        all.push(Simulated::draw(number, &mut seeded, plan));
    }
    run(&host, &all, &mut seeded, changes_in);
    hold(&host, &all)
}

fn host(seeded: &mut Seeded) -> Host {
    let mut host = Host::new(seeded.of(&[
        EngineChoice::Auto,
        EngineChoice::Auto,
        EngineChoice::Copy,
        EngineChoice::Sendfile,
        EngineChoice::Splice,
    ]));
    host.is_paced = seeded.one_in(4);
    host.pipe_bytes = seeded.of(&[4 << 10, 64 << 10, 1 << 20, 1 << 20]);
    if seeded.one_in(8) {
        host.waiting_bytes_max = seeded.below(1 << 20);
    }
    host
}

/// Lets all transfers run to their ends, by events in any order.
fn run(host: &Rc<Host>, all: &[Simulated], seeded: &mut Seeded, changes_in: u64) {
    let mut tasks = Tasks::default();
    for simulated in all {
        tasks.spawn(simulated.send(Rc::clone(host)));
    }
    tasks.poll(seeded.index(all.len()));
    let mut events = 0;
    while tasks.running() > 0 {
        assert!(host.events.count() > 0, "a transfer waits for nothing");
        events += 1;
        assert!(events < EVENTS_MAX, "a transfer doesn't end");
        if seeded.one_in(changes_in) {
            interfere(seeded, &all[seeded.clone().index(all.len())]);
        }
        host.now.set(host.now.get() + seeded.below(4));
        host.events.happen(seeded.index(host.events.count()));
        tasks.poll(seeded.index(all.len()));
    }
    // Disk threads still work for transfers that ended before.
    while host.events.count() > 0 {
        host.events.happen(0);
    }
}

/// Somebody changes the file of a transfer, or doesn't want it any more.
fn interfere(seeded: &mut Seeded, simulated: &Simulated) {
    if seeded.one_in(4) {
        if simulated.listener.borrow_mut().take().is_some() {
            simulated.plan.lock().unwrap().note_failure();
        }
        return;
    }
    if simulated.content.may_change() {
        let bytes = seeded.below(1 << 20);
        simulated.content.change(seeded.of(&[
            Change::Shrinks(bytes),
            Change::Grows(1 + bytes),
            Change::IsOther,
            Change::IsOtherAndGrows(1 + bytes),
        ]));
    }
}

/// Checks what holds for all transfers that ended, and counts how they did.
fn hold(host: &Host, all: &[Simulated]) -> Endings {
    let mut endings = Endings::new();
    for simulated in all {
        *endings.entry(simulated.hold()).or_default() += 1;
    }
    let payload: u64 = all.iter().map(Simulated::payload).sum();
    assert_eq!(host.counters.bytes_sent.total(), payload, "the counters differ from what the peers got");
    assert_eq!(host.pipes_open.load(Ordering::Relaxed), host.pipes.borrow().len(), "a pipe is left over");
    assert_eq!(host.budget.taken_bytes(), 0, "a reservation is left over");
    for engine in EngineLabel::ALL {
        if host.counters.bytes_sent.get(*engine) > 0 {
            *endings.entry(format!("by {}", engine.label())).or_default() += 1;
        }
    }
    endings
}
