//! Membership: a published file gets owner, group, mode, access control list and attributes from its directory or
//! from the file that it replaces, as if a program had created it there or written into that one.
//!
//! Partials lie in a directory of the daemon's own, where the kernel doesn't do that: it gives a file the group of
//! a directory with the set-group-ID bit, and its default list, when the file is created. So a partial is created
//! in the directory of its destination, without a name (O_TMPFILE), where that shares anything and the file system
//! can; and what is still missing when it gets its name is made up for. What isn't permitted is left, and said
//! once.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags, fchmod, fchown, fgetxattr,
    fremovexattr, fsetxattr, fstat, getxattr, linkat, listxattr, llistxattr, openat,
};
use rustix::io::Errno;

use super::super::unpublished::Unpublished;
use super::acl::{self, Acl, GROUP_SHIFT};
use super::destination::Destination;
use super::error::UploadError;
use super::sharing::{MODE, has_list, shares_a_list};
use super::staging::StagingDirectory;
use crate::protocol::name::{UploadId, text_of_path};
use crate::sys;

/// The bits of a mode that are kept. Set-user-ID and set-group-ID are lost when a file is written to (chmod(2)).
const PERMISSIONS: u32 = 0o777;

/// The bit of a directory whose files get its group.
const SET_GROUP_ID: u32 = 0o2000;

/// The prefix of the attributes that are taken over from a replaced file, whose content is gone: the notes of
/// users and programs. Lists are handled apart, capabilities are lost when a file is written to, and labels are
/// the security module's.
const KEPT_PREFIX: &[u8] = b"user.";

/// The prefix of the daemon's own notes, which are of the former content.
const OWN_PREFIX: &[u8] = b"user.streamd.";

/// The most bytes of one attribute, and of the list of names (xattr(7)).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Bytes of the first buffer, which are enough for most attributes.
const ATTRIBUTE_BYTES_USUAL: usize = 512;

/// The most attributes that are taken over.
const ATTRIBUTES_MAX: usize = 64;

/// The rules by which files become members of their directories.
#[derive(Debug)]
pub(super) struct Membership {
    /// The bits of [`MODE`] that the process's umask leaves.
    mode: u32,
    /// Whether it was already logged that something wasn't permitted.
    is_said: AtomicBool,
}

/// The properties that a file has to get. Where owner, group or mode is None, the one that the file system gave is
/// right, whatever rules of its own that has.
struct Wanted {
    owner: Option<u32>,
    group: Option<u32>,
    mode: Option<u32>,
    acl: Option<Acl>,
    /// The replaced file, open by its path alone, whose attributes are to be taken over.
    replaced: Option<OwnedFd>,
}

impl Membership {
    /// Reads the process's umask, which nothing changes later.
    pub(super) fn of_process() -> Membership {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The line is there since Linux 4.7. Without it the usual umask is assumed.
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = umask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022);
        Membership { mode: MODE.as_raw_mode() & !umask, is_said: AtomicBool::new(false) }
    }

    /// Creates the file of a partial in `staging`, as a member of the destination's directory where that shares
    /// its group or a list, or of the last existing directory above it, from which it will have both. Waits for
    /// the disk.
    pub(super) fn create(
        &self,
        staging: &StagingDirectory,
        id: UploadId,
        destination: &Destination,
        is_paced: bool,
    ) -> Result<Unpublished, UploadError> {
        match shares(destination).then(|| create_in(destination.directory(), staging, id)) {
            Some(Ok(file)) => staging.claim(Unpublished::with_length(file.into(), 0, is_paced), id),
            // Not every file system has files without a name, and not all can be linked to from the staging
            // directory.
            Some(Err(errno)) => {
                tracing::debug!(%errno, "an upload is not created in the directory of its destination");
                staging.create(id, is_paced)
            }
            None => staging.create(id, is_paced),
        }
    }

    /// Gives `file` the properties that a file of the destination's name has to have; true where any has changed.
    /// Waits for the disk.
    pub(super) fn join(&self, file: &Unpublished, destination: &Destination) -> bool {
        let (directory, leaf) = (destination.directory(), destination.leaf());
        let wanted = Wanted::of_replaced(directory, leaf);
        let wanted = wanted.or_else(|| Wanted::of_directory(directory, file, self.mode));
        let (Some(wanted), Ok(found)) = (wanted, fstat(file)) else { return false };
        let mut has_changed = false;
        let mut note = |what: &'static str, result: Result<bool, Errno>| {
            has_changed |= result == Ok(true);
            match result {
                Ok(_) => true,
                Err(errno) => {
                    self.say(destination, what, errno);
                    false
                }
            }
        };
        let is_of_group = note("the group", change_group(file, &found, wanted.group));
        let wanted = if is_of_group { wanted } else { wanted.without_group() };
        let has_list = note("the access control list", change_acl(file, wanted.acl.as_ref()));
        let mode = if has_list { wanted.mode } else { wanted.mode_without_acl() };
        note("the mode", change_mode(file, mode));
        if let Some(replaced) = &wanted.replaced {
            note("the extended attributes", copy_attributes(replaced, file));
        }
        // The owner comes last, since only the owner may change the rest.
        note("the owner", change_owner(file, &found, wanted.owner));
        has_changed
    }

    fn say(&self, destination: &Destination, what: &str, errno: Errno) {
        let directory = &*text_of_path(destination.directory_path());
        if self.is_said.swap(true, Ordering::Relaxed) {
            tracing::debug!(what, %errno, directory, "an upload is not what a file in its directory should be");
        } else {
            tracing::warn!(
                what,
                %errno,
                directory,
                "an upload is not what a file in its directory should be"
            );
        }
    }
}

