//! Tests that one upload has one writer: a second one waits for the first to finish, or to stall.

use std::time::{Duration, Instant};

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, each_uploading, get, partials, put, request,
    request_text, wait_until, write_text,
};

/// The time without progress after which a writer is no obstacle any more.
const STALL: Duration = Duration::from_secs(5);

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| Settings { cache_valid_ms: 0, ..settings }, test);
}

/// Begins an upload to `/file` with nothing, and returns its name.
fn create(daemon: &TestDaemon) -> String {
    let mut connection = Connection::open(daemon.data());
    connection.send(write_text("POST", "/file", "Upload-Complete: ?0\r\n", b""));
    let response = connection.response_to("POST");
    assert_eq!(response.status, 201);
    response.field("Location").unwrap().to_owned()
}

fn append_fields(offset: usize, complete: &str) -> String {
    format!(
        "Content-Type: application/partial-upload\r\nUpload-Offset: {offset}\r\nUpload-Complete: {complete}\r\n"
    )
}

fn append(daemon: &TestDaemon, name: &str, offset: usize, complete: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(daemon.data());
    connection.send(write_text("PATCH", name, &append_fields(offset, complete), body));
    connection.response_to("PATCH")
}

/// Starts a writer that has brought `part` of a body of `length` bytes, all of which is written.
fn begun(daemon: &TestDaemon, fixture: &Fixture, name: &str, part: &[u8], length: usize) -> Connection {
    let mut connection = Connection::open(daemon.data());
    let fields = format!("Content-Length: {length}\r\n{}", append_fields(0, "?0"));
    connection.send(request_text("PATCH", name, &fields));
    connection.send(part);
    let path = fixture.path().join(&name[1..]);
    wait_until("the part to be written", || {
        std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= part.len() as u64)
    });
    connection
}

#[test]
fn a_second_writer_is_refused_while_the_first_makes_progress() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon);
        let part = vec![b'a'; MIB];
        let mut first = begun(daemon, fixture, &name, &part, 2 * MIB);
        let response = append(daemon, &name, MIB, "?0", b"b");
        assert_eq!((response.status, response.field("Upload-Complete")), (409, Some("?0")));
        // The offset isn't at fault, so the problem has no kind.
        assert_eq!(response.problem_kind(), "");
        first.send(&part);
        assert_eq!(first.response_to("PATCH").status, 204);
        assert_eq!(append(daemon, &name, 2 * MIB, "?1", b"").status, 201);
        assert!(get(daemon.data(), "/file", "").body == part.repeat(2));
    });
}

#[test]
fn a_second_writer_takes_over_from_one_that_is_gone() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon);
        let part = vec![b'a'; MIB];
        drop(begun(daemon, fixture, &name, &part, 2 * MIB));
        // The takeover is at once: an end of the connection is no stall.
        wait_until("the end of the connection", || daemon.telemetry().connections_open() == 0);
        let response = append(daemon, &name, MIB, "?1", b"b");
        assert_eq!((response.status, response.field("Upload-Complete")), (201, Some("?1")));
        assert!(get(daemon.data(), "/file", "").body == [&part[..], b"b"].concat());
    });
}

#[test]
fn a_second_writer_takes_over_from_one_that_stalls() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon);
        let part = vec![b'a'; MIB];
        // A whole PUT that stands still is continued by its range as well.
        let mut whole = Connection::open(daemon.data());
        whole.send(request_text("PUT", "/whole", &format!("Content-Length: {}\r\n", MIB + 3)));
        whole.send(&part);
        wait_until("the whole one's part to be written", || {
            partials(fixture.path()).iter().any(|(_, length)| *length == MIB as u64)
        });
        let go_on = || {
            let fields = format!("Content-Range: bytes {MIB}-{}/{}\r\n", MIB + 2, MIB + 3);
            put(daemon.data(), "/whole", &fields, b"end").status
        };
        assert_eq!(go_on(), 409);
        let mut first = begun(daemon, fixture, &name, &part, 2 * MIB);
        let refused = Instant::now();
        assert_eq!(append(daemon, &name, MIB, "?0", b"b").status, 409);
        wait_until("the first writer to count as stalled", || {
            append(daemon, &name, MIB, "?0", b"b").status == 204
        });
        assert!(refused.elapsed() > STALL / 2, "{:?}", refused.elapsed());
        // The bytes that the first one brings now are dropped.
        first.send_in_vain(vec![b'c'; MIB]);
        let mut answer = first.receive_what_comes();
        answer.truncate(12);
        assert!(answer.is_empty() || answer == b"HTTP/1.1 409", "{}", String::from_utf8_lossy(&answer));
        assert_eq!(append(daemon, &name, MIB + 1, "?1", b"d").status, 201);
        assert!(get(daemon.data(), "/file", "").body == [&part[..], b"bd"].concat());
        wait_until("the whole one to count as stalled", || go_on() == 201);
        assert!(get(daemon.data(), "/whole", "").body == [&part[..], b"end"].concat());
        whole.send_in_vain(b"xyz");
        assert!(!whole.receive_what_comes().starts_with(b"HTTP/1.1 2"));
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_slow_writer_is_none_that_stalls() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon);
        let mut first = begun(daemon, fixture, &name, b"", 50);
        let started = Instant::now();
        let mut sent = 0;
        // A byte comes now and then, far less than is written at a time.
        while started.elapsed() < STALL + Duration::from_secs(1) {
            let last = Instant::now();
            first.send(b"a");
            sent += 1;
            assert!(first.is_silent_for(Duration::from_millis(500)));
            let response = append(daemon, &name, sent, "?0", b"b");
            if last.elapsed() > STALL / 2 {
                eprintln!("not tested: this host stood still for {:?}", last.elapsed());
                return;
            }
            assert_eq!(response.status, 409, "after {sent} bytes");
        }
        first.send(vec![b'a'; 50 - sent]);
        assert_eq!(first.response_to("PATCH").status, 204);
        assert_eq!(append(daemon, &name, 50, "?1", b"").status, 201);
        assert!(get(daemon.data(), "/file", "").body == vec![b'a'; 50]);
    });
}

