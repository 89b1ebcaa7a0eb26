//! Limits and full disks.

use super::super::super::free_space::Shortage;
use super::super::limits::AHEAD_FACTOR;
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
    let refused = UploadError::NoSpace(Shortage::ReservedBytes);
    for length in [None, Some(1), Some(1 << 20)] {
        assert_eq!(fixture.uploads.begin(&plan("/file", length), &limits).unwrap_err(), refused);
    }
    // The reserve was raised while an upload ran, of unknown length.
    let mut writer = fixture.uploads.begin(&plan("/file", None), &super::limits()).unwrap();
    writer.limits.min_free_bytes = u64::MAX;
    let block = vec![7; 1 << 20];
    let error = (0..9).find_map(|_| writer.write(&block).err()).unwrap();
    assert_eq!(error, refused);
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
    // A plain PUT goes on all the same, but isn't kept when it is cut short.
    let mut writer = fixture.uploads.begin(&plan("/file", Some(2 * LONG as u64)), &limits).unwrap();
    writer.write(&pattern(LONG)).unwrap();
    assert!(!writer.keep().unwrap().is_resumable);
    fixture.put("/file", b"content").unwrap();
    fixture.uploads.sweep(Duration::ZERO);
    fixture.assert_clean();
}

#[test]
fn blocks_are_allocated_in_windows_by_what_has_come_and_no_further() {
    const MIB: u64 = 1 << 20;
    let fixture = Fixture::new();
    let length = 300 * MIB;
    let mut writer = fixture.uploads.begin(&plan("/file", Some(length)), &limits()).unwrap();
    let ahead = || fixture.uploads.usage().bytes_ahead;
    let allocated = |writer: &mut Writer| {
        let mut state = writer.partial.lock();
        let stat = rustix::fs::fstat(&state.of_writer(writer.lease).unwrap().file).unwrap();
        u64::try_from(stat.st_blocks).unwrap() * 512
    };
    if ahead() == 0 {
        return println!("skipped: this file system allocates nothing ahead");
    }
    assert_eq!(ahead(), MIB, "all that it gets for what it announces");
    writer.write(b"x").unwrap();
    assert_eq!(ahead(), MIB - 1);
    let block = pattern(256 << 10);
    let mut most = 0;
    while writer.offset() < 200 * MIB {
        writer.write(&block).unwrap();
        most = most.max(ahead());
        // Windows end at whole MiB.
        let ahead_max = (AHEAD_FACTOR * writer.offset()).clamp(MIB, 64 * MIB) + MIB;
        assert!(ahead() <= ahead_max, "{} at {}", ahead(), writer.offset());
    }
    assert!(most > 32 * MIB, "{most}: windows grow");
    let (offset, before) = (writer.offset(), ahead());
    assert!(before > MIB && allocated(&mut writer) >= offset + before);
    // An upload that is kept holds no room ahead.
    let upload = writer.resource();
    assert!(writer.keep().unwrap().is_resumable);
    assert_eq!(ahead(), 0);
    let mut writer = fixture.uploads.resume(&upload, offset, None, &limits()).unwrap_or_else(|_| {
        fixture.uploads.resume_destination(&plan("/file", Some(length)), offset, &limits()).unwrap()
    });
    // The file system may take some blocks for itself.
    assert!(allocated(&mut writer) <= offset + 2 * MIB, "its first window");
    writer.write(&block).unwrap();
    assert!(ahead() > 0);
    writer.take_back().unwrap();
    assert_eq!(ahead(), 0);
    writer.discard();
    fixture.assert_clean();
}

#[test]
fn writers_at_once_hold_what_they_hold_and_nothing_in_the_end() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let fixture = &fixture;
            scope.spawn(move || {
                for round in 0..20_u64 {
                    let path = format!("/file{number}");
                    let length = (1 << 20) * (2 + round % 3);
                    let mut writer = fixture.uploads.begin(&plan(&path, Some(length)), &limits()).unwrap();
                    writer.write(&pattern(usize::try_from(length / (1 + round % 2)).unwrap())).unwrap();
                    assert!(fixture.uploads.usage().bytes_ahead <= 4 * (4 << 20));
                    match round % 4 {
                        0 => drop(writer.publish(&Publication::default())),
                        _ => writer.discard(),
                    }
                }
            });
        }
    });
    assert_eq!(fixture.uploads.usage().bytes_ahead, 0);
    fixture.assert_clean();
}
