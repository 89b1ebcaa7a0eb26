//! Tests with the clients that people have: curl, wget, aria2c and zsync, each against every engine on both
//! drivers.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use streamd::config::Settings;
use streamd::telemetry::{EngineLabel, Label, Status};

use crate::harness::{
    Fixture, TestDaemon, drivers, every_engine_and_driver, pattern, settings, sha256, sha256_of, wait_until,
};

const FILE_BYTES: usize = 64 << 20;

/// The bytes that an interrupted download left behind: no multiple of anything.
const PARTIAL_BYTES: usize = 23_456_789;

const LARGE_FILE_BYTES: u64 = 5 << 30;

/// Whether a client is installed; printed where it isn't.
pub(crate) fn installed(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("not tested with {program}: it is not installed");
    }
    is_there
}

/// Whether a program without `--version` is installed; printed where it isn't.
fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !is_there {
        eprintln!("not tested with {program}: it is not installed");
    }
    is_there
}

/// Makes a client that reads no settings of the user's, and no proxy from the environment.
pub(crate) fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    match program {
        "curl" => command.args(["--disable", "--silent", "--show-error", "--fail"]),
        "wget" => command.args(["--no-config", "--quiet"]),
        "zsync" => command.arg("-q"),
        "zsyncmake" => &mut command,
        "aria2c" => command.args(["--no-conf", "--quiet", "--file-allocation=none", "--split=8", "-x8"]),
        other => panic!("no such client: {other}"),
    };
    command
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/file")
}

/// Returns the digest of a client's standard output.
fn digest_of_output(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let digest = sha256_of(child.stdout.take().unwrap());
    assert!(child.wait().unwrap().success(), "{command:?}");
    digest
}

/// Returns the digest of the file that a client leaves in `directory`.
fn digest_of_file(mut command: Command, directory: &Path) -> String {
    assert!(command.current_dir(directory).status().unwrap().success(), "{command:?}");
    sha256_of(File::open(directory.join("file")).unwrap())
}

fn bytes_sent(daemon: &TestDaemon) -> u64 {
    EngineLabel::ALL.iter().map(|engine| daemon.bytes_sent(*engine)).sum()
}

/// Runs `test` with a root that holds `/file`, its content and the digest of that.
fn each_daemon(test: impl Fn(&TestDaemon, &str, &[u8], &str)) {
    let fixture = Fixture::new();
    let content = pattern(FILE_BYTES);
    fixture.write("file", &content);
    let digest = sha256(&content);
    let base = Settings { root: Some(fixture.path().to_owned()), ..settings() };
    every_engine_and_driver(&base, |daemon, name| test(daemon, name, &content, &digest));
}

#[test]
fn curl_downloads_whole_files_and_ranges() {
    if !installed("curl") {
        return;
    }
    each_daemon(|daemon, name, content, digest| {
        let mut whole = client("curl");
        whole.arg(url(daemon.data()));
        assert_eq!(digest_of_output(whole), digest, "{name}");
        for (range, expected) in [
            ("1000-2000000", &content[1000..=2_000_000]),
            ("67000000-", &content[67_000_000..]),
            ("-1", &content[FILE_BYTES - 1..]),
        ] {
            let mut part = client("curl");
            part.args(["--range", range]).arg(url(daemon.data()));
            assert_eq!(digest_of_output(part), sha256(expected), "{name} {range}");
        }
    });
}

#[test]
fn curl_and_wget_resume_where_they_stopped() {
    let resume: Vec<(&str, &[&str])> =
        [("curl", ["--continue-at", "-", "--remote-name"].as_slice()), ("wget", ["--continue"].as_slice())]
            .into_iter()
            .filter(|(program, _)| installed(program))
            .collect();
    each_daemon(|daemon, name, content, digest| {
        for (program, arguments) in &resume {
            let target = Fixture::new();
            target.write("file", &content[..PARTIAL_BYTES]);
            let before = bytes_sent(daemon);
            let mut command = client(program);
            command.args(*arguments).arg(url(daemon.data()));
            assert_eq!(digest_of_file(command, target.path()), digest, "{name} {program}");
            // The last bytes arrive before they are counted.
            let rest = (FILE_BYTES - PARTIAL_BYTES) as u64;
            wait_until("the count of the last bytes", || bytes_sent(daemon) - before >= rest);
            assert_eq!(bytes_sent(daemon) - before, rest, "{name} {program}: more than the rest was sent");
        }
    });
}

