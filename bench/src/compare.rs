//! The comparison: every peer does every scenario in turn, A B C, A B C, so that the machine's drift hits all
//! alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::load;
use crate::peer::{self, PeerSetup, RunningPeer, StartError, UploadSetup};
use crate::progress::Progress;
use crate::result::{Absent, PeerFacts, Run, Sample, Scenario};
use crate::scenario::{self, ClientSetup, Measurement, Plan, Serving, Subject, Timing, UploadTo};
use crate::usage::refuse;

/// The bytes by which answer heads may differ in a fair comparison.
const HEAD_BYTES_APART_MAX: u64 = 100;

/// The most counted rounds.
pub const ROUNDS_MAX: usize = 100;

/// The terms of a comparison.
pub struct Options {
    /// The peers by name, in the order of their turns.
    pub peers: Vec<String>,
    /// The number of counted rounds; an uncounted one goes before.
    pub rounds: usize,
    /// The length of each measurement.
    pub timing: Timing,
    /// The set-up of the client.
    pub client: ClientSetup,
    /// The set-up of the peers.
    pub setup: PeerSetup,
    /// The cgroup.procs of the cgroup that slows the slow device.
    pub slow_cgroup: Option<PathBuf>,
    /// The time after which no further measurement is begun.
    pub time_max: Duration,
}

/// The file that marks a work directory as the bench's.
const MARK: &str = ".stream-bench";

/// Makes `directory`, and `root/` in it, or takes those of an earlier run. Files in it are made, replaced and removed
/// by their names, so it has to be the bench's own.
pub fn claim(directory: &Path) -> Result<PathBuf> {
    let named = || directory.display().to_string();
    std::fs::create_dir_all(directory).with_context(named)?;
    let is_empty = std::fs::read_dir(directory).with_context(named)?.next().is_none();
    let mark = directory.join(MARK);
    if !is_empty && !mark.exists() {
        refuse!(
            "--directory {} holds files that may not be the bench's, which replaces and removes files there: take an \
             empty one, or make {} in it",
            directory.display(),
            MARK
        );
    }
    std::fs::OpenOptions::new().append(true).create(true).open(&mark).with_context(named)?;
    std::fs::create_dir_all(directory.join("root")).with_context(named)?;
    directory.canonicalize().with_context(named)
}

/// Runs `plans` on all peers.
pub fn compare(options: &Options, plans: &[Plan]) -> Result<Run> {
    if options.rounds == 0 || options.rounds > ROUNDS_MAX {
        bail!("{} rounds are outside 1 to {ROUNDS_MAX}", options.rounds);
    }
    for name in &options.peers {
        peer::check_name(name).with_context(|| name.clone())?;
    }
    let steps = plans.len() * options.peers.len() * (options.rounds + 1);
    let progress = Progress::new(steps as u64);
    let comparison = Comparison { options, deadline: Instant::now() + options.time_max, progress };
    let mut run = Run::begin(Host::observe(&options.setup.cores, &options.client.cores));
    for serving in Serving::ALL {
        let plans: Vec<&Plan> = plans.iter().filter(|plan| plan.serving() == serving).collect();
        if plans.is_empty() || comparison.must_end() {
            continue;
        }
        match comparison.run_group(&mut run, serving, &plans) {
            // The scenarios that were measured before are shown nevertheless.
            Err(error) if !run.scenarios.is_empty() => {
                run.failure = Some(format!("{error:#}"));
                break;
            }
            ended => ended?,
        }
    }
    run.interrupted = comparison.must_end();
    Ok(run)
}

/// A comparison under way.
struct Comparison<'a> {
    options: &'a Options,
    /// The time after which no measurement is begun.
    deadline: Instant,
    progress: Progress,
}

/// The peers that run, and why the others don't.
struct Started {
    peers: Vec<RunningPeer>,
    unable: Vec<Absent>,
}

