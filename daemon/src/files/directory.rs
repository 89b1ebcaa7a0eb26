//! What a directory listing shows.
//!
//! Names are read first, all of them, and sorted; what else a listing tells of an entry is asked when its turn comes.
//! So a listing holds some bytes for each name while its reader takes its time, and those that list the same directory
//! hold them together. What there is no room to sort is listed as the directory has it, whole all the same.

mod entry;
mod names;
mod shelf;
mod sorted;

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::Errno;

use super::directory_names::read_names;
use super::error::FileError;
use super::generation::Generation;
use super::mounts::MountId;
use super::root::Root;
use crate::limits::{Budget, Holder, Plane, Reserved};
use crate::protocol::listing::{Order, SortKey};
pub use entry::Entry;
use entry::{Described, Place};
use names::{Key, Names};
use shelf::{Shelf, State};
use sorted::Sorted;

/// Memory for the names of one listing: some 120,000 of 60 bytes. A larger directory is listed in its own order, which
/// takes no more memory however many names it has.
const SORTED_BYTES_MAX: usize = 8 << 20;

/// Bytes of a directory that one call reads.
const READ_BYTES: usize = 32 << 10;

/// Bytes that one call reads where names aren't sorted: the names of one read are held until their turn comes.
const READ_BYTES_UNSORTED: usize = 4 << 10;

/// Calls in one go: some 5,000 names, which take some milliseconds where the directory is in memory.
const READS_AT_ONCE: usize = 8;

/// Calls in one step where each entry is asked for its size or time too, which takes as long as reading ten names.
const READS_AT_ONCE_WITH_KEYS: usize = 1;

/// The listings of one daemon.
#[derive(Debug)]
pub struct Listings {
    budget: Arc<Budget>,
    shelf: Shelf,
}

/// The terms on which a directory is listed.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Most bytes that wait for readers, over all of them.
    pub waiting_bytes_max: u64,
    /// Whose listing it is.
    pub holder: Holder,
    /// The generation of the uploads below the root.
    pub generation: Generation,
}

/// A directory that is to be listed.
#[derive(Debug)]
pub struct Subject {
    /// Open.
    pub directory: OwnedFd,
    /// The root that links must not leave.
    pub root: Arc<Root>,
    /// Its path below the root, which is that of its links.
    pub path: Vec<u8>,
    /// The order of its entries.
    pub order: Order,
}

/// A listing of which not all names are read.
#[derive(Debug)]
pub struct Beginning {
    place: Place,
    order: Order,
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

/// One listing under way: regular files, directories, and links that lead to one of these beneath the root, without the
/// reserved directory.
#[derive(Debug)]
pub struct Listing {
    place: Place,
    read: Read,
    /// Which of the names is next.
    next: usize,
}

/// The next step of a listing.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on the stack, and most are entries")]
pub enum Next {
    /// An entry.
    Entry(Entry),
    /// A link leads to this mount, which hasn't been asked for anything yet: who goes on may have to wait for it.
    Elsewhere(MountId),
    /// Nothing.
    End,
}

/// The names that have been read.
#[derive(Debug)]
enum Read {
    /// All names, directories first and then by key and name.
    Sorted { names: Arc<Sorted>, is_descending: bool },
    /// The names of the last read, in the directory's own order.
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
    pub fn begin(&self, subject: Subject, terms: Terms) -> Result<Beginning, FileError> {
        let Subject { directory, root, path, order } = subject;
        let state = State::of(&fstat(&directory)?, terms.generation);
        let room = self.reserve(0, terms)?;
        let names = if has_keys(order) { Names::with_keys() } else { Names::default() };
        Ok(Beginning { place: Place::new(directory, root, path), order, state, names, room })
    }

