//! A root whose path leads elsewhere while it is served.

use std::path::PathBuf;

use rustix::process::Signal;
use streamd::config::Settings;

use crate::harness::uploads::{put, taking_uploads};
use crate::harness::{
    DEADLINE, Fixture, Process, TestDaemon, driver_names, drivers, get, lines_with, wait_until,
};

/// A root that can be taken away.
struct Movable {
    around: Fixture,
    path: PathBuf,
}

impl Movable {
    fn new() -> Movable {
        let around = Fixture::new();
        around.write("root/file", b"first");
        let path = around.path().join("root");
        Movable { around, path }
    }

    fn move_aside(&self) {
        std::fs::rename(&self.path, self.around.path().join("aside")).unwrap();
    }

    fn remove_aside(&self) {
        std::fs::remove_dir_all(self.around.path().join("aside")).unwrap();
    }

    fn make_anew(&self) {
        self.around.write("root/file", b"second");
    }
}

/// Waits for an answer of /health.
fn wait_for_health(control: std::net::SocketAddr, status: u16, text: &str) {
    wait_until(&format!("/health saying {text:?}"), || {
        let answer = get(control, "/health", "");
        (answer.status, answer.text().as_str()) == (status, text)
    });
}

#[test]
fn a_root_that_was_replaced_or_removed_is_told_of_and_a_reload_opens_the_new_one() {
    for driver in drivers() {
        let root = Movable::new();
        let of_root = Settings { driver, ..taking_uploads(&root.path) };
        let daemon = TestDaemon::start(of_root.clone());
        let content = |path: &str| {
            let answer = get(daemon.data(), path, "");
            (answer.status, answer.text())
        };
        assert_eq!(put(daemon.data(), "/uploaded", b"once").status, 201);
        assert_eq!(content("/file"), (200, "first".to_owned()));
        wait_for_health(daemon.control(), 200, "OK");

        root.move_aside();
        root.make_anew();
        wait_for_health(daemon.control(), 200, "OK\nroot replaced: reload");
        // The former root is still served, and that is told.
        assert_eq!(content("/file"), (200, "first".to_owned()));
        root.remove_aside();
        wait_for_health(daemon.control(), 503, "root removed");
        let metrics = get(daemon.control(), "/metrics", "").text();
        assert!(
            metrics.contains("streamd_root_removed 1\nstreamd_root_replaced 0\n")
                || metrics.contains("streamd_root_removed 1\n")
        );
        wait_until("the end of what was known", || content("/file").0 == 404);

        assert_eq!(daemon.reload(of_root.clone()), Vec::<String>::new());
        assert_eq!(content("/file"), (200, "second".to_owned()));
        assert_eq!(content("/uploaded").0, 404);
        wait_for_health(daemon.control(), 200, "OK");
        assert_eq!(put(daemon.data(), "/uploaded", b"again").status, 201);
        assert_eq!(std::fs::read(root.path.join("uploaded")).unwrap(), b"again");
        assert!(root.path.join(".streamd-uploads").is_dir());
        // A directory that is the root already isn't opened again.
        assert_eq!(daemon.reload(of_root), Vec::<String>::new());
        assert_eq!(content("/uploaded"), (200, "again".to_owned()));
    }
}

#[test]
fn the_log_says_once_what_became_of_the_root_and_what_to_do() {
    for driver in driver_names() {
        let root = Movable::new();
        let path = root.path.to_str().unwrap();
        let process = Process::start(&["--root", path, "--sandbox", "off", "--driver", driver]);
        root.move_aside();
        process
            .wait_for_line("the root's path leads elsewhere: the former directory is served until a reload");
        root.remove_aside();
        process.wait_for_line("the root was removed: nothing is found until a reload");
        root.make_anew();
        process.signal(Signal::HUP);
        process.wait_for_line("the root was reopened");
        process.wait_for_line("\"reloaded\"");
        assert_eq!(get(process.data(), "/file", "").text(), "second", "{driver}");
        let log = process.stop();
        let told = log.iter().filter(|line| line.contains("\"WARN\"") && line.contains("the root")).count();
        assert_eq!(told, 2, "{log:#?}");
    }
}

#[test]
fn within_the_sandbox_a_reload_says_that_a_restart_is_needed() {
    let root = Movable::new();
    let process = Process::start(&["--root", root.path.to_str().unwrap()]);
    let confined = lines_with(&process.log(), "message", "sandboxed");
    if confined.is_empty() || !confined[0]["landlock"].as_str().unwrap().starts_with("ABI") {
        eprintln!("skipped: no Landlock");
        return;
    }
    root.move_aside();
    root.make_anew();
    process.wait_for_line("the root's path leads elsewhere");
    process.signal(Signal::HUP);
    let refused = process.wait_for_line("the root could not be reopened: the former one stays");
    assert!(
        refused.contains("the sandbox shows the directory that was there at the start: restart"),
        "{refused}"
    );
    assert_eq!(get(process.data(), "/file", "").text(), "first");
    assert_eq!(get(process.control(), "/health", "").text(), "OK\nroot replaced: reload");
    process.stop();
}

#[test]
fn what_runs_goes_on_with_the_root_that_it_began_with() {
    const BODY: usize = 8 << 20;
    for driver in drivers() {
        let root = Movable::new();
        root.around.write("root/long", &vec![7; BODY]);
        let of_root = Settings { driver, ..taking_uploads(&root.path) };
        let daemon = TestDaemon::start(of_root.clone());
        let mut reader = crate::harness::Connection::open_slow(daemon.data(), 16 << 10);
        reader.send("GET /long HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(reader.head().status, 200);
        let mut writer = crate::harness::Connection::open(daemon.data());
        writer.send("PUT /sent HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfirst");
        wait_until("a writer", || daemon.telemetry().uploads.writers.get() == 1);
        root.move_aside();
        root.make_anew();
        daemon.reload(of_root);
        assert_eq!(get(daemon.data(), "/file", "").text(), "second");
        writer.send("later");
        assert_eq!(writer.response_to("PUT").status, 201);
        let aside = root.around.path().join("aside/sent");
        assert_eq!(std::fs::read(aside).unwrap(), b"firstlater");
        assert!(!root.path.join("sent").exists());
        reader.stream().set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(reader.receive_to_end().len(), BODY);
    }
}