/// Whether files that are created in the destination's directory get something from it.
pub(super) fn shares(destination: &Destination) -> bool {
    destination.mode & SET_GROUP_ID != 0 || shares_a_list(destination.directory())
}

/// Whether a file that was created in a directory that shares nothing has all properties to take the place of
/// `replaced`, which has the destination's name. The attributes of that one are asked for by name: a file that
/// somebody renames over it this very moment is replaced as well.
pub(super) fn is_as_created(file: &Unpublished, destination: &Destination, replaced: &Stat) -> bool {
    let facts = |stat: &Stat| (stat.st_uid, stat.st_gid, stat.st_mode & PERMISSIONS);
    // A security module's label, which has its own rules, is an attribute too.
    fstat(file).is_ok_and(|created| facts(&created) == facts(replaced)) && !has_attributes(destination)
}

/// Whether the file that has the destination's name has attributes, lists included, or may have some.
fn has_attributes(destination: &Destination) -> bool {
    let (directory, leaf) = (destination.directory(), destination.leaf());
    sys::has_attributes(directory, leaf).unwrap_or_else(|_| {
        let path = [path_of(directory).as_bytes(), b"/", leaf].concat();
        llistxattr(path, &mut [0_u8; 1][..]) != Ok(0)
    })
}

/// Creates a file without a name in `directory` and gives it one in `staging`.
fn create_in(directory: impl AsFd, staging: &StagingDirectory, id: UploadId) -> Result<OwnedFd, Errno> {
    let file = openat(directory, ".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, MODE)?;
    // This way needs no capability (open(2), O_TMPFILE).
    linkat(CWD, path_of(&file), staging, id.to_string(), AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

/// Returns a path that means an open file, also one that is open by its path alone.
fn path_of(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

impl Wanted {
    /// Wants the properties of the file that has the name now; None where no regular file has it. A link is
    /// replaced by a file with the properties of its directory.
    fn of_replaced(directory: impl AsFd, leaf: &[u8]) -> Option<Wanted> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let replaced = openat(directory, leaf, flags, Mode::empty()).ok()?;
        let stat = fstat(&replaced).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let acl = read(|buffer| getxattr(path_of(&replaced), acl::ACCESS, buffer));
        Some(Wanted {
            owner: Some(stat.st_uid),
            group: Some(stat.st_gid),
            mode: Some(stat.st_mode & PERMISSIONS),
            acl: acl.and_then(|bytes| Acl::parse(&bytes)),
            replaced: Some(replaced),
        })
    }

    /// Wants the properties of a file created in `directory`. The umask, which is in `mode`, doesn't count where
    /// the directory has a default list.
    fn of_directory(directory: impl AsFd, file: &Unpublished, mode: u32) -> Option<Wanted> {
        let stat = fstat(&directory).ok()?;
        let group = (stat.st_mode & SET_GROUP_ID != 0).then_some(stat.st_gid);
        let default = read(|buffer| fgetxattr(&directory, acl::DEFAULT, buffer));
        let (acl, mode) = match default.and_then(|bytes| Acl::parse(&bytes)) {
            Some(default) => {
                let (acl, mode) = default.inherited(MODE.as_raw_mode());
                (acl, Some(mode))
            }
            // If the file has a list here, its directory shared one when the upload began.
            None => (None, has_list(file, acl::ACCESS).then_some(mode)),
        };
        Some(Wanted { owner: None, group, mode, acl, replaced: None })
    }

    /// Reduces the group's permissions to everybody's, since the file has another group than the one that was
    /// meant.
    fn without_group(mut self) -> Wanted {
        let Some(mode) = &mut self.mode else { return self };
        let others = *mode & 0o7;
        match &mut self.acl {
            // In a file with a list the mode's group bits are the mask.
            Some(acl) => acl.limit_group(others),
            None => *mode &= !(0o7 << GROUP_SHIFT) | others << GROUP_SHIFT,
        }
        self
    }

    /// Returns the mode of a file that can't have the list: the group's bits are the group's, not the mask.
    fn mode_without_acl(&self) -> Option<u32> {
        let Some(acl) = &self.acl else { return self.mode };
        self.mode.map(|mode| mode & !(0o7 << GROUP_SHIFT) | acl.group_permissions() << GROUP_SHIFT)
    }
}

fn change_group(file: &Unpublished, found: &Stat, group: Option<u32>) -> Result<bool, Errno> {
    match group {
        Some(group) if group != found.st_gid => fchown(file, None, Some(Gid::from_raw(group))).map(|()| true),
        _ => Ok(false),
    }
}

fn change_owner(file: &Unpublished, found: &Stat, owner: Option<u32>) -> Result<bool, Errno> {
    match owner {
        Some(owner) if owner != found.st_uid => fchown(file, Some(Uid::from_raw(owner)), None).map(|()| true),
        _ => Ok(false),
    }
}

fn change_mode(file: &Unpublished, mode: Option<u32>) -> Result<bool, Errno> {
    match mode {
        Some(mode) if mode != fstat(file)?.st_mode & 0o7777 => {
            fchmod(file, Mode::from_raw_mode(mode)).map(|()| true)
        }
        _ => Ok(false),
    }
}

fn change_acl(file: &Unpublished, wanted: Option<&Acl>) -> Result<bool, Errno> {
    let found = read(|buffer| fgetxattr(file, acl::ACCESS, buffer));
    match (wanted.map(Acl::to_bytes), found) {
        (wanted, found) if wanted == found => Ok(false),
        (Some(wanted), _) => fsetxattr(file, acl::ACCESS, &wanted, XattrFlags::empty()).map(|()| true),
        (None, _) => fremovexattr(file, acl::ACCESS).map(|()| true),
    }
}

/// Copies the attributes of the replaced file. Those that can't be read or set are left out.
fn copy_attributes(replaced: &OwnedFd, file: &Unpublished) -> Result<bool, Errno> {
    let from = path_of(replaced);
    let Some(names) = read(|buffer| listxattr(&from, buffer)) else { return Ok(false) };
    let names = names.split_inclusive(|byte| *byte == 0);
    let kept = names.filter(|name| name.starts_with(KEPT_PREFIX) && !name.starts_with(OWN_PREFIX));
    let (mut has_changed, mut failed) = (false, None);
    for name in kept.take(ATTRIBUTES_MAX).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
        let Some(value) = read(|buffer| getxattr(&from, name, buffer)) else { continue };
        match fsetxattr(file, name, &value, XattrFlags::empty()) {
            Ok(()) => has_changed = true,
            Err(errno) => failed = Some(errno),
        }
    }
    match failed {
        Some(errno) if !has_changed => Err(errno),
        _ => Ok(has_changed),
    }
}

/// Reads an attribute, or a list of names; None where there is none, or it can't be had.
fn read(get: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Option<Vec<u8>> {
    let mut buffer = vec![0; ATTRIBUTE_BYTES_USUAL];
    let mut result = get(&mut buffer);
    if result == Err(Errno::RANGE) {
        buffer.resize(ATTRIBUTE_BYTES_MAX, 0);
        result = get(&mut buffer);
    }
    buffer.truncate(result.ok()?);
    Some(buffer)
}
