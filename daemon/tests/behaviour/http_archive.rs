//! `?archive=tar`: a directory as a tar, whole, in ranges, resumed, and while it changes.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use streamd::config::Settings;
use streamd::telemetry::{EngineLabel, Label, Outcome};

use crate::harness::{
    Connection, Fixture, Process, TEST_FLAGS, TestDaemon, drivers, every_engine_and_driver, get, pattern,
    request, request_text, settings, wait_until,
};
use crate::real_clients::{client, installed};

const ARCHIVE: &str = "/a%20tree/?archive=tar";

/// More than any pair of socket buffers holds.
const LONG_BYTES: usize = 24 << 20;

/// A root with a directory that has something of each kind.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("a tree/short", b"short");
    fixture.write("a tree/long", &pattern(3_000_000));
    fixture.write("a tree/sub/a block", &pattern(512));
    fixture.write("a tree/sub.txt", b"beside");
    fixture.write("a tree/zero", b"");
    (0..300).for_each(|number| {
        fixture.write(&format!("a tree/many/{number:03}"), &pattern(700 * number));
    });
    let deep = format!("a tree/{0}/{0}/{0}", "d".repeat(255));
    fixture.write(&format!("{deep}/{}", "f".repeat(255)), b"deep");
    fixture.write("a tree/\u{fc}n\u{ef}/\u{1f600}", b"text");
    let tree = fixture.path().join("a tree");
    fs::write(tree.join(std::ffi::OsStr::from_bytes(b"no \xff text\n\\")), b"bytes").unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    symlink("../outside", tree.join("link")).unwrap();
    symlink("t".repeat(200), tree.join("long link")).unwrap();
    fs::hard_link(tree.join("long"), tree.join("longer")).unwrap();
    fs::create_dir(tree.join(".streamd-uploads")).unwrap();
    fs::write(tree.join(".streamd-uploads/part"), b"part").unwrap();
    fs::set_permissions(tree.join("short"), Permissions::from_mode(0o4751)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    for name in ["short", "sub", "empty"] {
        File::open(tree.join(name)).unwrap().set_modified(time).unwrap();
    }
    fixture
}

fn serving(fixture: &Fixture) -> Settings {
    Settings { root: Some(fixture.path().to_owned()), listing: true, ..settings() }
}

/// What GNU tar makes of an archive.
fn unpack(archive: &[u8]) -> Fixture {
    use std::io::Write;
    let target = Fixture::new();
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--same-permissions", "--file=-"]).current_dir(target.path());
    let mut tar = tar.stdin(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
    target
}

/// Compares content by diff(1), and what it doesn't look at.
fn assert_same(served: &Path, unpacked: &Path) {
    let mut diff = Command::new("diff");
    diff.args(["--recursive", "--no-dereference", "--exclude=.streamd-uploads"]).args([served, unpacked]);
    let output = diff.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let is_reserved = |path: &Path| path.file_name().is_some_and(|name| name == ".streamd-uploads");
    let mut left = vec![served.to_owned()];
    while let Some(path) = left.pop() {
        let (on_disk, copy) = (path.clone(), unpacked.join(path.strip_prefix(served).unwrap()));
        let (metadata, copied) =
            (fs::symlink_metadata(&on_disk).unwrap(), fs::symlink_metadata(&copy).unwrap());
        let seen =
            |metadata: &fs::Metadata| (metadata.mode(), metadata.mtime(), metadata.uid(), metadata.gid());
        assert_eq!(seen(&copied), seen(&metadata), "{}", copy.display());
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            left.extend(entries.filter(|path| !is_reserved(path)));
        } else {
            assert_eq!(copied.nlink(), metadata.nlink(), "{}", copy.display());
        }
    }
    assert!(!unpacked.join(".streamd-uploads").exists());
}

fn range(address: SocketAddr, start: usize, end: usize, fields: &str) -> Vec<u8> {
    let response = get(address, ARCHIVE, &format!("Range: bytes={start}-{}\r\n{fields}", end - 1));
    assert_eq!(response.status, 206);
    assert_eq!(response.body.len(), end - start);
    response.body
}

