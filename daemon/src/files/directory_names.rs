//! Reads the names of a directory, without the reserved one.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use crate::protocol::name::is_reserved_segment;

/// Shows each name that one call reads, with the type that the file system tells (readdir(3): not every one does).
/// Returns whether there may be more. Waits for the disk.
pub(super) fn read_names(
    directory: impl AsFd,
    buffer: &mut [MaybeUninit<u8>],
    mut show: impl FnMut(&[u8], FileType) -> Result<(), Errno>,
) -> Result<bool, Errno> {
    let mut entries = RawDir::new(directory, buffer);
    loop {
        let entry = match entries.next() {
            Some(Err(Errno::INTR)) => continue,
            Some(entry) => entry?,
            None => return Ok(false),
        };
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !is_reserved_segment(name) {
            show(name, entry.file_type())?;
        }
        if entries.is_buffer_empty() {
            return Ok(true);
        }
    }
}
