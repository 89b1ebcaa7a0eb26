//! Tests of the room that an upload may hold of a disk: as much as it has brought, never as much as it announced.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use streamd::config::Settings;
use streamd::telemetry::SpaceRefusal;

use crate::harness::uploads::{
    connect, exchange, partials, put, put_head, read_response, taking_uploads, try_put_chunked,
};
use crate::harness::{Fixture, Mountpoint, Random, TestDaemon, drivers, make_ext4, or_skip, wait_until};

const MIB: usize = 1 << 20;

/// The time for which a daemon believes a look at the free space, less the room it gave out since.
const LOOK_VALID: Duration = Duration::from_millis(100);

/// Runs `test` on each driver, on a tmpfs and on an ext4 of `bytes`.
fn each_disk(bytes: usize, change: impl Fn(Settings) -> Settings, test: impl Fn(&TestDaemon, &Path)) {
    for driver in drivers() {
        for is_ext4 in [false, true] {
            let images = Fixture::new();
            let image = images.path().join("image");
            let disk = if is_ext4 {
                make_ext4(&image, bytes as u64).and_then(|()| Mountpoint::ext4(&image, "rw"))
            } else {
                Mountpoint::tmpfs(&format!("size={bytes}"))
            };
            let Some(disk) = or_skip(disk) else { return };
            let settings = Settings { driver, ..taking_uploads(disk.path()) };
            let daemon = TestDaemon::start(change(settings));
            test(&daemon, disk.path());
        }
    }
}

fn free_bytes(root: &Path) -> usize {
    let stat = statvfs(root).unwrap();
    usize::try_from(stat.f_bavail * stat.f_frsize).unwrap()
}

/// Begins a PUT of `length` bytes of which one has come.
fn begin(daemon: &TestDaemon, root: &Path, path: &str, length: usize) -> TcpStream {
    let known = partials(root).len();
    let mut stream = connect(daemon.data()).unwrap();
    stream.write_all(put_head(path, &format!("Content-Length: {length}\r\n")).as_bytes()).unwrap();
    stream.write_all(b"x").unwrap();
    let has_come = |path: &std::path::PathBuf| std::fs::metadata(path).is_ok_and(|file| file.len() == 1);
    wait_until("its first byte", || partials(root).iter().filter(|path| has_come(path)).count() == known + 1);
    stream
}

#[test]
fn what_is_only_announced_is_there_for_others() {
    each_disk(
        64 * MIB,
        |settings| settings,
        |daemon, root| {
            let free = free_bytes(root);
            let announced: Vec<TcpStream> = (0..8)
                .map(|number| begin(daemon, root, &format!("/huge{number}"), free - 12 * MIB))
                .collect();
            assert!(free - free_bytes(root) < 12 * MIB, "a window of a MiB each, and little more");
            let content = Random::seeded().bytes(24 * MIB);
            assert_eq!(put(daemon.data(), "/other", &content).status, 201);
            assert!(std::fs::read(root.join("other")).unwrap() == content);
            drop(announced);
            wait_until("what came to be gone", || partials(root).is_empty());
            assert!(free - free_bytes(root) < 25 * MIB);
        },
    );
}

#[test]
fn whoever_brings_more_than_there_is_left_is_told_and_gives_all_back() {
    each_disk(
        64 * MIB,
        |settings| settings,
        |daemon, root| {
            let free = free_bytes(root);
            let (length, others) = (free - 12 * MIB, 24 * MIB);
            let first = begin(daemon, root, "/first", length);
            assert_eq!(put(daemon.data(), "/other", &vec![b'o'; others]).status, 201);
            let response = exchange(&first, b"", &vec![b'x'; length - 1]).unwrap();
            assert_eq!(response.status, 507);
            assert!(response.problem().contains("remove something"), "{}", response.problem());
            assert_eq!(daemon.count(|worker| worker.space_refusals.get(SpaceRefusal::Disk)), 1);
            wait_until("its space to be given back", || free - free_bytes(root) < others + MIB);
            assert_eq!(partials(root).len(), 0);
            // An upload that announces more than there is now is told before it sends it.
            let mut stream = connect(daemon.data()).unwrap();
            stream
                .write_all(put_head("/first", &format!("Content-Length: {length}\r\n")).as_bytes())
                .unwrap();
            assert_eq!(read_response(&stream).unwrap().status, 507);
        },
    );
}

