//! Tests of connections: time-outs, limits, bodies, and the plane's end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::harness::{Plane, Reply, ask_health, connect, exchange, read_to_close, wait_until};
use crate::telemetry::Limit;

/// A time-out in milliseconds, short for a test, long for a loopback connection.
const SHORT_MS: u64 = 200;

#[test]
fn a_slow_head_is_cut_off() {
    let plane = Plane::start(|settings| settings.head_timeout_ms = SHORT_MS);
    let start = Instant::now();
    assert_eq!(exchange(plane.address(), ""), "");
    let late = |received: &str| {
        let reply = Reply::parse(received);
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
        assert!(reply.problem_detail().contains("head_timeout_ms"));
    };
    late(&exchange(plane.address(), "GET /health HTTP/1.1\r\nHost: loc"));
    assert!(start.elapsed() >= Duration::from_millis(2 * SHORT_MS));
    let mut second_head = connect(plane.address());
    ask_health(&mut second_head);
    second_head.write_all(b"GET /health HT").unwrap();
    late(&read_to_close(&mut second_head));
}

#[test]
fn an_idle_connection_outlives_the_limit_on_heads() {
    let plane = Plane::start(|settings| settings.head_timeout_ms = SHORT_MS);
    let mut idle = connect(plane.address());
    ask_health(&mut idle);
    // Each request takes longer than the limit on heads, as the test above sees.
    assert_eq!(Reply::parse(&exchange(plane.address(), "GET")).status, 408);
    assert_eq!(Reply::parse(&exchange(plane.address(), "GET")).status, 408);
    ask_health(&mut idle);
}

#[test]
fn an_idle_connection_is_closed_in_its_own_time() {
    let plane = Plane::start(|settings| settings.idle_timeout_ms = SHORT_MS);
    let mut idle = connect(plane.address());
    ask_health(&mut idle);
    assert_eq!(read_to_close(&mut idle), "");
}

#[test]
fn beyond_the_connection_limit_an_idle_connection_goes_for_a_newcomer() {
    let plane = Plane::start(|settings| settings.control_connections_max = 2);
    let mut first = connect(plane.address());
    ask_health(&mut first);
    let mut silent = connect(plane.address());
    let mut second = connect(plane.address());
    ask_health(&mut second);
    assert_eq!(read_to_close(&mut first), "", "it has been idle for longest");
    // A head that doesn't come to its end keeps nobody out either.
    silent.write_all(b"GET /hea").unwrap();
    ask_health(&mut connect(plane.address()));
    assert_eq!(read_to_close(&mut silent), "");
    ask_health(&mut second);
    assert_eq!(plane.telemetry.control.limited.get(Limit::ControlConnections), 2);
}

#[test]
fn beyond_the_connection_limit_clients_wait_for_those_who_wait_for_streams() {
    let mut plane = Plane::start(|settings| settings.control_connections_max = 1);
    let client = plane.ask_aside("POST /stream?size=1");
    let job = plane.next_job();
    let mut second = connect(plane.address());
    second.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(SHORT_MS))).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    job.end.send(Ok("copy")).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
    second.set_read_timeout(Some(super::harness::DEADLINE)).unwrap();
    assert_eq!(Reply::parse(&read_to_close(&mut second)).body, "OK");
}

