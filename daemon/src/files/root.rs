//! The served directory: what its names lead to, and what is known of the files there.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, OFlags, ResolveFlags, Stat, fstat, statat};
use rustix::io::Errno;

use super::beneath::{Beneath, patiently};
use super::digests::{Algorithms, Digests};
use super::error::FileError;
use super::file_system::{ChangeTime, FileSystem, mute_name};
use super::identity::{Recorded, Stamp};
use super::mounts::{MountId, Mounts};
use super::place::Place;
use super::records::Records;
use super::source::SourceFile;
use crate::config::{EtagChoice, SymlinkChoice};
use crate::protocol::name::Name;

/// The state of the path by which the root was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The path leads to the root.
    Served,
    /// The path leads to another directory, or nowhere; the root itself still exists somewhere.
    Replaced,
    /// The root has no name any more, at this path or another.
    Removed,
}

/// The file or directory that a name led to.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(SourceFile),
    /// A directory.
    Directory(OwnedFd),
}

/// The result of a look-up that stops at mounts it may not ask.
#[derive(Debug)]
pub enum Step {
    /// The look-up came to its end.
    Found(Found),
    /// A link leads to this mount, which hasn't been asked for anything yet.
    Elsewhere(MountId),
}

/// The root directory, held open: renaming it or mounting over it changes nothing for a running daemon.
#[derive(Debug)]
pub struct Root {
    beneath: Beneath,
    file_system: FileSystem,
    etag: EtagChoice,
    /// The records of files below the root: beside the partials where there are uploads, else in memory.
    records: OnceLock<Records>,
}

impl Root {
    /// Opens the root, whose links lead where they stay beneath it. Waits for the disk.
    pub fn open(path: &Path) -> Result<Root, FileError> {
        let beneath = Beneath::open(path)?;
        let file_system = FileSystem::of(beneath.directory());
        Ok(Root { beneath, file_system, etag: EtagChoice::Node, records: OnceLock::new() })
    }

    /// Lets links lead as `choice` says, where it says so into the directories `targets`. Waits for the disk.
    pub fn following(self, choice: SymlinkChoice, targets: &[String]) -> Result<Root, FileError> {
        Ok(Root { beneath: self.beneath.following(choice, targets)?, ..self })
    }

