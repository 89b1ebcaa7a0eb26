//! The files that servers are asked for: random bytes, one file for each size, with their digests.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise, statvfs};
use sha2::{Digest, Sha256};

/// The largest file that is made, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 30;

/// The bytes that must stay free on the disk after a file was made.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// The bytes that are written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The time in which a file must leave the page cache.
const COLD_TIME_MAX: Duration = Duration::from_secs(5);

/// The bytes of cold files that must have left for each that may stay: a server that died or hangs keeps a send
/// buffer full.
const COLD_BYTES_PER_HOT_MIN: u64 = 50;

/// The bytes that are read and hashed at a time.
const HASHED_BYTES: usize = 256 << 10;

/// The body that a server must send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl Expected {
    /// Reads the expected body from the file at `path`.
    pub fn of_file(path: &std::path::Path) -> Result<Expected> {
        let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; HASHED_BYTES]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Expected { bytes, sha256: digest.finalize().into() });
            }
            digest.update(&buffer[..count]);
            bytes += count as u64;
        }
    }
}

/// A file below the root that servers serve.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The file's path in a URL.
    pub url_path: String,
    /// The file's path on this host.
    pub path: PathBuf,
    /// The body that a server must send.
    pub expected: Expected,
}

impl Fixture {
    /// Makes a file of `bytes` random bytes in `root` below `directory`, or takes the one that is there.
    pub fn make(root: &Path, directory: &str, name: &str, bytes: u64) -> Result<Fixture> {
        if bytes > FILE_BYTES_MAX {
            bail!("a file of {bytes} bytes is above the limit of {FILE_BYTES_MAX}");
        }
        let parent = root.join(directory);
        std::fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
        let path = parent.join(name);
        if std::fs::metadata(&path).map_or(true, |found| found.len() != bytes) {
            write_random(&path, bytes)?;
        }
        let expected = Expected::of_file(&path)?;
        let url_path = if directory.is_empty() { format!("/{name}") } else { format!("/{directory}/{name}") };
        Ok(Fixture { url_path, path, expected })
    }
}

/// Pushes the pages of a file out of the page cache, and returns whether nearly all have left: those in a socket
/// that still sends them, or in a process's memory, can't.
pub fn push_out(path: &Path) -> Result<bool> {
    let bytes = std::fs::metadata(path)?.len();
    Ok(push_out_and_ask(path)? <= bytes / COLD_BYTES_PER_HOT_MIN)
}

/// Pushes the pages of a file out of the page cache; returns how many bytes stay there.
fn push_out_and_ask(path: &Path) -> Result<u64> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    resident_bytes(path)
}

/// Returns the bytes of a file in the page cache. util-linux's fincore is asked: mincore(2) needs a mapping, and a
/// read with RWF_NOWAIT begins to read ahead.
fn resident_bytes(path: &Path) -> Result<u64> {
    let output = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .arg(path)
        .output()
        .context("fincore, which tells what is in the page cache (package util-linux-extra or util-linux)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("fincore {}: {text:?}", path.display()))
}

/// Pushes the pages of all files out of the page cache, and makes sure that nearly all have left.
pub fn make_cold(files: &[&Path]) -> Result<()> {
    let lengths = files.iter().map(|path| Ok(std::fs::metadata(path)?.len()));
    let bytes: u64 = lengths.sum::<Result<u64>>()?;
    let end = Instant::now() + COLD_TIME_MAX;
    loop {
        let stay: u64 = files.iter().map(|path| push_out_and_ask(path)).sum::<Result<u64>>()?;
        if stay <= bytes / COLD_BYTES_PER_HOT_MIN {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("{stay} of {bytes} bytes of the cold files stay in the page cache");
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn write_random(path: &Path, bytes: u64) -> Result<()> {
    let disk = statvfs(path.parent().unwrap_or(path))?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < bytes + FREE_BYTES_MIN {
        bail!("{}: {bytes} bytes are wanted and only {free} are free", path.display());
    }
    let mut random = File::open("/dev/urandom")?;
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        std::io::Read::read_exact(&mut random, &mut chunk[..count])?;
        file.write_all(&chunk[..count])?;
        left -= count as u64;
    }
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Fixture;

    #[test]
    fn a_fixture_is_made_once_and_has_its_size() {
        let root = tempfile::tempdir().unwrap();
        let first = Fixture::make(root.path(), "a", "b", 3_000_000).unwrap();
        assert_eq!(first.expected.bytes, 3_000_000);
        assert_eq!(first.url_path, "/a/b");
        let second = Fixture::make(root.path(), "a", "b", 3_000_000).unwrap();
        assert_eq!(first.expected, second.expected);
        assert!(Fixture::make(root.path(), "", "c", super::FILE_BYTES_MAX + 1).is_err());
    }
}
