//! Tests of disks that are full, fill up, or become read-only. Each is a real one, which needs root.

use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use streamd::config::{Durability, Settings};

use crate::harness::uploads::{
    connect, exchange, offset_of, partials, put, put_head, put_rest, read_response, taking_uploads, try_put,
    try_put_chunked,
};
use crate::harness::{
    Connection, Fixture, Mountpoint, Random, Response, TestDaemon, drivers, get, make_ext4, or_skip,
    repair_ext4, request_text, send, wait_until,
};

/// The bytes of a small disk.
const DISK_BYTES: usize = 16 << 20;

/// The bytes of a file that lies there all the time, to be read.
const READ_BYTES: usize = 2 << 20;

/// Returns the free bytes, asked of the file system.
fn free_bytes(root: &Path) -> usize {
    let stat = statvfs(root).unwrap();
    usize::try_from(stat.f_bavail * stat.f_frsize).unwrap()
}

/// Runs a daemon on a small disk with `/file` and `/read`, on each driver.
fn each_daemon(options: &str, change: impl Fn(Settings) -> Settings, test: impl Fn(&TestDaemon, &Path)) {
    for driver in drivers() {
        let Some(disk) = or_skip(Mountpoint::tmpfs(options)) else { return };
        std::fs::write(disk.path().join("file"), b"before").unwrap();
        std::fs::write(disk.path().join("read"), vec![b'r'; READ_BYTES]).unwrap();
        let settings = Settings { driver, ..taking_uploads(disk.path()) };
        let daemon = TestDaemon::start(change(settings));
        test(&daemon, disk.path());
    }
}

fn small_disk(test: impl Fn(&TestDaemon, &Path)) {
    each_daemon(&format!("size={DISK_BYTES}"), |settings| settings, test);
}

/// Asserts the answer of a full disk, and that the upload has left nothing: `free` bytes are free again, and the
/// former files are served.
fn assert_no_space(response: &Response, daemon: &TestDaemon, root: &Path, free: usize) {
    assert_eq!(response.status, 507, "{}", response.text());
    assert!(!response.problem().is_empty());
    wait_until("the space to be given back", || free_bytes(root) == free);
    assert_eq!(partials(root), [] as [PathBuf; 0]);
    assert_eq!(std::fs::read(root.join("file")).unwrap(), b"before");
    assert_eq!(get(daemon.data(), "/file", "").body, b"before");
    assert!(get(daemon.data(), "/read", "").body == vec![b'r'; READ_BYTES]);
}

/// The directory of partials, which takes space of its own on some file systems, is there from the start on.
#[test]
fn what_finds_no_room_is_refused_before_its_body() {
    small_disk(|daemon, root| {
        let free = free_bytes(root);
        for length in [free + 1, DISK_BYTES, 1 << 40] {
            for expect in ["", "Expect: 100-continue\r\n"] {
                let mut stream = connect(daemon.data()).unwrap();
                let fields = format!("Content-Length: {length}\r\n{expect}");
                stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
                // No byte of the body is sent.
                let response = read_response(&stream).unwrap();
                assert_no_space(&response, daemon, root, free);
            }
        }
        // An upload that does find room isn't refused.
        assert_eq!(put(daemon.data(), "/other", &vec![b'o'; free - (1 << 20)]).status, 201);
    });
}

