//! Tests of the rights that the daemon gives up at its start, and that everything works without them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Pid, Signal};

use crate::harness::{
    Connection, Fixture, Manager, Process, TEST_FLAGS, Target, command, driver_names, get, lines_with,
    or_skip, partials, pattern, refusing, request, send, set_test_variables, sha256, wait_until,
};

const NO_CAPABILITIES: &str = "0000000000000000";

/// Returns the value of a line of /proc/PID/status for each thread.
fn of_threads(process: Pid, name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).unwrap();
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
    let value = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.trim().to_owned()
    };
    statuses.map(value).collect()
}

fn own(name: &str) -> String {
    of_threads(rustix::process::getpid(), name).remove(0)
}

fn assert_confined(process: &Process, case: &str) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let sets = of_threads(process.pid(), set);
        assert!(sets.len() > 3 && sets.iter().all(|set| set == NO_CAPABILITIES), "{case} {set}: {sets:?}");
    }
    let flags = of_threads(process.pid(), "NoNewPrivs");
    assert!(flags.iter().all(|flag| flag == "1"), "{case}: {flags:?}");
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn reload(process: &Process) {
    let lines = |process: &Process| process.log().iter().filter(|line| line.contains("\"reload")).count();
    let before = lines(process);
    process.signal(Signal::HUP);
    wait_until("a reload", || lines(process) > before);
}

/// Replaces a file as editors and configuration management do: by a rename.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn no_thread_keeps_a_capability_or_may_gain_one() {
    let root = Fixture::new();
    for driver in driver_names() {
        let flags = [
            "--sandbox",
            "required",
            "--driver",
            driver,
            "--uploads",
            "--root",
            root.path().to_str().unwrap(),
        ];
        let process = Process::start(&flags);
        assert_eq!(
            request(process.control(), "POST", "/stream?size=1MiB&target=localhost:1", "").status,
            403
        );
        assert_confined(&process, driver);
        let log = process.stop();
        assert!(lines_with(&log, "level", "WARN").is_empty(), "{driver}: {log:#?}");
        let sandboxed = lines_with(&log, "message", "sandboxed");
        assert!(sandboxed[0]["landlock"].as_str().unwrap().starts_with("ABI "), "{driver}: {sandboxed:?}");
    }
}

#[test]
fn off_leaves_all_as_it_was() {
    let process = Process::start(&["--sandbox", "off"]);
    for name in ["CapPrm", "CapEff", "NoNewPrivs"] {
        let (values, own) = (of_threads(process.pid(), name), own(name));
        assert!(values.iter().all(|value| *value == own), "{name}: {values:?} is not {own}");
    }
    assert_eq!(lines_with(&process.stop(), "message", "the sandbox is off").len(), 1);
}

/// A daemon with every kind of writing, a token and a configuration, started anew on its former files.
struct Everything {
    served: Fixture,
    spool: Fixture,
    settings: Fixture,
    driver: &'static str,
}

impl Everything {
    fn new(driver: &'static str) -> Everything {
        let everything =
            Everything { served: Fixture::new(), spool: Fixture::new(), settings: Fixture::new(), driver };
        everything.settings.write("token", b"first");
        everything.configure("");
        everything
    }

    fn configure(&self, more: &str) {
        let (root, spool) = (self.served.path().display(), self.spool.path().display());
        let token = self.settings.path().join("token");
        let text = format!(
            "sandbox = \"required\"\nroot = \"{root}\"\nuploads = true\ncreate_dirs = true\nlisting = true\n\
             min_free_bytes = 0\nsink = \"store\"\nspool = \"{spool}\"\ntargets_allowed = [\"localhost:*\"]\n\
             driver = \"{}\"\n{more}\n",
            self.driver
        );
        let token =
            if more.contains("token_file") { String::new() } else { format!("token_file = {token:?}\n") };
        replace(&self.settings.path().join("streamd.toml"), &(text + &token));
    }

    fn start(&self) -> Process {
        Process::start(&["--config", self.settings.path().join("streamd.toml").to_str().unwrap()])
    }
}

const FIRST: &str = "Authorization: Bearer first\r\n";

