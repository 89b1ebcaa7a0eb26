//! The daemon's life as a process: how it ends, what a reload changes, and that it says why it can't start.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use streamd::config::Settings;
use streamd::telemetry::Outcome;

use crate::harness::{
    Connection, DEADLINE, Fixture, Process, TestDaemon, command, driver_names, drivers, get, json,
    lines_with, pattern, request, settings, sha256, wait_until,
};

/// The bytes of a file that is larger than the socket buffers of both ends, so that a transfer of it waits for its
/// reader.
const LARGE_BYTES: usize = 64 << 20;

/// Begins a download of which only the head is read.
fn slow_reader(data: SocketAddr) -> Connection {
    let mut connection = Connection::open(data);
    connection.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.receive(12), b"HTTP/1.1 200");
    connection
}

/// Reads the rest of a [`slow_reader`]'s download.
fn read_body(connection: &mut Connection) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(connection.receive(1));
    }
    connection.receive(LARGE_BYTES)
}

/// Makes a root with a file for [`slow_reader`], and returns its content.
fn serving_large() -> (Fixture, Vec<u8>) {
    let root = Fixture::new();
    let content = pattern(LARGE_BYTES);
    root.write("large", &content);
    (root, content)
}

fn start(root: &Fixture, flags: &[&str]) -> Process {
    Process::start(&[&["--root", root.path().to_str().unwrap()], flags].concat())
}

