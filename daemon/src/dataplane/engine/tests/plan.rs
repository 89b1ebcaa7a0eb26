//! The outcome of each call of a scripted kernel: told one by one, or drawn from a seed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::super::disk_waits::{Belief, Care};
use super::super::super::platform::simulated::Seeded;
use super::file::{Change, Content};
use crate::files::residency::Residency;
use crate::limits::Tick;

/// Calls of one transfer: one with more doesn't end.
const CALLS_MAX: u64 = 100_000;

/// A call of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// send(2) or sendmsg(2).
    Send,
    /// sendfile(2).
    Sendfile,
    /// A new pipe.
    Pipe,
    /// splice(2) into a pipe.
    Fill,
    /// splice(2) out of it.
    Empty,
    /// A read under RWF_NOWAIT.
    ReadNow,
    /// A read that may wait.
    Read,
    /// A wait until the socket takes more.
    Writable,
    /// A wait for other tasks.
    Turn,
    /// A wait for a disk thread.
    Disk,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All that was asked for, or that there is.
    Whole,
    /// So many bytes of it.
    Part(usize),
    /// An error.
    Fails(Errno),
    /// The wait ends without what was waited for: the peer's time is over, or the disk is busy.
    GivenUp,
}

/// The facts about a file, memory and the worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) belief: Belief,
    pub(super) residency: Residency,
    pub(super) glance: Residency,
    pub(super) care: Option<Care>,
    pub(super) has_waited: bool,
    pub(super) was_read: bool,
}

/// All in memory, as far as anybody can tell.
pub(super) const HOT: Facts = Facts {
    belief: Belief::Places,
    residency: Residency::Hot,
    glance: Residency::Hot,
    care: None,
    has_waited: false,
    was_read: false,
};

/// A step of an exact script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A call, and what comes of it.
    Of(Call, Outcome),
    /// Somebody changes the file before the next call.
    Changes(Change),
}

/// Where outcomes come from.
pub(super) enum Plan {
    /// A script: each call has to be the next one.
    Exact { steps: VecDeque<Step>, facts: Facts, content: Arc<Content> },
    /// A seed.
    Random { seeded: Arc<Mutex<Seeded>>, has_failed: bool, failures_in: u64, calls: u64 },
}

impl Plan {
    /// Returns the outcome of a call for `bytes` bytes.
    pub(super) fn next(&mut self, call: Call, bytes: usize) -> Outcome {
        match self {
            Plan::Exact { steps, content, .. } => loop {
                match steps.pop_front() {
                    Some(Step::Changes(change)) => content.change(change),
                    Some(Step::Of(expected, outcome)) => {
                        assert_eq!(call, expected, "another call than the script has, for {bytes} bytes");
                        return outcome;
                    }
                    None => panic!("{call:?} for {bytes} bytes comes after the script's end"),
                }
            },
            Plan::Random { seeded, has_failed, failures_in, calls } => {
                *calls += 1;
                assert!(*calls < CALLS_MAX, "a transfer goes on for ever");
                let outcome = draw(&mut seeded.lock().unwrap(), call, bytes, *failures_in);
                *has_failed |= is_failure(call, outcome);
                outcome
            }
        }
    }

    /// Returns the facts of this moment.
    pub(super) fn facts(&mut self) -> Facts {
        match self {
            Plan::Exact { facts, .. } => *facts,
            Plan::Random { seeded, .. } => draw_facts(&mut seeded.lock().unwrap()),
        }
    }

    /// Something else ends the transfer.
    pub(super) fn note_failure(&mut self) {
        if let Plan::Random { has_failed, .. } = self {
            *has_failed = true;
        }
    }

    /// Whether something happened after which a transfer may end early.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Plan::Random { has_failed: true, .. })
    }

    /// Steps of a script that nothing came for.
    pub(super) fn left(&self) -> usize {
        match self {
            Plan::Exact { steps, .. } => steps.len(),
            Plan::Random { .. } => 0,
        }
    }
}

/// Whether a transfer can't go on after that.
fn is_failure(call: Call, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Whole | Outcome::Part(_) | Outcome::Fails(Errno::AGAIN | Errno::INTR) => false,
        // Told again by the read that may wait.
        Outcome::Fails(_) => call != Call::ReadNow,
        Outcome::GivenUp => true,
    }
}

fn draw(seeded: &mut Seeded, call: Call, bytes: usize, failures_in: u64) -> Outcome {
    let fails = seeded.one_in(failures_in);
    let part = |seeded: &mut Seeded| Outcome::Part(seeded.length(bytes));
    match call {
        Call::Writable | Call::Disk if fails => Outcome::GivenUp,
        Call::Writable | Call::Disk | Call::Turn => Outcome::Whole,
        Call::Pipe if fails => Outcome::Fails(Errno::MFILE),
        Call::Pipe => Outcome::Whole,
        Call::Fill | Call::Read if fails => Outcome::Fails(Errno::IO),
        Call::Send | Call::Empty if fails => Outcome::Fails(seeded.of(&[Errno::PIPE, Errno::CONNRESET])),
        Call::Sendfile if fails => Outcome::Fails(seeded.of(&[Errno::PIPE, Errno::CONNRESET, Errno::IO])),
        Call::ReadNow if fails => Outcome::Fails(seeded.of(&[Errno::IO, Errno::OPNOTSUPP])),
        Call::Fill | Call::Read => match seeded.below(10) {
            0 => Outcome::Fails(Errno::INTR),
            1..4 => part(seeded),
            _ => Outcome::Whole,
        },
        Call::Send | Call::Sendfile | Call::Empty | Call::ReadNow => match seeded.below(10) {
            0 => Outcome::Fails(Errno::INTR),
            1 => Outcome::Fails(Errno::AGAIN),
            2..5 => part(seeded),
            _ => Outcome::Whole,
        },
    }
}

fn draw_facts(seeded: &mut Seeded) -> Facts {
    let since = Tick::number(seeded.below(4));
    let residency = |seeded: &mut Seeded| match seeded.below(8) {
        0 => Residency::Unknown,
        1..3 => Residency::Cold,
        _ => Residency::Hot,
    };
    Facts {
        belief: match seeded.below(10) {
            0 => Belief::Nothing,
            1 => Belief::Whole { since },
            _ => Belief::Places,
        },
        residency: residency(seeded),
        glance: residency(seeded),
        care: seeded.one_in(3).then_some(Care::Most),
        has_waited: seeded.one_in(20),
        was_read: seeded.one_in(2),
    }
}
