//! Publication: an upload gets its name, whole and verified, or not at all.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::fstat;
use rustix::io::{Errno, fcntl_dupfd_cloexec, pread};

use super::super::digest::{self, Digests};
use super::super::file_system::FileSystem;
use super::super::free_space::Room;
use super::super::identity::Moment;
use super::super::source::SourceFile;
use super::super::unpublished::{Unpublished, give_name};
use super::directories::Made;
use super::error::UploadError;
use super::metadata;
use super::partial::{Active, State};
use super::publication::{Publication, Published};
use super::staging::StagingDirectory;
use super::uploads::Uploads;
use super::writer::Writer;

/// Bytes that are copied at once, where a file can't be renamed to its destination.
const COPY_BYTES: usize = 256 << 10;

/// The facts about a file of which nothing will change any more.
#[derive(Clone, Copy)]
struct Sealed {
    modified: Moment,
    digests: Digests,
    is_described: bool,
}

/// A file that has its name.
struct Named {
    file: SourceFile,
    /// Whether nothing had the name before.
    created: bool,
}

impl Writer {
    /// Gives the upload its name: verified, durable if it has to be, and in one step, so that whoever opens the name
    /// gets the former file or the whole new one. After any error but [`UploadError::Incomplete`] and
    /// [`UploadError::TakenOver`] the upload is removed and the destination as it was; save for a failed fsync of the
    /// directory, after which the destination is the new file, and whether it stays so in a crash isn't known.
    pub fn publish(mut self, publication: &Publication<'_>) -> Result<Published, UploadError> {
        let partial = Arc::clone(&self.partial);
        let mut state = partial.lock();
        let received = state.of_writer(self.lease)?.file.length();
        if let Some(expected) = partial.length().filter(|length| *length != received) {
            return Err(UploadError::Incomplete { received, expected });
        }
        self.is_over = true;
        let result = self.publish_locked(&mut state, publication);
        if !state.is_gone {
            self.uploads.partials.remove_locked(&partial, &mut state);
        }
        match &result {
            Ok(_) => self.uploads.partials.claims.settle(partial.claim),
            // The sender of the last part may try it once more.
            Err(_) => {
                let offsets = [partial.offsets_to_go_on(), vec![partial.last_first()]].concat();
                self.uploads.partials.claims.end(partial.claim, offsets);
            }
        }
        result
    }

    fn publish_locked(
        &mut self,
        state: &mut State,
        publication: &Publication<'_>,
    ) -> Result<Published, UploadError> {
        let is_described = state.is_described;
        let active = state.of_writer(self.lease)?;
        let digests = self.verify(&active.file, publication)?;
        let sealed = Sealed { is_described, ..self.seal(&active.file, &digests)? };
        let mut placed = self.place(active, sealed, false, publication);
        if matches!(placed, Err(UploadError::ParentMissing)) && self.limits.create_dirs {
            // Another upload had made the directory, failed, and removed it.
            placed = self.place(active, sealed, true, publication);
        }
        let named = placed?;
        state.end();
        if let Err(error) = self.uploads.names.sync_name(&self.destination, &self.limits) {
            self.uploads.partials.index.forget(&self.partial);
            return Err(error);
        }
        // The partial is known until now, so that a client that asks meanwhile isn't told that there is none.
        let validators = named.file.validators(SystemTime::now());
        self.uploads.partials.index.complete(&self.partial, named.file.size());
        Ok(Published { created: named.created, size: named.file.size(), etag: validators.etag, digests })
    }

    /// Makes the missing directories on the way to the destination, and names the file. Where that fails, they are
    /// removed again.
    fn place(
        &mut self,
        active: &Active,
        sealed: Sealed,
        is_again: bool,
        publication: &Publication<'_>,
    ) -> Result<Named, UploadError> {
        let uploads = Arc::clone(&self.uploads);
        let mut made = Made::default();
        let held = uploads.names.directories.hold();
        let result = self.make_directory(is_again, &mut made).and_then(|()| {
            match self.name_from(&active.staging, &active.file, &sealed, publication)? {
                Some(named) => Ok(named),
                None => self.publish_copy(&active.file, &sealed.digests, publication),
            }
        });
        if result.is_err() {
            uploads.names.directories.remove(held, made);
        }
        result
    }

    fn make_directory(&mut self, is_again: bool, made: &mut Made) -> Result<(), UploadError> {
        if self.destination.has_directory() && !is_again {
            return Ok(());
        }
        let missing = Room { bytes: 0, inodes: self.destination.directories_missing() };
        let space = self.uploads.storage.space_of(self.destination.mount);
        let _room = space.admit(self.destination.directory(), missing, self.limits.reserve())?;
        let Uploads { storage, names, .. } = &*self.uploads;
        self.destination.make_directory(&storage.root, &names.directories, self.limits.is_durable, made)?;
        // A link may lead into the staging directory.
        if self.destination.key == self.uploads.storage.staging_key {
            Err(UploadError::NotFound)
        } else {
            Ok(())
        }
    }

