//! Tests of every way out of a request: whichever it takes, it is counted once and has one access line.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use streamd::config::Settings;
use streamd::telemetry::{Label, Outcome, Status};

use crate::harness::{
    Connection, Fixture, Process, Target, TestDaemon, chunked, driver_names, drivers, frame_size, lines_with,
    put_text, request, request_text, settings, uploading, wait_until,
};

/// The bytes of a file that is larger than any socket's buffers: sending it takes a reader.
const LARGE_BYTES: u64 = 64 << 20;

/// The daemon and the files that a way needs.
struct Place<'a> {
    process: &'a Process,
    root: &'a Fixture,
}

impl Place<'_> {
    fn open(&self) -> Connection {
        Connection::open(self.process.data())
    }

    /// Opens a connection on which these bytes have been sent and received.
    fn sent(&self, bytes: impl AsRef<[u8]>) -> Connection {
        let mut connection = self.open();
        connection.send(bytes);
        self.process.wait_for_line("\"received\"");
        connection
    }

    /// Sends one request, of whose answer only the end matters.
    fn ask(&self, bytes: impl AsRef<[u8]>) {
        let mut connection = self.open();
        connection.send(bytes);
        connection.finish();
        connection.receive_what_comes();
    }

    fn stream(&self, query: &str) {
        request(self.process.control(), "POST", &format!("/stream?{query}"), "");
    }
}

/// Breaks a connection off with a reset.
fn reset(mut connection: Connection) {
    socket2::SockRef::from(&*connection.stream()).set_linger(Some(Duration::ZERO)).unwrap();
}

fn get(path: &str, fields: &str) -> String {
    request_text("GET", path, fields)
}

fn frame(size: i64, payload: &[u8]) -> Vec<u8> {
    [&size.to_le_bytes(), payload].concat()
}

