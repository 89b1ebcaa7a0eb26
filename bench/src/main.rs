//! The program: arguments become a measurement, and that a table, a file and an exit code.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use stream_bench::arguments::{Arguments, Command, Common, CompareArguments, ReportArguments, Set};
use stream_bench::judge::judge;
use stream_bench::output::Output;
use stream_bench::result::{Run, Sample};
use stream_bench::scenario::standard::{self, PutDirectory};
use stream_bench::scenario::{ClientSetup, Plan, Timing};
use stream_bench::usage::UsageError;
use stream_bench::{compare, load, peer, report, single};

/// The exit code of a command line that can't be carried out, as clap's.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "stream-bench: {error:#}");
            if error.is::<UsageError>() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: &Command) -> Result<()> {
    judge(command)?;
    listen_to_interrupts()?;
    match command {
        Command::Pull(arguments) => measure(&arguments.common, || single::pull(arguments)),
        Command::Push(arguments) => measure(&arguments.common, || single::push(arguments)),
        Command::Stream(arguments) => measure(&arguments.common, || single::stream(arguments)),
        Command::Connections(arguments) => measure(&arguments.common, || single::connections(arguments)),
        Command::Mixed(arguments) => measure(&arguments.common, || single::mixed(arguments)),
        Command::Compare(arguments) => measure(&arguments.common, || run_set(arguments)),
        Command::Report(arguments) => write_page(arguments),
        Command::CeilingServer(arguments) => {
            peer::ceiling::serve_ceiling(arguments.listen, arguments.push_listen, &arguments.root)
        }
    }
}

/// Makes Ctrl-C and SIGTERM end the measurement from now on instead of the process; its results so far are still
/// shown.
fn listen_to_interrupts() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listen = move || {
        let wait = async {
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            std::io::Result::Ok(())
        };
        if runtime.block_on(wait).is_ok() {
            load::INTERRUPTED.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(listen)
        .map(drop)
        .context("listening to Ctrl-C")
}

/// Opens the result file before anything is measured, and shows the result however the rest ends.
fn measure(common: &Common, run: impl FnOnce() -> Result<Run>) -> Result<()> {
    let json = common.json.as_deref().map(Output::prepare).transpose()?;
    show(&run()?, json)
}

fn show(run: &Run, json: Option<Output>) -> Result<()> {
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(report::tables(run).as_bytes()).and_then(|()| stdout.flush());
    let written = json.map_or(Ok(()), |json| json.write(&serde_json::to_vec_pretty(run)?));
    // A failure of a peer is a finding, which the page names; a run fails with the server that it is about.
    let subject = run.peers.first().map(|peer| peer.name.as_str());
    let is_subject = |sample: &Sample| subject.is_none_or(|subject| sample.peer == subject);
    if let Some(what) = failures(run, |sample| !is_subject(sample)) {
        writeln!(std::io::stderr(), "stream-bench: peers: {what}")?;
    }
    let faults = [
        written.err().map(|error| format!("{error:#}")),
        printed.err().map(|error| format!("the table can't be printed: {error}")),
        run.failure.clone(),
        failures(run, is_subject),
    ];
    let faults: Vec<_> = faults.into_iter().flatten().collect();
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}

/// Describes the failures, most frequent first.
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
    let output = Output::prepare(&arguments.output)?;
    let runs = arguments.results.iter().map(|path| report::read(path)).collect::<Result<Vec<_>, _>>()?;
    output.write(report::page(&runs)?.as_bytes())
}

/// Returns the counted rounds of a set, and the timing of each measurement.
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
    let root = compare::claim(&arguments.directory)?.join("root");
    let put_directories = arguments.put_directory.iter().map(|name| PutDirectory::look(&root, name));
    let put_directories = put_directories.collect::<Result<Vec<_>>>()?;
    let plans: Vec<Plan> = standard::outlines(arguments.slow.as_deref(), &put_directories)
        .into_iter()
        .filter(|outline| arguments.only.as_deref().is_none_or(|text| outline.id.contains(text)))
        .map(|outline| outline.plan(&root, arguments.slow.as_deref()))
        .collect::<Result<_>>()?;
    if plans.is_empty() {
        let only = arguments.only.as_deref().unwrap_or_default();
        bail!(UsageError(format!("no scenario's id contains {only:?}")));
    }
    let common = &arguments.common;
    let options = compare::Options {
        peers: arguments.peers.clone(),
        rounds: arguments.rounds.unwrap_or(rounds),
        timing,
        client: ClientSetup::of(common),
        setup: peer::PeerSetup {
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