#[test]
fn uploads_frames_streams_and_listings_work_in_it() {
    for driver in driver_names() {
        let everything = Everything::new(driver);
        let process = everything.start();
        let (data, control) = (process.data(), process.control());
        let content = pattern(3 << 20);
        for (path, status) in [("/made/for/it", 201), ("/made/for/it", 204), ("/beside", 201)] {
            assert_eq!(send(data, "PUT", path, FIRST, &content).status, status, "{driver} {path}");
        }
        assert_eq!(sha256(&get(data, "/made/for/it", "").body), sha256(&content), "{driver}");
        assert!(get(data, "/made/", "").text().contains("for"), "{driver}");
        assert_eq!(request(data, "DELETE", "/beside", FIRST).status, 204, "{driver}");
        let mut frames = Connection::open(data);
        frames.send(b"\x05\0\0\0\0\0\0\0hello");
        assert_eq!(frames.receive(4), b"done", "{driver}");
        assert_eq!(std::fs::read_dir(everything.spool.path()).unwrap().count(), 1, "{driver}");
        let (target, payloads) = Target::acknowledging();
        let port = target.address().port();
        for source in ["size=3MiB", "path=/made/for/it"] {
            let path = format!("/stream?{source}&target=localhost:{port}");
            let answer = request(control, "POST", &path, FIRST);
            assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
            assert_eq!(payloads.recv().unwrap().len(), content.len(), "{driver}");
        }
        assert_confined(&process, driver);
        process.stop();
    }
}

#[test]
fn what_a_killed_daemon_left_is_gone_on_with() {
    const PART: usize = 2 << 20;
    for driver in driver_names() {
        let everything = Everything::new(driver);
        let content = pattern(4 << 20);
        let mut process = everything.start();
        let mut upload = Connection::open(process.data());
        upload.send(format!(
            "PUT /new/file HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{FIRST}\r\n",
            content.len()
        ));
        upload.send(&content[..PART]);
        let root = everything.served.path();
        wait_until("a part on the disk", || partials(root).iter().any(|(_, bytes)| *bytes == PART as u64));
        process.signal(Signal::KILL);
        process.wait();
        let process = everything.start();
        let asks = format!("Content-Range: bytes */{}\r\n{FIRST}", content.len());
        let answer = send(process.data(), "PUT", "/new/file", &asks, b"");
        let offset: usize = answer.field("Upload-Offset").unwrap_or("0").parse().unwrap();
        assert!(offset > 0, "{driver}: nothing was kept: {} {}", answer.status, answer.text());
        let rest =
            format!("Content-Range: bytes {offset}-{}/{}\r\n{FIRST}", content.len() - 1, content.len());
        assert_eq!(
            send(process.data(), "PUT", "/new/file", &rest, &content[offset..]).status,
            201,
            "{driver}"
        );
        assert_eq!(sha256(&get(process.data(), "/new/file", "").body), sha256(&content), "{driver}");
        process.stop();
    }
}

