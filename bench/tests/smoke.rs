//! Smoke tests: each subcommand runs once, for a moment, against a real daemon; and the errors where it can't
//! work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "as clippy.toml has it for test functions: what cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use streamd::Daemon;
use streamd::config::{Live, PlaneChoice, Settings};
use streamd::telemetry::{LogQueue, Outcome};

#[path = "smoke/cold.rs"]
mod cold;
#[path = "smoke/judged.rs"]
mod judged;
#[path = "smoke/new_names.rs"]
mod new_names;
#[path = "smoke/script.rs"]
mod script;
#[path = "smoke/uploads.rs"]
mod uploads;

/// The time for anything that should happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon in this process that serves a few files.
struct Server {
    daemon: Option<Daemon>,
    root: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        Server::start_with(false)
    }

    fn start_with(uploads: bool) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), uploads)
    }

    fn start_in(root: tempfile::TempDir, uploads: bool) -> Server {
        for (name, bytes) in [("small", 1024), ("large", 3_000_000), ("other", 10_000)] {
            std::fs::write(root.path().join(name), vec![7; bytes]).unwrap();
        }
        let settings = Settings {
            root: Some(root.path().to_owned()),
            data_listen: "127.0.0.1:0".parse().unwrap(),
            control_listen: "127.0.0.1:0".parse().unwrap(),
            workers: 1,
            uploads,
            ..Settings::default()
        };
        Server {
            daemon: Some(Daemon::start(Live::new(settings).unwrap(), &LogQueue::nowhere()).unwrap()),
            root,
        }
    }

    fn data(&self) -> String {
        self.daemon.as_ref().unwrap().address(PlaneChoice::Data).unwrap().to_string()
    }

    fn control(&self) -> String {
        self.daemon.as_ref().unwrap().address(PlaneChoice::Control).unwrap().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.daemon.take().unwrap().drain();
    }
}

/// Runs the bench in a directory of its own, which goes away with its files. It finds taskset, which pins,
/// fincore, which reports the page cache, and no peer, whatever is installed.
fn bench(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let programs = directory.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    for program in ["taskset", "fincore"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{program}"), programs.join(program)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_stream-bench"));
    command.args(arguments).current_dir(directory.path()).env("PATH", programs).output().unwrap()
}

/// Runs a measurement of a moment and returns its JSON.
fn measure(arguments: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("result.json");
    let common = ["--duration", "0.3", "--warm-up", "0.1", "--json", json.to_str().unwrap()];
    let output = bench(&[arguments, &common].concat());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    assert!(stdout.contains("server"), "{arguments:?}: {stdout}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn sample(run: &serde_json::Value) -> &serde_json::Value {
    &run["scenarios"][0]["samples"][0]
}

/// Asserts that something was answered, whole and without an error, and that bytes and answers agree: the bytes of
/// each connection's first answer may have come before the clock ran.
fn assert_worked(run: &serde_json::Value, connections: u64, body_bytes: u64) {
    let sample = sample(run);
    let (requests, bytes) = (sample["requests"].as_u64().unwrap(), sample["bytes"].as_u64().unwrap());
    assert!(requests > 0, "{sample}");
    assert_eq!(sample["errors"].as_array().unwrap().len(), 0, "{sample}");
    assert!(bytes >= requests.saturating_sub(connections) * body_bytes, "{sample}");
    assert!(sample["latency"]["p50_us"].as_f64().unwrap() > 0.0, "{sample}");
}

#[test]
fn pull_in_all_its_ways() {
    let server = Server::start();
    let data = server.data();
    assert_worked(&measure(&["pull", &data, "/small", "-c", "4"]), 4, 1024);
    assert_worked(&measure(&["pull", &data, "/small", "-c", "4", "--no-keep-alive"]), 4, 1024);
    assert_worked(&measure(&["pull", &data, "/large", "-c", "2", "--client-mode", "read"]), 2, 3_000_000);
    assert_worked(&measure(&["pull", &data, "/small", "/other", "--threads", "2", "-c", "4"]), 4, 1024);
    let open_loop = measure(&["pull", &data, "/small", "-c", "2", "--rate", "200"]);
    assert_worked(&open_loop, 2, 1024);
    // 200 a second for 0.3 s are 60; a closed loop would give thousands.
    let requests = sample(&open_loop)["requests"].as_u64().unwrap();
    assert!(requests <= 200, "{requests} requests at 200 a second in 0.3 s");
}

#[test]
fn push_stream_connections_and_mixed() {
    let server = Server::start();
    let (data, control) = (server.data(), server.control());
    assert_worked(&measure(&["push", &data, "--size", "1MiB", "-c", "2"]), 2, 1 << 20);
    assert_worked(&measure(&["stream", &control, "--size", "169", "-c", "2"]), 2, 169);
    let idle = measure(&[
        "connections",
        &data,
        "/small",
        "-c",
        "200",
        "--server-pid",
        &std::process::id().to_string(),
    ]);
    assert_worked(&idle, 1, 1024);
    assert!(sample(&idle)["memory_per_connection_bytes"].is_number());
    let slow = measure(&["connections", &data, "/small", "/large", "-c", "20", "--read-rate", "10kB"]);
    assert_worked(&slow, 1, 1024);
    let mixed = measure(&["mixed", &data, "/small", "/large", "--cold-pulls", "2", "-c", "2"]);
    assert_worked(&mixed, 2, 1024);
    assert!(sample(&mixed)["beside_bytes_per_s"].as_f64().unwrap() > 0.0);
}

/// Starts a server that promises ten bytes to everybody, and sends nine.
fn start_liar() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap_or(0);
            let body: &[u8] = if request[..count].starts_with(b"HEAD") { b"" } else { b"123456789" };
            // The client may be gone already.
            let _ = stream.write_all(&[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", body].concat());
        }
    });
    address
}

