//! Ids of partials, which are the names of their files.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::error::UploadError;
use crate::protocol::name::UploadId;

/// Makes an id that nobody guesses.
pub(super) fn random_id() -> Result<UploadId, UploadError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| UploadError::Failed { step: "choosing a name", reason: Errno::IO })?;
    Ok(UploadId(u128::from_ne_bytes(bytes)))
}

/// Generator of ids for files that nobody continues. They may be guessed; they must only differ from other
/// daemons'.
#[derive(Debug)]
pub(super) struct Temporaries {
    own: u128,
    next: AtomicU64,
}

impl Temporaries {
    pub(super) fn new() -> Result<Temporaries, UploadError> {
        Ok(Temporaries { own: random_id()?.0 & !u128::from(u64::MAX), next: AtomicU64::new(0) })
    }

    pub(super) fn next(&self) -> UploadId {
        UploadId(self.own | u128::from(self.next.fetch_add(1, Ordering::Relaxed)))
    }
}
