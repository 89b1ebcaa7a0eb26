//! Tests of the rule by which a part is ascribed to an upload.

use super::*;

const LENGTH: u64 = 100;

fn part(first: u64, end: u64) -> Part {
    Part { first, end, upload: None }
}

impl Fixture {
    /// Takes a part of an upload of `LENGTH` bytes, and keeps the upload, or publishes it where it is whole.
    fn take(&self, path: &str, byte: u8, part: Part, digests: Digests) -> Result<UploadId, UploadError> {
        let plan = Plan { digests, ..plan(path, Some(LENGTH)) };
        let mut writer = self.uploads.take_part(&plan, &part, &limits())?;
        let id = writer.id();
        let count = usize::try_from(part.end - part.first).unwrap();
        writer.write(&vec![byte; count])?;
        if part.end == LENGTH {
            writer.publish(&Publication::default())?;
        } else {
            writer.keep()?;
        }
        Ok(id)
    }

    fn plain(&self, path: &str, byte: u8, first: u64, end: u64) -> Result<UploadId, UploadError> {
        self.take(path, byte, part(first, end), Digests::default())
    }
}

const UNPROVED: Result<UploadId, UploadError> = Err(UploadError::Unproved);

#[test]
fn of_two_uploads_nobody_goes_on_without_proof() {
    let fixture = Fixture::new();
    let first = fixture.plain("/file", b'A', 0, 50).unwrap();
    let second = fixture.plain("/file", b'B', 0, 50).unwrap();
    assert_eq!(fixture.plain("/file", b'A', 50, 100), UNPROVED);
    // Another length is another upload, and so is another name.
    assert_eq!(
        fixture.uploads.take_part(&plan("/file", Some(99)), &part(50, 99), &limits()).unwrap_err(),
        UploadError::WrongOffset { expected: 0, provided: 50 }
    );
    let named = |id, first, end| Part { upload: Some(id), ..part(first, end) };
    assert_eq!(
        fixture.take("/other", b'A', named(first, 50, 100), Digests::default()),
        Err(UploadError::Unknown)
    );
    assert_eq!(
        fixture.take("/file", b'A', named(UploadId(1), 50, 100), Digests::default()),
        Err(UploadError::Unknown)
    );
    let long =
        fixture.uploads.take_part(&plan("/file", Some(99)), &named(first, 50, 99), &limits()).unwrap_err();
    assert_eq!(long, UploadError::LengthConflict { expected: 100, provided: 99 });
    for (id, byte) in [(first, b'A'), (second, b'B')] {
        let wrong = fixture.take("/file", byte, named(id, 40, 100), Digests::default());
        assert_eq!(wrong, Err(UploadError::WrongOffset { expected: 50, provided: 40 }));
        assert_eq!(fixture.take("/file", byte, named(id, 50, 100), Digests::default()), Ok(id));
        assert_eq!(fixture.read("file").unwrap(), [byte; 100]);
        let again = fixture.take("/file", byte, named(id, 50, 100), Digests::default());
        assert_eq!(again, Err(UploadError::Completed));
    }
    fixture.assert_clean();
}

#[test]
fn the_digest_of_the_whole_is_a_proof_as_well() {
    let fixture = Fixture::new();
    let [a, b] = [b'A', b'B'].map(|byte| digests_of(&[byte; 100]));
    fixture.take("/file", b'A', part(0, 50), a).unwrap();
    fixture.take("/file", b'B', part(0, 30), b).unwrap();
    assert_eq!(fixture.plain("/file", b'A', 50, 100), UNPROVED);
    // A digest by one of two algorithms is enough, but not where the other differs.
    let one = Digests { crc32c: None, ..a };
    let mixed = Digests { crc32c: b.crc32c, ..a };
    let nobody = UploadError::WrongOffset { expected: 0, provided: 50 };
    assert_eq!(fixture.take("/file", b'A', part(50, 100), mixed), Err(nobody));
    let elsewhere = UploadError::WrongOffset { expected: 30, provided: 50 };
    assert_eq!(fixture.take("/file", b'B', part(50, 100), b), Err(elsewhere));
    fixture.take("/file", b'A', part(50, 100), one).unwrap();
    assert_eq!(fixture.read("file").unwrap(), [b'A'; 100]);
    fixture.take("/file", b'B', part(30, 100), b).unwrap();
    assert_eq!(fixture.read("file").unwrap(), [b'B'; 100]);
    fixture.assert_clean();
}

