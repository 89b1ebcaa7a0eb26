//! Tests of bodies that are not what their head says: nothing of them gets a name.

use std::time::Duration;

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, each_uploading, get, partials, pattern, put, put_text,
    request, request_text, wait_until, write_text,
};

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(
        |settings| settings,
        |daemon, fixture| {
            fixture.write("file", b"content");
            test(daemon, fixture);
            let seen = get(daemon.data(), "/file", "");
            assert_eq!((seen.status, seen.text().as_str()), (200, "content"));
            assert_eq!(get(daemon.data(), "/absent", "").status, 404);
            wait_until("all uploads to be gone", || partials(fixture.path()).is_empty());
        },
    );
}

fn put_chunks(daemon: &TestDaemon, path: &str, chunks: &[u8]) -> (Response, Connection) {
    let mut connection = Connection::open(daemon.data());
    connection.send(request_text("PUT", path, "Transfer-Encoding: chunked\r\n"));
    connection.send_in_vain(chunks);
    (connection.response_to("PUT"), connection)
}

#[test]
fn chunks_that_are_none_are_400() {
    let extensions = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(5_000));
    let trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", "Trailer: x\r\n".repeat(1_000));
    each_daemon(|daemon, _| {
        for chunks in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            // These chunks are longer and shorter than they say.
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhell\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            // These sizes overflow.
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
            "5\r\nhello\r\n10000000000000000\r\n",
            // These trailers are malformed.
            "5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
            "5\r\nhello\r\n0\r\nX: a\nb\r\n\r\n",
            "5\r\nhello\r\n0\r\n folded: x\r\n\r\n",
            &extensions,
            &trailers,
        ] {
            for path in ["/file", "/absent"] {
                let (response, mut connection) = put_chunks(daemon, path, chunks.as_bytes());
                let shown = &chunks[..chunks.len().min(60)];
                assert_eq!(response.status, 400, "{shown:?}");
                assert_eq!(response.field("Connection"), Some("close"), "{shown:?}");
                response.problem();
                assert!(connection.ends(), "{shown:?}");
            }
        }
    });
}

#[test]
fn chunks_that_break_after_much_are_400_too() {
    let mut chunks = Vec::new();
    for part in pattern(4 * MIB).chunks(MIB) {
        chunks.extend_from_slice(b"100000\r\n");
        chunks.extend_from_slice(part);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"what?\r\n");
    each_daemon(|daemon, _| {
        for path in ["/file", "/absent"] {
            assert_eq!(put_chunks(daemon, path, &chunks).0.status, 400);
        }
    });
}

#[test]
fn a_body_that_breaks_off_is_no_file() {
    each_daemon(|daemon, _| {
        for path in ["/file", "/absent"] {
            for (framing, body) in [
                ("Content-Length: 6\r\n", ""),
                ("Content-Length: 6\r\n", "hello"),
                ("Transfer-Encoding: chunked\r\n", ""),
                ("Transfer-Encoding: chunked\r\n", "5\r\nhel"),
                ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
                ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"),
                ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nTrailer: x\r\n"),
            ] {
                let mut connection = Connection::open(daemon.data());
                connection.send(request_text("PUT", path, framing) + body);
                connection.finish();
                assert!(connection.ends(), "{framing} {body:?}: an answer");
            }
        }
    });
}

#[test]
fn a_connection_that_is_reset_leaves_nothing() {
    each_daemon(|daemon, fixture| {
        for path in ["/file", "/absent"] {
            let mut connection = Connection::open(daemon.data());
            connection.send(&put_text(path, "", &pattern(3 * MIB))[..500_000]);
            wait_until("an upload", || !partials(fixture.path()).is_empty());
            // With a linger time of zero a close resets (socket(7)).
            socket2::SockRef::from(&*connection.stream()).set_linger(Some(Duration::ZERO)).unwrap();
            drop(connection);
            wait_until("the upload to be gone", || partials(fixture.path()).is_empty());
        }
    });
}

