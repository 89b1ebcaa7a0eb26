//! The priority of a thread's reads, lowered so that they wait until nobody else has any.

use std::io;

/// The constant by which ioprio_set(2) takes a thread's own number, as 0.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// The class of reads that are served when nobody else wants the disk, in the upper bits (linux/ioprio.h).
const IOPRIO_CLASS_IDLE: libc::c_int = 3;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// Makes the reads of the calling thread come after everybody else's (ioprio_set(2), Linux 2.6.13). Schedulers
/// that know no classes ignore it.
pub fn read_when_idle() -> io::Result<()> {
    let priority = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
    // SAFETY: owner, lifetime: no memory is passed, and the kernel keeps three numbers for the calling thread alone.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_may_always_step_back() {
        std::thread::spawn(|| super::read_when_idle().unwrap()).join().unwrap();
    }
}
