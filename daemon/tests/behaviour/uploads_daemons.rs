//! Tests of several daemons on one root: the rules between requests hold between daemons too.

use std::path::Path;
use std::sync::Barrier;

use fuser::Errno;
use streamd::config::Settings;

use crate::harness::{
    Caching, Connection, FaultyFs, Fixture, Mountpoint, Operation, TestDaemon, drivers, get, make_btrfs,
    make_ext4, make_xfs, or_skip, partials, put, put_text, request, send, uploading, wait_until,
};

/// Starts two daemons on one root.
fn two(root: &Path, change: impl Fn(Settings) -> Settings) -> [TestDaemon; 2] {
    [(); 2].map(|()| TestDaemon::start(change(Settings { cache_valid_ms: 0, ..uploading(root) })))
}

/// Sends two PUTs of the same name at the same moment, one to each daemon; returns their statuses.
fn at_once(daemons: &[TestDaemon; 2], path: &str, fields: &str) -> [u16; 2] {
    let (barrier, addresses) = (Barrier::new(2), [0, 1].map(|number| daemons[number].data()));
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|number| {
            let (barrier, address) = (&barrier, addresses[number]);
            scope.spawn(move || {
                let body = [b"AB"[number]; 100];
                let mut connection = Connection::open(address);
                // All but the last byte is sent first, so that both are about to be published.
                let text = put_text(path, fields, &body);
                let (most, last) = text.split_at(text.len() - 1);
                connection.send(most);
                barrier.wait();
                connection.send(last);
                connection.response_to("PUT").status
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

/// Asserts that of each pair that replaces a file which both have seen exactly one does.
fn race(root: &Path, rounds: usize, name: &str, change: impl Fn(Settings) -> Settings) {
    let daemons = two(root, change);
    let mut tag = put(daemons[0].data(), "/file", "", b"before").field("ETag").unwrap().to_owned();
    for round in 0..rounds {
        let mut statuses = at_once(&daemons, "/file", &format!("If-Match: {tag}\r\n"));
        let winner = if statuses[0] == 204 { b'A' } else { b'B' };
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 412], "{name}, round {round}");
        let seen = get(daemons[round % 2].data(), "/file", "");
        assert_eq!(seen.body, [winner; 100], "{name}, round {round}");
        seen.field("ETag").unwrap().clone_into(&mut tag);
    }
    let mut created = at_once(&daemons, "/new", "If-None-Match: *\r\n");
    created.sort_unstable();
    assert_eq!(created, [201, 412], "{name}");
    assert!(partials(root).is_empty(), "{name}");
}

#[test]
fn of_two_that_replace_what_both_have_seen_one_does() {
    for driver in drivers() {
        let fixture = Fixture::new();
        race(fixture.path(), 300, &format!("{driver:?}"), |settings| Settings { driver, ..settings });
    }
}

#[test]
fn so_it_is_on_each_file_system() {
    type Make = fn(&Path, u64) -> Result<(), String>;
    let images: [(&str, Make, u64); 3] =
        [("ext4", make_ext4, 32 << 20), ("xfs", make_xfs, 300 << 20), ("btrfs", make_btrfs, 128 << 20)];
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (kind, make, bytes) in images {
        let image = directory.path().join(kind);
        let mounted = make(&image, bytes).and_then(|()| Mountpoint::of_image(kind, &image, "noatime"));
        if let Some(mounted) = or_skip(mounted) {
            race(mounted.path(), 50, kind, |settings| settings);
        }
    }
    if let Some(mounted) = or_skip(Mountpoint::tmpfs("size=16m")) {
        race(mounted.path(), 50, "tmpfs", |settings| settings);
    }
}

/// Two that compare and replace at once would both win, so nothing is published where nothing can be locked.
#[test]
fn without_locks_nothing_is_changed() {
    let Some(file_system) = FaultyFs::mount(Caching::Through) else { return };
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..uploading(file_system.path()) });
        assert_eq!(put(daemon.data(), "/file", "", b"before").status / 100, 2, "{driver:?}");
        for errno in [Errno::EIO, Errno::ENOLCK, Errno::EOPNOTSUPP] {
            file_system.fail(Operation::Lock, errno, 0);
            for fields in ["", "If-Match: *\r\n"] {
                let response = put(daemon.data(), "/file", fields, b"after");
                assert_eq!(response.status, 503, "{driver:?} {errno:?}");
                let detail = response.problem();
                assert!(detail.contains(".streamd-uploads") && detail.contains("locks files"), "{detail}");
            }
            assert_eq!(send(daemon.data(), "DELETE", "/file", "", b"").status, 503, "{driver:?} {errno:?}");
            file_system.heal();
            assert_eq!(get(daemon.data(), "/file", "").text(), "before", "{driver:?} {errno:?}");
            assert!(partials(file_system.path()).is_empty(), "{driver:?} {errno:?}");
        }
        assert_eq!(put(daemon.data(), "/file", "", b"after").status, 204, "{driver:?}");
        assert_eq!(send(daemon.data(), "DELETE", "/file", "", b"").status, 204, "{driver:?}");
    }
}

#[test]
fn an_upload_has_one_writer_among_all_daemons() {
    for driver in drivers() {
        let fixture = Fixture::new();
        let probe = rustix::fs::setxattr(fixture.path(), "user.test", b"x", rustix::fs::XattrFlags::empty());
        if let Err(errno) = probe {
            eprintln!("skipped: no extended attributes here: {errno}");
            return;
        }
        let [first, second] = two(fixture.path(), |settings| Settings { driver, ..settings });
        let begun = put(first.data(), "/file", "Content-Range: bytes 0-49/100\r\n", &[b'A'; 50]);
        let id = format!("Upload-Id: {}\r\n", begun.field("Upload-Id").unwrap());
        let location = begun.field("Location").unwrap();
        let mut writer = Connection::open(first.data());
        let rest = format!("Content-Range: bytes 50-99/100\r\n{id}");
        let text = put_text("/file", &rest, &[b'A'; 50]);
        writer.send(&text[..text.len() - 1]);
        wait_until("the writer", || partials(fixture.path()).iter().any(|(_, length)| *length > 50));
        let busy = put(second.data(), "/file", &rest, &[b'A'; 50]);
        assert_eq!((busy.status, busy.problem_kind().as_str()), (409, ""), "{driver:?}");
        writer.send(b"A");
        assert_eq!(writer.response_to("PUT").status, 201, "{driver:?}");
        assert_eq!(get(second.data(), "/file", "").body, [b'A'; 100], "{driver:?}");
        assert_eq!(request(first.data(), "HEAD", location, "").field("Upload-Complete"), Some("?1"));
        assert!(partials(fixture.path()).is_empty(), "{driver:?}");
    }
}
