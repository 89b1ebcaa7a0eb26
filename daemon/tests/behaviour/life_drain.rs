//! Tests that a drain loses nothing that was sent in good faith: a client that had just connected, had just been
//! answered, or had sent a frame is still served, once, and told where that can be told.

use std::time::{Duration, Instant};

use streamd::config::{DriverChoice, Settings};

use crate::harness::{
    Connection, Process, TEST_FLAGS, TestDaemon, command, driver_names, drivers, settings, wait_until,
};

/// The time of a request after the daemon begins to drain: several of its ticks, and within its patience of half a
/// second.
const LATE: Duration = Duration::from_millis(250);

/// The time within that patience, as far as a test that may be delayed itself can tell.
const IN_TIME: Duration = Duration::from_millis(400);

/// The most tries until a test was quick enough for its outcome to count.
const TRIES_MAX: usize = 20;

const GET: &str = "GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn start(driver: DriverChoice) -> TestDaemon {
    TestDaemon::start(Settings { driver, ..settings() })
}

/// Opens a connection, and waits until the daemon has accepted it.
fn accepted(daemon: &TestDaemon) -> Connection {
    let before = daemon.telemetry().connections_open();
    let connection = Connection::open(daemon.data());
    wait_until("the connection to be accepted", || daemon.telemetry().connections_open() > before);
    connection
}

/// Drains a daemon, sends `bytes` over a connection that has brought `exchange` before, and passes the answer to
/// `judge`, if nothing kept the test from sending in time.
fn send_late(
    driver: DriverChoice,
    bytes: &[u8],
    exchange: impl Fn(&mut Connection),
    judge: impl Fn(Vec<u8>),
) {
    for _ in 0..TRIES_MAX {
        let daemon = start(driver);
        let mut connection = accepted(&daemon);
        exchange(&mut connection);
        let began = Instant::now();
        let drained = daemon.drain();
        std::thread::park_timeout(LATE);
        connection.send_in_vain(bytes);
        let is_in_time = began.elapsed() < IN_TIME;
        let received = connection.receive_what_comes();
        drained.join().unwrap();
        if is_in_time {
            return judge(received);
        }
    }
    panic!("this host delays a test by more than {:?} each time", IN_TIME - LATE);
}

/// Asserts one answer, which says that it is the last.
fn assert_last_answer(received: &[u8], status: &str) {
    let text = String::from_utf8(received.to_vec()).unwrap();
    assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text:?}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text:?}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text:?}");
}

#[test]
fn a_request_of_a_connection_that_had_sent_nothing_is_answered() {
    for driver in drivers() {
        send_late(driver, GET.as_bytes(), |_| {}, |received| assert_last_answer(&received, "404"));
    }
}

#[test]
fn the_next_request_of_a_connection_that_has_just_been_answered_is_answered() {
    for driver in drivers() {
        let exchange = |connection: &mut Connection| {
            connection.send(GET);
            assert_eq!(connection.response_to("GET").field("Connection"), None);
        };
        // A third request, pipelined behind the last, is for the next daemon.
        send_late(driver, GET.repeat(2).as_bytes(), exchange, |received| {
            assert_last_answer(&received, "404")
        });
    }
}

#[test]
fn the_first_frame_of_a_connection_is_taken() {
    for driver in drivers() {
        let frame = b"\x05\0\0\0\0\0\0\0hello";
        send_late(driver, frame, |_| {}, |received| assert_eq!(received, b"done"));
        send_late(driver, &frame.repeat(3), |_| {}, |received| assert_eq!(received, b"donedonedone"));
    }
}

#[test]
fn whoever_sends_nothing_is_not_waited_for() {
    for driver in drivers() {
        let daemon = start(driver);
        let mut silent = accepted(&daemon);
        let mut half = accepted(&daemon);
        half.send("GET /absent HTTP/1.1\r\n");
        let drained = daemon.drain();
        assert!(silent.ends(), "{driver:?}");
        half.send("Host: localhost\r\n\r\n");
        assert_last_answer(&half.receive_what_comes(), "404");
        drained.join().unwrap();
    }
}

#[test]
fn a_frame_in_flight_is_finished_and_a_client_that_never_pauses_is_stopped_between_two() {
    for driver in driver_names() {
        let mut command =
            command(&[&TEST_FLAGS[..], &["--driver", driver, "--connections-max", "100"]].concat());
        // The time-out is never reached: it would break a frame off.
        command.args(["--drain-timeout-ms", "600000"]);
        let mut process = Process::spawn(command);
        let mut halfway = Connection::open(process.data());
        halfway.send(b"\x05\0\0\0\0\0\0\0hel");
        let mut endless = Connection::open(process.data());
        let mut stream = endless.stream().try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let frames = b"\x05\0\0\0\0\0\0\0hello".repeat(100);
            while std::io::Write::write_all(&mut stream, &frames).is_ok() {}
        });
        endless.receive(4000);
        process.signal(rustix::process::Signal::TERM);
        process.wait_for_line("draining");
        let received = endless.receive_what_comes();
        assert!(received.chunks(4).all(|chunk| chunk == b"done"), "{driver}");
        sender.join().unwrap();
        halfway.send(b"lo");
        assert_eq!(halfway.receive_what_comes(), b"done", "{driver}");
        assert_eq!(process.wait().code(), Some(0), "{driver}");
    }
}
