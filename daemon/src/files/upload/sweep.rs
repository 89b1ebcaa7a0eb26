//! What earlier runs and absent clients left: taken over at the start, removed when it is too old.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, Dir, FileType, Timespec, Timestamps, UTIME_OMIT, fstat, ftruncate, futimens, unlinkat,
};

use super::about::About;
use super::error::UploadError;
use super::home::Home;
use super::limits::{SWEPT_BYTES_MAX, SWEPT_ENTRIES_MAX, UNKNOWN_AGE_MIN};
use super::partial::Partial;
use super::{Uploads, claims};
use crate::protocol::name::{Name, RESERVED_SEGMENT, UploadId};

/// What a pass has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Partials.
    pub partials: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it ended at a limit: there may be more.
    pub is_partway: bool,
}

impl Uploads {
    /// Takes over what can be continued.
    pub(super) fn adopt(&self, root_home: &Home) -> Result<(), UploadError> {
        self.adopt_from(root_home, None)?;
        let mut gone = Vec::new();
        for path in self.homes.paths() {
            // A mount that is absent today may be back tomorrow, and then its partials are found by a sweep alone.
            let Ok(directory) = self.root.open_directory(&path) else { continue };
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
        self.homes.drop_paths(root_home, &gone);
        Ok(())
    }

    fn adopt_from(&self, home: &Home, beside: Option<&str>) -> Result<(), UploadError> {
        for id in ids(home)?.0 {
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
        let trusted = about.trusted(size, &self.boot);
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
        let claim =
            if about.is_resource { claims::NONE } else { self.claims.make(&destination, about.length) };
        let (left, beside) = ((destination, about), beside.map(Box::from));
        let partial = Partial::left(id, left, claim, beside, trusted, modified(stat.st_mtime));
        self.index.insert(&Arc::new(partial))
    }

    /// One pass over the homes: removes the uploads that nobody has continued for `ttl`, and what an earlier run left
    /// that can't be continued. Bounded: what it doesn't come to is the next pass's.
    pub fn sweep(&self, ttl: Duration) -> Swept {
        let mut swept = Swept::default();
        for partial in self.index.all() {
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
                self.remove_locked(&partial, &mut state);
            }
        }
        let beside = self.homes.paths();
        let beside = beside.iter().filter_map(|path| self.root.open_directory(path).ok());
        let beside = beside.filter_map(|directory| Home::open(directory).ok().flatten());
        for home in Home::open(self.root.directory()).ok().flatten().into_iter().chain(beside) {
            if let Err(error) = self.sweep_unknown(&home, ttl, &mut swept) {
                tracing::warn!(%error, "a directory of uploads could not be swept");
            }
        }
        swept
    }

    /// When another daemon last wrote to a partial that has no writer here, as far as its file tells.
    fn written_elsewhere(&self, partial: &Partial) -> Option<SystemTime> {
        let home = self.home_of(partial).ok().flatten()?;
        match home.lock(partial.id) {
            Err(UploadError::Busy) => Some(SystemTime::now()),
            Ok(Some(file)) => fstat(&file).ok().map(|stat| modified(stat.st_mtime)),
            Ok(None) | Err(_) => None,
        }
    }

    fn sweep_unknown(&self, home: &Home, ttl: Duration, swept: &mut Swept) -> Result<(), UploadError> {
        let failed = UploadError::at("sweeping uploads");
        let (ids, is_partway) = ids(home)?;
        swept.is_partway |= is_partway;
        for id in ids {
            if swept.is_full() {
                break;
            }
            if self.index.find(id).is_some() {
                continue;
            }
            // Locked: by another daemon, or by a writer that has just begun.
            let Ok(Some(file)) = home.lock(id) else { continue };
            let stat = fstat(&file).map_err(failed)?;
            let age_min = if About::load(&file).is_some() { ttl } else { UNKNOWN_AGE_MIN };
            if is_older(modified(stat.st_mtime), age_min) {
                swept.add(u64::try_from(stat.st_size).unwrap_or(0));
                home.remove(id)?;
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

/// The files of a home that are named as partials are, and whether there may be more. What else lies there isn't the
/// daemon's.
pub(super) fn ids(home: &Home) -> Result<(Vec<UploadId>, bool), UploadError> {
    let failed = UploadError::at("reading .streamd-uploads");
    let mut ids = Vec::new();
    for entry in Dir::read_from(home.as_fd()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
            continue;
        }
        if ids.len() == SWEPT_ENTRIES_MAX {
            return Ok((ids, true));
        }
        ids.extend(entry.file_name().to_str().ok().and_then(UploadId::parse));
    }
    Ok((ids, false))
}

fn modified(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn is_older(time: SystemTime, age: Duration) -> bool {
    // A time in the future is a clock that was set back: it passes.
    time.elapsed().is_ok_and(|elapsed| elapsed >= age)
}
