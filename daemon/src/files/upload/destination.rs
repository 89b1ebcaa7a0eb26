//! The destination of an upload: its directory, held open, and its name in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Stat, Statx, StatxFlags, accessat, fstat, openat, statat, statx,
};
use rustix::io::Errno;

use super::super::file_system::FileSystem;
use super::super::root::{Found, Root};
use super::directories::{Directories, Made};
use super::error::UploadError;
use super::limits::{CREATED_DIRECTORIES_MAX, UploadLimits};
use super::path::{bytes_of_directory, leaf_of_path, parent_of, parent_of_path};
use crate::protocol::conditional::Validators;
use crate::protocol::name::Name;

/// A mounted file system, or the part of one within which files can be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The number of the mount; 0 before Linux 5.8.
    id: u64,
    /// The device. Btrfs gives each subvolume one of its own.
    device: Device,
}

/// The number of a device, by which file systems are told apart.
pub(super) type Device = (u32, u32);

impl Mount {
    pub(super) fn device(&self) -> Device {
        self.device
    }
}

/// The identity of a file on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileKey {
    device: Device,
    inode: u64,
}

/// Returns the identity of a directory, its mount, and its mode.
pub(super) fn identify(directory: impl AsFd) -> Result<(FileKey, Mount, u32), Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MODE | StatxFlags::MNT_ID;
    let found: Statx = statx(directory, "", AtFlags::EMPTY_PATH, wanted)?;
    let device = (found.stx_dev_major, found.stx_dev_minor);
    let has_id = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let mount = Mount { id: if has_id { found.stx_mnt_id } else { 0 }, device };
    Ok((FileKey { device, inode: found.stx_ino }, mount, found.stx_mode.into()))
}

/// A destination. Its directory is held open: whatever happens to the path meanwhile, nothing is published
/// elsewhere. Where directories are missing and will be made, the last existing one on the way is held.
#[derive(Debug)]
pub(super) struct Destination {
    name: Name,
    directory: OwnedFd,
    /// The length of the directory's path, in bytes of the name; 0 for the root.
    directory_bytes: usize,
    pub(super) key: FileKey,
    pub(super) mount: Mount,
    /// The mode of the directory.
    pub(super) mode: u32,
}

/// The file that has the destination's name now.
pub(super) struct Current {
    /// The file or the link itself; None where nothing has the name.
    pub(super) found: Option<Stat>,
    /// The validators that a GET sees; None also where the name is a link that leads to no file.
    pub(super) validators: Option<Validators>,
}

impl Destination {
    /// Resolves the directory beneath the root as a GET would, links included; it may be missing where `limits` has it
    /// that it is made. The last segment is never followed. Waits for the disk.
    pub(super) fn resolve(
        root: &Root,
        name: &Name,
        limits: &UploadLimits,
    ) -> Result<Destination, UploadError> {
        if name.is_reserved() {
            return Err(UploadError::NotFound);
        }
        // The name is the root itself, or `name/`.
        if name.is_directory() {
            return Err(UploadError::NotAFile);
        }
        Destination::open(root, name, limits.create_dirs)
    }

    /// Resolves as [`Destination::resolve`] does, as far as directories exist, whatever may be made.
    pub(super) fn resolve_existing(root: &Root, name: &Name) -> Result<Destination, UploadError> {
        Destination::open(root, name, true)
    }

    fn open(root: &Root, name: &Name, may_be_missing: bool) -> Result<Destination, UploadError> {
        let failed = UploadError::at("opening the directory of the destination");
        let mut path = parent_of(name);
        let mut missing = 0;
        let directory = loop {
            match root.open_directory(path) {
                Err(Errno::NOENT) if may_be_missing && path != b"." && missing < CREATED_DIRECTORIES_MAX => {
                    path = parent_of_path(path);
                    missing += 1;
                }
                result => break result.map_err(failed)?,
            }
        };
        let directory_bytes = bytes_of_directory(path);
        let (key, mount, mode) = identify(&directory).map_err(failed)?;
        Ok(Destination { name: name.clone(), directory, directory_bytes, key, mount, mode })
    }

    /// Resolves the destination if its directory exists and that needs no disk.
    pub(super) fn resolve_now(root: &Root, name: &Name) -> Option<Destination> {
        if name.is_reserved() || name.is_directory() {
            return None;
        }
        let path = parent_of(name);
        let directory = root.open_directory_now(path)?;
        let (key, mount, mode) = identify(&directory).ok()?;
        let directory_bytes = bytes_of_directory(path);
        Some(Destination { name: name.clone(), directory, directory_bytes, key, mount, mode })
    }

    /// Whether the destination was asked for by this name.
    pub(super) fn has_name(&self, name: &Name) -> bool {
        self.name == *name
    }