impl Comparison<'_> {
    /// Runs the plans that need the same servers.
    fn run_group(&self, run: &mut Run, serving: Serving, plans: &[&Plan]) -> Result<()> {
        let options = self.options;
        let targets: Vec<&UploadTo> = plans.iter().filter_map(|plan| plan.uploads.as_ref()).collect();
        let directories: BTreeSet<&str> = targets.iter().map(|to| to.directory.as_str()).collect();
        let uploads = (serving != Serving::Files).then(|| UploadSetup {
            directories: directories.into_iter().map(str::to_owned).collect(),
            durable: serving == Serving::DurableUploads,
        });
        let setup = PeerSetup { uploads, ..options.setup.clone() };
        let started = self.start_all(&setup, &mut run.absent)?;
        check_heads(plans, &started.peers)?;
        if let Some(procs) = &options.slow_cgroup {
            throttle(procs, &started.peers)?;
        }
        for plan in plans {
            run.scenarios.push(self.run_plan(plan, &started));
            if self.must_end() {
                break;
            }
        }
        for peer in started.peers {
            run.peers.push(PeerFacts { setup: serving.describe().to_owned(), ..peer.facts.clone() });
            peer.stop();
        }
        let names: Vec<&str> = options.peers.iter().map(String::as_str).collect();
        for to in targets {
            if let Err(error) = scenario::tidy_up(&options.setup.root, to, &names) {
                // The measurements count all the same.
                self.progress.say(&format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Starts the peers that are installed. An installed peer that can't be started ends the run before it costs
    /// half an hour, and the others are stopped. Not every server, and not every version of one, supports uploads:
    /// that is a finding.
    fn start_all(&self, setup: &PeerSetup, absent: &mut Vec<Absent>) -> Result<Started> {
        let (mut peers, mut unable) = (Vec::new(), Vec::new());
        for name in &self.options.peers {
            let because = |reason| Absent { name: name.clone(), reason };
            match peer::start(name, setup) {
                Ok(peer) => peers.push(peer),
                Err(StartError::NotInstalled(reason)) => {
                    if absent.iter().all(|known| known.name != *name) {
                        absent.push(because(reason));
                    }
                }
                Err(StartError::Unable(reason)) => unable.push(because(reason)),
                Err(StartError::Failed(reason)) if setup.uploads.is_some() => unable.push(because(reason)),
                Err(StartError::Failed(reason)) => bail!("{name}: {reason}"),
            }
        }
        if peers.is_empty() && unable.is_empty() {
            bail!("none of the peers is installed");
        }
        Ok(Started { peers, unable })
    }

    fn run_plan(&self, plan: &Plan, started: &Started) -> Scenario {
        let (mut samples, mut failed): (_, Vec<&str>) = (Vec::new(), Vec::new());
        let mut left_out = started.unable.clone();
        for round in 0..=self.options.rounds {
            for peer in &started.peers {
                self.progress.step();
                let subject = Subject {
                    name: &peer.facts.name,
                    http: peer.http,
                    frames: peer.frames,
                    control: peer.control,
                    connections_max: peer.connections_max,
                    uploads: peer.uploads,
                    memory_at_start_bytes: peer.memory_at_start_bytes,
                    cost: &|| peer.cost(),
                };
                let is_left_out = left_out.iter().any(|peer| peer.name == subject.name);
                if self.must_end() || is_left_out || failed.contains(&subject.name) {
                    continue;
                }
                if round == 0
                    && let Err(reason) = scenario::can(plan, &subject)
                {
                    left_out.push(Absent { name: subject.name.to_owned(), reason });
                    continue;
                }
                let rounds = self.options.rounds;
                self.progress.say(&format!("{} · round {round} of {rounds} · {}", plan.title, subject.name));
                let measured = self.measure(plan, peer, &subject, round);
                samples.push(measured.unwrap_or_else(|error| {
                    // One peer that can't do the work must not cost the others' results.
                    failed.push(&peer.facts.name);
                    self.progress.say(&format!("{error:#}"));
                    Sample {
                        peer: peer.facts.name.clone(),
                        round,
                        errors: vec![(format!("{error:#}"), 1)],
                        ..Sample::default()
                    }
                }));
            }
        }
        Scenario { id: plan.id.clone(), title: plan.title.clone(), work: plan.work, samples, left_out }
    }

    /// Measures one peer once. Lengths are checked with each answer; digests once a scenario, before the clock
    /// runs.
    fn measure(
        &self,
        plan: &Plan,
        peer: &RunningPeer,
        subject: &Subject<'_>,
        round: usize,
    ) -> Result<Sample> {
        let digests_checked = if round == 0 { verify(plan, peer)? } else { 0 };
        peer.reset_memory_peak();
        let timing = plan.timing(self.options.timing);
        let measurement =
            Measurement { plan, subject, client: &self.options.client, timing, progress: &self.progress };
        let sample = scenario::measure(&measurement);
        if let Some(to) = &plan.uploads {
            scenario::tidy(&self.options.setup.root, to)?;
        }
        let sample = sample?;
        Ok(Sample { round, digests_checked: digests_checked + sample.digests_checked, ..sample })
    }

    fn must_end(&self) -> bool {
        load::was_interrupted() || Instant::now() >= self.deadline
    }
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

/// Checks that the answer heads are of similar length: servers that send longer heads do more work for the same
/// bytes.
fn check_heads(plans: &[&Plan], peers: &[RunningPeer]) -> Result<()> {
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
        // cgroup.procs wants one write for each process.
        std::fs::write(procs, id.to_string()).with_context(|| procs.display().to_string())?;
    }
    Ok(())
}
