//! Tests of the messages to the service manager: that the daemon is ready, what it does, and that it is alive.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Connection, Fixture, Manager, Process, StoppedThread, command, get, json, lines_with, or_skip, pattern,
    set_test_variables, sha256, wait_until,
};

/// The interval that the tests ask the watchdog for.
const WATCHDOG: Duration = Duration::from_secs(1);

/// Makes a `streamd` with free ports that `manager` has started.
fn streamd_of(manager: &Manager, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    set_test_variables(&mut command);
    command.env("NOTIFY_SOCKET", manager.notify_socket());
    command
}

/// Returns the value of a line that begins with `name` in the last message that has one.
fn last_value(manager: &Manager, name: &str) -> Option<String> {
    let messages = manager.messages();
    let mut lines = messages.iter().rev().flat_map(|message| message.lines());
    lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
}

#[test]
fn it_is_ready_when_both_planes_answer() {
    for manager in [Manager::at_path(), Manager::at_abstract_name()] {
        // The ports are known before the daemon says where it listens, so that nothing but READY is waited for.
        let [data, control]: [SocketAddr; 2] = [(); 2]
            .map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
            .map(|free| free.local_addr().unwrap());
        let [on_data, on_control] = [data, control].map(|address| address.to_string());
        let mut command = streamd_of(&manager, &["--data-listen", &on_data, "--control-listen", &on_control]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let ready = manager.wait_for("READY=1", 1);
        assert_eq!(get(data, "/absent", "").status, 404);
        assert_eq!(get(control, "/health", "").status, 200);
        assert_eq!(ready, "READY=1\nSTATUS=serving 0 connections");
        assert_eq!(manager.messages()[0], ready);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_reload_is_told_whether_it_is_taken_or_refused() {
    let manager = Manager::at_path();
    let files = Fixture::new();
    let file = files.write("streamd.toml", b"streams_max = 3\n");
    let process = Process::spawn(streamd_of(&manager, &["--config", file.to_str().unwrap()]));
    manager.wait_for("READY=1", 1);
    for (number, (text, state)) in [
        ("streams_max = 4\n", ""),
        (
            "streams_max = 0\n",
            "; the last reload was refused, the log says why, and the old settings stay in force",
        ),
        ("streams_max = 5\n", ""),
    ]
    .into_iter()
    .enumerate()
    {
        files.write("streamd.toml", text.as_bytes());
        process.signal(Signal::HUP);
        assert_eq!(
            manager.wait_for("READY=1", number + 2),
            format!("READY=1\nSTATUS=serving 0 connections{state}"),
            "{text}"
        );
        let messages = manager.messages();
        let reloading: Vec<usize> =
            (0..messages.len()).filter(|at| messages[*at].starts_with("RELOADING=1\n")).collect();
        assert_eq!(reloading.len(), number + 1, "{messages:?}");
        let message = &messages[reloading[number]];
        let (_, microseconds) = message.split_once("\nMONOTONIC_USEC=").unwrap();
        assert!(microseconds.parse::<u64>().is_ok(), "{message:?}");
        let ready = messages.iter().rposition(|message| message.starts_with("READY=1\n")).unwrap();
        assert!(reloading[number] < ready, "{messages:?}");
    }
    process.stop();
}

#[test]
fn the_status_counts_connections_and_a_drain_is_told_to_its_end() {
    const LARGE_BYTES: usize = 64 << 20;
    let manager = Manager::at_path();
    let root = Fixture::new();
    let content = pattern(LARGE_BYTES);
    root.write("large", &content);
    let mut process = Process::spawn(streamd_of(&manager, &["--root", root.path().to_str().unwrap()]));
    let mut reader = Connection::open(process.data());
    reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = reader.head();
    let idle = Connection::open(process.data());
    wait_until("a status that counts both", || {
        last_value(&manager, "STATUS=").is_some_and(|status| status.starts_with("serving 2 connections"))
    });
    process.signal(Signal::TERM);
    let stopping = manager.wait_for("STOPPING=1", 1);
    assert_eq!(stopping, "STOPPING=1\nSTATUS=draining, 2 connections left");
    manager.wait_for("STATUS=draining, 1 connection left", 1);
    // The message comes again and again, for as long as the drain goes on.
    manager.wait_for("EXTEND_TIMEOUT_USEC=10000000", 3);
    assert_eq!(sha256(&reader.receive(head.content_length())), sha256(&content));
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(manager.count("READY=1"), 1);
    assert_eq!(manager.count("WATCHDOG=1"), 0, "nobody asked for it");
    drop(idle);
}

#[test]
fn a_start_that_fails_is_told_with_its_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flags, code, errno) in [
        (&["--data-listen", &address][..], 1, Some("98")),
        (&["--control-listen", &address], 1, Some("98")),
        (&["--root", "/nonexistent", "--spool", "/nonexistent"], 78, None),
    ] {
        let manager = Manager::at_path();
        let output = streamd_of(&manager, flags).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let expected: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("streamd: ")).collect();
        assert_eq!(last_value(&manager, "STATUS="), Some(expected.join(" ")), "{flags:?}");
        assert_eq!(last_value(&manager, "ERRNO=").as_deref(), errno, "{flags:?}");
        assert_eq!(manager.count("READY=1"), 0, "{flags:?}");
        // A look at the configuration is no start.
        let manager = Manager::at_path();
        streamd_of(&manager, &[flags, &["--check"]].concat()).output().unwrap();
        assert_eq!(manager.messages(), [] as [String; 0]);
    }
}

