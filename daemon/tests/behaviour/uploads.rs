//! Tests of uploads over real connections: bodies that become files, and what others see of them.

use std::time::Duration;

use streamd::config::{Durability, Settings};

use crate::harness::{
    Connection, Fixture, MIB, TestDaemon, chunked, drivers, each_uploading, get, partials, pattern, put,
    put_text, request, request_text, sha256, uploading, wait_until,
};

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| settings, test);
}

/// Whether no upload is under way and none waits.
fn is_tidy(fixture: &Fixture) -> bool {
    partials(fixture.path()).is_empty()
}

#[test]
fn a_new_file_is_201_and_a_replaced_one_204() {
    for durability in [Durability::Fsync, Durability::None] {
        let change = |settings| Settings { durability, ..settings };
        each_uploading(change, |daemon, fixture| {
            let mut tags = Vec::new();
            for (content, status) in [("first", 201), ("second!", 204), ("third", 204)] {
                let response = put(daemon.data(), "/file", "", content.as_bytes());
                assert_eq!(response.status, status, "{content}");
                assert!(response.body.is_empty() && response.field("Date").is_some());
                // A 204 has no Content-Length (RFC 9110 8.6).
                assert_eq!(response.field("Content-Length"), (status == 201).then_some("0"), "{content}");
                let seen = get(daemon.data(), "/file", "");
                assert_eq!((seen.status, seen.text().as_str()), (200, content));
                assert_eq!(response.field("ETag"), seen.field("ETag"), "{content}");
                assert_eq!(std::fs::read_to_string(fixture.path().join("file")).unwrap(), content);
                tags.push(response.field("ETag").unwrap().to_owned());
            }
            assert!(tags[0] != tags[1] && tags[0] != tags[2] && tags[1] != tags[2], "{tags:?}");
            assert!(is_tidy(fixture));
        });
    }
}

#[test]
fn two_files_of_one_length_at_one_moment_have_tags_of_their_own() {
    each_daemon(|daemon, _| {
        let mut tags: Vec<String> = (0..50)
            .map(|number: u8| put(daemon.data(), "/file", "", &[number]).field("ETag").unwrap().to_owned())
            .collect();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 50);
    });
}

#[test]
fn a_chunked_body_becomes_the_file() {
    let content = pattern(100_000);
    each_daemon(|daemon, fixture| {
        for (chunk_bytes, path) in [(1, "/bytes"), (7, "/sevens"), (16 << 10, "/16k"), (100_000, "/one")] {
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", path, "Transfer-Encoding: chunked\r\n"));
            connection.send(chunked(&content, chunk_bytes));
            assert_eq!(connection.response_to("PUT").status, 201, "{path}");
            assert!(get(daemon.data(), path, "").body == content, "{path}");
        }
        // The body has extensions and trailers, and comes in pieces.
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("PUT", "/pieces", "Transfer-Encoding: chunked\r\n"));
        for piece in ["3;name=va", "lue\r", "\nab", "c\r\n0", "2\r\nde\r\n0\r", "\nTrailer: x\r", "\n\r\n"] {
            connection.send(piece);
        }
        assert_eq!(connection.response_to("PUT").status, 201);
        assert_eq!(get(daemon.data(), "/pieces", "").text(), "abcde");
        assert!(is_tidy(fixture));
    });
}

#[test]
fn a_body_of_nothing_is_an_empty_file() {
    each_daemon(|daemon, fixture| {
        assert_eq!(put(daemon.data(), "/file", "", b"").status, 201);
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("PUT", "/chunked", "Transfer-Encoding: chunked\r\n"));
        connection.send(chunked(b"", 1));
        assert_eq!(connection.response_to("PUT").status, 201);
        for path in ["/file", "/chunked"] {
            let seen = get(daemon.data(), path, "");
            assert_eq!((seen.status, seen.content_length()), (200, 0), "{path}");
        }
        assert_eq!(put(daemon.data(), "/file", "", b"x").status, 204);
        assert_eq!(put(daemon.data(), "/file", "", b"").status, 204);
        assert_eq!(std::fs::metadata(fixture.path().join("file")).unwrap().len(), 0);
        assert!(is_tidy(fixture));
    });
}

