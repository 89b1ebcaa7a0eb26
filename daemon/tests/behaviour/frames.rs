//! Tests of frames, from raw sockets and from the clients that people have at hand.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use streamd::config::{Settings, SinkChoice};
use streamd::telemetry::FrameRefusal;

use crate::harness::{
    Connection, Fixture, Process, TestDaemon, driver_names, drivers, get, lines_with, pattern, settings,
    sha256, wait_until,
};

/// The resident memory that no frame may make a daemon exceed, in bytes.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u64).to_le_bytes(), payload].concat()
}

/// Runs `test` on each driver with each sink; the path is the spool's. There is one worker, so that an answer to
/// anybody means that everything before it has been seen.
fn every_driver_and_sink(test: impl Fn(&TestDaemon, &Path, &str)) {
    for driver in drivers() {
        for sink in [SinkChoice::Discard, SinkChoice::Store] {
            let spool = Fixture::new();
            let daemon = TestDaemon::start(Settings {
                driver,
                sink,
                workers: 1,
                spool: Some(spool.path().to_owned()),
                ..settings()
            });
            test(&daemon, spool.path(), &format!("{driver:?} {sink:?}"));
        }
    }
}

fn frames_received(daemon: &TestDaemon) -> u64 {
    daemon.count(|worker| worker.frames_received.get())
}

fn refused(daemon: &TestDaemon, reason: FrameRefusal) -> u64 {
    daemon.count(|worker| worker.frames_refused.get(reason))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn one_frame_and_an_empty_one_are_acknowledged() {
    every_driver_and_sink(|daemon, spool, case| {
        let mut connection = Connection::open(daemon.data());
        connection.send(frame(b"hello"));
        assert_eq!(connection.receive(4), b"done", "{case}");
        connection.send(frame(b""));
        assert_eq!(connection.receive(4), b"done", "{case}");
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"", "{case}");
        assert_eq!(frames_received(daemon), 2, "{case}");
        assert_eq!(daemon.count(|worker| worker.bytes_received.get()), 5, "{case}");
        if case.ends_with("Store") {
            let names = names(spool);
            assert_eq!(names.len(), 2, "{names:?}");
            assert!(names[0].starts_with("0_") && names[1].starts_with("5_"), "{names:?}");
        }
    });
}

#[test]
fn pipelined_frames_get_one_acknowledgement_each() {
    every_driver_and_sink(|daemon, _, case| {
        // Each stored frame waits for the disk three times.
        let count = if case.ends_with("Store") { 50 } else { 1_000 };
        let mut connection = Connection::open(daemon.data());
        connection.send(frame(b"small").repeat(count));
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"done".repeat(count), "{case}");
        assert_eq!(frames_received(daemon), count as u64, "{case}");
    });
}

#[test]
fn a_frame_may_be_split_anywhere() {
    every_driver_and_sink(|daemon, _, case| {
        let bytes = frame(b"hello");
        let mut probe = Connection::open(daemon.data());
        // When the probe's own frame is acknowledged, all bytes sent before it have been received.
        let mut has_been_received = || {
            probe.send(frame(b""));
            assert_eq!(probe.receive(4), b"done", "{case}");
        };
        for split in 1..bytes.len() {
            let mut connection = Connection::open(daemon.data());
            connection.send(&bytes[..split]);
            has_been_received();
            connection.send([&bytes[split..], &bytes].concat());
            assert_eq!(connection.receive(8), b"donedone", "{case}, split at {split}");
        }
        let mut connection = Connection::open(daemon.data());
        for byte in &bytes {
            connection.send([*byte]);
            has_been_received();
        }
        assert_eq!(connection.receive(4), b"done", "{case}, byte by byte");
    });
}

