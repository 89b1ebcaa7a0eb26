//! Publication of a short file whose whole content is in memory: it is created, written and named in one go.
//!
//! It is no partial: nothing of it can be continued, so it has no description and no lease, and nobody is told its
//! id. A process that is killed leaves the former file or the new one, and at most a file in the staging directory
//! that nobody knows, for the sweep. Unusual cases go the way of every upload ([`Uploads::begin`]): another mount,
//! a directory that is missing or shares its group or a list.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::super::digest::{Algorithms, Digests, Hashers};
use super::super::free_space::Room;
use super::super::place::Place;
use super::super::source::SourceFile;
use super::super::unpublished::{Unpublished, give_name};
use super::admitted::Admitted;
use super::destination::Destination;
use super::error::UploadError;
use super::limits::UploadLimits;
use super::locks::Locked;
use super::membership;
use super::plan::Plan;
use super::publication::{Publication, Published};
use super::staging::StagingDirectory;
use super::uploads::Uploads;
use crate::protocol::name::{Name, UploadId};

/// A file whose whole content is in memory.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'w> {
    /// The plan of the upload; the length is that of its content.
    pub plan: &'w Plan,
    /// The destination, if that was resolved before.
    pub known: Option<&'w KnownDestination>,
    /// The whole content.
    pub content: &'w [u8],
    /// The digests of the body that its head names.
    pub body_digests: &'w Digests,
    /// The algorithms of digests that are computed besides the promised ones.
    pub algorithms: Algorithms,
}

/// A destination whose directory is open: publishing there waits for no other mount than the root's.
#[derive(Debug)]
pub struct KnownDestination(Destination);

/// Whether a publication may wait for the disk and for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Waits,
    Never,
}

/// The name of a file in the staging directory, removed when this is dropped before the file has another name.
struct Temporary<'h> {
    staging: &'h StagingDirectory,
    id: UploadId,
    is_left: bool,
}

/// What became of a file that was to be published without a wait.
pub enum AtOnce {
    /// It is published, or refused.
    Done(Result<Published, UploadError>),
    /// It has to wait for something. Nothing was done, and the admission comes back.
    NotNow(Admitted),
}

impl Uploads {
    /// Publishes a whole file, as [`Writer::publish`](super::Writer::publish) does. Waits for the disk.
    pub fn publish_whole(
        self: &Arc<Self>,
        mut admitted: Admitted,
        whole: &Whole<'_>,
        publication: &Publication<'_>,
        limits: &UploadLimits,
    ) -> Result<Published, UploadError> {
        admitted.note_received(whole.content.len() as u64);
        let resolved = match whole.known {
            Some(_) => None,
            None => Some(KnownDestination(self.storage.resolve(&whole.plan.destination, limits)?)),
        };
        let digests = self.verified(whole, publication)?;
        if let Some(destination) = whole.known.or(resolved.as_ref()) {
            let job = (whole, destination, &digests);
            if let Some(published) = self.publish_at_once(job, publication, limits, Patience::Waits)? {
                admitted.settle();
                return Ok(published);
            }
        }
        drop(resolved);
        let mut writer = self.begin_admitted(admitted, whole.plan, limits)?;
        writer.hash(whole.algorithms);
        writer.write(whole.content)?;
        writer.check_content(whole.body_digests)?;
        writer.publish(publication)
    }

    /// Resolves the destination of this name if that needs no disk: on the root's mount, and not in its staging
    /// directory.
    pub fn known_destination(&self, name: &Name) -> Option<KnownDestination> {
        if self.storage.staging_file_system.place == Place::Elsewhere {
            return None;
        }
        let destination = Destination::resolve_now(&self.storage.root, name)?;
        let is_known =
            destination.mount == self.storage.staging_mount && destination.key != self.storage.staging_key;
        is_known.then_some(KnownDestination(destination))
    }

    /// Publishes as [`Uploads::publish_whole`] does where nothing has to be waited for, since all lies in memory
    /// and nobody is in the way. Otherwise, or where the case is unusual, nothing was done, and the admission
    /// comes back. Doesn't wait.
    pub fn publish_whole_now(
        &self,
        mut admitted: Admitted,
        whole: &Whole<'_>,
        publication: &Publication<'_>,
        limits: &UploadLimits,
    ) -> AtOnce {
        admitted.note_received(whole.content.len() as u64);
        let is_usual = self.storage.staging_file_system.place == Place::Memory
            && publication.precondition.is_none()
            && !publication.is_new
            && self.algorithms(whole, publication).is_empty();
        let Some(destination) = whole.known.filter(|_| is_usual) else { return AtOnce::NotNow(admitted) };
        let job = (whole, destination, &Digests::default());
        match self.publish_at_once(job, publication, limits, Patience::Never) {
            Ok(Some(published)) => {
                admitted.settle();
                AtOnce::Done(Ok(published))
            }
            Ok(None) => AtOnce::NotNow(admitted),
            Err(error) => AtOnce::Done(Err(error)),
        }
    }

    fn algorithms(&self, whole: &Whole<'_>, publication: &Publication<'_>) -> Algorithms {
        let promises =
            [&whole.plan.digests, whole.body_digests, &publication.digests[0], &publication.digests[1]];
        let recorded = publication.recorded.union(self.storage.root.algorithms()).union(whole.algorithms);
        promises.iter().fold(recorded, |sum, digests| sum.union(digests.algorithms()))
    }

