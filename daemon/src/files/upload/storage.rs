//! The storage of uploads: the root, its staging directory and those beside destinations, and the room of their
//! file systems.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::file_system::FileSystem;
use super::super::free_space::FreeSpace;
use super::super::root::Root;
use super::destination::{Destination, Device, FileKey, Mount, identify};
use super::error::UploadError;
use super::limits::{SPACES_MAX, UploadLimits};
use super::membership::Membership;
use super::partial::Partial;
use super::staging::{RootStaging, StagingDirectories, StagingDirectory};
use crate::protocol::name::Name;

/// The directories of the uploads below one root.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) root: Arc<Root>,
    /// The mount and the identity of the root's staging directory.
    pub(super) staging_mount: Mount,
    pub(super) staging_key: FileKey,
    pub(super) staging_file_system: FileSystem,
    root_staging: RootStaging,
    pub(super) staging_directories: StagingDirectories,
    /// The free space of the file systems that partials lie on.
    spaces: Mutex<HashMap<Device, Arc<FreeSpace>>>,
    pub(super) membership: Membership,
}

impl Storage {
    /// Opens the storage below `root`, whose staging directory is created where it is missing and holds the
    /// records too. Waits for the disk.
    pub(super) fn open(root: Arc<Root>) -> Result<Storage, UploadError> {
        let staging = StagingDirectory::open_or_create(root.directory())?;
        let (staging_key, staging_mount, _) =
            identify(&staging).map_err(UploadError::at("looking at .streamd-uploads"))?;
        root.record_in(staging.as_fd());
        Ok(Storage {
            root,
            staging_mount,
            staging_key,
            staging_file_system: FileSystem::of(&staging),
            root_staging: RootStaging::default(),
            staging_directories: StagingDirectories::load(&staging),
            spaces: Mutex::default(),
            membership: Membership::of_process(),
        })
    }

    /// Resolves the destination of a file of this name. Waits for the disk.
    pub(super) fn resolve(&self, name: &Name, limits: &UploadLimits) -> Result<Destination, UploadError> {
        let destination = Destination::resolve(&self.root, name, limits)?;
        // A link may lead into the staging directory.
        if destination.key == self.staging_key { Err(UploadError::NotFound) } else { Ok(destination) }
    }

    /// Returns the free space of the file system of a mount.
    pub(super) fn space_of(&self, mount: Mount) -> Arc<FreeSpace> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if spaces.len() >= SPACES_MAX && !spaces.contains_key(&mount.device()) {
            // File systems without a writer are dropped.
            spaces.retain(|_, space| Arc::strong_count(space) > 1);
        }
        Arc::clone(spaces.entry(mount.device()).or_default())
    }

    /// Returns the root's staging directory, which is kept open. Waits for the disk.
    pub(super) fn root_staging(&self) -> Result<StagingDirectory, UploadError> {
        self.root_staging.open_or_create(self.root.directory())
    }

    /// Opens the staging directory that a partial lies in.
    pub(super) fn staging_of(&self, partial: &Partial) -> Result<Option<StagingDirectory>, UploadError> {
        let Some(directory) = &partial.beside else { return StagingDirectory::open(self.root.directory()) };
        let failed = UploadError::at("opening the directory of the destination");
        StagingDirectory::open(self.root.open_directory(directory).map_err(failed)?)
    }

    /// Opens or creates the staging directory beside a destination, and lists it for a restart.
    pub(super) fn staging_beside(&self, destination: &Destination) -> Result<StagingDirectory, UploadError> {
        let staging = StagingDirectory::open_or_create(destination.directory())?;
        if !self.staging_directories.contains(destination.directory_path())
            && let Some(root_staging) = StagingDirectory::open(self.root.directory())?
        {
            self.staging_directories.add(&root_staging, destination.directory_path());
        }
        Ok(staging)
    }
}
