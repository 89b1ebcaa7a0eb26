//! Tests of files that a worker might wrongly believe to be in memory: pages that aren't there are read by a disk
//! thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use streamd::config::Settings;
use streamd::files::Root;
use streamd::protocol::name::Name;
use streamd::telemetry::EngineLabel;

use crate::harness::{
    COLD_TRIES_MAX, Caching, Connection, FaultyFs, Fixture, MIB, Mountpoint, TestDaemon, drivers, get,
    or_skip, pages_in_memory, pattern, request_text, settings, sha256, wait_until,
};

const PAGE_BYTES: usize = 4096;

/// Returns settings with one worker, so that facts seen by one are known to all.
fn serving(fixture: &Fixture) -> Settings {
    Settings { root: Some(fixture.path().to_owned()), workers: 1, ..settings() }
}

fn open_for_single_pages(fixture: &Fixture, name: &str) -> File {
    let file = File::open(fixture.path().join(name)).unwrap();
    fadvise(&file, 0, None, Advice::Random).unwrap();
    file
}

/// Brings all pages of a file into memory except `lacking`; true if that worked.
fn lacks_one_page(fixture: &Fixture, name: &str, bytes: usize, lacking: usize) -> bool {
    if !fixture.make_cold(name) {
        return false;
    }
    let file = open_for_single_pages(fixture, name);
    for page in (0..bytes / PAGE_BYTES).filter(|page| *page != lacking) {
        file.read_at(&mut [0; PAGE_BYTES], (page * PAGE_BYTES) as u64).unwrap();
    }
    pages_in_memory(&fixture.path().join(name)) == (bytes / PAGE_BYTES - 1) as u64
}

#[test]
fn windows_of_which_somebody_fetched_a_few_bytes_are_read_by_disk_threads() {
    const WINDOWS: usize = 16;
    let fixture = Fixture::new();
    let content = pattern(WINDOWS * MIB);
    fixture.write("file", &content);
    if !fixture.gets_cold() {
        eprintln!("not tested: the file system keeps what it is told to drop");
        return;
    }
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let mut most = 0;
        // Somebody else may read it meanwhile, or the disk may read more than was asked for.
        for _ in 0..COLD_TRIES_MAX {
            assert!(fixture.make_cold("file"), "{driver:?}");
            let file = open_for_single_pages(&fixture, "file");
            for place in
                (0..WINDOWS).flat_map(|window| [0, MIB / 2, MIB - 1].map(|place| window * MIB + place))
            {
                file.read_at(&mut [0], place as u64).unwrap();
            }
            let before = daemon.bytes_sent(EngineLabel::Splice);
            let response = get(daemon.data(), "/file", "Cache-Control: no-cache\r\n");
            assert_eq!(sha256(&response.body), sha256(&content), "{driver:?}");
            wait_until("the count of the last bytes", || {
                daemon.count(|worker| worker.bytes_sent.total()).is_multiple_of(content.len() as u64)
            });
            most = most.max(daemon.bytes_sent(EngineLabel::Splice) - before);
            if most >= content.len() as u64 * 3 / 4 {
                break;
            }
        }
        assert!(most >= content.len() as u64 * 3 / 4, "{driver:?}: {most} bytes at most");
        // A worker waits at most once for a file, of which there was one for each try.
        assert!(daemon.count(|worker| worker.disk_waits.get()) <= COLD_TRIES_MAX as u64);
    }
}

#[test]
fn of_many_files_that_each_lack_a_page_a_few_are_waited_for() {
    const FILES: usize = 40;
    const BYTES: usize = 128 << 10;
    // The waits that are noticed before a disk is doubted, and one that comes beside them.
    const WAITED_FOR_MAX: u64 = 4;
    let fixture = Fixture::new();
    let content = pattern(BYTES);
    let names: Vec<String> = (0..FILES).map(|number| format!("{number}")).collect();
    names.iter().for_each(|name| {
        fixture.write(name, &content);
    });
    if !fixture.gets_cold() {
        eprintln!("not tested: the file system keeps what it is told to drop");
        return;
    }
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let (mut lacking, mut connection) = (0, Connection::open(daemon.data()));
        for (number, name) in names.iter().enumerate() {
            // The page is behind the first, and far enough from it to be read by itself.
            lacking += usize::from(lacks_one_page(&fixture, name, BYTES, 8 + number % 20));
            connection.send(request_text("GET", &format!("/{name}"), ""));
            assert_eq!(sha256(&connection.response_to("GET").body), sha256(&content), "{driver:?} {name}");
        }
        if lacking < FILES / 2 {
            eprintln!("not tested: single pages can't be left out here ({lacking} of {FILES})");
            return;
        }
        let cold = usize::try_from(daemon.count(|worker| worker.windows_cold.get())).unwrap();
        let waits = daemon.count(|worker| worker.disk_waits.get());
        // A fast disk gives a page sooner than a wait is noticed, so some files come before it is doubted.
        assert!(cold * 2 >= lacking, "{driver:?}: {cold} of {lacking}, {waits} waits");
        assert!(waits <= WAITED_FOR_MAX, "{driver:?}: {waits}");
    }
}

