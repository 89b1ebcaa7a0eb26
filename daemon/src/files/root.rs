//! The served directory: names are resolved beneath it by openat2(2) (Linux 5.6), so that no link and no race
//! leads outside.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::digests::{Algorithms, Digests};
use super::error::FileError;
use super::file_system::{ChangeTime, FileSystem, mute_name};
use super::identity::{Recorded, Stamp};
use super::links;
use super::mounts::{MountId, Mounts};
use super::place::Place;
use super::records::Records;
use super::source::SourceFile;
use crate::config::EtagChoice;
use crate::protocol::name::{Name, is_reserved_segment};

/// The most tries of one look-up. openat2 answers EAGAIN when a rename elsewhere races with `..` in a link; each
/// further try is as likely to get through as the first.
const TRIES_MAX: usize = 8;

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
    directory: OwnedFd,
    file_system: FileSystem,
    mounts: Arc<Mounts>,
    etag: EtagChoice,
    /// The records of files below the root: beside the partials where there are uploads, else in memory.
    records: OnceLock<Records>,
}

impl Root {
    /// Opens the root. Waits for the disk.
    pub fn open(path: &Path) -> Result<Root, FileError> {
        let directory = openat(CWD, path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let file_system = FileSystem::of(&directory);
        let mounts = Arc::new(Mounts::below(&directory));
        let root = Root { directory, file_system, mounts, etag: EtagChoice::Node, records: OnceLock::new() };
        match root.open_beneath(
            b".",
            OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC,
            ResolveFlags::empty(),
        ) {
            // A seccomp filter that can't look into its arguments refuses openat2 as a whole, as systemd's for
            // RestrictSUIDSGID= does, which DynamicUser= implies (systemd 252). The start says so, rather than
            // each request.
            Err(Errno::NOSYS) => Err(FileError::NoOpenat2),
            _ => Ok(root),
        }
    }

    /// Returns where `path`, by which the root was opened, leads now. Waits for the disk.
    pub fn standing(&self, path: &Path) -> Standing {
        let own = match fstat(&self.directory) {
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
        &self.mounts
    }

    /// Returns the name of the root's file system, where that is local and can't tell which bytes of a file are in
    /// memory.
    pub fn mute_file_system(&self) -> Option<&'static str> {
        if self.file_system.place == Place::LocalDisk { mute_name(&self.directory) } else { None }
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
        let file = self.file(descriptor, stat, self.file_system, self.mounts.root());
        if !self.needs_record(&file) {
            return Some(file);
        }
        let recorded = self.records().find_now(file.stamp())?;
        Some(file.with_recorded(recorded))
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
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
        self.mounts.refresh();
        let path = name.as_bytes();
        if self.mounts.are_besides(mounts) {
            if mounts.iter().all(|mount| *mount == self.mounts.root()) {
                // The first try has no mount to cross, so that the usual name costs no more.
                match patiently(|| self.resolve(path, ResolveFlags::NO_XDEV)) {
                    Err(Errno::XDEV) => {}
                    opened => return self.found(opened?, path).map(Step::Found),
                }
            }
            if let Some(mount) = links::lead_to(&self.directory, &self.mounts, path, mounts) {
                return Ok(Step::Elsewhere(mount));
            }
        }
        self.find(name).map(Step::Found)
    }

    /// Returns the mount of the directory that `name` is in, where that needs no disk.
    pub fn mount_of_directory_now(&self, name: &Name) -> Option<MountId> {
        let mount = self.mounts.of_name(name);
        let is_sure = !self.mounts.are_besides(&[mount])
            || mount == self.mounts.root()
                && self.file_system.place != Place::Elsewhere
                && self.open_directory_now(directory_of(name)).is_some();
        is_sure.then_some(mount)
    }

    /// Returns the first mount besides the root's own and these to which links lead on the way to the directory of
    /// `name`. Only the root's own and these are asked. Waits for the disk.
    pub fn directory_leads_to(&self, name: &Name, mounts: &[MountId]) -> Option<MountId> {
        self.mounts.refresh();
        links::lead_to(&self.directory, &self.mounts, directory_of(name), mounts)
    }

    /// Finds `name`, wherever it leads. Waits for the disk.
    pub fn find(&self, name: &Name) -> Result<Found, FileError> {
        if name.is_reserved() {
            return Err(FileError::NotFound);
        }
        self.mounts.refresh();
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
        if self.mounts.are_besides(mounts)
            && let Some(mount) = links::lead_to(&self.directory, &self.mounts, path, mounts)
        {
            return Ok(Seen::Elsewhere(mount));
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = patiently(|| self.open_served(path, flags, ResolveFlags::empty()))?;
        fstat(found).map(Seen::Found)
    }

    /// Opens the directory at `path`, which is relative to the root and `.` for the root itself; the descriptor
    /// can be synced (fsync(2)). Waits for the disk.
    pub(super) fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        patiently(|| self.open_served(path, flags, ResolveFlags::empty()))
    }

    /// Opens a directory as [`Root::open_directory`] does, if that needs no disk: None where it might, and where
    /// it can't be opened.
    pub(super) fn open_directory_now(&self, path: &[u8]) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.open_served(path, flags, ResolveFlags::CACHED | ResolveFlags::NO_XDEV).ok()
    }

    fn resolve(&self, path: &[u8], extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        // NONBLOCK keeps the opening of a FIFO from waiting for its writer, NOCTTY from taking a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.open_served(path, flags, extra)
    }

    /// Opens as [`Root::open_beneath`] does, but nothing in a staging directory, this share's or another's, where a
    /// link leads into one: that is outside. What a link leads to has a path of its own. A way without links takes one
    /// call.
    fn open_served(&self, path: &[u8], flags: OFlags, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        match self.open_beneath(path, flags, extra | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {}
            opened => return opened,
        }
        let opened = self.open_beneath(path, flags, extra)?;
        if is_in_staging(&opened) { Err(Errno::XDEV) } else { Ok(opened) }
    }

    fn open_beneath(&self, path: &[u8], flags: OFlags, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
        openat2(&self.directory, path, flags, Mode::empty(), resolve)
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

/// Whether a file or directory lies in a staging directory or is one, by the path that it has now.
fn is_in_staging(opened: &OwnedFd) -> bool {
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let Ok(path) = readlinkat(CWD, link, Vec::new()) else { return true };
    path.as_bytes().split(|byte| *byte == b'/').any(is_reserved_segment)
}

/// Opens again where a race with a rename or a signal was in the way.
pub(super) fn patiently(open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 0..TRIES_MAX {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests;
