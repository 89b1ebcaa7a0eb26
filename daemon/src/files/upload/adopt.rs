//! What earlier runs left is taken over: at the start, and where another daemon on this root began it.

use std::sync::Arc;

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT, fstat, ftruncate, futimens, unlinkat};

use super::super::root::Root;
use super::about::About;
use super::claims;
use super::error::UploadError;
use super::home::Home;
use super::locks::Locks;
use super::partial::{Partial, last_written};
use super::storage::Storage;
use super::uploads::Uploads;
use crate::protocol::name::{Name, RESERVED_SEGMENT, UploadId};

impl Uploads {
    /// Takes the root's uploads over from an earlier run: whatever it left that can be continued can be. Waits for
    /// the disk.
    pub fn open(root: Arc<Root>) -> Result<Arc<Uploads>, UploadError> {
        let uploads = Uploads::over(Storage::open(root)?)?;
        let home = uploads.storage.root_home()?;
        Locks::prepare(&home);
        uploads.adopt(&home)?;
        Ok(Arc::new(uploads))
    }

    /// Takes over what can be continued.
    fn adopt(&self, root_home: &Home) -> Result<(), UploadError> {
        self.adopt_from(root_home, None)?;
        let mut gone = Vec::new();
        for path in self.storage.homes.paths() {
            // A mount that is absent today may be back tomorrow, and then its partials are found by a sweep alone.
            let Ok(directory) = self.storage.root.open_directory(&path) else { continue };
            match Home::open(&directory) {
                Ok(Some(home)) => {
                    self.adopt_from(&home, Some(&path))?;
                    // Fails unless it is empty.
                    if unlinkat(&directory, RESERVED_SEGMENT, AtFlags::REMOVEDIR).is_ok() {
                        gone.push(path);
                    }
                }
                Ok(None) => gone.push(path),
                Err(error) => tracing::warn!(%error, path, "a directory of uploads could not be opened"),
            }
        }
        self.storage.homes.drop_paths(root_home, &gone);
        Ok(())
    }

    fn adopt_from(&self, home: &Home, beside: Option<&str>) -> Result<(), UploadError> {
        for id in home.ids()?.0 {
            match self.adopt_one(home, beside, id) {
                Ok(()) => {}
                // Another daemon's.
                Err(UploadError::Busy) => {}
                Err(UploadError::TooMany) => break,
                Err(error) => tracing::warn!(upload = %id, %error, "an upload could not be taken over"),
            }
        }
        Ok(())
    }

    /// Takes one over, where it can be continued and nobody has it: [`UploadError::Busy`] where another daemon writes
    /// to it.
    pub(super) fn adopt_one(
        &self,
        home: &Home,
        beside: Option<&str>,
        id: UploadId,
    ) -> Result<(), UploadError> {
        let failed = UploadError::at("taking over an upload");
        let Some(file) = home.lock(id)? else { return Ok(()) };
        let Some(about) = About::load(&file) else { return Ok(()) };
        let Some(destination) = Name::of_text(&about.destination) else { return Ok(()) };
        // Links may give one home several paths: the upload's name has the one that its destination has.
        if beside.is_some_and(|directory| directory != "." && !destination.lies_in(directory)) {
            return Ok(());
        }
        let stat = fstat(&file).map_err(failed)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let trusted = about.trusted(size, &self.partials.boot);
        if trusted == 0 && !about.is_resource {
            return home.remove(id);
        }
        // Cuts off what can't be trusted, and blocks allocated ahead. It must not make the partial look younger.
        ftruncate(&file, trusted).map_err(failed)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        };
        futimens(&file, &times).map_err(failed)?;
        let claim = if about.is_resource {
            claims::NONE
        } else {
            self.partials.claims.make(&destination, about.length)
        };
        let (left, beside) = ((destination, about), beside.map(Box::from));
        let partial = Partial::left(id, left, claim, beside, trusted, last_written(&stat));
        self.partials.index.insert(&Arc::new(partial))
    }
}
