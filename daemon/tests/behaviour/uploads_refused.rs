//! Tests of who may upload, and how much: a refused upload leaves everything as it is.

use std::io::Write;
use std::net::SocketAddr;

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, chunked, drivers, each_uploading, get, partials, pattern,
    put, put_text, request, request_text, run_streamd, send, settings, uploading, wait_until,
};

const WRITES: [&str; 4] = ["PUT", "POST", "PATCH", "DELETE"];

fn each_daemon(change: impl Fn(Settings) -> Settings + Sync, test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(change, test);
}

#[test]
fn where_uploads_are_off_reading_is_all_there_is() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, ..settings() });
        for method in WRITES {
            for path in ["/file", "/absent", "/.streamd-uploads/0123456789abcdef0123456789abcdef"] {
                let response = send(daemon.data(), method, path, "", b"new");
                assert_eq!(
                    (response.status, response.field("Allow")),
                    (405, Some("GET, HEAD, OPTIONS")),
                    "{method}"
                );
                response.problem();
            }
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        assert!(!fixture.path().join(".streamd-uploads").exists());
    }
}

#[test]
fn where_uploads_are_on_other_methods_are_told_so() {
    each_daemon(
        |settings| settings,
        |daemon, _| {
            let response = request(daemon.data(), "TRACE", "/file", "");
            let allow = Some("GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS");
            assert_eq!((response.status, response.field("Allow")), (405, allow));
            // Without the fields of a resumable upload a POST has no meaning here.
            let response = send(daemon.data(), "POST", "/file", "", b"content");
            assert_eq!(response.status, 400);
            response.problem();
            assert_eq!(get(daemon.data(), "/file", "").status, 404);
        },
    );
}