#[test]
fn a_drain_costs_no_byte_of_an_answer_that_the_daemon_is_done_with() {
    const BYTES: usize = 3_000_000;
    let root = Fixture::new();
    let content = pattern(BYTES);
    root.write("file", &content);
    for driver in drivers() {
        let path = Some(root.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root: path, ..settings() });
        // A small receive buffer, and read past the harness's own: the rest waits in the daemon's socket.
        let mut connection = Connection::open_slow(daemon.data(), 64 << 10);
        connection.send("GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut received = Vec::new();
        let mut part = vec![0; 10_000];
        loop {
            // The last part is left in the sockets, which have room for it: a reader that is quicker than a worker's
            // account would have nothing left to lose, and wait for more than there is.
            if received.len() < BYTES - 2 * part.len() {
                connection.stream().read_exact(&mut part).unwrap();
                received.extend_from_slice(&part);
            } else {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if daemon.count(|worker| worker.transfers.get(Outcome::Complete)) == 1 {
                break;
            }
        }
        let telemetry = Arc::clone(daemon.telemetry());
        let drained = daemon.drain();
        // Several ticks of a daemon that drains. Whoever closes in them answers the next request with a reset,
        // and that throws away what nobody has read.
        let end = Instant::now() + Duration::from_millis(500);
        while telemetry.connections_open() > 0 && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        connection.send("GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let head_bytes = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let mut rest = vec![0; head_bytes + BYTES - received.len()];
        connection.stream().read_exact(&mut rest).unwrap();
        let body = [&received[head_bytes..], &rest].concat();
        assert_eq!(sha256(&body), sha256(&content), "{driver:?}");
        drop(connection);
        drained.join().unwrap();
    }
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_begins_nothing() {
    let (root, content) = serving_large();
    for driver in driver_names() {
        for signal in [Signal::TERM, Signal::INT] {
            let mut process = start(&root, &["--driver", driver]);
            let data = process.data();
            let mut idle = Connection::open(data);
            idle.send("GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(idle.response_to("GET").status, 404);
            let mut reader = slow_reader(data);
            process.signal(signal);
            wait_until("/health to say that the daemon drains", || {
                let health = get(process.control(), "/health", "");
                health.status == 503 && health.text() == "draining"
            });
            assert!(idle.ends(), "{driver}");
            wait_until("new connections to be refused", || {
                TcpStream::connect(data).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
            });
            let stream = request(process.control(), "POST", "/stream?size=1", "");
            assert_eq!((stream.status, stream.field("Retry-After")), (503, Some("1")));
            assert_eq!(stream.problem(), "the daemon is about to stop and starts no streams");
            assert_eq!(sha256(&read_body(&mut reader)), sha256(&content), "{driver}");
            assert!(reader.ends(), "{driver}");
            assert_eq!(process.wait().code(), Some(0), "{driver}");
            let log = process.whole_log();
            let transfers = lines_with(&log, "path", "/large");
            assert_eq!(transfers.len(), 1, "{driver}: {log:#?}");
            assert_eq!(transfers[0]["outcome"], "complete", "{driver}");
            assert_eq!(json(log.last().unwrap())["message"], "stopped", "{driver}");
        }
    }
}

#[test]
fn a_drain_breaks_off_what_takes_too_long() {
    let (root, _) = serving_large();
    for driver in driver_names() {
        let mut process = start(&root, &["--driver", driver, "--drain-timeout-ms", "500"]);
        let mut stuck = slow_reader(process.data());
        let started = Instant::now();
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0), "{driver}");
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(500), "{driver}: {elapsed:?}");
        assert!(elapsed < Duration::from_secs(5), "{driver}: {elapsed:?}");
        let mut rest = Vec::new();
        let error = std::io::Read::read_to_end(stuck.stream(), &mut rest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{driver}");
        assert!(rest.len() < LARGE_BYTES, "{driver}: {} bytes", rest.len());
        let log = process.whole_log();
        let transfers = lines_with(&log, "path", "/large");
        assert_eq!(transfers.len(), 1, "{driver}: {log:#?}");
        assert_eq!(transfers[0]["outcome"], "drained", "{driver}");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let (root, _) = serving_large();
    for signals in [[Signal::TERM, Signal::TERM], [Signal::TERM, Signal::INT]] {
        let mut process = start(&root, &[]);
        let reader = slow_reader(process.data());
        process.signal(signals[0]);
        process.wait_for_line("draining");
        let started = Instant::now();
        process.signal(signals[1]);
        assert_eq!(process.wait().code(), Some(1));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let log = process.whole_log();
        assert_eq!(log.last().unwrap(), "streamd: a second signal ended the drain", "{log:#?}");
        drop(reader);
    }
}

/// A configuration file and the token file that it names.
struct Configuration(Fixture);

impl Configuration {
    fn write(&self, token: &str, text: &str) {
        let token_file = self.0.write("token", token.as_bytes());
        let text = format!("token_file = {token_file:?}\n{text}\n");
        self.0.write("streamd.toml", text.as_bytes());
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("streamd.toml")
    }
}

fn stream_status(process: &Process, token: &str, query: &str) -> u16 {
    let fields = format!("Authorization: Bearer {token}\r\n");
    request(process.control(), "POST", &format!("/stream?{query}"), &fields).status
}

/// Whether a frame of this size is acknowledged.
fn takes_frame(process: &Process, size: usize) -> bool {
    let mut connection = Connection::open(process.data());
    connection.send([&(size as u64).to_le_bytes()[..], &vec![7; size]].concat());
    connection.finish();
    connection.receive_to_end() == b"done"
}

#[test]
fn a_reload_puts_limits_token_targets_and_log_level_in_force() {
    let configuration = Configuration(Fixture::new());
    configuration.write("first", "frame_bytes_max = 1000\nworkers = 1\n");
    let process = Process::start(&["--config", configuration.path().to_str().unwrap()]);
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = format!("size=1&target={unused}");
    assert!(takes_frame(&process, 1000));
    assert_eq!(stream_status(&process, "first", "size=1"), 200);
    assert_eq!(stream_status(&process, "first", &elsewhere), 403);

    let text = "frame_bytes_max = 10\ntargets_allowed = [\"127.0.0.1:*\"]\nlog_level = \"warn\"\n\
                workers = 3\nengine = \"copy\"\n";
    configuration.write("second", text);
    process.signal(Signal::HUP);
    // The settings are named in alphabetical order; this is the last.
    process.wait_for_line("\"setting\":\"workers\"");
    assert_eq!(stream_status(&process, "first", "size=1"), 401);
    assert_eq!(stream_status(&process, "second", "size=1"), 200);
    assert_eq!(stream_status(&process, "second", &elsewhere), 502);
    // The worker takes over new settings at its next tick.
    wait_until("the new frame limit", || !takes_frame(&process, 11));
    assert!(takes_frame(&process, 10));
    let log = process.stop();
    let needs_restart = lines_with(&log, "message", "needs restart");
    let settings: Vec<&str> = needs_restart.iter().map(|line| line["setting"].as_str().unwrap()).collect();
    assert_eq!(settings, ["engine", "workers"]);
    assert!(needs_restart.iter().all(|line| line["level"] == "WARN"), "{needs_restart:?}");
    let transfers = lines_with(&log, "message", "transfer");
    assert!(transfers.iter().any(|line| line["bytes_in"] == 1000), "{transfers:?}");
    assert!(
        transfers.iter().all(|line| line["bytes_out"] != 10),
        "an info line after the reload: {transfers:?}"
    );
}

#[test]
fn a_bad_file_changes_nothing() {
    let configuration = Configuration(Fixture::new());
    configuration.write("token", "frame_bytes_max = 1000\n");
    let process = Process::start(&["--config", configuration.path().to_str().unwrap()]);
    let in_force = || {
        assert!(takes_frame(&process, 1000));
        assert!(!takes_frame(&process, 1001));
        assert_eq!(stream_status(&process, "token", "size=1"), 200);
    };
    let refusals = || lines_with(&process.log(), "message", "reload refused: the old settings stay in force");
    for (number, (token, text, faults)) in [
        ("other", "frame_bytes_max = 10\ncolour = 1\nworkers = \"many\"\n", &["colour", "workers"][..]),
        ("other", "frame_bytes_max = 10\nworkers = [\n", &["streamd.toml", "line 3"]),
        ("", "frame_bytes_max = 10\n", &["token_file", "is empty"]),
    ]
    .into_iter()
    .enumerate()
    {
        configuration.write(token, text);
        process.signal(Signal::HUP);
        wait_until("the refusal", || refusals().len() > number);
        let refusals = refusals();
        assert_eq!(refusals.len(), number + 1);
        let refusal = &refusals[number];
        assert_eq!(refusal["level"], "ERROR");
        for fault in faults {
            assert!(refusal["error"].as_str().unwrap().contains(fault), "{fault}: {refusal}");
        }
        in_force();
    }
    // A good file is taken afterwards.
    configuration.write("token", "frame_bytes_max = 10\n");
    process.signal(Signal::HUP);
    process.wait_for_line("\"reloaded\"");
    wait_until("the new frame limit", || !takes_frame(&process, 11));
}

/// Runs a daemon that can't start; returns its exit code and its message, which must be one line.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let started = Instant::now();
    let output = command(arguments).args(["--connections-max", "100"]).output().unwrap();
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (output.status.code(), text)
}

#[test]
fn a_port_that_is_taken_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(taken).unwrap();
    for (setting, other) in [("data-listen", "control-listen"), ("control-listen", "data-listen")] {
        let address = taken.to_string();
        let (code, text) =
            refusal(&[&format!("--{setting}"), &address, &format!("--{other}"), "127.0.0.1:0"]);
        let setting = setting.replace('-', "_");
        assert_eq!(
            text,
            format!(
                "streamd: {setting} {taken}: Address already in use (os error 98): another process listens \
                 there: `ss -ltnp` names it; end it, or set another {setting}\n"
            )
        );
        assert_eq!(code, Some(1));
    }
    drop(listener);
}

/// The kernel takes down a ring after its process is gone, and the ring still has the listener until then.
#[test]
fn a_daemon_that_was_killed_is_followed_at_once() {
    // An address that no other test connects from, so that its ports are free.
    let mut address: SocketAddr = "127.0.0.78:0".parse().unwrap();
    for _ in 0..20 {
        let mut command = command(&["--control-listen", "127.0.0.1:0", "--log-format", "json"]);
        command.args(["--connections-max", "500", "--data-listen", &address.to_string()]);
        let mut process = Process::spawn(command);
        address = process.data();
        // The connections make the ring's end take longer.
        let connections: Vec<_> = (0..64).map(|_| Connection::open(address)).collect();
        process.signal(Signal::KILL);
        process.wait();
        drop(connections);
    }
}

#[test]
fn a_second_daemon_on_the_same_data_port_is_refused() {
    let process = Process::start(&[]);
    let address = process.data().to_string();
    let (code, text) = refusal(&["--data-listen", &address, "--control-listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Address already in use"), "{text}");
}

#[test]
fn a_root_that_vanishes_before_the_start_is_a_configuration_fault() {
    let (code, text) = refusal(&["--root", "/nonexistent"]);
    assert_eq!(code, Some(78), "{text}");
    assert_eq!(
        text,
        "streamd: root: /nonexistent: No such file or directory (os error 2): create it, or name another (--root)\n"
    );
    assert!(!Path::new("/nonexistent").exists());
}