#[test]
fn a_large_body_arrives_whole() {
    let content = pattern(40 * MIB + 12_345);
    let digest = sha256(&content);
    for durability in [Durability::Fsync, Durability::None] {
        let change = |settings| Settings { durability, ..settings };
        each_uploading(change, |daemon, fixture| {
            let stored = || sha256(&std::fs::read(fixture.path().join("file")).unwrap());
            assert_eq!(put(daemon.data(), "/file", "", &content).status, 201);
            assert_eq!(stored(), digest);
            std::fs::remove_file(fixture.path().join("file")).unwrap();
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/file", "Transfer-Encoding: chunked\r\n"));
            connection.send(chunked(&content, 300_001));
            assert_eq!(connection.response_to("PUT").status, 201);
            assert_eq!(stored(), digest);
            assert!(is_tidy(fixture));
        });
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_before_its_body() {
    each_daemon(|daemon, _| {
        for body_is in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            let mut connection = Connection::open(daemon.data());
            for status in [201, 204] {
                let path = format!("/{}", &body_is[..5]);
                let fields = format!("Expect: 100-continue\r\n{body_is}");
                connection.send(request_text("PUT", &path, &fields));
                assert_eq!(connection.head().status, 100, "{body_is}");
                let is_chunked = body_is.contains("chunked");
                connection.send(if is_chunked { chunked(b"hello", 2) } else { b"hello".to_vec() });
                assert_eq!(connection.response_to("PUT").status, status, "{body_is}");
                assert_eq!(get(daemon.data(), &path, "").text(), "hello");
            }
        }
        // Without a body there is nothing to wait for.
        let mut connection = Connection::open(daemon.data());
        connection.send(put_text("/empty", "Expect: 100-continue\r\n", b""));
        assert_eq!(connection.response_to("PUT").status, 201);
    });
}

#[test]
fn a_client_that_waits_for_100_is_refused_without_it() {
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"content");
        fixture.write("directory/file", b"content");
        for (path, condition, status) in [
            ("/file", "If-None-Match: *\r\n", 412),
            ("/absent", "If-Match: *\r\n", 412),
            ("/directory", "", 409),
            ("/absent/file", "", 409),
            ("/.streamd-uploads/file", "", 404),
            ("/file", "Repr-Digest: sha-256=x\r\n", 400),
        ] {
            let mut connection = Connection::open(daemon.data());
            let fields = format!("Expect: 100-continue\r\nContent-Length: 5\r\n{condition}");
            connection.send(request_text("PUT", path, &fields));
            let response = connection.response_to("PUT");
            assert_eq!(response.status, status, "{path} {condition}");
            response.problem();
            // It may send its body now or not (RFC 9110 10.1.1).
            assert_eq!(response.field("Connection"), Some("close"), "{path}");
            connection.send(b"hello");
            assert!(connection.ends(), "{path}");
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        assert!(is_tidy(fixture));
    });
}

#[test]
fn a_connection_goes_on_after_an_upload() {
    let large = pattern(3 * MIB);
    each_daemon(|daemon, _| {
        let mut connection = Connection::open(daemon.data());
        for round in 0..5 {
            let content = format!("content {round}");
            connection.send(put_text("/file", "", content.as_bytes()));
            assert_eq!(connection.response_to("PUT").status, if round == 0 { 201 } else { 204 });
            connection.send(request_text("GET", "/file", ""));
            assert_eq!(connection.response_to("GET").text(), content);
        }
        connection.send(put_text("/large", "", &large));
        assert_eq!(connection.response_to("PUT").status, 201);
        connection.send(request_text("PUT", "/file", "Transfer-Encoding: chunked\r\n"));
        connection.send(chunked(b"content", 3));
        assert_eq!(connection.response_to("PUT").status, 204);
        // The request comes one byte at a time.
        for byte in put_text("/file", "", b"bytes") {
            connection.send([byte]);
        }
        assert_eq!(connection.response_to("PUT").status, 204);
        connection.send(request_text("GET", "/file", "Connection: close\r\n"));
        assert_eq!(connection.response_to("GET").text(), "bytes");
        assert!(connection.receive_to_end().is_empty());
    });
}

