//! Takeover of uploads that earlier runs left: at the start, and where another daemon on this root began one.

use std::sync::Arc;

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT, fstat, ftruncate, futimens, unlinkat};

use super::super::root::Root;
use super::claims;
use super::error::UploadError;
use super::locks::Locks;
use super::metadata::Metadata;
use super::partial::{Partial, last_written};
use super::staging::StagingDirectory;
use super::storage::Storage;
use super::uploads::Uploads;
use crate::protocol::name::{Name, RESERVED_SEGMENT, UploadId, text_of_path};

impl Uploads {
    /// Opens the uploads of a root and takes over those that earlier runs left and that can be continued. Waits
    /// for the disk.
    pub fn open(root: Arc<Root>) -> Result<Arc<Uploads>, UploadError> {
        let uploads = Uploads::over(Storage::open(root)?)?;
        let staging = uploads.storage.root_staging()?;
        Locks::prepare(&staging);
        uploads.adopt(&staging)?;
        Ok(Arc::new(uploads))
    }

    /// Takes over the partials that can be continued.
    fn adopt(&self, root_staging: &StagingDirectory) -> Result<(), UploadError> {
        self.adopt_from(root_staging, None)?;
        let mut gone = Vec::new();
        for path in self.storage.staging_directories.paths() {
            // A mount that is absent today may be back tomorrow; its partials are found by a sweep alone then.
            let Ok(directory) = self.storage.root.open_directory(&path) else { continue };
            match StagingDirectory::open(&directory) {
                Ok(Some(staging)) => {
                    self.adopt_from(&staging, Some(&path))?;
                    // The removal fails unless the directory is empty.
                    if unlinkat(&directory, RESERVED_SEGMENT, AtFlags::REMOVEDIR).is_ok() {
                        gone.push(path);
                    }
                }
                Ok(None) => gone.push(path),
                Err(error) => {
                    tracing::warn!(%error, path = &*text_of_path(&path), "a directory of uploads could not be opened")
                }
            }
        }
        self.storage.staging_directories.drop_paths(root_staging, &gone);
        Ok(())
    }

    fn adopt_from(&self, staging: &StagingDirectory, beside: Option<&[u8]>) -> Result<(), UploadError> {
        for id in staging.ids()?.0 {
            match self.adopt_one(staging, beside, id) {
                Ok(()) => {}
                // Another daemon is writing to it.
                Err(UploadError::Busy) => {}
                Err(UploadError::TooMany) => break,
                Err(error) => tracing::warn!(upload = %id, %error, "an upload could not be taken over"),
            }
        }
        Ok(())
    }

    /// Takes one partial over, where it can be continued and nobody has it: [`UploadError::Busy`] where another
    /// daemon writes to it.
    pub(super) fn adopt_one(
        &self,
        staging: &StagingDirectory,
        beside: Option<&[u8]>,
        id: UploadId,
    ) -> Result<(), UploadError> {
        let failed = UploadError::at("taking over an upload");
        let Some(file) = staging.lock(id)? else { return Ok(()) };
        let Some(metadata) = Metadata::load(&file) else { return Ok(()) };
        let Some(destination) = Name::of_text(&metadata.destination) else { return Ok(()) };
        // Links may give one staging directory several paths: the upload's name must have the path that its
        // destination has.
        if beside.is_some_and(|directory| directory != b"." && !destination.lies_in(directory)) {
            return Ok(());
        }
        let stat = fstat(&file).map_err(failed)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let trusted = metadata.trusted(size, &self.partials.boot);
        if trusted == 0 && !metadata.is_resource {
            return staging.remove(id);
        }
        // This cuts off bytes that can't be trusted, and blocks allocated ahead. It must not make the partial look
        // younger.
        ftruncate(&file, trusted).map_err(failed)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        };
        futimens(&file, &times).map_err(failed)?;
        let claim = if metadata.is_resource {
            claims::NONE
        } else {
            self.partials.claims.make(&destination, metadata.length)
        };
        let (left, beside) = ((destination, metadata), beside.map(Box::from));
        let partial = Partial::left(id, left, claim, beside, trusted, last_written(&stat));
        self.partials.index.insert(&Arc::new(partial))
    }
}
