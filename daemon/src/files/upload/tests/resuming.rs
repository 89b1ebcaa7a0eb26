//! Tests of uploads that are cut short and continued.

use super::*;

#[test]
fn an_upload_is_continued_by_its_destination() {
    let fixture = Fixture::new();
    let content = pattern(1000);
    let plan = plan("/file", Some(1000));
    assert_eq!(fixture.cut_short("/file", &content[..300], 1000), Kept { offset: 300, is_resumable: true });
    let wrong = fixture.uploads.resume_destination(&plan, 200, &limits()).unwrap_err();
    assert_eq!(wrong, UploadError::WrongOffset { expected: 300, provided: 200 });
    let mut writer = fixture.uploads.resume_destination(&plan, 300, &limits()).unwrap();
    assert_eq!(writer.offset(), 300);
    writer.write(&content[300..]).unwrap();
    assert_eq!(fixture.read("file"), None);
    let publication =
        Publication { digests: [digests_of(&content), Digests::default()], ..Publication::default() };
    assert!(writer.publish(&publication).unwrap().created);
    assert_eq!(fixture.read("file").unwrap(), content);
    fixture.assert_clean();
}

#[test]
fn only_an_upload_of_the_same_length_is_continued() {
    let fixture = Fixture::new();
    fixture.cut_short("/file", b"12345", 10);
    let error = fixture.uploads.resume_destination(&plan("/file", Some(11)), 5, &limits()).unwrap_err();
    assert_eq!(error, UploadError::WrongOffset { expected: 0, provided: 5 });
    let error = fixture.uploads.resume_destination(&plan("/other", Some(10)), 5, &limits()).unwrap_err();
    assert_eq!(error, UploadError::WrongOffset { expected: 0, provided: 5 });
}

#[test]
fn offset_0_starts_anew() {
    let fixture = Fixture::new();
    fixture.cut_short("/file", b"12345", 10);
    let first = fixture.uploads.partials.index.all()[0].id;
    fixture.cut_short("/file", b"abc", 10);
    // The first upload's client can still continue it.
    assert_eq!(fixture.partials().len(), 2);
    let plan = plan("/file", Some(10));
    for offset in [3, 5, 4] {
        let error = fixture.uploads.resume_destination(&plan, offset, &limits()).unwrap_err();
        assert_eq!(error, UploadError::Unproved, "{offset}");
    }
    let second = fixture
        .uploads
        .partials
        .index
        .all()
        .iter()
        .map(|partial| partial.id)
        .find(|id| *id != first)
        .unwrap();
    for (id, offset, rest, content) in
        [(second, 3, &b"defghij"[..], b"abcdefghij"), (first, 5, &b"67890"[..], b"1234567890")]
    {
        let mut writer = fixture.uploads.resume_named(&plan, offset, id, &limits()).unwrap();
        writer.write(rest).unwrap();
        writer.publish(&Publication::default()).unwrap();
        assert_eq!(fixture.read("file").unwrap(), content);
    }
    // A client that begins anew gives up its own upload.
    fixture.cut_short("/file", b"12345", 10);
    let id = fixture.uploads.partials.index.all()[0].id;
    let mut writer = fixture.uploads.resume_named(&plan, 0, id, &limits()).unwrap();
    assert_ne!(writer.id(), id);
    assert_eq!(fixture.partials(), [writer.id().to_string()]);
    writer.write(b"abc").unwrap();
    drop(writer);
    let mut writer = fixture.uploads.resume_destination(&plan, 3, &limits()).unwrap();
    writer.write(b"defghij").unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_eq!(fixture.read("file").unwrap(), b"abcdefghij");
    fixture.assert_clean();
}

