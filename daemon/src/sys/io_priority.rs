//! Asking the kernel to let a thread's reads wait until nobody else has any.

use std::io;

/// ioprio_set(2): who, a thread's own number as 0.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// linux/ioprio.h: the class of those that are served when nobody else wants the disk, in the upper bits.
const IOPRIO_CLASS_IDLE: libc::c_int = 3;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// Lets what the calling thread reads come after what everybody else does (ioprio_set(2), Linux 2.6.13). Schedulers
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