#[test]
fn a_short_file_is_read_once_however_cold_it_was() {
    let fixture = Fixture::new();
    let content = pattern(1000);
    fixture.write("short", &content);
    if !fixture.gets_cold() {
        eprintln!("not tested: the file system keeps what it is told to drop");
        return;
    }
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, cache_valid_ms: 60_000, ..serving(&fixture) });
        assert!(fixture.make_cold("short"), "{driver:?}: it stays in memory");
        for _ in 0..20 {
            assert_eq!(get(daemon.data(), "/short", "").body, content, "{driver:?}");
            assert!(get(daemon.data(), "/short", "Range: bytes=10-19\r\n").body == content[10..20]);
        }
        // There is no cold window where readahead of the question had ended before the answer.
        assert!(daemon.count(|worker| worker.windows_cold.get()) <= 1, "{driver:?}");
    }
}

/// Makes file systems that don't tell what is in memory, with these files in them.
fn mute_file_systems(source: &Fixture) -> Vec<(&'static str, Mountpoint)> {
    let mut made = Vec::new();
    made.extend(or_skip(Mountpoint::overlay(source.path())).map(|mounted| ("overlayfs", mounted)));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (kind, program) in [("squashfs", "mksquashfs"), ("erofs", "mkfs.erofs")] {
        let image = directory.path().join(kind);
        let (first, second) =
            if kind == "erofs" { (image.as_path(), source.path()) } else { (source.path(), image.as_path()) };
        match Command::new(program).args([first, second]).output() {
            Ok(output) if output.status.success() => {}
            _ => {
                eprintln!("not tested on {kind}: {program} is not installed");
                continue;
            }
        }
        made.extend(or_skip(Mountpoint::of_image(kind, &image, "ro")).map(|mounted| (kind, mounted)));
    }
    made
}

#[test]
fn what_a_file_system_cannot_tell_is_believed_after_a_read() {
    const WINDOWS: usize = 4;
    let fixture = Fixture::new();
    let content = pattern(WINDOWS * MIB);
    fixture.write("long", &content);
    fixture.write("short", &content[..1000]);
    for (kind, mounted) in mute_file_systems(&fixture) {
        for driver in drivers() {
            let root = Some(mounted.path().to_owned());
            let daemon =
                TestDaemon::start(Settings { driver, root, cache_valid_ms: 60_000, ..serving(&fixture) });
            for _ in 0..50 {
                assert_eq!(get(daemon.data(), "/short", "").body, content[..1000], "{kind} {driver:?}");
            }
            assert_eq!(daemon.count(|worker| worker.windows_cold.get()), 1, "{kind} {driver:?}");
            for _ in 0..4 {
                let body = get(daemon.data(), "/long", "").body;
                assert_eq!(sha256(&body), sha256(&content), "{kind} {driver:?}");
            }
            let part = get(daemon.data(), "/long", "Range: bytes=1048570-2097160\r\n").body;
            assert!(part == content[1_048_570..=2_097_160], "{kind} {driver:?}");
            // Each file is read once, and again should a worker have waited on a busy host.
            let cold = daemon.count(|worker| worker.windows_cold.get());
            let waits = daemon.count(|worker| worker.disk_waits.get());
            let expected = 1 + WINDOWS as u64;
            assert!(
                cold == expected || waits > 0 && cold > expected,
                "{kind} {driver:?}: {cold}, {waits} waits"
            );
        }
    }
}

#[test]
fn an_overlay_over_a_server_is_never_asked_by_a_worker() {
    let name = Name::parse(b"/file").unwrap();
    let Some(far) = FaultyFs::mount(Caching::Through) else { return };
    std::fs::write(far.path().join("file"), "far").unwrap();
    let near = Fixture::new();
    near.write("file", b"near");
    for (lower, is_far) in [(far.path(), true), (near.path(), false)] {
        let Some(mounted) = or_skip(Mountpoint::overlay(lower)) else { continue };
        let root = Root::open(mounted.path()).unwrap();
        root.find(&name).unwrap();
        assert_eq!(root.find_cached(&name).is_none(), is_far, "{}", lower.display());
        let daemon = TestDaemon::serving(mounted.path());
        assert_eq!(get(daemon.data(), "/file", "").body, if is_far { b"far".as_slice() } else { b"near" });
    }
}

#[test]
fn a_slow_disk_holds_up_nobody_who_asks_for_what_is_in_memory() {
    /// The exit code of the script on a host that can't make a slow device.
    const SKIPPED: i32 = 77;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-cold-pressure.sh");
    let output = Command::new("timeout")
        .args(["300", script, "--short", env!("CARGO_BIN_EXE_streamd")])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.code() == Some(SKIPPED) {
        eprintln!("not tested: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    println!("{said}");
}
