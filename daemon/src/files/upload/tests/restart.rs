//! Tests of the uploads that a daemon finds when it starts anew, and of those that a sweep removes.

use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use proptest::prelude::*;

use super::super::metadata::Metadata;
use super::*;

/// Sets the file's modification time a day back.
fn make_old(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
}

#[test]
fn uploads_are_continued_after_a_restart() {
    let mut fixture = Fixture::new();
    if !has_attributes(&fixture) {
        return;
    }
    let content = pattern(2 * LONG);
    let total = Some(content.len() as u64);
    // The three uploads are a plain PUT that is killed, one that was told its offset, and a resource.
    let mut whole = fixture.uploads.begin(&plan("/whole", total), &limits()).unwrap();
    whole.write(&content[..LONG]).unwrap();
    whole.crash();
    fixture.cut_short("/ranged", &content[..10], content.len());
    let promised =
        Plan { digests: digests_of(&content), note: "note".to_owned(), ..plan("/resource", total) };
    let mut resource = fixture.uploads.create(&promised, &limits()).unwrap();
    let upload = resource.resource();
    resource.write(&content[..20]).unwrap();
    resource.crash();
    fixture.restart();
    assert_eq!(fixture.counts(), (0, 3));
    for (path, offset) in [("/whole", LONG), ("/ranged", 10)] {
        let mut writer =
            fixture.uploads.resume_destination(&plan(path, total), offset as u64, &limits()).unwrap();
        writer.write(&content[offset..]).unwrap();
        writer.publish(&Publication::default()).unwrap();
        assert!(fixture.read(&path[1..]).unwrap() == content, "{path}");
    }
    let mut writer = fixture.uploads.resume(&upload, 20, None, &limits()).unwrap();
    assert_eq!((writer.length(), writer.note()), (total, "note"));
    writer.write(&content[20..]).unwrap();
    assert_eq!(writer.publish(&Publication::default()).unwrap().digests, digests_of(&content));
    fixture.assert_clean();
}

#[test]
fn blocks_allocated_ahead_are_given_back_after_a_kill() {
    let mut fixture = Fixture::new();
    if !has_attributes(&fixture) {
        return;
    }
    let mut writer = fixture.uploads.create(&plan("/file", Some(64 << 20)), &limits()).unwrap();
    let file = fixture.staging().join(writer.id().to_string());
    writer.write(&pattern(LONG)).unwrap();
    writer.crash();
    make_old(&file);
    fixture.restart();
    assert!(file.metadata().unwrap().blocks() * 512 < 2 * LONG as u64);
    assert!(file.metadata().unwrap().modified().unwrap().elapsed().unwrap() > Duration::from_secs(80_000));
}

#[test]
fn another_boot_trusts_only_what_was_synced() {
    let mut fixture = Fixture::new();
    if !has_attributes(&fixture) {
        return;
    }
    let durable = UploadLimits { is_durable: true, ..limits() };
    let mut writer = fixture.uploads.create(&plan("/file", Some(10)), &durable).unwrap();
    let upload = writer.resource();
    writer.write(b"12345").unwrap();
    writer.keep().unwrap();
    let mut writer = fixture.uploads.resume(&upload, 5, None, &durable).unwrap();
    writer.write(b"678").unwrap();
    writer.crash();
    fixture.cut_short("/unsynced", b"12345", 10);
    for name in fixture.partials() {
        let file = std::fs::File::open(fixture.staging().join(name)).unwrap();
        let about = Metadata::load(&file).unwrap();
        Metadata { boot: "another".to_owned(), ..about }.store(&file).unwrap();
    }
    fixture.restart();
    assert_eq!(fixture.uploads.status(&upload).unwrap().offset, 5);
    assert_eq!(fixture.uploads.usage().partials, 1, "nothing of the other can be trusted");
    let mut writer = fixture.uploads.resume(&upload, 5, None, &limits()).unwrap();
    writer.write(b"67890").unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_eq!(fixture.read("file").unwrap(), b"1234567890");
}

#[test]
fn a_second_daemon_leaves_the_first_ones_uploads_alone() {
    let fixture = Fixture::new();
    if !has_attributes(&fixture) {
        return;
    }
    let mut writer = fixture.uploads.create(&plan("/file", None), &limits()).unwrap();
    let upload = writer.resource();
    writer.write(b"12345").unwrap();
    let second = Uploads::open(Arc::clone(&fixture.root)).unwrap();
    assert_eq!(second.status(&upload), Err(UploadError::NotFound));
    make_old(&fixture.staging().join(upload.id.to_string()));
    assert_eq!(second.sweep(Duration::ZERO).partials, 0);
    drop(writer);
    // Both daemons know the upload now; one has it at a time.
    let second = Uploads::open(Arc::clone(&fixture.root)).unwrap();
    let mut writer = second.resume(&upload, 5, None, &limits()).unwrap();
    assert_eq!(fixture.uploads.resume(&upload, 5, None, &limits()).unwrap_err(), UploadError::Busy);
    writer.write(b"678").unwrap();
    drop(writer);
    let error = fixture.uploads.resume(&upload, 5, None, &limits()).unwrap_err();
    assert_eq!(error, UploadError::WrongOffset { expected: 8, provided: 5 });
    let writer = fixture.uploads.resume(&upload, 8, None, &limits()).unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_eq!(second.resume(&upload, 8, None, &limits()).unwrap_err(), UploadError::NotFound);
    assert_eq!(fixture.read("file").unwrap(), b"12345678");
}

