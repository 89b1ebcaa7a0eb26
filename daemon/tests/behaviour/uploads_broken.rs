//! Tests of clients that break off, fall silent, or don't wait for their answer.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use streamd::config::Settings;

use crate::harness::uploads::{
    connect, longest_partial, offset_of, partials, put, put_head, put_nothing_more, put_rest, read_response,
    reset, taking_uploads, try_put,
};
use crate::harness::{Fixture, Random, TestDaemon, drivers, get, wait_until};

const UPLOAD_BYTES: usize = 8 << 20;

/// The bytes that are sent before something happens.
const SENT_BYTES: usize = 5 << 20;

/// The way in which a client that won't come back ends its connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Reset,
    Close,
    /// The client's direction alone: it would still take an answer.
    Finish,
}

impl End {
    const ALL: [End; 3] = [End::Reset, End::Close, End::Finish];

    fn apply(self, stream: TcpStream) -> Option<TcpStream> {
        match self {
            End::Reset => reset(stream),
            End::Close => drop(stream),
            End::Finish => {
                stream.shutdown(Shutdown::Write).unwrap();
                return Some(stream);
            }
        }
        None
    }
}

/// Runs a daemon with `/file`, on each driver.
fn each_daemon(change: impl Fn(Settings) -> Settings, test: impl Fn(&TestDaemon, &Path, &str)) {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"before");
        let settings = Settings { driver, ..taking_uploads(fixture.path()) };
        let daemon = TestDaemon::start(change(settings));
        test(&daemon, fixture.path(), &format!("{driver:?}"));
    }
}

