//! Tests of clients that end their direction when they have asked, as `nc -N` does: they are answered on both
//! planes.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use streamd::config::{DriverChoice, Settings};
use streamd::telemetry::Outcome;

use crate::harness::{
    Connection, Fixture, Target, TestDaemon, drivers, frame_size, request_text, settings, wait_until,
};

fn start(driver: DriverChoice, root: &Fixture) -> TestDaemon {
    root.write("file", b"content");
    let (root, targets_allowed) = (Some(root.path().to_owned()), vec!["127.0.0.1:*".to_owned()]);
    TestDaemon::start(Settings { driver, root, targets_allowed, ..settings() })
}

#[test]
fn whoever_asked_and_ended_is_answered_on_both_planes() {
    let root = Fixture::new();
    for driver in drivers() {
        let daemon = start(driver, &root);
        for (address, method, path) in [
            (daemon.data(), "GET", "/file"),
            (daemon.control(), "GET", "/health"),
            (daemon.control(), "GET", "/streams"),
            (daemon.control(), "POST", "/stream?size=1"),
            (daemon.control(), "POST", "/stream?size=100MB"),
        ] {
            let mut connection = Connection::open(address);
            // The second request is pipelined, and answered in its turn.
            connection.send(request_text(method, path, "").repeat(2));
            connection.finish();
            for _ in 0..2 {
                assert_eq!(connection.response_to(method).status, 200, "{driver:?}: {path}");
            }
            assert!(connection.receive_to_end().is_empty(), "{driver:?}: {path}");
        }
    }
}

#[test]
fn netcat_gets_its_answer_from_both_planes() {
    let root = Fixture::new();
    for driver in drivers() {
        let daemon = start(driver, &root);
        let line = "POST /stream?size=1 HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n";
        for (address, line) in [
            (daemon.control(), line),
            (daemon.control(), "POST /stream?size=1 HTTP/1.0\\r\\n\\r\\n"),
            (daemon.data(), "GET /file HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"),
        ] {
            let script = format!("printf '{line}' | nc -N {} {}", address.ip(), address.port());
            let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if error.contains("not found") || error.contains("invalid option") {
                eprintln!("not tested with nc: {error}");
                return;
            }
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                answer.starts_with("HTTP/1.") && answer[8..].starts_with(" 200 OK\r\n"),
                "{driver:?}: {line}: {answer:?} {error}"
            );
        }
    }
}

/// Starts a target that acknowledges when it is told to, and the daemon's stream to it, for which a client waits
/// that has ended its direction.
fn waiting(daemon: &TestDaemon, version: &str) -> (Connection, Target, std::sync::mpsc::Sender<()>) {
    let (acknowledge, may) = channel();
    let may = Mutex::new(may);
    let (target, _) = Target::start(move |stream| {
        let size = frame_size(stream).unwrap();
        stream.take(size).read_to_end(&mut Vec::new()).unwrap();
        if may.lock().unwrap().recv().is_ok() {
            std::io::Write::write_all(stream, b"done").unwrap();
        }
    });
    let mut client = Connection::open(daemon.control());
    let path = format!("/stream?size=1000&target={}", target.address());
    client.send(format!("POST {path} {version}\r\nHost: localhost\r\n\r\n"));
    wait_until("the stream to run", || daemon.telemetry().control.streams_running.get() == 1);
    client.finish();
    (client, target, acknowledge)
}

#[test]
fn whoever_waits_long_is_asked_whether_it_is_still_there() {
    let root = Fixture::new();
    for driver in drivers() {
        let daemon = start(driver, &root);
        let (mut client, _target, acknowledge) = waiting(&daemon, "HTTP/1.1");
        assert_eq!(client.response_to("POST").status, 100, "{driver:?}");
        acknowledge.send(()).unwrap();
        let mut response = client.response_to("POST");
        while response.status == 100 {
            response = client.response_to("POST");
        }
        assert_eq!(response.status, 200, "{driver:?}");
        assert!(client.receive_to_end().is_empty(), "{driver:?}");
    }
}

#[test]
fn a_client_of_http_1_0_is_not_asked() {
    let root = Fixture::new();
    for driver in drivers() {
        let daemon = start(driver, &root);
        let (mut client, _target, acknowledge) = waiting(&daemon, "HTTP/1.0");
        // The time is longer than other clients wait until they are asked.
        assert!(client.is_silent_for(std::time::Duration::from_secs(3)), "{driver:?}");
        acknowledge.send(()).unwrap();
        assert!(client.receive_to_end().starts_with(b"HTTP/1.0 200 "), "{driver:?}");
    }
}

#[test]
fn whoever_ended_and_left_cancels_its_stream() {
    let root = Fixture::new();
    for driver in drivers() {
        let daemon = start(driver, &root);
        let (client, _target, _acknowledge) = waiting(&daemon, "HTTP/1.1");
        drop(client);
        wait_until("the stream cancelled", || {
            daemon.count(|worker| worker.transfers.get(Outcome::Cancelled)) == 1
        });
        assert_eq!(daemon.telemetry().control.streams_running.get(), 0, "{driver:?}");
    }
}
