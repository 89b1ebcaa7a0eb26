//! Tests of short files that are published in one go.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::destination::Destination;
use super::super::whole::AtOnce;
use super::mounts::on_tmpfs;
use super::*;
use crate::files::Shortage;
use crate::protocol::conditional::Validators;

const NONE: Digests = Digests { sha256: None, crc32c: None };

/// Makes a fixture on the usual file system, and one in memory, where nothing has to be waited for.
fn fixtures() -> Vec<(Fixture, Option<super::mounts::Mounted>)> {
    let in_memory = on_tmpfs("size=64m").map(|(fixture, mounted)| (fixture, Some(mounted)));
    [Some((Fixture::new(), None)), in_memory].into_iter().flatten().collect()
}

impl Fixture {
    /// Publishes a file in one go: at once where that can be, else with waiting.
    fn put_whole(
        &self,
        plan: &Plan,
        content: &[u8],
        publication: &Publication<'_>,
        limits: &UploadLimits,
    ) -> Result<Published, UploadError> {
        let known = self.uploads.known_destination(&plan.destination);
        let known = known.as_ref();
        let whole = Whole { plan, known, content, body_digests: &NONE, algorithms: Algorithms::default() };
        let admitted = self.uploads.admit(plan, limits)?;
        match self.uploads.publish_whole_now(admitted, &whole, publication, limits) {
            AtOnce::Done(result) => result,
            AtOnce::NotNow(admitted) => self.uploads.publish_whole(admitted, &whole, publication, limits),
        }
    }

    fn put_short(&self, path: &str, content: &[u8]) -> Result<Published, UploadError> {
        let plan = plan(path, Some(content.len() as u64));
        self.put_whole(&plan, content, &Publication::default(), &limits())
    }

    /// Whether a part without proof at `offset` of a file of 100 bytes may come from another client than the one
    /// whose partial is kept.
    fn is_contested(&self, offset: u64) -> bool {
        let error =
            self.uploads.resume_destination(&plan("/file", Some(100)), offset, &limits()).unwrap_err();
        error == UploadError::Unproved
    }
}

#[test]
fn a_short_file_is_created_or_replaced_and_leaves_nothing_else() {
    for (fixture, _mount) in fixtures() {
        let generation = fixture.uploads.generation();
        for (content, created) in [(&b"content"[..], true), (b"CONTENT", false), (b"", false)] {
            let published = fixture.put_short("/file", content).unwrap();
            assert_eq!((published.created, published.size), (created, content.len() as u64));
            assert_eq!(fixture.read("file").unwrap(), content);
            assert_eq!(fixture.etag("/file").unwrap(), published.etag);
            assert!(published.etag.starts_with('"'), "strong at once: {}", published.etag);
        }
        assert_eq!(fixture.uploads.generation(), generation + 3);
        fixture.assert_clean();
    }
}

#[test]
fn only_where_all_lies_in_memory_nothing_is_waited_for() {
    let Some((fixture, _mount)) = on_tmpfs("size=64m") else { return };
    std::fs::create_dir(fixture.path.join("directory")).unwrap();
    let now = |path: &str, publication: &Publication<'_>| {
        let plan = plan(path, Some(7));
        let (content, algorithms) = (&b"content"[..], Algorithms::default());
        let known = fixture.uploads.known_destination(&plan.destination);
        let known = known.as_ref();
        let whole = Whole { plan: &plan, known, content, body_digests: &NONE, algorithms };
        let admitted = fixture.uploads.admit(&plan, &limits()).unwrap();
        let published = fixture.uploads.publish_whole_now(admitted, &whole, publication, &limits());
        matches!(published, AtOnce::Done(_))
    };
    let usual = Publication::default();
    assert!(now("/file", &usual) && now("/directory/file", &usual));
    assert!(!now("/absent/file", &usual), "which may have to be made");
    assert!(!now("/conditional", &Publication { precondition: Some(&|_| true), ..usual }));
    assert!(!now("/hashed", &Publication { recorded: ALL, ..usual }));
    // Somebody else is about to change the same name.
    let destination = Destination::resolve(&fixture.root, &name("/file"), &limits()).unwrap();
    let locked = fixture.uploads.names.lock(&destination).unwrap();
    assert!(!now("/file", &usual));
    drop(locked);
    assert!(now("/file", &usual));
    let Some(_mounted) = super::mounts::Mounted::tmpfs(fixture.path.join("directory"), "size=1m") else {
        return;
    };
    assert!(!now("/directory/file", &usual), "which lies on another mount");
    assert_eq!(names(&fixture.path), [".streamd-uploads", "directory", "file"]);
    fixture.assert_clean();
}

