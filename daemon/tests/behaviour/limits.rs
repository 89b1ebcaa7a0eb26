//! Tests of the limits and time-outs of the data plane, and that everything is given back afterwards.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use streamd::config::Settings;
use streamd::telemetry::Outcome;

use crate::harness::{
    Connection, Fixture, Process, TestDaemon, driver_names, drivers, get, lines_with, pattern, settings,
    wait_until,
};

/// A time longer than a connection may wait to be accepted (two pauses of 100 ms), short enough to be waited for.
const WHILE: Duration = Duration::from_millis(500);

const ABSENT: &str = "GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn connections_above_the_limit_wait_for_others_to_close() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, connections_max: 2, workers: 1, ..settings() });
        let asking = || {
            let mut connection = Connection::open(daemon.data());
            connection.send(ABSENT);
            connection
        };
        let mut served = [asking(), asking()];
        for connection in &mut served {
            assert_eq!(connection.response_to("GET").status, 404, "{driver:?}");
            // Idle connections would be closed for newcomers.
            connection.send("GET ");
        }
        // The kernel hands them out in the order in which they came.
        let [mut next, mut after, mut last] = [asking(), asking(), asking()];
        assert!(next.is_silent_for(WHILE), "{driver:?}");
        assert_eq!(daemon.telemetry().connections_open(), 2, "{driver:?}");
        assert_eq!(daemon.count(|worker| worker.accept_pauses.get()), 1, "{driver:?}");
        let [first, second] = served;
        drop(first);
        assert_eq!(next.response_to("GET").status, 404, "{driver:?}");
        // Room for one is room for one, although three were waiting.
        assert!(after.is_silent_for(WHILE), "{driver:?}");
        assert_eq!(daemon.telemetry().connections_open(), 2, "{driver:?}");
        drop((second, next));
        for connection in [&mut after, &mut last] {
            assert_eq!(connection.response_to("GET").status, 404, "{driver:?}");
        }
    }
}

#[test]
fn a_raised_limit_lets_those_in_that_wait() {
    let settings = Settings { connections_max: 1, workers: 1, ..settings() };
    let daemon = TestDaemon::start(settings.clone());
    let mut first = Connection::open(daemon.data());
    first.send(ABSENT);
    assert_eq!(first.response_to("GET").status, 404);
    first.send("GET ");
    let mut second = Connection::open(daemon.data());
    second.send(ABSENT);
    assert!(second.is_silent_for(WHILE));
    assert_eq!(daemon.reload(Settings { connections_max: 2, ..settings }), [] as [String; 0]);
    assert_eq!(second.response_to("GET").status, 404);
}

#[test]
fn a_head_that_trickles_gets_408_in_time() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, head_timeout_ms: 300, ..settings() });
        let mut connection = Connection::open(daemon.data());
        connection.send("GET / HTTP/1.1\r\n");
        let started = Instant::now();
        // Each byte comes soon enough by itself; the head as a whole doesn't.
        while connection.is_silent_for(Duration::from_millis(50)) {
            connection.send("x");
            assert!(started.elapsed() < Duration::from_secs(10), "{driver:?}: no answer");
        }
        assert!(started.elapsed() >= Duration::from_millis(300), "{driver:?}: {:?}", started.elapsed());
        let response = connection.response_to("GET");
        assert_eq!(response.status, 408, "{driver:?}");
        assert_eq!(response.problem(), "the request head was not complete in time", "{driver:?}");
        assert_eq!(response.field("Connection"), Some("close"), "{driver:?}");
        assert!(connection.ends(), "{driver:?}");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, idle_timeout_ms: 300, ..settings() });
        let mut fresh = Connection::open(daemon.data());
        let mut served = Connection::open(daemon.data());
        served.send(ABSENT);
        assert_eq!(served.response_to("GET").status, 404, "{driver:?}");
        let mut frames = Connection::open(daemon.data());
        frames.send(0_u64.to_le_bytes());
        assert_eq!(frames.receive(4), b"done", "{driver:?}");
        let started = Instant::now();
        for connection in [&mut fresh, &mut served, &mut frames] {
            assert_eq!(connection.receive_to_end(), b"", "{driver:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{driver:?}: {:?}", started.elapsed());
        wait_until("all connections closed", || daemon.telemetry().connections_open() == 0);
    }
}

