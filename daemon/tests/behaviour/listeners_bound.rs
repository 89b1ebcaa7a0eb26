//! Tests of how Unix sockets are bound, replaced, passed, and refused.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;

use crate::harness::{
    Fixture, Process, Sockets, TEST_FLAGS, command, curl_text, json, or_skip, run_streamd,
    set_test_variables, wait_until, with_sockets,
};

const STATUS: [&str; 5] = ["--output", "/dev/null", "--write-out", "%{http_code}", "http://localhost/"];

fn config(tables: &str) -> (Fixture, String) {
    let fixture = Fixture::new();
    let path = fixture.write("streamd.toml", tables.as_bytes()).to_str().unwrap().to_owned();
    (fixture, path)
}

#[test]
fn mode_and_group_are_what_the_settings_say() {
    for (lines, mode) in [("", 0o660), ("mode = \"0600\"", 0o600), ("mode = \"0666\"", 0o666)] {
        let sockets = Sockets::new();
        let group = std::fs::metadata(sockets.path("")).unwrap().gid();
        let is_root = rustix::process::geteuid().is_root();
        let group = if is_root { 12_345 } else { group };
        let (_config, path) = config(&sockets.table("data", &format!("{lines}\ngroup = \"{group}\"")));
        let process = Process::start(&["--config", &path]);
        let found = std::fs::metadata(sockets.path("data")).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!((found.permissions().mode() & 0o777, found.gid()), (mode, group), "{lines}");
        process.stop();
    }
}

#[test]
fn what_a_killed_daemon_left_is_replaced_and_another_file_never() {
    let sockets = Sockets::new();
    let (_config, path) = config(&sockets.table("data", ""));
    let flags = ["--config", &path];
    let mut process = Process::start(&flags);
    process.signal(Signal::KILL);
    process.wait();
    assert!(sockets.path("data").exists(), "it was left behind");
    let process = Process::start(&flags);
    assert_eq!(curl_text(&sockets.path("data"), &STATUS), "404");
    // Another daemon is refused, and this one goes on.
    let all = [&TEST_FLAGS[..], &flags].concat();
    assert_refused(
        &all,
        &format!("listen {}: another process listens there: `ss -lxp`", sockets.address("data")),
        1,
    );
    assert_eq!(curl_text(&sockets.path("data"), &STATUS), "404");
    process.stop();
    std::fs::write(sockets.path("data"), "content").unwrap();
    assert_refused(
        &all,
        &format!("listen {}: there is a file that is no socket", sockets.address("data")),
        1,
    );
    assert_eq!(std::fs::read(sockets.path("data")).unwrap(), b"content");
}