#[test]
fn aria2c_downloads_over_several_connections() {
    if !installed("aria2c") {
        return;
    }
    each_daemon(|daemon, name, _, digest| {
        let target = Fixture::new();
        let mut command = client("aria2c");
        command.arg("--min-split-size=1M").arg(url(daemon.data()));
        assert_eq!(digest_of_file(command, target.path()), digest, "{name}");
        let partial = daemon.count(|worker| worker.requests.get(Status::S206));
        assert!(partial >= 2, "{name}: only {partial} ranges were asked for");
    });
}

/// The bytes of a block that zsync compares, and the number of stretches that changed: 40, of which it asks for 20
/// in one request.
const ZSYNC_BLOCK_BYTES: usize = 2048;
const ZSYNC_CHANGES: usize = 40;

#[test]
fn zsync_fetches_what_changed_and_no_more() {
    if !is_on_path("zsync") || !is_on_path("zsyncmake") {
        return;
    }
    let fixture = Fixture::new();
    let content = pattern(4 << 20);
    let mut old = content.clone();
    for change in 0..ZSYNC_CHANGES {
        old[change * 100_000 + 5000..][..400].fill(0);
    }
    fixture.write("file", &content);
    let base = Settings { root: Some(fixture.path().to_owned()), ..settings() };
    every_engine_and_driver(&base, |daemon, name| {
        let mut make = client("zsyncmake");
        make.args([
            "-b",
            &ZSYNC_BLOCK_BYTES.to_string(),
            "-u",
            &url(daemon.data()),
            "-o",
            "file.zsync",
            "file",
        ]);
        let made = make.current_dir(fixture.path()).stderr(Stdio::null()).status();
        assert!(made.unwrap().success(), "{name}");
        let target = Fixture::new();
        target.write("old", &old);
        let mut fetch = client("zsync");
        fetch.args(["-i", "old", "-o", "file"]).arg(format!("{}.zsync", url(daemon.data())));
        fetch.stdout(Stdio::null()).stderr(Stdio::null());
        assert_eq!(digest_of_file(fetch, target.path()), sha256(&content), "{name}");
        let partial = daemon.count(|worker| worker.requests.get(Status::S206));
        assert!(partial >= 2, "{name}: only {partial} answers with ranges");
        let sent = bytes_sent(daemon);
        assert!(sent < content.len() as u64 / 2, "{name}: {sent} bytes for {ZSYNC_CHANGES} blocks");
    });
}

/// The file is random at the head, with bytes at the marks where 31 and 32 bits end, and empty elsewhere.
#[test]
fn a_file_of_5_gib_arrives_whole() {
    let fixture = Fixture::new();
    let path = fixture.write_sparse("file", LARGE_FILE_BYTES, FILE_BYTES, &[2 << 30, 4 << 30]);
    let digest = sha256_of(File::open(path).unwrap());
    let clients = [installed("curl"), installed("aria2c") && has_room_for(LARGE_FILE_BYTES)];
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, ..settings() });
        if clients[0] {
            let mut command = client("curl");
            command.arg(url(daemon.data()));
            assert_eq!(digest_of_output(command), digest, "{driver:?} curl");
        }
        if clients[1] {
            let target = Fixture::new();
            let mut command = client("aria2c");
            command.arg(url(daemon.data()));
            assert_eq!(digest_of_file(command, target.path()), digest, "{driver:?} aria2c");
        }
    }
}

/// Whether the disk takes a file of this size; printed where it doesn't.
fn has_room_for(bytes: u64) -> bool {
    let disk = rustix::fs::statvfs(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let has_room = disk.f_bavail * disk.f_frsize > bytes + (1 << 30);
    if !has_room {
        eprintln!("not tested with aria2c: no room for {bytes} bytes");
    }
    has_room
}
