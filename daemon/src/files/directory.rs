//! What a directory listing shows.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::error::FileError;
use crate::protocol::name::is_reserved_segment;

/// Entries of one listing. A larger directory is cut off, and says so.
pub(super) const ENTRIES_MAX: usize = 10_000;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; entries whose names aren't UTF-8 can't be asked for and aren't listed.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its size in bytes; 0 for a directory.
    pub size: u64,
    /// When it was last written, to the second.
    pub modified: SystemTime,
}

/// Regular files and directories in name order, directories first and without the reserved one; and whether there
/// were more than [`ENTRIES_MAX`]. What links point at isn't looked at: it may lie outside. Waits for the disk.
pub fn list(directory: &OwnedFd) -> Result<(Vec<Entry>, bool), FileError> {
    let mut entries = Vec::new();
    for item in Dir::read_from(directory)? {
        let item = item?;
        let Ok(name) = item.file_name().to_str() else { continue };
        if name == "." || name == ".." || is_reserved_segment(name) {
            continue;
        }
        if entries.len() == ENTRIES_MAX {
            return Ok((sorted(entries), true));
        }
        entries.extend(describe(directory, name));
    }
    Ok((sorted(entries), false))
}

fn describe(directory: &OwnedFd, name: &str) -> Option<Entry> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_directory = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => false,
        FileType::Directory => true,
        _ => return None,
    };
    Some(Entry {
        name: name.to_owned(),
        is_directory,
        size: if is_directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) },
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0)),
    })
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|left, right| {
        right.is_directory.cmp(&left.is_directory).then_with(|| left.name.cmp(&right.name))
    });
    entries
}