#[test]
fn a_plain_put_is_kept_if_it_is_long_and_its_length_known() {
    let fixture = Fixture::new();
    let content = pattern(LONG);
    for (length, sent, is_resumable) in [
        (Some(2 * LONG as u64), LONG, true),
        (Some(2 * LONG as u64), 1000, false),
        (Some(2 * LONG as u64), 0, false),
        (None, LONG, false),
    ] {
        let mut writer = fixture.uploads.begin(&plan("/file", length), &limits()).unwrap();
        writer.write(&content[..sent]).unwrap();
        assert_eq!(
            writer.keep().unwrap(),
            Kept { offset: sent as u64, is_resumable },
            "{sent} of {length:?}"
        );
    }
    assert_eq!(fixture.partials().len(), 1);
    let plan = plan("/file", Some(2 * LONG as u64));
    // Clients may go on with uploads that weren't kept, not knowing that.
    let error = fixture.uploads.resume_destination(&plan, LONG as u64, &limits()).unwrap_err();
    assert_eq!(error, UploadError::Unproved);
    let id = fixture.uploads.partials.index.all()[0].id;
    let mut writer = fixture.uploads.resume_named(&plan, LONG as u64, id, &limits()).unwrap();
    writer.write(&content).unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert!(fixture.read("file").unwrap() == [content.clone(), content].concat());
    fixture.assert_clean();
}

#[test]
fn a_dropped_writer_keeps_and_a_discarded_one_does_not() {
    let fixture = Fixture::new();
    let resource = || fixture.uploads.create(&plan("/file", None), &limits()).unwrap();
    let dropped = resource();
    let upload = dropped.resource();
    drop(dropped);
    assert_eq!(
        fixture.uploads.status(&upload),
        Ok(PartialStatus { offset: 0, length: None, complete: false })
    );
    let discarded = resource();
    let gone = discarded.resource();
    discarded.discard();
    assert_eq!(fixture.uploads.status(&gone), Err(UploadError::NotFound));
    assert_eq!(fixture.counts(), (0, 1));
}

#[test]
fn a_resource_is_continued_by_its_id_and_remembered_when_complete() {
    let fixture = Fixture::new();
    let content = pattern(500);
    let promised =
        Plan { digests: digests_of(&content), note: "condition".to_owned(), ..plan("/file", None) };
    let mut writer = fixture.uploads.create(&promised, &limits()).unwrap();
    let upload = writer.resource();
    writer.write(&content[..100]).unwrap();
    assert_eq!(writer.keep().unwrap(), Kept { offset: 100, is_resumable: true });
    // A range that names the destination doesn't continue the resource.
    let error = fixture.uploads.resume_destination(&plan("/file", None), 100, &limits()).unwrap_err();
    assert_eq!(error, UploadError::WrongOffset { expected: 0, provided: 100 });
    let error = fixture.uploads.resume(&upload, 100, Some(99), &limits()).unwrap_err();
    assert_eq!(error, UploadError::LengthConflict { expected: 100, provided: 99 });
    let mut writer = fixture.uploads.resume(&upload, 100, Some(500), &limits()).unwrap();
    assert_eq!((writer.length(), writer.note()), (Some(500), "condition"));
    writer.write(&content[100..]).unwrap();
    drop(writer);
    let error = fixture.uploads.resume(&upload, 500, Some(600), &limits()).unwrap_err();
    assert_eq!(error, UploadError::LengthConflict { expected: 500, provided: 600 });
    // Every byte has come, and only the answer was lost.
    let writer = fixture.uploads.resume(&upload, 500, Some(500), &limits()).unwrap();
    assert_eq!(writer.publish(&Publication::default()).unwrap().digests, digests_of(&content));
    assert_eq!(fixture.read("file").unwrap(), content);
    let complete = PartialStatus { offset: 500, length: Some(500), complete: true };
    assert_eq!(fixture.uploads.status(&upload), Ok(complete));
    assert_eq!(fixture.uploads.resume(&upload, 500, None, &limits()).unwrap_err(), UploadError::Completed);
    assert_eq!(fixture.uploads.remove(&upload), Ok(()));
    assert_eq!(fixture.uploads.status(&upload), Err(UploadError::NotFound));
    assert_eq!(fixture.read("file").unwrap(), content);
    fixture.assert_clean();
}

