//! Arguments to a measurement to a table, a file and an exit code.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use stream_bench::arguments::{Arguments, Command, CompareArguments, ReportArguments, Set};
use stream_bench::result::{Run, Sample};
use stream_bench::scenario::standard::{self, PutDirectory};
use stream_bench::scenario::{Client, Plan, Timing};
use stream_bench::{compare, load, peer, report, single};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "stream-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    listen_to_interrupts()?;
    match command {
        Command::Pull(arguments) => show(&single::pull(arguments)?, arguments.common.json.as_deref()),
        Command::Push(arguments) => show(&single::push(arguments)?, arguments.common.json.as_deref()),
        Command::Stream(arguments) => show(&single::stream(arguments)?, arguments.common.json.as_deref()),
        Command::Connections(arguments) => {
            show(&single::connections(arguments)?, arguments.common.json.as_deref())
        }
        Command::Mixed(arguments) => show(&single::mixed(arguments)?, arguments.common.json.as_deref()),
        Command::Compare(arguments) => show(&run_set(arguments)?, arguments.common.json.as_deref()),
        Command::Report(arguments) => write_page(arguments),
        Command::CeilingServer(arguments) => {
            peer::ceiling::serve_ceiling(arguments.listen, arguments.push_listen, &arguments.root)
        }
    }
}

/// From now on Ctrl-C ends the measurement instead of the process; what was measured is still shown.
fn listen_to_interrupts() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listen = move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            load::INTERRUPTED.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(listen)
        .map(drop)
        .context("listening to Ctrl-C")
}

fn show(run: &Run, json: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        let text = serde_json::to_vec_pretty(run)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    std::io::stdout().write_all(report::tables(run).as_bytes())?;
    // What a peer can't do is a finding, which the page names; a run fails with the server that it is about.
    let subject = run.peers.first().map(|peer| peer.name.as_str());
    let is_subject = |sample: &Sample| subject.is_none_or(|subject| sample.peer == subject);
    if let Some(what) = failures(run, |sample| !is_subject(sample)) {
        writeln!(std::io::stderr(), "stream-bench: peers: {what}")?;
    }
    match failures(run, is_subject) {
        None => Ok(()),
        Some(what) => bail!("{what}"),
    }
}

/// What went wrong, most frequent first.
fn failures(run: &Run, concerns: impl Fn(&Sample) -> bool) -> Option<String> {
    let mut counts = BTreeMap::<&str, u64>::new();
    let samples = run.scenarios.iter().flat_map(|scenario| &scenario.samples);
    let samples = samples.filter(|sample| concerns(sample));
    for (what, count) in samples.flat_map(|sample| &sample.errors) {
        *counts.entry(what).or_default() += count;
    }
    let failed: u64 = counts.values().sum();
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let list: Vec<_> = counts.iter().map(|(what, count)| format!("{what} ({count})")).collect();
    (failed > 0).then(|| format!("{failed} requests failed: {}", list.join(", ")))
}

fn write_page(arguments: &ReportArguments) -> Result<()> {
    let runs = arguments.results.iter().map(|path| report::read(path)).collect::<Result<Vec<_>, _>>()?;
    std::fs::write(&arguments.output, report::page(&runs)?)
        .with_context(|| arguments.output.display().to_string())
}

/// Counted rounds of a set, and the timing of each measurement.
fn extent(set: Set) -> (usize, Timing) {
    let timing = |warm_up_ms, duration_ms| Timing {
        warm_up: Duration::from_millis(warm_up_ms),
        duration: Duration::from_millis(duration_ms),
    };
    match set {
        Set::Quick => (1, timing(200, 300)),
        Set::Full => (5, timing(300, 1000)),
    }
}

fn run_set(arguments: &CompareArguments) -> Result<Run> {
    let (rounds, timing) = extent(arguments.set);
    let root = arguments.directory.join("root");
    std::fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    let root = root.canonicalize()?;
    let put_directories = arguments.put_directory.iter().map(|name| PutDirectory::look(&root, name));
    let put_directories = put_directories.collect::<Result<Vec<_>>>()?;
    let plans: Vec<Plan> = standard::outlines(arguments.slow.as_deref(), &put_directories)
        .into_iter()
        .filter(|outline| arguments.only.as_deref().is_none_or(|text| outline.id.contains(text)))
        .map(|outline| outline.plan(&root, arguments.slow.as_deref()))
        .collect::<Result<_>>()?;
    if plans.is_empty() {
        bail!("no scenario's id contains {:?}", arguments.only.as_deref().unwrap_or_default());
    }
    let common = &arguments.common;
    let options = compare::Options {
        peers: arguments.peers.clone(),
        rounds: arguments.rounds.unwrap_or(rounds),
        timing,
        client: Client::of(common),
        setup: peer::Setup {
            root,
            work_directory: arguments.directory.canonicalize()?,
            cores: arguments.server_cores.clone(),
            workers: arguments.workers,
            streamd: arguments.streamd.clone(),
            streamd_before: arguments.streamd_before.clone(),
            streamd_arguments: Vec::new(),
            uploads: None,
        },
        slow_cgroup: arguments.slow_cgroup.clone(),
        time_max: Duration::from_secs(arguments.time_max * 60),
    };
    compare::compare(&options, &plans)
}
