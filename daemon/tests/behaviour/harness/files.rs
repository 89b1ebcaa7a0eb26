//! Files with known content.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use streamd::files::Random;
use streamd::files::residency::{Residency, probe};

use super::wait_until;

/// The most tries to get a file out of memory: somebody else may look at it just then.
pub(crate) const COLD_TRIES_MAX: usize = 20;

/// A root directory that goes away with the test. It is made beside the test binary, on a real disk: /tmp may be
/// memory, where nothing is ever cold.
pub(crate) struct Fixture(tempfile::TempDir);

impl Fixture {
    /// Makes an empty root.
    pub(crate) fn new() -> Fixture {
        Fixture(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a file of `size` bytes whose first `head_bytes` follow [`pattern`], with marks before, at and
    /// after each offset in `marks`, and holes elsewhere.
    pub(crate) fn write_sparse(&self, name: &str, size: u64, head_bytes: usize, marks: &[u64]) -> PathBuf {
        let path = self.0.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&pattern(head_bytes)).unwrap();
        file.set_len(size).unwrap();
        for mark in marks {
            file.seek(SeekFrom::Start(mark - 8)).unwrap();
            file.write_all(&mark.to_be_bytes()).unwrap();
            file.write_all(&(!mark).to_be_bytes()).unwrap();
        }
        path
    }

    /// Sets a file's time of modification, in seconds since 1970.
    pub(crate) fn set_modified(&self, name: &str, seconds: u64) {
        let file = std::fs::File::options().write(true).open(self.0.path().join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    /// Waits until a file has a strong entity tag: until a further write couldn't leave its change time as it is.
    pub(crate) fn settle(&self, name: &str) {
        settle(&self.0.path().join(name));
    }

    /// Puts a file's bytes in a new inode and pushes them out of memory; true if that worked. The old inode's
    /// pages may stay for as long as TCP holds the bytes that were sent of them.
    pub(crate) fn make_cold(&self, name: &str) -> bool {
        let path = self.0.path().join(name);
        let copy = self.0.path().join("copy of the cold");
        (0..COLD_TRIES_MAX).any(|_| {
            std::fs::copy(&path, &copy).unwrap();
            let file = std::fs::File::open(&copy).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            std::fs::rename(&copy, &path).unwrap();
            pages_in_memory(&path) == 0
        })
    }

    /// Whether this file system drops pages when it is told to, and says so. A file of its own is asked about: the
    /// question starts readahead.
    pub(crate) fn gets_cold(&self) -> bool {
        let path = self.write("cold", &pattern(1 << 20));
        self.make_cold("cold") && {
            let file = std::fs::File::open(path).unwrap();
            probe(file, 0, 1 << 20, &mut Random::default()) == Residency::Cold
        }
    }
}

/// Waits until a file at any path has a strong entity tag.
pub(crate) fn settle(path: &Path) {
    let metadata = path.metadata().unwrap();
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap();
    let changed = Duration::new(u64::try_from(metadata.ctime()).unwrap(), nanoseconds);
    let settled = SystemTime::UNIX_EPOCH + changed + Duration::from_secs(2);
    wait_until("the file to be old enough", || SystemTime::now() >= settled);
}

/// Returns the pages of a file in memory, by mincore through util-linux: reading a byte to see would start
/// readahead.
pub(crate) fn pages_in_memory(path: &Path) -> u64 {
    let output =
        Command::new("fincore").args(["--noheadings", "--output", "PAGES"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Makes `length` bytes that don't repeat within any window of a transfer (xorshift64).
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Returns the digest as lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the digest of all that a reader yields, as lower-case hex, without holding it.
pub(crate) fn sha256_of(mut reader: impl Read) -> String {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => return digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            count => digest.update(&buffer[..count]),
        }
    }
}
