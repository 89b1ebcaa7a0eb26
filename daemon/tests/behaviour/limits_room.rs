//! Tests of a node at its limits: idle connections and peers that hardly move make room for newcomers.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use streamd::config::{ProxyProtocolChoice, Settings};
use streamd::telemetry::Limit;

use crate::harness::{
    Connection, Fixture, MIB, Process, TestDaemon, command, driver_names, drivers, get, pattern, put,
    request_text, set_test_variables, settings, wait_until,
};

const ABSENT: &str = "GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A time longer than a connection has to be idle to be closed for another (`IDLE_GRACE_MS`).
const IDLE: Duration = Duration::from_millis(800);

fn served(daemon: &TestDaemon) -> Connection {
    let mut connection = Connection::open(daemon.data());
    connection.send(ABSENT);
    assert_eq!(connection.response_to("GET").status, 404);
    connection
}

#[test]
fn the_longest_idle_connection_goes_for_a_newcomer_and_what_is_at_work_stays() {
    /// The number of newcomers, since of two workers the one that a newcomer comes to isn't always the one with
    /// the idle connections.
    const NEWCOMERS: usize = 4;
    let root = Fixture::new();
    let content = pattern(32 << 20);
    root.write("large", &content);
    for driver in drivers() {
        for workers in [1, 2] {
            let daemon = TestDaemon::start(Settings {
                driver,
                workers,
                root: Some(root.path().to_owned()),
                connections_max: 3,
                ..settings()
            });
            let mut reading = Connection::open_slow(daemon.data(), 64 << 10);
            reading.send("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert_eq!(reading.receive(12), b"HTTP/1.1 200");
            let mut idle = vec![served(&daemon), served(&daemon)];
            for _ in 0..NEWCOMERS {
                std::thread::park_timeout(IDLE);
                // Newcomers and idle connections may be on either worker.
                idle.push(served(&daemon));
            }
            let limited = daemon.count(|worker| worker.limited.get(Limit::Connections));
            assert!(limited >= NEWCOMERS as u64, "{driver:?}, {workers}: {limited}");
            let newest = idle.split_off(idle.len() - 1);
            let ended = idle.iter_mut().filter_map(|connection| {
                let ended = !connection.is_silent_for(Duration::from_millis(50)) && connection.ends();
                ended.then_some(())
            });
            // A slow host may have closed one more before the first was gone.
            assert!(ended.count() >= NEWCOMERS, "{driver:?}, {workers}");
            drop(newest);
            assert!(reading.receive_to_end().ends_with(&content), "{driver:?}, {workers}");
        }
    }
}

#[test]
fn uploads_that_hardly_move_give_their_places_to_others() {
    const UPLOADS_MAX: usize = 4;
    let root = Fixture::new();
    for driver in drivers() {
        for workers in [1, 2] {
            let daemon = TestDaemon::start(Settings {
                driver,
                workers,
                root: Some(root.path().to_owned()),
                uploads: true,
                uploads_max: UPLOADS_MAX,
                // Under pressure a quarter of the interval counts, which is a second.
                progress_interval_ms: 600_000,
                ..settings()
            });
            let slow: Vec<Connection> = (0..UPLOADS_MAX)
                .map(|number| {
                    let mut slow = Connection::open(daemon.data());
                    slow.send(format!(
                        "PUT /slow{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
                    ));
                    slow
                })
                .collect();
            let uploads = &daemon.telemetry().uploads.writers;
            wait_until("the slow ones are written to", || uploads.get() == UPLOADS_MAX as u64);
            let refused = put(daemon.data(), "/other", "", b"whole");
            assert_eq!(refused.status, 429, "{driver:?}: they had no time to be slow yet");
            daemon.reload(Settings {
                driver,
                workers,
                root: Some(root.path().to_owned()),
                uploads: true,
                uploads_max: UPLOADS_MAX,
                progress_interval_ms: 2_000,
                ..settings()
            });
            wait_until("one has made room", || put(daemon.data(), "/other", "", b"whole").status / 100 == 2);
            let limited = daemon.count(|worker| worker.limited.get(Limit::Uploads));
            assert!((1..=UPLOADS_MAX as u64).contains(&limited), "{driver:?}: {limited}");
            let mut answers: Vec<u16> = slow
                .into_iter()
                .filter_map(|mut slow| {
                    (!slow.is_silent_for(Duration::from_millis(100))).then(|| slow.response_to("PUT").status)
                })
                .collect();
            answers.sort_unstable();
            assert!(answers.contains(&429), "{driver:?}: {answers:?}");
        }
    }
}

/// Starts a `streamd` with this many descriptors.
fn limited_to(descriptors: u64, arguments: &[&str]) -> Process {
    let streamd = command(arguments);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &descriptors.to_string()]);
    limited.arg(streamd.get_program()).args(streamd.get_args());
    set_test_variables(&mut limited);
    limited.env("STREAMD_CONNECTIONS_MAX", "30000");
    Process::spawn(limited)
}

fn assert_answers(process: &Process, path: &str) {
    let response = get(process.control(), path, "");
    assert_eq!(response.status, 200, "{path}");
}

