//! Arguments to settings to a running daemon to an exit code.

use std::io::Write;
use std::process::ExitCode;
use std::thread;

use streamd::config::{Arguments, ConfigError, Live, Settings, load};
use streamd::telemetry::logging::Logging;
use streamd::{Daemon, host};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The port is taken, the driver refused, a worker died, a second signal ended the drain.
const EXIT_FAILURE: u8 = 1;
/// sysexits.h EX_CONFIG: starting again won't help before somebody mends the configuration.
const EXIT_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    match run(&Arguments::from_process()) {
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
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure { message: error.to_string(), code: EXIT_CONFIGURATION }
    }
}

/// A failure of the moment.
fn failed(error: impl ToString) -> Failure {
    Failure { message: error.to_string(), code: EXIT_FAILURE }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = load(arguments)?;
    let live = Live::new(settings.clone())?;
    if arguments.print_config {
        return print(&toml::to_string(&settings).map_err(failed)?);
    }
    if arguments.check {
        return check(&settings);
    }
    let logging = Logging::install(settings.log_format, settings.log_level).map_err(failed)?;
    if let Some(warning) = host::raise_open_files(&settings) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // Before the daemon says that it listens: whoever waits for that may send a signal at once.
    let signals = {
        let _entered = runtime.enter();
        Signals::listen().map_err(failed)?
    };
    let daemon = Daemon::start(live, logging.queue()).map_err(|error| Failure {
        code: if error.is_configuration() { EXIT_CONFIGURATION } else { EXIT_FAILURE },
        message: error.to_string(),
    })?;
    runtime.block_on(supervise(daemon, signals, arguments, &logging))
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(failed)
}

fn check(settings: &Settings) -> Result<(), Failure> {
    let (report, works) = host::report(settings);
    print(&format!("configuration  good\n{report}"))?;
    if works { Ok(()) } else { Err(failed("the settings can't work on this host")) }
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

/// Watches over the daemon until a signal or a dead worker ends it.
async fn supervise(
    mut daemon: Daemon,
    signals: Signals,
    arguments: &Arguments,
    logging: &Logging,
) -> Result<(), Failure> {
    let Signals { mut stop, mut hangup } = signals;
    loop {
        tokio::select! {
            () = stop.recv() => break,
            _ = hangup.recv() => reload(&daemon, arguments, logging),
            ended = daemon.worker_ended() => {
                let number = ended.map_or(0, |worker| worker.0);
                tracing::error!(worker = number, "a worker ended");
                return Err(failed(format!("worker {number} ended; the log says why")));
            }
        }
    }
    drain(daemon, stop).await
}

/// Drains on a thread of its own, so that a second signal is heard.
async fn drain(daemon: Daemon, mut stop: StopSignals) -> Result<(), Failure> {
    let (done, drained) = oneshot::channel();
    thread::spawn(move || {
        daemon.drain();
        let _ = done.send(());
    });
    tokio::select! {
        _ = drained => Ok(()),
        () = stop.recv() => Err(failed("a second signal ended the drain")),
    }
}

/// Puts new settings in force; keeps the old ones where the new are bad.
fn reload(daemon: &Daemon, arguments: &Arguments, logging: &Logging) {
    let new = match load(arguments).and_then(Live::new) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "reload refused: the old settings stay in force");
            return;
        }
    };
    if let Err(error) = logging.set_level(new.settings.log_level) {
        tracing::error!(error, "the log level could not be changed");
    }
    for setting in daemon.reload(new) {
        tracing::warn!(setting, "needs restart");
    }
    tracing::info!("reloaded");
}
