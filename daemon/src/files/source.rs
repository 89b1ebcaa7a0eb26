//! An open regular file that transfers read from.

use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Stat, StatxAttributes, StatxFlags, fgetxattr, fstat, statx};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

use super::file_system::{ChangeTime, FileSystem};
use super::hot_windows::HotWindows;
use super::identity::{Observed, Recorded, Stamp};
use super::mounts::MountId;
use super::place::Place;
use super::unpublished::DESCRIPTION;
use crate::config::EtagChoice;
use crate::limits::Tick;
use crate::protocol::conditional::Validators;

/// The smallest unlinked file whose last close is handed over: freeing fewer blocks than this takes no longer than
/// the hand-over.
const UNLINKED_BYTES_MIN: u64 = 1 << 20;

/// The most times that a short file is read while somebody writes to it; after that it is served like a long one.
const READS_MAX: usize = 3;

/// A file opened for reading, with its metadata at that moment. Clones share the descriptor; every read names its
/// own offset, so clones don't disturb each other.
#[derive(Clone, Debug)]
pub struct SourceFile {
    descriptor: Arc<OwnedFd>,
    device: u64,
    observed: Observed,
    recorded: Recorded,
    file_system: FileSystem,
    mount: MountId,
    is_unsized: bool,
    etag: EtagChoice,
    hot: RefCell<HotWindows>,
    /// Whether the file system has refused to tell which bytes are in memory.
    is_mute: Cell<bool>,
}

/// The identity of a file among all others of this host, for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The number of its file system.
    pub device: u64,
    /// The inode number in that file system.
    pub inode: u64,
}

impl SourceFile {
    /// Makes a source from a descriptor, its fstat(2), its file system, and the choice of its entity tag.
    pub(super) fn new(
        descriptor: OwnedFd,
        stat: &Stat,
        file_system: FileSystem,
        etag: EtagChoice,
    ) -> SourceFile {
        SourceFile {
            descriptor: Arc::new(descriptor),
            device: stat.st_dev,
            observed: Observed::of(stat),
            recorded: Recorded::default(),
            file_system,
            mount: MountId::UNKNOWN,
            is_unsized: false,
            etag,
            hot: RefCell::default(),
            is_mute: Cell::default(),
        }
    }

    /// Sets the mount that the file lies on.
    pub(super) fn on(self, mount: MountId) -> SourceFile {
        SourceFile { mount, ..self }
    }

    /// Returns the mount that the file lies on.
    pub fn mount(&self) -> MountId {
        self.mount
    }

    /// Adds the record of the file.
    pub(super) fn with_recorded(self, recorded: Recorded) -> SourceFile {
        SourceFile { recorded, ..self }
    }

    /// Takes the metadata anew; keeps the former where fstat(2) fails.
    pub(super) fn looked_at_again(self) -> SourceFile {
        match fstat(&self) {
            Ok(stat) => SourceFile { observed: Observed::of(&stat), recorded: Recorded::default(), ..self },
            Err(_) => self,
        }
    }

    /// Looks again at a file that may have been published at this moment and have yet to lose its description,
    /// which changes its change time and not a byte. That needs no disk: the attributes of a file that was changed
    /// a moment ago are in memory.
    pub(super) fn past_its_description(self) -> SourceFile {
        if self.stamp().is_settled(SystemTime::now()) || self.file_system.change_time == ChangeTime::Unproven
        {
            return self;
        }
        if fgetxattr(&self, DESCRIPTION, &mut [0_u8; 1][..]) != Err(Errno::RANGE) {
            // The file may have lost its description since it was looked at.
            return self.looked_at_again();
        }
        let file_system = FileSystem { change_time: ChangeTime::Unproven, ..self.file_system };
        SourceFile { file_system, ..self }
    }

    pub(super) fn stamp(&self) -> &Stamp {
        &self.observed.stamp
    }

    /// Whether the stamp identifies the state among all states of all files, if it is old enough.
    pub(super) fn is_telling(&self) -> bool {
        self.stamp().is_telling(self.file_system.change_time)
    }