#[test]
fn the_reserve_is_kept_free() {
    const RESERVE: usize = 4 << 20;
    let reserving = |settings| Settings { min_free_bytes: RESERVE as u64, ..settings };
    each_daemon(&format!("size={DISK_BYTES}"), reserving, |daemon, root| {
        let free = free_bytes(root);
        let response = try_put(daemon.data(), "/file", "", &vec![b'x'; free - RESERVE / 2]).unwrap();
        assert_no_space(&response, daemon, root, free);
        // The length is unknown, so the refusal comes on the way, a while before the disk is full.
        let response = try_put_chunked(daemon.data(), "/file", &vec![b'x'; DISK_BYTES]).unwrap();
        assert_no_space(&response, daemon, root, free);
        assert_eq!(put(daemon.data(), "/other", &vec![b'o'; free - 2 * RESERVE]).status, 201);
    });
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_told_and_gets_its_space_back() {
    small_disk(|daemon, root| {
        let free = free_bytes(root);
        for length in [2 * DISK_BYTES, DISK_BYTES, free + (1 << 20)] {
            let response = try_put_chunked(daemon.data(), "/file", &vec![b'x'; length]).unwrap();
            assert_no_space(&response, daemon, root, free);
        }
    });
}

#[test]
fn the_last_bytes_may_be_the_ones_that_find_no_room() {
    small_disk(|daemon, root| {
        let free = free_bytes(root);
        for surplus in [1, 1000] {
            let response = try_put_chunked(daemon.data(), "/file", &vec![b'x'; free + surplus]).unwrap();
            assert_no_space(&response, daemon, root, free);
        }
        // The disk is filled to the last byte.
        assert_eq!(try_put_chunked(daemon.data(), "/last", &vec![b'x'; free]).unwrap().status, 201);
        assert_eq!(free_bytes(root), 0);
        assert!(get(daemon.data(), "/last", "").body == vec![b'x'; free]);
    });
}

#[test]
fn reads_go_on_while_the_disk_fills_up() {
    small_disk(|daemon, root| {
        let free = free_bytes(root);
        let address = daemon.data();
        let mut reader = Connection::open(address);
        std::thread::scope(|scope| {
            let uploads: Vec<_> = (0..3)
                .map(|number| {
                    let path = format!("/upload{number}");
                    scope.spawn(move || {
                        try_put_chunked(address, &path, &vec![b'x'; DISK_BYTES]).unwrap().status
                    })
                })
                .collect();
            while !uploads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                reader.send(request_text("GET", "/read", ""));
                assert!(reader.response_to("GET").body == vec![b'r'; READ_BYTES]);
            }
            assert!(uploads.into_iter().all(|upload| upload.join().unwrap() == 507));
        });
        wait_until("the space to be given back", || free_bytes(root) == free);
    });
}

#[test]
fn a_disk_without_inodes_is_a_full_disk() {
    // The inodes are for the root, two files, the directory of partials with its lock, and one more.
    each_daemon(
        "size=16m,nr_inodes=6",
        |settings| settings,
        |daemon, root| {
            assert_eq!(put(daemon.data(), "/last", b"last").status, 201);
            let free = free_bytes(root);
            assert_no_space(&put(daemon.data(), "/file", b"after"), daemon, root, free);
            std::fs::remove_file(root.join("last")).unwrap();
            // The inode is free once nobody has the file open: a process that another test starts may for a
            // moment.
            wait_until("an inode", || put(daemon.data(), "/file", b"after").status == 204);
        },
    );
}

fn assert_read_only(response: &Response, daemon: &TestDaemon, root: &Path) {
    assert_eq!(response.status, 403, "{}", response.text());
    let detail = response.problem();
    assert!(detail.contains("read-only") && detail.contains("mount it"), "{detail}");
    assert_eq!(std::fs::read(root.join("file")).unwrap(), b"before");
    assert_eq!(get(daemon.data(), "/file", "").body, b"before");
}

#[test]
fn a_disk_that_was_made_read_only_takes_nothing_until_it_is_writable_again() {
    for driver in drivers() {
        let Some(disk) = or_skip(Mountpoint::tmpfs("size=16m")) else { return };
        let root = disk.path();
        std::fs::write(root.join("file"), b"before").unwrap();
        let daemon = TestDaemon::start(Settings { driver, ..taking_uploads(root) });
        // Half of an upload lies there already.
        let content = Random::seeded().bytes(4 << 20);
        let mut stream = connect(daemon.data()).unwrap();
        let fields = format!("Content-Length: {}\r\n", content.len());
        stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
        stream.write_all(&content[..2 << 20]).unwrap();
        drop(stream);
        wait_until("the connection's end", || daemon.telemetry().connections_open() == 0);
        // The remount is refused as long as a disk thread has the partial open.
        wait_until("a remount", || disk.remount("ro").is_ok());
        assert_read_only(&put(daemon.data(), "/file", b"after"), &daemon, root);
        assert_read_only(&put(daemon.data(), "/new", b"after"), &daemon, root);
        assert_read_only(&try_put_chunked(daemon.data(), "/file", b"after").unwrap(), &daemon, root);
        assert_read_only(&put_rest(daemon.data(), "/file", &content, 2 << 20), &daemon, root);
        for path in ["/file", "/absent"] {
            let response = send(daemon.data(), "DELETE", path, "", b"");
            assert_eq!(response.status, 403, "{path}: {}", response.text());
            assert!(response.problem().contains("mount it to be written to"), "{}", response.problem());
        }
        disk.remount("rw").unwrap();
        let offset = offset_of(daemon.data(), "/file", content.len());
        assert_eq!(offset, 2 << 20, "{driver:?}");
        assert_eq!(put_rest(daemon.data(), "/file", &content, offset).status, 204, "{driver:?}");
        assert!(std::fs::read(root.join("file")).unwrap() == content, "{driver:?}");
    }
}

