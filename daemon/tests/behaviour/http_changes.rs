//! Files that change while they are sent.

use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use streamd::config::Settings;
use streamd::telemetry::{EngineLabel, Label, Outcome};

use crate::harness::{
    Connection, DEADLINE, Fixture, Target, TestDaemon, drivers, every_engine_and_driver, get, pattern,
    request, request_text, settings, sha256, wait_until,
};

/// The bytes of a file that is larger than any pair of socket buffers (`net.ipv4.tcp_wmem` ends at 4 MiB by
/// default), so that a transfer to a client that doesn't read is still far from its middle.
const FILE_BYTES: usize = 32 << 20;

const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

fn serving(fixture: &Fixture) -> Settings {
    let targets_allowed = vec!["127.0.0.1:*".to_owned()];
    Settings { root: Some(fixture.path().to_owned()), targets_allowed, ..settings() }
}

/// Begins a transfer of `/file` whose head has been read, so that not much more has been sent than fits into the
/// socket's buffers.
fn begun(daemon: &TestDaemon, name: &str) -> Connection {
    let sent = || -> u64 { EngineLabel::ALL.iter().map(|engine| daemon.bytes_sent(*engine)).sum() };
    let before = sent();
    let mut connection = Connection::open_slow(daemon.data(), RECEIVE_BUFFER_BYTES);
    connection.send(request_text("GET", "/file", ""));
    assert_eq!(connection.head().content_length(), FILE_BYTES, "{name}");
    wait_until("the first bytes", || sent() > before);
    assert!(sent() - before < FILE_BYTES as u64 / 2, "{name}: the sockets hold half the file");
    connection
}

#[test]
fn a_file_that_shrinks_breaks_the_connection() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let path = fixture.write("file", &content);
        let mut connection = begun(daemon, name);
        // The new end isn't a page's: the kernel fills the rest of the last page with zeros, which must not be
        // sent.
        let kept = FILE_BYTES / 2 + 100;
        OpenOptions::new().write(true).open(path).unwrap().set_len(kept as u64).unwrap();
        let received = connection.receive_to_reset();
        assert!(received.len() <= kept, "{name}: {} of {kept} bytes", received.len());
        assert!(received == content[..received.len()], "{name}: other bytes than the file's");
        let failed = || daemon.count(|worker| worker.transfers.get(Outcome::SourceFailed));
        wait_until("the count of the failed transfer", || failed() == 1);
        assert_eq!(get(daemon.data(), "/file", "Range: bytes=0-9\r\n").body, content[..10], "{name}");
    });
}

#[test]
fn a_file_that_is_replaced_comes_as_it_was() {
    let fixture = Fixture::new();
    let (old, new) = (pattern(FILE_BYTES), vec![b'n'; FILE_BYTES]);
    let digest = sha256(&old);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let path = fixture.write("file", &old);
        let mut connection = begun(daemon, name);
        let replacement = fixture.write("replacement", &new);
        std::fs::rename(replacement, path).unwrap();
        assert_eq!(sha256(&connection.receive(FILE_BYTES)), digest, "{name}");
        connection.send(request_text("GET", "/file", "Range: bytes=-5\r\n"));
        assert_eq!(connection.response_to("GET").text(), "nnnnn", "{name}");
    });
}

/// A change that a writer makes to a file while it is sent, by the file's path and its former time.
type Change = fn(&Path, SystemTime);

const CHANGES: [(&str, Change); 5] = [
    ("written over", |path, _| write_at(path, b"n")),
    ("written over and its time put back", |path, modified| {
        write_at(path, b"n");
        set_modified(path, modified);
    }),
    ("cut off and written anew", |path, _| std::fs::write(path, vec![b'n'; FILE_BYTES]).unwrap()),
    ("cut off, written anew and its time put back", |path, modified| {
        std::fs::write(path, vec![b'n'; FILE_BYTES]).unwrap();
        set_modified(path, modified);
    }),
    ("cut off and written longer", |path, _| std::fs::write(path, vec![b'n'; FILE_BYTES + 1]).unwrap()),
];

fn write_at(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, FILE_BYTES as u64 - 10).unwrap();
}

fn set_modified(path: &Path, modified: SystemTime) {
    OpenOptions::new().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn assert_broken_by(changes: &[(&str, Change)], daemon: &TestDaemon, fixture: &Fixture, name: &str) {
    let content = pattern(FILE_BYTES);
    for (number, (change, make)) in (1..).zip(changes) {
        let path = fixture.write("file", &content);
        let modified = path.metadata().unwrap().modified().unwrap();
        let mut connection = begun(daemon, name);
        make(&path, modified);
        let received = connection.receive_to_reset();
        assert!(received.len() < FILE_BYTES, "{name}: {change}, and taken for a whole");
        let failed = || daemon.count(|worker| worker.transfers.get(Outcome::SourceFailed));
        wait_until("the count of the failed transfer", || failed() == number);
    }
}

#[test]
fn a_file_that_is_written_over_breaks_the_connection_whatever_sends_it() {
    let fixture = Fixture::new();
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        assert_broken_by(&CHANGES[..1], daemon, &fixture, name);
    });
}

