//! Tests of bodies that are written past the page cache, on the file systems that take that, and of those that go
//! through it.

use std::io::Write;
use std::path::Path;

use streamd::config::{Durability, Settings};

use crate::harness::uploads::{
    connect, exchange, longest_partial, offset_of, partials, put, put_head, put_rest, read_response,
    taking_uploads, try_put, try_put_chunked,
};
use crate::harness::{
    MIB, Mountpoint, Random, TestDaemon, drivers, get, make_ext4, make_xfs, or_skip, sha256, wait_until,
};

/// The bytes of a disk: xfs makes none below 300 MiB.
const DISK_BYTES: u64 = 320 << 20;

/// The bytes of a long body: two buffers of 4 MiB, a part of a third, and an end that fills no block.
const LONG_BYTES: usize = (11 << 20) + 1234;

fn directly(root: &Path) -> Settings {
    Settings { direct_bytes_min: MIB as u64, ..taking_uploads(root) }
}

fn direct_bytes(daemon: &TestDaemon) -> u64 {
    daemon.count(|worker| worker.bytes_uploaded_direct.get())
}

/// Runs a daemon that writes directly from 1 MiB on, on each driver, on an ext4 and on an xfs.
fn each_disk(change: impl Fn(Settings) -> Settings, test: impl Fn(&TestDaemon, &Path)) {
    // The images are in memory: the tests beside these have to wait for the host's disk.
    let Some(images) = or_skip(Mountpoint::tmpfs("size=1g")) else { return };
    for (kind, make) in [("ext4", make_ext4 as fn(&Path, u64) -> Result<(), String>), ("xfs", make_xfs)] {
        for driver in drivers() {
            let image = images.path().join(format!("{kind}-{driver:?}"));
            let Some(()) = or_skip(make(&image, DISK_BYTES)) else { continue };
            let Some(disk) = or_skip(Mountpoint::of_image(kind, &image, "defaults")) else { continue };
            let daemon = TestDaemon::start(Settings { driver, ..change(directly(disk.path())) });
            test(&daemon, disk.path());
        }
    }
}

/// This test fails where the way past the page cache is silently lost.
#[test]
fn long_bodies_go_past_the_page_cache_and_arrive() {
    each_disk(
        |settings| settings,
        |daemon, root| {
            let content = Random::seeded().bytes(LONG_BYTES);
            assert_eq!(put(daemon.data(), "/file", &content).status, 201);
            let direct = direct_bytes(daemon);
            // All whole blocks go past it, unless so much time passed between two pieces that they were taken one
            // by one.
            assert!(direct > 0 && direct <= (LONG_BYTES - LONG_BYTES % 4096) as u64, "{direct}");
            assert_eq!(daemon.count(|worker| worker.bytes_uploaded.get()), LONG_BYTES as u64);
            assert!(std::fs::read(root.join("file")).unwrap() == content);
            assert_eq!(sha256(&get(daemon.data(), "/file", "").body), sha256(&content));
            // The bodies are whole blocks, and a byte less and a byte more.
            for length in [8 * MIB, 8 * MIB - 1, 4 * MIB + 1, MIB] {
                let before = direct_bytes(daemon);
                assert_eq!(put(daemon.data(), "/file", &content[..length]).status, 204);
                assert!(direct_bytes(daemon) > before, "{length}");
                assert!(std::fs::read(root.join("file")).unwrap() == content[..length], "{length}");
            }
            assert!(partials(root).is_empty());
        },
    );
}

/// The page cache takes them at once, and without a sync nobody has to wait for more.
#[test]
fn bodies_that_need_not_be_durable_go_through_it() {
    each_disk(
        |settings| Settings { durability: Durability::None, ..settings },
        |daemon, root| {
            let content = Random::seeded().bytes(LONG_BYTES);
            assert_eq!(put(daemon.data(), "/file", &content).status, 201);
            assert_eq!(direct_bytes(daemon), 0);
            assert!(std::fs::read(root.join("file")).unwrap() == content);
        },
    );
}

#[test]
fn what_is_short_or_has_no_length_or_no_disk_goes_through_the_page_cache() {
    let content = Random::seeded().bytes(LONG_BYTES);
    each_disk(
        |settings| settings,
        |daemon, root| {
            assert_eq!(put(daemon.data(), "/short", &content[..MIB - 1]).status, 201);
            assert_eq!(try_put_chunked(daemon.data(), "/chunked", &content).unwrap().status, 201);
            assert_eq!(direct_bytes(daemon), 0);
            assert!(std::fs::read(root.join("chunked")).unwrap() == content);
        },
    );
    each_disk(
        |settings| Settings { direct_bytes_min: 0, ..settings },
        |daemon, root| {
            assert_eq!(put(daemon.data(), "/file", &content).status, 201);
            assert_eq!(direct_bytes(daemon), 0);
            assert!(std::fs::read(root.join("file")).unwrap() == content);
        },
    );
    let Some(memory) = or_skip(Mountpoint::tmpfs("size=64m")) else { return };
    let daemon = TestDaemon::start(directly(memory.path()));
    assert_eq!(put(daemon.data(), "/file", &content).status, 201);
    assert_eq!(direct_bytes(&daemon), 0);
    assert!(std::fs::read(memory.path().join("file")).unwrap() == content);
}

