//! Tests of hosts that grant little: file sizes, threads, locked memory, memory. A failure is told with its
//! remedy.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::uploads::{connect, put, put_head, read_response};
use crate::harness::{
    Connection, Fixture, MIB, Process, Random, TEST_FLAGS, command, driver_names, get, lines_with, or_skip,
    request, set_test_variables, wait_until,
};

/// Makes a `streamd` with this resource limit (prlimit(1)).
fn limited(limit: &str, arguments: &[&str]) -> Command {
    let mut streamd = Command::new("prlimit");
    streamd.arg(limit).arg("--").arg(env!("CARGO_BIN_EXE_streamd")).args(arguments);
    set_test_variables(&mut streamd);
    streamd
}

/// The number of users that the tests of one process have.
const USERS_MAX: u32 = 4;

/// Makes a limited `streamd` of a user of this process's own, one of several, who has nothing else running: the
/// kernel counts for a user over all its processes. The error says why that can't be had.
fn limited_as_nobody_else(user: u32, limit: &str, arguments: &[&str]) -> Result<Command, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("another user's limits: not root".to_owned());
    }
    let user = (200_000 + std::process::id() % 100_000 * USERS_MAX + user).to_string();
    let as_user = |program: &[&str], rest: &[&str]| {
        let mut wrapped = Command::new("prlimit");
        wrapped.args([limit, "--", "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        wrapped.args(program).args(rest);
        set_test_variables(&mut wrapped);
        wrapped
    };
    let program = [env!("CARGO_BIN_EXE_streamd")];
    let trial = as_user(&program, &["--version"]).output().map_err(|error| format!("prlimit: {error}"))?;
    if !trial.status.success() {
        return Err(format!("streamd as another user: {}", stderr(&trial).trim()));
    }
    Ok(as_user(&program, arguments))
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn frame(bytes: usize) -> Vec<u8> {
    [&(bytes as u64).to_le_bytes()[..], &vec![7; bytes]].concat()
}

#[test]
fn a_limit_of_file_sizes_refuses_what_is_longer_and_ends_nothing() {
    const LIMIT: usize = 64 << 10;
    for driver in driver_names() {
        let (root, spool) = (Fixture::new(), Fixture::new());
        let (root, spool) = (root.path().to_str().unwrap(), spool.path().to_str().unwrap());
        let flags = ["--root", root, "--uploads", "--sink", "store", "--spool", spool, "--driver", driver];
        let process = Process::spawn(limited(&format!("--fsize={LIMIT}"), &flags));
        let mut frames = Connection::open(process.data());
        frames.send(frame(LIMIT));
        assert_eq!(frames.receive(4), b"done", "{driver}");
        frames.send_in_vain(frame(LIMIT + 1));
        assert_eq!(frames.receive_what_comes(), b"", "{driver}");
        let refused = "streamd_frames_refused_total{reason=\"no_room\"}";
        wait_until("a refused frame", || process.metric(refused) == 1);
        assert_eq!(put(process.data(), "/short", &vec![7; LIMIT]).status, 201, "{driver}");
        assert_eq!(put(process.data(), "/long", &vec![7; LIMIT + 1]).status, 413, "{driver}");
        let lines = lines_with(&process.stop(), "method", "RECEIVE");
        let reason = lines.last().unwrap()["reason"].as_str().unwrap();
        assert!(reason.contains("a frame of 65537 bytes") && reason.contains("LimitFSIZE="), "{reason}");
    }
}

#[test]
fn synthetic_streams_come_from_what_a_file_may_hold() {
    for driver in driver_names() {
        let process = Process::spawn(limited("--fsize=65536", &["--driver", driver]));
        let answer = request(process.control(), "POST", "/stream?size=3MiB", "");
        assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
        process.stop();
    }
    let output = limited("--fsize=4095", &["--driver", "epoll"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("raise LimitFSIZE= (ulimit -f)"), "{output:?}");
}

/// Returns the lines that `streamd` writes before it listens or ends, and whether it listened.
fn start_of(mut streamd: Command) -> (String, bool) {
    let mut child = streamd.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        text += &line.unwrap();
        text.push('\n');
        if text.contains("\"listening\"") {
            break;
        }
    }
    let _ = child.kill();
    let status = child.wait().unwrap();
    let has_listened = text.contains("\"listening\"");
    assert!(has_listened || status.code() == Some(1), "{status}: {text}");
    (text, has_listened)
}

#[test]
fn a_thread_that_can_not_be_started_is_named_with_its_remedy() {
    // The root lies where everybody has access: the build may lie below a directory that is its owner's alone.
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let root = root.path().to_str().unwrap();
    let flags = ["--root", root, "--uploads", "--etag", "digest", "--workers", "1", "--disk-threads", "2"];
    // The subjects are those of the table in ARCHITECTURE.md, one after the other.
    let mut subjects = Vec::new();
    for threads in 1..40 {
        let Some(streamd) = or_skip(limited_as_nobody_else(0, &format!("--nproc={threads}"), &flags)) else {
            return;
        };
        let (text, has_listened) = start_of(streamd);
        assert!(!text.contains("panicked"), "{threads}: {text}");
        if has_listened {
            assert!(threads > 6 && subjects.len() > 4, "{threads}: {subjects:?}");
            return;
        }
        let line =
            text.lines().find(|line| line.starts_with("streamd: ")).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("LimitNPROC=") && line.contains("TasksMax="), "{threads}: {line}");
        let subject = line.split(" can't be started").next().unwrap().to_owned();
        if subjects.last() != Some(&subject) {
            subjects.push(subject);
        }
    }
    panic!("it doesn't start: {subjects:?}");
}

/// Locked memory for some of sixteen rings, and whether this kernel counts them (Linux 6.18 does, some before don't).
const LOCKED: &str = "--memlock=1048576";
const SIXTEEN: [&str; 2] = ["--workers", "16"];

fn counts_rings() -> bool {
    let kernel = rustix::system::uname();
    let version = kernel.release().to_str().unwrap().split('.').map(|part| part.parse().unwrap_or(0));
    version.take(2).collect::<Vec<u32>>() >= vec![6, 18]
}

#[test]
fn every_ring_is_tried_before_the_first_worker_listens() {
    let run = |arguments: &[&str]| {
        or_skip(limited_as_nobody_else(1, LOCKED, &[&SIXTEEN, arguments].concat()))
            .map(|mut one| one.output().unwrap())
    };
    let Some(refused) = run(&["--check", "--driver", "uring"]) else { return };
    if refused.status.success() && !counts_rings() {
        eprintln!("skipped: this kernel doesn't count rings as locked memory");
        return;
    }
    let text = String::from_utf8(refused.stdout).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("of 16: Cannot allocate memory") && text.contains("LimitMEMLOCK="), "{text}");
    let text = String::from_utf8(run(&["--check"]).unwrap().stdout).unwrap();
    assert!(text.contains("\ndriver         epoll, since io_uring is refused\n"), "{text}");

    let forced = run(&["--driver", "uring"]).unwrap();
    assert_eq!(forced.status.code(), Some(1), "{forced:?}");
    let text = stderr(&forced);
    assert!(text.contains("driver uring: ") && text.contains("LimitMEMLOCK="), "{text}");

    let auto = [&TEST_FLAGS[..], &SIXTEEN].concat();
    let process = Process::spawn(limited_as_nobody_else(1, LOCKED, &auto).unwrap());
    let reason = lines_with(&process.log(), "message", "falling back to epoll");
    assert!(reason[0]["reason"].as_str().unwrap().contains("LimitMEMLOCK="), "{reason:?}");
    assert_eq!(get(process.control(), "/health", "").status, 200);
    assert!(process.wait_for_line("\"listening\"").contains("\"driver\":\"epoll\""));
    process.stop();
}

