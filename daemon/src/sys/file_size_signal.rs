//! The signal of a write beyond RLIMIT_FSIZE.

/// Makes such a write fail with EFBIG alone (setrlimit(2)): SIGXFSZ, which comes with it, would end the process
/// without a message. This is for the whole process, and kept by the programs that it executes.
pub fn ignore_file_size_signal() {
    // SAFETY: owner, lifetime: no memory is passed, and no handler of ours; the kernel keeps one setting for the
    // process. Fails only for a signal that doesn't exist.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::{Errno, write};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// The name of the variable that says to the test that it is the process with the limit.
    const LIMITED: &str = "STREAMD_TEST_FILE_SIZE_LIMITED";

    #[test]
    fn a_write_beyond_the_limit_fails_and_ends_nothing() {
        if std::env::var_os(LIMITED).is_none() {
            // The test runs in a process of its own, since a limit of a process holds for every test in it.
            let mut limited = Command::new(std::env::current_exe().unwrap());
            limited
                .args(["a_write_beyond_the_limit_fails_and_ends_nothing", "--nocapture"])
                .env(LIMITED, "1");
            let output = limited.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            return;
        }
        super::ignore_file_size_signal();
        let file = memfd_create("limited", MemfdFlags::CLOEXEC).unwrap();
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: Some(3), maximum }).unwrap();
        assert_eq!(write(file.as_fd(), b"four"), Ok(3));
        assert_eq!(write(file.as_fd(), b"more"), Err(Errno::FBIG));
        setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    }
}
