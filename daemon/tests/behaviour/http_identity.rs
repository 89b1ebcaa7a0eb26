//! Tests of the entity tags and dates of a file, and of another in its place.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use streamd::config::{EtagChoice, Settings};

use crate::harness::{
    Caching, FaultyFs, Fixture, Mountpoint, Response, TestDaemon, drivers, get, make_btrfs, make_ext4,
    make_vfat, make_xfs, or_skip, put, request, settings, settle, uploading, wait_until,
};

const IMAGE_BYTES: u64 = 64 << 20;

/// The bytes of an image that XFS needs.
const XFS_IMAGE_BYTES: u64 = 320 << 20;

/// The bytes of an image that Btrfs needs.
const BTRFS_IMAGE_BYTES: u64 = 128 << 20;

/// Returns settings of a daemon that looks at each file anew.
fn serving(root: &Path, etag: EtagChoice) -> Settings {
    Settings { root: Some(root.to_owned()), etag, cache_valid_ms: 0, ..settings() }
}

fn tag(address: SocketAddr, path: &str) -> String {
    get(address, path, "").field("ETag").unwrap().to_owned()
}

fn is_strong(tag: &str) -> bool {
    tag.starts_with('"')
}

/// Sets a time of modification, which may be before 1970.
fn touch(path: &Path, seconds: i64, nanoseconds: u32) {
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { SystemTime::UNIX_EPOCH - offset } else { SystemTime::UNIX_EPOCH + offset };
    let time = whole + Duration::from_nanos(nanoseconds.into());
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A function that changes the bytes of a file.
type Change = fn(&Path, &[u8]);

/// Replaces a file by another of the same length and time.
fn replace(path: &Path, content: &[u8]) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Writes other bytes of the same length into a file, and puts its time back.
fn edit(path: &Path, content: &[u8]) {
    let modified = path.metadata().unwrap().modified().unwrap();
    std::fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// Asserts that a client that has the former file under `tag` gets the new content of another in its place.
fn assert_is_another(address: SocketAddr, path: &str, tag: &str, content: &str, what: &str) {
    let seen = get(address, path, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((seen.status, seen.text().as_str()), (200, content), "{what}");
    assert_ne!(seen.field("ETag"), Some(tag), "{what}");
    let rest = get(address, path, &format!("If-Range: {tag}\r\nRange: bytes=3-\r\n"));
    assert_eq!((rest.status, rest.text().as_str()), (200, content), "{what}");
    assert_eq!(get(address, path, &format!("If-Match: {tag}\r\n")).status, 412, "{what}");
}

#[test]
fn another_file_of_the_same_length_and_time_is_another() {
    let fixture = Fixture::new();
    // Reproducible builds have one time for all: 0, 1, 1980, 1985; tar keeps what there was before 1970.
    let times = [0, 1, 315_532_801, 499_162_500, -1, -499_162_500];
    let changes: [(&str, Change); 2] = [("replaced", replace), ("edited", edit)];
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(fixture.path(), EtagChoice::Node) });
        let name = |seconds: i64, change: &str| format!("{seconds}{change}");
        for (seconds, (change, _)) in times.iter().flat_map(|seconds| changes.map(|change| (seconds, change)))
        {
            let path = fixture.write(&name(*seconds, change), b"former");
            touch(&path, *seconds, 0);
        }
        fixture.settle(&name(-499_162_500, "edited"));
        let mut tags = Vec::new();
        for (seconds, (change, make)) in
            times.iter().flat_map(|seconds| changes.map(|change| (seconds, change)))
        {
            let name = name(*seconds, change);
            let (path, what) = (format!("/{name}"), format!("{driver:?} {name}"));
            let former = tag(daemon.data(), &path);
            assert!(is_strong(&former), "{what}: {former}");
            let rest = get(daemon.data(), &path, &format!("If-Range: {former}\r\nRange: bytes=3-\r\n"));
            assert_eq!((rest.status, rest.text().as_str()), (206, "mer"), "{what}");
            make(&fixture.path().join(name), b"latter");
            assert_is_another(daemon.data(), &path, &former, "latter", &what);
            tags.push(former);
        }
        let count = tags.len();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), count, "two files share a tag");
    }
}