#[test]
fn requests_one_behind_the_other_are_answered_in_order() {
    let large = pattern(MIB);
    each_daemon(|daemon, _| {
        let mut connection = Connection::open(daemon.data());
        let close = request_text("GET", "/second", "Connection: close\r\n");
        let burst = [
            put_text("/first", "", b"one"),
            request_text("GET", "/first", "").into_bytes(),
            request_text("PUT", "/first", "Transfer-Encoding: chunked\r\n").into_bytes(),
            chunked(b"two!", 3),
            request_text("GET", "/first", "").into_bytes(),
            put_text("/second", "", &large),
            request_text("DELETE", "/first", "").into_bytes(),
            request_text("GET", "/first", "").into_bytes(),
            close.into_bytes(),
        ];
        connection.send(burst.concat());
        assert_eq!(connection.response_to("PUT").status, 201);
        assert_eq!(connection.response_to("GET").text(), "one");
        assert_eq!(connection.response_to("PUT").status, 204);
        assert_eq!(connection.response_to("GET").text(), "two!");
        assert_eq!(connection.response_to("PUT").status, 201);
        assert_eq!(connection.response_to("DELETE").status, 204);
        assert_eq!(connection.response_to("GET").status, 404);
        assert!(connection.response_to("GET").body == large);
        assert!(connection.receive_to_end().is_empty());
    });
}

