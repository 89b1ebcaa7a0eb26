//! The write-back of a range of a file to its disk, and the wait for its end.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Begins to write the dirty pages of `length` bytes from `offset` on (sync_file_range(2), Linux 2.6.17). May wait
/// for room in the device's queue, not for the writes.
pub fn start_write_back(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    sync_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until `length` bytes from `offset` on are written. Neither the file's metadata nor the disk's own cache is
/// flushed: this paces an fsync(2) that follows and doesn't replace it. It does take its error: since Linux 4.13 the
/// kernel tells a failed write once to each open file, so an error here isn't told again by the fsync.
pub fn finish_write_back(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, offset, length, flags)
}

fn sync_range(file: impl AsFd, offset: u64, length: u64, flags: libc::c_uint) -> io::Result<()> {
    let offset = libc::off64_t::try_from(offset).map_err(io::Error::other)?;
    let length = libc::off64_t::try_from(length).map_err(io::Error::other)?;
    loop {
        // SAFETY: owner: the caller's file, borrowed. Lifetime: the call's. The kernel keeps nothing: no memory is
        // passed, and the writes that it begins are of its own page cache.
        let result = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, length, flags) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{finish_write_back, start_write_back};

    #[test]
    fn ranges_are_written_within_and_beyond_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        for (offset, length) in [(0, 50_000), (50_000, 50_000), (90_000, 1 << 20), (1 << 40, 1)] {
            start_write_back(&file, offset, length).unwrap();
            finish_write_back(&file, offset, length).unwrap();
        }
        start_write_back(&file, u64::MAX, 1).unwrap_err();
        let (_reader, pipe) = std::io::pipe().unwrap();
        assert_eq!(
            start_write_back(&pipe, 0, 1).unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::SPIPE.raw_os_error())
        );
    }
}
