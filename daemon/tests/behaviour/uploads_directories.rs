//! Tests of directories that are made for an upload (`create_dirs`): they come with the file, and safe on the
//! disk, or not at all.

use std::path::Path;

use fuser::Errno;
use streamd::config::{Durability, Settings};

use crate::harness::uploads::taking_uploads;
use crate::harness::{
    Caching, Connection, FaultyFs, MIB, Operation, TestDaemon, each_uploading, partials, put, request_text,
    wait_until,
};

/// The digest of another content.
const OTHER_DIGEST: &str = "Repr-Digest: crc32c=:AAAAAA==:\r\n";

/// Returns the names in the root besides the daemon's own.
fn names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).filter(|name| name != ".streamd-uploads").collect()
}

#[test]
fn an_upload_that_fails_or_is_refused_leaves_no_directory() {
    let change = |settings| Settings { create_dirs: true, upload_bytes_max: 10 * MIB as u64, ..settings };
    each_uploading(change, |daemon, fixture| {
        let assert_none = |what: &str| assert_eq!(names(fixture.path()), [] as [String; 0], "{what}");
        let long = format!("/new/{}/file", "x".repeat(256));
        for (path, fields, status) in [
            ("/new/deep/file", "If-Match: \"x\"\r\n", 412),
            ("/new/deep/file", OTHER_DIGEST, 400),
            ("/new/deep/file", "Content-Range: bytes 5-9/10\r\n", 409),
            ("/new/deep/", "", 409),
            ("/new/.streamd-uploads/file", "", 404),
            (&long, "", 414),
        ] {
            assert_eq!(put(daemon.data(), path, fields, b"hello").status, status, "{path} {fields}");
            assert_none(&format!("{path} {fields}"));
        }
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("PUT", "/new/deep/file", "Content-Length: 99999999\r\n"));
        assert_eq!(connection.response_to("PUT").status, 413);
        // An upload that waits to be continued needs none either.
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("PUT", "/new/deep/file", &format!("Content-Length: {}\r\n", 3 * MIB)));
        connection.send(vec![b'a'; 2 * MIB]);
        wait_until("an upload", || partials(fixture.path()).iter().any(|(_, length)| *length > MIB as u64));
        assert_none("while it goes on");
        drop(connection);
        wait_until("its end", || daemon.telemetry().connections_open() == 0);
        assert_none("while it waits");
        let range = format!("Content-Range: bytes {}-{}/{}\r\n", 2 * MIB, 3 * MIB - 1, 3 * MIB);
        assert_eq!(put(daemon.data(), "/new/deep/file", &range, &vec![b'a'; MIB]).status, 201);
        assert!(std::fs::read(fixture.path().join("new/deep/file")).unwrap() == vec![b'a'; 3 * MIB]);
    });
}

#[test]
fn a_link_that_leads_nowhere_is_no_way() {
    let change = |settings| Settings { create_dirs: true, ..settings };
    each_uploading(change, |daemon, fixture| {
        std::os::unix::fs::symlink("absent", fixture.path().join("link")).unwrap();
        for path in ["/link/file", "/link/new/file"] {
            // The refusal comes before the body.
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", path, "Expect: 100-continue\r\nContent-Length: 5\r\n"));
            assert_eq!(connection.response_to("PUT").status, 409, "{path}");
        }
        assert_eq!(names(fixture.path()), ["link"]);
    });
}

fn faulty(durability: Durability) -> Option<(FaultyFs, Settings, TestDaemon)> {
    let file_system = FaultyFs::mount(Caching::Through)?;
    let settings = taking_uploads(file_system.path());
    let settings = Settings { durability, create_dirs: true, workers: 1, ..settings };
    let daemon = TestDaemon::start(settings.clone());
    Some((file_system, settings, daemon))
}

#[test]
fn directories_go_again_where_the_file_gets_no_name() {
    let Some((file_system, _, daemon)) = faulty(Durability::Fsync) else { return };
    file_system.fail(Operation::Rename, Errno::ENOSPC, 0);
    assert_eq!(put(daemon.data(), "/new/deep/file", "", b"hello").status, 507);
    file_system.heal();
    assert_eq!(names(file_system.path()), [] as [String; 0]);
    assert_eq!(put(daemon.data(), "/new/deep/file", "", b"hello").status, 201);
    // Directories of others stay, empty or not.
    std::fs::create_dir(file_system.path().join("new/other")).unwrap();
    file_system.fail(Operation::Rename, Errno::ENOSPC, 0);
    assert_eq!(put(daemon.data(), "/new/other/deep/file", "", b"hello").status, 507);
    file_system.heal();
    assert_eq!(names(&file_system.path().join("new/other")), [] as [String; 0]);
    assert!(file_system.path().join("new/deep/file").exists());
}

/// The syncs: of the root, in which `new` lies, of `new`, in which `deep` lies, and of that, in which the file
/// lies.
const SYNCS: usize = 3;

#[test]
fn each_directory_that_was_made_is_synced_before_the_answer() {
    for synced in 0..=SYNCS {
        let Some((file_system, _, daemon)) = faulty(Durability::Fsync) else { return };
        file_system.fail(Operation::SyncDirectory, Errno::EIO, synced);
        let status = put(daemon.data(), "/new/deep/file", "", b"hello").status;
        file_system.heal();
        assert_eq!(status, if synced < SYNCS { 500 } else { 201 }, "the sync of directory {synced} failed");
        // The last sync fails when the file has its name already.
        assert_eq!(names(file_system.path()).is_empty(), synced < SYNCS - 1, "{synced}");
    }
}

/// An upload that made a directory may not have synced it: then a later one that relies on it does.
#[test]
fn a_directory_that_another_upload_made_and_did_not_sync_is_synced_too() {
    let Some((file_system, settings, daemon)) = faulty(Durability::None) else { return };
    assert_eq!(put(daemon.data(), "/new/deep/file", "", b"hello").status, 201);
    let changed = Settings { durability: Durability::Fsync, ..settings };
    assert_eq!(daemon.reload(changed), [] as [String; 0]);
    wait_until("the new settings", || {
        file_system.fail(Operation::SyncDirectory, Errno::EIO, 0);
        put(daemon.data(), "/new/deep/file", "", b"hello").status == 500
    });
    for synced in 0..=SYNCS {
        file_system.fail(Operation::SyncDirectory, Errno::EIO, synced);
        let status = put(daemon.data(), "/new/deep/other", "", b"hello").status;
        assert_eq!(matches!(status, 201 | 204), synced == SYNCS, "{synced}: {status}");
        file_system.heal();
    }
}