#[test]
fn a_frame_of_a_gibibyte_takes_no_memory() {
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver]);
        let mut connection = Connection::open(process.data());
        connection.send((1_u64 << 30).to_le_bytes());
        let chunk = vec![7; 1 << 20];
        for _ in 0..1024 {
            connection.send(&chunk);
        }
        assert_eq!(connection.receive(4), b"done", "{driver}");
        assert_eq!(process.metric("streamd_bytes_received_total"), 1 << 30, "{driver}");
        assert!(
            process.memory_peak_bytes() < MEMORY_BYTES_MAX,
            "{driver}: {} bytes",
            process.memory_peak_bytes()
        );
    }
}

#[test]
fn a_header_that_spells_get_is_a_frame() {
    const SIZE: usize = 542_393_671;
    assert_eq!(&SIZE.to_le_bytes(), b"GET \0\0\0\0");
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..settings() });
        let mut connection = Connection::open(daemon.data());
        connection.send((SIZE as u64).to_le_bytes());
        let chunk = vec![7; 1 << 20];
        let mut left = SIZE;
        while left > 0 {
            let here = left.min(chunk.len());
            connection.send(&chunk[..here]);
            left -= here;
        }
        assert_eq!(connection.receive(4), b"done", "{driver:?}");
    }
}

#[test]
fn a_refused_frame_is_counted_and_logged_once_and_earlier_ones_are_acknowledged() {
    let truncated_payload = [&10_u64.to_le_bytes()[..], b"nine byte"].concat();
    let cases: [(&[u8], &str, &str); 6] = [
        (&(-1_i64).to_le_bytes(), "negative", "frame size -1 is negative"),
        (&i64::MIN.to_le_bytes(), "negative", "frame size -9223372036854775808 is negative"),
        (
            &i64::MAX.to_le_bytes(),
            "over_limit",
            "frame of 9223372036854775807 bytes is over the limit of 1000",
        ),
        (&1001_u64.to_le_bytes(), "over_limit", "frame of 1001 bytes is over the limit of 1000"),
        (&[10, 0, 0, 0], "truncated", "frame was cut off: 4 of 8"),
        (&truncated_payload, "truncated", "frame was cut off: 9 of 10 payload bytes"),
    ];
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver, "--frame-bytes-max", "1000"]);
        for (bytes, _, text) in cases {
            let mut connection = Connection::open(process.data());
            connection.send(frame(&[7; 1000]));
            connection.send(bytes);
            connection.finish();
            assert_eq!(connection.receive_to_end(), b"done", "{driver}: {text}");
        }
        for (reason, count) in
            [("negative", 2), ("over_limit", 2), ("truncated", 2), ("timed_out", 0), ("sink_failed", 0)]
        {
            let name = format!("streamd_frames_refused_total{{reason=\"{reason}\"}}");
            assert_eq!(process.metric(&name), count, "{driver}: {reason}");
        }
        let log = process.stop();
        let warnings = lines_with(&log, "level", "WARN");
        assert_eq!(warnings.len(), cases.len(), "{driver}: {warnings:#?}");
        for (warning, (_, _, text)) in warnings.iter().zip(cases) {
            assert_eq!(warning["message"], "frame refused", "{driver}");
            assert!(warning["error"].as_str().unwrap().contains(text), "{driver}: {text}: {warning}");
        }
    }
}

#[test]
fn what_is_neither_frame_nor_http_is_closed_and_counted() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..settings() });
        let first_bytes = [i64::MAX.to_le_bytes(), *b"\x16\x03\x01\x02\0\x01\x01\x01"];
        for bytes in first_bytes {
            let mut connection = Connection::open(daemon.data());
            connection.send(bytes);
            assert!(connection.ends(), "{driver:?}: {bytes:?}");
        }
        // These bytes are too few to tell the protocol.
        let mut connection = Connection::open(daemon.data());
        connection.send([10, 0, 0]);
        connection.finish();
        assert!(connection.ends(), "{driver:?}");
        assert_eq!(daemon.count(|worker| worker.connections_unknown.get()), 3, "{driver:?}");
    }
}

