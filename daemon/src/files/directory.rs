//! What a directory listing shows.
//!
//! Names are read first, all of them, and sorted; what else a listing tells of an entry is asked when its turn comes.
//! So a listing holds some bytes for each name while its reader takes its time, and those that list the same directory
//! hold them together.

mod names;
mod shelf;
mod sorted;

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom, fstat, seek, statat};
use rustix::io::Errno;

use super::error::FileError;
use super::generation::Generation;
use crate::limits::{Budget, Holder, Plane, Reserved};
use crate::protocol::name::is_reserved_segment;
use names::Names;
use shelf::{Shelf, State};
use sorted::Sorted;

/// Memory for the names of one listing: some 50,000 as cameras make them. A larger directory is listed in its own
/// order, which takes no more memory however many names it has.
const SORTED_BYTES_MAX: usize = 2 << 20;

/// Bytes of a directory that one call reads.
const READ_BYTES: usize = 32 << 10;

/// The same where names aren't sorted: those of one read are held until their turn comes.
const READ_BYTES_UNSORTED: usize = 4 << 10;

/// Calls in one go: some 5,000 names, which take some milliseconds, sorting included, where the directory is in memory.
const READS_AT_ONCE: usize = 8;

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

/// The listings of one daemon.
#[derive(Debug)]
pub struct Listings {
    budget: Arc<Budget>,
    shelf: Shelf,
}

/// What a listing goes by.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Most bytes that wait for readers, over all of them.
    pub waiting_bytes_max: u64,
    /// Whose listing it is.
    pub holder: Holder,
    /// What uploads have changed so far below the root.
    pub generation: Generation,
}

/// A listing of which not all names are read.
#[derive(Debug)]
pub struct Beginning {
    directory: OwnedFd,
    state: State,
    names: Names,
    room: Reserved,
}

/// How far a listing is after a while.
#[derive(Debug)]
pub enum Begun {
    /// There are more names.
    Partly(Beginning),
    /// Its entries can be asked for.
    Listing(Listing),
}

/// One listing under way: regular files and directories, without the reserved one. What links point at isn't looked at:
/// it may lie outside.
#[derive(Debug)]
pub struct Listing {
    directory: OwnedFd,
    read: Read,
    /// Which of the names is next.
    next: usize,
}

/// What has been read of the names.
#[derive(Debug)]
enum Read {
    /// All, directories first and then by name.
    Sorted(Arc<Sorted>),
    /// Those of the last read, as the directory gives them: all are too many.
    Unsorted(Names),
}

impl Listings {
    /// Within this budget.
    pub fn new(budget: Arc<Budget>) -> Listings {
        Listings { budget, shelf: Shelf::default() }
    }

    /// Room for what waits for the reader of one listing.
    pub fn reserve(&self, bytes: usize, terms: Terms) -> Result<Reserved, FileError> {
        let plane = Plane::Data(terms.holder);
        self.budget.reserve(plane, bytes as u64, terms.waiting_bytes_max).map_err(FileError::NoRoom)
    }

    /// Begins a listing. Waits for the disk.
    pub fn begin(&self, directory: OwnedFd, terms: Terms) -> Result<Beginning, FileError> {
        let state = State::of(&fstat(&directory)?, terms.generation);
        let room = self.reserve(0, terms)?;
        Ok(Beginning { directory, state, names: Names::default(), room })
    }

    /// Goes on with the names for a while: a directory may be long and its disk slow, and others wait too. Waits for
    /// the disk.
    pub fn go_on(&self, beginning: Beginning, terms: Terms) -> Result<Begun, FileError> {
        let Beginning { directory, state, mut names, mut room } = beginning;
        if let Some(sorted) = self.shelf.find(&state) {
            return Ok(Begun::Listing(Listing { directory, read: Read::Sorted(sorted), next: 0 }));
        }
        for _ in 0..READS_AT_ONCE {
            if !read_names(&directory, &mut [MaybeUninit::uninit(); READ_BYTES], &mut names)? {
                let sorted = self.shelf.put(state, Arc::new(Sorted::new(names, room)));
                return Ok(Begun::Listing(Listing { directory, read: Read::Sorted(sorted), next: 0 }));
            }
            if names.used_bytes() > SORTED_BYTES_MAX {
                seek(&directory, SeekFrom::Start(0))?;
                let read = Read::Unsorted(Names::default());
                return Ok(Begun::Listing(Listing { directory, read, next: 0 }));
            }
            let more = (names.bytes() as u64).saturating_sub(room.bytes());
            room.grow(more, terms.waiting_bytes_max).map_err(FileError::NoRoom)?;
        }
        Ok(Begun::Partly(Beginning { directory, state, names, room }))
    }
}

impl Listing {
    /// Whether its entries come in order.
    pub fn is_sorted(&self) -> bool {
        matches!(self.read, Read::Sorted(_))
    }

    /// The next entry of those that are still there. Waits for the disk.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Errno> {
        loop {
            let names = match &self.read {
                Read::Sorted(sorted) => sorted.names(),
                Read::Unsorted(names) => names,
            };
            let Some(name) = names.get(self.next) else {
                if self.read_more()? {
                    continue;
                }
                return Ok(None);
            };
            self.next += 1;
            if let Some(entry) = describe(&self.directory, name)? {
                return Ok(Some(entry));
            }
        }
    }

    fn read_more(&mut self) -> Result<bool, Errno> {
        let Read::Unsorted(names) = &mut self.read else { return Ok(false) };
        names.clear();
        self.next = 0;
        read_names(&self.directory, &mut [MaybeUninit::uninit(); READ_BYTES_UNSORTED], names)
    }
}

/// Reads on, as far as `buffer` holds. False: that was all.
fn read_names(directory: &OwnedFd, buffer: &mut [MaybeUninit<u8>], names: &mut Names) -> Result<bool, Errno> {
    let mut entries = RawDir::new(directory, buffer);
    loop {
        let entry = match entries.next() {
            Some(Err(Errno::INTR)) => continue,
            Some(entry) => entry?,
            None => return Ok(false),
        };
        let name = entry.file_name().to_str().unwrap_or(".");
        if !matches!(name, "." | "..") && !is_reserved_segment(name.as_bytes()) {
            match entry.file_type() {
                FileType::Directory => names.add(name, true),
                FileType::RegularFile => names.add(name, false),
                // Some file systems don't say (readdir(3)).
                FileType::Unknown => {
                    if let Some(entry) = describe(directory, name)? {
                        names.add(name, entry.is_directory);
                    }
                }
                _ => {}
            }
        }
        if entries.is_buffer_empty() {
            return Ok(true);
        }
    }
}

/// What a listing tells of a name; None where it has gone or can't be asked for.
fn describe(directory: &OwnedFd, name: &str) -> Result<Option<Entry>, Errno> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
        // Otherwise a disk that fails would make a short listing look whole.
        Err(errno) => return Err(errno),
    };
    let is_directory = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => false,
        FileType::Directory => true,
        _ => return Ok(None),
    };
    Ok(Some(Entry {
        name: name.to_owned(),
        is_directory,
        size: if is_directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) },
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0)),
    }))
}

#[cfg(test)]
mod tests;