#[test]
fn a_ranged_put_has_one_writer_too() {
    each_daemon(|daemon, fixture| {
        let part = vec![b'a'; MIB];
        let mut first = Connection::open(daemon.data());
        let fields = format!("Content-Length: {}\r\nContent-Range: bytes 0-{}/{}\r\n", MIB + 1, MIB, 2 * MIB);
        first.send(request_text("PUT", "/file", &fields));
        first.send(&part);
        wait_until("the part to be written", || {
            partials(fixture.path()).iter().any(|(_, length)| *length >= MIB as u64)
        });
        for from in [0, MIB] {
            let fields = format!("Content-Range: bytes {from}-{from}/{}\r\n", 2 * MIB);
            let response = put(daemon.data(), "/file", &fields, b"b");
            assert_eq!((response.status, response.problem_kind().as_str()), (409, ""), "{from}");
        }
        first.send(b"a");
        let response = first.response_to("PUT");
        assert_eq!(response.status, 202);
        let rest = vec![b'a'; MIB - 1];
        let fields = format!("Content-Range: bytes {}-{}/{}\r\n", MIB + 1, 2 * MIB - 1, 2 * MIB);
        // A client that tried to begin another upload beside it may go on just as well.
        assert_eq!(put(daemon.data(), "/file", &fields, &rest).status, 409);
        let fields = format!("{fields}Upload-Id: {}\r\n", response.field("Upload-Id").unwrap());
        assert_eq!(put(daemon.data(), "/file", &fields, &rest).status, 201);
        assert!(get(daemon.data(), "/file", "").body == vec![b'a'; 2 * MIB]);
    });
}

/// A client that asks has lost its request, and must be able to use the offset that it is told (draft section
/// 4.6).
#[test]
fn a_client_that_asks_for_the_offset_ends_the_writer() {
    each_daemon(|daemon, fixture| {
        for method in ["HEAD", "GET"] {
            let name = create(daemon);
            let part = vec![b'a'; MIB];
            let mut first = begun(daemon, fixture, &name, &part, 2 * MIB);
            let described = request(daemon.data(), method, &name, "");
            assert_eq!((described.status, described.field("Upload-Complete")), (204, Some("?0")));
            let offset: usize = described.field("Upload-Offset").unwrap().parse().unwrap();
            assert_eq!(offset, MIB);
            // The takeover is at once, though the first made progress just now; and the bytes that it still sends
            // are dropped.
            assert_eq!(append(daemon, &name, offset, "?0", b"b").status, 204);
            first.send_in_vain(&part);
            let answer = first.receive_what_comes();
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 409"), "{method}");
            assert_eq!(append(daemon, &name, offset + 1, "?1", b"c").status / 100, 2);
            assert!(get(daemon.data(), "/file", "").body == [&part[..], b"bc"].concat());
            // A complete upload has no writer to be ended.
            let described = request(daemon.data(), method, &name, "");
            assert_eq!((described.status, described.field("Upload-Complete")), (204, Some("?1")));
        }
    });
}

#[test]
fn whoever_may_not_write_ends_no_writer() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon);
        let mut first = begun(daemon, fixture, &name, &vec![b'a'; MIB], 2 * MIB);
        for method in ["HEAD", "GET"] {
            let fields = "Origin: http://evil.example\r\n";
            assert_eq!(request(daemon.data(), method, &name, fields).status, 403, "{method}");
        }
        first.send(vec![b'a'; MIB]);
        assert_eq!(first.response_to("PATCH").status, 204);
    });
}

#[test]
fn whoever_writes_to_an_upload_that_is_given_up_is_cut_off() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon);
        let mut writer = begun(daemon, fixture, &name, &vec![b'a'; MIB], 2 * MIB);
        assert_eq!(request(daemon.data(), "DELETE", &name, "").status, 204);
        assert!(partials(fixture.path()).is_empty());
        writer.send_in_vain(vec![b'a'; MIB]);
        let answer = writer.receive_what_comes();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(request(daemon.data(), "HEAD", &name, "").status, 404);
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
    });
}