#[test]
fn a_first_frame_that_is_negative_counts_as_what_it_is() {
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver]);
        for size in [-1_i64, i64::MIN] {
            let mut connection = Connection::open(process.data());
            connection.send(size.to_le_bytes());
            assert_eq!(connection.receive_to_end(), b"", "{driver}: {size}");
        }
        assert_eq!(process.metric("streamd_frames_refused_total{reason=\"negative\"}"), 2, "{driver}");
        assert_eq!(process.metric("streamd_connections_unknown_total"), 0, "{driver}");
        let log = process.stop();
        assert_eq!(lines_with(&log, "message", "frame refused").len(), 2, "{driver}: {log:#?}");
    }
}

#[test]
fn connections_that_end_before_or_between_frames_are_normal() {
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver]);
        drop(Connection::open(process.data()));
        let mut connection = Connection::open(process.data());
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"", "{driver}");
        let mut connection = Connection::open(process.data());
        connection.send(frame(b"whole"));
        assert_eq!(connection.receive(4), b"done", "{driver}");
        drop(connection);
        // The first may still wait to be accepted when the last has ended.
        wait_until("all connections were accepted", || {
            process.metric("streamd_connections_accepted_total") == 3
        });
        wait_until("all connections ended", || process.metric("streamd_connections_open") == 0);
        assert_eq!(process.metric("streamd_connections_unknown_total"), 0, "{driver}");
        let log = process.stop();
        assert!(log.iter().all(|line| !line.contains("\"WARN\"")), "{driver}: {log:#?}");
        assert_eq!(lines_with(&log, "message", "transfer").len(), 1, "{driver}: {log:#?}");
    }
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_frame_is_given_up() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, receive_timeout_ms: 200, ..settings() });
        let mut in_payload = Connection::open(daemon.data());
        in_payload.send(&frame(&[7; 100])[..50]);
        let mut in_header = Connection::open(daemon.data());
        in_header.send(frame(b"first"));
        in_header.send([1, 0, 0]);
        assert!(in_payload.ends(), "{driver:?}");
        assert_eq!(in_header.receive_to_end(), b"done", "{driver:?}");
        wait_until("both frames refused", || refused(&daemon, FrameRefusal::TimedOut) == 2);
        assert_eq!(refused(&daemon, FrameRefusal::Truncated), 0, "{driver:?}");
    }
}

#[test]
fn a_long_frame_that_trickles_in_is_not_given_up() {
    const TIMEOUT_MS: u64 = 400;
    // The bytes within one time-out are fewer than a worker is woken for while a payload has long to go.
    const PART_BYTES: usize = 5_000;
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, receive_timeout_ms: TIMEOUT_MS, ..settings() });
        let frame = frame(&pattern(1 << 20));
        let mut connection = Connection::open(daemon.data());
        let started = Instant::now();
        let mut sent = 0;
        while started.elapsed() < Duration::from_millis(4 * TIMEOUT_MS) {
            connection.send(&frame[sent..sent + PART_BYTES]);
            sent += PART_BYTES;
            std::thread::park_timeout(Duration::from_millis(TIMEOUT_MS / 4));
        }
        connection.send(&frame[sent..]);
        assert_eq!(connection.receive(4), b"done", "{driver:?}");
        // A peer that stops there is given up all the same.
        connection.send(&frame[..100]);
        assert!(connection.ends(), "{driver:?}");
        wait_until("the frame to be refused", || refused(&daemon, FrameRefusal::TimedOut) == 1);
    }
}

