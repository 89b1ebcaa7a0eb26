//! A scenario: one piece of work that every server does alike, and how it is measured once.

mod connections;
mod mixed;
mod mixed_put;
mod put;
mod simple;
pub mod standard;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arguments::Common;
use crate::fixture::Fixture;
use crate::load::{Answer, ClientMode, Load, Pace, Tally, Work as LoadWork};
use crate::peer::{Cost, Uploads};
use crate::progress::Progress;
use crate::result::{Sample, Work};
use crate::usage::refuse;

pub use put::{NewNames, UploadTo, tidy, tidy_up};

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
    /// Where it uploads to.
    pub uploads: Option<UploadTo>,
}

/// Times as long as the others that a measurement beside a slow device takes: in a second some of 64 pulls get nothing
/// from one of 50 MiB/s.
const SLOW_DURATION_FACTOR: u32 = 4;

/// Times as long as the others that uploads take, which count as a whole: the largest take about a second.
const UPLOAD_DURATION_FACTOR: u32 = 2;

/// What servers are set up for. Each kind has servers of its own, so that what one needs costs another nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Files, frames and streams: reading alone.
    Files,
    /// Uploads, answered when they have their name.
    Uploads,
    /// Uploads, answered when they are on the disk.
    DurableUploads,
}

impl Serving {
    /// All, in the order of their turns.
    pub const ALL: [Serving; 3] = [Serving::Files, Serving::Uploads, Serving::DurableUploads];

    /// What is said of servers that are set up so.
    pub fn describe(self) -> &'static str {
        match self {
            Serving::Files => "",
            Serving::Uploads => "uploads",
            Serving::DurableUploads => "uploads, synced",
        }
    }
}

impl Plan {
    /// What servers must be set up for.
    pub fn serving(&self) -> Serving {
        match self.work {
            Work::Put { durable: true, .. } => Serving::DurableUploads,
            Work::Put { .. } | Work::MixedPut { .. } => Serving::Uploads,
            _ => Serving::Files,
        }
    }

    /// What of a set's timing this plan needs.
    pub fn timing(&self, set: Timing) -> Timing {
        let factor = match self.work {
            Work::Mixed { cold_pulls: 1.., .. } | Work::MixedPut { uploads: 1.., .. } => SLOW_DURATION_FACTOR,
            Work::Put { .. } => UPLOAD_DURATION_FACTOR,
            _ => 1,
        };
        Timing { duration: set.duration * factor, ..set }
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
    /// Where it lies, where that is this host and known.
    pub path: Option<PathBuf>,
}

impl From<Fixture> for File {
    fn from(fixture: Fixture) -> File {
        File {
            url_path: fixture.url_path.clone(),
            bytes: fixture.expected.bytes,
            path: Some(fixture.path.clone()),
            source: Some(fixture),
        }
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
    /// What it does with uploads.
    pub uploads: Uploads,
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
            refuse!("--warm-up {warm_up} is outside 0 to {WARM_UP_S_MAX} seconds");
        }
        if !(duration > 0.0 && duration <= DURATION_S_MAX) {
            refuse!("--duration {duration} is outside 0 to {DURATION_S_MAX} seconds");
        }
        Ok(Timing { warm_up: Duration::from_secs_f64(warm_up), duration: Duration::from_secs_f64(duration) })
    }
}

/// Whether `subject` can do this work at all, or why not.
pub fn can(plan: &Plan, subject: &Subject<'_>) -> Result<(), String> {
    let unless = |can: bool, reason: &str| if can { Ok(()) } else { Err(reason.to_owned()) };
    match plan.work {
        Work::Push { .. } => unless(subject.frames.is_some(), "takes no frames"),
        Work::Stream { .. } => unless(subject.control.is_some(), "has no control plane"),
        Work::Connections { connections, .. } => {
            // One more for the probe.
            let most = subject.connections_max;
            unless(most > connections as u64, &format!("takes {most} connections at most"))
        }
        Work::Pull { .. } | Work::Mixed { .. } => Ok(()),
        Work::Put { .. } | Work::MixedPut { .. } => put::can(plan, subject),
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
        Work::Put { .. } => put::measure(plan, subject, client, timing, progress),
        Work::MixedPut { .. } => mixed_put::measure(plan, subject, client, timing, progress),
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

/// Requests for the first of this plan's files, over connections that stay.
fn hot_load(
    plan: &Plan,
    subject: &Subject<'_>,
    connections: usize,
    client: &Client,
    pace: Pace,
) -> Result<Load> {
    let [hot, ..] = plan.files.as_slice() else { bail!("{} needs a hot file", plan.id) };
    let requests = Arc::new([(get(subject.http, &hot.url_path, true), Answer::Body { bytes: hot.bytes })]);
    let work = LoadWork::Requests { requests, keep_alive: true };
    Ok(load(subject.http, work, connections, client, pace))
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
