//! Random bytes of any length from constant memory: a sealed memfd that is read over and over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Bytes of the file: as much as a worker sends in one turn, so that a turn is one system call. RLIMIT_FSIZE holds
/// for files in memory too; below it the file is shorter, and a turn takes more calls.
const BYTES_MAX: u64 = 2 << 20;

/// The fewest bytes that are worth a system call.
const BYTES_MIN: u64 = 4 << 10;

/// The memory file. It is sealed, since TCP holds references to its pages: bytes once sent can't change.
#[derive(Clone, Debug)]
pub struct Synthetic {
    descriptor: Arc<OwnedFd>,
    bytes: u64,
}

/// Why no memory file could be made.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// Files of this process may not even have the fewest bytes.
    #[error(
        "files of this process may have {0} bytes, and {BYTES_MIN} are needed: raise LimitFSIZE= (ulimit -f)"
    )]
    FilesTooShort(u64),
    /// The system gave any other error.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl From<Errno> for SyntheticError {
    fn from(errno: Errno) -> SyntheticError {
        SyntheticError::Failed(errno.into())
    }
}

impl Synthetic {
    /// Makes and fills the file.
    pub fn new() -> Result<Synthetic, SyntheticError> {
        Synthetic::within(getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX))
    }

    /// Makes the file where no file may have more than `file_bytes_max` bytes.
    fn within(file_bytes_max: u64) -> Result<Synthetic, SyntheticError> {
        let bytes = BYTES_MAX.min(file_bytes_max);
        if bytes < BYTES_MIN {
            return Err(SyntheticError::FilesTooShort(file_bytes_max));
        }
        let descriptor = memfd_create("streamd-synthetic", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut random = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut written = 0;
        while written < random.len() {
            written += rustix::io::write(&descriptor, &random[written..])?;
        }
        fcntl_add_seals(
            &descriptor,
            SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(Synthetic { descriptor: Arc::new(descriptor), bytes })
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl AsFd for Synthetic {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, BYTES_MIN, Synthetic, SyntheticError};

    #[test]
    fn it_is_as_long_as_files_may_be() {
        for (limit, bytes) in
            [(u64::MAX, BYTES_MAX), (BYTES_MAX, BYTES_MAX), (65_536, 65_536), (4096, BYTES_MIN)]
        {
            let synthetic = Synthetic::within(limit).unwrap();
            assert_eq!(synthetic.bytes(), bytes);
            assert_eq!(rustix::fs::fstat(&synthetic).unwrap().st_size, i64::try_from(bytes).unwrap());
        }
        let refused = Synthetic::within(4095).unwrap_err();
        assert!(matches!(refused, SyntheticError::FilesTooShort(4095)));
        assert!(refused.to_string().contains("LimitFSIZE="), "{refused}");
    }
}