#[test]
fn a_young_file_has_a_weak_tag_that_becomes_strong() {
    let fixture = Fixture::new();
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(fixture.path(), EtagChoice::Node) });
        let mut weak = String::new();
        // A machine that stood still for two seconds gets another try.
        wait_until("a weak tag", || {
            fixture.write("file", b"content");
            weak = tag(daemon.data(), "/file");
            let part = get(daemon.data(), "/file", &format!("If-Range: {weak}\r\nRange: bytes=0-1\r\n"));
            let known = get(daemon.data(), "/file", &format!("If-None-Match: {weak}\r\n"));
            !is_strong(&weak) && part.status == 200 && known.status == 304
        });
        fixture.settle("file");
        let strong = tag(daemon.data(), "/file");
        assert_eq!(format!("W/{strong}"), weak, "{driver:?}");
        for (if_range, status) in [(&weak, 200), (&strong, 206)] {
            let fields = format!("If-Range: {if_range}\r\nRange: bytes=0-1\r\n");
            assert_eq!(get(daemon.data(), "/file", &fields).status, status, "{driver:?} {if_range}");
        }
    }
}

/// The rule is that of RFC 9110 8.8.2.1.
#[test]
fn a_last_modification_is_never_later_than_the_date() {
    let fixture = Fixture::new();
    let time =
        |response: &Response, name: &str| httpdate::parse_http_date(response.field(name).unwrap()).unwrap();
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(fixture.path(), EtagChoice::Node) });
        let path = fixture.write("ahead", b"content");
        let ahead = SystemTime::now() + Duration::from_secs(3 * 24 * 60 * 60);
        File::options().write(true).open(path).unwrap().set_modified(ahead).unwrap();
        let first = request(daemon.data(), "HEAD", "/ahead", "");
        assert!(time(&first, "Last-Modified") <= time(&first, "Date"), "{driver:?}");
        fixture.settle("ahead");
        let later = request(daemon.data(), "HEAD", "/ahead", "");
        assert_eq!(later.field("Last-Modified"), first.field("Last-Modified"), "{driver:?}: it stays");
        let since = format!("If-Modified-Since: {}\r\n", later.field("Last-Modified").unwrap());
        assert_eq!(get(daemon.data(), "/ahead", &since).status, 304, "{driver:?}");
        // The test runs over a change of the second, which the date may learn of a tick later.
        let end = SystemTime::now() + Duration::from_millis(1500);
        while SystemTime::now() < end {
            fixture.write("now", b"content");
            let seen = request(daemon.data(), "HEAD", "/now", "");
            assert!(time(&seen, "Last-Modified") <= time(&seen, "Date"), "{driver:?}");
        }
        touch(&fixture.path().join("now"), -1, 0);
        let seen = get(daemon.data(), "/now", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        assert_eq!(
            (seen.status, seen.field("Last-Modified")),
            (200, None),
            "{driver:?}: HTTP has no such date"
        );
    }
}

#[test]
fn the_tag_of_a_content_is_the_same_on_every_replica() {
    let replicas = [Fixture::new(), Fixture::new()];
    for driver in drivers() {
        let daemons = replicas.each_ref().map(|fixture| {
            TestDaemon::start(Settings { driver, ..serving(fixture.path(), EtagChoice::Digest) })
        });
        for (number, fixture) in (0..).zip(&replicas) {
            touch(&fixture.write("file", b"content"), 1_000_000_000 + number, 5);
        }
        // The tag is weak until somebody has read the file.
        let made = |daemon: &TestDaemon| {
            let mut made = String::new();
            wait_until("a digest", || {
                made = tag(daemon.data(), "/file");
                is_strong(&made)
            });
            made
        };
        let [first, second] = daemons.each_ref().map(made);
        // The tag is that of `printf content | sha256sum`.
        assert_eq!(first, "\"sha256-ed7002b439e9ac845f22357d822bac14\"", "{driver:?}");
        assert_eq!(second, first, "{driver:?}");
        let rest = format!("If-Range: {first}\r\nRange: bytes=3-\r\n");
        assert_eq!(get(daemons[1].data(), "/file", &rest).text(), "tent");
        edit(&replicas[0].path().join("file"), b"changed");
        assert_is_another(daemons[0].data(), "/file", &first, "changed", "edited");
        replace(&replicas[1].path().join("file"), b"changed");
        assert_is_another(daemons[1].data(), "/file", &first, "changed", "replaced");
        let digest = get(daemons[0].data(), "/file", "Want-Repr-Digest: sha-256=1\r\n");
        // The digest is that of `printf changed | openssl dgst -sha256 -binary | base64`.
        let expected = "sha-256=:ekmYy1yOFp3rCtxJGKoiOUj8JTF+SvjU6ZNWPtZkQfw=:";
        assert!(digest.field("Repr-Digest").is_some_and(|field| field.len() == expected.len()));
        assert_eq!(made(&daemons[0]), made(&daemons[1]), "{driver:?}");
    }
}

