//! Entries of a listing, and how their facts are asked for.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use super::names::Key;
use crate::files::digests::Digests;
use crate::files::file_system::{ChangeTime, FileSystem};
use crate::files::mounts::MountId;
use crate::files::root::{Root, Seen};
use crate::protocol::listing::SortKey;

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its size in bytes; 0 for a directory.
    pub size: u64,
    /// When it was last written, to the second.
    pub modified: SystemTime,
    /// The digests that are recorded of its content.
    pub digests: Digests,
    /// The facts about the file, or about the one that the link leads to.
    stat: Stat,
}

/// The result of a look at a name.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on the stack, and most are entries")]
pub(super) enum Described {
    Entry(Entry),
    /// The name has gone, can't be asked for, or is neither a file nor a directory.
    Nothing,
    /// The name is a link that leads to this mount.
    Elsewhere(MountId),
}

/// A directory that is being listed, and where its links may lead.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    root: Arc<Root>,
    path: Vec<u8>,
    /// The mounts that may be asked.
    mounts: Vec<MountId>,
    /// The directory's device, and how far change times there are trusted; None where nothing is recorded at all.
    recorded: Option<(u64, ChangeTime)>,
}

impl Place {
    /// Waits for the disk.
    pub(super) fn new(directory: OwnedFd, root: Arc<Root>, mut path: Vec<u8>) -> Place {
        if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        // Nobody may have looked for mounts since some were made.
        root.mounts().refresh();
        let mounts = vec![MountId::of(&directory)];
        let device = fstat(&directory).ok().filter(|_| root.has_records()).map(|stat| stat.st_dev);
        let recorded = device.map(|device| (device, FileSystem::of(&directory).change_time));
        Place { directory, root, path, mounts, recorded }
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Links may be followed to this mount from now on.
    pub(super) fn may_ask(&mut self, mount: MountId) {
        self.mounts.push(mount);
    }

    /// Returns the entry of a name. Waits for the disk.
    pub(super) fn describe(&self, name: &[u8]) -> Result<Described, Errno> {
        let stat = match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) if is_absence(errno) => return Ok(Described::Nothing),
            // Otherwise a disk that fails would make a short listing look whole.
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let is_reserved = self.root.mounts().is_reserved_entry(&self.directory, name);
            return Ok(if is_reserved { Described::Nothing } else { described(name, &stat) });
        }
        match self.root.look_at(&[&self.path, name].concat(), &self.mounts) {
            Ok(Seen::Found(stat)) => Ok(described(name, &stat)),
            Ok(Seen::Elsewhere(mount)) => Ok(Described::Elsewhere(mount)),
            Err(errno) if is_absence(errno) => Ok(Described::Nothing),
            Err(errno) => Err(errno),
        }
    }

    /// Returns the digests that are recorded of an entry. Waits for the disk.
    pub(super) fn digests_of(&self, entry: &Entry) -> Digests {
        match self.recorded {
            Some((device, change_time)) if !entry.is_directory && entry.stat.st_dev == device => {
                self.root.recorded_digests(&entry.stat, change_time)
            }
            _ => Digests::default(),
        }
    }

    /// Whether a name of this type is a directory, and its key; None where it isn't listed. Waits for the disk.
    pub(super) fn rank(
        &self,
        name: &[u8],
        file_type: FileType,
        key: SortKey,
    ) -> Result<Option<(bool, Key)>, Errno> {
        let is_listed = matches!(
            file_type,
            FileType::Directory | FileType::RegularFile | FileType::Symlink | FileType::Unknown
        );
        if !is_listed {
            return Ok(None);
        }
        Ok(match self.describe(name)? {
            Described::Entry(entry) => Some((entry.is_directory, entry.key(key))),
            Described::Nothing => None,
            // Among the files, and asked for when its turn comes.
            Described::Elsewhere(_) => Some((false, Key::default())),
        })
    }
}

impl Entry {
    /// Returns the bytes by which it is sorted before its name.
    fn key(&self, key: SortKey) -> Key {
        match key {
            SortKey::Name => 0,
            SortKey::Size => self.size,
            SortKey::Time => {
                self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
            }
        }
        .to_be_bytes()
    }
}

/// Whether a name of this type is a directory, where readdir(3) says so: some file systems don't, and of a link it is
/// the target's.
pub(super) fn is_directory(file_type: FileType) -> Option<bool> {
    match file_type {
        FileType::Directory => Some(true),
        FileType::RegularFile => Some(false),
        _ => None,
    }
}

/// Whether a request for the name would be told that there is no such file, or that it may not be read.
fn is_absence(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NAMETOOLONG
    )
}

fn described(name: &[u8], stat: &Stat) -> Described {
    let is_directory = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => false,
        FileType::Directory => true,
        _ => return Described::Nothing,
    };
    Described::Entry(Entry {
        name: name.to_owned(),
        is_directory,
        size: if is_directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) },
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0)),
        digests: Digests::default(),
        stat: *stat,
    })
}
