//! A daemon inside the test's process, on free ports of the loopback address.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use streamd::Daemon;
use streamd::config::{DriverChoice, EngineChoice, Live, PlaneChoice, Settings};
use streamd::sandbox::Sandbox;
use streamd::systemd::PassedSockets;
use streamd::telemetry::{EngineLabel, LogQueue, Telemetry, WorkerCounters};

/// A daemon that is drained when the test ends.
pub(crate) struct TestDaemon(Option<Daemon>);

/// Returns settings for tests: free ports, two workers, time-outs that end a broken test.
pub(crate) fn settings() -> Settings {
    Settings {
        data_listen: "127.0.0.1:0".parse().unwrap(),
        control_listen: "127.0.0.1:0".parse().unwrap(),
        workers: 2,
        drain_timeout_ms: 5_000,
        ..Settings::default()
    }
}

impl TestDaemon {
    /// Starts with these settings.
    pub(crate) fn start(settings: Settings) -> TestDaemon {
        TestDaemon(Some(Daemon::start(Live::new(settings).unwrap(), &LogQueue::nowhere()).unwrap()))
    }

    /// Starts on sockets that were passed by these names.
    pub(crate) fn start_on(sockets: Vec<(&str, OwnedFd)>, mut settings: Settings) -> TestDaemon {
        let (names, sockets) = sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)).unzip();
        let (passed, addresses) = PassedSockets::assign(names, sockets, &settings).unwrap();
        addresses.win_over(&mut settings);
        let live = Live::new(settings).unwrap();
        TestDaemon(Some(Daemon::start_on(passed, live, &LogQueue::nowhere(), &Sandbox::off()).unwrap()))
    }

    /// Starts with the defaults for tests, serving `root`.
    pub(crate) fn serving(root: &Path) -> TestDaemon {
        TestDaemon::start(Settings { root: Some(root.to_owned()), ..settings() })
    }

    fn daemon(&self) -> &Daemon {
        self.0.as_ref().unwrap()
    }

    /// The address of the data plane.
    pub(crate) fn data(&self) -> SocketAddr {
        self.daemon().address(PlaneChoice::Data).unwrap()
    }

    /// The address of the control plane.
    pub(crate) fn control(&self) -> SocketAddr {
        self.daemon().address(PlaneChoice::Control).unwrap()
    }

    /// Returns its counters.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        self.daemon().telemetry()
    }

    /// Returns a counter, summed over the workers.
    pub(crate) fn count(&self, counter: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.telemetry().workers.iter().map(|worker| counter(worker)).sum()
    }

    /// Returns the payload bytes that `engine` has sent.
    pub(crate) fn bytes_sent(&self, engine: EngineLabel) -> u64 {
        self.telemetry().workers.iter().map(|worker| worker.bytes_sent.get(engine)).sum()
    }

    /// Puts new settings in force, as SIGHUP does.
    pub(crate) fn reload(&self, settings: Settings) -> Vec<String> {
        self.daemon().reload(Live::new(settings).unwrap())
    }

    /// Drains on a thread of its own; join it to wait for the end.
    pub(crate) fn drain(mut self) -> std::thread::JoinHandle<()> {
        let daemon = self.0.take().unwrap();
        std::thread::spawn(move || daemon.drain())
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        if let Some(daemon) = self.0.take() {
            daemon.drain();
        }
    }
}

/// Returns the drivers that this host grants; epoll alone where io_uring is refused, which is printed.
pub(crate) fn drivers() -> Vec<DriverChoice> {
    match streamd::sys::uring::probe() {
        Ok(_) => vec![DriverChoice::Uring, DriverChoice::Epoll],
        Err(refused) => {
            eprintln!("not tested on io_uring: {refused}");
            vec![DriverChoice::Epoll]
        }
    }
}

/// Returns [`drivers`] as `--driver` takes them.
pub(crate) fn driver_names() -> Vec<&'static str> {
    drivers()
        .into_iter()
        .map(|driver| if driver == DriverChoice::Epoll { "epoll" } else { "uring" })
        .collect()
}

/// Runs `test` against a daemon for each engine on each driver.
pub(crate) fn every_engine_and_driver(base: &Settings, test: impl Fn(&TestDaemon, &str)) {
    for driver in drivers() {
        for engine in [EngineChoice::Auto, EngineChoice::Sendfile, EngineChoice::Splice, EngineChoice::Copy] {
            let daemon = TestDaemon::start(Settings { driver, engine, ..base.clone() });
            test(&daemon, &format!("{driver:?} {engine:?}"));
        }
    }
}
