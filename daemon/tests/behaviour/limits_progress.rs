//! Tests of the minimum of progress: a peer that moves less is ended, whatever the transfer, and one that moves
//! more is not.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use streamd::config::{DriverChoice, Settings};
use streamd::telemetry::{FrameRefusal, Limit, Outcome};

use crate::harness::{Connection, Fixture, TestDaemon, drivers, get, pattern, settings, wait_until};

const HEAD: &str = "GET / HTTP/1.1\r\n";

/// Starts a daemon with this minimum of progress.
fn serving(root: &Fixture, driver: DriverChoice, bytes_min: u64, interval_ms: u64) -> TestDaemon {
    TestDaemon::start(Settings {
        driver,
        root: Some(root.path().to_owned()),
        uploads: true,
        progress_bytes_min: bytes_min,
        progress_interval_ms: interval_ms,
        // These time-outs are so long that none of them ends anything here.
        head_timeout_ms: 600_000,
        receive_timeout_ms: 600_000,
        send_timeout_ms: 600_000,
        ..settings()
    })
}

/// Sends a byte now and then until an answer or the end comes.
fn trickle(connection: &mut Connection) {
    while connection.is_silent_for(Duration::from_millis(50)) {
        connection.send_in_vain("x");
    }
}

#[test]
fn heads_bodies_frames_and_readers_that_trickle_are_ended() {
    let root = Fixture::new();
    root.write("large", &pattern(64 << 20));
    std::thread::scope(|scope| {
        for driver in drivers() {
            let root = &root;
            scope.spawn(move || trickling(root, driver));
        }
    });
}

fn trickling(root: &Fixture, driver: DriverChoice) {
    let daemon = serving(root, driver, 10_000, 1_000);
    let (data, telemetry) = (daemon.data(), Arc::clone(daemon.telemetry()));
    let open = || Connection::open(data);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut head = open();
            head.send(HEAD);
            trickle(&mut head);
            let response = head.response_to("GET");
            assert_eq!(response.status, 408, "{driver:?}");
            assert!(response.problem().contains("progress_bytes_min"), "{driver:?}: {}", response.problem());
            assert!(head.ends(), "{driver:?}");
        });
        for framing in ["Content-Length: 10000000", "Transfer-Encoding: chunked"] {
            let open = &open;
            scope.spawn(move || {
                let mut body = open();
                let name = framing.len();
                body.send(format!("PUT /put{name} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"));
                if framing.contains("chunked") {
                    body.send("fffff\r\n");
                }
                trickle(&mut body);
                let response = body.response_to("PUT");
                assert_eq!(response.status, 408, "{driver:?}: {framing}");
                assert!(
                    response.problem().contains("progress_bytes_min"),
                    "{driver:?}: {}",
                    response.problem()
                );
                assert_eq!(get(data, &format!("/put{name}"), "").status, 404);
            });
        }
        scope.spawn(|| {
            let mut frame = open();
            frame.send(1_000_u64.to_le_bytes());
            trickle(&mut frame);
            assert_eq!(frame.receive_what_comes(), b"", "{driver:?}");
        });
        scope.spawn(|| {
            let mut reader = Connection::open_slow(data, 64 << 10);
            reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
            // The count is of the frame and the reader: a request that is answered with 408 is complete.
            let given_up = || {
                let transfers = telemetry.workers.iter().map(|worker| worker.transfers.get(Outcome::TooSlow));
                transfers.sum::<u64>() == 2
            };
            // A byte now and then opens no window.
            wait_until("the reader is given up", || {
                let _ = reader.stream().read(&mut [0]);
                given_up()
            });
            reader.receive_to_reset();
        });
    });
    assert_eq!(daemon.count(|worker| worker.limited.get(Limit::Progress)), 5, "{driver:?}");
    assert_eq!(daemon.count(|worker| worker.frames_refused.get(FrameRefusal::TooSlow)), 1, "{driver:?}");
    wait_until("all is given back", || daemon.telemetry().connections_open() == 0);
}

#[test]
fn who_moves_more_than_the_minimum_is_left_alone_however_long_it_takes() {
    /// The bytes of a part, far above the minimum in each interval even where this process is seldom let run.
    const PART: usize = 20_000;
    const PARTS: usize = 40;
    let root = Fixture::new();
    let content = pattern(16 << 20);
    root.write("large", &content);
    for driver in drivers() {
        let daemon = serving(&root, driver, 100, 1_500);
        let data = daemon.data();
        let open = || Connection::open(data);
        let slowly = |connection: &mut Connection| {
            for _ in 0..PARTS {
                connection.stream().write_all(&[b'x'; PART]).unwrap();
                std::thread::park_timeout(Duration::from_millis(100));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut body = open();
                body.send(format!(
                    "PUT /put HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                    PART * PARTS
                ));
                slowly(&mut body);
                assert_eq!(body.response_to("PUT").status / 100, 2, "{driver:?}");
            });
            scope.spawn(|| {
                let mut frame = open();
                frame.send(((PART * PARTS) as u64).to_le_bytes());
                slowly(&mut frame);
                assert_eq!(frame.receive(4), b"done", "{driver:?}");
            });
            scope.spawn(|| {
                let mut reader = Connection::open_slow(data, 64 << 10);
                reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                let mut received = Vec::new();
                for _ in 0..PARTS {
                    received.extend(reader.receive(PART));
                    std::thread::park_timeout(Duration::from_millis(100));
                }
                received.extend(reader.receive_to_end());
                assert!(received.ends_with(&content), "{driver:?}");
            });
            scope.spawn(|| {
                // An idle connection isn't slow.
                let mut idle = open();
                idle.send("GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n");
                assert_eq!(idle.response_to("GET").status, 404);
                assert!(idle.is_silent_for(Duration::from_secs(4)), "{driver:?}");
            });
        });
        assert_eq!(daemon.count(|worker| worker.limited.get(Limit::Progress)), 0, "{driver:?}");
    }
}