#[test]
fn a_reader_that_stops_is_given_up() {
    let root = Fixture::new();
    root.write("large", &pattern(64 << 20));
    for driver in driver_names() {
        let path = root.path().to_str().unwrap();
        let process = Process::start(&["--driver", driver, "--root", path, "--send-timeout-ms", "300"]);
        let mut stuck = Connection::open(process.data());
        stuck.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(stuck.receive(12), b"HTTP/1.1 200");
        process.wait_for_line("/large");
        assert_eq!(process.metric("streamd_transfers_total{outcome=\"timed_out\"}"), 1, "{driver}");
        let error = std::io::Read::read_to_end(stuck.stream(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{driver}");
        let log = process.stop();
        let transfers = lines_with(&log, "message", "transfer");
        assert_eq!(transfers.len(), 1, "{driver}: {log:#?}");
        assert_eq!(transfers[0]["outcome"], "timed_out", "{driver}");
    }
}

#[test]
fn a_slow_reader_that_goes_on_is_not_given_up() {
    let root = Fixture::new();
    let content = pattern(64 << 20);
    root.write("large", &content);
    let path = Some(root.path().to_owned());
    let daemon = TestDaemon::start(Settings { root: path, send_timeout_ms: 3_000, ..settings() });
    // A small receive buffer: a kernel opens a closed window again only for a good part of its buffer.
    let mut slow = Connection::open_slow(daemon.data(), 512 << 10);
    slow.send("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let started = Instant::now();
    // The bytes within one time-out are fewer than make the daemon's socket writable again, which is a third of
    // its buffer.
    let mut received = Vec::new();
    let mut part = vec![0; 64 << 10];
    while started.elapsed() < Duration::from_secs(8) {
        // Past the client's own buffer, which would take a megabyte at once and then leave the socket alone.
        slow.stream().read_exact(&mut part).unwrap();
        received.extend_from_slice(&part);
        std::thread::park_timeout(Duration::from_millis(250));
    }
    received.extend(slow.receive_to_end());
    assert!(received.ends_with(&content));
    assert_eq!(daemon.count(|worker| worker.transfers.get(Outcome::Complete)), 1);
}

#[test]
fn a_half_closed_reader_that_stops_costs_no_processor_time() {
    /// Two seconds in clock ticks of 10 ms: what a worker that spins uses up while the test waits.
    const WAITED_TICKS: u64 = 200;
    let root = Fixture::new();
    let content = pattern(64 << 20);
    root.write("large", &content);
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver, "--root", root.path().to_str().unwrap()]);
        let mut reader = Connection::open_slow(process.data(), 64 << 10);
        reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        reader.finish();
        let sent = || process.metric("streamd_bytes_sent_total{engine=\"sendfile\"}");
        wait_until("the transfer to begin", || sent() > 0);
        let before = process.cpu_ticks();
        std::thread::park_timeout(Duration::from_secs(2));
        let used = process.cpu_ticks() - before;
        assert!(used < WAITED_TICKS / 2, "{driver}: {used} of {WAITED_TICKS} ticks");
        assert!(sent() < content.len() as u64, "{driver}: nothing was left to wait for");
        // The transfer goes on as soon as the peer does.
        assert!(reader.receive_to_end().ends_with(&content), "{driver}");
    }
}

/// Returns the number of connections that this host lets a test hold open, besides those of other tests.
fn idle_connections() -> usize {
    const WANTED: usize = 5_000;
    const FOR_OTHERS: usize = 1_000;
    let limit =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let count = WANTED.min(limit.saturating_sub(FOR_OTHERS));
    if count < WANTED {
        eprintln!("{count} idle connections instead of {WANTED}: the limit of open files is {limit}");
    }
    count
}

#[test]
fn thousands_of_idle_connections_cost_nothing_that_is_not_given_back() {
    let count = idle_connections();
    for driver in driver_names() {
        let connections_max = (count + 100).to_string();
        let process = Process::start(&["--driver", driver, "--connections-max", &connections_max]);
        // Descriptors that are opened once and kept are open from now on.
        assert_eq!(get(process.data(), "/absent", "").status, 404);
        let open = || process.metric("streamd_connections_open");
        wait_until("the first connection to be gone", || open() == 0);
        let descriptors = process.descriptors();
        let mut idle: Vec<Connection> = Vec::with_capacity(count);
        // They are opened in parts, so that none is dropped by a full listen queue.
        while idle.len() < count {
            let part = (count - idle.len()).min(500);
            let first = idle.len();
            idle.extend((0..part).map(|_| Connection::open(process.data())));
            for connection in &mut idle[first..] {
                connection.send(ABSENT);
            }
            for connection in &mut idle[first..] {
                assert_eq!(connection.response_to("GET").status, 404, "{driver}");
            }
        }
        assert_eq!(open(), count as u64, "{driver}");
        assert_eq!(get(process.data(), "/absent", "").status, 404, "{driver}");
        // Some had a second request, some end theirs properly, some are just dropped.
        for connection in idle.iter_mut().step_by(7) {
            connection.send(ABSENT);
        }
        for connection in idle.iter_mut().step_by(3) {
            connection.finish();
        }
        drop(idle);
        wait_until("all connections to be closed", || open() == 0);
        wait_until("all descriptors to be given back", || process.descriptors() <= descriptors);
    }
}