#[test]
fn what_is_not_usual_goes_the_way_of_every_upload() {
    for (fixture, _mount) in fixtures() {
        let limits = UploadLimits { create_dirs: true, is_durable: true, ..limits() };
        let plan = plan("/new/directory/file", Some(7));
        assert!(fixture.put_whole(&plan, b"content", &Publication::default(), &limits).unwrap().created);
        assert_eq!(fixture.read("new/directory/file").unwrap(), b"content");
        let error = fixture.put_short("/absent/file", b"content").unwrap_err();
        assert_eq!(error, UploadError::ParentMissing);
        assert_eq!(fixture.put_short("/new", b"content").unwrap_err(), UploadError::NotAFile);
        // The directory shares its group.
        let shared = fixture.path.join("shared");
        std::fs::create_dir(&shared).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&shared, None, Some(12)).unwrap();
        }
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o2775)).unwrap();
        fixture.put_short("/shared/file", b"content").unwrap();
        assert_eq!(shared.join("file").metadata().unwrap().gid(), shared.metadata().unwrap().gid());
        fixture.assert_clean();
    }
}

#[test]
fn a_short_file_takes_over_what_the_replaced_one_has() {
    for (fixture, _mount) in fixtures() {
        let path = fixture.path.join("file");
        for is_durable in [false, true] {
            std::fs::write(&path, "before").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            let has_attributes =
                rustix::fs::setxattr(&path, "user.color", b"blue", rustix::fs::XattrFlags::empty());
            let limits = UploadLimits { is_durable, ..limits() };
            let plan = plan("/file", Some(7));
            fixture.put_whole(&plan, b"content", &Publication::default(), &limits).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
            assert_eq!(std::fs::read(&path).unwrap(), b"content");
            let mut color = [0; 16];
            if has_attributes.is_ok() {
                let length = rustix::fs::getxattr(&path, "user.color", &mut color[..]).unwrap();
                assert_eq!(&color[..length], b"blue");
            }
            std::fs::remove_file(&path).unwrap();
        }
        fixture.assert_clean();
    }
}

#[test]
fn what_is_refused_leaves_nothing_and_changes_nothing() {
    for (fixture, _mount) in fixtures() {
        fixture.put_short("/file", b"before").unwrap();
        let plan = |length| plan("/file", Some(length));
        let usual = Publication::default();
        let put = |publication: &Publication<'_>, limits: &UploadLimits| {
            fixture.put_whole(&plan(5), b"after", publication, limits).unwrap_err()
        };
        let never = |_: Option<&Validators>| false;
        let conditional = Publication { precondition: Some(&never), ..usual };
        assert_eq!(put(&conditional, &limits()), UploadError::PreconditionFailed);
        assert_eq!(put(&Publication { is_new: true, ..usual }, &limits()), UploadError::PreconditionFailed);
        let others = Publication { digests: [NONE, digests_of(b"other")], ..usual };
        assert!(matches!(
            put(&others, &limits()),
            UploadError::DigestMismatch { algorithm: Algorithm::Sha256, is_of_request: false, .. }
        ));
        let full = UploadLimits { min_free_bytes: u64::MAX, ..limits() };
        assert_eq!(put(&usual, &full), UploadError::NoSpace(Shortage::ReservedBytes));
        let short = UploadLimits { upload_bytes_max: 4, ..limits() };
        assert_eq!(put(&usual, &short), UploadError::TooLarge { limit: 4 });
        let none = UploadLimits { uploads_max: 0, ..limits() };
        assert_eq!(put(&usual, &none), UploadError::TooMany);
        let body_digests = digests_of(b"other");
        let whole = Whole {
            plan: &plan(5),
            known: None,
            content: b"after",
            body_digests: &body_digests,
            algorithms: body_digests.algorithms(),
        };
        let admitted = fixture.uploads.admit(&plan(5), &limits()).unwrap();
        assert!(matches!(
            fixture.uploads.publish_whole(admitted, &whole, &usual, &limits()),
            Err(UploadError::DigestMismatch { is_of_request: true, computed, .. })
                if computed == digests_of(b"after")
        ));
        assert_eq!(fixture.read("file").unwrap(), b"before");
        fixture.assert_clean();
    }
}

#[test]
fn a_full_and_a_read_only_file_system_are_told_and_keep_the_former_file() {
    let Some((fixture, mount)) = on_tmpfs("size=1m") else { return };
    fixture.put_short("/file", b"before").unwrap();
    std::fs::write(fixture.path.join("filler"), pattern(4 << 20)).unwrap_err();
    let content = pattern(64 << 10);
    assert_eq!(fixture.put_short("/file", &content).unwrap_err(), UploadError::NoSpace(Shortage::Disk));
    fixture.assert_clean();
    std::fs::remove_file(fixture.path.join("filler")).unwrap();
    // No descriptor is kept that would forbid this.
    mount.remount("remount,ro");
    assert_eq!(fixture.put_short("/file", &content).unwrap_err(), UploadError::ReadOnly);
    assert_eq!(fixture.read("file").unwrap(), b"before");
    mount.remount("remount,rw");
    fixture.put_short("/file", &content).unwrap();
    assert!(fixture.read("file").unwrap() == content);
    fixture.assert_clean();
}

