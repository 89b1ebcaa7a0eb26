//! Tests of which uploads get their name, and which don't.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::protocol::conditional::Validators;

#[test]
fn an_upload_is_created_or_replaced_and_leaves_nothing_else() {
    let fixture = Fixture::new();
    let generation = fixture.uploads.generation();
    let first = fixture.put("/file", b"content").unwrap();
    assert!(first.created);
    assert_eq!((first.size, first.digests), (7, Digests::default()));
    assert_eq!(fixture.read("file").unwrap(), b"content");
    assert_eq!(fixture.etag("/file").unwrap(), first.etag);
    let second = fixture.put("/file", b"CONTENT").unwrap();
    assert!(!second.created);
    assert_ne!(second.etag, first.etag, "of one length and one moment, but not of one content");
    assert_eq!(fixture.read("file").unwrap(), b"CONTENT");
    assert_eq!(fixture.uploads.generation(), generation + 2);
    assert!(fixture.put("/empty", b"").unwrap().created);
    assert_eq!(fixture.read("empty").unwrap(), b"");
    fixture.assert_clean();
}

#[test]
fn a_durable_upload_is_the_same_but_synced() {
    let fixture = Fixture::new();
    let limits = UploadLimits { is_durable: true, create_dirs: true, ..limits() };
    let content = pattern(20 << 20);
    let mut writer =
        fixture.uploads.begin(&plan("/new/directory/file", Some(content.len() as u64)), &limits).unwrap();
    content.chunks(256 << 10).for_each(|chunk| writer.write(chunk).unwrap());
    assert!(writer.publish(&Publication::default()).unwrap().created);
    assert!(fixture.read("new/directory/file").unwrap() == content);
    fixture.assert_clean();
}

#[test]
fn modes_are_those_of_the_umask_and_the_staging_directory_is_closed() {
    let fixture = Fixture::new();
    fixture.put("/file", b"content").unwrap();
    std::fs::write(fixture.path.join("other"), "").unwrap();
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(fixture.path.join("file")), mode(fixture.path.join("other")) & 0o644);
    assert_eq!(mode(fixture.staging()), 0o700);
    std::fs::set_permissions(fixture.staging(), std::fs::Permissions::from_mode(0o777)).unwrap();
    fixture.put("/file", b"content").unwrap();
    assert_eq!(mode(fixture.staging()), 0o700);
}

#[test]
fn a_reader_keeps_what_it_has_opened() {
    let fixture = Fixture::new();
    fixture.put("/file", b"before").unwrap();
    let mut reader = std::fs::File::open(fixture.path.join("file")).unwrap();
    fixture.put("/file", b"after it").unwrap();
    let mut content = String::new();
    reader.read_to_string(&mut content).unwrap();
    assert_eq!(content, "before");
    assert_eq!(fixture.read("file").unwrap(), b"after it");
}

#[test]
fn digests_are_verified_recorded_and_shown() {
    let outer = tempfile::tempdir().unwrap();
    let fixture = Fixture::tagging(EtagChoice::Digest, outer.path().to_owned(), outer);
    let digests = digests_of(b"content");
    let promised = Plan { digests, ..plan("/file", Some(7)) };
    let mut writer = fixture.uploads.begin(&promised, &limits()).unwrap();
    writer.write(b"content").unwrap();
    let published = writer.publish(&Publication::default()).unwrap();
    assert_eq!(published.digests, digests);
    assert!(published.etag.starts_with("\"sha256-"));
    assert_eq!(fixture.etag("/file").unwrap(), published.etag);
    assert_eq!(fixture.put("/plain", b"content").unwrap().etag, published.etag, "whoever wants it or not");
    // The digest is computed by the writer, or from the file where the writer wasn't told.
    for is_told in [true, false] {
        let mut writer = fixture.uploads.begin(&plan("/asked", None), &limits()).unwrap();
        if is_told {
            writer.hash(ALL);
        }
        writer.write(b"con").unwrap();
        writer.write(b"tent").unwrap();
        let publication = Publication { recorded: ALL, ..Publication::default() };
        assert_eq!(writer.publish(&publication).unwrap().digests, digests);
    }
}