#[test]
fn as_many_rings_as_are_tried_can_be_made_right_after() {
    // The locked memory is enough for sixteen rings, not for those of the trial besides.
    let Some(streamd) =
        or_skip(limited_as_nobody_else(2, "--memlock=3145728", &[&TEST_FLAGS[..], &SIXTEEN].concat()))
    else {
        return;
    };
    let process = Process::spawn(streamd);
    assert!(process.wait_for_line("\"listening\"").contains("\"driver\":\"io_uring\"") || !counts_rings());
    process.stop();
}

/// A cgroup that limits memory; removed with its last process.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes a group below this process's own where version 1 is mounted; the error says why there is none.
    fn new(bytes: usize) -> Result<MemoryGroup, String> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path_of = |controllers: &str| {
            own.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(controllers)?.strip_prefix(':'))
        };
        let (above, file) = match path_of("memory") {
            Some(path) => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
            // Processes lie in leaves alone (cgroups(7)), so the group is at the top, where that limits memory of
            // groups below.
            None => ("/sys/fs/cgroup".to_owned(), "memory.max"),
        };
        let group = Path::new(&above).join(format!("streamd-test-{}", std::process::id()));
        std::fs::create_dir(&group).map_err(|error| format!("a memory cgroup at {above}: {error}"))?;
        let made = MemoryGroup(group);
        std::fs::write(made.0.join(file), bytes.to_string()).map_err(|error| format!("{file}: {error}"))?;
        Ok(made)
    }

    /// Makes a `streamd` in the group.
    fn run(&self, arguments: &[&str]) -> Command {
        let streamd = command(arguments);
        let mut wrapped = Command::new("sh");
        wrapped.args(["-c", "echo $$ > \"$GROUP/cgroup.procs\"; exec \"$0\" \"$@\""]);
        wrapped.env("GROUP", &self.0).arg(streamd.get_program()).args(streamd.get_args());
        set_test_variables(&mut wrapped);
        wrapped
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        wait_until("the end of a cgroup", || std::fs::remove_dir(&self.0).is_ok());
    }
}