    /// Returns the digests of the content, if it has those that it must have.
    fn verified(&self, whole: &Whole<'_>, publication: &Publication<'_>) -> Result<Digests, UploadError> {
        let mut hashers = Hashers::new(self.algorithms(whole, publication));
        hashers.update(whole.content);
        let computed = hashers.digests();
        let [before, behind] = &publication.digests;
        let promises =
            [(whole.body_digests, true), (&whole.plan.digests, false), (before, false), (behind, false)];
        for (promised, is_of_request) in promises {
            if let Some(algorithm) = computed.mismatch(promised) {
                return Err(UploadError::DigestMismatch { algorithm, computed, is_of_request });
            }
        }
        Ok(computed)
    }

    /// Publishes the file; None where the case is unusual, and nothing was done.
    fn publish_at_once(
        &self,
        (whole, KnownDestination(destination), digests): (&Whole<'_>, &KnownDestination, &Digests),
        publication: &Publication<'_>,
        limits: &UploadLimits,
        patience: Patience,
    ) -> Result<Option<Published>, UploadError> {
        if !self.is_usual(destination) {
            return Ok(None);
        }
        let staging = self.storage.root_staging()?;
        let room = Room { bytes: whole.content.len() as u64, inodes: 1 };
        let space = self.storage.space_of(destination.mount);
        // The room is held until the file is there.
        let _room = space.admit(&staging, room, limits.reserve())?;
        let (mut file, mut temporary) = self.create_temporary(&staging, limits)?;
        file.append(whole.content).map_err(UploadError::at("writing an upload"))?;
        let modified = self.names.set_time(&file)?;
        if limits.is_durable {
            // This comes before the lock, since a sync may take long. Should another file have the name by then,
            // its properties are taken over a moment late, which is nobody's loss.
            self.fit(&file, destination, destination.look()?.as_ref());
            file.sync().map_err(UploadError::at("fsync of an upload"))?;
        }
        let Some(locked) = self.lock_for(destination, &staging, patience)? else { return Ok(None) };
        let current = destination.current(&self.storage.root, publication.precondition.is_some())?;
        if !publication.permits(&current) {
            return Err(UploadError::PreconditionFailed);
        }
        if !limits.is_durable {
            self.fit(&file, destination, current.found.as_ref());
        }
        let to = (destination.directory(), destination.leaf());
        match give_name((staging.as_fd(), &temporary.id.to_string()), to, publication.is_new) {
            Ok(()) => temporary.is_left = true,
            Err(Errno::EXIST) if publication.is_new => return Err(UploadError::PreconditionFailed),
            // Files can't be renamed from the staging directory to there, or the directory has gone.
            Err(Errno::XDEV | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(UploadError::at("naming an upload")(errno)),
        }
        let named = self
            .opened(file)
            .map(|named| self.names.recorded(named, whole.content.len() as u64, modified, digests, limits));
        // The generation is raised last, so that a file that was opened before is opened again, with the tag of
        // the answer.
        self.names.raise_generation();
        drop(locked);
        self.names.sync_name(destination, limits)?;
        let named = named?;
        Ok(Some(Published {
            created: current.found.is_none(),
            size: named.size(),
            etag: named.validators(SystemTime::now()).etag,
            digests: *digests,
        }))
    }

    fn create_temporary<'h>(
        &self,
        staging: &'h StagingDirectory,
        limits: &UploadLimits,
    ) -> Result<(Unpublished, Temporary<'h>), UploadError> {
        let id = self.temporaries.next();
        let file = staging.create(id, limits.is_durable)?;
        Ok((file, Temporary { staging, id, is_left: false }))
    }

    /// Makes a source of the file that has got its name, as a GET would open it.
    fn opened(&self, file: Unpublished) -> Result<SourceFile, UploadError> {
        let stat = fstat(&file).map_err(UploadError::at("looking at an upload"))?;
        Ok(SourceFile::new(
            file.into_descriptor(),
            &stat,
            self.storage.staging_file_system,
            self.storage.root.etag(),
        ))
    }

    /// Whether the directory exists, lies on the mount of the staging directory, and shares nothing.
    fn is_usual(&self, destination: &Destination) -> bool {
        self.storage.staging_file_system.place != Place::Elsewhere
            && destination.mount == self.storage.staging_mount
            && destination.has_directory()
            && !self.storage.staging_directories.contains(destination.directory_path())
            && !membership::shares(destination)
    }

    fn lock_for(
        &self,
        destination: &Destination,
        staging: &StagingDirectory,
        patience: Patience,
    ) -> Result<Option<Locked<'_>>, UploadError> {
        match patience {
            Patience::Waits => self.names.lock(destination).map(Some),
            Patience::Never => Ok(self.names.locks.try_now(destination.hash(), staging)),
        }
    }

    /// Gives the file the properties of the one that it replaces, where it lacks them. In a directory that shares
    /// nothing a new file has them already.
    fn fit(&self, file: &Unpublished, destination: &Destination, replaced: Option<&Stat>) {
        let is_file = |stat: &&Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let Some(replaced) = replaced.filter(is_file) else { return };
        if !membership::is_as_created(file, destination, replaced) {
            self.storage.membership.join(file, destination);
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_left
            && let Err(error) = self.staging.remove(self.id)
        {
            tracing::warn!(upload = %self.id, %error, "an upload could not be removed; a sweep tries again");
        }
    }
}
