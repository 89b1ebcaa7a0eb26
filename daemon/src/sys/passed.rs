//! Descriptors that the process was started with, known by number alone.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The first descriptor that a service manager passes (SD_LISTEN_FDS_START, sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Takes over `count` descriptors that a service manager passed; they are closed when the process executes
/// another. Must be called once, before anything else opens descriptors. Fails where one of them isn't open.
pub fn passed_descriptors(count: usize) -> io::Result<Vec<OwnedFd>> {
    let count = i32::try_from(count).map_err(io::Error::other)?;
    // All are checked before the first is owned, and would be closed in the case of an error.
    for number in FIRST..FIRST.saturating_add(count) {
        // SAFETY: owner: the process, which was started with it. Lifetime: the call's. The kernel keeps nothing; a
        // number that isn't open gives EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(descriptor, fcntl_getfd(descriptor)? | FdFlags::CLOEXEC)?;
    }
    // SAFETY: owner: from here on the result; whoever passed the descriptor meant it for this process, and nothing else
    // in it knows the number. Lifetime: until it is dropped. The kernel keeps nothing.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok((FIRST..FIRST.saturating_add(count)).map(own).collect())
}