    /// Returns the digests that are promised, asked for or to be recorded; those that no writer computed from the
    /// first byte on are computed from the file.
    fn verify(&self, file: &Unpublished, publication: &Publication<'_>) -> Result<Digests, UploadError> {
        let [before, behind] = &publication.digests;
        let promises = [&self.partial.promised(), before, behind];
        let recorded = publication.recorded.union(self.uploads.storage.root.algorithms());
        let wanted = promises.iter().fold(recorded, |sum, digests| sum.union(digests.algorithms()));
        let passed = if self.start == 0 { self.hashers.digests() } else { Digests::default() };
        let missing = wanted.without(passed.algorithms());
        let failed = UploadError::at("reading an upload");
        let read = if missing.is_empty() {
            Digests::default()
        } else {
            let read = digest::of_file(file.as_fd(), file.length(), missing).map_err(failed)?;
            read.ok_or(failed(Errno::IO))?
        };
        let digests = passed.or(&read);
        match promises.into_iter().find_map(|promised| digests.mismatch(promised)) {
            Some(algorithm) => {
                Err(UploadError::DigestMismatch { algorithm, computed: digests, is_of_request: false })
            }
            None => Ok(digests),
        }
    }

    /// Sets the file's time and makes it durable.
    fn seal(&self, file: &Unpublished, digests: &Digests) -> Result<Sealed, UploadError> {
        let modified = self.uploads.names.set_time(file)?;
        if self.limits.is_durable {
            file.sync().map_err(UploadError::at("fsync of an upload"))?;
        }
        Ok(Sealed { modified, digests: *digests, is_described: false })
    }

    /// Names the file that lies in `staging`, if the destination's state allows; None where files can't be renamed
    /// from there.
    fn name_from(
        &self,
        staging: &StagingDirectory,
        file: &Unpublished,
        sealed: &Sealed,
        publication: &Publication<'_>,
    ) -> Result<Option<Named>, UploadError> {
        let destination = &self.destination;
        // This comes before the lock, since a sync may take long. Should another file have the name by then, its
        // properties are taken over a moment late, which is nobody's loss.
        if self.uploads.storage.membership.join(file, destination) && self.limits.is_durable {
            file.sync().map_err(UploadError::at("fsync of an upload"))?;
        }
        let _locked = self.uploads.names.lock(destination)?;
        let current = destination.current(&self.uploads.storage.root, publication.precondition.is_some())?;
        if !publication.permits(&current) {
            return Err(UploadError::PreconditionFailed);
        }
        let named = self.opened(file)?;
        let from = (staging.as_fd(), self.partial.id.to_string());
        let to = (destination.directory(), destination.leaf());
        match give_name((from.0, &from.1), to, publication.is_new) {
            Ok(()) => {
                // The description isn't removed earlier: a daemon that is killed in between would have a partial
                // that nobody can continue. A reader that opens the file in between knows that it will change so
                // (`SourceFile::past_its_description`).
                if sealed.is_described {
                    metadata::erase(file);
                }
                let named = Named { file: self.recorded(named, sealed), created: current.found.is_none() };
                // The generation is raised last, so that a file that was opened before is opened again, with the
                // tag of the answer.
                self.uploads.names.raise_generation();
                Ok(Some(named))
            }
            Err(Errno::EXIST) if publication.is_new => Err(UploadError::PreconditionFailed),
            Err(Errno::XDEV) => Ok(None),
            Err(errno) => Err(UploadError::at("naming an upload")(errno)),
        }
    }

    /// Opens the file as a GET would.
    fn opened(&self, file: &Unpublished) -> Result<SourceFile, UploadError> {
        let failed = UploadError::at("looking at an upload");
        let descriptor = fcntl_dupfd_cloexec(file, 0).map_err(failed)?;
        let stat = fstat(&descriptor).map_err(failed)?;
        Ok(SourceFile::new(descriptor, &stat, FileSystem::of(file), self.uploads.storage.root.etag()))
    }

    /// Records a file that has just got its name, which changed its change time, and returns it with the facts
    /// that its entity tag follows from.
    fn recorded(&self, named: SourceFile, sealed: &Sealed) -> SourceFile {
        let size = named.size();
        let named = named.looked_at_again();
        self.uploads.names.recorded(named, size, sealed.modified, &sealed.digests, &self.limits)
    }

    /// Publishes a copy made beside the destination. Whether files can be renamed between two directories of one
    /// mount isn't known before it is tried: project quotas of ext4 and XFS forbid it.
    fn publish_copy(
        &self,
        file: &Unpublished,
        digests: &Digests,
        publication: &Publication<'_>,
    ) -> Result<Named, UploadError> {
        let staging = self.uploads.storage.staging_beside(&self.destination)?;
        let id = self.partial.id;
        let mut copy = self.uploads.storage.membership.create(
            &staging,
            id,
            &self.destination,
            self.limits.is_durable,
        )?;
        let mut publish = || {
            copy_to(&mut copy, file).map_err(UploadError::at("copying an upload"))?;
            let sealed = self.seal(&copy, digests)?;
            match self.name_from(&staging, &copy, &sealed, publication)? {
                Some(named) => Ok(named),
                None => Err(UploadError::Failed { step: "naming an upload", reason: Errno::XDEV }),
            }
        };
        let result = publish();
        if result.is_err() {
            let _ = staging.remove(id);
        } else if let Ok(Some(staging)) = self.uploads.storage.staging_of(&self.partial) {
            // The file is published; a leftover here is swept later.
            let _ = staging.remove(id);
        }
        result
    }
}

fn copy_to(copy: &mut Unpublished, file: &Unpublished) -> Result<(), Errno> {
    let mut buffer = vec![0; COPY_BYTES];
    while copy.length() < file.length() {
        match pread(file, &mut buffer, copy.length()) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => copy.append(&buffer[..count])?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
