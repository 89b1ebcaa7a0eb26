//! Borrowed descriptors of monoio's sockets, which offer a bare number only.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Borrows the descriptor that `owner` holds open.
pub fn borrow<T: AsRawFd>(owner: &T) -> BorrowedFd<'_> {
    // SAFETY: owner: `owner`, which closes the descriptor when it is dropped and not before. Lifetime: the
    // borrow ends with that of `owner`. The kernel keeps nothing: the number is only passed on to calls.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}