#[test]
fn a_stored_frame_is_what_was_sent() {
    for driver in drivers() {
        let spool = Fixture::new();
        let path = Some(spool.path().to_owned());
        let daemon =
            TestDaemon::start(Settings { driver, sink: SinkChoice::Store, spool: path, ..settings() });
        let content = pattern(3_000_001);
        let mut connection = Connection::open(daemon.data());
        connection.send(frame(&content));
        assert_eq!(connection.receive(4), b"done", "{driver:?}");
        // Nothing is waited for, since an acknowledged frame is durable under its name.
        let names = names(spool.path());
        let [name] = names.as_slice() else { panic!("{driver:?}: {names:?}") };
        let id = name.strip_prefix("3000001_").unwrap();
        assert_eq!(id.len(), 32, "{name}");
        assert!(id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{name}");
        let stored = std::fs::read(spool.path().join(name)).unwrap();
        assert_eq!(sha256(&stored), sha256(&content), "{driver:?}");
    }
}

#[test]
fn a_truncated_frame_leaves_nothing_in_the_spool() {
    every_driver_and_sink(|daemon, spool, case| {
        let mut connection = Connection::open(daemon.data());
        // The bytes are more than are gathered before the disk is asked, so that a temporary file has some.
        connection.send(&frame(&pattern(2_000_000))[..1_000_000]);
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"", "{case}");
        wait_until("the frame refused", || refused(daemon, FrameRefusal::Truncated) == 1);
        wait_until("the spool empty", || names(spool).is_empty());
        assert_eq!(frames_received(daemon), 0, "{case}");
    });
}

#[test]
fn a_restart_sweeps_what_was_half_written() {
    let spool = Fixture::new();
    let path = spool.path().to_str().unwrap();
    let mut process = Process::start(&["--sink", "store", "--spool", path]);
    let mut connection = Connection::open(process.data());
    connection.send(frame(b"whole"));
    assert_eq!(connection.receive(4), b"done");
    connection.send(&frame(&pattern(2_000_000))[..1_000_000]);
    wait_until("a temporary file", || names(spool.path()).iter().any(|name| name.starts_with('.')));
    process.signal(rustix::process::Signal::KILL);
    process.wait();
    assert_eq!(names(spool.path()).len(), 2);
    let process = Process::start(&["--sink", "store", "--spool", path]);
    let names = names(spool.path());
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("5_"), "{names:?}");
    drop(process);
}

#[test]
fn frames_and_http_share_the_port_side_by_side() {
    let root = Fixture::new();
    root.write("file", b"content");
    let daemon = TestDaemon::serving(root.path());
    let mut frames = Connection::open(daemon.data());
    frames.send(&frame(b"hello")[..10]);
    assert_eq!(get(daemon.data(), "/file", "").text(), "content");
    frames.send(&frame(b"hello")[10..]);
    assert_eq!(frames.receive(4), b"done");
}

#[test]
fn python_sends_frames_with_its_standard_library() {
    const CLIENT: &str = "
import socket, struct, sys
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=30) as connection:
    answers = connection.makefile('rb')
    for size in (0, 1, 169, 5_000_000):
        connection.sendall(struct.pack('<q', size) + bytes(size))
        print(size, answers.read(4).decode())
";
    let daemon = TestDaemon::start(settings());
    let port = daemon.data().port().to_string();
    let output = Command::new("python3").args(["-c", CLIENT, &port]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed, "0 done\n1 done\n169 done\n5000000 done\n", "{output:?}");
    assert_eq!(frames_received(&daemon), 4);
}

#[test]
fn printf_and_netcat_send_a_frame() {
    let daemon = TestDaemon::start(settings());
    let mut netcat = Command::new("nc")
        .args(["-N", "127.0.0.1", &daemon.data().port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    netcat.stdin.take().unwrap().write_all(&frame(b"hello")).unwrap();
    let output = netcat.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"done");
}

#[test]
fn a_peer_that_never_reads_its_acknowledgements_is_given_up() {
    let daemon = TestDaemon::start(Settings { send_timeout_ms: 300, ..settings() });
    let mut stream = TcpStream::connect(daemon.data()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let frames = frame(b"").repeat(100_000);
    // The daemon stops receiving while its acknowledgements find no room, and then breaks off.
    let mut result = Ok(());
    while result.is_ok() {
        result = stream.write_all(&frames);
    }
    let kind = result.unwrap_err().kind();
    let is_broken = matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe);
    assert!(is_broken, "{kind:?}");
}
