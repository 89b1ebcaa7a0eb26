//! Errors of calls that write: in the daemon there are none but those of the file system, in test builds also those
//! that the thread was told to have.

use rustix::io::Errno;

#[cfg(test)]
pub(crate) use simulated::fail_by;

/// Before a call that writes to a file: its error, where it has one without being made.
#[cfg(not(test))]
#[inline]
pub(super) fn before_write() -> Result<(), Errno> {
    Ok(())
}

#[cfg(test)]
pub(super) use simulated::before_write;

#[cfg(test)]
mod simulated {
    use std::cell::RefCell;

    use super::Errno;

    type Fault = Box<dyn FnMut() -> Option<Errno>>;

    thread_local! {
        static FAULT: RefCell<Option<Fault>> = const { RefCell::new(None) };
    }

    /// From now on `fault` says what is wrong with each write of this thread; None ends that.
    pub(crate) fn fail_by(fault: Option<Fault>) {
        FAULT.set(fault);
    }

    pub(in super::super) fn before_write() -> Result<(), Errno> {
        FAULT.with_borrow_mut(|fault| fault.as_mut().and_then(|fault| fault()).map_or(Ok(()), Err))
    }
}