    /// Whether the last segment is the same as that of `name`.
    pub(super) fn has_leaf_of(&self, name: &Name) -> bool {
        self.leaf() == leaf_of_path(name.as_bytes())
    }

    /// Whether a file published here would take the place of one published at `other`.
    pub(super) fn is(&self, other: &Destination) -> bool {
        self.key == other.key && self.below() == other.below()
    }

    /// Returns the name relative to the directory that is held open.
    fn below(&self) -> &[u8] {
        let below = &self.name.as_bytes()[self.directory_bytes..];
        below.strip_prefix(b"/").unwrap_or(below)
    }

    /// Makes the missing directories, also where one existed and has gone since. Waits for the disk.
    pub(super) fn make_directory(
        &mut self,
        root: &Root,
        directories: &Directories,
        is_durable: bool,
        made: &mut Made,
    ) -> Result<(), UploadError> {
        let path = parent_of(&self.name);
        let directory = directories.make(root, path, is_durable, made)?;
        let failed = UploadError::at("opening the directory of the destination");
        (self.key, self.mount, self.mode) = identify(&directory).map_err(failed)?;
        self.directory_bytes = bytes_of_directory(path);
        self.directory = directory;
        Ok(())
    }

    /// Whether the open directory is the destination's own.
    pub(super) fn has_directory(&self) -> bool {
        self.directory_path() == parent_of(&self.name)
    }

    /// Returns how many directories on the way were missing at the opening.
    pub(super) fn directories_missing(&self) -> u64 {
        memchr::memchr_iter(b'/', self.below()).count() as u64
    }

    /// Checks whether a file can be given this name, as far as that can be known before, so that a refusal comes
    /// before the body. Waits for the disk.
    pub(super) fn check(&self) -> Result<(), UploadError> {
        let failed = UploadError::at("looking at the destination");
        // access(2) tells a read-only file system by ROFS.
        accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(failed)?;
        if self.has_directory() { self.look().map(drop) } else { self.check_missing() }
    }

    /// Checks whether directories of these names can be made, and the file in the last of them.
    fn check_missing(&self) -> Result<(), UploadError> {
        let failed = UploadError::at("looking at the destination");
        for (depth, segment) in self.below().split(|&byte| byte == b'/').enumerate() {
            // For all segments but the first this tells only whether the file system takes so long a name.
            match statat(&self.directory, segment, AtFlags::SYMLINK_NOFOLLOW) {
                // The segment is a link that leads nowhere. A directory here is one that was made this very
                // moment.
                Ok(stat) if depth == 0 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                    return Err(UploadError::ParentMissing);
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// Returns the last segment of the name.
    pub(super) fn leaf(&self) -> &[u8] {
        leaf_of_path(self.name.as_bytes())
    }

    /// Returns the path of the open directory, relative to the root.
    pub(super) fn directory_path(&self) -> &[u8] {
        if self.directory_bytes == 0 { b"." } else { &self.name.as_bytes()[..self.directory_bytes] }
    }

    /// Returns the open directory.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Returns a number that is the same for all paths to this destination, in every daemon, of whatever build:
    /// FNV-1a. It leaves out the device, whose number network file systems give anew on each host.
    pub(super) fn hash(&self) -> u64 {
        let inode = self.key.inode.to_le_bytes();
        let bytes = inode.iter().chain(self.leaf());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Returns the stat(2) of the file or link that has the name; None where nothing has. Waits for the disk.
    pub(super) fn look(&self) -> Result<Option<Stat>, UploadError> {
        match statat(&self.directory, self.leaf(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::Symlink => Ok(Some(stat)),
                _ => Err(UploadError::NotAFile),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(UploadError::at("looking at the destination")(errno)),
        }
    }

    /// Returns the file that has the name now, with its validators where they are wanted. Waits for the disk.
    pub(super) fn current(&self, root: &Root, wants_validators: bool) -> Result<Current, UploadError> {
        let found = self.look()?;
        let kind = found.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let validators = match kind {
            Some(FileType::RegularFile) if wants_validators => self.validators(root)?,
            // The link is followed, beneath the root, as a GET does.
            Some(FileType::Symlink) if wants_validators => match root.find(&self.name) {
                Ok(Found::File(file)) => Some(file.validators(SystemTime::now())),
                _ => None,
            },
            _ => None,
        };
        Ok(Current { found, validators })
    }

    fn validators(&self, root: &Root) -> Result<Option<Validators>, UploadError> {
        // The file is opened by its path alone: whoever may write here need not be able to read it.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = UploadError::at("looking at the destination");
        let file = match openat(&self.directory, self.leaf(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = fstat(&file).map_err(failed)?;
        let file_system = FileSystem::of(&file);
        Ok(Some(root.describe(file, &stat, file_system).validators(SystemTime::now())))
    }
}
