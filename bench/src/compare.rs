//! Every peer does every scenario in turn: A B C, A B C, so that the machine's drift hits all alike.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::load::INTERRUPTED;
use crate::peer::{self, RunningPeer, Setup, StartError};
use crate::progress::Progress;
use crate::result::{Absent, FORMAT_VERSION, Run, Sample, Scenario};
use crate::scenario::{self, Client, Plan, Subject, Timing};

/// Bytes by which answer heads may differ in a fair comparison.
const HEAD_BYTES_APART_MAX: u64 = 100;

/// Most counted rounds.
pub const ROUNDS_MAX: usize = 100;

/// What is compared, and how.
pub struct Options {
    /// Peers by name, in the order of their turns.
    pub peers: Vec<String>,
    /// Counted rounds; one uncounted goes before.
    pub rounds: usize,
    /// How long each measurement lasts.
    pub timing: Timing,
    /// How the client is set up.
    pub client: Client,
    /// How the peers are set up.
    pub setup: Setup,
    /// The cgroup.procs of the cgroup that slows the slow device.
    pub slow_cgroup: Option<PathBuf>,
    /// Time after which no further measurement is begun.
    pub time_max: Duration,
}

/// Runs `plans` on all peers.
pub fn compare(options: &Options, plans: &[Plan]) -> Result<Run> {
    if options.rounds == 0 || options.rounds > ROUNDS_MAX {
        bail!("{} rounds are outside 1 to {ROUNDS_MAX}", options.rounds);
    }
    let (peers, absent) = start_all(options)?;
    if peers.is_empty() {
        bail!("none of the peers is installed");
    }
    check_heads(plans, &peers)?;
    if let Some(procs) = &options.slow_cgroup {
        throttle(procs, &peers)?;
    }
    let steps = plans.len() * peers.len() * (options.rounds + 1);
    let progress = Progress::new(steps as u64);
    let deadline = Instant::now() + options.time_max;
    let mut scenarios = Vec::new();
    for plan in plans {
        let samples = run_plan(plan, &peers, options, deadline, &progress);
        scenarios.push(Scenario { id: plan.id.clone(), title: plan.title.clone(), work: plan.work, samples });
        if must_end(deadline) {
            break;
        }
    }
    let run = Run {
        format_version: FORMAT_VERSION,
        started: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        command_line: std::env::args().collect(),
        host: Host::observe(&options.setup.cores, &options.client.cores),
        peers: peers.iter().map(|peer| peer.facts.clone()).collect(),
        absent,
        interrupted: must_end(deadline),
        scenarios,
    };
    peers.into_iter().for_each(RunningPeer::stop);
    Ok(run)
}

/// Starts the peers that are installed. One that is and can't be started ends the run before it costs half an
/// hour; the others are stopped then.
fn start_all(options: &Options) -> Result<(Vec<RunningPeer>, Vec<Absent>)> {
    let (mut peers, mut absent) = (Vec::new(), Vec::new());
    for name in &options.peers {
        match peer::start(name, &options.setup) {
            Ok(peer) => peers.push(peer),
            Err(StartError::NotInstalled(reason)) => absent.push(Absent { name: name.clone(), reason }),
            Err(StartError::Failed(reason)) => bail!("{name}: {reason}"),
        }
    }
    Ok((peers, absent))
}

fn run_plan(
    plan: &Plan,
    peers: &[RunningPeer],
    options: &Options,
    deadline: Instant,
    progress: &Progress,
) -> Vec<Sample> {
    let (mut samples, mut failed): (_, Vec<&str>) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        for peer in peers {
            progress.step();
            let subject = Subject {
                name: &peer.facts.name,
                http: peer.http,
                frames: peer.frames,
                control: peer.control,
                connections_max: peer.connections_max,
                memory_at_start_bytes: peer.memory_at_start_bytes,
                cost: &|| peer.cost(),
            };
            if must_end(deadline) || !scenario::can(&plan.work, &subject) {
                continue;
            }
            progress.say(&format!("{} · round {round} of {} · {}", plan.title, options.rounds, subject.name));
            if failed.contains(&subject.name) {
                continue;
            }
            let measured = measure(plan, peer, &subject, round, options, progress);
            samples.push(measured.unwrap_or_else(|error| {
                // One peer that can't do it must not cost the others' results.
                failed.push(&peer.facts.name);
                progress.say(&format!("{error:#}"));
                Sample {
                    peer: peer.facts.name.clone(),
                    round,
                    errors: vec![(format!("{error:#}"), 1)],
                    ..Sample::default()
                }
            }));
        }
    }
    samples
}

/// Lengths are checked with each answer; digests once a scenario, before the clock runs.
fn measure(
    plan: &Plan,
    peer: &RunningPeer,
    subject: &Subject<'_>,
    round: usize,
    options: &Options,
    progress: &Progress,
) -> Result<Sample> {
    let digests_checked = if round == 0 { verify(plan, peer)? } else { 0 };
    peer.reset_memory_peak();
    let timing = plan.timing(options.timing);
    let sample = scenario::measure(plan, subject, &options.client, timing, progress)?;
    Ok(Sample { round, digests_checked, ..sample })
}

/// Compares the bytes of each hot file with their source, before the clock runs; returns how many.
fn verify(plan: &Plan, peer: &RunningPeer) -> Result<u64> {
    let mut checked = 0;
    for fixture in plan.files.iter().filter_map(|file| file.source.as_ref()) {
        let name = fixture.url_path.trim_start_matches('/');
        peer.verify(name, fixture.expected.bytes, &fixture.expected.sha256)?;
        checked += 1;
    }
    Ok(checked)
}

/// Servers that send longer heads do more work for the same bytes.
fn check_heads(plans: &[Plan], peers: &[RunningPeer]) -> Result<()> {
    let Some(file) = plans.iter().flat_map(|plan| &plan.files).find(|file| file.source.is_some()) else {
        return Ok(());
    };
    let name = file.url_path.trim_start_matches('/');
    let heads = peers.iter().map(|peer| peer.head_bytes(name)).collect::<Result<Vec<_>>>()?;
    let (least, most) = (heads.iter().min().copied().unwrap_or(0), heads.iter().max().copied().unwrap_or(0));
    if most - least > HEAD_BYTES_APART_MAX {
        bail!("the peers' answer heads have {least} to {most} bytes: more than {HEAD_BYTES_APART_MAX} apart");
    }
    Ok(())
}

/// Puts the peers' processes into a cgroup whose reads from the slow device are throttled.
fn throttle(procs: &Path, peers: &[RunningPeer]) -> Result<()> {
    for id in peers.iter().flat_map(RunningPeer::process_ids) {
        // One write for each process, as cgroup.procs wants it.
        std::fs::write(procs, id.to_string()).with_context(|| procs.display().to_string())?;
    }
    Ok(())
}

fn must_end(deadline: Instant) -> bool {
    INTERRUPTED.load(Ordering::Relaxed) || Instant::now() >= deadline
}