#[test]
fn whatever_changes_a_file_breaks_the_connection() {
    let fixture = Fixture::new();
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        assert_broken_by(&CHANGES[1..], &daemon, &fixture, &format!("{driver:?}"));
    }
}

#[test]
fn what_changes_no_byte_breaks_nothing() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    let digest = sha256(&content);
    let changes: [fn(&Path); 3] = [
        |path| std::fs::hard_link(path, path.with_extension("link")).unwrap(),
        |path| std::fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        for change in changes {
            let path = fixture.write("file", &content);
            let mut connection = begun(&daemon, "changed around its bytes");
            change(&path);
            assert_eq!(sha256(&connection.receive(FILE_BYTES)), digest, "{driver:?}");
            let _ = std::fs::remove_file(path.with_extension("link"));
        }
    }
}

#[test]
fn a_file_that_grows_comes_as_long_as_was_said() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    let digest = sha256(&content);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let path = fixture.write("file", &content);
        let mut connection = begun(daemon, name);
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"grown").unwrap();
        assert_eq!(sha256(&connection.receive(FILE_BYTES)), digest, "{name}");
        connection.send(request_text("GET", "/file", "Range: bytes=-5\r\n"));
        assert_eq!(connection.response_to("GET").text(), "grown", "{name}");
    });
}

#[test]
fn parts_of_a_file_that_changes_are_no_whole() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    for driver in drivers() {
        let path = fixture.write("file", &content);
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let mut connection = Connection::open_slow(daemon.data(), RECEIVE_BUFFER_BYTES);
        let last = FILE_BYTES - 1;
        connection.send(request_text("GET", "/file", &format!("Range: bytes=0-{},{last}-\r\n", last - 100)));
        let head = connection.head();
        assert_eq!(head.status, 206);
        write_at(&path, b"n");
        let received = connection.receive_to_reset();
        assert!(received.len() < head.content_length(), "{driver:?}");
    }
}

/// A stream of a file that changes on its way is no success, and its target gets a reset.
#[test]
fn a_stream_of_a_file_that_changes_fails() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        for protocol in ["frame", "raw"] {
            let path = fixture.write("file", &content);
            let changed = path.clone();
            let (target, ends) = Target::start(move |stream| {
                stream.read_exact(&mut [0; 8]).unwrap();
                // The sockets hold far less than the file.
                write_at(&changed, b"n");
                let mut rest = Vec::new();
                let result = stream.read_to_end(&mut rest);
                (rest.len(), result.map_err(|error| error.kind()))
            });
            let query = format!("/stream?path=/file&protocol={protocol}&target={}", target.address());
            let response = request(daemon.control(), "POST", &query, "");
            assert_eq!(response.status, 500, "{name} {protocol}: {}", response.text());
            let (received, end) = ends.recv_timeout(DEADLINE).unwrap();
            assert!(received < FILE_BYTES, "{name} {protocol}");
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "{name} {protocol}");
        }
    });
}

#[test]
fn a_file_that_is_replaced_while_it_is_known_is_seen_soon_and_never_half() {
    const BYTES: usize = 10_000;
    let fixture = Fixture::new();
    for driver in drivers() {
        fixture.write("file", &[b'o'; BYTES]);
        let daemon = TestDaemon::start(Settings { driver, workers: 1, ..serving(&fixture) });
        let mut connection = Connection::open(daemon.data());
        let mut ask = || {
            connection.send(request_text("GET", "/file", ""));
            let response = connection.response_to("GET");
            let tag = response.field("ETag").unwrap().to_owned();
            let byte = response.body[0];
            assert_eq!((response.status, response.body), (200, vec![byte; BYTES]), "{driver:?}");
            (byte, tag)
        };
        let (_, old) = ask();
        // The file is changed in place and keeps its length: the worst that a writer can do to a cache.
        let mut file = OpenOptions::new().write(true).open(fixture.path().join("file")).unwrap();
        file.write_all(&[b'n'; BYTES]).unwrap();
        wait_until("the new content", || {
            let (byte, tag) = ask();
            assert_eq!(
                byte == b'n',
                tag.trim_start_matches("W/") != old.trim_start_matches("W/"),
                "{driver:?}: bytes of one under the tag of the other"
            );
            byte == b'n'
        });
        std::fs::remove_file(fixture.path().join("file")).unwrap();
        wait_until("the file to be gone", || get(daemon.data(), "/file", "").status == 404);
    }
}