/// A client that knows nothing of the end of its own upload goes on as if nothing had happened.
#[test]
fn an_upload_that_ended_is_not_taken_for_one_that_began_after_it() {
    type End = fn(&Fixture);
    let ends: [(&str, End); 5] = [
        ("removed by its id", |fixture| {
            let id = fixture.plain("/file", b'A', 0, 50).unwrap();
            fixture.uploads.remove(&UploadResource::of_root(id)).unwrap();
        }),
        ("refused for its digest", |fixture| {
            let mut writer =
                fixture.uploads.take_part(&plan("/file", Some(LENGTH)), &part(0, 50), &limits()).unwrap();
            writer.hash(ALL);
            writer.write(&[b'A'; 50]).unwrap();
            writer.check_content(&digests_of(b"other")).unwrap_err();
        }),
        ("refused before it began", |fixture| {
            let none = UploadLimits { uploads_max: 0, ..limits() };
            let begun = fixture.uploads.take_part(&plan("/file", Some(LENGTH)), &part(0, 50), &none);
            assert_eq!(begun.unwrap_err(), UploadError::TooMany);
        }),
        ("published, and the answer lost", |fixture| {
            fixture.plain("/file", b'A', 0, 50).unwrap();
            fixture.plain("/file", b'A', 50, 100).unwrap();
            fixture.uploads.await_repeat(&name("/file"), LENGTH, 50);
        }),
        ("not the content that it should be", |fixture| {
            fixture.plain("/file", b'A', 0, 50).unwrap();
            let plan = plan("/file", Some(LENGTH));
            let mut writer = fixture.uploads.take_part(&plan, &part(50, 100), &limits()).unwrap();
            writer.write(&[b'A'; 50]).unwrap();
            let publication =
                Publication { digests: [digests_of(b"other"), Digests::default()], ..Publication::default() };
            writer.publish(&publication).unwrap_err();
        }),
    ];
    for (how, end) in ends {
        let fixture = Fixture::new();
        end(&fixture);
        let second = fixture.plain("/file", b'B', 0, 50).unwrap();
        assert_eq!(fixture.plain("/file", b'A', 50, 100), UNPROVED, "{how}");
        // From then on nobody goes on without proof, at any offset.
        assert_eq!(fixture.plain("/file", b'A', 49, 100), UNPROVED, "{how}");
        let named = Part { upload: Some(second), ..part(50, 100) };
        fixture.take("/file", b'B', named, Digests::default()).unwrap();
        assert_eq!(fixture.read("file").unwrap(), [b'B'; 100], "{how}");
    }
}

#[test]
fn a_client_that_is_alone_goes_on_without_proof() {
    let fixture = Fixture::new();
    // A client that got all its answers goes on.
    for _ in 0..3 {
        fixture.plain("/file", b'A', 0, 50).unwrap();
        fixture.plain("/file", b'A', 50, 80).unwrap();
        fixture.plain("/file", b'A', 80, 100).unwrap();
        let client = fixture.uploads.await_repeat(&name("/file"), LENGTH, 80);
        fixture.uploads.forget_repeat(client);
    }
    // A whole upload comes and goes beside it.
    fixture.plain("/file", b'A', 0, 80).unwrap();
    fixture.put("/file", &[b'B'; 100]).unwrap();
    fixture.plain("/file", b'A', 80, 100).unwrap();
    assert_eq!(fixture.read("file").unwrap(), [b'A'; 100]);
    fixture.assert_clean();
}

#[test]
fn one_file_has_one_place_by_whatever_name() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path.join("directory")).unwrap();
    std::os::unix::fs::symlink("directory", fixture.path.join("link")).unwrap();
    fixture.plain("/directory/file", b'A', 0, 50).unwrap();
    // An upload that is alone goes on by either name.
    fixture.plain("/link/file", b'A', 50, 60).unwrap();
    let second = fixture.plain("/link/file", b'B', 0, 60).unwrap();
    for path in ["/directory/file", "/link/file"] {
        assert_eq!(fixture.plain(path, b'A', 60, 100), UNPROVED, "{path}");
    }
    let named = Part { upload: Some(second), ..part(60, 100) };
    assert_eq!(fixture.take("/file", b'B', named, Digests::default()), Err(UploadError::Unknown));
    fixture.take("/directory/file", b'B', named, Digests::default()).unwrap();
    assert_eq!(fixture.read("directory/file").unwrap(), [b'B'; 100]);
}

#[test]
fn what_another_daemon_has_is_seen() {
    let fixture = Fixture::new();
    if !has_attributes(&fixture) {
        return;
    }
    let other = Uploads::open(Arc::clone(&fixture.root)).unwrap();
    let first = fixture.plain("/file", b'A', 0, 50).unwrap();
    let there = Fixture {
        uploads: other,
        path: fixture.path.clone(),
        root: Arc::clone(&fixture.root),
        _outer: tempfile::tempdir().unwrap(),
    };
    // The upload is alone, but lies on the other daemon.
    let nobody = UploadError::WrongOffset { expected: 0, provided: 50 };
    assert_eq!(there.plain("/file", b'A', 50, 100), Err(nobody));
    let second = there.plain("/file", b'B', 0, 50).unwrap();
    assert_eq!(there.plain("/file", b'A', 50, 100), UNPROVED);
    assert_eq!(fixture.plain("/file", b'A', 50, 100), UNPROVED);
    // With its id each upload goes on at either daemon.
    let named = |id| Part { upload: Some(id), ..part(50, 100) };
    there.take("/file", b'A', named(first), Digests::default()).unwrap();
    assert_eq!(fixture.read("file").unwrap(), [b'A'; 100]);
    fixture.take("/file", b'B', named(second), Digests::default()).unwrap();
    assert_eq!(fixture.read("file").unwrap(), [b'B'; 100]);
    assert_eq!(fixture.partials(), Vec::<String>::new());
}