#[test]
fn a_wrong_digest_leaves_the_file_that_was_there() {
    let fixture = Fixture::new();
    fixture.put("/file", b"before").unwrap();
    let generation = fixture.uploads.generation();
    let wrong = digests_of(b"other");
    let expected = Err(UploadError::DigestMismatch {
        algorithm: Algorithm::Sha256,
        computed: digests_of(b"content"),
        is_of_request: false,
    });
    let mut writer =
        fixture.uploads.begin(&Plan { digests: wrong, ..plan("/file", None) }, &limits()).unwrap();
    writer.write(b"content").unwrap();
    assert_eq!(writer.publish(&Publication::default()), expected);
    let publication = Publication { digests: [wrong, Digests::default()], ..Publication::default() };
    assert_eq!(fixture.put_if("/file", b"content", &publication), expected);
    assert_eq!(fixture.read("file").unwrap(), b"before");
    assert_eq!(fixture.uploads.generation(), generation);
    fixture.assert_clean();
}

#[test]
fn a_short_or_long_body_is_not_published() {
    let fixture = Fixture::new();
    let mut writer = fixture.uploads.begin(&plan("/file", Some(5)), &limits()).unwrap();
    writer.write(b"1234").unwrap();
    assert_eq!(writer.write(b"56"), Err(UploadError::LengthConflict { expected: 5, provided: 6 }));
    assert_eq!(
        writer.publish(&Publication::default()),
        Err(UploadError::Incomplete { received: 4, expected: 5 })
    );
    assert_eq!(fixture.read("file"), None);
    fixture.assert_clean();
}

#[test]
fn preconditions_are_asked_about_what_a_get_sees() {
    let fixture = Fixture::new();
    let etag = fixture.put("/file", b"first").unwrap().etag;
    symlink("file", fixture.path.join("link")).unwrap();
    symlink("nowhere", fixture.path.join("dangling")).unwrap();
    let seen = |path: &str| {
        let seen = std::cell::RefCell::new(None);
        let refuse = |validators: Option<&Validators>| {
            *seen.borrow_mut() = Some(validators.map(|validators| validators.etag.clone()));
            false
        };
        let publication = Publication { precondition: Some(&refuse), ..Publication::default() };
        let result = fixture.put_if(path, b"second", &publication);
        assert_eq!(result, Err(UploadError::PreconditionFailed));
        seen.into_inner().unwrap()
    };
    for path in ["/file", "/link"] {
        assert_eq!(seen(path).as_deref(), Some(etag.as_str()), "{path}");
    }
    for path in ["/dangling", "/absent"] {
        assert_eq!(seen(path), None, "{path}");
    }
    assert_eq!(fixture.read("file").unwrap(), b"first");
    fixture.assert_clean();
}

#[test]
fn a_new_name_is_given_only_where_nothing_has_it() {
    let fixture = Fixture::new();
    let publication = Publication { is_new: true, ..Publication::default() };
    assert!(fixture.put_if("/file", b"first", &publication).unwrap().created);
    symlink("nowhere", fixture.path.join("dangling")).unwrap();
    for path in ["/file", "/dangling"] {
        let result = fixture.put_if(path, b"second", &publication);
        assert_eq!(result, Err(UploadError::PreconditionFailed), "{path}");
    }
    // The file is made from outside between the look and the rename.
    let make = |_: Option<&Validators>| std::fs::write(fixture.path.join("late"), "outside").is_ok();
    let publication = Publication { precondition: Some(&make), ..publication };
    assert_eq!(fixture.put_if("/late", b"second", &publication), Err(UploadError::PreconditionFailed));
    assert_eq!(fixture.read("late").unwrap(), b"outside");
    assert_eq!(fixture.read("file").unwrap(), b"first");
    fixture.assert_clean();
}

