//! Locks on bytes of a file, between processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Locks one byte for writing until the file is closed; false where another open file has it. The
/// lock belongs to the open file description (fcntl(2), F_OFD_SETLK, Linux 3.15): two daemons in one process exclude
/// each other as two processes do, and closing another descriptor of the file doesn't end it, as it would with F_SETLK.
pub fn try_lock_byte(file: impl AsFd, byte: u64) -> io::Result<bool> {
    match set_lock(file, byte, libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Unlocks a byte before its file is closed. A process that was forked meanwhile has the open file too until it
/// executes another program, and the lock lasts as long as anybody has that.
pub fn unlock_byte(file: impl AsFd, byte: u64) -> io::Result<()> {
    set_lock(file, byte, libc::F_UNLCK)
}

fn set_lock(file: impl AsFd, byte: u64, kind: libc::c_int) -> io::Result<()> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    // The constants have the same C type on every target, and another width on some.
    let whence = libc::c_short::try_from(libc::SEEK_SET).map_err(out_of_range)?;
    let l_type = libc::c_short::try_from(kind).map_err(out_of_range)?;
    let l_start = libc::off64_t::try_from(byte).map_err(out_of_range)?;
    // F_OFD_SETLK wants a process id of 0.
    let lock = libc::flock64 { l_type, l_whence: whence, l_start, l_len: 1, l_pid: 0 };
    loop {
        // SAFETY: owner: the lock's description is this function's, the file the caller's, borrowed. Lifetime: the
        // call's. The kernel copies the description and keeps no pointer; the lock that it keeps is its own.
        let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{try_lock_byte, unlock_byte};

    #[test]
    fn a_byte_has_one_holder_among_open_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (first, second) = (open(), open());
        assert!(try_lock_byte(&first, 7).unwrap());
        assert!(try_lock_byte(&first, 7).unwrap(), "its own");
        assert!(!try_lock_byte(&second, 7).unwrap());
        assert!(try_lock_byte(&second, 8).unwrap());
        // Another descriptor of the file is closed, which must not end the lock.
        drop(open());
        assert!(!try_lock_byte(&second, 7).unwrap());
        // A process that was forked keeps the open file, as a duplicate does.
        let forked = first.try_clone().unwrap();
        unlock_byte(&first, 7).unwrap();
        assert!(try_lock_byte(&second, 7).unwrap());
        unlock_byte(&second, 7).unwrap();
        assert!(try_lock_byte(&first, 7).unwrap());
        drop((first, forked));
        assert!(try_lock_byte(&second, 7).unwrap());
        try_lock_byte(&second, u64::MAX).unwrap_err();
        try_lock_byte(File::open(file.path()).unwrap(), 7).unwrap_err();
    }
}