#[test]
fn a_body_is_continued_at_any_offset() {
    each_disk(
        |settings| settings,
        |daemon, root| {
            let content = Random::seeded().bytes(LONG_BYTES);
            for offset in [1, 4095, 4096, 2 * MIB + 777, 4 * MIB, LONG_BYTES - MIB] {
                let mut stream = connect(daemon.data()).unwrap();
                let fields = format!(
                    "Content-Range: bytes 0-{}/{LONG_BYTES}\r\nContent-Length: {LONG_BYTES}\r\n",
                    LONG_BYTES - 1
                );
                stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
                stream.write_all(&content[..offset]).unwrap();
                drop(stream);
                // All bytes that arrived before the end are kept.
                wait_until("its bytes", || longest_partial(root) == offset);
                wait_until("the connection's end", || daemon.telemetry().connections_open() == 0);
                assert_eq!(offset_of(daemon.data(), "/file", LONG_BYTES), offset);
                let before = direct_bytes(daemon);
                assert!([201, 204].contains(&put_rest(daemon.data(), "/file", &content, offset).status));
                assert!(std::fs::read(root.join("file")).unwrap() == content, "from {offset} on");
                // The second buffer is written directly, where the first one doesn't begin with a block.
                let is_direct = offset % 4096 == 0 || LONG_BYTES - offset > 5 * MIB;
                assert_eq!(direct_bytes(daemon) > before, is_direct, "from {offset} on");
            }
        },
    );
}

#[test]
fn digests_are_computed_on_the_way() {
    each_disk(
        |settings| settings,
        |daemon, root| {
            let content = Random::seeded().bytes(LONG_BYTES);
            let want = "Want-Repr-Digest: crc32c=5\r\n";
            let answer = try_put(daemon.data(), "/file", want, &content).unwrap();
            let digest = answer.field("Repr-Digest").unwrap().to_owned();
            assert!(digest.starts_with("crc32c="), "{digest}");
            let right = format!("Repr-Digest: {digest}\r\nContent-Digest: {digest}\r\n");
            assert_eq!(try_put(daemon.data(), "/file", &right, &content).unwrap().status, 204);
            let before = direct_bytes(daemon);
            assert!(before > 0);
            let other = [&content[1..], &content[..1]].concat();
            let refused = try_put(daemon.data(), "/file", &right, &other).unwrap();
            assert!((400..500).contains(&refused.status), "{}", refused.text());
            assert!(direct_bytes(daemon) > before);
            assert!(std::fs::read(root.join("file")).unwrap() == content);
        },
    );
}

/// A slow upload holds no buffers while others wait for them, and a client that asks sees its progress.
#[test]
fn a_slow_sender_is_seen_to_go_on_and_may_become_fast() {
    let length = 40 * MIB + 5;
    each_disk(
        |settings| settings,
        |daemon, root| {
            let content = Random::seeded().bytes(length);
            let mut stream = connect(daemon.data()).unwrap();
            let fields = format!("Content-Length: {length}\r\n");
            stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
            for end in [100_001, 200_002] {
                let begin = longest_partial(root);
                stream.write_all(&content[begin..end]).unwrap();
                wait_until("its bytes", || longest_partial(root) == end);
            }
            assert_eq!(exchange(&stream, b"", &content[200_002..]).unwrap().status, 201);
            assert!(std::fs::read(root.join("file")).unwrap() == content);
            assert!(direct_bytes(daemon) > 4 * MIB as u64, "{}", direct_bytes(daemon));
        },
    );
}

/// The bodies at once are more than there are buffers for.
#[test]
fn bodies_without_buffers_go_through_the_page_cache() {
    const CLIENTS: usize = 12;
    each_disk(
        |settings| settings,
        |daemon, root| {
            let content = Random::seeded().bytes(LONG_BYTES);
            let address = daemon.data();
            std::thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let content = &content[client..];
                    scope.spawn(move || {
                        assert_eq!(put(address, &format!("/{client}"), content).status, 201);
                    });
                }
            });
            for client in 0..CLIENTS {
                assert!(std::fs::read(root.join(client.to_string())).unwrap() == content[client..]);
                std::fs::remove_file(root.join(client.to_string())).unwrap();
            }
            assert!(direct_bytes(daemon) > 0);
        },
    );
}

/// The image promises more than its own file system, a small tmpfs, has: on it writes fail as on a failing disk.
#[test]
fn a_disk_that_fails_in_the_middle_fails_the_upload() {
    for driver in drivers() {
        let Some(backing) = or_skip(Mountpoint::tmpfs("size=24m")) else { return };
        let image = backing.path().join("image");
        let Some(()) = or_skip(make_ext4(&image, 128 << 20)) else { return };
        let Some(disk) = or_skip(Mountpoint::ext4(&image, "errors=continue")) else { return };
        std::fs::write(disk.path().join("file"), b"before").unwrap();
        rustix::fs::sync();
        let daemon = TestDaemon::start(Settings { driver, ..directly(disk.path()) });
        let content = Random::seeded().bytes(64 * MIB);
        let mut stream = connect(daemon.data()).unwrap();
        let fields = format!("Content-Length: {}\r\n", content.len());
        stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
        let _ = stream.write_all(&content);
        let answer = read_response(&stream).unwrap();
        // The status is for EIO, or for ENOSPC where the loop device hands it on.
        assert!([500, 507].contains(&answer.status), "{}", answer.text());
        assert!(!answer.problem().is_empty());
        assert!(direct_bytes(&daemon) > 0);
        assert_eq!(std::fs::read(disk.path().join("file")).unwrap(), b"before");
        assert_eq!(get(daemon.data(), "/file", "").body, b"before");
        assert!(partials(disk.path()).is_empty());
    }
}
