//! Tests of two daemons that are started together on one port: one of them runs.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{command, driver_names, get, wait_until};

/// Returns an address with a port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Starts `streamd` on `address`, which `strace` makes wait before each listen(2), where it is installed: so each
/// gets far before another has begun to listen.
fn start(address: SocketAddr, driver: &str, is_delayed: bool) -> Started {
    let data = address.to_string();
    let flags =
        ["--data-listen", &data, "--control-listen", "127.0.0.1:0", "--driver", driver, "--workers", "2"];
    let streamd = command(&[&flags[..], &["--connections-max", "100"]].concat());
    let mut started = if is_delayed {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=listen"]);
        strace.args(["-e", "inject=listen:delay_enter=300000"]).arg(streamd.get_program());
        strace.args(streamd.get_args());
        strace
    } else {
        streamd
    };
    Started(started.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

/// A daemon that doesn't outlive a test that fails.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill_process(daemon_of(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// Returns the id of the daemon itself: strace keeps signals from itself and from the programs that it traces.
fn daemon_of(child: &Child) -> Pid {
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let traced = children.split_whitespace().next().and_then(|id| id.parse().ok());
    traced.and_then(Pid::from_raw).unwrap_or_else(|| Pid::from_child(child))
}

/// Returns the daemon's exit code and its messages; ends it where it runs.
fn end(mut started: Started, is_running: bool) -> (Option<i32>, String) {
    let child = &mut started.0;
    if is_running {
        kill_process(daemon_of(child), Signal::TERM).unwrap();
    }
    let mut said = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

fn assert_one_runs(driver: &str, is_delayed: bool) {
    let address = free_address();
    let mut children: Vec<Started> = (0..3).map(|_| start(address, driver, is_delayed)).collect();
    let mut running = Vec::new();
    wait_until("the end of all but one", || {
        running = children.iter_mut().map(|child| child.0.try_wait().unwrap().is_none()).collect();
        running.iter().filter(|is_running| **is_running).count() <= 1
    });
    if !running.contains(&true) {
        let said: Vec<_> = children.into_iter().map(|child| end(child, false)).collect();
        panic!("none runs: {said:?}");
    }
    wait_until("the one that runs", || std::net::TcpStream::connect(address).is_ok());
    assert_eq!(get(address, "/file", "").status, 404);
    for (child, is_running) in children.into_iter().zip(running) {
        let (code, said) = end(child, is_running);
        let refused = said.contains("another process listens there");
        assert_eq!((code, refused), if is_running { (Some(0), false) } else { (Some(1), true) }, "{said}");
    }
}

#[test]
fn of_daemons_that_start_together_one_gets_the_port() {
    for driver in driver_names() {
        for _ in 0..2 {
            assert_one_runs(driver, false);
        }
    }
}

#[test]
fn of_daemons_that_are_slow_to_listen_one_gets_the_port() {
    let mut works = Command::new("strace");
    works.args(["-qq", "-o", "/dev/null", "-e", "inject=listen:delay_enter=1", "true"]);
    if !works.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: strace, which makes a daemon slow, isn't to be had here");
        return;
    }
    for driver in driver_names() {
        assert_one_runs(driver, true);
    }
}
