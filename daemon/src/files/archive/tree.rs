//! A directory of which an archive is made. Whatever lies below is opened from there, and no link is followed.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::config::{EtagChoice, Share};
use crate::files::beneath::patiently;
use crate::files::file_system::{ChangeTime, FileSystem};
use crate::files::mounts::{MountId, Mounts};
use crate::files::root::Root;
use crate::protocol::name::Name;

/// A directory of which an archive is made. Clones share its descriptor.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) descriptor: Arc<OwnedFd>,
    pub(super) etag: EtagChoice,
    /// The directory's path below the root.
    below: Arc<[u8]>,
    mounts: Arc<Mounts>,
    mount: MountId,
    /// Whether other mounts may lie below the directory.
    has_mounts: bool,
    /// The share whose hidden names are left out.
    hiding: Option<Arc<Share>>,
}

impl Tree {
    /// Takes the directory that a name led to. Asks no disk.
    pub fn new(root: &Root, name: &Name, directory: OwnedFd) -> Tree {
        let mount = MountId::of(&directory);
        let mounts = Arc::clone(root.mounts());
        Tree {
            descriptor: Arc::new(directory),
            etag: root.etag(),
            below: name.as_bytes().strip_suffix(b"/").unwrap_or(name.as_bytes()).into(),
            has_mounts: mounts.are_besides(&[mount]),
            mounts,
            mount,
            hiding: None,
        }
    }

    /// Leaves the hidden names of a share out.
    #[must_use]
    pub fn hiding(self, hiding: Option<Arc<Share>>) -> Tree {
        Tree { hiding, ..self }
    }

    /// Returns the path of the share whose hidden names are left out; an empty one where none are.
    pub(super) fn hides_for(&self) -> &str {
        self.hiding.as_ref().map_or("", |share| share.path.as_str())
    }

    /// Tells whether a name in the directory at this path from here on is left out.
    pub(super) fn hides(&self, path: &[u8], name: &[u8]) -> bool {
        let Some(share) = &self.hiding else { return false };
        let parts = [&*self.below, path, name].into_iter().filter(|part| !part.is_empty());
        let whole = parts.collect::<Vec<_>>().join(&b'/');
        share.hidden.fit(&whole)
    }

    /// Looks for mounts that came or went.
    pub(super) fn refresh_mounts(&self) {
        self.mounts.refresh();
    }

    /// Tells whether a name in an open directory is a mount that shows a directory of uploads.
    pub(super) fn is_reserved(&self, directory: &OwnedFd, name: &[u8]) -> bool {
        self.mounts.is_reserved_entry(directory, name)
    }

    /// Returns the directory's own mount.
    pub fn mount(&self) -> MountId {
        self.mount
    }

    /// Returns the directory's name, which is empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.below.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Returns the mount on which a path from the directory on lies. No file system is asked.
    pub(super) fn mount_of(&self, path: &[u8]) -> MountId {
        if !self.has_mounts || path.is_empty() {
            return self.mount;
        }
        let separator: &[u8] = if self.below.is_empty() { b"" } else { b"/" };
        let mount = self.mounts.of_path(&[&*self.below, separator, path].concat());
        // Where a link led here, the path says nothing of the directory's own mount.
        if mount == self.mounts.of_path(&self.below) { self.mount } else { mount }
    }

    /// Opens the file or directory at a path from the directory on, without following any link. Waits for the disk.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        Tree::open_in(&*self.descriptor, path, flags)
    }

    /// Opens as [`Tree::open`] does, from a directory on that was opened before.
    pub(super) fn open_in(directory: impl AsFd + Copy, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        // NONBLOCK: opening a FIFO that took a file's place must not wait for its writer. NOCTTY: nor take a terminal.
        let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { b"." } else { path };
        patiently(|| openat2(directory, path, flags, Mode::empty(), resolve))
    }
}

/// Tells whether the change times of a file system prove anything.
pub(super) fn has_change_time(file_system: FileSystem) -> bool {
    file_system.change_time != ChangeTime::Unproven
}