/// Starts a daemon of two workers whose watchdog is to be fed, and is.
fn watched(manager: &Manager) -> Process {
    let mut command = streamd_of(manager, &["--workers", "2"]);
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let process = Process::spawn(command);
    manager.wait_for("WATCHDOG=1", 3);
    process
}

/// Asserts that the watchdog would end the daemon now.
fn assert_unfed(manager: &Manager) {
    // Messages that were sent before may still be read.
    let before = manager.count("WATCHDOG=1");
    std::thread::park_timeout(2 * WATCHDOG);
    assert_eq!(manager.count("WATCHDOG=1"), before);
}

#[test]
fn a_worker_that_stands_still_stops_the_watchdog_until_it_goes_on() {
    let manager = Manager::at_path();
    let process = watched(&manager);
    for (times, (thread, part)) in
        [("streamd-1", "worker 1"), ("streamd-0", "worker 0"), ("streamd-control", "control plane")]
            .into_iter()
            .enumerate()
    {
        let Some(stopped) = or_skip(StoppedThread::of(process.pid(), thread)) else { return };
        let lines = |message| lines_with(&process.log(), "message", message);
        wait_until("a line that says so", || lines("a part of the daemon is stuck").len() == times + 1);
        assert_unfed(&manager);
        let stuck = &lines("a part of the daemon is stuck");
        assert_eq!(stuck.len(), times + 1, "{stuck:?}");
        assert_eq!((&stuck[times]["part"], &stuck[times]["level"]), (&part.into(), &"ERROR".into()));
        if part == "worker 1" {
            let health = get(process.control(), "/health", "");
            assert_eq!((health.status, health.text().as_str()), (503, "stalled: worker 1"));
        }
        let before = manager.count("WATCHDOG=1");
        drop(stopped);
        manager.wait_for("WATCHDOG=1", before + 3);
        let turning = lines("nothing is stuck any more");
        assert_eq!(turning.len(), times + 1, "{turning:?}");
        assert_eq!((&turning[times]["part"], &turning[times]["level"]), (&part.into(), &"INFO".into()));
    }
    process.stop();
}

#[test]
fn a_process_that_stands_still_feeds_nothing() {
    let manager = Manager::at_path();
    let process = watched(&manager);
    process.signal(Signal::STOP);
    assert_unfed(&manager);
    let before = manager.count("WATCHDOG=1");
    process.signal(Signal::CONT);
    manager.wait_for("WATCHDOG=1", before + 3);
    process.stop();
}

#[test]
fn a_drain_feeds_the_watchdog_though_one_worker_has_ended() {
    const LARGE_BYTES: usize = 64 << 20;
    let manager = Manager::at_path();
    let root = Fixture::new();
    root.write("large", &pattern(LARGE_BYTES));
    let mut command = streamd_of(&manager, &["--workers", "2", "--root", root.path().to_str().unwrap()]);
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut process = Process::spawn(command);
    let mut reader = Connection::open(process.data());
    reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = reader.head();
    process.signal(Signal::TERM);
    process.wait_for_line("draining");
    let before = manager.count("WATCHDOG=1");
    // The time is longer than a heartbeat may be old: the other worker has long ended by then.
    manager.wait_for("WATCHDOG=1", before + 8);
    reader.receive(head.content_length());
    assert_eq!(process.wait().code(), Some(0));
    let log = process.whole_log();
    assert!(log.iter().all(|line| json(line)["message"] != "a part of the daemon is stuck"), "{log:#?}");
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::at_path();
    let mut command = streamd_of(&manager, &[]);
    command.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let process = Process::spawn(command);
    let connection = Connection::open(process.data());
    // The status comes after many turns.
    wait_until("a status that counts it", || {
        last_value(&manager, "STATUS=").is_some_and(|status| status == "serving 1 connection")
    });
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    drop(connection);
    process.stop();
}
