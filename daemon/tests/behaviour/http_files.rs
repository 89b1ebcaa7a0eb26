//! Whole files over HTTP: every size that takes another path, hot and cold, alone and side by side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use streamd::config::Settings;
use streamd::telemetry::EngineLabel;

use crate::harness::{
    COLD_TRIES_MAX, Connection, Fixture, Response, TestDaemon, drivers, every_engine_and_driver, get,
    pattern, request_text, settings, sha256, wait_until,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The sizes around the limit of one send, around a window, and of many windows.
const SIZES: [usize; 9] = [0, 1, 32 * KIB - 1, 32 * KIB, 32 * KIB + 1, MIB - 1, MIB, MIB + 1, 64 * MIB];

/// The time of modification of the fixture's files, as seconds and as HTTP spells it (RFC 9110 5.6.7).
const MODIFIED_S: u64 = 784_111_777;
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn serving(fixture: &Fixture) -> Settings {
    Settings { root: Some(fixture.path().to_owned()), ..settings() }
}

/// Field names in the order in which they are sent.
fn names(response: &Response) -> Vec<&str> {
    response.fields.iter().map(|(name, _)| name.as_str()).collect()
}

fn assert_is_now(date: &str) {
    let date = httpdate::parse_http_date(date).unwrap();
    let now = SystemTime::now();
    let apart = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap();
    assert!(apart < Duration::from_secs(10), "Date is {apart:?} off");
}

#[test]
fn every_size_comes_whole_with_its_fields() {
    let fixture = Fixture::new();
    let digests = SIZES.map(|size| {
        let content = pattern(size);
        fixture.write(&format!("{size}.txt"), &content);
        fixture.set_modified(&format!("{size}.txt"), MODIFIED_S);
        sha256(&content)
    });
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let mut connection = Connection::open(daemon.data());
        for (size, digest) in SIZES.iter().zip(&digests) {
            for method in ["HEAD", "GET"] {
                connection.send(request_text(method, &format!("/{size}.txt"), ""));
                let response = connection.response_to(method);
                assert_eq!(response.status, 200, "{name} {size}");
                assert_is_now(response.field("Date").unwrap());
                let fields = [
                    "Server",
                    "Date",
                    "X-Request-Id",
                    "Content-Type",
                    "Content-Length",
                    "Last-Modified",
                    "ETag",
                    "Accept-Ranges",
                    "X-Content-Type-Options",
                ];
                assert_eq!(names(&response), fields, "{name} {size}");
                assert_eq!(response.field("Content-Length"), Some(size.to_string().as_str()), "{name}");
                assert_eq!(response.field("Content-Type"), Some("text/plain; charset=utf-8"));
                assert_eq!(response.field("Last-Modified"), Some(MODIFIED));
                let etag = response.field("ETag").unwrap();
                assert!(etag.trim_start_matches("W/").len() == 26 && etag.ends_with('"'), "{name} {etag}");
                assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
                if method == "GET" {
                    assert_eq!(&sha256(&response.body), digest, "{name} {size}");
                }
            }
        }
        connection.finish();
        assert!(connection.receive_to_end().is_empty(), "{name}");
    });
}

#[test]
fn requests_in_one_segment_are_answered_in_order() {
    let fixture = Fixture::new();
    let content = pattern(100_000);
    fixture.write("large", &content);
    fixture.write("small", b"small");
    fixture.write("empty", b"");
    let requests = [
        request_text("GET", "/large", ""),
        request_text("HEAD", "/large", ""),
        request_text("GET", "/absent", ""),
        request_text("GET", "/small", "Range: bytes=1-2\r\n"),
        request_text("GET", "/empty", ""),
        request_text("GET", "/small", "Connection: close\r\n"),
        // After a close no further request is answered.
        request_text("GET", "/large", ""),
    ]
    .concat();
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let mut connection = Connection::open(daemon.data());
        connection.send(&requests);
        let answers =
            ["GET", "HEAD", "GET", "GET", "GET", "GET"].map(|method| connection.response_to(method));
        let statuses = answers.each_ref().map(|answer| answer.status);
        assert_eq!(statuses, [200, 200, 404, 206, 200, 200], "{name}");
        assert_eq!(sha256(&answers[0].body), sha256(&content), "{name}");
        assert_eq!(answers[1].field("Content-Length"), Some("100000"), "{name}");
        assert_eq!(answers[2].problem(), "no such file", "{name}");
        assert_eq!(answers[3].text(), "ma", "{name}");
        assert_eq!(answers[4].text(), "", "{name}");
        assert_eq!(answers[5].text(), "small", "{name}");
        assert_eq!(answers[4].field("Connection"), None, "{name}");
        assert_eq!(answers[5].field("Connection"), Some("close"), "{name}");
        assert!(connection.receive_to_end().is_empty(), "{name}: an answer after the last");
    });
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let text = request_text("GET", "/file", "Range: bytes=3-\r\n");
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let mut kept = Connection::open(daemon.data());
        for cut in 1..text.len() {
            let mut fresh = Connection::open(daemon.data());
            for connection in [&mut kept, &mut fresh] {
                connection.send(&text[..cut]);
                connection.send(&text[cut..]);
                let response = connection.response_to("GET");
                assert_eq!((response.status, response.text().as_str()), (206, "tent"), "{driver:?} {cut}");
            }
        }
        let mut connection = Connection::open(daemon.data());
        for byte in text.repeat(2).as_bytes() {
            connection.send([*byte]);
        }
        for _ in 0..2 {
            assert_eq!(connection.response_to("GET").text(), "tent", "{driver:?}");
        }
    }
}

