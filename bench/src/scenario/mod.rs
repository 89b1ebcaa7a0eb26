//! A scenario: one piece of work that every server does alike, and how it is measured once.

mod connections;
mod mixed;
mod simple;
pub mod standard;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arguments::Common;
use crate::fixture::Fixture;
use crate::load::{ClientMode, Load, Pace, Tally, Work as LoadWork};
use crate::peer::Cost;
use crate::progress::Progress;
use crate::result::{Sample, Work};

/// One piece of work, with the files that it needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Short and unique: `pull-1GiB-16c`.
    pub id: String,
    /// For tables.
    pub title: String,
    /// What is done.
    pub work: Work,
    /// The files that are asked for, in turn.
    pub files: Vec<File>,
    /// Files that are pulled cold meanwhile.
    pub cold_files: Vec<File>,
}

/// Times as long as the others that a measurement beside cold pulls takes: in a second some of 64 pulls get nothing
/// from a device of 50 MiB/s.
const COLD_DURATION_FACTOR: u32 = 4;

impl Plan {
    /// What of a set's timing this plan needs.
    pub fn timing(&self, set: Timing) -> Timing {
        match self.work {
            Work::Mixed { cold_pulls, .. } if cold_pulls > 0 => {
                Timing { duration: set.duration * COLD_DURATION_FACTOR, ..set }
            }
            _ => set,
        }
    }
}

/// A file as the server names it.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path in a URL.
    pub url_path: String,
    /// Its length.
    pub bytes: u64,
    /// What it was made from, where the bench made it: its bytes are then compared.
    pub source: Option<Fixture>,
}

impl From<Fixture> for File {
    fn from(fixture: Fixture) -> File {
        File { url_path: fixture.url_path.clone(), bytes: fixture.expected.bytes, source: Some(fixture) }
    }
}

/// The server that is measured.
pub struct Subject<'a> {
    /// Its name in samples.
    pub name: &'a str,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
    /// Where it takes frames.
    pub frames: Option<SocketAddr>,
    /// Where it takes POST /stream.
    pub control: Option<SocketAddr>,
    /// Connections that it takes, as far as is known.
    pub connections_max: u64,
    /// Its memory before its first load: what it keeps of former loads isn't free for the next.
    pub memory_at_start_bytes: u64,
    /// What it has cost so far.
    pub cost: &'a dyn Fn() -> Cost,
}

/// How the client is set up.
#[derive(Clone, Debug)]
pub struct Client {
    /// Client threads, at most; fewer where there are fewer connections.
    pub threads: usize,
    /// Cores of those threads.
    pub cores: Vec<usize>,
    /// What becomes of bodies.
    pub mode: ClientMode,
}

impl Client {
    /// As the command line has it.
    pub fn of(common: &Common) -> Client {
        Client { threads: common.threads, cores: common.client_cores.clone(), mode: common.client_mode }
    }
}

/// The longest measurement and the longest warm-up, in seconds.
const DURATION_S_MAX: f64 = 3600.0;
const WARM_UP_S_MAX: f64 = 600.0;

/// How long each part of a measurement lasts.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Before the clock starts.
    pub warm_up: Duration,
    /// While it runs.
    pub duration: Duration,
}

impl Timing {
    /// As the command line has it.
    pub fn of(common: &Common) -> Result<Timing> {
        let (warm_up, duration) = (common.warm_up, common.duration);
        if !(0.0..=WARM_UP_S_MAX).contains(&warm_up) {
            bail!("--warm-up {warm_up} is outside 0 to {WARM_UP_S_MAX} seconds");
        }
        if !(duration > 0.0 && duration <= DURATION_S_MAX) {
            bail!("--duration {duration} is outside 0 to {DURATION_S_MAX} seconds");
        }
        Ok(Timing { warm_up: Duration::from_secs_f64(warm_up), duration: Duration::from_secs_f64(duration) })
    }
}

/// Whether `subject` can do this work at all.
pub fn can(work: &Work, subject: &Subject<'_>) -> bool {
    match work {
        Work::Push { .. } => subject.frames.is_some(),
        Work::Stream { .. } => subject.control.is_some(),
        // One more for the probe.
        Work::Connections { connections, .. } => subject.connections_max > *connections as u64,
        Work::Pull { .. } | Work::Mixed { .. } => true,
    }
}

/// Measures `plan` on `subject` once.
pub fn measure(
    plan: &Plan,
    subject: &Subject<'_>,
    client: &Client,
    timing: Timing,
    progress: &Progress,
) -> Result<Sample> {
    let sample = match plan.work {
        Work::Pull { .. } | Work::Push { .. } | Work::Stream { .. } => {
            simple::measure(plan, subject, client, timing, progress)
        }
        Work::Connections { .. } => connections::measure(plan, subject, client, timing, progress),
        Work::Mixed { .. } => mixed::measure(plan, subject, client, timing, progress),
    };
    let sample = sample.with_context(|| format!("{} on {}", plan.id, subject.name))?;
    Ok(Sample { peer: subject.name.to_owned(), ..sample })
}

/// A load of this plan's requests.
fn load(address: SocketAddr, work: LoadWork, connections: usize, client: &Client, pace: Pace) -> Load {
    Load {
        address,
        work,
        connections,
        threads: client.threads.min(connections),
        cores: client.cores.clone(),
        mode: client.mode,
        pace,
        sources: Vec::new(),
    }
}

/// A GET of `path`.
fn get(address: SocketAddr, path: &str, keep_alive: bool) -> Vec<u8> {
    let close = if keep_alive { "" } else { "Connection: close\r\n" };
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{close}\r\n").into_bytes()
}

/// A sample out of what a load counted and what it cost.
fn sample(tally: &Tally, elapsed: Duration, server: (Cost, Cost), client: (Cost, Cost)) -> Sample {
    Sample {
        elapsed_s: elapsed.as_secs_f64(),
        requests: tally.requests,
        bytes: tally.bytes,
        errors: tally.errors.clone().into_iter().collect(),
        server_cpu_s: server.1.cpu_s - server.0.cpu_s,
        client_cpu_s: client.1.cpu_s - client.0.cpu_s,
        server_memory_peak_bytes: server.1.memory_peak_bytes,
        fairness: (tally.connection_bytes.len() > 1).then(|| tally.fairness()).flatten(),
        latency: tally.latency(),
        ..Sample::default()
    }
}