#[test]
fn a_name_that_something_is_mounted_at_is_in_use() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("other", b"other");
        let path = fixture.write("file", b"before");
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).arg(&path).output().unwrap();
            let failed = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr));
            output.status.success().then_some(()).ok_or_else(failed)
        };
        let other = fixture.path().join("other");
        let Some(()) = or_skip(run("mount", &["--bind", other.to_str().unwrap()])) else { return };
        let daemon = TestDaemon::start(Settings { driver, ..taking_uploads(fixture.path()) });
        let responses =
            [put(daemon.data(), "/file", b"after"), send(daemon.data(), "DELETE", "/file", "", b"")];
        run("umount", &["--lazy"]).unwrap();
        for response in responses {
            assert_eq!(response.status, 409, "{driver:?}: {}", response.text());
            assert!(response.problem().contains("mounted there"), "{}", response.problem());
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"before", "{driver:?}");
        assert_eq!(partials(fixture.path()), [] as [std::path::PathBuf; 0], "{driver:?}");
    }
}

/// The test does to ext4 what a failing disk does: it finds an error and is read-only from then on, whoever is
/// writing. mount(2) would refuse that with EBUSY while a file is open for writing.
#[test]
fn a_disk_that_becomes_read_only_in_the_middle_fails_the_upload() {
    let ways = [(Durability::Fsync, 0), (Durability::None, 0), (Durability::Fsync, 1)];
    for (durability, direct_bytes_min) in ways {
        let fixture = Fixture::new();
        let image = fixture.path().join("image");
        let Some(()) = or_skip(make_ext4(&image, 64 << 20)) else { return };
        let Some(disk) = or_skip(Mountpoint::ext4(&image, "errors=remount-ro")) else { return };
        let root = disk.path();
        std::fs::write(root.join("file"), b"before").unwrap();
        rustix::fs::sync();
        let settings = Settings { durability, direct_bytes_min, ..taking_uploads(root) };
        let daemon = TestDaemon::start(settings);
        let content = Random::seeded().bytes(8 << 20);
        let mut stream = connect(daemon.data()).unwrap();
        let fields = format!("Content-Length: {}\r\n", content.len());
        stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
        stream.write_all(&content[..4 << 20]).unwrap();
        wait_until("the first bytes", || crate::harness::uploads::longest_partial(root) > 1 << 20);
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", disk.device());
        let Some(()) =
            or_skip(std::fs::write(&trigger, "test").map_err(|error| format!("{trigger}: {error}")))
        else {
            return;
        };
        assert_read_only(&exchange(&stream, b"", &content[4 << 20..]).unwrap(), &daemon, root);
        assert_read_only(&put(daemon.data(), "/file", b"after"), &daemon, root);
        drop(daemon);
        assert!(disk.unmount());
        // The error itself was noted in the file system, so that e2fsck has something to correct.
        repair_ext4(&image);
        let disk = Mountpoint::ext4(&image, "errors=remount-ro").unwrap();
        assert_eq!(std::fs::read(disk.path().join("file")).unwrap(), b"before", "{durability:?}");
        let daemon = TestDaemon::start(taking_uploads(disk.path()));
        assert_eq!(put(daemon.data(), "/file", &content).status, 204, "{durability:?}");
        assert!(std::fs::read(disk.path().join("file")).unwrap() == content, "{durability:?}");
    }
}