/// Begins a PUT to `/file` whose head and `body` are sent.
fn begun(daemon: &TestDaemon, fields: &str, body: &[u8]) -> TcpStream {
    let mut stream = connect(daemon.data()).unwrap();
    stream.write_all(put_head("/file", fields).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn with_length(length: usize) -> String {
    format!("Content-Length: {length}\r\n")
}

fn wait_until_alone(daemon: &TestDaemon) {
    wait_until("the connection's end", || daemon.telemetry().connections_open() == 0);
}

fn content_of(root: &Path) -> Vec<u8> {
    std::fs::read(root.join("file")).unwrap()
}

#[test]
fn an_upload_that_is_cut_short_is_continued_where_it_ended() {
    let content = Random::seeded().bytes(UPLOAD_BYTES);
    each_daemon(
        |settings| settings,
        |daemon, root, driver| {
            for end in End::ALL {
                let stream = begun(daemon, &with_length(UPLOAD_BYTES), &content[..SENT_BYTES]);
                // A reset throws away the bytes that the daemon hasn't received yet.
                wait_until("all to be received", || longest_partial(root) > SENT_BYTES / 2);
                let stream = end.apply(stream);
                wait_until_alone(daemon);
                drop(stream);
                assert_eq!(content_of(root), b"before", "{driver} {end:?}");
                let offset = offset_of(daemon.data(), "/file", UPLOAD_BYTES);
                assert!((SENT_BYTES / 2..=SENT_BYTES).contains(&offset), "{driver} {end:?}: {offset}");
                assert_eq!(
                    put_rest(daemon.data(), "/file", &content, offset).status,
                    204,
                    "{driver} {end:?}"
                );
                assert!(content_of(root) == content, "{driver} {end:?}");
                assert_eq!(partials(root), [] as [PathBuf; 0], "{driver} {end:?}");
                assert_eq!(put(daemon.data(), "/file", b"before").status, 204, "{driver} {end:?}");
            }
        },
    );
}

#[test]
fn what_nobody_can_continue_is_removed() {
    let chunk = [b"100000\r\n".as_slice(), &[b'x'; 1 << 20], b"\r\n"].concat();
    each_daemon(
        |settings| settings,
        |daemon, root, driver| {
            for end in End::ALL {
                for (fields, body) in [
                    // These uploads have an unknown length.
                    ("Transfer-Encoding: chunked\r\n".to_owned(), chunk.repeat(3)),
                    ("Transfer-Encoding: chunked\r\n".to_owned(), [chunk.as_slice(), b"0\r\n"].concat()),
                    // These are too short to be kept.
                    (with_length(UPLOAD_BYTES), vec![b'x'; 1000]),
                    (with_length(10), Vec::new()),
                ] {
                    let stream = begun(daemon, &fields, &body);
                    wait_until("the partial", || !partials(root).is_empty());
                    let stream = end.apply(stream);
                    wait_until_alone(daemon);
                    drop(stream);
                    wait_until("the partial to be removed", || partials(root).is_empty());
                    assert_eq!(content_of(root), b"before", "{driver} {end:?} {fields}");
                }
            }
        },
    );
}

#[test]
fn a_client_that_falls_silent_gets_408_and_may_come_back() {
    let content = Random::seeded().bytes(UPLOAD_BYTES);
    each_daemon(
        |settings| Settings { receive_timeout_ms: 400, ..settings },
        |daemon, root, driver| {
            let stream = begun(daemon, &with_length(UPLOAD_BYTES), &content[..SENT_BYTES]);
            let response = read_response(&stream).unwrap();
            assert_eq!(response.status, 408, "{driver}: {}", response.text());
            assert_eq!(response.field("Connection"), Some("close"), "{driver}");
            drop(stream);
            assert_eq!(content_of(root), b"before", "{driver}");
            let offset = offset_of(daemon.data(), "/file", UPLOAD_BYTES);
            assert_eq!(offset, SENT_BYTES, "{driver}: all that had come is kept");
            assert_eq!(put_rest(daemon.data(), "/file", &content, offset).status, 204, "{driver}");
            assert!(content_of(root) == content, "{driver}");
        },
    );
}

#[test]
fn a_client_that_says_nothing_after_its_head_gets_408() {
    each_daemon(
        |settings| Settings { receive_timeout_ms: 300, ..settings },
        |daemon, root, driver| {
            for fields in [
                with_length(5),
                with_length(UPLOAD_BYTES),
                "Transfer-Encoding: chunked\r\n".to_owned(),
                "Content-Length: 5\r\nExpect: 100-continue\r\n".to_owned(),
            ] {
                let stream = begun(daemon, &fields, b"");
                assert_eq!(read_response(&stream).unwrap().status, 408, "{driver} {fields}");
                drop(stream);
                wait_until("the partial to be removed", || partials(root).is_empty());
                assert_eq!(content_of(root), b"before", "{driver} {fields}");
            }
        },
    );
}

#[test]
fn a_slow_client_is_waited_for_as_long_as_something_comes() {
    const PIECES: usize = 12;
    const PAUSE: Duration = Duration::from_millis(400);
    // Between two pieces a busy host may stand still for three seconds and a half; all of them take longer than this.
    const TIMEOUT: Duration = Duration::from_secs(4);
    let receive_timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap();
    each_daemon(
        |settings| Settings { receive_timeout_ms, ..settings },
        |daemon, root, driver| {
            let mut stream = begun(daemon, &with_length(PIECES), b"");
            let started = Instant::now();
            for _ in 0..PIECES {
                // Nothing comes in between: an answer would be a refusal.
                stream.set_read_timeout(Some(PAUSE)).unwrap();
                let last = Instant::now();
                let is_silent = stream.peek(&mut [0]).is_err();
                if last.elapsed() > TIMEOUT / 2 {
                    eprintln!("not tested: this host stood still for {:?}", last.elapsed());
                    return;
                }
                assert!(is_silent, "{driver}: an answer after {:?}", started.elapsed());
                stream.write_all(b"x").unwrap();
            }
            stream.set_read_timeout(Some(crate::harness::DEADLINE)).unwrap();
            assert!(started.elapsed() > TIMEOUT, "{driver}");
            assert_eq!(read_response(&stream).unwrap().status, 204, "{driver}");
            assert_eq!(content_of(root), [b'x'; PIECES], "{driver}");
        },
    );
}

/// The client sends all and never sees its answer. The daemon decides whether the upload is published or kept;
/// half of it is never seen, and a client that asks is told its progress.
#[test]
fn a_connection_cut_between_the_last_byte_and_the_answer_publishes_all_or_keeps_it() {
    const ROUNDS: usize = 24;
    let mut random = Random::seeded();
    let contents = [random.bytes(UPLOAD_BYTES), random.bytes(UPLOAD_BYTES)];
    each_daemon(
        |settings| settings,
        |daemon, root, driver| {
            for round in 0..ROUNDS {
                let end = End::ALL[round % 3];
                let (old, new) = (content_of(root), &contents[round % 2]);
                let stream = begun(daemon, &with_length(UPLOAD_BYTES), new);
                if round % 2 == 0 {
                    // Every other upload ends when all has arrived, and may be about to be published.
                    wait_until("all to arrive", || {
                        partials(root).is_empty() || longest_partial(root) == UPLOAD_BYTES
                    });
                }
                let is_answered = end.apply(stream).map(|stream| read_response(&stream).unwrap().status);
                wait_until_alone(daemon);
                let found = content_of(root);
                assert!(found == old || found == *new, "{driver} {end:?}: neither old nor new");
                match is_answered {
                    // The client waited for the answer, if without saying anything more.
                    Some(status) => assert_eq!((status, found == *new), (204, true), "{driver} {end:?}"),
                    None if found == *new => assert!(partials(root).is_empty(), "{driver} {end:?}"),
                    None => {
                        let offset = offset_of(daemon.data(), "/file", UPLOAD_BYTES);
                        let response = if offset == UPLOAD_BYTES {
                            put_nothing_more(daemon.data(), "/file", UPLOAD_BYTES)
                        } else {
                            put_rest(daemon.data(), "/file", new, offset)
                        };
                        assert_eq!(response.status, 204, "{driver}");
                        assert!(content_of(root) == *new, "{driver} {end:?}");
                    }
                }
            }
        },
    );
}

#[test]
fn others_are_served_while_uploads_break_off() {
    let content = Random::seeded().bytes(UPLOAD_BYTES);
    each_daemon(
        |settings| settings,
        |daemon, root, driver| {
            let broken: Vec<_> =
                (0..8).map(|_| begun(daemon, &with_length(UPLOAD_BYTES), &content[..SENT_BYTES])).collect();
            assert_eq!(get(daemon.data(), "/file", "").body, b"before", "{driver}");
            assert_eq!(try_put(daemon.data(), "/other", "", b"other").unwrap().status, 201, "{driver}");
            broken.into_iter().for_each(reset);
            assert_eq!(get(daemon.data(), "/file", "").body, b"before", "{driver}");
            assert_eq!(put(daemon.data(), "/file", &content).status, 204, "{driver}");
            assert!(content_of(root) == content, "{driver}");
        },
    );
}
