//! Whether a range of a file is hot: in the page cache, so that reading it can't wait for a disk.
//!
//! Asked with one-byte reads under RWF_NOWAIT, which tell the truth for their page to any user. cachestat(2)
//! counts pages that are still being read, and mincore(2) calls everything resident for a user who doesn't own
//! the file: neither can be used.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::source::Place;

/// Where a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In memory.
    Hot,
    /// At least partly not.
    Cold,
    /// The file system doesn't support the question: whether it is memory decides.
    Unknown,
}

/// Looks at the first, the middle and the last page of a range. Pages between may still be missing: readahead
/// brings neighbours in together, so that is rare, and costs one wait.
pub fn probe(file: impl AsFd, offset: u64, length: u64) -> Residency {
    let file = file.as_fd();
    if length == 0 {
        return Residency::Hot;
    }
    for place in [offset, offset + length / 2, offset + (length - 1)] {
        match probe_page(file, place) {
            Residency::Hot => {}
            other => return other,
        }
    }
    Residency::Hot
}

fn probe_page(file: BorrowedFd<'_>, offset: u64) -> Residency {
    let mut byte = [0_u8];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
        // 0: beyond the end of a file that got shorter; reading there doesn't wait either.
        Ok(_) => Residency::Hot,
        Err(Errno::OPNOTSUPP) => Residency::Unknown,
        // AGAIN: not in memory. Anything else is told by the read itself, where waiting does no harm.
        Err(_) => Residency::Cold,
    }
}

/// Where a file or directory lies. Waits itself where a server has to be asked.
pub(super) fn place_of(file: impl AsFd) -> Place {
    /// TMPFS_MAGIC and RAMFS_MAGIC, linux/magic.h.
    const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    /// ext2 to ext4, XFS, Btrfs, F2FS, overlayfs, ZFS, EROFS, SquashFS, ISO 9660, FAT, exFAT, bcachefs: linux/magic.h
    /// and the file systems' own headers.
    const LOCAL_DISK: [u64; 12] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0xf2f5_2010,
        0x794c_7630,
        0x2fc1_2fc1,
        0xe0f5_e1e2,
        0x7371_7368,
        0x9660,
        0x4d44,
        0x2011_bab0,
        0xca45_1a4e,
    ];
    match fstatfs(file).map(|stat| u64::try_from(stat.f_type)) {
        Ok(Ok(kind)) if MEMORY.contains(&kind) => Place::Memory,
        Ok(Ok(kind)) if LOCAL_DISK.contains(&kind) => Place::LocalDisk,
        _ => Place::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Place, Residency, place_of, probe};

    #[test]
    fn a_file_just_written_is_hot_or_lives_in_memory() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        match probe(&file, 0, 100_000) {
            Residency::Hot => {}
            Residency::Unknown => assert_eq!(place_of(&file), Place::Memory),
            Residency::Cold => panic!("a file just written is cold"),
        }
    }

    #[test]
    fn memory_files_live_in_memory() {
        let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(place_of(&memory), Place::Memory);
    }
}