#[test]
fn the_staging_directory_may_go_and_come_back_shared() {
    for (fixture, _mount) in fixtures() {
        fixture.put_short("/file", b"first").unwrap();
        std::fs::remove_dir_all(fixture.staging()).unwrap();
        fixture.put_short("/file", b"second").unwrap();
        std::fs::set_permissions(fixture.staging(), std::fs::Permissions::from_mode(0o777)).unwrap();
        fixture.put_short("/file", b"third").unwrap();
        assert_eq!(fixture.staging().metadata().unwrap().mode() & 0o7777, 0o700);
        std::fs::rename(fixture.staging(), fixture.path.join("moved")).unwrap();
        fixture.put_short("/file", b"fourth").unwrap();
        assert_eq!(fixture.read("file").unwrap(), b"fourth");
        assert!(fixture.staging().join("locks").exists(), "where other daemons look for it");
        fixture.assert_clean();
    }
}

#[test]
fn a_part_is_not_taken_for_that_of_who_sends_a_whole_file() {
    let fixture = Fixture::new();
    fixture.cut_short("/file", &[1; 50], 100);
    // The rival counts while its body comes, and where its client may go on after it broke off.
    let mut admitted = begin_at(&fixture);
    assert!(fixture.is_contested(50));
    admitted.note_received(50);
    drop(admitted);
    assert!(fixture.is_contested(50));
    // A client whose whole file has come won't go on and is no rival any more, though the one that broke off stays
    // one.
    let fixture = Fixture::new();
    fixture.cut_short("/file", &[1; 50], 100);
    let plan = plan("/file", Some(100));
    fixture.put_whole(&plan, &[2; 100], &Publication::default(), &limits()).unwrap();
    let writer = fixture.uploads.resume_destination(&plan, 50, &limits()).unwrap();
    assert_eq!(writer.offset(), 50);
    // A body that didn't come at once goes on as a partial, with the claim that was made.
    writer.discard();
    let fixture = Fixture::new();
    fixture.cut_short("/file", &[1; 50], 100);
    let mut writer = fixture.uploads.begin_admitted(begin_at(&fixture), &plan, &limits()).unwrap();
    assert_usage(&fixture, 1, 2);
    writer.write(&[2; 50]).unwrap();
    drop(writer);
    assert!(fixture.is_contested(50));
    assert_usage(&fixture, 0, 1);
}

#[track_caller]
fn assert_usage(fixture: &Fixture, writers: usize, partials: usize) {
    let usage = fixture.uploads.usage();
    assert_eq!((usage.writers, usage.partials), (writers, partials));
}

fn begin_at(fixture: &Fixture) -> Admitted {
    fixture.uploads.admit(&plan("/file", Some(100)), &limits()).unwrap()
}

#[test]
fn whoever_reads_meanwhile_gets_one_file_or_the_other() {
    for (fixture, _mount) in fixtures() {
        let contents = [pattern(5_000), vec![7; 60_000]];
        fixture.put_short("/file", &contents[0]).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let content = fixture.read("file").unwrap();
                    assert!(contents.contains(&content), "{} bytes", content.len());
                }
            });
            let writers = [0, 1].map(|number| {
                let (fixture, content) = (&fixture, &contents[number]);
                scope.spawn(move || (0..100).for_each(|_| drop(fixture.put_short("/file", content).unwrap())))
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            is_over.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        fixture.assert_clean();
    }
}

#[test]
fn a_killed_daemon_leaves_a_file_that_is_swept() {
    let fixture = Fixture::new();
    fixture.put_short("/file", b"before").unwrap();
    // The file is left between its creation and its name.
    let id = fixture.uploads.temporaries.next();
    let path = fixture.staging().join(id.to_string());
    std::fs::write(&path, "after").unwrap();
    let fixture = {
        let mut fixture = fixture;
        fixture.restart();
        fixture
    };
    fixture.uploads.sweep(Duration::from_secs(3600));
    assert!(path.exists(), "it may be another daemon's of this moment");
    let long_ago = std::fs::FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(120));
    std::fs::File::options().write(true).open(&path).unwrap().set_times(long_ago).unwrap();
    fixture.uploads.sweep(Duration::from_secs(3600));
    assert_eq!(fixture.read("file").unwrap(), b"before");
    fixture.assert_clean();
}