#[test]
fn a_link_is_replaced_and_what_it_leads_to_stays() {
    let fixture = Fixture::new();
    let outside = fixture.path.parent().unwrap().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    symlink("../outside", fixture.path.join("link")).unwrap();
    assert!(!fixture.put("/link", b"content").unwrap().created);
    assert_eq!(fixture.read("link").unwrap(), b"content");
    assert!(!fixture.path.join("link").is_symlink());
    assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
}

#[test]
fn nothing_is_written_outside_the_root() {
    let fixture = Fixture::new();
    let outside = fixture.path.parent().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink("../outside", fixture.path.join("leaving")).unwrap();
    symlink("/tmp", fixture.path.join("absolute")).unwrap();
    symlink("../later", fixture.path.join("dangling")).unwrap();
    let limits = UploadLimits { create_dirs: true, ..limits() };
    for path in
        ["/leaving/file", "/leaving/new/file", "/absolute/file", "/dangling/file", "/dangling/new/file"]
    {
        let error = fixture.uploads.begin(&plan(path, None), &limits).unwrap_err();
        assert_eq!(error, UploadError::ParentMissing, "{path}");
        assert_eq!(fixture.uploads.delete(&name(path), None, &limits), Err(UploadError::NotFound), "{path}");
    }
    assert!(names(&outside).is_empty());
    assert!(!fixture.path.parent().unwrap().join("later").exists());
    // A link that stays beneath the root is followed.
    std::fs::create_dir(fixture.path.join("inside")).unwrap();
    symlink("inside", fixture.path.join("staying")).unwrap();
    fixture.put("/staying/file", b"content").unwrap();
    assert_eq!(fixture.read("inside/file").unwrap(), b"content");
}

#[test]
fn reserved_names_are_refused() {
    let fixture = Fixture::new();
    symlink(".streamd-uploads", fixture.path.join("link")).unwrap();
    let limits = UploadLimits { create_dirs: true, ..limits() };
    for path in [
        "/.streamd-uploads",
        "/.streamd-uploads/x",
        "/a/.streamd-uploads/x",
        "/.Streamd-Uploads/x",
        "/link/x",
    ] {
        // A link into the staging directory leads nowhere, as one that leads outside.
        let error = if path == "/link/x" { UploadError::ParentMissing } else { UploadError::NotFound };
        assert_eq!(fixture.uploads.begin(&plan(path, None), &limits).unwrap_err(), error, "{path}");
        let deleted = fixture.uploads.delete(&name(path), None, &limits);
        assert!(
            matches!(deleted, Err(UploadError::NotFound | UploadError::ParentMissing)),
            "{path}: {deleted:?}"
        );
    }
    fixture.assert_clean();
}

#[test]
fn names_that_no_file_can_have_are_told_before_the_body() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path.join("directory")).unwrap();
    fixture.put("/file", b"content").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, fixture.path.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let long = format!("/{}", "x".repeat(256));
    for (path, error) in [
        ("/directory", UploadError::NotAFile),
        ("/directory/", UploadError::NotAFile),
        ("/new/", UploadError::NotAFile),
        ("/", UploadError::NotAFile),
        ("/fifo", UploadError::NotAFile),
        ("/absent/file", UploadError::ParentMissing),
        ("/file/below", UploadError::ParentMissing),
        (&long, UploadError::NameTooLong),
    ] {
        assert_eq!(fixture.uploads.begin(&plan(path, None), &limits()).unwrap_err(), error, "{path}");
    }
    fixture.assert_clean();
}

#[test]
fn a_directory_that_may_not_be_written_is_told_before_the_body() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may write everywhere");
        return;
    }
    let fixture = Fixture::new();
    let directory = fixture.path.join("closed");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(
        fixture.uploads.begin(&plan("/closed/file", None), &limits()).unwrap_err(),
        UploadError::Denied
    );
    fixture.assert_clean();
}