/// A way: its name, further flags, the status and the outcome of its line, and the function that goes it.
type Way = (&'static str, &'static [&'static str], u16, &'static str, fn(&Place<'_>));

const REFUSED: &str = "refused";
const COMPLETE: &str = "complete";
const GONE: &str = "peer_closed";
const LATE: &str = "timed_out";

const HEAD_LATE: &[&str] = &["--head-timeout-ms", "300"];
const BODY_LATE: &[&str] = &["--receive-timeout-ms", "300"];
const SENDING_LATE: &[&str] = &["--send-timeout-ms", "300"];
const UPLOADS: &[&str] = &["--uploads", "--durability", "none", "--min-free-bytes", "0"];
const UPLOADS_LATE: &[&str] = &["--uploads", "--receive-timeout-ms", "300", "--min-free-bytes", "0"];

/// The ways out of reading.
const READS: &[Way] = &[
    ("served", &[], 200, COMPLETE, |place| place.ask(get("/small", ""))),
    ("without a body", &[], 200, COMPLETE, |place| place.ask(request_text("HEAD", "/small", ""))),
    ("a range", &[], 206, COMPLETE, |place| place.ask(get("/small", "Range: bytes=1-5\r\n"))),
    ("not modified", &[], 304, COMPLETE, |place| place.ask(get("/small", "If-None-Match: *\r\n"))),
    ("absent", &[], 404, REFUSED, |place| place.ask(get("/absent", ""))),
    ("another state", &[], 412, REFUSED, |place| place.ask(get("/small", "If-Match: \"a\"\r\n"))),
    ("no such range", &[], 416, REFUSED, |place| place.ask(get("/small", "Range: bytes=5000-\r\n"))),
    ("a bad head", &[], 400, REFUSED, |place| place.ask("GET / HTTP/1.1\r\n\r\n")),
    ("a method that isn't offered", &[], 405, REFUSED, |place| place.ask(put_text("/a", "", b"a"))),
    ("a method that nobody knows", &[], 501, REFUSED, |place| place.ask(request_text("BREW", "/", ""))),
    ("another version", &[], 505, REFUSED, |place| place.ask("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n")),
    ("a target too long", &[], 414, REFUSED, |place| place.ask(get(&format!("/{}", "a".repeat(9_000)), ""))),
    ("a head too long", &[], 431, REFUSED, |place| {
        place.ask(get("/", &format!("X: {}\r\n", "a".repeat(17 << 10))));
    }),
    ("a head that is late", HEAD_LATE, 408, REFUSED, |place| {
        place.sent("GET / HTTP/1.1\r\n").receive_what_comes();
    }),
    ("an end inside the head", &[], 400, REFUSED, |place| place.ask("GET / HTTP/1.1\r\n")),
    ("a reset inside the head", &[], 499, GONE, |place| reset(place.sent("GET / HTTP/1.1\r\n"))),
    ("a few letters that are late", HEAD_LATE, 408, REFUSED, |place| {
        place.sent("GET").receive_what_comes();
    }),
    ("an end after a few letters", &[], 400, REFUSED, |place| place.ask("GET")),
    ("a reset after a few letters", &[], 499, GONE, |place| reset(place.sent("GET"))),
    ("a body that doesn't come", &[], 200, COMPLETE, |place| {
        let mut connection = place.open();
        connection.send(get("/small", "Content-Length: 10\r\n") + "bod");
        assert_eq!(connection.response_to("GET").status, 200);
    }),
    ("a body too long", &[], 200, COMPLETE, |place| place.ask(get("/small", "Content-Length: 99999999\r\n"))),
    ("chunks that are late", BODY_LATE, 408, REFUSED, |place| {
        place.sent(get("/small", "Transfer-Encoding: chunked\r\n") + "5\r\nh").receive_what_comes();
    }),
    ("an end inside the chunks", &[], 400, REFUSED, |place| {
        place.ask(get("/small", "Transfer-Encoding: chunked\r\n") + "5\r\nh");
    }),
    ("a reset inside the chunks", &[], 499, GONE, |place| {
        reset(place.sent(get("/small", "Transfer-Encoding: chunked\r\n") + "5\r\nh"));
    }),
    ("a reader that leaves", &[], 200, GONE, |place| {
        let mut connection = place.open();
        connection.send(get("/large", ""));
        connection.receive(1_000);
        reset(connection);
    }),
    ("a reader that stops", SENDING_LATE, 200, LATE, |place| {
        let mut connection = place.open();
        connection.send(get("/large", ""));
        place.process.wait_for_line("\"transfer\"");
    }),
    ("a file that gets shorter", &[], 200, "source_failed", |place| {
        let mut connection = place.open();
        connection.send(get("/large", ""));
        connection.receive(1_000);
        let file = std::fs::File::options().write(true).open(place.root.path().join("large")).unwrap();
        file.set_len(1 << 20).unwrap();
        connection.receive_to_reset();
    }),
];

/// The ways out of uploading.
const WRITES: &[Way] = &[
    ("taken", UPLOADS, 201, COMPLETE, |place| place.ask(put_text("/new", "", b"content"))),
    ("removed", UPLOADS, 204, COMPLETE, |place| place.ask(request_text("DELETE", "/small", ""))),
    ("begun", UPLOADS, 201, COMPLETE, |place| {
        let fields = "Upload-Complete: ?0\r\nContent-Length: 3\r\n";
        place.ask(request_text("POST", "/new", fields) + "abc");
    }),
    ("without a length", UPLOADS, 411, REFUSED, |place| place.ask(request_text("PUT", "/new", ""))),
    ("a page's", UPLOADS, 403, REFUSED, |place| {
        place.ask(put_text("/new", "Origin: http://evil.example\r\n", b"a"))
    }),
    ("refused before its body comes", UPLOADS, 403, REFUSED, |place| {
        let fields = "Origin: http://evil.example\r\nContent-Length: 10\r\n";
        let mut connection = place.open();
        connection.send(request_text("PUT", "/new", fields) + "abc");
        assert_eq!(connection.response_to("PUT").status, 403);
    }),
    ("refused, and chunks that are late", UPLOADS_LATE, 403, REFUSED, |place| {
        let fields = "Origin: http://evil.example\r\nTransfer-Encoding: chunked\r\n";
        let mut connection = place.open();
        connection.send(request_text("PUT", "/new", fields) + "5\r\na");
        assert_eq!(connection.response_to("PUT").status, 403);
    }),
    ("chunks that are none", UPLOADS, 400, REFUSED, |place| {
        place.ask(request_text("PUT", "/new", "Transfer-Encoding: chunked\r\n") + "zz\r\n");
    }),
    ("whole chunks", UPLOADS, 201, COMPLETE, |place| {
        let head = request_text("PUT", "/new", "Transfer-Encoding: chunked\r\n");
        place.ask([head.as_bytes(), &chunked(b"content", 3)].concat());
    }),
    ("an end inside the body", UPLOADS, 499, GONE, |place| {
        place.ask(request_text("PUT", "/new", "Content-Length: 10\r\n") + "abc");
    }),
    ("a reset inside the body", UPLOADS, 499, GONE, |place| {
        reset(place.sent(request_text("PUT", "/new", "Content-Length: 10\r\n") + "abc"));
    }),
    ("a body that is late", UPLOADS_LATE, 408, REFUSED, |place| {
        place.sent(request_text("PUT", "/new", "Content-Length: 10\r\n") + "abc").receive_what_comes();
    }),
];

/// The ways out of frames.
const FRAMES: &[Way] = &[
    ("taken", &[], 0, COMPLETE, |place| place.ask(frame(5, b"hello"))),
    ("negative", &[], 0, REFUSED, |place| place.ask(frame(-1, b""))),
    ("too long", &["--frame-bytes-max", "1000"], 0, REFUSED, |place| place.ask(frame(1001, b""))),
    ("an end inside the payload", &[], 0, GONE, |place| place.ask(frame(5, b"hel"))),
    ("a reset inside the payload", &[], 0, GONE, |place| reset(place.sent(frame(5, b"hel")))),
    ("a payload that is late", BODY_LATE, 0, LATE, |place| {
        place.sent(frame(5, b"hel")).receive_what_comes();
    }),
];

/// The ways out of streams, to a target that acknowledges frames in ways of its own.
const STREAMS: &[Way] = &[
    ("done", &[], 0, COMPLETE, |place| {
        let (target, _payloads) = Target::acknowledging();
        place.stream(&format!("size=100&target={}", target.address()));
    }),
    ("raw", &[], 0, COMPLETE, |place| {
        let (target, _) = Target::start(|stream| stream.read_to_end(&mut Vec::new()));
        place.stream(&format!("size=100&protocol=raw&target={}", target.address()));
    }),
    ("no such file", &[], 0, REFUSED, |place| place.stream("path=/absent&target=127.0.0.1:9")),
    ("nobody listens", &[], 0, GONE, |place| {
        let (target, _) = Target::start(|_| ());
        let address = target.address();
        drop(target);
        place.stream(&format!("size=100&target={address}"));
    }),
    ("broken off", &[], 0, GONE, |place| {
        let (target, _) = Target::start(frame_size);
        place.stream(&format!("size=100&target={}", target.address()));
    }),
    ("something else than done", &[], 0, GONE, |place| {
        let (target, _) = Target::start(|stream| {
            frame_size(stream);
            let _ = std::io::Write::write_all(stream, b"gone");
        });
        place.stream(&format!("size=100&target={}", target.address()));
    }),
    ("silent", &["--target-timeout-ms", "300"], 0, LATE, |place| {
        let (target, _) = Target::start(|stream| stream.read_to_end(&mut Vec::new()));
        place.stream(&format!("size=100&target={}", target.address()));
    }),
    ("cancelled", &[], 0, "cancelled", |place| {
        let (target, _) = Target::start(|stream| stream.read_to_end(&mut Vec::new()));
        let mut client = Connection::open(place.process.control());
        client.send(request_text("POST", &format!("/stream?size=100&target={}", target.address()), ""));
        place.process.wait_for_line("stream begins");
        reset(client);
        place.process.wait_for_line("\"transfer\"");
    }),
];

fn go(driver: &str, (name, flags, status, outcome, go): &Way, is_http: bool) {
    let root = Fixture::new();
    root.write("small", &[7; 1_000]);
    root.write_sparse("large", LARGE_BYTES, 1 << 20, &[]);
    let path = root.path().to_str().unwrap();
    let base =
        ["--driver", driver, "--root", path, "--log-level", "trace", "--targets-allowed", "127.0.0.1:*"];
    let process = Process::start(&[&base, *flags].concat());
    go(&Place { process: &process, root: &root });
    process.wait_for_line("\"transfer\"");
    let total = |family: &str| {
        let text = crate::harness::get(process.control(), "/metrics", "").text();
        let of_family = text.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        of_family.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!(total("streamd_transfers_total"), 1, "{driver}: {name}");
    assert_eq!(total("streamd_requests_total"), u64::from(is_http), "{driver}: {name}");
    assert_eq!(
        process.metric(&format!("streamd_transfers_total{{outcome=\"{outcome}\"}}")),
        1,
        "{driver}: {name}"
    );
    if is_http {
        let counter = format!("streamd_requests_total{{status=\"{status}\"}}");
        assert_eq!(process.metric(&counter), 1, "{driver}: {name}");
    }
    let log = process.stop();
    let lines = lines_with(&log, "message", "transfer");
    assert_eq!(lines.len(), 1, "{driver}: {name}: {lines:#?}");
    let line = &lines[0];
    assert_eq!(
        (&line["status"], &line["outcome"]),
        (&(*status).into(), &(*outcome).into()),
        "{driver}: {name}: {line}"
    );
    assert_eq!(line["reason"] == "-", *outcome == COMPLETE, "{driver}: {name}: {line}");
}

/// Goes each way on each driver, a few at a time, since most of the time is spent waiting.
fn go_all(ways: &'static [Way], is_http: bool) {
    for driver in driver_names() {
        for some in ways.chunks(4) {
            std::thread::scope(|scope| {
                for way in some {
                    let name = format!("{driver}: {}", way.0);
                    std::thread::Builder::new()
                        .name(name)
                        .spawn_scoped(scope, || go(driver, way, is_http))
                        .unwrap();
                }
            });
        }
    }
}

#[test]
fn each_way_out_of_a_read_has_one_account() {
    go_all(READS, true);
}

#[test]
fn each_way_out_of_an_upload_has_one_account() {
    go_all(WRITES, true);
}

#[test]
fn each_way_out_of_a_frame_has_one_account() {
    go_all(FRAMES, false);
}

#[test]
fn each_way_out_of_a_stream_has_one_account() {
    go_all(STREAMS, false);
}

/// The requests that a drain breaks off: their bytes, and the status and outcome of the line. An answer that was
/// begun keeps its status; where there was none the daemon is to blame, not the client.
const BROKEN_OFF: [(&str, &[u8], u16); 5] = [
    ("head", b"GET /small HTTP/1.1\r\nHo", 503),
    ("chunks", b"GET /small HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nh", 503),
    ("upload", b"PUT /new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc", 503),
    ("frame", b"\x05\0\0\0\0\0\0\0hel", 0),
    ("answer", b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
];

#[test]
fn what_a_drain_breaks_off_has_one_account_each() {
    for driver in driver_names() {
        for (name, bytes, status) in BROKEN_OFF {
            let root = Fixture::new();
            root.write("small", &[7; 1_000]);
            root.write_sparse("large", LARGE_BYTES, 1 << 20, &[]);
            let path = root.path().to_str().unwrap();
            let flags =
                ["--driver", driver, "--root", path, "--log-level", "trace", "--drain-timeout-ms", "600"];
            let process = Process::start(&[&flags, UPLOADS].concat());
            let mut connection = Connection::open(process.data());
            connection.send(bytes);
            process.wait_for_line(if name == "answer" { "\"window\"" } else { "\"received\"" });
            let log = process.stop();
            let lines = lines_with(&log, "message", "transfer");
            assert_eq!(lines.len(), 1, "{driver}: {name}: {lines:#?}");
            assert_eq!(lines[0]["status"], status, "{driver}: {name}: {}", lines[0]);
            assert_eq!(lines[0]["outcome"], "drained", "{driver}: {name}: {}", lines[0]);
            let text = lines[0]["reason"].as_str().unwrap();
            assert!(text.contains("the daemon stopped"), "{driver}: {name}: {text}");
        }
    }
}

#[test]
fn what_a_drain_breaks_off_is_counted_once() {
    for driver in drivers() {
        for (name, bytes, status) in BROKEN_OFF {
            let root = Fixture::new();
            root.write("small", &[7; 1_000]);
            root.write_sparse("large", LARGE_BYTES, 1 << 20, &[]);
            let daemon = TestDaemon::start(Settings {
                driver,
                drain_timeout_ms: 600,
                workers: 1,
                ..uploading(root.path())
            });
            let mut connection = Connection::open(daemon.data());
            connection.send(bytes);
            // The one worker's answer to another client comes after that.
            let mut other = Connection::open(daemon.data());
            other.send(get("/small", ""));
            assert_eq!(other.response_to("GET").status, 200);
            drop(other);
            let telemetry = std::sync::Arc::clone(daemon.telemetry());
            daemon.drain().join().unwrap();
            let worker = &telemetry.workers[0];
            assert_eq!(worker.transfers.get(Outcome::Drained), 1, "{driver:?}: {name}");
            assert_eq!(worker.transfers.total(), 2, "{driver:?}: {name}");
            let requests = if status == 0 { 1 } else { 2 };
            assert_eq!(worker.requests.total(), requests, "{driver:?}: {name}");
        }
    }
}

/// The control plane's ways out, with their statuses.
const CONTROL: [(&str, u16); 7] = [
    ("BREW /health", 501),
    ("GET /health", 200),
    ("GET /absent", 404),
    ("DELETE /health", 405),
    ("POST /stream", 400),
    ("POST /stream?size=1&target=127.0.0.1:1", 403),
    ("POST /stream?size=1", 200),
];

#[test]
fn each_way_out_of_the_control_plane_is_counted_once_and_told_once() {
    for (line, status) in CONTROL {
        let process = Process::start(&["--log-level", "debug"]);
        let (method, path) = line.split_once(' ').unwrap();
        assert_eq!(request(process.control(), method, path, "").status, status, "{line}");
        // The request for the metrics counts itself when it has been answered.
        assert_eq!(
            process.metric(&format!("streamd_control_requests_total{{status=\"{status}\"}}")),
            1,
            "{line}"
        );
        let path = path.split('?').next().unwrap();
        let lines = lines_with(&process.stop(), "path", path);
        let told =
            lines.iter().filter(|line| line["message"] == "control request" && line["status"] == status);
        // Health checks would drown everything else.
        assert_eq!(told.count(), usize::from(path != "/health"), "{line}: {lines:#?}");
    }
}

#[test]
fn a_control_client_that_leaves_is_counted_as_one_that_left() {
    let (target, _) = Target::start(|stream: &mut TcpStream| stream.read_to_end(&mut Vec::new()));
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            targets_allowed: vec!["127.0.0.1:*".to_owned()],
            ..settings()
        });
        let address: SocketAddr = daemon.control();
        let mut client = Connection::open(address);
        client.send(request_text("POST", &format!("/stream?size=100&target={}", target.address()), ""));
        wait_until("the stream to run", || daemon.telemetry().control.streams_running.get() == 1);
        reset(client);
        wait_until("the client to be missed", || {
            daemon.telemetry().control.requests.get(Status::of(499)) == 1
        });
        assert_eq!(daemon.telemetry().control.requests.total(), 1);
        assert_eq!(Status::of(499).label(), "499");
    }
}
