//! Files that change while they are sent.

use std::fs::OpenOptions;
use std::io::Write;

use streamd::config::Settings;
use streamd::telemetry::{EngineLabel, Label, Outcome};

use crate::harness::{
    Connection, Fixture, TestDaemon, drivers, every_engine_and_driver, get, pattern, request_text, settings,
    sha256, wait_until,
};

/// More than any pair of socket buffers holds (`net.ipv4.tcp_wmem` ends at 4 MiB by default), so that a transfer
/// to somebody who doesn't read is still far from its middle.
const FILE_BYTES: usize = 32 << 20;

const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

fn serving(fixture: &Fixture) -> Settings {
    Settings { root: Some(fixture.path().to_owned()), ..settings() }
}

/// A transfer of `/file` of which the head has been read, and so has not much more been sent than fits into the
/// socket's buffers.
fn begun(daemon: &TestDaemon, name: &str) -> Connection {
    let mut connection = Connection::open_slow(daemon.data(), RECEIVE_BUFFER_BYTES);
    connection.send(request_text("GET", "/file", ""));
    assert_eq!(connection.head().content_length(), FILE_BYTES, "{name}");
    let sent = || -> u64 { EngineLabel::ALL.iter().map(|engine| daemon.bytes_sent(*engine)).sum() };
    wait_until("the first bytes", || sent() > 0);
    assert!(sent() < FILE_BYTES as u64 / 2, "{name}: the sockets hold half the file");
    connection
}

#[test]
fn a_file_that_shrinks_breaks_the_connection() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let path = fixture.write("file", &content);
        let mut connection = begun(daemon, name);
        // Not at a page's end: the kernel fills the rest of the last page with zeros, which must not be sent.
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

#[test]
fn a_file_that_grows_comes_as_long_as_was_said() {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    let digest = sha256(&content);
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let path = fixture.write("file", &content);
        let mut connection = begun(daemon, name);
        OpenOptions::new().append(true).open(path).unwrap().write_all(&[b'g'; 100_000]).unwrap();
        connection.send(request_text("HEAD", "/file", "Connection: close\r\n"));
        assert_eq!(sha256(&connection.receive(FILE_BYTES)), digest, "{name}");
        let head = connection.response_to("HEAD");
        assert_eq!((head.status, head.content_length()), (200, FILE_BYTES + 100_000), "{name}");
        assert!(connection.receive_to_end().is_empty(), "{name}: more than was said");
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
        // In place and of the same length: the worst that a writer can do to whoever remembers.
        let mut file = OpenOptions::new().write(true).open(fixture.path().join("file")).unwrap();
        file.write_all(&[b'n'; BYTES]).unwrap();
        wait_until("the new content", || {
            let (byte, tag) = ask();
            assert_eq!(byte == b'n', tag != old, "{driver:?}: bytes of one under the tag of the other");
            byte == b'n'
        });
        std::fs::remove_file(fixture.path().join("file")).unwrap();
        wait_until("the file to be gone", || get(daemon.data(), "/file", "").status == 404);
    }
}