#[test]
fn tags_of_times_are_weak_and_the_same_where_size_and_time_are() {
    let replicas = [Fixture::new(), Fixture::new()];
    for driver in drivers() {
        let daemons = replicas.each_ref().map(|fixture| {
            TestDaemon::start(Settings { driver, ..serving(fixture.path(), EtagChoice::Times) })
        });
        let tags = [(1_000_000_000, "/file"), (-5, "/old")].map(|(seconds, path)| {
            for (number, fixture) in (0..).zip(&replicas) {
                // scp and tar copy it so: without the fraction of a second.
                touch(&fixture.write(&path[1..], b"content"), seconds, number * 1000);
                fixture.settle(&path[1..]);
            }
            let [first, second] = daemons.each_ref().map(|daemon| tag(daemon.data(), path));
            assert_eq!(first, second, "{driver:?}");
            assert!(!is_strong(&first), "{driver:?}");
            for daemon in &daemons {
                let status = |fields: String| get(daemon.data(), path, &fields).status;
                assert_eq!(status(format!("If-None-Match: {first}\r\n")), 304);
                assert_eq!(status(format!("If-Range: {first}\r\nRange: bytes=0-1\r\n")), 200);
                assert_eq!(status(format!("If-Match: {first}\r\n")), 412);
            }
            first
        });
        assert_ne!(tags[0], tags[1]);
    }
}

/// The tag of a published file is known at once, by other daemons on the same root too.
#[test]
fn a_published_file_has_a_strong_tag_at_once() {
    for etag in [EtagChoice::Node, EtagChoice::Digest] {
        for driver in drivers() {
            let fixture = Fixture::new();
            let uploads = Settings { driver, etag, cache_valid_ms: 0, ..uploading(fixture.path()) };
            let (daemon, other) = (TestDaemon::start(uploads.clone()), TestDaemon::start(uploads));
            let mut former = String::new();
            for content in ["one", "two", "six"] {
                let made = put(daemon.data(), "/file", "", content.as_bytes());
                let tag_made = made.field("ETag").unwrap().to_owned();
                assert!(is_strong(&tag_made) && tag_made != former, "{etag:?} {driver:?} {tag_made}");
                assert_eq!(tag(daemon.data(), "/file"), tag_made);
                assert_eq!(tag(other.data(), "/file"), tag_made);
                former = tag_made;
            }
            let condition = format!("If-Match: {former}\r\n");
            assert_eq!(put(other.data(), "/file", &condition, b"new").status, 204, "{etag:?} {driver:?}");
            assert_eq!(put(daemon.data(), "/file", &condition, b"late").status, 412, "{etag:?} {driver:?}");
            // The file was written by somebody else, and isn't the published one any more.
            let published = tag(daemon.data(), "/file");
            edit(&fixture.path().join("file"), b"old");
            assert_is_another(daemon.data(), "/file", &published, "old", "edited");
        }
    }
}

