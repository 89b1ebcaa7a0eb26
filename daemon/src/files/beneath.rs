//! The opening of names beneath a directory, wherever its links may lead, by openat2(2) (Linux 5.6), so that no link
//! and no race leads anywhere else.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::error::FileError;
use super::links::{Led, Links, Refused};
use super::mounts::{MountId, Mounts};
use crate::config::SymlinkChoice;
use crate::limits::Throttle;
use crate::protocol::name::{is_reserved_segment, text_of_path};

/// The most tries of one look-up. openat2 answers EAGAIN when a rename elsewhere races with `..` in a link; each
/// further try is as likely to get through as the first.
const TRIES_MAX: usize = 8;

/// The least time between two lines about links that aren't followed: whoever asks for one again and again must not
/// fill the log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// A directory, held open: renaming it or mounting over it changes nothing.
#[derive(Debug)]
pub(super) struct Beneath {
    directory: OwnedFd,
    mounts: Arc<Mounts>,
    links: Links,
    refusals: Throttle,
}

impl Beneath {
    /// Opens a directory, whose links lead where they stay beneath it. Waits for the disk.
    pub(super) fn open(path: &Path) -> Result<Beneath, FileError> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())?;
        let mounts = Arc::new(Mounts::below(&directory));
        let links = Links::beneath(&mounts, path);
        let beneath = Beneath { directory, mounts, links, refusals: Throttle::new(LINE_INTERVAL) };
        match beneath.open_beneath(&beneath.directory, b".", flags, ResolveFlags::empty()) {
            // A seccomp filter that can't look into its arguments refuses openat2 as a whole, as systemd's for
            // RestrictSUIDSGID= does, which DynamicUser= implies (systemd 252). The start says so, rather than
            // each request.
            Err(Errno::NOSYS) => Err(FileError::NoOpenat2),
            _ if beneath.is_in_staging(&beneath.directory) => Err(FileError::Reserved),
            _ => Ok(beneath),
        }
    }

    /// Lets links lead as `choice` says, where it says so into the directories `targets`. Waits for the disk.
    pub(super) fn following(self, choice: SymlinkChoice, targets: &[String]) -> Result<Beneath, FileError> {
        let links = self.links.following(choice, targets)?;
        let beneath = Beneath { links, ..self };
        let is_reserved = beneath.links.targets().any(|target| beneath.is_in_staging(target));
        if is_reserved { Err(FileError::Reserved) } else { Ok(beneath) }
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(super) fn mounts(&self) -> &Arc<Mounts> {
        &self.mounts
    }

    /// Whether no link is followed.
    pub(super) fn follows_none(&self) -> bool {
        self.links.choice() == SymlinkChoice::None
    }

    /// Whether a link could lead to another mount than the directory's own and these.
    pub(super) fn may_lead_besides(&self, mounts: &[MountId]) -> bool {
        self.links.lead_outside() || self.mounts.are_besides(mounts)
    }

    /// Returns the first mount on the way of `path` that is neither the directory's own nor one of `known`; None where
    /// there is none, or no way. It reads the links on the way one by one, and so asks no other mount for anything.
    /// Waits for the disk.
    pub(super) fn leads_to(&self, path: &[u8], known: &[MountId]) -> Option<MountId> {
        match self.links.follow(&self.directory, &self.mounts, path, Some(known)) {
            Led::Elsewhere(mount) => Some(mount),
            _ => None,
        }
    }

    /// Opens what is read at `path`, wherever links may lead it, but nothing in a directory of uploads. With
    /// [`ResolveFlags::NO_XDEV`] only those links are followed that openat2 follows itself. Waits for the disk, unless
    /// `extra` says otherwise.
    pub(super) fn open_read(
        &self,
        path: &[u8],
        flags: OFlags,
        extra: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        match self.open_written(path, flags, extra) {
            Err(errno @ (Errno::XDEV | Errno::LOOP)) if !extra.contains(ResolveFlags::NO_XDEV) => {
                self.open_led(path, flags, errno)
            }
            opened => opened,
        }
    }

    /// Opens as [`Beneath::open_read`] does, but follows only links that are relative and stay beneath the directory:
    /// nothing is written elsewhere.
    pub(super) fn open_written(
        &self,
        path: &[u8],
        flags: OFlags,
        extra: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        // A way without links and mounts takes one call, and leads into no directory of uploads that its names don't
        // tell.
        let plain = extra | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match self.open_beneath(&self.directory, path, flags, plain) {
            Err(Errno::LOOP | Errno::XDEV) => {}
            opened => return opened,
        }
        let links = if self.follows_none() { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
        let opened = self.open_beneath(&self.directory, path, flags, extra | links)?;
        if self.is_in_staging(&opened) { Err(Errno::XDEV) } else { Ok(opened) }
    }

    /// Opens what links lead to that openat2 refused with `errno`.
    fn open_led(&self, path: &[u8], flags: OFlags, errno: Errno) -> Result<OwnedFd, Errno> {
        let way = match self.links.follow(&self.directory, &self.mounts, path, None) {
            Led::To(way) => way,
            Led::Refused(refused) => {
                self.tell(&refused);
                return Err(errno);
            }
            Led::Elsewhere(_) | Led::Nowhere => return Err(errno),
        };
        let directory = way.directory.unwrap_or(&self.directory);
        let path = if way.path.is_empty() { b"." } else { way.path.as_slice() };
        match self.open_beneath(directory, path, flags, ResolveFlags::NO_SYMLINKS) {
            // A link has come in the way since.
            Err(Errno::LOOP) => Err(Errno::AGAIN),
            Ok(opened) if self.is_in_staging(&opened) => Err(Errno::XDEV),
            opened => opened,
        }
    }

    fn open_beneath(
        &self,
        directory: &OwnedFd,
        path: &[u8],
        flags: OFlags,
        extra: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
        openat2(directory, path, flags, Mode::empty(), resolve)
    }

    /// Whether a file or directory lies in a directory of uploads or is one, of whichever share or daemon: by the path
    /// that it has now, or by what its mount shows, which has the name that such a directory has in its own file
    /// system.
    fn is_in_staging(&self, opened: &OwnedFd) -> bool {
        let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let Ok(path) = readlinkat(CWD, link, Vec::new()) else { return true };
        path.as_bytes().split(|byte| *byte == b'/').any(is_reserved_segment)
            || self.mounts.is_reserved_at(opened)
    }

    /// Returns the link on the way of `path` that isn't followed, and what it says. Waits for the disk.
    pub(super) fn link_refused(&self, path: &[u8]) -> Option<(String, String)> {
        match self.links.follow(&self.directory, &self.mounts, path, None) {
            Led::Refused(refused) => {
                Some((text_of_path(&refused.link).into(), text_of_path(&refused.target).into()))
            }
            _ => None,
        }
    }

    fn tell(&self, refused: &Refused) {
        if let Some(left_out) = self.refusals.admit() {
            tracing::warn!(
                root = &*text_of_path(self.mounts.path()),
                link = &*text_of_path(&refused.link),
                target = &*text_of_path(&refused.target),
                symlinks = self.links.choice().name(),
                left_out,
                "a link is not followed: symlinks says where links may lead"
            );
        }
    }
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
