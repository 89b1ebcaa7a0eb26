//! Random bytes of any length from constant memory: a sealed memfd that is read over and over.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Bytes in the file: as much as a worker sends in one turn, so that a turn is one system call.
pub const SYNTHETIC_BYTES: u64 = 2 << 20;

/// The memory file. Sealed, since TCP holds references to its pages: bytes once sent can't change.
#[derive(Clone, Debug)]
pub struct Synthetic(Arc<OwnedFd>);

impl Synthetic {
    /// Makes and fills the file.
    pub fn new() -> std::io::Result<Synthetic> {
        let descriptor = memfd_create("streamd-synthetic", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut random = vec![0; usize::try_from(SYNTHETIC_BYTES).unwrap_or(usize::MAX)];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let mut written = 0;
        while written < random.len() {
            written += rustix::io::write(&descriptor, &random[written..])?;
        }
        fcntl_add_seals(
            &descriptor,
            SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(Synthetic(Arc::new(descriptor)))
    }
}

impl AsFd for Synthetic {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
