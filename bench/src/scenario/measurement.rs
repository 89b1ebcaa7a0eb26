//! A measurement: a plan's load on a server, counted while the clock runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::plan::{Plan, Timing};
use crate::arguments::Common;
use crate::load::{self, Answer, ClientMode, ConnectionWork, Load, Pace, Tally};
use crate::peer::{Cost, UploadSupport, own_cost};
use crate::progress::Progress;
use crate::result::Sample;

/// A plan, with everything that is needed to measure it once.
#[derive(Clone, Copy)]
pub struct Measurement<'a> {
    /// The work.
    pub plan: &'a Plan,
    /// The server that does it.
    pub subject: &'a Subject<'a>,
    /// The client that asks for it.
    pub client: &'a ClientSetup,
    /// The length of each part.
    pub timing: Timing,
    /// The display that shows that time passes.
    pub progress: &'a Progress,
}

/// The server that is measured.
pub struct Subject<'a> {
    /// Its name in samples.
    pub name: &'a str,
    /// The address of its HTTP port.
    pub http: SocketAddr,
    /// The address that takes frames.
    pub frames: Option<SocketAddr>,
    /// The address that takes POST /stream.
    pub control: Option<SocketAddr>,
    /// The most connections that it takes, as far as is known.
    pub connections_max: u64,
    /// Its support of uploads.
    pub uploads: UploadSupport,
    /// Its memory before its first load: memory that it keeps of former loads isn't free for the next.
    pub memory_at_start_bytes: u64,
    /// A function that returns its cost so far.
    pub cost: &'a dyn Fn() -> Cost,
}

/// The set-up of the client.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The most client threads; there are fewer where there are fewer connections.
    pub threads: usize,
    /// The cores of those threads.
    pub cores: Vec<usize>,
    /// The use that is made of bodies.
    pub mode: ClientMode,
}

impl ClientSetup {
    /// Takes the set-up from the command line.
    pub fn of(common: &Common) -> ClientSetup {
        ClientSetup { threads: common.threads, cores: common.client_cores.clone(), mode: common.client_mode }
    }
}

/// The counts of a load, and its costs while the clock ran.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    elapsed: Duration,
    before: Costs,
    after: Costs,
}

/// The costs of both sides up to one moment.
struct Costs {
    server: Cost,
    client: Cost,
}

impl Measurement<'_> {
    /// Makes a load on `address`, from connections that the kernel gives their source addresses.
    pub(super) fn load(
        &self,
        address: SocketAddr,
        work: ConnectionWork,
        connections: usize,
        pace: Pace,
    ) -> Load {
        Load {
            address,
            work,
            connections,
            threads: self.client.threads.min(connections),
            cores: self.client.cores.clone(),
            mode: self.client.mode,
            pace,
            sources: Vec::new(),
        }
    }

    /// Makes a load of requests for the first of the plan's files, over connections that stay.
    pub(super) fn hot_load(&self, connections: usize, pace: Pace) -> Result<Load> {
        let [hot, ..] = self.plan.files.as_slice() else { bail!("{} needs a hot file", self.plan.id) };
        let requests = Arc::new([(self.get(&hot.url_path, true), Answer::Body { bytes: hot.bytes })]);
        let work = ConnectionWork::Requests { requests, keep_alive: true };
        Ok(self.load(self.subject.http, work, connections, pace))
    }

    /// Returns the head of a GET of `path`.
    pub(super) fn get(&self, path: &str, keep_alive: bool) -> Vec<u8> {
        let close = if keep_alive { "" } else { "Connection: close\r\n" };
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{close}\r\n", self.subject.http).into_bytes()
    }

    /// Runs `load` for the warm-up, uncounted, and then for the measurement's duration. Costs are taken right when
    /// the clock starts and right when it stops, so that they cover the same time.
    pub(super) fn run(&self, load: &Load) -> Result<Outcome> {
        let running = load::start(load).context("starting the load")?;
        std::thread::park_timeout(self.timing.warm_up);
        let before = self.costs();
        let elapsed = running.count(self.timing.duration, self.progress);
        let after = self.costs();
        Ok(Outcome { tally: running.stop()?, elapsed, before, after })
    }

    fn costs(&self) -> Costs {
        Costs { server: (self.subject.cost)(), client: own_cost() }
    }
}

impl Outcome {
    /// Returns the sample for the results.
    pub(super) fn sample(&self) -> Sample {
        let Outcome { tally, elapsed, before, after } = self;
        Sample {
            elapsed_s: elapsed.as_secs_f64(),
            requests: tally.requests,
            bytes: tally.bytes,
            errors: tally.errors.clone().into_iter().collect(),
            server_cpu_s: after.server.cpu_s - before.server.cpu_s,
            client_cpu_s: after.client.cpu_s - before.client.cpu_s,
            server_memory_peak_bytes: after.server.memory_peak_bytes,
            fairness: (tally.connection_bytes.len() > 1).then(|| tally.fairness()).flatten(),
            latency: tally.latency(),
            ..Sample::default()
        }
    }
}
