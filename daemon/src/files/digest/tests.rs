use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::fs::fstat;

use super::super::root::{Found, Root};
use super::*;
use crate::protocol::name::Name;

const ALL: Algorithms = Algorithms { sha256: true, crc32c: true };

fn digests_of(bytes: &[u8]) -> Digests {
    let mut hashers = Hashers::new(ALL);
    hashers.update(bytes);
    hashers.digests()
}

/// Extended attributes of users need ext4, XFS, Btrfs or, since Linux 6.6, tmpfs.
fn has_attributes(file: &File) -> bool {
    let is_supported = fsetxattr(file, "user.streamd.test", b"1", XattrFlags::empty()).is_ok();
    if !is_supported {
        println!("skipped: no extended attributes on this file system");
    }
    is_supported
}

fn open(root: &Root, path: &str) -> SourceFile {
    match root.find(&Name::parse(path.as_bytes()).unwrap()).unwrap() {
        Found::File(file) => file,
        Found::Directory(_) => panic!("{path} is a directory"),
    }
}

#[test]
fn digests_are_those_of_the_standards() {
    let digests = digests_of(b"123456789");
    // FIPS 180-4, and the check value of CRC-32C.
    assert_eq!(
        hex::encode(&digests.sha256.unwrap()),
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
    );
    assert_eq!(digests.crc32c, Some([0xe3, 0x06, 0x92, 0x83]));
    assert_eq!(digests.etag().unwrap(), "\"sha256-15e2b0d3c33891ebb0f1ef609ec41942\"");
    assert_eq!(Hashers::new(Algorithms::default()).digests(), Digests::default());
}

#[test]
fn digests_are_told_and_read_as_fields() {
    let digests = digests_of(b"content");
    let fields = digests.to_fields();
    assert_eq!(fields.iter().map(Digest::algorithm).collect::<Vec<_>>(), Algorithm::ALL);
    let sha256 = Digests { crc32c: None, ..digests };
    let crc32c = Digests { sha256: None, ..digests };
    for some in [digests, sha256, crc32c, Digests::default()] {
        let fields = some.to_fields();
        assert_eq!(Digests::from_fields(&fields), some);
        let algorithms: Vec<_> = fields.iter().map(Digest::algorithm).collect();
        assert_eq!(Algorithms::of(&algorithms), some.algorithms());
    }
}

#[test]
fn only_what_is_asked_for_is_compared() {
    let known = digests_of(b"a");
    let other = digests_of(b"b");
    assert_eq!(known.mismatch(&Digests::default()), None);
    assert_eq!(known.mismatch(&known), None);
    assert_eq!(known.mismatch(&other), Some(Algorithm::Sha256));
    assert_eq!(known.mismatch(&Digests { sha256: None, ..other }), Some(Algorithm::Crc32c));
    assert_eq!(Digests::default().mismatch(&known), Some(Algorithm::Sha256), "unknown is not equal");
}

#[test]
fn a_record_counts_while_the_file_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"content").unwrap();
    let file = File::open(&path).unwrap();
    if !has_attributes(&file) {
        return;
    }
    let stamp = Stamp::of(&fstat(&file).unwrap());
    assert_eq!(recorded(file.as_fd(), stamp), Digests::default());
    record(file.as_fd(), stamp, &digests_of(b"content")).unwrap();
    assert_eq!(Stamp::of(&fstat(&file).unwrap()), stamp, "an attribute leaves the stamp as it was");
    assert_eq!(recorded(file.as_fd(), stamp), digests_of(b"content"));
    let root = Root::open(directory.path()).unwrap().reading_digests();
    assert_eq!(open(&root, "/file").etag(), digests_of(b"content").etag().unwrap());
    std::fs::write(&path, b"another").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let changed = Stamp::of(&fstat(&file).unwrap());
    assert_eq!(recorded(file.as_fd(), changed), Digests::default());
    assert!(!open(&root, "/file").etag().contains("sha256"));
}

#[test]
fn records_that_make_no_sense_are_none() {
    let file = tempfile::tempfile().unwrap();
    if !has_attributes(&file) {
        return;
    }
    let stamp = Stamp::of(&fstat(&file).unwrap());
    for text in [&b""[..], b"{}", b"{\"size\":0}", b"\xff", &[b'1'; RECORD_BYTES_MAX + 1]] {
        fsetxattr(&file, ATTRIBUTE, text, XattrFlags::empty()).unwrap();
        assert_eq!(recorded(file.as_fd(), stamp), Digests::default());
    }
    let Stamp { size, modified_s, modified_ns } = stamp;
    let short =
        format!(r#"{{"size":{size},"modified_s":{modified_s},"modified_ns":{modified_ns},"sha256":"abcd"}}"#);
    fsetxattr(&file, ATTRIBUTE, short.as_bytes(), XattrFlags::empty()).unwrap();
    assert_eq!(recorded(file.as_fd(), stamp), Digests::default());
}

#[test]
fn what_was_computed_is_recorded_unless_it_was_just_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"content").unwrap();
    let root = Root::open(directory.path()).unwrap().reading_digests();
    let young = open(&root, "/file");
    assert_eq!(compute(&young, ALL).unwrap(), Some(digests_of(b"content")));
    assert_eq!(*open(&root, "/file").recorded(), Digests::default());
    let file = File::options().write(true).open(&path).unwrap();
    if !has_attributes(&file) {
        return;
    }
    file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
    assert_eq!(compute(&young, ALL).unwrap(), None, "it is no longer what was opened");
    let crc32c = Algorithms { crc32c: true, ..Algorithms::default() };
    let first = compute(&open(&root, "/file"), crc32c).unwrap().unwrap();
    assert_eq!(first, Digests { sha256: None, ..digests_of(b"content") });
    assert_eq!(compute(&open(&root, "/file"), ALL).unwrap(), Some(digests_of(b"content")));
    assert_eq!(*open(&root, "/file").recorded(), digests_of(b"content"));
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_come(bytes: Vec<u8>, cuts: Vec<prop::sample::Index>) {
        let mut hashers = Hashers::new(ALL);
        let mut rest = bytes.as_slice();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.index(rest.len() + 1));
            hashers.update(head);
            rest = tail;
        }
        hashers.update(rest);
        prop_assert_eq!(hashers.digests(), digests_of(&bytes));
    }

    #[test]
    fn hexadecimal_digits_round_trip(bytes: [u8; 16]) {
        prop_assert_eq!(hex::decode::<16>(hex::encode(&bytes).as_bytes()), Some(bytes));
    }

    #[test]
    fn other_texts_are_no_hexadecimal_digits(text in "[0-9a-fA-F]{0,8}") {
        let is_right = text.len() == 8 && text.bytes().all(|byte| !byte.is_ascii_uppercase());
        prop_assert_eq!(hex::decode::<4>(text.as_bytes()).is_some(), is_right);
    }
}
