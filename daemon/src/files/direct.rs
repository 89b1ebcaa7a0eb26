//! Writes past the page cache (O_DIRECT, open(2)): whole blocks at aligned offsets, from aligned memory.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstat, fstatfs, openat, statx};
use rustix::io::{Errno, pwrite};

/// The least alignment of a direct write's offset and length: a page, so that no page of the cache has bytes
/// written in both ways. It is also assumed where the kernel doesn't tell (before Linux 6.1): devices with larger
/// blocks refuse the write.
const ALIGNMENT_MIN: u64 = 4096;

/// The largest alignment that is heeded: a quarter of what is written at a time.
const ALIGNMENT_MAX: u64 = 1 << 20;

/// `f_type` of tmpfs (statfs(2)). Since Linux 6.6 it takes O_DIRECT, and copies into its pages all the same.
const TMPFS_MAGIC: u32 = 0x0102_1994;

/// A second open file description of a file, for direct writes alone. Writes through the other one stay coherent
/// with it: a direct write first writes back and then drops the pages of its range.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: OwnedFd,
    alignment: u64,
    is_refused: bool,
}

impl DirectFile {
    /// Opens `file`, which is `name` in `directory`, once more; None where its file system takes no direct writes or
    /// gains nothing by them. Waits for the disk.
    pub(super) fn open(file: impl AsFd, directory: impl AsFd, name: &str) -> Option<DirectFile> {
        if u32::try_from(fstatfs(&file).ok()?.f_type).ok()? == TMPFS_MAGIC {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let direct = openat(directory, name, flags, Mode::empty()).ok()?;
        let (stat, same) = (fstat(&file).ok()?, fstat(&direct).ok()?);
        if (stat.st_dev, stat.st_ino) != (same.st_dev, same.st_ino) {
            return None;
        }
        let alignment = alignment(&direct)?;
        Some(DirectFile { file: direct, alignment, is_refused: false })
    }

    /// Returns the bytes of which offset and length of a direct write are multiples.
    pub(super) fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Whether a write was refused for its alignment, as the next one would be too.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Writes the whole blocks of `bytes` at `offset`, and returns how many bytes that is: none where the offset
    /// isn't aligned, and nothing of an incomplete block. After an error it can't be known what is in the file.
    /// Waits for the disk.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        let whole = self.whole_blocks(bytes.len());
        let mut written = 0;
        while written < whole && !self.is_refused && (offset + written as u64).is_multiple_of(self.alignment)
        {
            match pwrite(&self.file, &bytes[written..whole], offset + written as u64) {
                // No file system is known to do this to a regular file.
                Ok(0) => return Err(Errno::IO),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                // The device needs an alignment that the kernel didn't tell (open(2)).
                Err(Errno::INVAL) => self.is_refused = true,
                Err(errno) => return Err(errno),
            }
        }
        Ok(written)
    }

    fn whole_blocks(&self, length: usize) -> usize {
        let block = usize::try_from(self.alignment).unwrap_or(usize::MAX);
        length - length % block
    }
}

/// Asks statx(2) for the alignment (STATX_DIOALIGN, Linux 6.1); None where direct writes aren't supported for this
/// file.
fn alignment(file: &OwnedFd) -> Option<u64> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    if told.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Some(ALIGNMENT_MIN);
    }
    let (offset, memory) = (u64::from(told.stx_dio_offset_align), u64::from(told.stx_dio_mem_align));
    let is_usable = offset.is_power_of_two() && offset <= ALIGNMENT_MAX && memory <= ALIGNMENT_MIN;
    is_usable.then(|| offset.max(ALIGNMENT_MIN))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use crate::sys::Pages;

    use super::{ALIGNMENT_MIN, DirectFile};

    /// Opens a file in `directory`, once as usual and once for direct writes; None, with a line that says so,
    /// where the file system has no direct writes.
    fn open(directory: &Path) -> Option<(File, DirectFile)> {
        let file =
            File::options().create_new(true).read(true).write(true).open(directory.join("file")).unwrap();
        let direct = DirectFile::open(&file, File::open(directory).unwrap(), "file");
        if direct.is_none() {
            println!("skipped: no direct writes to {}", directory.display());
        }
        Some((file, direct?))
    }

    fn pages() -> Pages {
        let mut pages = Pages::map(64 << 10).unwrap();
        pages
            .as_mut_slice()
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = u8::try_from(at % 251).unwrap());
        pages
    }

    #[test]
    fn whole_blocks_at_aligned_offsets_are_written_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let Some((_file, mut direct)) = open(directory.path()) else { return };
        let (pages, block) = (pages(), usize::try_from(direct.alignment()).unwrap());
        let bytes = &pages.as_slice()[..3 * block];
        assert_eq!(direct.write(&bytes[..2 * block + 5], 0), Ok(2 * block));
        for (length, offset) in [(block - 1, 2 * block), (0, 2 * block), (block, 2 * block + 1)] {
            assert_eq!(direct.write(&bytes[..length], offset as u64), Ok(0), "{length} at {offset}");
        }
        assert!(!direct.is_refused());
        assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), &bytes[..2 * block]);
    }

    #[test]
    fn an_alignment_that_nobody_told_of_ends_direct_writes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let Some((_file, direct)) = open(directory.path()) else { return };
        let mut direct = DirectFile { alignment: 1, ..direct };
        let pages = pages();
        assert_eq!((direct.write(&pages.as_slice()[..100], 0), direct.is_refused()), (Ok(0), true));
        assert_eq!(direct.write(&pages.as_slice()[..4096], 0), Ok(0), "not tried again");
        assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), b"");
    }

    #[test]
    fn another_file_of_the_name_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let Some((file, direct)) = open(directory.path()) else { return };
        assert!(direct.alignment() >= ALIGNMENT_MIN);
        std::fs::rename(directory.path().join("file"), directory.path().join("other")).unwrap();
        let staging = File::open(directory.path()).unwrap();
        assert!(DirectFile::open(&file, &staging, "file").is_none());
        std::fs::write(directory.path().join("file"), b"").unwrap();
        assert!(DirectFile::open(&file, &staging, "file").is_none());
        assert!(DirectFile::open(&file, &staging, "other").is_some());
    }

    #[test]
    fn memory_takes_no_direct_writes() {
        let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return println!("skipped: no /dev/shm") };
        assert!(open(directory.path()).is_none());
    }
}