#[test]
fn http_1_0_keeps_the_connection_only_when_asked() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let mut connection = Connection::open(daemon.data());
        connection.send("GET /file HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let response = connection.response_to("GET");
        assert_eq!((response.status, response.text().as_str()), (200, "content"), "{driver:?}");
        assert_eq!(response.field("Connection"), Some("keep-alive"), "{driver:?}");
        connection.send("GET /file HTTP/1.0\r\n\r\nGET /file HTTP/1.0\r\n\r\n");
        let response = connection.response_to("GET");
        assert_eq!((response.status, response.text().as_str()), (200, "content"), "{driver:?}");
        assert_eq!(response.field("Connection"), Some("close"), "{driver:?}");
        assert!(connection.receive_to_end().is_empty(), "{driver:?}");
    }
}

#[test]
fn a_target_may_be_a_url() {
    let fixture = Fixture::new();
    fixture.write("sub/a file", b"content");
    let daemon = TestDaemon::serving(fixture.path());
    for target in [
        "http://localhost/sub/a%20file",
        "HTTP://127.0.0.1:99/sub/a%20file?query",
        "https://[::1]:443/sub/a%20file",
        "/sub/a%20file?query",
        "//sub/.//x/../a%20file",
    ] {
        let response = get(daemon.data(), target, "");
        assert_eq!((response.status, response.text().as_str()), (200, "content"), "{target}");
    }
    assert_eq!(get(daemon.data(), "http://localhost", "").status, 404);
}

#[test]
fn without_a_root_there_is_nothing() {
    let daemon = TestDaemon::start(settings());
    let response = get(daemon.data(), "/file", "");
    assert_eq!(response.status, 404);
    assert_eq!(response.problem(), "no files are served: start streamd with --root DIR");
}

#[test]
fn cold_files_come_out_right() {
    let fixture = Fixture::new();
    let content = pattern(5 * MIB + 12_345);
    fixture.write("file", &content);
    fixture.write("short", &content[..1000]);
    let digest = sha256(&content);
    if !fixture.gets_cold() {
        eprintln!("not tested: the file system keeps what it is told to drop");
        return;
    }
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        for (file, digest) in [("short", &sha256(&content[..1000])), ("file", &digest)] {
            let cold = || daemon.count(|worker| worker.windows_cold.get());
            let before = cold();
            // The question whether it is cold starts readahead, which may have ended before the answer.
            for _ in 0..COLD_TRIES_MAX {
                assert!(fixture.make_cold(file), "{name} {file}: it stays in memory");
                let response = get(daemon.data(), &format!("/{file}"), "");
                assert_eq!(response.status, 200, "{name}");
                assert_eq!(&sha256(&response.body), digest, "{name} {file}");
                if cold() > before {
                    break;
                }
            }
            assert!(cold() > before, "{name} {file}: no window was cold");
        }
    });
}

#[test]
fn many_connections_get_what_each_asked_for() {
    const CONNECTIONS: usize = 64;
    const LENGTH: usize = 700_000;
    let fixture = Fixture::new();
    let content = pattern(CONNECTIONS * 123_457 + LENGTH);
    fixture.write("file", &content);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let (barrier, address) = (std::sync::Barrier::new(CONNECTIONS), daemon.data());
        let right = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..CONNECTIONS {
                let (barrier, right, content) = (&barrier, &right, &content);
                scope.spawn(move || {
                    let start = number * 123_457;
                    let mut connection = Connection::open(address);
                    barrier.wait();
                    let range = format!("Range: bytes={start}-{}\r\n", start + LENGTH - 1);
                    connection.send(request_text("GET", "/file", &range));
                    let response = connection.response_to("GET");
                    if response.status == 206 && response.body == content[start..start + LENGTH] {
                        right.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(right.into_inner(), CONNECTIONS, "{name}");
    });
}

#[test]
fn a_slow_reader_holds_nobody_up() {
    let fixture = Fixture::new();
    let content = pattern(16 * MIB);
    fixture.write("file", &content);
    let digest = sha256(&content);
    // There is one worker, so that both are its own.
    let base = Settings { workers: 1, ..serving(&fixture) };
    every_engine_and_driver(&base, |daemon, name| {
        let mut slow = Connection::open_slow(daemon.data(), 64 * KIB);
        slow.send(request_text("GET", "/file", "Connection: close\r\n"));
        assert_eq!(slow.head().content_length(), content.len(), "{name}");
        let response = get(daemon.data(), "/file", "");
        assert_eq!(sha256(&response.body), digest, "{name}: the fast one");
        assert_eq!(sha256(&slow.receive_to_end()), digest, "{name}: the slow one");
    });
}

/// A transfer that was zero copy must not become a copy unnoticed.
#[test]
fn a_large_hot_file_is_never_copied() {
    let fixture = Fixture::new();
    let content = pattern(64 * MIB);
    fixture.write("file", &content);
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        assert_eq!(sha256(&get(daemon.data(), "/file", "").body), sha256(&content), "{driver:?}");
        // The last bytes arrive before they are counted.
        let size = content.len() as u64;
        wait_until("the count of the last bytes", || daemon.bytes_sent(EngineLabel::Sendfile) >= size);
        let engines = [EngineLabel::Sendfile, EngineLabel::Copy, EngineLabel::Splice];
        assert_eq!(engines.map(|engine| daemon.bytes_sent(engine)), [size, 0, 0], "{driver:?}");
        assert_eq!(daemon.count(|worker| worker.windows_cold.get()), 0, "{driver:?}");
    }
}