#[test]
fn what_tar_unpacks_is_the_tree() {
    let fixture = fixture();
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let response = get(daemon.data(), ARCHIVE, "");
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(response.field("Content-Type"), Some("application/x-tar"));
        assert_eq!(response.field("Content-Disposition"), Some("attachment; filename=\"a tree.tar\""));
        assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
        let unpacked = unpack(&response.body);
        assert_same(&fixture.path().join("a tree"), &unpacked.path().join("a tree"));
        // The root has no name: its members lie where the archive is unpacked.
        let unpacked = unpack(&get(daemon.data(), "/?archive=tar", "").body);
        assert_same(&fixture.path().join("a tree"), &unpacked.path().join("a tree"));
    });
}

#[test]
fn ranges_put_together_are_the_archive_and_head_tells_of_it() {
    let fixture = fixture();
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let whole = get(daemon.data(), ARCHIVE, "");
        let head = request(daemon.data(), "HEAD", ARCHIVE, "");
        assert_eq!((head.status, head.content_length()), (200, whole.body.len()));
        assert_eq!(head.field("ETag"), whole.field("ETag"));
        // Steps that begin and end within headers, bodies and what fills them up.
        let (mut joined, mut step) = (Vec::new(), 1);
        while joined.len() < whole.body.len() {
            let end = (joined.len() + step).min(whole.body.len());
            let part = range(daemon.data(), joined.len(), end, "");
            joined.extend_from_slice(&part);
            step = step * 7 % 999_983;
        }
        assert!(joined == whole.body, "{driver:?}");
        let several = get(daemon.data(), ARCHIVE, "Range: bytes=0-9,20-29\r\n");
        assert_eq!((several.status, several.body.len()), (200, whole.body.len()));
        let beyond = get(daemon.data(), ARCHIVE, &format!("Range: bytes={}-\r\n", whole.body.len()));
        let total = format!("bytes */{}", whole.body.len());
        assert_eq!((beyond.status, beyond.field("Content-Range")), (416, Some(&*total)));
    }
}

#[test]
fn curl_resumes_an_archive_that_broke_off() {
    if !installed("curl") {
        return;
    }
    let fixture = fixture();
    let daemon = TestDaemon::start(serving(&fixture));
    let whole = get(daemon.data(), ARCHIVE, "").body;
    let target = Fixture::new();
    let path = target.write("tree.tar", &whole[..1_234_567]);
    let mut curl = client("curl");
    curl.args(["--continue-at", "-", "--output"]).arg(&path);
    curl.arg(format!("http://{}{ARCHIVE}", daemon.data()));
    assert!(curl.status().unwrap().success());
    assert!(fs::read(&path).unwrap() == whole);
}

#[test]
fn a_tag_holds_until_the_tree_changes() {
    let fixture = Fixture::new();
    fixture.write("a tree/one", &pattern(1_000));
    fixture.write("a tree/two", &pattern(1_000));
    fixture.settle("a tree/two");
    let daemon = TestDaemon::start(Settings { cache_valid_ms: 0, ..serving(&fixture) });
    let tag = get(daemon.data(), ARCHIVE, "").field("ETag").unwrap().to_owned();
    assert!(tag.starts_with('"'), "{tag} is weak");
    let if_range = format!("If-Range: {tag}\r\nRange: bytes=512-1023\r\n");
    let if_none_match = format!("If-None-Match: {tag}\r\n");
    assert_eq!(get(daemon.data(), ARCHIVE, &if_range).status, 206);
    assert_eq!(get(daemon.data(), ARCHIVE, &if_none_match).status, 304);
    assert_eq!(get(daemon.data(), ARCHIVE, &format!("If-Match: {tag}\r\n")).status, 200);
    // A part of another file may be sent by the plan that the tag names, and what changed may not.
    fixture.write("a tree/two", &pattern(999));
    assert_eq!(get(daemon.data(), ARCHIVE, &if_none_match).status, 200);
    let anew = get(daemon.data(), ARCHIVE, &if_range);
    assert_eq!(anew.status, 200);
    assert_ne!(anew.field("ETag"), Some(&*tag));
    assert_eq!(get(daemon.data(), ARCHIVE, &format!("If-Match: {tag}\r\n")).status, 412);
}

