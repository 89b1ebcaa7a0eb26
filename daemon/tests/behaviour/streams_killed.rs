//! Tests of raw streams whose daemon ends under them: bare bytes have no end but the connection's, so a part must
//! not end like a whole.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;

use crate::harness::{Connection, Process, Target, driver_names, request, request_text};

/// The size of the streams, more than any socket's buffers.
const BYTES: &str = "1GiB";

/// How a target's connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    InOrder(u64),
    Reset,
}

fn end_of(stream: &mut TcpStream) -> End {
    match std::io::copy(stream, &mut std::io::sink()) {
        Ok(bytes) => End::InOrder(bytes),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            End::Reset
        }
    }
}

fn start(driver: &str) -> Process {
    Process::start(&["--driver", driver, "--targets-allowed", "127.0.0.1:*", "--drain-timeout-ms", "60000"])
}

#[test]
fn a_raw_stream_that_a_signal_breaks_off_ends_in_a_reset() {
    for driver in driver_names() {
        for signals in [&[Signal::KILL][..], &[Signal::TERM, Signal::TERM], &[Signal::TERM, Signal::KILL]] {
            let mut process = start(driver);
            let (began, has_begun) = channel();
            let (go_on, may_go_on) = channel();
            let may_go_on = Mutex::new(may_go_on);
            let (target, ends) = Target::start(move |stream| {
                stream.read_exact(&mut [0; 1_000]).unwrap();
                began.send(()).unwrap();
                may_go_on.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap();
                end_of(stream)
            });
            let mut client = Connection::open(process.control());
            let path = format!("/stream?size={BYTES}&protocol=raw&target={}", target.address());
            client.send(request_text("POST", &path, ""));
            has_begun.recv().unwrap();
            process.signal(signals[0]);
            if let [_, second] = signals {
                process.wait_for_line("draining");
                process.signal(*second);
            }
            process.wait();
            go_on.send(()).unwrap();
            assert_eq!(ends.recv().unwrap(), End::Reset, "{driver}: {signals:?}");
        }
    }
}

#[test]
fn a_whole_raw_stream_ends_in_order() {
    for driver in driver_names() {
        let process = start(driver);
        let (target, ends) = Target::start(end_of);
        for bytes in [0_u64, 1, 10_000_000] {
            let path = format!("/stream?size={bytes}&protocol=raw&target={}", target.address());
            assert_eq!(request(process.control(), "POST", &path, "").status, 200, "{driver}");
            assert_eq!(ends.recv().unwrap(), End::InOrder(bytes), "{driver}");
        }
    }
}
