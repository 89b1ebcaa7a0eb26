//! Whether the kernel grants an io_uring to this process, and with which flags.

use std::fmt;
use std::io;

use io_uring::{Builder, IoUring, Probe, opcode};

/// Submission entries of a worker's ring. One turn submits at most a poll for each connection that woke up;
/// a full queue is flushed by one more system call, so this bounds memory, not connections.
const ENTRIES: u32 = 1024;

/// Completion entries: four times the submissions, since many connections can become ready at once. The kernel
/// keeps what overflows (IORING_FEAT_NODROP, 5.5), only slower.
const COMPLETION_ENTRIES: u32 = 4 * ENTRIES;

/// What the rings of this kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFeatures {
    /// IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN (6.1): completions are run by the worker's own
    /// wait instead of interrupting it.
    pub defer_taskrun: bool,
}

/// Why there is no ring.
#[derive(Debug)]
pub struct RingRefused {
    reason: io::Error,
}

impl std::error::Error for RingRefused {}

impl fmt::Display for RingRefused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = match self.reason.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
                "allow it: sysctl kernel.io_uring_disabled=0, or a seccomp profile that lets io_uring_setup through"
            }
            Some(rustix::io::Errno::NOSYS) => {
                "this kernel has none, or a seccomp profile hides it: Linux 5.15 or newer is needed"
            }
            Some(rustix::io::Errno::NOMEM) => "raise the locked-memory limit: LimitMEMLOCK= or ulimit -l",
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => "raise the limit of open files",
            Some(rustix::io::Errno::OPNOTSUPP) => {
                "this kernel's rings lack poll: Linux 5.15 or newer is needed"
            }
            _ => "see io_uring_setup(2)",
        };
        write!(formatter, "io_uring is refused: {} ({remedy})", self.reason)
    }
}

/// Makes a ring like a worker's, looks at it and drops it.
pub fn probe() -> Result<RingFeatures, RingRefused> {
    let with_flags = RingFeatures { defer_taskrun: true };
    let without_flags = RingFeatures { defer_taskrun: false };
    match probe_with(with_flags) {
        // EINVAL: a kernel before 6.1 doesn't know the flags.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            probe_with(without_flags).map(|()| without_flags)
        }
        result => result.map(|()| with_flags),
    }
    .map_err(|reason| RingRefused { reason })
}

/// The builder of a worker's ring, and its entries. A ring with `defer_taskrun` belongs to the thread that
/// makes it.
pub fn builder(features: RingFeatures) -> (Builder, u32) {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(COMPLETION_ENTRIES);
    if features.defer_taskrun {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    (builder, ENTRIES)
}

fn probe_with(features: RingFeatures) -> io::Result<()> {
    let (builder, entries) = builder(features);
    let ring = builder.build(entries)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    // What monoio submits for this daemon: readiness of sockets, cancelling it, the wake-up from other threads
    // and the closing of descriptors.
    let needed = [opcode::PollAdd::CODE, opcode::AsyncCancel::CODE, opcode::Read::CODE, opcode::Close::CODE];
    if needed.into_iter().all(|code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(rustix::io::Errno::OPNOTSUPP.into())
    }
}