    /// Returns where `path`, by which the root was opened, leads now. Waits for the disk.
    pub fn standing(&self, path: &Path) -> Standing {
        let own = match fstat(self.directory()) {
            Ok(stat) if stat.st_nlink == 0 => return Standing::Removed,
            // STALE comes from NFS: the server has the directory no more.
            Err(Errno::STALE) => return Standing::Removed,
            Ok(stat) => stat,
            Err(_) => return Standing::Served,
        };
        match statat(CWD, path, AtFlags::empty()) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino) => Standing::Served,
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Standing::Replaced,
            // A directory on the way was closed to the daemon, or a disk fails: neither says anything about the
            // root.
            Err(_) => Standing::Served,
        }
    }

    /// Whether the root may be read: a sandbox shows the directory that was there at its start. Waits for the
    /// disk.
    pub fn may_be_read(&self) -> bool {
        self.open_directory(b".").is_ok()
    }

    /// Makes the files of this root have entity tags of this kind.
    #[must_use]
    pub fn tagging(self, etag: EtagChoice) -> Root {
        Root { etag, ..self }
    }

    /// Returns the mounts below the root.
    pub fn mounts(&self) -> &Arc<Mounts> {
        self.beneath.mounts()
    }

    /// Returns the name of the root's file system, where that is local and can't tell which bytes of a file are in
    /// memory.
    pub fn mute_file_system(&self) -> Option<&'static str> {
        if self.file_system.place == Place::LocalDisk { mute_name(self.directory()) } else { None }
    }

    /// Returns the kind of entity tags that the root's files have.
    pub fn etag(&self) -> EtagChoice {
        self.etag
    }

    /// Returns the algorithms of the digests that the entity tags follow from.
    pub fn algorithms(&self) -> Algorithms {
        Algorithms { sha256: self.etag == EtagChoice::Digest, crc32c: false }
    }

    /// Keeps the records of files in this staging directory from now on. Waits for the disk.
    pub(super) fn record_in(&self, staging: BorrowedFd<'_>) {
        self.records.get_or_init(|| Records::in_staging(staging));
    }

    /// Whether anything may be recorded of the files below it. Waits for the disk.
    pub(super) fn has_records(&self) -> bool {
        !self.records().are_none()
    }

    /// The digests that are recorded of a file of a file system with such change times. Waits for the disk.
    pub(super) fn recorded_digests(&self, stat: &Stat, change_time: ChangeTime) -> Digests {
        let stamp = Stamp::of(stat);
        if stamp.is_telling(change_time) { self.records().find(&stamp).digests } else { Digests::default() }
    }

    fn records(&self) -> &Records {
        self.records.get_or_init(Records::in_memory)
    }

    /// Returns the record of a file. Waits for the disk.
    pub(super) fn recorded(&self, file: &SourceFile) -> Recorded {
        if file.is_telling() { self.records().find(file.stamp()) } else { Recorded::default() }
    }

    /// Records digests of a file in the state in which it was opened. `is_durable` says whether the content will
    /// be found so after a crash. Waits for the disk.
    pub(super) fn record(&self, file: &SourceFile, digests: &Digests, is_durable: bool) {
        let recorded = Recorded { digests: *digests, is_published: false };
        self.record_state(file, &recorded, is_durable);
    }

    /// Records that this program published a file, in the state in which it was opened, with these digests. Waits
    /// for the disk.
    pub(super) fn record_published(
        &self,
        file: SourceFile,
        digests: &Digests,
        is_durable: bool,
    ) -> SourceFile {
        let recorded = Recorded { digests: *digests, is_published: true };
        self.record_state(&file, &recorded, is_durable);
        if file.is_telling() { file.with_recorded(recorded) } else { file }
    }

    fn record_state(&self, file: &SourceFile, recorded: &Recorded, is_durable: bool) {
        if file.is_telling() {
            self.records().put(file.stamp(), recorded, is_durable);
        }
    }

    /// Whether the entity tag of a file follows from its record.
    fn needs_record(&self, file: &SourceFile) -> bool {
        match self.etag {
            EtagChoice::Times => false,
            EtagChoice::Digest => file.is_telling(),
            // A file that is old enough has a strong tag of its own.
            EtagChoice::Node => file.is_telling() && !file.is_settled(SystemTime::now()),
        }
    }

    /// Makes a source of a file that was just opened.
    fn file(&self, descriptor: OwnedFd, stat: &Stat, file_system: FileSystem, mount: MountId) -> SourceFile {
        SourceFile::new(descriptor, stat, file_system, self.etag).on(mount).past_its_description()
    }

    /// Makes a source of a file that was just opened, with its record. Waits for the disk.
    pub(super) fn describe(&self, descriptor: OwnedFd, stat: &Stat, file_system: FileSystem) -> SourceFile {
        let mount = MountId::of(&descriptor);
        let file = self.file(descriptor, stat, file_system, mount).looked_into();
        if !self.needs_record(&file) {
            return file;
        }
        let recorded = self.recorded(&file);
        file.with_recorded(recorded)
    }

    /// Makes a source with its record where that needs no disk, else None.
    fn describe_now(&self, descriptor: OwnedFd, stat: &Stat) -> Option<SourceFile> {
        let file = self.file(descriptor, stat, self.file_system, self.mounts().root());
        if !self.needs_record(&file) {
            return Some(file);
        }
        let recorded = self.records().find_now(file.stamp())?;
        Some(file.with_recorded(recorded))
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        self.beneath.directory()
    }

    /// Finds `name` if that needs no disk: every part is in the dentry cache (RESOLVE_CACHED, 5.12) and on the
    /// root's own mount, and that is local, since open(2) and fstat(2) on FUSE or a network file system ask a
    /// server. Returns None where it might wait; then [`Root::find`] has the answer.
    pub fn find_cached(&self, name: &Name) -> Option<Result<Found, FileError>> {
        if name.is_reserved() {
            return Some(Err(FileError::NotFound));
        }
        if self.file_system.place == Place::Elsewhere {
            return None;
        }
        let path = name.as_bytes();
        match self.resolve(path, ResolveFlags::CACHED | ResolveFlags::NO_XDEV) {
            // INVAL comes from a kernel before 5.12, XDEV from a way to another mount or outside.
            Err(Errno::AGAIN | Errno::INVAL | Errno::XDEV) => None,
            // Where no link is followed the log has to name it.
            Err(Errno::LOOP) if self.beneath.follows_none() => None,
            Ok(descriptor) => inspect(descriptor, path).map_or_else(
                |error| Some(Err(error)),
                |opened| match opened {
                    Opened::File(descriptor, stat) => {
                        self.describe_now(descriptor, &stat).map(|file| Ok(Found::File(file)))
                    }
                    Opened::Directory(descriptor) => Some(Ok(Found::Directory(descriptor))),
                },
            ),
            Err(errno) => Some(Err(errno.into())),
        }
    }

    /// Finds `name`, but asks no mount besides the root's own and these: where a link leads to a mount that
    /// doesn't answer, the look-up must wait on that mount's account, and not on a healthy one's. Waits for the
    /// disk.
    pub fn find_within(&self, name: &Name, mounts: &[MountId]) -> Result<Step, FileError> {
        if name.is_reserved() {
            return Err(FileError::NotFound);
        }
        self.mounts().refresh();
        let path = name.as_bytes();
        if self.beneath.may_lead_besides(mounts) {
            if mounts.iter().all(|mount| *mount == self.mounts().root()) {
                // The first try has no mount to cross, so that the usual name costs no more.
                match patiently(|| self.resolve(path, ResolveFlags::NO_XDEV)) {
                    Err(Errno::XDEV | Errno::LOOP) => {}
                    opened => return self.found(opened?, path).map(Step::Found),
                }
            }
            if let Some(mount) = self.beneath.leads_to(path, mounts) {
                return Ok(Step::Elsewhere(mount));
            }
        }
        self.find(name).map(Step::Found)
    }

    /// Returns the mount of the directory that `name` is in, where that needs no disk.
    pub fn mount_of_directory_now(&self, name: &Name) -> Option<MountId> {
        let mount = self.mounts().of_name(name);
        let is_sure = !self.mounts().are_besides(&[mount])
            || mount == self.mounts().root()
                && self.file_system.place != Place::Elsewhere
                && self.open_directory_now(directory_of(name)).is_some();
        is_sure.then_some(mount)
    }

    /// Returns the first mount besides the root's own and these to which links lead on the way to the directory of
    /// `name`. Only the root's own and these are asked. Waits for the disk.
    pub fn directory_leads_to(&self, name: &Name, mounts: &[MountId]) -> Option<MountId> {
        self.mounts().refresh();
        self.beneath.leads_to(directory_of(name), mounts)
    }

    /// Returns the link on the way of `name` that isn't followed, and what it says; None where it is another reason why
    /// nothing is found. Waits for the disk.
    pub fn link_refused(&self, name: &Name) -> Option<(String, String)> {
        self.beneath.link_refused(name.as_bytes())
    }

    /// Finds `name`, wherever it leads. Waits for the disk.
    pub fn find(&self, name: &Name) -> Result<Found, FileError> {
        if name.is_reserved() {
            return Err(FileError::NotFound);
        }
        self.mounts().refresh();
        let path = name.as_bytes();
        let descriptor = patiently(|| self.resolve(path, ResolveFlags::empty()))?;
        self.found(descriptor, path)
    }

    fn found(&self, descriptor: OwnedFd, path: &[u8]) -> Result<Found, FileError> {
        let file_system = FileSystem::of(&descriptor);
        Ok(match inspect(descriptor, path)? {
            Opened::File(descriptor, stat) => Found::File(self.describe(descriptor, &stat, file_system)),
            Opened::Directory(descriptor) => Found::Directory(descriptor),
        })
    }

    /// Looks where `path` leads, beneath the root as a request for it would be led. A link on its way that leads to
    /// another mount than these is named instead of followed, as by [`Root::find_within`]. Waits for the disk.
    pub(super) fn look_at(&self, path: &[u8], mounts: &[MountId]) -> Result<Seen, Errno> {
        if self.beneath.may_lead_besides(mounts)
            && let Some(mount) = self.beneath.leads_to(path, mounts)
        {
            return Ok(Seen::Elsewhere(mount));
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = patiently(|| self.beneath.open_read(path, flags, ResolveFlags::empty()))?;
        fstat(found).map(Seen::Found)
    }

    /// Opens the directory at `path`, which is relative to the root and `.` for the root itself; the descriptor
    /// can be synced (fsync(2)). Waits for the disk.
    pub(super) fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        patiently(|| self.beneath.open_written(path, flags, ResolveFlags::empty()))
    }

    /// Opens a directory as [`Root::open_directory`] does, if that needs no disk: None where it might, and where
    /// it can't be opened.
    pub(super) fn open_directory_now(&self, path: &[u8]) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.beneath.open_written(path, flags, ResolveFlags::CACHED | ResolveFlags::NO_XDEV).ok()
    }

    fn resolve(&self, path: &[u8], extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        // NONBLOCK keeps the opening of a FIFO from waiting for its writer, NOCTTY from taking a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.beneath.open_read(path, flags, extra)
    }
}

/// Returns the path of the directory that a name is in.
fn directory_of(name: &Name) -> &[u8] {
    let path = name.as_bytes();
    memchr::memrchr(b'/', path).map_or(b".", |slash| &path[..slash])
}

/// The result of a look at a path.
pub(super) enum Seen {
    /// The path leads to a file of this kind.
    Found(Stat),
    /// A link on the way leads to this mount.
    Elsewhere(MountId),
}

/// An opened file or directory.
enum Opened {
    File(OwnedFd, Stat),
    Directory(OwnedFd),
}

fn inspect(descriptor: OwnedFd, path: &[u8]) -> Result<Opened, FileError> {
    let stat = fstat(&descriptor)?;
    match FileType::from_raw_mode(stat.st_mode) {
        // `file/` names no file.
        FileType::RegularFile if !path.ends_with(b"/") => Ok(Opened::File(descriptor, stat)),
        FileType::Directory => Ok(Opened::Directory(descriptor)),
        _ => Err(FileError::NotFound),
    }
}

#[cfg(test)]
mod tests;
