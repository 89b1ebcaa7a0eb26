//! Tests of connections to targets that are kept for the next stream: the target may close them at any time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use streamd::config::{DriverChoice, Settings};
use streamd::telemetry::Outcome;

use crate::harness::{Response, Target, TestDaemon, drivers, frame_size, request, settings};

fn start(driver: DriverChoice) -> TestDaemon {
    let targets_allowed = vec!["127.0.0.1:*".to_owned()];
    TestDaemon::start(Settings { driver, workers: 1, targets_allowed, ..settings() })
}

fn post(daemon: &TestDaemon, target: &Target) -> Response {
    request(daemon.control(), "POST", &format!("/stream?size=1000&target={}", target.address()), "")
}

fn take(stream: &mut TcpStream) -> bool {
    frame_size(stream).is_some_and(|size| stream.take(size).read_to_end(&mut Vec::new()).is_ok())
}

/// Starts a target that acknowledges the first frame of a connection, and does `then` when a second one comes.
fn acknowledging_one(then: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Target {
    let serve = move |stream: &mut TcpStream| {
        if take(stream) {
            let _ = stream.write_all(b"done");
        }
        if take(stream) {
            then(stream);
        }
    };
    Target::start(serve).0
}

#[test]
fn a_kept_connection_that_ends_costs_no_stream() {
    for driver in drivers() {
        let daemon = start(driver);
        // The target closes when the second frame is there: no look at the connection before its use can tell.
        let target = acknowledging_one(|_| ());
        for number in 1..=10 {
            let response = post(&daemon, &target);
            assert_eq!(response.status, 200, "{driver:?}: {number}: {}", response.text());
            let told: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(told["bytes_sent"], 1_000, "{driver:?}: {number}: {told}");
        }
        assert_eq!(daemon.count(|worker| worker.transfers.get(Outcome::Complete)), 10, "{driver:?}");
        assert_eq!(daemon.count(|worker| worker.transfers.total()), 10, "{driver:?}");
    }
}

#[test]
fn a_fresh_connection_is_tried_once() {
    for driver in drivers() {
        let daemon = start(driver);
        let connections = AtomicUsize::new(0);
        let (target, _) = Target::start(move |stream| {
            let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
            if take(stream) && is_first {
                let _ = stream.write_all(b"done");
                take(stream);
            }
        });
        assert_eq!(post(&daemon, &target).status, 200, "{driver:?}");
        let response = post(&daemon, &target);
        assert_eq!(response.status, 502, "{driver:?}");
        assert!(response.problem().contains("the target broke off"), "{driver:?}: {}", response.text());
        assert_eq!(target.accepted(), 2, "{driver:?}");
    }
}

/// A target that answers anything has looked at the frame: to send it again could have it taken twice.
#[test]
fn what_was_answered_is_not_sent_again() {
    for driver in drivers() {
        for answer in [&b"do"[..], b"nope"] {
            let daemon = start(driver);
            let target = acknowledging_one(move |stream| drop(stream.write_all(answer)));
            assert_eq!(post(&daemon, &target).status, 200, "{driver:?}");
            assert_eq!(post(&daemon, &target).status, 502, "{driver:?}: {answer:?}");
            assert_eq!(target.accepted(), 1, "{driver:?}: {answer:?}");
        }
    }
}