    /// Whether the stamp identifies the state among all states, including any that the file gets from `now` on.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        self.is_telling() && self.stamp().is_settled(now)
    }

    /// Whether the entity tag waits for a digest that can be made now.
    pub fn lacks_digest(&self, now: SystemTime) -> bool {
        self.etag == EtagChoice::Digest && self.recorded.digests.sha256.is_none() && self.is_settled(now)
    }

    /// Returns the length in bytes at the opening.
    pub fn size(&self) -> u64 {
        self.stamp().size
    }

    /// Whether the file lies in memory, so that no part of it is ever cold.
    pub fn lives_in_memory(&self) -> bool {
        self.file_system.place == Place::Memory
    }

    /// Returns the identity of the file.
    pub fn id(&self) -> FileId {
        FileId { device: self.device, inode: self.stamp().inode }
    }

    /// Whether this window was found in memory at tick `since` or later, and the note still counts at tick `now`.
    pub fn is_known_hot(&self, window: u64, since: Tick, now: Tick) -> bool {
        self.hot.borrow().has(window, since, now)
    }

    /// Notes that this window was found in memory at tick `now`. The notes count until tick `end`, taken from the
    /// first note since `since`.
    pub fn note_hot(&self, window: u64, since: Tick, now: Tick, end: Tick) {
        self.hot.borrow_mut().note(window, since, now, end);
    }

    /// Drops the notes on windows in memory, which may not be there any more.
    pub fn forget_hot(&self) {
        self.hot.borrow_mut().forget();
    }

    /// Whether the open file is still as it was and has a name: false after a write, a truncation, a removal or a
    /// replacement by rename. A remote file system is believed, since the question may ask a server.
    pub fn is_unchanged(&self) -> bool {
        if self.is_elsewhere() {
            return true;
        }
        fstat(self).is_ok_and(|stat| stat.st_nlink > 0 && Stamp::of(&stat) == *self.stamp())
    }

    /// Whether the open file has the bytes that it had when it was opened, as far as its times tell. Asks a server
    /// where it [lies elsewhere](SourceFile::is_elsewhere).
    pub fn is_as_opened(&self) -> bool {
        let differs =
            |stat: &Stat| self.observed.may_differ(&Observed::of(stat), self.file_system.change_time);
        let Ok(stat) = fstat(self) else { return false };
        // The second look is needed since stat(2) may take the links of one moment and the change time of the
        // next.
        !differs(&stat)
            || fstat(self).is_ok_and(|stat| !differs(&stat))
            || self.has_grown() && self.is_append_only()
    }

    /// Whether the file is the same one, and longer than when it was opened.
    pub fn has_grown(&self) -> bool {
        fstat(self).is_ok_and(|stat| {
            let now = Stamp::of(&stat);
            now.inode == self.stamp().inode && now.size > self.size()
        })
    }

    /// Whether the file system allows nothing but appending to the file (chattr +a).
    fn is_append_only(&self) -> bool {
        let attributes = statx(self, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        attributes.is_ok_and(|statx| statx.stx_attributes.contains(StatxAttributes::APPEND))
    }

    /// Whether the file's modification time is later than `date`.
    pub fn is_modified_after(&self, date: SystemTime) -> bool {
        self.stamp().is_modified_after(date)
    }

    /// Whether every question about the file may ask a server.
    pub fn is_elsewhere(&self) -> bool {
        self.file_system.place == Place::Elsewhere
    }

    /// Whether the file system tells which bytes are in memory.
    pub fn tells_residency(&self) -> bool {
        !self.is_mute.get()
    }

    /// Notes that the file system doesn't tell which bytes are in memory.
    pub fn note_mute(&self) {
        self.is_mute.set(true);
    }

    /// Whether the file states a length of 0 and has content all the same: nothing but reading it tells how much.
    pub fn is_unsized(&self) -> bool {
        self.is_unsized
    }

    /// Reads a first byte where the file states a length of 0: files that the kernel or a FUSE server makes while
    /// they are read have content all the same. Waits for the disk.
    pub(super) fn looked_into(self) -> SourceFile {
        let may_be = self.size() == 0 && self.is_elsewhere();
        // An error is no end: whoever reads the whole file gets it again, and tells of it.
        let is_unsized = may_be && pread(&self, &mut [0_u8; 1][..], 0) != Ok(0);
        SourceFile { is_unsized, ..self }
    }

    /// Reads the whole content, if that is at most `bytes_max` and in memory. Where the file was changed since its
    /// opening, its metadata is taken anew.
    pub fn read_hot(&mut self, bytes_max: u64) -> Option<Box<[u8]>> {
        for _ in 0..READS_MAX {
            if self.size() > bytes_max || self.is_elsewhere() {
                return None;
            }
            let content = self.read_now();
            let observed = Observed::of(&fstat(&self).ok()?);
            if observed.stamp == *self.stamp() {
                return content;
            }
            self.observed = observed;
            self.recorded = Recorded::default();
        }
        None
    }

    /// Reads the whole content of a file of at most `bytes_max` that is still as it was opened; None for any
    /// other. Waits for the disk.
    pub fn read_cold(&self, bytes_max: u64) -> Result<Option<Box<[u8]>>, Errno> {
        if self.size() > bytes_max {
            return Ok(None);
        }
        let mut content = self.room_for_content();
        let mut filled = 0;
        while filled < content.len() {
            match pread(self, &mut content[filled..], filled as u64) {
                Ok(0) => return Ok(None),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let is_as_opened = fstat(self).is_ok_and(|stat| Stamp::of(&stat) == *self.stamp());
        Ok(is_as_opened.then(|| content.into_boxed_slice()))
    }

    fn read_now(&self) -> Option<Box<[u8]>> {
        let mut content = self.room_for_content();
        let read = self.read_at_once(&mut content, 0);
        (read == Ok(content.len())).then(|| content.into_boxed_slice())
    }

    fn room_for_content(&self) -> Vec<u8> {
        vec![0; usize::try_from(self.size()).unwrap_or(usize::MAX)]
    }

    /// Reads the bytes from `offset` on that are in memory, up to the first that isn't; AGAIN where the first
    /// isn't, and OPNOTSUPP where the file system can't tell. Never waits for a disk.
    pub fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if self.is_elsewhere() {
            return Err(Errno::AGAIN);
        }
        match preadv2(self, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            // This is tmpfs before Linux 6.6, or a memory file: nothing waits there anyway.
            Err(Errno::OPNOTSUPP) if self.lives_in_memory() => pread(self, buffer, offset),
            read => read,
        }
    }

    /// Whether nobody else holds the descriptor.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.descriptor) == 1
    }

    /// Whether closing the file may take long: the last close of an unlinked file frees its blocks, and a remote
    /// file system asks a server.
    pub fn close_may_wait(&self) -> bool {
        match self.file_system.place {
            Place::Elsewhere => true,
            Place::LocalDisk | Place::Memory => {
                self.size() >= UNLINKED_BYTES_MIN
                    && fstat(&self.descriptor).is_ok_and(|stat| stat.st_nlink == 0)
            }
        }
    }

    /// Returns the validators of this state, for an answer of this date.
    pub fn validators(&self, date: SystemTime) -> Validators {
        let change_time = self.file_system.change_time;
        Validators {
            etag: self.stamp().etag(self.etag, change_time, &self.recorded, SystemTime::now()),
            modified: self.stamp().last_modified(date),
        }
    }

    /// Returns the descriptor, to be shared with a thread that reads for this transfer.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }
}

impl AsFd for SourceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;

    use super::super::file_system::FileSystem;
    use super::{EtagChoice, SourceFile, SystemTime};

    #[test]
    fn a_short_file_that_changed_since_its_opening_is_known_as_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "before").unwrap();
        let opened = std::fs::File::open(&path).unwrap();
        let (stat, file_system) = (fstat(&opened).unwrap(), FileSystem::of(&opened));
        let date = SystemTime::now();
        for content in ["after", "longer than before"] {
            let descriptor = opened.try_clone().unwrap().into();
            let mut file = SourceFile::new(descriptor, &stat, file_system, EtagChoice::Node);
            let before = file.validators(date);
            std::fs::write(&path, content).unwrap();
            assert!(!file.is_as_opened() && !file.is_unchanged());
            assert_eq!(file.read_cold(100), Ok(None));
            assert_eq!(file.read_hot(100).as_deref(), Some(content.as_bytes()));
            assert_eq!(file.read_cold(100).unwrap().as_deref(), Some(content.as_bytes()));
            assert_eq!(file.read_cold(4), Ok(None));
            assert_eq!(file.size(), content.len() as u64);
            assert_ne!(file.validators(date), before);
            assert!(file.is_as_opened() && file.is_unchanged());
        }
    }
}