/// Runs a daemon that must not start, and says why in one line.
#[track_caller]
fn assert_refused(arguments: &[&str], expected: &str, code: i32) {
    let Output { status, stderr, .. } = run_streamd(arguments);
    let text = String::from_utf8(stderr).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("streamd: ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with(&format!("streamd: {expected}")), "{expected}:\n{text}");
    assert_eq!(status.code(), Some(code), "{text}");
}

#[test]
fn what_can_not_be_listened_on_is_told_in_one_line_with_a_remedy() {
    let long = format!("unix:/tmp/{}", "x".repeat(120));
    for (address, lines, expected, code) in [
        (&*long, "", "listen.address: ", 78),
        (
            "unix:/nonexistent/data.sock",
            "",
            "listen unix:/nonexistent/data.sock: No such file or directory",
            1,
        ),
        (
            "unix:/tmp/a.sock",
            "group = \"no-such-group\"",
            "listen.group: there is no group \"no-such-group\"",
            78,
        ),
        ("unix:/tmp/a.sock", "mode = \"rw\"", "listen.mode: \"rw\" is no mode", 78),
        ("[::]:0", "mode = \"0600\"", "listen.mode: is for Unix sockets", 78),
        ("192.0.2.77:0", "", "listen 192.0.2.77:0: Cannot assign requested address", 1),
    ] {
        let (_config, path) = config(&format!("[[listen]]\naddress = \"{address}\"\n{lines}\n"));
        assert_refused(&[&TEST_FLAGS[..], &["--config", &path]].concat(), expected, code);
    }
}

#[test]
fn the_check_shows_all_listeners_and_binds_none() {
    let sockets = Sockets::new();
    let tables = sockets.table("data", "mode = \"0666\"") + &sockets.table("control", "plane = \"control\"");
    let (_config, path) = config(&tables);
    let Output { status, stdout, .. } = run_streamd(&["--check", "--config", &path]);
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{text}");
    let rows = format!(
        "listening      data     {}  mode 0666\n               control  {}  mode 0660\n",
        sockets.address("data"),
        sockets.address("control")
    );
    assert!(text.contains(&rows), "the tables alone, since the short forms weren't set:\n{text}");
    assert!(!sockets.path("data").exists());
    let Output { stdout, .. } = run_streamd(&["--print-config", "--config", &path]);
    let text = String::from_utf8(stdout).unwrap();
    assert!(text.contains("data_listen = \"none\"") && text.contains(&sockets.address("data")), "{text}");
}

fn listener(path: &Path) -> UnixListener {
    UnixListener::bind(path).unwrap()
}

#[test]
fn passed_unix_sockets_are_taken_by_name_and_left_where_they_are() {
    let sockets = Sockets::new();
    let (files, control) = (listener(&sockets.path("files")), listener(&sockets.path("control")));
    let (_config, path) = config("[[listen]]\nname = \"files\"\n");
    let start = || {
        let passed = [&files, &control].map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        let flags = ["--config", &path, "--data-listen", "none"];
        let mut wrapped = with_sockets(passed.into(), "files:control", &command(&flags));
        set_test_variables(&mut wrapped);
        Process::spawn_with_output(wrapped)
    };
    let process = start();
    let line = json(&process.wait_for_line("listening"));
    let unix = |name: &str| serde_json::Value::from(sockets.address(name));
    assert_eq!((&line["data"], &line["control"]), (&unix("files"), &unix("control")));
    assert_eq!(line["inherited"], "data and control");
    assert_eq!(curl_text(&sockets.path("files"), &STATUS), "404");
    assert_eq!(curl_text(&sockets.path("control"), &["http://localhost/health"]), "OK");
    process.signal(Signal::HUP);
    process.wait_for_line("\"reloaded\"");
    let log = process.stop();
    assert!(!log.iter().any(|line| line.contains("needs restart")), "{log:#?}");
    // Who connects while no daemon runs is answered by the next.
    assert!(sockets.path("files").exists());
    let waiting = std::thread::spawn({
        let socket = sockets.path("files");
        move || curl_text(&socket, &STATUS)
    });
    wait_until("somebody to wait", || UnixStream::connect(sockets.path("files")).is_ok());
    let process = start();
    assert_eq!(waiting.join().unwrap(), "404");
    process.stop();
}

#[test]
fn a_named_listener_whose_socket_was_not_passed_is_a_fault() {
    let (_config, path) = config("[[listen]]\nname = \"files\"\n");
    let flags = [&TEST_FLAGS[..], &["--config", &path]].concat();
    assert_refused(&flags, "socket activation: no socket named \"files\" was passed", 78);
}

#[test]
fn what_systemd_passes_at_a_path_is_taken() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    let found = Path::new(ACTIVATE).exists().then_some(()).ok_or_else(|| format!("{ACTIVATE} isn't there"));
    let Some(()) = or_skip(found) else { return };
    let sockets = Sockets::new();
    let streamd = command(&[&TEST_FLAGS[..], &["--connections-max", "500"]].concat());
    let mut activate = std::process::Command::new(ACTIVATE);
    activate.arg("--listen").arg(sockets.path("data")).arg("--fdname=data");
    activate.arg(streamd.get_program()).args(streamd.get_args());
    let socket = sockets.path("data");
    let first = std::thread::spawn(move || {
        wait_until("somebody to listen", || UnixStream::connect(&socket).is_ok());
        curl_text(&socket, &STATUS)
    });
    let process = Process::spawn(activate);
    assert_eq!(first.join().unwrap(), "404");
    assert_eq!(json(&process.wait_for_line("listening"))["inherited"], "data");
    process.stop();
}