#[test]
fn where_others_reach_it_writing_needs_the_token() {
    let secret = Fixture::new();
    let token_file = Some(secret.write("token", b"secret-0123\n"));
    let data_listen: streamd::config::ListenAddress = "0.0.0.0:0".parse().unwrap();
    let change =
        |settings| Settings { data_listen: data_listen.clone(), token_file: token_file.clone(), ..settings };
    each_daemon(change, |daemon, fixture| {
        fixture.write("file", b"content");
        let address = SocketAddr::from(([127, 0, 0, 1], daemon.data().port()));
        for method in WRITES {
            for fields in [
                "",
                "Authorization: Bearer secret-0124\r\n",
                "Authorization: Bearer secret-01\r\n",
                "Authorization: Bearer secret-01234\r\n",
                "Authorization: Bearer\r\n",
                "Authorization: secret-0123\r\n",
                "Authorization: Basic secret-0123\r\n",
                "Origin: http://localhost\r\n",
            ] {
                for path in ["/file", "/absent", "/.streamd-uploads/0123456789abcdef0123456789abcdef"] {
                    let response = send(address, method, path, fields, b"new");
                    assert_eq!(response.status, 401, "{method} {path} {fields}");
                    assert_eq!(response.field("WWW-Authenticate"), Some("Bearer"));
                    assert!(!response.problem().contains("secret"));
                }
            }
        }
        let twice = "Authorization: Bearer secret-0123\r\n".repeat(2);
        assert_eq!(send(address, "PUT", "/file", &twice, b"new").status, 400);
        // The refusal comes before the body is asked for.
        let mut connection = Connection::open(address);
        connection.send(request_text("PUT", "/file", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
        assert_eq!(connection.response_to("PUT").status, 401);
        assert_eq!(get(address, "/file", "").text(), "content");
        assert!(partials(fixture.path()).is_empty());
        // The holder of the token may write, by whatever page; the name of the scheme has no case.
        for (fields, status) in [
            ("Authorization: Bearer secret-0123\r\n", 204),
            ("authorization: bearer  secret-0123\r\n", 204),
            ("Authorization: Bearer secret-0123\r\nOrigin: https://example.com\r\n", 204),
        ] {
            assert_eq!(send(address, "PUT", "/file", fields, b"new").status, status, "{fields}");
        }
        let fields = "Authorization: Bearer secret-0123\r\n";
        assert_eq!(send(address, "DELETE", "/file", fields, b"").status, 204);
    });
}

#[test]
fn web_pages_may_not_write() {
    each_daemon(
        |settings| settings,
        |daemon, fixture| {
            fixture.write("file", b"content");
            for origin in ["http://evil.example", "https://evil.example:8080", "null"] {
                for method in WRITES {
                    let response =
                        send(daemon.data(), method, "/file", &format!("Origin: {origin}\r\n"), b"new");
                    assert_eq!(response.status, 403, "{method} {origin}");
                    response.problem();
                }
                // Web pages may read what everybody may.
                let seen = get(daemon.data(), "/file", &format!("Origin: {origin}\r\n"));
                assert_eq!(seen.text(), "content");
            }
            assert!(partials(fixture.path()).is_empty());
        },
    );
}

#[test]
fn uploads_that_cannot_be_served_are_bad_configuration() {
    let fixture = Fixture::new();
    let root = fixture.path().to_str().unwrap();
    let empty = fixture.write("empty", b"").to_str().unwrap().to_owned();
    let (local, open, open_6) = ("127.0.0.1:0", "0.0.0.0:0", "[::]:0");
    for (data_listen, flags, fault) in [
        (local, vec![], "uploads: there is no directory to put files into"),
        (open, vec!["--root", root], "uploads: data_listen 0.0.0.0:0 can be reached"),
        (open_6, vec!["--root", root], "uploads: data_listen [::]:0 can be reached"),
        (open, vec!["--root", root, "--token-file", &empty], "token_file: "),
        (local, vec!["--root", root, "--uploads-max", "0"], "uploads_max: 0 is outside 1 to 65536"),
        (local, vec!["--root", root, "--partial-ttl", "1s"], "partial_ttl: "),
    ] {
        let listen = ["--data-listen", data_listen, "--control-listen", "127.0.0.1:0", "--uploads"];
        let output = run_streamd(&[&listen[..], &flags].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{flags:?}: {text}");
        assert!(text.contains(fault), "{flags:?}: {text}");
    }
}

#[test]
fn longer_than_is_taken_is_413() {
    const MAX: usize = 300_000;
    let content = pattern(MAX + 1);
    each_daemon(
        |settings| Settings { upload_bytes_max: MAX as u64, ..settings },
        |daemon, fixture| {
            fixture.write("file", b"content");
            for path in ["/file", "/absent"] {
                // The length is known from the head: the body isn't asked for.
                let mut connection = Connection::open(daemon.data());
                let fields = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", MAX + 1);
                connection.send(request_text("PUT", path, &fields));
                let response = connection.response_to("PUT");
                assert_eq!((response.status, response.field("Connection")), (413, Some("close")), "{path}");
                assert!(response.problem().contains("300000"));
                assert_eq!(put(daemon.data(), path, &range(0, MAX + 1), b"x").status, 413);
                // The length is found out on the way.
                let mut connection = Connection::open(daemon.data());
                connection.send(request_text("PUT", path, "Transfer-Encoding: chunked\r\n"));
                connection.send_in_vain(chunked(&content, 100_000));
                let response = connection.response_to("PUT");
                assert_eq!((response.status, response.field("Connection")), (413, Some("close")), "{path}");
                response.problem();
                assert!(connection.ends(), "{path}");
                wait_until("its space to be given back", || partials(fixture.path()).is_empty());
            }
            assert_eq!(get(daemon.data(), "/file", "").text(), "content");
            assert_eq!(get(daemon.data(), "/absent", "").status, 404);
            // This is the longest upload that is taken.
            assert_eq!(put(daemon.data(), "/file", "", &content[..MAX]).status, 204);
            assert!(get(daemon.data(), "/file", "").body == content[..MAX]);
        },
    );
}

/// Makes the range of the first byte of `total`.
fn range(first: usize, total: usize) -> String {
    format!("Content-Range: bytes {first}-{first}/{total}\r\n")
}

/// Begins a PUT that has a writer and is not done.
fn begun(daemon: &TestDaemon, fixture: &Fixture, path: &str) -> Connection {
    let before = partials(fixture.path()).len();
    let mut connection = Connection::open(daemon.data());
    connection.send(request_text("PUT", path, "Content-Length: 5\r\n"));
    wait_until("an upload", || partials(fixture.path()).len() > before);
    connection
}

fn assert_too_many(response: &Response) {
    assert_eq!(response.status, 429);
    let seconds: u32 = response.field("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    response.problem();
}

#[test]
fn above_the_limit_uploads_are_429() {
    each_daemon(
        |settings| Settings { uploads_max: 2, ..settings },
        |daemon, fixture| {
            let mut first = begun(daemon, fixture, "/first");
            let second = begun(daemon, fixture, "/second");
            assert_too_many(&put(daemon.data(), "/third", "", b"third"));
            let fields = "Upload-Complete: ?0\r\n";
            let response = send(daemon.data(), "POST", "/third", fields, b"third");
            assert_too_many(&response);
            assert_eq!(request(daemon.data(), "DELETE", "/third", "").status, 404);
            first.send(b"first");
            assert_eq!(first.response_to("PUT").status, 201);
            assert_eq!(put(daemon.data(), "/third", "", b"third").status, 201);
            // An upload that breaks off gives its place back too.
            let third = begun(daemon, fixture, "/third");
            assert_too_many(&put(daemon.data(), "/first", "", b"again"));
            drop((second, third));
            wait_until("both to be gone", || partials(fixture.path()).is_empty());
            assert_eq!(put(daemon.data(), "/first", "", b"again").status, 204);
        },
    );
}

#[test]
fn above_the_limit_of_a_destination_uploads_to_it_are_429() {
    each_daemon(
        |settings| Settings { uploads_per_destination_max: 2, ..settings },
        |daemon, fixture| {
            let mut uploads = [begun(daemon, fixture, "/file"), begun(daemon, fixture, "/file")];
            assert_too_many(&put(daemon.data(), "/file", "", b"third"));
            assert_too_many(&put(daemon.data(), "/./file", "", b"third"));
            assert_eq!(put(daemon.data(), "/other", "", b"other").status, 201);
            for (connection, status) in uploads.iter_mut().zip([201, 204]) {
                connection.send(b"hello");
                assert_eq!(connection.response_to("PUT").status, status);
            }
            assert_eq!(put(daemon.data(), "/file", "", b"third").status, 204);
        },
    );
}

#[test]
fn limits_change_while_the_daemon_runs() {
    for driver in drivers() {
        let fixture = Fixture::new();
        let settings = Settings { driver, workers: 1, ..uploading(fixture.path()) };
        let daemon = TestDaemon::start(settings.clone());
        assert_eq!(put(daemon.data(), "/dir/file", "", b"hello").status, 409);
        let changed = Settings { create_dirs: true, upload_bytes_max: 5, ..settings };
        assert_eq!(daemon.reload(changed), [] as [String; 0]);
        wait_until("the new settings", || put(daemon.data(), "/dir/file", "", b"hello").status == 201);
        assert_eq!(put(daemon.data(), "/dir/file", "", b"hello!").status, 413);
    }
}

#[test]
fn the_reserve_of_the_disk_is_not_touched() {
    let change = |settings| Settings { min_free_bytes: 1 << 60, ..settings };
    each_daemon(change, |daemon, fixture| {
        fixture.write("file", b"content");
        for path in ["/file", "/absent"] {
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", path, "Expect: 100-continue\r\nContent-Length: 5\r\n"));
            let response = connection.response_to("PUT");
            assert_eq!(response.status, 507, "{path}");
            let detail = response.problem();
            let words = "there is not enough free space: min_free_bytes of the file system stay free; remove";
            assert!(detail.starts_with(words), "{detail}");
        }
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("PUT", "/absent", "Transfer-Encoding: chunked\r\n"));
        connection.send(chunked(b"hello", 5));
        assert_eq!(connection.response_to("PUT").status, 507);
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        assert_eq!(get(daemon.data(), "/absent", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
        // The removal of a file makes room.
        assert_eq!(request(daemon.data(), "DELETE", "/file", "").status, 204);
    });
}

#[test]
fn the_body_of_a_refused_upload_is_not_waited_for() {
    each_daemon(
        |settings| settings,
        |daemon, fixture| {
            std::fs::create_dir(fixture.path().join("directory")).unwrap();
            // The body is announced, and never sent.
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/directory", "Content-Length: 99999999999\r\n"));
            let response = connection.response_to("PUT");
            assert_eq!((response.status, response.field("Connection")), (409, Some("close")));
            assert!(connection.ends());
            // The body isn't taken for a request: it ends the connection, or is dropped up to 64 KiB.
            let next = request_text("GET", "/directory/../absent", "");
            for size in [1, 64 << 10, (64 << 10) + 1, 3 * MIB] {
                let mut connection = Connection::open(daemon.data());
                let body = next.as_bytes().repeat(size / next.len() + 1);
                connection.send_in_vain(put_text("/directory", "", &body[..size]));
                connection.send_in_vain(&next);
                let response = connection.response_to("PUT");
                assert_eq!(response.status, 409, "{size}");
                if size > 64 << 10 {
                    assert_eq!(response.field("Connection"), Some("close"), "{size}");
                    assert!(connection.receive_what_comes().is_empty(), "{size}: a second answer");
                } else {
                    assert_eq!(response.field("Connection"), None, "{size}");
                    assert_eq!(connection.response_to("GET").status, 404, "{size}");
                }
            }
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/directory", "Transfer-Encoding: chunked\r\n"));
            connection.send_in_vain(chunked(&vec![b'b'; MIB], 50_000));
            let response = connection.response_to("PUT");
            assert_eq!((response.status, response.field("Connection")), (409, Some("close")));
            assert!(connection.receive_what_comes().is_empty());
        },
    );
}

/// The most bytes that are taken of a body that is dropped, with those of the receive that went past them.
const TAKEN_BYTES_MAX: usize = (64 << 10) + (16 << 10);

/// The bytes that are received at once of a body that is still wanted.
const WANTED_BYTES_MAX: usize = 256 << 10;

/// Returns the most that a socket's receive buffer grows to, in bytes (tcp(7)).
fn receive_buffer_bytes_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap()
}

/// Sends as much of a body as is taken, and returns how much that was. The answer can be read when it ends.
fn pump(connection: &mut Connection, length: usize) -> usize {
    let stream = connection.stream();
    let block = vec![b'x'; 64 << 10];
    let mut sent = 0;
    while sent < length {
        match stream.write(&block) {
            Ok(count) => sent += count,
            // The daemon has waited for long enough, and reset the connection.
            Err(_) => break,
        }
    }
    sent
}

#[test]
fn of_the_body_of_a_refused_upload_no_more_than_64_kib_is_taken() {
    const BODY_BYTES: usize = 50 << 20;
    each_daemon(
        |settings| Settings { upload_bytes_max: 10, ..settings },
        |daemon, fixture| {
            std::fs::create_dir(fixture.path().join("directory")).unwrap();
            let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{BODY_BYTES:x}\r\n");
            let length = format!("Content-Length: {BODY_BYTES}\r\n\r\n");
            for (path, framing, status, taken) in [
                ("/file", &length, 413, TAKEN_BYTES_MAX),
                ("/directory", &chunk, 409, TAKEN_BYTES_MAX),
                // This body is found to be too long only on the way.
                ("/file", &chunk, 413, TAKEN_BYTES_MAX + WANTED_BYTES_MAX),
            ] {
                let mut connection = Connection::open(daemon.data());
                let socket = socket2::SockRef::from(&*connection.stream());
                socket.set_send_buffer_size(64 << 10).unwrap();
                let held = socket.send_buffer_size().unwrap() + receive_buffer_bytes_max();
                connection.send(format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\n{framing}"));
                let sent = pump(&mut connection, BODY_BYTES);
                assert!(sent <= taken + held, "{path} {framing}: {sent} bytes were taken");
                // The part of the answer that was sent outlives the reset: the client's host has it.
                let response = connection.response_to("PUT");
                assert_eq!((response.status, response.field("Connection")), (status, Some("close")));
            }
        },
    );
}

/// A client that sends a short body before it looks for its answer finds that, and an orderly end.
#[test]
fn a_client_that_sends_first_and_reads_then_gets_its_answer() {
    each_daemon(
        |settings| Settings { upload_bytes_max: 10, ..settings },
        |daemon, _| {
            for length in [11, 64 << 10, 60_000] {
                for expect in ["", "Expect: 100-continue\r\n"] {
                    let mut connection = Connection::open(daemon.data());
                    connection.send(put_text("/file", expect, &vec![b'x'; length]));
                    connection.finish();
                    let response = connection.response_to("PUT");
                    assert_eq!(response.status, 413, "{length} {expect}");
                    assert!(connection.receive_to_end().is_empty(), "{length} {expect}");
                }
            }
        },
    );
}