#[test]
fn only_directories_have_archives_and_only_where_they_are_listed() {
    let fixture = fixture();
    let daemon = TestDaemon::start(serving(&fixture));
    // Known by then, which makes no difference.
    assert_eq!(get(daemon.data(), "/a%20tree/short", "").status, 200);
    for (path, status) in [
        ("/a%20tree/short?archive=tar", 404),
        ("/a%20tree/absent?archive=tar", 404),
        ("/a%20tree/.streamd-uploads/?archive=tar", 404),
        ("/a%20tree/link?archive=tar", 404),
        ("/a%20tree?archive=tar", 200),
        ("/a%20tree?x=y&archive=tar", 200),
    ] {
        assert_eq!(get(daemon.data(), path, "").status, status, "{path}");
    }
    let listing = get(daemon.data(), "/a%20tree/?archive=zip", "");
    assert_eq!(listing.field("Content-Type"), Some("text/html; charset=utf-8"));
    let unlisted = TestDaemon::start(Settings { listing: false, ..serving(&fixture) });
    assert_eq!(get(unlisted.data(), ARCHIVE, "").status, 404);
}

#[test]
fn an_empty_directory_is_kept_and_an_empty_root_is_an_empty_archive() {
    let fixture = Fixture::new();
    let daemon = TestDaemon::start(serving(&fixture));
    assert_eq!(get(daemon.data(), "/?archive=tar", "").body, [0; 1024]);
    fs::create_dir(fixture.path().join("empty")).unwrap();
    let unpacked = unpack(&get(daemon.data(), "/empty?archive=tar", "").body);
    assert_same(&fixture.path().join("empty"), &unpacked.path().join("empty"));
}

/// An archive whose first file is on its way to somebody who doesn't read, with a file of which nothing is sent yet.
fn begun(daemon: &TestDaemon) -> (Connection, usize) {
    let sent = || -> u64 { EngineLabel::ALL.iter().map(|engine| daemon.bytes_sent(*engine)).sum() };
    let before = sent();
    let mut connection = Connection::open_slow(daemon.data(), 64 << 10);
    connection.send(request_text("GET", ARCHIVE, ""));
    let length = connection.head().content_length();
    wait_until("the first bytes", || sent() > before);
    (connection, length)
}

/// Does something to a file.
type Change = fn(&Path);