#[test]
fn a_reload_reads_what_was_replaced_and_names_what_is_hidden() {
    let (everything, elsewhere) = (Everything::new("auto"), Fixture::new());
    let process = everything.start();
    let status = |token: &str| {
        get(process.control(), "/streams", &format!("Authorization: Bearer {token}\r\n")).status
    };
    assert_eq!((status("first"), status("second")), (200, 401));
    replace(&everything.settings.path().join("token"), "second");
    reload(&process);
    assert_eq!((status("first"), status("second")), (401, 200));

    let token = elsewhere.write("token", b"third");
    everything.configure(&format!("token_file = {token:?}"));
    reload(&process);
    let refused = process.wait_for_line("reload refused");
    let expected = format!(
        "token_file: {}: Permission denied (os error 13): the sandbox has no capabilities and shows what was set at \
         the start: let the user who runs streamd read it, and restart",
        token.display()
    );
    assert!(refused.contains(&expected), "{refused}");
    assert_eq!((status("second"), status("third")), (200, 401));

    // A setting that only a restart can change needn't be readable before it.
    let root = elsewhere.path().to_str().unwrap();
    let hidden = format!("root = \"{root}\"\nstreams_max = 7");
    everything.configure("");
    let file = everything.settings.path().join("streamd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("root")).collect::<Vec<_>>().join("\n");
    replace(&file, &format!("{lines}\n{hidden}\n"));
    reload(&process);
    let log = process.stop();
    assert_eq!(lines_with(&log, "message", "reloaded").len(), 2, "{log:#?}");
    let needs: Vec<_> = lines_with(&log, "message", "needs restart");
    assert!(needs.len() == 1 && needs[0]["setting"] == "root", "{needs:?}");
}

#[test]
fn without_landlock_auto_goes_on_and_required_does_not() {
    let refused = |errno, mode| {
        let flags = [&TEST_FLAGS[..], &["--sandbox", mode]].concat();
        refusing(libc::SYS_landlock_create_ruleset, errno, &flags)
    };
    for (errno, reason) in [
        (
            "ENOSYS",
            "Landlock: not there: the kernel is older than Linux 5.13 or built without it, or a seccomp profile \
             refuses landlock_create_ruleset(2)",
        ),
        ("EOPNOTSUPP", "Landlock: switched off: add landlock to lsm= of the kernel's command line"),
    ] {
        let process = Process::spawn(refused(errno, "auto"));
        assert_eq!(request(process.control(), "POST", "/stream?size=1MiB", "").status, 200);
        assert_confined(&process, errno);
        let warnings = lines_with(&process.stop(), "level", "WARN");
        assert_eq!(warnings.len(), 1, "{errno}: {warnings:#?}");
        assert_eq!(warnings[0]["message"], "the sandbox is incomplete");
        assert_eq!(warnings[0]["missing"], reason);
        let output = refused(errno, "required").output().unwrap();
        let expected = format!("streamd: sandbox required: {reason}; --sandbox auto would go on without\n");
        assert_eq!(stderr(&output), expected);
        assert_eq!(output.status.code(), Some(1), "{errno}");
        let output = refusing(libc::SYS_landlock_create_ruleset, errno, &["--check"]).output().unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(text.contains("\nsandbox        incomplete\n               missing: Landlock: "), "{text}");
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
}

#[test]
fn capabilities_that_can_not_be_dropped_are_named() {
    if own("CapPrm") == NO_CAPABILITIES {
        return;
    }
    let refused =
        |mode| refusing(libc::SYS_capset, "EPERM", &[&TEST_FLAGS[..], &["--sandbox", mode]].concat());
    let reason = "capabilities: Operation not permitted (os error 1): let capset(2) through in the seccomp profile, or \
                  start streamd without capabilities";
    let warnings = lines_with(&Process::spawn(refused("auto")).stop(), "level", "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0]["missing"], reason);
    let output = refused("required").output().unwrap();
    assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

/// Makes a `streamd` as nobody, with these capabilities alone; the error says why that can't be had.
fn with_capabilities(capabilities: &str, arguments: &[&str]) -> Result<Command, String> {
    let streamd = command(arguments);
    let wrapped = |program: &std::ffi::OsStr| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command
            .arg(format!("--inh-caps=-all{capabilities}"))
            .arg(format!("--ambient-caps=-all{capabilities}"));
        command.arg(program);
        command
    };
    let trial = wrapped(streamd.get_program())
        .arg("--version")
        .output()
        .map_err(|error| format!("setpriv: {error}"))?;
    if !trial.status.success() {
        return Err(format!("streamd with other capabilities: {}", stderr(&trial).trim()));
    }
    let mut command = wrapped(streamd.get_program());
    set_test_variables(&mut command);
    command.args(streamd.get_args());
    Ok(command)
}

#[test]
fn a_low_port_is_bound_with_one_capability_that_is_gone_afterwards() {
    let Some(port) = (600..1024).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) else { return };
    let address = format!("127.0.0.1:{port}");
    let flags = ["--sandbox", "required", "--data-listen", &address];
    let Some(streamd) = or_skip(with_capabilities(",+net_bind_service", &flags)) else { return };
    let process = Process::spawn(streamd);
    assert_eq!(process.data().port(), port);
    assert_eq!(request(process.control(), "POST", "/stream?size=1MiB", "").status, 200);
    assert_confined(&process, "a low port");
    process.stop();
    let Some(mut streamd) = or_skip(with_capabilities("", &flags)) else { return };
    let output = streamd.output().unwrap();
    assert!(stderr(&output).contains("ports below 1024 need CAP_NET_BIND_SERVICE"), "{}", stderr(&output));
}

#[test]
fn root_sees_what_its_permission_bits_say() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = Fixture::new();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let path = root.to_str().unwrap();
    let checked = command(&["--root", path, "--check"]).output().unwrap();
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains(&format!("\n               warning: root: {path}: Permission denied")), "{text}");
    let output = command(&[&TEST_FLAGS[..], &["--root", path]].concat()).output().unwrap();
    let expected =
        format!("streamd: root: {path}: Permission denied (os error 13): the sandbox has no capabilities");
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(78));
    let output = command(&["--root", path, "--check", "--sandbox", "off"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_service_manager_is_told_from_inside() {
    for manager in [Manager::at_path(), Manager::at_abstract_name()] {
        let mut command = command(&["--sandbox", "required"]);
        set_test_variables(&mut command);
        command.env("NOTIFY_SOCKET", manager.notify_socket());
        let process = Process::spawn(command);
        manager.wait_for("READY=1", 1);
        assert_confined(&process, manager.notify_socket());
        process.stop();
        manager.wait_for("STOPPING=1", 1);
    }
}
