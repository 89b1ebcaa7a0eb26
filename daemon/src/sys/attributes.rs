//! Extended attributes of a file, asked for by its name in a directory.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// listxattrat(2), Linux 6.13: the same number on every architecture that Rust compiles for.
const LISTXATTRAT: libc::c_long = 465;

/// Whether the file of this name has any attributes; a link isn't followed. ENOSYS before Linux 6.13, and EPERM where a
/// filter of system calls is older than that.
pub fn has_attributes(directory: impl AsFd, name: &[u8]) -> io::Result<bool> {
    let name = CString::new(name)?;
    let (directory, flags) = (directory.as_fd().as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    let (list, size) = (std::ptr::null_mut::<libc::c_char>(), 0_usize);
    // SAFETY: owner: name and directory are the caller's, borrowed. Lifetime: the call's. The kernel writes nothing
    // where the size is 0, it only says how much there would be, and keeps no pointer.
    let length = unsafe { libc::syscall(LISTXATTRAT, directory, name.as_ptr(), flags, list, size) };
    if length < 0 { Err(io::Error::last_os_error()) } else { Ok(length > 0) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{XattrFlags, setxattr};

    use super::has_attributes;

    #[test]
    fn a_file_has_them_once_it_was_given_one() {
        let path = tempfile::tempdir().unwrap();
        let directory = File::open(path.path()).unwrap();
        std::fs::write(path.path().join("file"), "").unwrap();
        let before = match has_attributes(&directory, b"file") {
            Err(error) => return println!("skipped: no listxattrat here: {error}"),
            Ok(before) => before,
        };
        assert!(has_attributes(&directory, b"absent").is_err());
        match setxattr(path.path().join("file"), "user.test", b"1", XattrFlags::empty()) {
            Ok(()) => assert!(has_attributes(&directory, b"file").unwrap()),
            // A label of the security module is an attribute too.
            Err(errno) => println!("no attributes of users on this file system ({errno}); any: {before}"),
        }
    }
}
