//! Limits and full disks.

use super::*;

#[test]
fn what_is_too_long_is_refused_at_once_or_when_it_gets_too_long() {
    let fixture = Fixture::new();
    let limits = UploadLimits { upload_bytes_max: 100, ..limits() };
    let refused = UploadError::TooLarge { limit: 100 };
    assert_eq!(fixture.uploads.begin(&plan("/file", Some(101)), &limits).unwrap_err(), refused);
    let mut writer = fixture.uploads.begin(&plan("/file", None), &limits).unwrap();
    writer.write(&[7; 100]).unwrap();
    assert_eq!(writer.write(&[7]).unwrap_err(), refused);
    writer.discard();
    let writer = fixture.uploads.create(&plan("/file", None), &limits).unwrap();
    let upload = writer.resource();
    drop(writer);
    assert_eq!(fixture.uploads.resume(&upload, 0, Some(101), &limits).unwrap_err(), refused);
    assert_eq!(fixture.uploads.status(&upload).unwrap().length, None);
}

#[test]
fn the_limit_of_the_process_counts_too() {
    let mut fixture = Fixture::new();
    Arc::get_mut(&mut fixture.uploads).unwrap().file_bytes_max = 10;
    let refused = UploadError::TooLarge { limit: 10 };
    assert_eq!(fixture.uploads.begin(&plan("/file", Some(11)), &limits()).unwrap_err(), refused);
    let mut writer = fixture.uploads.begin(&plan("/file", None), &limits()).unwrap();
    assert_eq!(writer.write(&[7; 11]).unwrap_err(), refused);
}

#[test]
fn the_reserve_stays_free() {
    let fixture = Fixture::new();
    fixture.put("/file", b"before").unwrap();
    let limits = UploadLimits { min_free_bytes: u64::MAX, ..limits() };
    for length in [None, Some(1), Some(1 << 20)] {
        assert_eq!(fixture.uploads.begin(&plan("/file", length), &limits).unwrap_err(), UploadError::NoSpace);
    }
    // The reserve was raised while an upload ran, of unknown length.
    let mut writer = fixture.uploads.begin(&plan("/file", None), &super::limits()).unwrap();
    writer.limits.min_free_bytes = u64::MAX;
    let block = vec![7; 1 << 20];
    let error = (0..9).find_map(|_| writer.write(&block).err()).unwrap();
    assert_eq!(error, UploadError::NoSpace);
    assert_eq!(writer.write(&block).unwrap_err(), UploadError::TakenOver);
    drop(writer);
    assert_eq!(fixture.read("file").unwrap(), b"before");
    fixture.assert_clean();
}

#[test]
fn so_many_resources_are_known_and_no_more() {
    let fixture = Fixture::new();
    let limits =
        UploadLimits { uploads_max: usize::MAX, uploads_per_destination_max: usize::MAX, ..limits() };
    for _ in 0..super::super::limits::PARTIALS_MAX {
        drop(fixture.uploads.create(&plan("/file", None), &limits).unwrap());
    }
    assert_eq!(fixture.uploads.create(&plan("/file", None), &limits).unwrap_err(), UploadError::TooMany);
    assert_eq!(fixture.partials().len(), super::super::limits::PARTIALS_MAX);
    // A plain PUT goes on all the same; only cut short it isn't kept.
    let mut writer = fixture.uploads.begin(&plan("/file", Some(2 * LONG as u64)), &limits).unwrap();
    writer.write(&pattern(LONG)).unwrap();
    assert!(!writer.keep().unwrap().is_resumable);
    fixture.put("/file", b"content").unwrap();
    fixture.uploads.sweep(Duration::ZERO);
    fixture.assert_clean();
}
