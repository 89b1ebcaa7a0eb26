//! The sweep, which removes what earlier runs and absent clients left when it is too old.

use std::time::{Duration, SystemTime};

use rustix::fs::fstat;

use super::error::UploadError;
use super::limits::{SWEPT_BYTES_MAX, UNKNOWN_AGE_MIN};
use super::metadata::Metadata;
use super::partial::{Partial, last_written};
use super::staging::StagingDirectory;
use super::uploads::Uploads;

/// The result of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The partials that were removed.
    pub partials: usize,
    /// The bytes of the removed partials.
    pub bytes: u64,
    /// Whether the pass ended at a limit, so that there may be more.
    pub is_partway: bool,
}

impl Uploads {
    /// Makes one pass over the staging directories: removes the uploads that nobody has continued for `ttl`, and
    /// files of an earlier run that can't be continued. A pass is bounded: the next one does the rest.
    pub fn sweep(&self, ttl: Duration) -> Swept {
        let mut swept = Swept::default();
        for partial in self.partials.index.all() {
            if swept.is_full() {
                return swept;
            }
            let Some(mut state) = partial.try_lock() else { continue };
            if state.active.is_none() && !state.is_gone && is_older(state.idle_since, ttl) {
                if let Some(written) = self.written_elsewhere(&partial).filter(|at| !is_older(*at, ttl)) {
                    state.idle_since = written;
                    continue;
                }
                swept.add(partial.offset());
                self.partials.remove_locked(&partial, &mut state);
            }
        }
        let beside = self.storage.staging_directories.paths();
        let beside = beside.iter().filter_map(|path| self.storage.root.open_directory(path).ok());
        let beside = beside.filter_map(|directory| StagingDirectory::open(directory).ok().flatten());
        for staging in
            StagingDirectory::open(self.storage.root.directory()).ok().flatten().into_iter().chain(beside)
        {
            if let Err(error) = self.sweep_unknown(&staging, ttl, &mut swept) {
                tracing::warn!(%error, "a directory of uploads could not be swept");
            }
        }
        swept
    }

    /// Returns when another daemon last wrote to a partial that has no writer here, as far as its file tells.
    fn written_elsewhere(&self, partial: &Partial) -> Option<SystemTime> {
        let staging = self.storage.staging_of(partial).ok().flatten()?;
        match staging.lock(partial.id) {
            Err(UploadError::Busy) => Some(SystemTime::now()),
            Ok(Some(file)) => fstat(&file).ok().map(|stat| last_written(&stat)),
            Ok(None) | Err(_) => None,
        }
    }

    fn sweep_unknown(
        &self,
        staging: &StagingDirectory,
        ttl: Duration,
        swept: &mut Swept,
    ) -> Result<(), UploadError> {
        let failed = UploadError::at("sweeping uploads");
        let (ids, is_partway) = staging.ids()?;
        swept.is_partway |= is_partway;
        for id in ids {
            if swept.is_full() {
                break;
            }
            if self.partials.index.find(id).is_some() {
                continue;
            }
            // The file is locked by another daemon, or by a writer that has just begun.
            let Ok(Some(file)) = staging.lock(id) else { continue };
            let stat = fstat(&file).map_err(failed)?;
            let age_min = if Metadata::load(&file).is_some() { ttl } else { UNKNOWN_AGE_MIN };
            if is_older(last_written(&stat), age_min) {
                swept.add(u64::try_from(stat.st_size).unwrap_or(0));
                staging.remove(id)?;
            }
        }
        Ok(())
    }
}

impl Swept {
    fn add(&mut self, bytes: u64) {
        self.partials += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn is_full(&mut self) -> bool {
        self.is_partway |= self.bytes >= SWEPT_BYTES_MAX;
        self.is_partway
    }
}

fn is_older(time: SystemTime, age: Duration) -> bool {
    // A time in the future comes from a clock that was set back, and passes.
    time.elapsed().is_ok_and(|elapsed| elapsed >= age)
}
