//! The properties that files get from the directory that they are created in.

use std::os::fd::AsFd;

use rustix::fs::{Mode, fchmod, fgetxattr, fremovexattr, fstat};
use rustix::io::Errno;

use super::acl;

/// The mode with which programs create files, before the umask.
pub(super) const MODE: Mode = Mode::from_raw_mode(0o666);

/// Whether files that are created in `directory` get a list from it.
pub(super) fn shares_a_list(directory: impl AsFd) -> bool {
    has_list(directory, acl::DEFAULT)
}

/// Whether a file has this list, asked with a buffer that is too short for any.
pub(super) fn has_list(file: impl AsFd, attribute: &str) -> bool {
    fgetxattr(file, attribute, &mut [0_u8; 1][..]) == Err(Errno::RANGE)
}

/// Takes from a directory of the daemon's own the properties that it got from the one that it lies in: its files
/// must get none of them.
pub(super) fn stop_sharing(directory: impl AsFd) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(fstat(&directory)?.st_mode);
    if mode.intersects(Mode::RWXG | Mode::RWXO | Mode::SGID) {
        fchmod(&directory, Mode::RWXU)?;
    }
    if shares_a_list(&directory) {
        fremovexattr(directory, acl::DEFAULT)?;
    }
    Ok(())
}