#[test]
fn health_and_metrics_answer_however_few_descriptors_there_are_and_however_many_connect() {
    let root = Fixture::new();
    root.write("file", b"content");
    for driver in driver_names() {
        let flags = ["--driver", driver, "--workers", "2", "--root", root.path().to_str().unwrap()];
        let process = limited_to(64, &flags);
        let warning = process.wait_for_line("the limit of open files is");
        assert!(warning.contains("is 64") && warning.contains("connections_max from 30000 to "), "{warning}");
        assert_eq!(get(process.data(), "/file", "").text(), "content");
        let before = process.descriptors();
        let mut idle: Vec<Connection> = (0..120).map(|_| Connection::open(process.data())).collect();
        for _ in 0..5 {
            assert_answers(&process, "/health");
            assert_answers(&process, "/metrics");
        }
        let idle_control: Vec<Connection> = (0..40).map(|_| Connection::open(process.control())).collect();
        for _ in 0..5 {
            assert_answers(&process, "/health");
            assert_answers(&process, "/metrics");
        }
        assert!(process.descriptors() <= 64);
        // Idle connections are closed for a client with a request, if not at once.
        idle.truncate(60);
        assert_eq!(get(process.data(), "/file", "").text(), "content", "{driver}");
        assert!(process.metric("streamd_limited_total{limit=\"connections_max\"}") > 0, "{driver}");
        drop((idle, idle_control));
        wait_until("all descriptors are given back", || {
            process.metric("streamd_connections_open") == 0 && process.descriptors() <= before + 2
        });
    }
}

/// Returns the value that the line about too few descriptors leaves of a limit.
fn left_of(warning: &str, limit: &str) -> usize {
    let (_, rest) = warning.split_once(&format!("{limit} from ")).unwrap();
    let (_, rest) = rest.split_once(" to ").unwrap();
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
}

#[test]
fn each_part_of_few_descriptors_can_be_used_whole_while_readers_hold_pipes() {
    let root = Fixture::new();
    let content = pattern(8 * MIB);
    root.write("file", &content);
    for driver in driver_names() {
        let mut flags = vec!["--driver", driver, "--workers", "1", "--engine", "splice"];
        flags.extend(["--root", root.path().to_str().unwrap()]);
        let process = limited_to(120, &flags);
        let warning = process.wait_for_line("the limit of open files is");
        let connections = left_of(&warning, " connections_max");
        let mut readers: Vec<Connection> = (1..connections)
            .map(|number| {
                // Each connection has the file open under a name of its own.
                let name = format!("{driver}-{number}");
                std::fs::hard_link(root.path().join("file"), root.path().join(&name)).unwrap();
                let mut connection = Connection::open_slow(process.data(), 64 << 10);
                connection.send(request_text("GET", &format!("/{name}"), ""));
                assert_eq!(connection.stream().peek(&mut [0]).unwrap(), 1, "{driver}");
                connection
            })
            .collect();
        // One connection is left for the metrics.
        let control: Vec<Connection> = (1..left_of(&warning, "control_connections_max"))
            .map(|_| {
                let mut connection = Connection::open(process.control());
                connection.send(request_text("GET", "/health", ""));
                assert_eq!(connection.response_to("GET").status, 200, "{driver}");
                connection
            })
            .collect();
        assert!(get(process.data(), "/file", "").body == content, "{driver}");
        assert_eq!(process.metric("streamd_limited_total{limit=\"descriptors\"}"), 0, "{driver}");
        drop(control);
        for reader in &mut readers {
            let response = reader.response_to("GET");
            assert!((response.status, response.body == content) == (200, true), "{driver}");
        }
    }
}

#[test]
fn health_answers_and_newcomers_are_served_where_descriptors_run_out_later() {
    /// The descriptors that are left besides those open at rest.
    const LEFT: usize = 6;
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver, "--workers", "2"]);
        assert_answers(&process, "/health");
        wait_until("all is at rest", || process.metric("streamd_connections_open") == 0);
        let limit = (process.descriptors() + LEFT) as u64;
        // The limit changes without the daemon's knowledge, as on a host that runs out of descriptors.
        let hard = prlimit(
            Some(process.pid()),
            Resource::Nofile,
            Rlimit { current: Some(limit), maximum: Some(limit) },
        );
        hard.unwrap();
        let idle: Vec<Connection> = (0..LEFT + 10).map(|_| Connection::open(process.control())).collect();
        for _ in 0..5 {
            assert_answers(&process, "/health");
        }
        drop(idle);
        let _idle: Vec<Connection> = (0..LEFT + 10).map(|_| Connection::open(process.data())).collect();
        for _ in 0..5 {
            assert_eq!(get(process.data(), "/absent", "").status, 404, "{driver}");
        }
        assert_answers(&process, "/health");
        assert!(process.metric("streamd_limited_total{limit=\"descriptors\"}") > 0, "{driver}");
    }
}

#[test]
fn check_says_what_too_few_descriptors_cut() {
    let streamd = command(&["--check", "--workers", "2"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]);
    let output = limited.arg(streamd.get_program()).args(streamd.get_args()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("which lowers connections_max from 30000 to "), "{text}");
    assert!(text.contains("control_connections_max from 1024 to 8"), "{text}");
}

#[test]
fn who_was_ended_for_others_does_not_keep_its_place_by_staying() {
    /// The number of connections before the next one: each that stays for two seconds would take a second of its
    /// wait.
    const AHEAD: usize = 60;
    let root = Fixture::new();
    root.write("file", b"content");
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            workers: 1,
            root: Some(root.path().to_owned()),
            connections_max: 4,
            trusted_proxies: vec!["127.0.0.0/8".to_owned()],
            proxy_protocol: ProxyProtocolChoice::Optional,
            ..settings()
        });
        let header = |client: &str| format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n").into_bytes();
        let _stay: Vec<Connection> = (0..AHEAD)
            .map(|_| {
                let mut connection = Connection::open(daemon.data());
                connection.send([&header("192.0.2.1")[..], &1_000_000_u64.to_le_bytes(), b"x"].concat());
                connection
            })
            .collect();
        let mut next = Connection::open(daemon.data());
        next.send([&header("192.0.2.2")[..], b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat());
        assert_eq!(next.response_to("GET").status, 200, "{driver:?}");
    }
}