#[test]
fn what_changes_before_its_turn_ends_in_a_reset_and_no_wrong_byte() {
    let changes: [(&str, Change); 6] = [
        ("written", |path| fs::write(path, vec![9; 2_000_000]).unwrap()),
        ("grown", |path| {
            use std::io::Write;
            File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("shrunk", |path| File::options().write(true).open(path).unwrap().set_len(10).unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("a link now", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
        ("a FIFO now", |path| {
            fs::remove_file(path).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
    ];
    for size in [10_000, 2_000_000] {
        for (what, change) in changes {
            let fixture = Fixture::new();
            fixture.write("a tree/1 long", &pattern(LONG_BYTES));
            let path = fixture.write("a tree/3 changed", &vec![7; size]);
            // So that what follows the long file isn't read while it is sent.
            fixture.write("a tree/2 between", &pattern(1_000_000));
            let daemon = TestDaemon::start(serving(&fixture));
            let expected = get(daemon.data(), ARCHIVE, "").body;
            let (mut connection, length) = begun(&daemon);
            assert_eq!(length, expected.len());
            change(&path);
            let received = connection.receive_to_reset();
            assert!(received.len() < length, "{what}");
            assert!(received == expected[..received.len()], "{what}: other bytes than were promised");
            let failed = || daemon.count(|worker| worker.transfers.get(Outcome::SourceFailed));
            wait_until("the count of the failed transfer", || failed() == 1);
            // Whoever asks anew gets what is there now.
            let anew = get(daemon.data(), ARCHIVE, "");
            assert_eq!(anew.status, 200, "{what}");
            assert_ne!(anew.body.len(), 0);
        }
    }
}

#[test]
fn what_shrinks_while_it_is_sent_ends_in_a_reset() {
    let fixture = Fixture::new();
    let path = fixture.write("a tree/long", &pattern(LONG_BYTES));
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        fs::write(&path, pattern(LONG_BYTES)).unwrap();
        let expected = get(daemon.data(), ARCHIVE, "").body;
        let (mut connection, length) = begun(daemon);
        File::options().write(true).open(&path).unwrap().set_len(LONG_BYTES as u64 / 2 + 100).unwrap();
        let received = connection.receive_to_reset();
        assert!(received.len() < length, "{name}");
        assert!(received == expected[..received.len()], "{name}: other bytes than were promised");
    });
}

/// Root may read anything, so the daemon runs without the capabilities that let it (capabilities(7)).
#[test]
fn a_file_that_may_not_be_read_is_named_and_there_is_no_archive() {
    const CAPABILITIES: &str = "-dac_override,-dac_read_search";
    let fixture = Fixture::new();
    fixture.write("a tree/open", b"open");
    let path = fixture.write("a tree/sub/closed", b"closed");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let without_capabilities = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps", CAPABILITIES, "--bounding-set", CAPABILITIES, "--", program]);
        command
    };
    let mut command = if !rustix::process::geteuid().is_root() {
        Command::new(env!("CARGO_BIN_EXE_streamd"))
    } else if without_capabilities("true").status().is_ok_and(|status| status.success()) {
        without_capabilities(env!("CARGO_BIN_EXE_streamd"))
    } else {
        eprintln!("not tested: root may read every file, and setpriv can't take that from it here");
        return;
    };
    command.args(TEST_FLAGS).arg("--listing").arg("--root").arg(fixture.path());
    let process = Process::spawn(command);
    let response = get(process.data(), ARCHIVE, "");
    assert_eq!(response.status, 403);
    assert!(response.problem().contains("`sub/closed`"), "{}", response.problem());
    fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o000)).unwrap();
    wait_until("the next plan", || get(process.data(), ARCHIVE, "").problem().contains("`sub`"));
    fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(get(process.data(), ARCHIVE, "").status, 200);
}

#[test]
fn without_room_for_its_plan_an_archive_is_refused_for_a_moment() {
    let fixture = fixture();
    let daemon = TestDaemon::start(Settings { waiting_bytes_max: 64 << 10, ..serving(&fixture) });
    let response = get(daemon.data(), ARCHIVE, "");
    assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
    assert!(daemon.telemetry().budget.refusals() > 0);
    assert_eq!(get(daemon.data(), "/a%20tree/short", "").status, 200);
}

#[test]
fn any_part_of_an_archive_beyond_8_gib_is_had_without_the_rest() {
    const HOLE_BYTES: u64 = 9 << 30;
    let fixture = Fixture::new();
    fixture.write("a tree/small", b"small");
    fixture.write_sparse("a tree/big", HOLE_BYTES, 100_000, &[HOLE_BYTES - 1_000]);
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let length: u64 =
            request(daemon.data(), "HEAD", ARCHIVE, "").field("Content-Length").unwrap().parse().unwrap();
        assert!(length > HOLE_BYTES);
        let part = |start: u64, bytes: u64| {
            let fields = format!("Range: bytes={start}-{}\r\n", start + bytes - 1);
            let response = get(daemon.data(), ARCHIVE, &fields);
            assert_eq!(response.status, 206);
            response.body
        };
        let listed = |bytes: &[u8]| {
            use std::io::Write;
            let mut tar = Command::new("tar");
            tar.args(["--list", "--verbose", "--file=-"]).stderr(Stdio::null());
            let mut tar = tar.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            tar.stdin.take().unwrap().write_all(bytes).unwrap();
            String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap()
        };
        let begin = part(0, 60_000);
        assert!(listed(&begin).contains(&format!(" {HOLE_BYTES} ")), "{}", listed(&begin));
        // The small file's headers and body, and the end.
        let end = part(length - 8_192, 8_192);
        let body = end.len() - 1_024 - 512;
        assert_eq!(&end[body..body + 6], b"small\0");
        // A hole is zeros.
        assert!(part(HOLE_BYTES / 2, 100_000).iter().all(|byte| *byte == 0));
        assert!(end.windows(8).any(|window| window == (HOLE_BYTES - 1_000).to_be_bytes()));
    }
}