/// Whether a file on this file system gets a strong tag, and a digest that is believed.
fn assert_tags(what: &str, root: &Path, is_told: bool) {
    std::fs::write(root.join("file"), b"content").unwrap();
    settle(&root.join("file"));
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(root, EtagChoice::Node) });
        assert_eq!(is_strong(&tag(daemon.data(), "/file")), is_told, "{what} {driver:?}");
        let daemon = TestDaemon::start(Settings { driver, ..serving(root, EtagChoice::Digest) });
        let digest = || get(daemon.data(), "/file", "Want-Repr-Digest: sha-256=1\r\n");
        let first = digest().field("Repr-Digest").unwrap().to_owned();
        if is_told {
            // Nobody waits until the digest is written down.
            wait_until("its digest to be recorded", || is_strong(&tag(daemon.data(), "/file")));
        } else {
            assert!(!is_strong(&tag(daemon.data(), "/file")), "{what} {driver:?}");
        }
        edit(&root.join("file"), b"another");
        assert_ne!(digest().field("Repr-Digest").unwrap(), first, "{what} {driver:?}: of the former content");
        edit(&root.join("file"), b"content");
        settle(&root.join("file"));
        drop(daemon);
    }
}

type Make = fn(&Path, u64) -> Result<(), String>;

#[test]
fn tags_are_strong_where_the_kernel_keeps_change_times() {
    let made: [(&str, Make, u64, bool); 4] = [
        ("ext4", make_ext4, IMAGE_BYTES, true),
        ("xfs", make_xfs, XFS_IMAGE_BYTES, true),
        ("btrfs", make_btrfs, BTRFS_IMAGE_BYTES, true),
        ("vfat", make_vfat, IMAGE_BYTES, false),
    ];
    for (kind, make, bytes, is_told) in made {
        let fixture = Fixture::new();
        let image = fixture.path().join("image");
        let mounted = make(&image, bytes).and_then(|()| Mountpoint::of_image(kind, &image, "nodev"));
        if let Some(mounted) = or_skip(mounted) {
            assert_tags(kind, mounted.path(), is_told);
        }
    }
    if let Some(mounted) = or_skip(Mountpoint::tmpfs("size=16m")) {
        assert_tags("tmpfs", mounted.path(), true);
    }
    if let Some(mounted) = FaultyFs::mount(Caching::Through) {
        assert_tags("FUSE", mounted.path(), false);
    }
}

/// An ext4 with one file, made by a program that gives all files the times of its source, to the second.
fn make_release(fixture: &Fixture, name: &str, content: &[u8]) -> Result<PathBuf, String> {
    let image = fixture.path().join(name);
    make_ext4(&image, IMAGE_BYTES)?;
    let source = fixture.write("source", content);
    for request in [
        format!("write {} file", source.display()),
        "set_inode_field file mtime 20200101000000".to_owned(),
        "set_inode_field file ctime 20200101000000".to_owned(),
    ] {
        let output = Command::new("debugfs").args(["-w", "-R", &request]).arg(&image).output();
        let output = output.map_err(|error| format!("debugfs: {error}"))?;
        if !output.status.success() {
            return Err(format!("debugfs: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(image)
}

/// Images that are put in each other's place have files of the same number, length and times.
#[test]
fn a_file_of_another_image_is_another() {
    let fixture = Fixture::new();
    let releases = [("first", b"former"), ("second", b"latter")].map(|(name, content)| {
        let image = make_release(&fixture, name, content)?;
        Mountpoint::of_image("ext4", &image, "ro")
    });
    let [Some(first), Some(second)] = releases.map(or_skip) else { return };
    let root = Fixture::new();
    for driver in drivers() {
        for etag in [EtagChoice::Node, EtagChoice::Digest] {
            let link = root.path().join("release");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(first.path(), &link).unwrap();
            let start = || TestDaemon::start(Settings { driver, ..serving(&link, etag) });
            let daemon = start();
            let _ = get(daemon.data(), "/file", "Want-Repr-Digest: sha-256=1\r\n");
            let former = tag(daemon.data(), "/file");
            drop(daemon);
            std::fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(second.path(), &link).unwrap();
            let daemon = start();
            let rest = get(daemon.data(), "/file", &format!("If-Range: {former}\r\nRange: bytes=3-\r\n"));
            assert_eq!((rest.status, rest.text().as_str()), (200, "latter"), "{driver:?} {etag:?} {former}");
            let write = put(daemon.data(), "/file", &format!("If-Match: {former}\r\n"), b"");
            assert_ne!(write.status, 204);
        }
    }
}
