//! The trial whether the kernel grants an io_uring to this process, and with which flags.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use io_uring::{Builder, IoUring, Probe, opcode};

/// The submission entries of a worker's ring. One turn submits at most a poll for each connection that woke up; a
/// full queue is flushed by one more system call, so this bounds memory, not connections.
const ENTRIES: u32 = 1024;

/// The completion entries: four times the submissions, since many connections can become ready at once. The kernel
/// keeps what overflows (IORING_FEAT_NODROP, 5.5), only slower.
const COMPLETION_ENTRIES: u32 = 4 * ENTRIES;

/// The time that a trial waits for the rings of a daemon that has just ended, some milliseconds on an idle host,
/// and the pause between two attempts.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);
const PATIENCE_PAUSE: Duration = Duration::from_millis(5);

/// The features of this kernel's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFeatures {
    /// Whether IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN (6.1) are there: completions are run by
    /// the worker's own wait instead of interrupting it.
    pub defer_taskrun: bool,
}

/// Why there is no ring.
#[derive(Debug)]
pub struct RingRefused {
    reason: io::Error,
    /// Where several rings were asked for: how many could be made, and how many are needed.
    count: Option<(usize, usize)>,
}

impl std::error::Error for RingRefused {}

impl fmt::Display for RingRefused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RingRefused { reason, count } = self;
        let place = match count {
            Some((made, wanted)) => format!(" for ring {} of {wanted}", made + 1),
            None => String::new(),
        };
        write!(formatter, "io_uring is refused{place}: {reason} ({})", remedy(reason))
    }
}

/// Returns the remedy where a ring can't be made.
pub fn remedy(reason: &io::Error) -> &'static str {
    match reason.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            "allow it: sysctl kernel.io_uring_disabled=0, or a seccomp profile that lets io_uring_setup through"
        }
        Some(rustix::io::Errno::NOSYS) => {
            "this kernel has none, or a seccomp profile hides it: Linux 5.15 or newer is needed"
        }
        Some(rustix::io::Errno::NOMEM) => {
            "raise the locked-memory limit, which all processes of one user share: LimitMEMLOCK= or ulimit -l"
        }
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
            "raise the limit of open files: LimitNOFILE= or ulimit -n"
        }
        Some(rustix::io::Errno::OPNOTSUPP) => "this kernel's rings lack poll: Linux 5.15 or newer is needed",
        _ => "see io_uring_setup(2)",
    }
}

/// Makes a ring like a worker's, reads its features and drops it.
pub fn probe() -> Result<RingFeatures, RingRefused> {
    first().map(|(features, _)| features)
}

/// Makes `count` rings like the workers', all at once, and drops them: the free locked memory may be enough for
/// some of them only.
pub fn probe_all(count: usize) -> Result<RingFeatures, RingRefused> {
    let (features, ring) = first()?;
    let mut rings = vec![ring];
    while rings.len() < count {
        let made = rings.len();
        let refused = |reason| RingRefused { reason, count: Some((made, count)) };
        rings.push(patiently(PROBE_PATIENCE, || build(features)).map_err(refused)?);
    }
    Ok(features)
}

/// Makes a ring, or something that holds one, and tries again for a while where locked memory is exhausted: the
/// kernel gives back the memory of rings a moment after they were dropped or their process ended, from a work
/// queue.
pub fn patiently<R>(patience: Duration, make: impl Fn() -> io::Result<R>) -> io::Result<R> {
    let end = Instant::now() + patience;
    loop {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory && Instant::now() < end => {
                std::thread::park_timeout(PATIENCE_PAUSE);
            }
            result => return result,
        }
    }
}

fn build(features: RingFeatures) -> io::Result<IoUring> {
    let (builder, entries) = builder(features);
    builder.build(entries)
}

/// Makes one ring, and returns its features with it.
fn first() -> Result<(RingFeatures, IoUring), RingRefused> {
    let with_flags = RingFeatures { defer_taskrun: true };
    let without_flags = RingFeatures { defer_taskrun: false };
    match patiently(PROBE_PATIENCE, || probe_with(with_flags)) {
        // EINVAL: a kernel before 6.1 doesn't know the flags.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            probe_with(without_flags).map(|ring| (without_flags, ring))
        }
        result => result.map(|ring| (with_flags, ring)),
    }
    .map_err(|reason| RingRefused { reason, count: None })
}

/// Returns the builder of a worker's ring, and its entries. A ring with `defer_taskrun` belongs to the thread that
/// makes it.
pub fn builder(features: RingFeatures) -> (Builder, u32) {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(COMPLETION_ENTRIES);
    if features.defer_taskrun {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    (builder, ENTRIES)
}

fn probe_with(features: RingFeatures) -> io::Result<IoUring> {
    let ring = build(features)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    // These are the operations that monoio submits for this daemon: readiness of sockets, cancelling it, the
    // wake-up from other threads and the closing of descriptors.
    let needed = [opcode::PollAdd::CODE, opcode::AsyncCancel::CODE, opcode::Read::CODE, opcode::Close::CODE];
    if needed.into_iter().all(|code| probe.is_supported(code)) {
        Ok(ring)
    } else {
        Err(rustix::io::Errno::OPNOTSUPP.into())
    }
}