#[test]
fn missing_directories_are_created_where_that_is_wanted() {
    let fixture = Fixture::new();
    let limits = UploadLimits { create_dirs: true, ..limits() };
    let mut writer = fixture.uploads.begin(&plan("/a/b/c/file", Some(1)), &limits).unwrap();
    writer.write(b"x").unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_eq!(fixture.read("a/b/c/file").unwrap(), b"x");
    let deep = "/d".repeat(super::super::limits::CREATED_DIRECTORIES_MAX + 1);
    let error = fixture.uploads.begin(&plan(&format!("{deep}/file"), None), &limits).unwrap_err();
    assert_eq!(error, UploadError::ParentMissing);
}

#[test]
fn a_directory_that_goes_away_is_not_written_to_elsewhere() {
    let fixture = Fixture::new();
    let directory = fixture.path.join("directory");
    std::fs::create_dir(&directory).unwrap();
    // The directory was removed: there is nothing to publish into.
    let mut writer = fixture.uploads.begin(&plan("/directory/file", None), &limits()).unwrap();
    writer.write(b"content").unwrap();
    std::fs::remove_dir(&directory).unwrap();
    assert_eq!(writer.publish(&Publication::default()), Err(UploadError::ParentMissing));
    // The directory was replaced by a link that leaves the root: the one that was resolved gets the file.
    std::fs::create_dir(&directory).unwrap();
    let mut writer = fixture.uploads.begin(&plan("/directory/file", None), &limits()).unwrap();
    writer.write(b"content").unwrap();
    std::fs::rename(&directory, fixture.path.join("moved")).unwrap();
    symlink("..", &directory).unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_eq!(fixture.read("moved/file").unwrap(), b"content");
    assert!(!fixture.path.parent().unwrap().join("file").exists());
    fixture.assert_clean();
}

#[test]
fn a_file_is_deleted_if_it_is_the_one_that_was_meant() {
    let fixture = Fixture::new();
    let etag = fixture.put("/file", b"content").unwrap().etag;
    std::fs::create_dir(fixture.path.join("directory")).unwrap();
    symlink("file", fixture.path.join("link")).unwrap();
    let delete = |path: &str| fixture.uploads.delete(&name(path), None, &limits());
    assert_eq!(delete("/directory"), Err(UploadError::NotAFile));
    assert_eq!(delete("/directory/"), Err(UploadError::NotAFile));
    assert_eq!(delete("/absent"), Err(UploadError::NotFound));
    assert_eq!(delete("/absent/file"), Err(UploadError::NotFound));
    assert_eq!(delete("/link"), Ok(()));
    let generation = fixture.uploads.generation();
    let is_it =
        |validators: Option<&Validators>| validators.is_some_and(|validators| validators.etag == etag);
    let is_other = |validators: Option<&Validators>| !is_it(validators);
    let refused = fixture.uploads.delete(&name("/file"), Some(&is_other), &limits());
    assert_eq!(refused, Err(UploadError::PreconditionFailed));
    assert_eq!(fixture.uploads.generation(), generation);
    assert_eq!(fixture.uploads.delete(&name("/file"), Some(&is_it), &limits()), Ok(()));
    assert_eq!(fixture.uploads.generation(), generation + 1);
    assert_eq!(fixture.read("file"), None);
}

#[test]
fn blocks_are_allocated_ahead_and_given_back() {
    let fixture = Fixture::new();
    let total = 64 << 20;
    let plan = plan("/file", Some(total));
    let mut writer = fixture.uploads.resume_destination(&plan, 0, &limits()).unwrap();
    writer.write(&pattern(LONG)).unwrap();
    let file = fixture.staging().join(writer.id().to_string());
    let blocks = |path: &PathBuf| path.metadata().unwrap().blocks() * 512;
    if blocks(&file) < total {
        println!("skipped: no allocation ahead on this file system");
        return;
    }
    assert_eq!(file.metadata().unwrap().len(), LONG as u64);
    writer.keep().unwrap();
    assert!(blocks(&file) < 2 * LONG as u64);
}