#[test]
fn a_window_that_has_come_is_kept_whoever_fills_the_disk() {
    each_disk(
        64 * MIB,
        |settings| settings,
        |daemon, root| {
            let content = Random::seeded().bytes(10 * MIB);
            let mut stream = connect(daemon.data()).unwrap();
            let fields = format!("Content-Length: {}\r\n", content.len());
            stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
            // By then windows of at least as much as had come at their beginnings have been allocated: 10 MiB and more.
            stream.write_all(&content[..8 * MIB + 1]).unwrap();
            let length = |path: &std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
            let came = 8 * MIB as u64;
            wait_until("it", || partials(root).iter().any(|path| length(path) > came));
            let filled = std::fs::write(root.join("filler"), vec![7; 64 * MIB]);
            assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
            let response = exchange(&stream, b"", &content[8 * MIB + 1..]).unwrap();
            assert_eq!(response.status, 201, "{}", response.text());
            assert!(std::fs::read(root.join("file")).unwrap() == content);
        },
    );
}

#[test]
fn the_reserves_are_kept_whoever_comes_at_once() {
    const RESERVE: usize = 16 * MIB;
    let reserving = |settings| Settings { min_free_bytes: RESERVE as u64, ..settings };
    each_disk(64 * MIB, reserving, |daemon, root| {
        let address = daemon.data();
        let statuses = std::thread::scope(|scope| {
            let uploads: Vec<_> = (0..8)
                .map(|number| {
                    let path = format!("/file{number}");
                    scope.spawn(move || try_put_chunked(address, &path, &vec![b'x'; 9 * MIB]).unwrap().status)
                })
                .collect();
            uploads.into_iter().map(|upload| upload.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(statuses.iter().all(|status| [201, 507].contains(status)), "{statuses:?}");
        assert!(statuses.contains(&507), "72 MiB don't fit");
        // Some bytes are for the file system's own use.
        assert!(free_bytes(root) >= RESERVE - MIB, "{} are free", free_bytes(root));
        let reason = SpaceRefusal::MinFreeBytes;
        assert!(daemon.count(|worker| worker.space_refusals.get(reason)) >= 1);
    });
}

#[test]
fn inodes_stay_free_too() {
    for driver in drivers() {
        let Some(disk) = or_skip(Mountpoint::tmpfs("size=16m,nr_inodes=60")) else { return };
        let root = disk.path();
        let settings = Settings { driver, min_free_inodes: 20, create_dirs: true, ..taking_uploads(root) };
        let daemon = TestDaemon::start(settings);
        let free_inodes = || statvfs(root).unwrap().f_favail;
        let refused = |path: &str| {
            let response = put(daemon.data(), path, b"content");
            assert_eq!(response.status, 507, "{driver:?}");
            assert!(response.problem().contains("min_free_inodes"), "{}", response.problem());
            assert_eq!(partials(root).len(), 0, "{driver:?}");
        };
        // The daemon's own files are there from the first publication on, and are seen by the next look.
        assert_eq!(put(daemon.data(), "/first", b"content").status, 201, "{driver:?}");
        let look = Instant::now() + LOOK_VALID;
        wait_until("a new look", || Instant::now() > look);
        let files = usize::try_from(free_inodes() - 20).unwrap();
        for number in 0..files - 3 {
            assert_eq!(put(daemon.data(), &format!("/file{number}"), b"content").status, 201, "{driver:?}");
        }
        // The inodes of directories on its way count too.
        refused("/1/2/3/file");
        assert!(!root.join("1").exists());
        assert_eq!(put(daemon.data(), "/1/2/file", b"content").status, 201, "{driver:?}");
        assert_eq!(free_inodes(), 20, "{driver:?}");
        refused("/file");
        let reason = SpaceRefusal::MinFreeInodes;
        assert_eq!(daemon.count(|worker| worker.space_refusals.get(reason)), 2, "{driver:?}");
        std::fs::remove_file(root.join("file0")).unwrap();
        wait_until("an inode", || put(daemon.data(), "/file0", b"content").status == 201);
    }
}

#[test]
fn what_partials_take_is_told() {
    each_disk(
        64 * MIB,
        |settings| settings,
        |daemon, root| {
            let gauges = || {
                let uploads = &daemon.telemetry().uploads;
                (uploads.partial_bytes.get(), uploads.partial_bytes_ahead.get())
            };
            let stream = begin(daemon, root, "/file", 30 * MIB);
            wait_until("the gauges", || gauges() == (4096, MIB as u64 - 1));
            drop(stream);
            wait_until("the gauges without it", || gauges() == (0, 0));
        },
    );
}