#[test]
fn a_server_that_sends_a_byte_too_few_is_found_out() {
    let liar = start_liar().to_string();
    let output = bench(&["pull", &liar, "/any", "--duration", "0.3", "--warm-up", "0.1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("closed early") || stderr.contains("requests failed"), "{stderr}");
}

#[test]
fn compare_and_report() {
    let directory = tempfile::tempdir().unwrap();
    let (work, json, html) =
        (directory.path().join("work"), directory.path().join("run.json"), directory.path().join("run.html"));
    let output = bench(&[
        "compare",
        "--peers",
        "ceiling,h2o",
        "--only",
        "pull-1KiB-64c",
        "--rounds",
        "1",
        "--directory",
        work.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("ceiling") && table.contains("absent: h2o (h2o is not installed"), "{table}");
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let samples = run["scenarios"][0]["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2, "a warm-up and a counted round");
    assert_eq!(samples[0]["digests_checked"], 1);
    assert!(
        samples[1]["requests"].as_u64().unwrap() > 0 && samples[1]["server_cpu_s"].as_f64().unwrap() > 0.0
    );
    assert_eq!(run["absent"][0]["name"], "h2o");

    let output = bench(&["report", json.to_str().unwrap(), "-o", html.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<svg") || page.contains("GET 1 KiB, 64 connections"), "{page}");
}

#[test]
fn an_interrupt_ends_the_run_with_what_was_measured() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_stream-bench"))
        .args(["pull", &server.data(), "/small", "--duration", "600", "--json", json.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let answered = || {
        let workers = &server.daemon.as_ref().unwrap().telemetry().workers;
        workers.iter().map(|worker| worker.transfers.get(Outcome::Complete)).sum::<u64>()
    };
    let end = Instant::now() + DEADLINE;
    // By then the warm-up is over.
    while answered() < 20_000 {
        assert!(Instant::now() < end, "{} answers within {DEADLINE:?}", answered());
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(run["interrupted"], true);
    assert!(sample(&run)["elapsed_s"].as_f64().unwrap() < 600.0);
}

/// The ceiling in a process of its own, with an empty root.
struct Ceiling {
    process: Child,
    http: SocketAddr,
    root: tempfile::TempDir,
}

impl Ceiling {
    fn start() -> Ceiling {
        let root = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http, frames) = (free(), free());
        let process = Command::new(env!("CARGO_BIN_EXE_stream-bench"))
            .args(["ceiling-server", "--listen", &http.to_string(), "--push-listen", &frames.to_string()])
            .args(["--root", root.path().to_str().unwrap()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ceiling = Ceiling { process, http, root };
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(http).is_err() {
            assert!(Instant::now() < end, "the server listens within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        ceiling
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_server_that_dies_ends_the_run_with_what_was_seen() {
    let mut ceiling = Ceiling::start();
    std::fs::write(ceiling.root.path().join("small"), [7; 1024]).unwrap();
    let http = ceiling.http.to_string();
    let client = Command::new(env!("CARGO_BIN_EXE_stream-bench"))
        .args(["pull", &http, "/small", "-c", "4", "--duration", "600"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&ceiling.process);
    let cpu_ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    };
    let end = Instant::now() + DEADLINE;
    // By half a second of its CPU time it is well under load.
    while cpu_ticks() < 50 {
        assert!(Instant::now() < end, "the load comes within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    ceiling.process.kill().unwrap();
    ceiling.process.wait().unwrap();
    let output = client.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.contains("requests failed: ") && last.contains("connection refused"), "{stderr}");
}

#[test]
fn too_low_a_limit_of_open_files_is_said_before_anything_is_opened() {
    let server = Server::start();
    let command = format!(
        "ulimit -n 200; exec {} connections {} /small -c 1000",
        env!("CARGO_BIN_EXE_stream-bench"),
        server.data()
    );
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("need 1128 open files, and the limit is 200"), "{stderr}");
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let server = Server::start();
    let closed: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (data, closed) = (server.data(), closed.to_string());
    for (arguments, text) in [
        (vec!["pull", &closed, "/small"], "Connection refused"),
        (vec!["push", &closed], "connection refused"),
        (vec!["pull", &data, "/absent"], "404"),
        (
            vec!["compare", "--peers", "streamd", "--streamd", "/bin/false", "--only", "stream-169"],
            "streamd: refused to start",
        ),
        (vec!["report", "/nonexistent.json", "-o", "/dev/null"], "/nonexistent.json"),
    ] {
        let output = bench(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("stream-bench: ") && last.contains(text), "{arguments:?}: {stderr}");
    }
    assert!(server.root.path().exists());
}