/// The bytes behind a body are the next request, whatever they were meant to be.
#[test]
fn bytes_behind_a_body_are_not_its_own() {
    each_daemon(|daemon, fixture| {
        let mut connection = Connection::open(daemon.data());
        connection.send(put_text("/short", "", b"hello"));
        connection.send(b", world\r\n\r\n");
        assert_eq!(connection.response_to("PUT").status, 201);
        assert_eq!(connection.response_to("PUT").status, 400);
        assert!(connection.ends());
        let (response, mut connection) =
            put_chunks(daemon, "/chunked", b"5\r\nhello\r\n0\r\n\r\n, world\r\n\r\n");
        assert_eq!(response.status, 201);
        assert_eq!(connection.response_to("PUT").status, 400);
        assert!(connection.ends());
        for name in ["short", "chunked"] {
            assert_eq!(std::fs::read(fixture.path().join(name)).unwrap(), b"hello", "{name}");
        }
    });
}

#[test]
fn a_head_that_contradicts_itself_is_400() {
    each_daemon(|daemon, _| {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 0x5\r\n",
        ] {
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/file", fields) + "hello");
            let response = connection.response_to("PUT");
            assert_eq!(response.status, 400, "{fields}");
            assert!(connection.ends(), "{fields}");
        }
        for (fields, status) in [("Transfer-Encoding: gzip, chunked\r\n", 501), ("Expect: 200-ok\r\n", 417)] {
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/file", fields));
            assert_eq!(connection.response_to("PUT").status, status, "{fields}");
        }
    });
}

#[test]
fn a_coded_body_is_415() {
    each_daemon(|daemon, _| {
        for coding in ["gzip", "br", "deflate", "gzip, identity", "x-unknown"] {
            for path in ["/file", "/absent"] {
                let response = put(daemon.data(), path, &format!("Content-Encoding: {coding}\r\n"), b"hello");
                assert_eq!(response.status, 415, "{coding}");
                response.problem();
            }
        }
        let mut connection = Connection::open(daemon.data());
        let coded = "Upload-Complete: ?0\r\nContent-Encoding: gzip\r\n";
        connection.send(write_text("POST", "/absent", coded, b"hello"));
        assert_eq!(connection.response_to("POST").status, 415);
        let mut connection = Connection::open(daemon.data());
        connection.send(write_text("POST", "/absent", "Upload-Complete: ?0\r\n", b"hello"));
        let name = connection.response_to("POST").field("Location").unwrap().to_owned();
        let fields = "Content-Type: application/partial-upload\r\nContent-Encoding: gzip\r\n\
                      Upload-Offset: 5\r\nUpload-Complete: ?1\r\n";
        let mut connection = Connection::open(daemon.data());
        connection.send(write_text("PATCH", &name, fields, b"hello"));
        assert_eq!(connection.response_to("PATCH").status, 415);
        assert_eq!(request(daemon.data(), "DELETE", &name, "").status, 204);
        assert_eq!(put(daemon.data(), "/plain", "Content-Encoding: identity\r\n", b"hello").status, 201);
    });
}

#[test]
fn a_client_that_falls_silent_is_408_in_time() {
    let change = |settings| Settings { receive_timeout_ms: 300, ..settings };
    each_uploading(change, |daemon, fixture| {
        fixture.write("file", b"content");
        for (framing, part) in [("Content-Length: 6", "hello"), ("Transfer-Encoding: chunked", "6\r\nhello")]
        {
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/file", &format!("{framing}\r\n")) + part);
            let response = connection.response_to("PUT");
            assert_eq!((response.status, response.field("Connection")), (408, Some("close")), "{framing}");
            response.problem();
            assert!(connection.ends(), "{framing}");
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        wait_until("the uploads to be gone", || partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_name_too_long_for_the_disk_is_414() {
    each_daemon(|daemon, _| {
        let response = put(daemon.data(), &format!("/{}", "n".repeat(300)), "", b"hello");
        assert_eq!(response.status, 414);
        response.problem();
    });
}
