use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};

use super::*;
use crate::files::identity::Moment;

fn stamp(inode: u64, seconds: i64) -> Stamp {
    let changed = Moment { seconds, nanoseconds: 1 };
    Stamp { size: 3, modified: Moment { seconds: -4, nanoseconds: 5 }, changed, inode }
}

fn digested(byte: u8) -> Recorded {
    Recorded { digests: Digests { sha256: Some([byte; 32]), crc32c: None }, is_published: false }
}

fn in_directory() -> (tempfile::TempDir, Records) {
    let directory = tempfile::tempdir().unwrap();
    let records = Records::in_staging(File::open(directory.path()).unwrap().as_fd());
    (directory, records)
}

#[test]
fn a_record_is_of_one_state_and_what_is_known_of_it_adds_up() {
    let (_directory, records) = in_directory();
    for records in [records, Records::in_memory()] {
        assert_eq!(records.find(&stamp(1, 1)), Recorded::default());
        records.put(&stamp(1, 1), &digested(7), true);
        let crc32c = Digests { sha256: None, crc32c: Some([1, 2, 3, 4]) };
        records.put(&stamp(1, 1), &Recorded { digests: crc32c, is_published: true }, true);
        let both = Digests { sha256: Some([7; 32]), crc32c: Some([1, 2, 3, 4]) };
        assert_eq!(records.find(&stamp(1, 1)), Recorded { digests: both, is_published: true });
        // The record was just written, so its look-up doesn't wait for the disk.
        assert_eq!(records.find_now(&stamp(1, 1)), Some(records.find(&stamp(1, 1))));
        for other in [
            stamp(1, 2),
            stamp(2, 1),
            Stamp { size: 4, ..stamp(1, 1) },
            Stamp { modified: Moment::default(), ..stamp(1, 1) },
        ] {
            assert_eq!(records.find(&other), Recorded::default(), "{other:?}");
        }
    }
}

#[test]
fn another_state_of_a_file_takes_the_place_of_the_former() {
    let (_directory, records) = in_directory();
    for number in 0..100 {
        records.put(&stamp(1, number), &digested(1), true);
    }
    assert_eq!(records.find(&stamp(1, 99)), digested(1));
    assert_eq!(records.find(&stamp(1, 98)), Recorded::default());
}

#[test]
fn a_full_bucket_forgets_some_and_never_confuses_any() {
    let (_directory, records) = in_directory();
    let bucket = bucket_offset(&stamp(0, 0));
    let inodes: Vec<u64> = (0..).filter(|inode| bucket_offset(&stamp(*inode, 0)) == bucket).take(9).collect();
    for (byte, inode) in (1..).zip(&inodes) {
        records.put(&stamp(*inode, 0), &digested(byte), true);
    }
    let found: Vec<_> =
        (1..).zip(&inodes).map(|(byte, inode)| (byte, records.find(&stamp(*inode, 0)))).collect();
    assert_eq!(found.iter().filter(|(_, recorded)| *recorded != Recorded::default()).count(), SLOTS);
    for (byte, recorded) in found {
        assert!(recorded == Recorded::default() || recorded == digested(byte), "{byte}: {recorded:?}");
    }
}

#[test]
fn records_outlive_the_daemon_and_are_shared_and_private() {
    let (directory, records) = in_directory();
    records.put(&stamp(1, 1), &digested(7), true);
    records.put(&stamp(2, 1), &digested(8), false);
    let mut others = Records::in_staging(File::open(directory.path()).unwrap().as_fd());
    assert_eq!(others.find(&stamp(1, 1)), digested(7));
    assert_eq!(others.find(&stamp(2, 1)), digested(8));
    others.put(&stamp(1, 1), &digested(9), true);
    assert_eq!(records.find(&stamp(1, 1)).digests.sha256, Some([9; 32]));
    others.boot = 77;
    assert_eq!(others.find(&stamp(2, 1)), Recorded::default(), "the host may have crashed in between");
    assert_eq!(others.find(&stamp(1, 1)).digests.sha256, Some([9; 32]));
    others.boot = ANY_BOOT;
    others.put(&stamp(3, 1), &digested(1), false);
    assert_eq!(others.find(&stamp(3, 1)), Recorded::default());
    let metadata = directory.path().join(NAME).metadata().unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, TABLE_BYTES));
}

#[test]
fn what_is_torn_or_cut_off_or_not_a_table_is_not_believed() {
    let (directory, records) = in_directory();
    let path = directory.path().join(NAME);
    records.put(&stamp(1, 1), &digested(7), true);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut bucket = [0; BUCKET_BYTES];
    for byte in 0..SLOT_BYTES {
        records.put(&stamp(1, 1), &digested(7), true);
        assert_eq!(records.find(&stamp(1, 1)), digested(7));
        file.read_exact_at(&mut bucket, bucket_offset(&stamp(1, 1))).unwrap();
        let slot = slots(&bucket).position(|slot| stamp_of(slot) == stamp(1, 1).to_bytes()).unwrap();
        let place = slot * SLOT_BYTES + byte;
        file.write_all_at(&[bucket[place] ^ 1], bucket_offset(&stamp(1, 1)) + place as u64).unwrap();
        assert_eq!(records.find(&stamp(1, 1)), Recorded::default(), "byte {byte}");
    }
}

#[test]
fn what_the_staging_directory_cannot_take_is_kept_in_memory() {
    let (directory, records) = in_directory();
    let path = directory.path().join(NAME);
    assert!(!path.exists(), "made by the first record");
    assert_eq!(records.find_now(&stamp(1, 1)), Some(Recorded::default()), "it is known that there is none");
    // The record is written by another daemon.
    Records::in_staging(File::open(directory.path()).unwrap().as_fd()).put(&stamp(1, 1), &digested(9), true);
    assert_eq!(records.find_now(&stamp(1, 1)), None, "it isn't open yet");
    assert_eq!(records.find(&stamp(1, 1)), digested(9));
    assert_eq!(records.find_now(&stamp(1, 1)), Some(digested(9)));
    records.put(&stamp(1, 1), &digested(1), true);
    // The table was cut off, and the next record makes it whole.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(records.find(&stamp(1, 1)), Recorded::default());
    records.put(&stamp(1, 1), &digested(2), true);
    assert_eq!((records.find(&stamp(1, 1)), path.metadata().unwrap().len()), (digested(2), TABLE_BYTES));
    // The table was removed, and the next record makes it anew.
    std::fs::remove_file(&path).unwrap();
    records.put(&stamp(2, 1), &digested(3), true);
    assert_eq!((records.find(&stamp(2, 1)), path.metadata().unwrap().len()), (digested(3), TABLE_BYTES));
    // Something else lies in the table's place.
    for inode in [3, 4] {
        std::fs::remove_file(&path).unwrap();
        if inode == 3 {
            std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        } else {
            std::fs::create_dir(&path).unwrap();
        }
        let records = Records::in_staging(File::open(directory.path()).unwrap().as_fd());
        records.put(&stamp(inode, 1), &digested(4), true);
        assert_eq!(records.find(&stamp(inode, 1)), digested(4));
    }
}
