//! The program: arguments become settings, settings a running daemon, and its end an exit code.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use streamd::config::{
    Arguments, ConfigError, Exposure, Fault, Live, Loaded, Reach, Settings, advice, check_directories, load,
    load_adjusted, printed, thread_remedy,
};
use streamd::host::{self, Unfit};
use streamd::sandbox::{Sandbox, SandboxError};
use streamd::systemd::{self, Addresses, PassedSockets, SocketError, Supervisor};
use streamd::telemetry::logging::Logging;
use streamd::{Daemon, DaemonError, decision, sys};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

/// The exit code where the port is taken, the driver refused, a worker died, or a second signal ended the drain.
const EXIT_FAILURE: u8 = 1;
/// The exit code of a bad configuration (sysexits.h EX_CONFIG): starting again won't help before somebody mends
/// it.
const EXIT_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    sys::ignore_file_size_signal();
    let arguments = Arguments::from_process();
    let result = if arguments.check || arguments.print_config { look(&arguments) } else { run(&arguments) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.message.lines() {
                let _ = writeln!(std::io::stderr(), "streamd: {line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

struct Failure {
    message: String,
    code: u8,
    errno: Option<i32>,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure { message: error.to_string(), code: EXIT_CONFIGURATION, errno: None }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Failure {
        let code = if error.is_configuration() { EXIT_CONFIGURATION } else { EXIT_FAILURE };
        Failure { message: error.to_string(), code, errno: error.errno() }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Failure {
        let code = if unfit.is_configuration() { EXIT_CONFIGURATION } else { EXIT_FAILURE };
        Failure { message: unfit.to_string(), code, errno: None }
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Failure {
        failed(error)
    }
}

/// Makes a failure of the moment.
fn failed(error: impl ToString) -> Failure {
    Failure { message: error.to_string(), code: EXIT_FAILURE, errno: None }
}

/// Shows the settings, or checks them and the host.
fn look(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = load(arguments)?;
    let live = Live::new(loaded.settings.clone())?;
    if arguments.print_config {
        return print(&printed(&loaded));
    }
    // The advice comes before the sandbox hides the files that it looks at.
    let warnings = [&loaded.warnings[..], &advice(&live)].concat();
    if arguments.strict && !warnings.is_empty() {
        return Err(ConfigError::Faults(warnings).into());
    }
    let sandbox = Sandbox::enter(&live.settings, arguments.config_file())?;
    print(&read_report(&loaded, arguments, &warnings))?;
    if let Some(path) = &arguments.path {
        let decided = decision::of_path(&live, path);
        return print(&decided.map_err(|error| failed(format!("--path {path}: {error}")))?);
    }
    print(&(decision::shares(&live) + &decision::listeners(&live)))?;
    check(&live, &sandbox)
}

/// Runs the daemon to its end.
fn run(arguments: &Arguments) -> Result<(), Failure> {
    sys::bound_heap();
    let mut supervisor = Supervisor::from_environment();
    let result = run_supervised(arguments, &mut supervisor);
    if let Err(Failure { message, errno, .. }) = &result {
        supervisor.failed(message, *errno);
    }
    result
}

fn run_supervised(arguments: &Arguments, supervisor: &mut Supervisor) -> Result<(), Failure> {
    let (mut passed, mut addresses) = (PassedSockets::default(), Addresses::default());
    let loaded = load_adjusted(arguments, Reach::Everything, |settings| {
        let fault = |error: SocketError| Fault::new("socket activation", error.to_string());
        (passed, addresses) = passed_sockets(settings).map_err(fault)?;
        addresses.win_over(settings);
        Ok(())
    });
    let loaded = loaded.and_then(|loaded| Ok((Live::new(loaded.settings)?, loaded.warnings)));
    let (live, warnings) = loaded.map_err(|error| refused_with(&passed, error))?;
    // The sandbox comes before the first thread starts: each thread inherits what its starter has given up.
    let sandbox = Sandbox::enter(&live.settings, arguments.config_file())?;
    // Root may have read them by a capability that is gone now.
    check_directories(&live.settings, sandbox.reach())?;
    let logging = install_logging(&live.settings, &sandbox)?;
    log_warnings(&warnings);
    if let Some(warning) = host::raise_open_files(&live.settings)? {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| failed(format!("the event loop for signals can't be set up: {error}")))?;
    // Signals are listened to before the daemon says that it listens: a program that waits for that may send a
    // signal at once.
    let signals = {
        let _entered = runtime.enter();
        Signals::listen().map_err(|error| failed(format!("signals can't be listened to: {error}")))?
    };
    let daemon = Daemon::start_on(passed, live, logging.queue(), &sandbox)?;
    sandbox.log();
    supervisor.ready(daemon.telemetry());
    let sources = Sources { arguments, addresses, logging: &logging, reach: sandbox.reach() };
    runtime.block_on(supervise(daemon, signals, &sources, supervisor))
}

/// Starts the log's thread, which is started before anything is bound and never binds, from a thread that has
/// given up the rights that binding takes.
fn install_logging(settings: &Settings, sandbox: &Sandbox) -> Result<Logging, Failure> {
    let install = || {
        sandbox.after_binding()?;
        Logging::install(settings.log_format, settings.log_level).map_err(failed)
    };
    let no_thread = |error: std::io::Error| {
        let remedy = thread_remedy(&error);
        failed(format!("a thread for the log can't be started: {error}{remedy}"))
    };
    thread::scope(|scope| {
        let installer = thread::Builder::new().spawn_scoped(scope, install).map_err(no_thread)?;
        installer.join().unwrap_or_else(|_| Err(failed("the log could not be installed")))
    })
}

/// Adds to a fault of the settings that passed sockets win over their addresses: whoever mends a fault of an
/// address must know that the settings aren't its source.
fn refused_with(passed: &PassedSockets, error: ConfigError) -> Failure {
    let mut failure = Failure::from(error);
    if passed.planes() != "none" {
        failure.message += "\nthe addresses of passed sockets (ListenStream= of the socket unit) win over ";
        failure.message += "data_listen and control_listen";
    }
    failure
}

/// Returns the sockets that a service manager passed, and their addresses.
fn passed_sockets(settings: &Settings) -> Result<(PassedSockets, Addresses), SocketError> {
    let names = systemd::announced()?;
    let count = names.len();
    let descriptors =
        sys::passed_descriptors(count).map_err(|reason| SocketError::Descriptors { count, reason })?;
    PassedSockets::assign(names, descriptors, settings)
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(failed)
}

/// Returns the lines of `--check` about the settings that it has read.
fn read_report(loaded: &Loaded, arguments: &Arguments, warnings: &[Fault]) -> String {
    let named = arguments.config_file().display();
    let file =
        loaded.file.as_ref().map_or_else(|| format!("none: there is no {named}"), |_| named.to_string());
    let mut text = "configuration  good\n".to_owned();
    for warning in warnings {
        text += &format!("               warning: {warning}\n");
    }
    text + &format!("{:<15}{file}\n", "file")
}

fn check(live: &Live, sandbox: &Sandbox) -> Result<(), Failure> {
    let settings = &live.settings;
    let (report, works) = host::report(settings);
    print(&format!("{report}{}", sandbox.report()))?;
    for (what, who) in Exposure::of(live).parts() {
        print(&format!("{what:<15}{who}\n"))?;
    }
    // This is no failure: root asks for a service that another user runs.
    if let Err(error) = check_directories(settings, sandbox.reach()) {
        for fault in error.to_string().lines() {
            print(&format!("               warning: {fault}\n"))?;
        }
    }
    works.map_err(Failure::from)
}

fn log_warnings(warnings: &[Fault]) {
    for warning in warnings {
        tracing::warn!(%warning, "a name of a setting is not, or not for long, one that is read");
    }
}

/// The signals that the daemon listens to.
struct Signals {
    stop: StopSignals,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        let stop = StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(Signals { stop, hangup: signal(SignalKind::hangup())? })
    }
}

/// The signals that end the daemon.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The sources of the settings, and the parts besides the daemon that a reload changes.
struct Sources<'a> {
    arguments: &'a Arguments,
    addresses: Addresses,
    logging: &'a Logging,
    reach: Reach,
}

/// Watches over the daemon until a signal or a dead worker ends it.
async fn supervise(
    mut daemon: Daemon,
    signals: Signals,
    sources: &Sources<'_>,
    supervisor: &mut Supervisor,
) -> Result<(), Failure> {
    let Signals { mut stop, mut hangup } = signals;
    let mut turns = tokio::time::interval(supervisor.turn_interval());
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.recv() => break,
            _ = hangup.recv() => {
                supervisor.reloading();
                let is_refused = !reload(&daemon, sources);
                supervisor.reloaded(is_refused, daemon.telemetry());
            }
            _ = turns.tick() => supervisor.turn(daemon.telemetry()),
            ended = daemon.worker_ended() => {
                let number = ended.map_or(0, |worker| worker.0);
                tracing::error!(worker = number, "a worker ended");
                return Err(failed(format!("worker {number} ended; the log says why")));
            }
        }
    }
    supervisor.stopping(daemon.telemetry());
    drain(daemon, stop, supervisor, turns).await
}

/// Drains on a thread of its own, so that a second signal is heard.
async fn drain(
    daemon: Daemon,
    mut stop: StopSignals,
    supervisor: &mut Supervisor,
    mut turns: Interval,
) -> Result<(), Failure> {
    let telemetry = Arc::clone(daemon.telemetry());
    let (done, mut drained) = oneshot::channel();
    let (hand_over, handed) = std::sync::mpsc::channel::<Daemon>();
    let drained_aside = thread::Builder::new().name("streamd-drain".to_owned()).spawn(move || {
        if let Ok(daemon) = handed.recv() {
            daemon.drain();
        }
        let _ = done.send(());
    });
    if let Err(error) = drained_aside {
        tracing::warn!(%error, "no thread to drain on: further signals are not heard");
        daemon.drain();
        return Ok(());
    }
    if let Err(unsent) = hand_over.send(daemon) {
        unsent.0.drain();
    }
    loop {
        tokio::select! {
            _ = &mut drained => return Ok(()),
            () = stop.recv() => return Err(failed("a second signal ended the drain")),
            _ = turns.tick() => supervisor.turn(&telemetry),
        }
    }
}

/// Puts new settings in force; keeps the old ones, and returns false, where the new are bad.
fn reload(daemon: &Daemon, sources: &Sources<'_>) -> bool {
    let adjust = |settings: &mut Settings| {
        sources.addresses.win_over(settings);
        Ok(())
    };
    let new = load_adjusted(sources.arguments, sources.reach, adjust);
    let new = new.and_then(|loaded| Ok((Live::within(sources.reach, loaded.settings)?, loaded.warnings)));
    let (new, warnings) = match new {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "reload refused: the old settings stay in force");
            return false;
        }
    };
    if let Err(error) = sources.logging.set_level(new.settings.log_level) {
        tracing::error!(error, "the log level could not be changed");
    }
    log_warnings(&warnings);
    for setting in daemon.reload(new) {
        tracing::warn!(setting, "needs restart");
    }
    tracing::info!("reloaded");
    true
}
