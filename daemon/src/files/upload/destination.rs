//! Where an upload is to go: its directory, held open, and its name in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, accessat, fstat, fsync, mkdirat, openat,
    statat, statx,
};
use rustix::io::Errno;

use super::super::digest;
use super::super::root::{Found, Root};
use super::super::stamp::Stamp;
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
#[derive(Debug)]
pub(super) struct Destination {
    name: Name,
    directory: OwnedFd,
    pub(super) key: FileKey,
    pub(super) mount: Mount,
}

/// The path of the directory that a name lies in, relative to the root.
pub(super) fn parent_of(name: &Name) -> &str {
    let path = name.as_str();
    path.rfind('/').map_or(".", |slash| &path[..slash])
}

/// What has the destination's name now.
pub(super) struct Current {
    pub(super) exists: bool,
    /// As a GET sees it; None also where the name is a link that leads to no file.
    pub(super) validators: Option<Validators>,
}

impl Destination {
    /// Resolves the directory beneath the root as a GET would, links included; creates it where it is missing and
    /// `limits` has it so. The last segment is never followed. Waits for the disk.
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
        let parent = parent_of(name);
        let directory = match root.open_directory(parent) {
            Err(Errno::NOENT) if limits.create_dirs => create_directories(root, parent, limits)?,
            result => result.map_err(failed)?,
        };
        let (key, mount) = identify(&directory).map_err(failed)?;
        Ok(Destination { name: name.clone(), directory, key, mount })
    }

    /// Whether a file can be given this name, as far as can be told before: so that a refusal doesn't come after the
    /// body. Waits for the disk.
    pub(super) fn check(&self) -> Result<(), UploadError> {
        let failed = UploadError::at("looking at the destination");
        // ROFS on a read-only file system: access(2).
        accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(failed)?;
        self.kind().map(drop)
    }

    /// The destination's name in its directory.
    pub(super) fn leaf(&self) -> &str {
        let path = self.name.as_str();
        path.rfind('/').map_or(path, |slash| &path[slash + 1..])
    }

    /// The path of its directory, relative to the root.
    pub(super) fn parent(&self) -> &str {
        parent_of(&self.name)
    }

    /// The directory.
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

/// Creates what is missing of `path`, step by step beneath the root.
fn create_directories(root: &Root, path: &str, limits: &UploadLimits) -> Result<OwnedFd, UploadError> {
    let failed = UploadError::at("creating a directory");
    let mut parent = root.open_directory(".").map_err(failed)?;
    let mut created = 0;
    let ends = path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]);
    for end in ends {
        let here = &path[..end];
        parent = match root.open_directory(here) {
            Err(Errno::NOENT) if created < CREATED_DIRECTORIES_MAX => {
                let segment = here.rfind('/').map_or(here, |slash| &here[slash + 1..]);
                match mkdirat(&parent, segment, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                    // By another upload, or a link that leads nowhere, which the next line finds out.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                if limits.is_durable {
                    fsync(&parent).map_err(failed)?;
                }
                created += 1;
                root.open_directory(here).map_err(failed)?
            }
            result => result.map_err(failed)?,
        };
    }
    Ok(parent)
}
