//! Tests of bodies that come with GET and HEAD: they are dropped, and the next request begins right after them.

use streamd::config::Settings;

use crate::harness::{Connection, Fixture, TestDaemon, drivers, settings};

const NEXT: &str = "GET /file HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1-2\r\n\r\n";

/// The largest body that is received and dropped.
const DRAINED_BYTES: usize = 64 << 10;

fn each_daemon(test: impl Fn(&TestDaemon)) {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        test(&TestDaemon::start(Settings { driver, root, ..settings() }));
    }
}

fn with_length(method: &str, body: &str) -> String {
    format!("{method} /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn with_chunks(chunks: &str) -> String {
    format!("GET /file HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

/// Asserts that `text` gets its answer, and the request behind it too.
fn assert_drained(daemon: &TestDaemon, method: &str, text: &str) {
    let mut connection = Connection::open(daemon.data());
    connection.send(text);
    connection.send(NEXT);
    let response = connection.response_to(method);
    assert_eq!((response.status, response.content_length()), (200, 7));
    assert_eq!(response.field("Connection"), None);
    let next = connection.response_to("GET");
    assert_eq!((next.status, next.text().as_str()), (206, "on"));
}

/// Asserts that `text` gets its answer, and then the connection ends; nothing in the body is taken for a request.
fn assert_closed_after_the_answer(daemon: &TestDaemon, text: &str) {
    let mut connection = Connection::open(daemon.data());
    connection.send(text);
    connection.send(NEXT);
    let response = connection.response_to("GET");
    assert_eq!((response.status, response.text().as_str()), (200, "content"));
    assert_eq!(response.field("Connection"), Some("close"));
    assert!(connection.receive_to_end().is_empty(), "a second answer");
}

#[test]
fn small_bodies_are_dropped_and_the_connection_stays() {
    each_daemon(|daemon| {
        for method in ["GET", "HEAD"] {
            for size in [0, 1, 5_000, DRAINED_BYTES] {
                assert_drained(daemon, method, &with_length(method, &"b".repeat(size)));
            }
            // A body that looks like a request.
            assert_drained(
                daemon,
                method,
                &with_length(method, "GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            );
        }
    });
}

#[test]
fn small_chunked_bodies_are_dropped_and_the_connection_stays() {
    let many = "5\r\nhello\r\n".repeat(1000) + "0\r\n\r\n";
    let large = format!("{:x}\r\n{}\r\n0\r\n\r\n", 60_000, "b".repeat(60_000));
    each_daemon(|daemon| {
        for chunks in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A;name=value\r\n0123456789\r\n00\r\nTrailer: x\r\n\r\n",
            &many,
            &large,
        ] {
            assert_drained(daemon, "GET", &with_chunks(chunks));
        }
    });
}

#[test]
fn large_bodies_end_the_connection_after_the_answer() {
    each_daemon(|daemon| {
        assert_closed_after_the_answer(daemon, &with_length("GET", &"b".repeat(DRAINED_BYTES + 1)));
        let chunk = format!("{:x}\r\n{}\r\n", DRAINED_BYTES, "b".repeat(DRAINED_BYTES));
        assert_closed_after_the_answer(daemon, &with_chunks(&format!("{chunk}{chunk}0\r\n\r\n")));
        // The body is announced and never sent: the answer doesn't wait for it.
        let mut connection = Connection::open(daemon.data());
        connection.send("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
        assert_eq!(connection.response_to("GET").status, 200);
        assert!(connection.receive_to_end().is_empty());
    });
}

#[test]
fn chunks_that_are_none_end_the_connection() {
    each_daemon(|daemon| {
        for chunks in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
            "0\r\nX: a\nb\r\n\r\n",
        ] {
            assert_closed_after_the_answer(daemon, &with_chunks(chunks));
        }
    });
}

/// The body of a GET is never wanted, so there is no 100: the final answer comes at once, and since the client may
/// send the body or not, the connection ends.
#[test]
fn a_client_that_waits_for_100_gets_its_final_answer() {
    each_daemon(|daemon| {
        let mut connection = Connection::open(daemon.data());
        connection.send(
            "GET /file HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        let response = connection.response_to("GET");
        assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
        assert_eq!(response.text(), "content");
        connection.send("hello");
        assert!(connection.receive_to_end().is_empty());
        // Without a body there is nothing to wait for.
        let mut connection = Connection::open(daemon.data());
        connection.send("GET /file HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(connection.response_to("GET").status, 200);
        connection.send(NEXT);
        assert_eq!(connection.response_to("GET").status, 206);
    });
}

/// The answer to a request whose body is dropped comes while the body is on its way, and the rest of the body is
/// no request.
#[test]
fn a_body_that_does_not_come_holds_up_no_answer() {
    each_daemon(|daemon| {
        for method in ["GET", "HEAD"] {
            let mut connection = Connection::open(daemon.data());
            connection
                .send(format!("{method} /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nGET"));
            let response = connection.response_to(method);
            assert_eq!((response.status, response.field("Connection")), (200, None));
            // The rest of the body is followed by the next request.
            connection.send(format!(" / HTTP{NEXT}"));
            assert_eq!(connection.response_to("GET").status, 206);
            connection
                .send(format!("{method} /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nGET"));
            assert_eq!(connection.response_to(method).status, 200);
            connection.finish();
            assert!(connection.receive_to_end().is_empty(), "a second answer");
        }
    });
}

/// A body whose end only chunks tell is answered too, once it is clear that the end doesn't come.
#[test]
fn a_chunked_body_that_does_not_end_is_answered() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, receive_timeout_ms: 300, ..settings() });
        let mut late = Connection::open(daemon.data());
        late.send(with_chunks("5\r\nhel"));
        let response = late.response_to("GET");
        assert_eq!(response.status, 408);
        assert_eq!(response.problem(), "the request body was not complete in time");
        assert!(late.receive_to_end().is_empty());
        let mut ended = Connection::open(daemon.data());
        ended.send(with_chunks("5\r\nhel"));
        ended.finish();
        let response = ended.response_to("GET");
        assert_eq!(response.status, 400);
        assert_eq!(response.problem(), "the connection ended inside the request body");
        assert!(ended.receive_to_end().is_empty());
    }
}
