//! Tests of a standard error that takes nothing, or not now: lost lines are counted by reason.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{Connection, copy_of, get, set_test_variables, wait_until, with_sockets};

/// A `streamd` at addresses that are known without its log, killed when the test ends.
struct Quiet {
    child: Child,
    data: SocketAddr,
    control: SocketAddr,
}

impl Quiet {
    fn start(stderr: impl Into<Stdio>, program: &[&str]) -> Quiet {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [data, control] = [0, 1].map(|index: usize| listeners[index].local_addr().unwrap());
        let mut streamd = Command::new(program[0]);
        streamd.args(&program[1..]);
        let mut streamd = with_sockets(listeners.iter().map(copy_of).collect(), "data:control", &streamd);
        set_test_variables(&mut streamd);
        streamd.env("STREAMD_CONNECTIONS_MAX", "100").stderr(stderr);
        let child = streamd.spawn().unwrap();
        drop(streamd);
        Quiet { child, data, control }
    }

    /// Makes `count` access lines.
    fn ask(&self, count: usize) {
        let mut client = Connection::open(self.data);
        for _ in 0..count {
            client.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(client.response_to("GET").status, 404);
        }
    }

    fn lost(&self, reason: &str) -> u64 {
        let text = get(self.control, "/metrics", "").text();
        let sample = format!("streamd_log_lines_dropped_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&sample)).unwrap().parse().unwrap()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const STREAMD: &str = env!("CARGO_BIN_EXE_streamd");

#[test]
fn a_full_disk_costs_lines_that_are_counted() {
    let daemon = Quiet::start(File::options().write(true).open("/dev/full").unwrap(), &[STREAMD]);
    daemon.ask(10);
    // The lines of the start are lost too.
    wait_until("lost lines", || daemon.lost("no_room") > 10);
    assert_eq!(get(daemon.control, "/health", "").status, 200);
}

#[test]
fn a_log_file_as_long_as_it_may_be_costs_lines_that_are_counted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let daemon = Quiet::start(file.reopen().unwrap(), &["prlimit", "--fsize=16384", "--", STREAMD]);
    daemon.ask(100);
    wait_until("lost lines", || daemon.lost("no_room") > 0);
    assert_eq!(file.path().metadata().unwrap().len(), 16_384);
    assert_eq!(get(daemon.control, "/health", "").status, 200);
}

#[test]
fn a_reader_that_is_gone_costs_lines_that_are_counted() {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let daemon = Quiet::start(writer, &[STREAMD]);
    let mut lines = BufReader::new(File::from(reader)).lines();
    assert!(lines.any(|line| line.unwrap().contains("listening")));
    drop(lines);
    daemon.ask(10);
    wait_until("lost lines", || daemon.lost("reader_gone") >= 10);
}

#[test]
fn a_pipe_that_does_not_wait_loses_nothing_while_it_is_read() {
    const LINES: usize = 4000;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    // The reading end is another description of the pipe, and waits.
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
    let daemon = Quiet::start(writer, &[STREAMD]);
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(File::from(reader)).lines().map_while(Result::ok);
        lines.filter(|line| line.contains("/nothing")).take(LINES).count()
    });
    let mut clients: Vec<_> = (0..8).map(|_| Connection::open(daemon.data)).collect();
    for _ in 0..LINES / 8 / 50 {
        for client in &mut clients {
            client.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50));
        }
        for client in &mut clients {
            (0..50).for_each(|_| assert_eq!(client.response_to("GET").status, 404));
        }
    }
    wait_until("all lines, or a loss", || reading.is_finished() || daemon.lost("slow_reader") > 0);
    assert_eq!(["slow_reader", "no_room", "reader_gone", "failed"].map(|reason| daemon.lost(reason)), [0; 4]);
    assert_eq!(reading.join().unwrap(), LINES);
}