#[test]
fn a_client_that_hardly_reads_its_answers_is_given_up() {
    // The answers are far more than the buffers of both sides take.
    const ANSWERS: usize = 2_000;
    let plane = Plane::start(|settings| {
        settings.progress_bytes_min = 1_000_000;
        settings.progress_interval_ms = SHORT_MS;
    });
    let mut stream = connect(plane.address());
    stream.write_all("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(ANSWERS).as_bytes()).unwrap();
    wait_until("the client is given up", || {
        stream.read_exact(&mut [0; 100]).unwrap();
        plane.telemetry.control.limited.get(Limit::Progress) == 1
    });
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // A client that reads what it asks for isn't concerned.
    ask_health(&mut connect(plane.address()));
}

#[test]
fn a_short_body_is_dropped_and_the_connection_kept() {
    let mut plane = Plane::start(|_| {});
    let mut stream = connect(plane.address());
    stream
        .write_all(b"POST /stream?size=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nGET / ")
        .unwrap();
    plane.next_job().end.send(Ok("copy")).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let received = read_to_close(&mut stream);
    assert_eq!(received.matches("HTTP/1.1 200 OK").count(), 2, "{received}");
    assert!(received.ends_with("\r\n\r\nOK"), "{received}");
}

#[test]
fn long_and_silent_bodies_end_the_connection() {
    let mut plane = Plane::start(|settings| settings.head_timeout_ms = SHORT_MS);
    let chunk = format!("10001\r\n{}\r\n", "x".repeat(65_537));
    for (framing, body, status) in [
        ("Content-Length: 65537", "", 413),
        ("Transfer-Encoding: chunked", chunk.as_str(), 413),
        ("Content-Length: 1", "", 408),
        ("Transfer-Encoding: chunked", "not a chunk\r\n", 400),
    ] {
        let request = format!("POST /stream?size=1 HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}");
        let reply = Reply::parse(&exchange(plane.address(), &request));
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{framing}");
        reply.problem_detail();
    }
    assert!(plane.has_no_job());
    assert_eq!(plane.telemetry.control.streams_running.get(), 0);
}

#[test]
fn bytes_that_are_no_http_and_heads_without_end_are_refused() {
    let plane = Plane::start(|_| {});
    assert!(exchange(plane.address(), "\0\0\0\0\0\0\0\0\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(17 * 1024));
    assert!(exchange(plane.address(), &long).starts_with("HTTP/1.1 431 "));
}

#[test]
fn stopping_closes_the_port_and_what_is_idle() {
    let plane = Plane::start(|_| {});
    let address = plane.address();
    let mut idle = connect(address);
    ask_health(&mut idle);
    let start = Instant::now();
    plane.control.stop();
    assert!(start.elapsed() < Duration::from_millis(900), "idle connections were waited for");
    assert_eq!(read_to_close(&mut idle), "");
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn stopping_lets_a_running_request_finish() {
    let mut plane = Plane::start(|_| {});
    let client = plane.ask_aside("POST /stream?size=1");
    let job = plane.next_job();
    let address = plane.address();
    let stopping = std::thread::spawn(move || plane.control.stop());
    super::harness::wait_until("the port is closed", || TcpStream::connect(address).is_err());
    job.end.send(Ok("copy")).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
    stopping.join().unwrap();
}

#[test]
fn stopping_cuts_off_a_request_that_does_not_finish() {
    let mut plane = Plane::start(|_| {});
    let mut client = connect(plane.address());
    client.write_all(b"POST /stream?size=1 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let job = plane.next_job();
    plane.control.stop();
    assert!(job.end.is_closed());
    assert_eq!(read_to_close(&mut client), "");
}

#[test]
fn stopping_answers_the_request_of_a_connection_that_has_just_been_made() {
    // The time is within the patience that such a connection has; a test that was delayed for longer says nothing.
    const IN_TIME: Duration = Duration::from_millis(400);
    for _ in 0..20 {
        let plane = Plane::start(|_| {});
        let address = plane.address();
        plane.telemetry.start_draining();
        let mut fresh = connect(address);
        // This connection is accepted after the other.
        assert_eq!(plane.ask("GET /health", "").status, 503);
        let start = Instant::now();
        let stopping = std::thread::spawn(move || plane.control.stop());
        super::harness::wait_until("the port is closed", || TcpStream::connect(address).is_err());
        std::thread::park_timeout(Duration::from_millis(100));
        let sent = fresh.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let is_in_time = start.elapsed() < IN_TIME;
        let received = read_to_close(&mut fresh);
        stopping.join().unwrap();
        if is_in_time {
            sent.unwrap();
            let reply = Reply::parse(&received);
            assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
            return;
        }
    }
    panic!("this host delays a test by more than {IN_TIME:?} each time");
}
