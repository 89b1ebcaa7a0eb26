//! Digests of bytes as they pass, or as they are read from a file.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, pread};
use sha2::{Digest as _, Sha256};

use super::super::digests::{Algorithms, Digests};

/// Bytes that are read at once for hashing: few system calls, and a buffer that stays in the second-level cache.
pub(in crate::files) const BUFFER_BYTES: usize = 256 << 10;

/// Digests of bytes that pass one after the other.
#[derive(Clone, Debug, Default)]
pub struct Hashers {
    sha256: Option<Sha256>,
    crc32c: Option<u32>,
}

impl Hashers {
    /// Begins digests by `algorithms`, with no byte hashed yet.
    pub fn new(algorithms: Algorithms) -> Hashers {
        Hashers { sha256: algorithms.sha256.then(Sha256::new), crc32c: algorithms.crc32c.then_some(0) }
    }

    /// Hashes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(crc32c) = &mut self.crc32c {
            *crc32c = crc32c::crc32c_append(*crc32c, bytes);
        }
    }

    /// Returns the digests of all bytes so far.
    pub fn digests(&self) -> Digests {
        Digests {
            sha256: self.sha256.clone().map(|sha256| sha256.finalize().into()),
            crc32c: self.crc32c.map(u32::to_be_bytes),
        }
    }
}

/// Computes the digests of the first `size` bytes of a file; None where it has fewer. Waits for the disk.
pub(in crate::files) fn of_file(
    file: BorrowedFd<'_>,
    size: u64,
    algorithms: Algorithms,
) -> Result<Option<Digests>, Errno> {
    of_file_paced(file, size, algorithms, |_, _| {})
}

/// Does as [`of_file`] and tells `pace` the offset and length of each piece that was read.
pub(super) fn of_file_paced(
    file: BorrowedFd<'_>,
    size: u64,
    algorithms: Algorithms,
    mut pace: impl FnMut(u64, u64),
) -> Result<Option<Digests>, Errno> {
    let mut hashers = Hashers::new(algorithms);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        match pread(file, &mut buffer[..wanted], offset) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                hashers.update(&buffer[..count]);
                pace(offset, count as u64);
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Some(hashers.digests()))
}
