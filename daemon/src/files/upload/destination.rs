//! Where an upload is to go: its directory, held open, and its name in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, accessat, fstat, openat, statat, statx,
};
use rustix::io::Errno;

use super::super::digest;
use super::super::root::{Found, Root};
use super::super::stamp::Stamp;
use super::directories::{Directories, Made};
use super::error::UploadError;
use super::limits::{CREATED_DIRECTORIES_MAX, UploadLimits};
use crate::protocol::conditional::Validators;
use crate::protocol::name::Name;

/// A mounted file system, or a part of one between which nothing can be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// 0 before Linux 5.8.
    id: u64,
    /// Btrfs gives each subvolume one of its own.
    device: (u32, u32),
}

/// A file by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: (u32, u32),
    inode: u64,
}

/// Which file a directory is, and on which mount.
pub(super) fn identify(directory: impl AsFd) -> Result<(FileKey, Mount), Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let found: Statx = statx(directory, "", AtFlags::EMPTY_PATH, wanted)?;
    let device = (found.stx_dev_major, found.stx_dev_minor);
    let has_id = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let mount = Mount { id: if has_id { found.stx_mnt_id } else { 0 }, device };
    Ok((FileKey { device, inode: found.stx_ino }, mount))
}

/// A destination. Its directory is held open: whatever happens to the path meanwhile, nothing is published elsewhere.
/// Where directories are missing and will be made, that is the last one on the way that is there.
#[derive(Debug)]
pub(super) struct Destination {
    name: Name,
    directory: OwnedFd,
    /// The directory's path, in bytes of the name; 0 for the root.
    directory_bytes: usize,
    pub(super) key: FileKey,
    pub(super) mount: Mount,
}

/// The path of the directory that a name lies in, relative to the root.
fn parent_of(name: &Name) -> &str {
    parent_of_path(name.as_str())
}

fn parent_of_path(path: &str) -> &str {
    path.rfind('/').map_or(".", |slash| &path[..slash])
}

/// The last segment of a path.
pub(super) fn leaf_of_path(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// Bytes of a name that the path of a directory on its way takes up; 0 for the root.
fn bytes_of_directory(path: &str) -> usize {
    if path == "." { 0 } else { path.len() }
}

/// What has the destination's name now.
pub(super) struct Current {
    pub(super) exists: bool,
    /// As a GET sees it; None also where the name is a link that leads to no file.
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
        // The root itself, or `name/`.
        if name.is_directory() {
            return Err(UploadError::NotAFile);
        }
        let failed = UploadError::at("opening the directory of the destination");
        let mut path = parent_of(name);
        let mut missing = 0;
        let directory = loop {
            match root.open_directory(path) {
                Err(Errno::NOENT)
                    if limits.create_dirs && path != "." && missing < CREATED_DIRECTORIES_MAX =>
                {
                    path = parent_of_path(path);
                    missing += 1;
                }
                result => break result.map_err(failed)?,
            }
        };
        let directory_bytes = bytes_of_directory(path);
        let (key, mount) = identify(&directory).map_err(failed)?;
        Ok(Destination { name: name.clone(), directory, directory_bytes, key, mount })
    }

    /// Makes the directories that are missing, also where one was there and has gone since. Waits for the disk.
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
        (self.key, self.mount) = identify(&directory).map_err(failed)?;
        self.directory_bytes = bytes_of_directory(path);
        self.directory = directory;
        Ok(())
    }

    /// Whether the directory is the destination's own.
    pub(super) fn has_directory(&self) -> bool {
        self.directory_path() == parent_of(&self.name)
    }

    /// Whether a file can be given this name, as far as can be told before: so that a refusal doesn't come after the
    /// body. Waits for the disk.
    pub(super) fn check(&self) -> Result<(), UploadError> {
        let failed = UploadError::at("looking at the destination");
        // ROFS on a read-only file system: access(2).
        accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(failed)?;
        if self.has_directory() { self.kind().map(drop) } else { self.check_missing() }
    }

    /// Whether directories of these names can be made, and the file in the last of them.
    fn check_missing(&self) -> Result<(), UploadError> {
        let failed = UploadError::at("looking at the destination");
        let missing = self.name.as_str()[self.directory_bytes..].trim_start_matches('/');
        for (depth, segment) in missing.split('/').enumerate() {
            // Of all but the first this says only whether the file system takes so long a name.
            match statat(&self.directory, segment, AtFlags::SYMLINK_NOFOLLOW) {
                // A link that leads nowhere. A directory is one that was made this very moment.
                Ok(stat) if depth == 0 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                    return Err(UploadError::ParentMissing);
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// The destination's name in its directory.
    pub(super) fn leaf(&self) -> &str {
        leaf_of_path(self.name.as_str())
    }

    /// The path of the directory that is held open, relative to the root.
    pub(super) fn directory_path(&self) -> &str {
        if self.directory_bytes == 0 { "." } else { &self.name.as_str()[..self.directory_bytes] }
    }

    /// The directory that is held open.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A number that all paths to this destination share.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.key, self.leaf()).hash(&mut hasher);
        hasher.finish()
    }

    /// What has the name, as a file or a link; None where nothing has. Waits for the disk.
    fn kind(&self) -> Result<Option<FileType>, UploadError> {
        match statat(&self.directory, self.leaf(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                kind @ (FileType::RegularFile | FileType::Symlink) => Ok(Some(kind)),
                _ => Err(UploadError::NotAFile),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(UploadError::at("looking at the destination")(errno)),
        }
    }

    /// What has the name now, with its validators where they are wanted. Waits for the disk.
    pub(super) fn current(&self, root: &Root, wants_validators: bool) -> Result<Current, UploadError> {
        let kind = self.kind()?;
        let validators = match kind {
            Some(FileType::RegularFile) if wants_validators => self.validators(root)?,
            // Seen through the link, and beneath the root, as a GET sees it.
            Some(FileType::Symlink) if wants_validators => match root.find(&self.name) {
                Ok(Found::File(file)) => Some(Validators { etag: file.etag(), modified: file.modified() }),
                _ => None,
            },
            _ => None,
        };
        Ok(Current { exists: kind.is_some(), validators })
    }

    fn validators(&self, root: &Root) -> Result<Option<Validators>, UploadError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let failed = UploadError::at("opening the destination");
        let (stamp, recorded) = match openat(&self.directory, self.leaf(), flags, Mode::empty()) {
            Ok(file) => {
                let stamp = Stamp::of(&fstat(&file).map_err(failed)?);
                let is_read = root.reads_digests();
                (stamp, if is_read { digest::recorded(file.as_fd(), stamp) } else { Default::default() })
            }
            // Nobody gets to see its digest either.
            Err(Errno::ACCESS) => {
                let stat = statat(&self.directory, self.leaf(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                (Stamp::of(&stat), Default::default())
            }
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        Ok(Some(Validators { etag: stamp.etag(&recorded), modified: stamp.modified() }))
    }
}