/// A process that was forked has all open files until it executes another program; under load that takes a while.
#[test]
fn a_fork_keeps_no_upload_from_another_daemon() {
    let fixture = Fixture::new();
    if !has_attributes(&fixture) {
        return;
    }
    let mut writer = fixture.uploads.create(&plan("/file", None), &limits()).unwrap();
    let upload = writer.resource();
    writer.write(b"12345").unwrap();
    let path = fixture.staging().join(upload.id.to_string());
    let open = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let own = open.filter(|entry| std::fs::read_link(entry).is_ok_and(|to| to == path));
    // A duplicate is what a fork has.
    let forked: Vec<_> = own
        .map(|entry| {
            let number: i32 = entry.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let pid = rustix::process::getpid();
            let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            let flags = rustix::process::PidfdGetfdFlags::empty();
            rustix::process::pidfd_getfd(process, number, flags).unwrap()
        })
        .collect();
    assert!(!forked.is_empty());
    drop(writer);
    let second = Uploads::open(Arc::clone(&fixture.root)).unwrap();
    second.resume(&upload, 5, None, &limits()).unwrap();
    drop(forked);
}

#[test]
fn a_sweep_removes_what_is_too_old_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.cut_short("/old", b"12345", 10);
    let active = fixture.uploads.create(&plan("/active", None), &limits()).unwrap();
    let staging = fixture.staging();
    let unknown = |digit: &str| staging.join(digit.repeat(32));
    for digit in ["0", "1"] {
        std::fs::write(unknown(digit), "left behind").unwrap();
    }
    make_old(&unknown("0"));
    std::fs::write(staging.join("notes"), "not the daemon's").unwrap();
    make_old(&staging.join("notes"));
    assert_eq!(fixture.uploads.sweep(Duration::from_secs(60)).partials, 1);
    assert!(!unknown("0").exists() && unknown("1").exists() && staging.join("notes").exists());
    let swept = fixture.uploads.sweep(Duration::ZERO);
    assert_eq!((swept.partials, swept.bytes, swept.is_partway), (1, 5, false));
    assert_eq!(fixture.counts(), (1, 1));
    drop(active);
    assert_eq!(fixture.uploads.sweep(Duration::ZERO).partials, 1);
    assert_eq!(fixture.partials(), ["1".repeat(32), "notes".to_owned()]);
}

#[test]
fn a_staging_directory_that_is_no_directory_or_removed_is_told_or_made_anew() {
    let fixture = Fixture::new();
    std::fs::remove_dir_all(fixture.staging()).unwrap();
    fixture.put("/file", b"content").unwrap();
    std::fs::remove_dir_all(fixture.staging()).unwrap();
    std::os::unix::fs::symlink("/tmp", fixture.staging()).unwrap();
    assert!(matches!(fixture.put("/file", b"content"), Err(UploadError::Failed { .. })));
    assert!(matches!(Uploads::open(Arc::clone(&fixture.root)), Err(UploadError::Failed { .. })));
    std::fs::remove_file(fixture.staging()).unwrap();
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir(fixture.staging()).unwrap();
        std::os::unix::fs::chown(fixture.staging(), Some(12_345), None).unwrap();
        let error = Uploads::open(Arc::clone(&fixture.root)).unwrap_err().to_string();
        assert!(error.contains("belongs to another user"), "{error}");
    }
}

/// A step in the life of an upload.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Keep,
    TakeOver,
    /// A wrong digest, with that many bytes of its part.
    Mismatch(usize),
    Kill,
    WrongOffset(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5000_usize).prop_map(Step::Write),
        1 => Just(Step::Keep),
        1 => Just(Step::TakeOver),
        1 => (1..2000_usize).prop_map(Step::Mismatch),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::WrongOffset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_on_the_way_the_bytes_are_the_same(
        steps in proptest::collection::vec(step(), 1..30),
        is_durable: bool,
    ) {
        let mut fixture = Fixture::new();
        let can_restart = has_attributes(&fixture);
        let limits = UploadLimits { is_durable, ..impatient() };
        let mut content = Vec::new();
        let mut writer = fixture.uploads.create(&plan("/file", None), &limits).unwrap();
        let upload = writer.resource();
        for step in steps {
            let offset = content.len() as u64;
            prop_assert_eq!(writer.offset(), offset);
            match step {
                Step::Write(count) => {
                    let bytes = &pattern(content.len() + count)[content.len()..];
                    writer.write(bytes).unwrap();
                    content.extend_from_slice(bytes);
                }
                Step::Keep => {
                    writer.keep().unwrap();
                    writer = fixture.uploads.resume(&upload, offset, None, &limits).unwrap();
                }
                Step::TakeOver => {
                    let former = std::mem::replace(
                        &mut writer,
                        fixture.uploads.resume(&upload, offset, None, &limits).unwrap(),
                    );
                    drop(former);
                }
                Step::Mismatch(count) => {
                    let mut part = fixture.uploads.resume(&upload, offset, None, &limits).unwrap();
                    part.hash(ALL);
                    part.write(&vec![7; count]).unwrap();
                    part.check_content(&digests_of(b"")).unwrap_err();
                    writer = part;
                }
                Step::Kill if can_restart => {
                    writer.crash();
                    fixture.restart();
                    writer = fixture.uploads.resume(&upload, offset, None, &limits).unwrap();
                }
                Step::Kill => {}
                Step::WrongOffset(provided) => if provided != offset {
                    let error = fixture.uploads.resume(&upload, provided, None, &limits).unwrap_err();
                    prop_assert_eq!(error, UploadError::WrongOffset { expected: offset, provided });
                }
            }
        }
        let publication = Publication { digests: [digests_of(&content), Digests::default()], ..Publication::default() };
        let published = writer.publish(&publication).unwrap();
        prop_assert_eq!(published.size, content.len() as u64);
        prop_assert_eq!(fixture.read("file").unwrap(), content);
        fixture.assert_clean();
    }
}
