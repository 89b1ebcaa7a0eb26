//! Tests of connections that stay: from their second answer on they are told of arrivals instead of waiting for
//! them through the ring, so nothing may be overlooked that came while nobody was waiting.

use streamd::config::Settings;

use crate::harness::{Connection, Fixture, TestDaemon, drivers, settings};

const REQUEST: &str = "GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Bytes that the daemon receives at a time.
const RECEIVE_BYTES: usize = 16 << 10;

fn each_kept(test: impl Fn(&mut Connection)) {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, ..settings() });
        let mut connection = Connection::open(daemon.data());
        for _ in 0..5 {
            connection.send(REQUEST);
            assert_answered(&mut connection);
        }
        test(&mut connection);
    }
}

fn assert_answered(connection: &mut Connection) {
    let response = connection.response_to("GET");
    assert_eq!((response.status, response.text().as_str()), (200, "content"));
}

#[test]
fn a_burst_larger_than_one_receive_is_answered_whole() {
    // In one case the receives end within a request, in the other with the buffer's last byte.
    let filler = RECEIVE_BYTES - REQUEST.len() * 100;
    let exact = format!("GET /file HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "f".repeat(filler - 35));
    for first in [REQUEST.to_owned(), exact] {
        each_kept(|connection| {
            let count = 4 * RECEIVE_BYTES / REQUEST.len();
            connection.send([first.as_str(), &REQUEST.repeat(count)].concat());
            for _ in 0..=count {
                assert_answered(connection);
            }
            connection.send(REQUEST);
            assert_answered(connection);
        });
    }
}

#[test]
fn a_head_and_a_body_in_pieces_are_put_together() {
    each_kept(|connection| {
        for byte in REQUEST.bytes() {
            connection.send([byte]);
        }
        assert_answered(connection);
        connection.send("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n");
        for _ in 0..4 {
            connection.send(vec![b'b'; 10_000]);
        }
        assert_answered(connection);
        connection.send(REQUEST);
        assert_answered(connection);
    });
}

#[test]
fn the_end_is_seen_with_the_last_request_and_after_it() {
    each_kept(|connection| {
        connection.send(REQUEST);
        connection.finish();
        assert_answered(connection);
        assert!(connection.receive_to_end().is_empty());
    });
    each_kept(|connection| {
        connection.finish();
        assert!(connection.receive_to_end().is_empty());
    });
}