#[test]
fn an_upload_lies_in_the_staging_directory_that_is_named_or_is_not_there() {
    let fixture = Fixture::new();
    let writer = fixture.uploads.create(&plan("/file", Some(1)), &limits()).unwrap();
    let upload = writer.resource();
    assert_eq!(upload, UploadResource::of_root(writer.id()));
    assert_eq!(name(&upload.path_below("/")).upload_resource().as_ref(), Some(&upload));
    let elsewhere = UploadResource::beside(b"a", upload.id);
    let assert_absent = || {
        assert_eq!(fixture.uploads.status(&elsewhere), Err(UploadError::NotFound));
        assert_eq!(fixture.uploads.remove(&elsewhere), Err(UploadError::NotFound));
        let error = fixture.uploads.resume(&elsewhere, 0, None, &limits()).unwrap_err();
        assert_eq!(error, UploadError::NotFound);
    };
    assert_absent();
    drop(writer);
    assert_absent();
    let mut writer = fixture.uploads.resume(&upload, 0, None, &limits()).unwrap();
    writer.write(b"1").unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_absent();
    assert!(fixture.uploads.status(&upload).unwrap().complete);
    let other = fixture.uploads.create(&plan("/file", None), &limits()).unwrap();
    assert_ne!(other.id(), upload.id);
}

#[test]
fn a_writer_that_makes_progress_is_not_disturbed() {
    let fixture = Fixture::new();
    let plan = plan("/file", Some(10));
    let mut first = fixture.uploads.resume_destination(&plan, 0, &limits()).unwrap();
    first.write(b"12345").unwrap();
    for offset in [3, 5, 0] {
        let error = fixture.uploads.resume_destination(&plan, offset, &limits()).unwrap_err();
        assert_eq!(error, UploadError::Busy, "{offset}");
    }
    // A client that was told so may go on all the same.
    let error = fixture.uploads.resume_destination(&plan, 5, &limits()).unwrap_err();
    assert_eq!(error, UploadError::Unproved);
    let error = fixture.uploads.resume_named(&plan, 5, first.id(), &limits()).unwrap_err();
    assert_eq!(error, UploadError::Busy);
    assert_eq!(fixture.uploads.resume(&first.resource(), 5, None, &limits()).unwrap_err(), UploadError::Busy);
    first.write(b"67890").unwrap();
    first.publish(&Publication::default()).unwrap();
    assert_eq!(fixture.read("file").unwrap(), b"1234567890");
}

#[test]
fn a_stalled_writer_is_taken_over_and_can_do_no_more() {
    let fixture = Fixture::new();
    let plan = plan("/file", Some(10));
    let stalled = || {
        let mut writer = fixture.uploads.resume_destination(&plan, 0, &limits()).unwrap();
        writer.write(b"12345").unwrap();
        writer
    };
    let take = || fixture.uploads.resume_destination(&plan, 5, &impatient()).unwrap();
    let wrong = |offset| fixture.uploads.resume_destination(&plan, offset, &impatient()).unwrap_err();
    let mut first = stalled();
    assert_eq!(wrong(4), UploadError::WrongOffset { expected: 5, provided: 4 });
    first.write(b"").unwrap();
    let mut second = take();
    assert_eq!(fixture.counts(), (1, 1));
    assert_eq!(first.write(b"xxxxx"), Err(UploadError::TakenOver));
    assert_eq!(first.check_content(&digests_of(b"")), Err(UploadError::TakenOver));
    assert_eq!(first.keep(), Err(UploadError::TakenOver));
    second.write(b"678").unwrap();
    drop(second);
    fixture.uploads.remove(&fixture.uploads.partials.index.all()[0].resource()).unwrap();
    // However the first writer ends, the second goes on.
    for end in [Writer::discard as fn(Writer), drop, |first| {
        assert_eq!(first.publish(&Publication::default()), Err(UploadError::TakenOver));
    }] {
        let first = stalled();
        let mut second = take();
        end(first);
        second.write(b"67890").unwrap();
        second.publish(&Publication::default()).unwrap();
        assert_eq!(fixture.read("file").unwrap(), b"1234567890");
        fixture.assert_clean();
    }
}