/// The bytes that each of several clients sends, in pieces with pauses, so that all bodies are under way at once.
const BODY_BYTES: usize = 16 * MIB;
const PIECE_PAUSE: Duration = Duration::from_millis(50);

#[test]
fn long_bodies_take_no_more_memory_than_the_cgroup_has() {
    const CLIENTS: usize = 12;
    let content = Random::seeded().bytes(BODY_BYTES);
    for driver in driver_names() {
        let Some(group) = or_skip(MemoryGroup::new(64 * MIB)) else { return };
        let root = Fixture::new();
        let flags = ["--root", root.path().to_str().unwrap(), "--uploads", "--direct-bytes-min", "1MiB"];
        let process = Process::spawn(group.run(&[&flags[..], &["--driver", driver]].concat()));
        let upload = |number: usize| {
            let mut stream = connect(process.data())?;
            let head = put_head(&format!("/{number}"), &format!("Content-Length: {BODY_BYTES}\r\n"));
            stream.write_all(head.as_bytes())?;
            for piece in content.chunks(MIB) {
                stream.write_all(piece)?;
                std::thread::park_timeout(PIECE_PAUSE);
            }
            read_response(&stream)
        };
        let upload = &upload;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || upload(number))).collect();
            for client in clients {
                assert_eq!(client.join().unwrap().unwrap().status, 201, "{driver}");
            }
        });
        // One body's buffers fit, so the way past the page cache isn't lost either.
        wait_until("a body past the page cache", || {
            put(process.data(), "/alone", &content);
            process.metric("streamd_bytes_uploaded_direct_total") > 0
        });
        process.stop();
        assert!(std::fs::read(root.path().join("0")).unwrap() == content, "{driver}");
    }
}