#[test]
fn http_10_uploads_too() {
    each_daemon(|daemon, _| {
        let mut connection = Connection::open(daemon.data());
        connection.send("PUT /file HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
        let response = connection.response_to("PUT");
        assert_eq!((response.status, response.field("Connection")), (201, Some("close")));
        assert!(connection.receive_to_end().is_empty());
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello");
    });
}

/// A known file is believed for a minute here: only the upload itself can make the workers look again.
#[test]
fn after_the_answer_every_worker_has_the_new_file() {
    const WORKERS: usize = 4;
    let change = |settings| Settings { workers: WORKERS, cache_valid_ms: 60_000, ..settings };
    each_uploading(change, |daemon, _| {
        let mut readers: Vec<Connection> = (0..32).map(|_| Connection::open(daemon.data())).collect();
        let mut writer = Connection::open(daemon.data());
        let read = |readers: &mut Vec<Connection>, status: u16, content: &[u8]| {
            for reader in readers.iter_mut() {
                reader.send(request_text("GET", "/file", ""));
            }
            for reader in readers {
                let response = reader.response_to("GET");
                assert_eq!(response.status, status);
                assert!(status != 200 || response.body == content, "an old body");
            }
        };
        read(&mut readers, 404, b"");
        for round in 0..20 {
            // The content is small enough to be kept in one round, and too large in the next.
            let content = vec![b'a' + round; if round % 2 == 0 { 5_000 } else { 500_000 }];
            writer.send(put_text("/file", "", &content));
            assert!(writer.response_to("PUT").status < 300);
            read(&mut readers, 200, &content);
            if round % 5 == 4 {
                writer.send(request_text("DELETE", "/file", ""));
                assert_eq!(writer.response_to("DELETE").status, 204);
                read(&mut readers, 404, b"");
            }
        }
        let asked: Vec<u64> =
            daemon.telemetry().workers.iter().map(|worker| worker.connections_accepted.get()).collect();
        assert!(asked.iter().filter(|count| **count > 0).count() > 1, "one worker alone: {asked:?}");
    });
}

/// The bytes of a file that is larger than any pair of socket buffers, so that a download which nobody reads is
/// far from its middle.
const DOWNLOAD_BYTES: usize = 24 * MIB;

#[test]
fn a_download_under_way_ends_with_the_old_body() {
    let (old, new) = (pattern(DOWNLOAD_BYTES), vec![b'n'; DOWNLOAD_BYTES]);
    let digest = sha256(&old);
    each_daemon(|daemon, _| {
        assert_eq!(put(daemon.data(), "/file", "", &old).status, 201);
        let begin = || {
            let mut connection = Connection::open_slow(daemon.data(), 64 << 10);
            connection.send(request_text("GET", "/file", ""));
            assert_eq!(connection.head().content_length(), DOWNLOAD_BYTES);
            connection
        };
        let mut downloads = [begin(), begin()];
        assert_eq!(put(daemon.data(), "/file", "", &new).status, 204);
        let mut deleted = begin();
        assert_eq!(request(daemon.data(), "DELETE", "/file", "").status, 204);
        for connection in &mut downloads {
            assert_eq!(sha256(&connection.receive(DOWNLOAD_BYTES)), digest);
            connection.send(request_text("GET", "/file", ""));
            assert_eq!(connection.response_to("GET").status, 404);
        }
        assert!(deleted.receive(DOWNLOAD_BYTES) == new);
    });
}

#[test]
fn of_an_upload_under_way_nobody_sees_anything() {
    let change = |settings| Settings { listing: true, cache_valid_ms: 0, ..settings };
    each_uploading(change, |daemon, fixture| {
        fixture.write("file", b"content");
        for (path, status) in [("/file", 200), ("/absent", 404)] {
            let mut connection = Connection::open(daemon.data());
            let text = put_text(path, "", &pattern(2 * MIB));
            let (begin, rest) = text.split_at(MIB);
            connection.send(begin);
            wait_until("the first bytes to be written", || {
                partials(fixture.path()).iter().any(|(_, length)| *length > 0)
            });
            let seen = get(daemon.data(), path, "");
            assert_eq!(seen.status, status);
            assert!(status != 200 || seen.text() == "content");
            let listing = get(daemon.data(), "/", "Accept: application/json\r\n").text();
            assert!(!listing.contains("streamd-uploads") && !listing.contains("absent"), "{listing}");
            assert!(connection.is_silent_for(Duration::from_millis(50)));
            connection.send(rest);
            assert!(connection.response_to("PUT").status < 300);
            assert_eq!(get(daemon.data(), path, "").content_length(), 2 * MIB);
        }
        assert!(is_tidy(fixture));
    });
}

#[test]
fn of_uploads_side_by_side_one_is_the_file() {
    const BYTES: usize = 200_000;
    let rounds: Vec<u8> = (0..25).collect();
    each_daemon(|daemon, fixture| {
        for round in &rounds {
            let bodies = [vec![*round; BYTES], vec![*round + 100; BYTES]];
            let address = daemon.data();
            let statuses = std::thread::scope(|scope| {
                let upload = move |body: &Vec<u8>| put(address, "/file", "", body).status;
                bodies.each_ref().map(|body| scope.spawn(move || upload(body))).map(|put| put.join().unwrap())
            });
            let expected = if *round == 0 { [201, 204] } else { [204, 204] };
            assert!(statuses == expected || statuses == [expected[1], expected[0]], "{statuses:?}");
            let seen = get(daemon.data(), "/file", "").body;
            assert!(bodies.contains(&seen), "round {round}: a mixture");
        }
        assert!(is_tidy(fixture));
    });
}

#[test]
fn a_drain_lets_an_upload_finish() {
    let content = pattern(2 * MIB);
    for driver in drivers() {
        let fixture = Fixture::new();
        let settings = Settings { driver, workers: 1, ..uploading(fixture.path()) };
        let daemon = TestDaemon::start(settings);
        let (mut connection, mut idle) = (Connection::open(daemon.data()), Connection::open(daemon.data()));
        let text = put_text("/file", "", &content);
        connection.send(&text[..MIB]);
        wait_until("the first bytes to be written", || {
            partials(fixture.path()).iter().any(|(_, length)| *length > 0)
        });
        let drained = daemon.drain();
        // A connection that has nothing under way is closed.
        assert!(idle.ends());
        connection.send(&text[MIB..]);
        let response = connection.response_to("PUT");
        assert_eq!((response.status, response.field("Connection")), (201, Some("close")), "{driver:?}");
        assert!(connection.ends(), "{driver:?}");
        drop(connection);
        drained.join().unwrap();
        assert!(std::fs::read(fixture.path().join("file")).unwrap() == content, "{driver:?}");
    }
}
