use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::super::digests::hex;
use super::super::error::FileError;
use super::super::root::{Found, Root};
use super::super::source::SourceFile;
use super::computation::{Computation, STEP_BYTES, Step, compute_paced};
use super::{Algorithms, BUFFER_BYTES, Digests, Hashers};
use crate::config::EtagChoice;
use crate::protocol::digest::{Algorithm, Digest};
use crate::protocol::name::Name;

const ALL: Algorithms = Algorithms { sha256: true, crc32c: true };

fn digests_of(bytes: &[u8]) -> Digests {
    let mut hashers = Hashers::new(ALL);
    hashers.update(bytes);
    hashers.digests()
}

fn open(root: &Root, path: &str) -> SourceFile {
    match root.find(&Name::parse(path.as_bytes()).unwrap()).unwrap() {
        Found::File(file) => file,
        Found::Directory(_) => panic!("{path} is a directory"),
    }
}

fn compute(
    root: &Arc<Root>,
    file: &SourceFile,
    algorithms: Algorithms,
) -> Result<Option<Digests>, FileError> {
    let mut step = Computation::begin(Arc::clone(root), file.clone(), algorithms)?;
    loop {
        match step {
            Step::Whole(whole) => {
                return Ok(whole.map(|(digests, record)| {
                    record.into_iter().for_each(|record| record.write());
                    digests
                }));
            }
            Step::Partly(computation) => step = computation.go_on()?,
        }
    }
}

#[test]
fn digests_are_those_of_the_standards() {
    let digests = digests_of(b"123456789");
    // The expected values are a vector of FIPS 180-4 and the check value of CRC-32C.
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

/// Makes a root with one file that is old enough for its state to be told from the next.
fn settled(content: &[u8]) -> (tempfile::TempDir, Arc<Root>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), content).unwrap();
    let root = Arc::new(Root::open(directory.path()).unwrap().tagging(EtagChoice::Digest));
    wait_until_settled(&root);
    (directory, root)
}

fn wait_until_settled(root: &Root) {
    let end = SystemTime::now() + Duration::from_secs(30);
    while !open(root, "/file").is_settled(SystemTime::now()) {
        assert!(SystemTime::now() < end, "not settled within 30 s");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn what_was_computed_is_recorded_unless_it_was_just_written() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), b"content").unwrap();
    let root = Arc::new(Root::open(directory.path()).unwrap().tagging(EtagChoice::Digest));
    let young = open(&root, "/file");
    assert_eq!(compute(&root, &young, ALL).unwrap(), Some(digests_of(b"content")));
    assert_eq!(root.recorded(&young).digests, Digests::default());
    wait_until_settled(&root);
    let crc32c = Algorithms { crc32c: true, ..Algorithms::default() };
    let first = compute(&root, &open(&root, "/file"), crc32c).unwrap().unwrap();
    assert_eq!(first, Digests { sha256: None, ..digests_of(b"content") });
    assert_eq!(compute(&root, &open(&root, "/file"), ALL).unwrap(), Some(digests_of(b"content")));
    let file = open(&root, "/file");
    assert_eq!(root.recorded(&file).digests, digests_of(b"content"));
    assert_eq!(file.validators(SystemTime::now()).etag, digests_of(b"content").etag().unwrap());
}

#[test]
fn a_record_counts_while_the_file_is_as_it_was() {
    let (directory, root) = settled(b"content");
    let path = directory.path().join("file");
    let edit = |modified: SystemTime| {
        std::fs::write(&path, b"another").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    let modified = path.metadata().unwrap().modified().unwrap();
    let before = open(&root, "/file");
    compute(&root, &before, ALL).unwrap();
    assert_eq!(root.recorded(&open(&root, "/file")).digests, digests_of(b"content"));
    // The edit keeps the length and puts the time back, as rsync -t and touch -r do.
    edit(modified);
    let edited = open(&root, "/file");
    assert_eq!(path.metadata().unwrap().modified().unwrap(), modified);
    assert_eq!(root.recorded(&edited).digests, Digests::default());
    assert!(edited.validators(SystemTime::now()).etag.starts_with("W/"));
    assert_eq!(compute(&root, &edited, ALL).unwrap(), Some(digests_of(b"another")));
    // The file that was opened before the edit has another content now.
    assert!(!before.is_as_opened());
    // Another file of the same name, length and time isn't believed either.
    let new = directory.path().join("new");
    std::fs::write(&new, b"content").unwrap();
    File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    std::fs::rename(new, &path).unwrap();
    assert_eq!(root.recorded(&open(&root, "/file")).digests, Digests::default());
}

#[test]
fn a_long_file_takes_several_steps_and_the_change_of_it_none_more() {
    let content: Vec<u8> =
        (0..2 * STEP_BYTES + 5).map(|number| u8::try_from(number / 997 % 256).unwrap()).collect();
    let (directory, root) = settled(&content);
    let begin = || Computation::begin(Arc::clone(&root), open(&root, "/file"), ALL).unwrap();
    assert!(matches!(begin(), Step::Partly(_)));
    let Step::Partly(computation) = begin() else { panic!("one step") };
    std::fs::write(directory.path().join("file"), b"short").unwrap();
    assert!(matches!(computation.go_on(), Ok(Step::Whole(None))));
    let (_directory, root) = settled(&content);
    assert_eq!(compute(&root, &open(&root, "/file"), ALL).unwrap(), Some(digests_of(&content)));
}

#[test]
fn a_file_that_changes_while_it_is_read_has_no_digest() {
    let (directory, root) = settled(&[7; 3 * BUFFER_BYTES]);
    let path = directory.path().join("file");
    let modified = path.metadata().unwrap().modified().unwrap();
    for is_time_put_back in [false, true] {
        let file = open(&root, "/file");
        let mut pieces = 0;
        let digests = compute_paced(&root, &file, ALL, |_, _| {
            pieces += 1;
            if pieces == 1 {
                let writer = File::options().write(true).open(&path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&writer, b"other", 0).unwrap();
                if is_time_put_back {
                    writer.set_modified(modified).unwrap();
                }
            }
        });
        assert_eq!(digests.unwrap(), None);
        assert_eq!(pieces, 3);
        assert_eq!(root.recorded(&open(&root, "/file")).digests, Digests::default());
    }
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
