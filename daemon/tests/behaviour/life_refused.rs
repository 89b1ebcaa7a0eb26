//! Tests of hosts that refuse resources to the daemon: no io_uring, few descriptors.

use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::{
    Connection, Process, TEST_FLAGS, command, driver_names, get, lines_with, refusing, request, wait_until,
};

/// Makes a `streamd` where io_uring_setup(2) fails with EPERM.
fn without_io_uring(arguments: &[&str]) -> Command {
    refusing(libc::SYS_io_uring_setup, "EPERM", arguments)
}

/// Makes a `streamd` that may have `count` descriptors open.
fn with_open_files(count: usize, arguments: &[&str]) -> Command {
    let streamd = command(arguments);
    let mut wrapped = Command::new("sh");
    wrapped.arg("-c").arg(format!("ulimit -n {count}; exec \"$0\" \"$@\""));
    wrapped.arg(streamd.get_program()).args(streamd.get_args());
    wrapped
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn without_io_uring_the_daemon_serves_on_epoll_and_says_so() {
    let process = Process::spawn(without_io_uring(&[&TEST_FLAGS[..], &["--driver", "auto"]].concat()));
    assert_eq!(request(process.control(), "POST", "/stream?size=1MiB", "").status, 200);
    assert_eq!(process.metric("streamd_build{version=\"0.1.0\",driver=\"epoll\"}"), 1);
    let log = process.stop();
    let warnings = lines_with(&log, "level", "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0]["message"], "falling back to epoll");
    assert_eq!(
        warnings[0]["reason"],
        "io_uring is refused: Operation not permitted (os error 1) (allow it: sysctl \
         kernel.io_uring_disabled=0, or a seccomp profile that lets io_uring_setup through)"
    );
    assert_eq!(lines_with(&log, "message", "listening")[0]["driver"], "epoll");
}

#[test]
fn without_io_uring_check_says_so() {
    let output = without_io_uring(&["--check"]).output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("\nio_uring       io_uring is refused: Operation not permitted"), "{text}");
    assert!(text.contains("\ndriver         epoll, since io_uring is refused\n"), "{text}");
    let output = without_io_uring(&["--check", "--driver", "uring"]).output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\ndriver         none: --driver uring, and io_uring is refused\n"), "{text}");
}

#[test]
fn without_io_uring_a_daemon_that_must_have_it_refuses_to_start() {
    let output = without_io_uring(&["--driver", "uring"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("streamd: driver uring: io_uring is refused: Operation not permitted"),
        "{text}"
    );
    assert!(text.ends_with("; --driver auto would fall back to epoll\n"), "{text}");
}

#[test]
fn a_low_limit_of_open_files_is_warned_of_once_and_served_with() {
    for driver in driver_names() {
        let flags = [&TEST_FLAGS[..], &["--driver", driver, "--workers", "2"]].concat();
        let process = Process::spawn(with_open_files(64, &flags));
        assert_eq!(request(process.control(), "POST", "/stream?size=1MiB", "").status, 200);
        let log = process.stop();
        let warnings = lines_with(&log, "level", "WARN");
        assert_eq!(warnings.len(), 1, "{driver}: {warnings:#?}");
        assert_eq!(warnings[0]["message"], FEW);
    }
}

/// The warning about 64 descriptors.
const FEW: &str = "descriptors are left for only 4 data connections, and whoever comes besides waits until others \
                   have ended: the limit of open files is 64, and the settings may need 63754, which lowers \
                   connections_max from 30000 to 4, control_connections_max from 1024 to 8, streams_max from 64 to 1: \
                   raise LimitNOFILE= (or ulimit -n)";

#[test]
fn check_says_of_a_low_limit_of_open_files_what_the_start_does() {
    let output = with_open_files(64, &["--check", "--workers", "2"]).output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("\n               warning: {FEW}\n")), "{text}");
}

/// A daemon that listened would be healthy and serve nobody.
#[test]
fn a_limit_of_open_files_by_which_nobody_is_served_is_refused() {
    for driver in driver_names() {
        for flags in [&["--check"][..], &TEST_FLAGS] {
            let flags = [flags, &["--driver", driver, "--workers", "2"]].concat();
            let output = with_open_files(36, &flags).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{driver}: {text}");
            assert_eq!(
                text.lines().last(),
                Some(
                    "streamd: the limit of open files is 36, and below 56 nobody is served by 2 workers: raise \
                     LimitNOFILE= (or ulimit -n), to 63754 for all that the settings may need, or lower workers"
                ),
                "{driver}"
            );
        }
    }
}

#[test]
fn out_of_descriptors_accepting_pauses_and_goes_on_later() {
    for driver in driver_names() {
        let flags = [&TEST_FLAGS[..], &["--driver", driver, "--workers", "1"]].concat();
        let process = Process::spawn(with_open_files(64, &flags));
        let mut existing = Connection::open(process.data());
        // Idle connections would be closed for newcomers, so each has begun its next frame.
        let begin_frame = |connection: &mut Connection| connection.send(b"\x05\0\0\0");
        let takes_rest = |connection: &mut Connection| {
            connection.send(b"\0\0\0\0hello");
            assert_eq!(connection.receive(4), b"done", "{driver}");
            begin_frame(connection);
        };
        begin_frame(&mut existing);
        takes_rest(&mut existing);
        let mut control = Connection::open(process.control());
        let mut is_healthy = || {
            control.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let health = control.response_to("GET");
            (health.status, health.text().as_str()) == (200, "OK")
        };
        assert!(is_healthy());
        let mut others: Vec<Connection> = (0..100).map(|_| Connection::open(process.data())).collect();
        others[..99].iter_mut().for_each(begin_frame);
        process.wait_for_line("accepting pauses");
        takes_rest(&mut existing);
        assert!(is_healthy(), "{driver}");
        let ticks = process.cpu_ticks();
        // The last of them waits in the listen queue; nothing comes for a second.
        let last = others.last_mut().unwrap();
        last.send(b"\x05\0\0\0\0\0\0\0hello");
        assert!(last.is_silent_for(Duration::from_secs(1)), "{driver}");
        let ticks = process.cpu_ticks() - ticks;
        assert!(ticks < 50, "{driver}: {} ms of processor time in a second", ticks * 10);
        let pauses = lines_with(&process.log(), "message", "accepting pauses");
        assert_eq!(pauses.len(), 1, "{driver}: {pauses:?}");
        assert!(pauses[0]["reason"].as_str().unwrap().contains("raise LimitNOFILE="), "{driver}: {pauses:?}");
        let mut last = others.pop().unwrap();
        drop(others);
        assert_eq!(last.receive(4), b"done", "{driver}: after the others have left");
        takes_rest(&mut existing);
        let mut further = Connection::open(process.data());
        begin_frame(&mut further);
        takes_rest(&mut further);
        drop(further);
        assert!(is_healthy(), "{driver}");
        wait_until("the others to be gone", || process.metric("streamd_connections_open") <= 2);
        assert!(process.metric("streamd_accept_pauses_total") >= 1, "{driver}");
        assert_eq!(get(process.control(), "/health", "").status, 200, "{driver}");
    }
}