    /// Goes on with the names for a while: a directory may be long and its disk slow, and others wait too. Waits for
    /// the disk.
    pub fn go_on(&self, beginning: Beginning, terms: Terms) -> Result<Begun, FileError> {
        let Beginning { place, order, state, mut names, mut room } = beginning;
        let Order::Sorted { key, is_descending } = order else { return Ok(Begun::Listing(unsorted(place)?)) };
        // Sizes and times may change while a directory doesn't.
        let is_shared = key == SortKey::Name;
        if is_shared && let Some(names) = self.shelf.find(&state) {
            return Ok(Begun::Listing(sorted(place, names, is_descending)));
        }
        let reads = if has_keys(order) { READS_AT_ONCE_WITH_KEYS } else { READS_AT_ONCE };
        for _ in 0..reads {
            let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
            if !read_on(&place, key, &mut buffer, &mut names)? {
                let names = Arc::new(Sorted::new(names, room));
                let names = if is_shared { self.shelf.put(state, names) } else { names };
                return Ok(Begun::Listing(sorted(place, names, is_descending)));
            }
            let more = (names.bytes_to_sort() as u64).saturating_sub(room.bytes());
            if names.used_bytes() > SORTED_BYTES_MAX || room.grow(more, terms.waiting_bytes_max).is_err() {
                return Ok(Begun::Listing(unsorted(place)?));
            }
        }
        Ok(Begun::Partly(Beginning { place, order, state, names, room }))
    }
}

/// Whether entries are sorted by more than their names.
fn has_keys(order: Order) -> bool {
    matches!(order, Order::Sorted { key: SortKey::Size | SortKey::Time, .. })
}

fn sorted(place: Place, names: Arc<Sorted>, is_descending: bool) -> Listing {
    Listing { place, read: Read::Sorted { names, is_descending }, next: 0 }
}

fn unsorted(place: Place) -> Result<Listing, Errno> {
    seek(place.directory(), SeekFrom::Start(0))?;
    Ok(Listing { place, read: Read::Unsorted(Names::default()), next: 0 })
}

impl Listing {
    /// Whether its entries come in order.
    pub fn is_sorted(&self) -> bool {
        matches!(self.read, Read::Sorted { .. })
    }

    /// The next entry of those that are still there. Waits for the disk.
    pub fn next_entry(&mut self) -> Result<Next, Errno> {
        loop {
            let name = match &self.read {
                Read::Sorted { names, is_descending: false } => names.names().get(self.next),
                Read::Sorted { names, is_descending: true } => names.names().get_reversed(self.next),
                Read::Unsorted(names) => names.get(self.next),
            };
            let Some(name) = name else {
                if self.read_more()? {
                    continue;
                }
                return Ok(Next::End);
            };
            match self.place.describe(name)? {
                Described::Entry(mut entry) => {
                    entry.digests = self.place.digests_of(&entry);
                    self.next += 1;
                    return Ok(Next::Entry(entry));
                }
                Described::Nothing => self.next += 1,
                Described::Elsewhere(mount) => {
                    self.place.may_ask(mount);
                    return Ok(Next::Elsewhere(mount));
                }
            }
        }
    }

    fn read_more(&mut self) -> Result<bool, Errno> {
        let Read::Unsorted(names) = &mut self.read else { return Ok(false) };
        names.clear();
        self.next = 0;
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES_UNSORTED];
        read_on(&self.place, SortKey::Name, &mut buffer, names)
    }
}

/// Reads on, as far as `buffer` holds. False: that was all.
fn read_on(
    place: &Place,
    key: SortKey,
    buffer: &mut [MaybeUninit<u8>],
    names: &mut Names,
) -> Result<bool, Errno> {
    read_names(place.directory(), buffer, |name, file_type| {
        let known = entry::is_directory(file_type).filter(|_| key == SortKey::Name);
        let found = match known {
            Some(is_directory) => Some((is_directory, Key::default())),
            None => place.rank(name, file_type, key)?,
        };
        if let Some((is_directory, key)) = found {
            names.add(name, is_directory, key);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