#[test]
fn a_slow_sender_is_not_a_stalled_one() {
    let fixture = Fixture::new();
    let limits = UploadLimits { stall: Duration::from_millis(20), ..limits() };
    let first = fixture.uploads.create(&plan("/file", None), &limits).unwrap();
    let take = || fixture.uploads.resume(&first.resource(), 0, None, &limits);
    let end = std::time::Instant::now() + Duration::from_millis(60);
    while std::time::Instant::now() < end {
        let since = std::time::Instant::now();
        first.touch().unwrap();
        let taken = take();
        // On a busy host the moment may be over.
        assert!(taken.is_err() || since.elapsed() >= limits.stall);
        if taken.is_ok() {
            return;
        }
    }
    let second = loop {
        match take() {
            Ok(second) => break second,
            Err(error) => assert_eq!(error, UploadError::Busy),
        }
    };
    assert_eq!(first.touch(), Err(UploadError::TakenOver));
    drop(second);
}

#[test]
fn a_stalled_plain_put_is_continued_by_its_destination() {
    let fixture = Fixture::new();
    let plan = plan("/file", Some(10));
    let mut whole = fixture.uploads.begin(&plan, &limits()).unwrap();
    whole.write(b"12345").unwrap();
    // A new upload leaves it alone.
    fixture.uploads.resume_destination(&plan, 0, &impatient()).unwrap().discard();
    let error = fixture.uploads.resume_destination(&plan, 5, &impatient()).unwrap_err();
    assert_eq!(error, UploadError::Unproved, "two have begun");
    let mut writer = fixture.uploads.resume_named(&plan, 5, whole.id(), &impatient()).unwrap();
    assert_eq!(whole.write(b"6"), Err(UploadError::TakenOver));
    writer.write(b"67").unwrap();
    assert_eq!(
        writer.keep().unwrap(),
        Kept { offset: 7, is_resumable: true },
        "short, but its sender was told"
    );
}

#[test]
fn an_upload_is_removed_under_its_writer() {
    let fixture = Fixture::new();
    let mut writer = fixture.uploads.create(&plan("/file", None), &limits()).unwrap();
    writer.write(b"12345").unwrap();
    fixture.uploads.remove(&writer.resource()).unwrap();
    assert_eq!(writer.write(b"6"), Err(UploadError::TakenOver));
    assert_eq!(fixture.uploads.remove(&writer.resource()), Err(UploadError::NotFound));
    assert_eq!(writer.publish(&Publication::default()), Err(UploadError::TakenOver));
    fixture.assert_clean();
}

#[test]
fn a_part_with_the_wrong_digest_is_taken_back() {
    let fixture = Fixture::new();
    let plan = plan("/file", Some(10));
    fixture.cut_short("/file", b"12345", 10);
    let mut writer = fixture.uploads.resume_destination(&plan, 5, &limits()).unwrap();
    writer.hash(ALL);
    writer.write(b"67x").unwrap();
    assert_eq!(writer.check_content(&digests_of(b"67x")), Ok(()));
    let error = writer.check_content(&digests_of(b"678")).unwrap_err();
    assert!(matches!(error, UploadError::DigestMismatch { .. }));
    assert_eq!(writer.offset(), 5);
    writer.write(b"67").unwrap();
    assert_eq!(writer.check_content(&digests_of(b"67")), Ok(()));
    writer.write(b"890").unwrap();
    writer.publish(&Publication::default()).unwrap();
    assert_eq!(fixture.read("file").unwrap(), b"1234567890");
}

#[test]
fn so_many_wait_for_one_destination_and_no_more() {
    let fixture = Fixture::new();
    let limits = UploadLimits { uploads_per_destination_max: 2, ..limits() };
    let mut uploads = Vec::new();
    for _ in 0..4 {
        let mut writer = fixture.uploads.begin(&plan("/file", Some(2 * LONG as u64)), &limits).unwrap();
        uploads.push(writer.resource());
        writer.write(&pattern(LONG)).unwrap();
        writer.keep().unwrap();
    }
    let there: Vec<_> = uploads.iter().filter(|upload| fixture.uploads.status(upload).is_ok()).collect();
    assert_eq!(there, [&uploads[2], &uploads[3]]);
    assert_eq!(fixture.partials().len(), 2);
}
