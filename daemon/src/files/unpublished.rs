//! A file on its way to its name, as uploads and stored frames have it: appended to under a temporary name, made
//! durable, and only then renamed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fsync, ftruncate, linkat, openat, renameat_with, unlinkat,
};
use rustix::io::{Errno, pwrite, retry_on_intr};

use super::direct::DirectFile;
use super::faults;
use crate::sys;

/// The attribute in which an upload is described until it has its name.
pub(super) const DESCRIPTION: &str = "user.streamd.upload";

/// Bytes after which write-back is begun, while the next as many arrive. Of a file that will be synced at most two
/// such pieces are dirty or on their way to the disk, so that the sync waits for little, and for other files'
/// writes as little as that.
const PIECE_BYTES: u64 = 8 << 20;

/// An open file without its final name, and its length. Every call waits for the disk.
#[derive(Debug)]
pub(super) struct Unpublished {
    file: File,
    length: u64,
    /// Whether write-back is begun piece by piece, so that few bytes are dirty.
    is_paced: bool,
    /// The pieces whose write-back was begun.
    pieces: u64,
}

impl Unpublished {
    /// Creates the file, empty, as `temporary` in `directory`.
    pub(super) fn create(
        directory: BorrowedFd<'_>,
        temporary: &str,
        mode: Mode,
        is_paced: bool,
    ) -> Result<Unpublished, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(directory, temporary, flags, mode)?;
        Ok(Unpublished::with_length(file.into(), 0, is_paced))
    }

    /// Takes over a file that was begun earlier and has `length` bytes.
    pub(super) fn with_length(file: File, length: u64, is_paced: bool) -> Unpublished {
        Unpublished { file, length, is_paced, pieces: length / PIECE_BYTES }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends `bytes`. After an error it can't be known how many of them are in the file.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match faults::before_write().and_then(|()| pwrite(&self.file, bytes, self.length)) {
                // No file system is known to do this to a regular file.
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    self.length += count as u64;
                    bytes = &bytes[count..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.is_paced { self.pace() } else { Ok(()) }
    }

    /// Appends as [`Unpublished::append`] does, but past the page cache as far as `direct`, which is the same
    /// file, can; the rest, a head or a tail, goes through it. Returns how many bytes went past it.
    pub(super) fn append_direct(&mut self, bytes: &[u8], direct: &mut DirectFile) -> Result<u64, Errno> {
        let count = direct.write(bytes, self.length)?;
        self.length += count as u64;
        // None of these bytes is dirty, and few of those before.
        self.pieces = self.pieces.max(self.length / PIECE_BYTES);
        self.append(&bytes[count..])?;
        Ok(count as u64)
    }

    fn pace(&mut self) -> Result<(), Errno> {
        while (self.pieces + 1) * PIECE_BYTES <= self.length {
            let start = self.pieces * PIECE_BYTES;
            sys::start_write_back(&self.file, start, PIECE_BYTES).map_err(errno)?;
            if let Some(before) = start.checked_sub(PIECE_BYTES) {
                sys::finish_write_back(&self.file, before, PIECE_BYTES).map_err(errno)?;
            }
            self.pieces += 1;
        }
        Ok(())
    }

    /// Returns the open file alone.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.file.into()
    }

    /// Cuts the file to `length`, with blocks allocated beyond it.
    pub(super) fn truncate(&mut self, length: u64) -> Result<(), Errno> {
        retry_on_intr(|| ftruncate(&self.file, length))?;
        self.length = length;
        self.pieces = self.pieces.min(length / PIECE_BYTES);
        Ok(())
    }

    /// Makes content and metadata durable. A failure is final: the kernel may have dropped the pages, so that a
    /// second fsync(2) would succeed over missing bytes.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        faults::before_write().and_then(|()| fsync(&self.file))
    }
}

impl AsFd for Unpublished {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Gives a file its name in one step: at every moment the name means the former file or the whole new one. With
/// `is_new` an existing name is the error EEXIST.
pub(super) fn give_name(
    (from, temporary): (BorrowedFd<'_>, &str),
    (to, name): (BorrowedFd<'_>, &[u8]),
    is_new: bool,
) -> Result<(), Errno> {
    let flags = if is_new { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    match renameat_with(from, temporary, to, name, flags) {
        // Not every file system supports renameat2(2) without replacing; a link never replaces.
        Err(Errno::INVAL) if is_new => {
            linkat(from, temporary, to, name, AtFlags::empty())?;
            // The file has its name. A temporary name that can't be removed now is left to whoever cleans up.
            let _ = unlinkat(from, temporary, AtFlags::empty());
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::io::Errno;

    use super::{PIECE_BYTES, Unpublished, give_name};

    fn open(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap()
    }

    #[test]
    fn bytes_are_appended_over_the_pieces_of_write_back() {
        let directory = tempfile::tempdir().unwrap();
        let staging = open(directory.path());
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = Unpublished::create(staging.as_fd(), "temporary", mode, true).unwrap();
        let block = vec![7; usize::try_from(PIECE_BYTES / 2 + 1).unwrap()];
        for _ in 0..5 {
            file.append(&block).unwrap();
        }
        assert_eq!((file.length(), file.pieces), (5 * block.len() as u64, 2));
        file.sync().unwrap();
        drop(file);
        let path = directory.path().join("temporary");
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut file = Unpublished::with_length(file, 5 * block.len() as u64, true);
        file.append(b"end").unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 5 * block.len() + 3);
        assert!(content.ends_with(b"\x07end") && content[..5 * block.len()].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_new_name_never_replaces_and_another_always_does() {
        let directory = tempfile::tempdir().unwrap();
        let staging = open(directory.path());
        for (temporary, is_new, outcome) in [
            ("first", true, Ok(())),
            ("second", true, Err(Errno::EXIST)),
            ("second", false, Ok(())),
            ("third", false, Err(Errno::NOENT)),
        ] {
            if temporary != "third" {
                std::fs::write(directory.path().join(temporary), temporary).unwrap();
            }
            let result = give_name((staging.as_fd(), temporary), (staging.as_fd(), b"name"), is_new);
            assert_eq!(result, outcome, "{temporary}");
        }
        assert_eq!(std::fs::read(directory.path().join("name")).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
