//! Where partials lie and where they go: the root, its home and those beside destinations, and the room of their file
//! systems.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::file_system::FileSystem;
use super::super::free_space::FreeSpace;
use super::super::root::Root;
use super::destination::{Destination, Device, FileKey, Mount, identify};
use super::error::UploadError;
use super::home::{Home, Homes, RootHome};
use super::limits::{SPACES_MAX, UploadLimits};
use super::membership::Membership;
use super::partial::Partial;
use crate::protocol::name::Name;

/// The directories of the uploads below one root.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) root: Arc<Root>,
    /// Where the root's home is, and which directory it is.
    pub(super) home_mount: Mount,
    pub(super) home_key: FileKey,
    pub(super) home_file_system: FileSystem,
    root_home: RootHome,
    pub(super) homes: Homes,
    /// The room of the file systems that partials lie on.
    spaces: Mutex<HashMap<Device, Arc<FreeSpace>>>,
    pub(super) membership: Membership,
}

impl Storage {
    /// Below `root`, whose home is created where it is missing; it has the records too. Waits for the disk.
    pub(super) fn open(root: Arc<Root>) -> Result<Storage, UploadError> {
        let home = Home::open_or_create(root.directory())?;
        let (home_key, home_mount, _) =
            identify(&home).map_err(UploadError::at("looking at .streamd-uploads"))?;
        root.record_in(home.as_fd());
        Ok(Storage {
            root,
            home_mount,
            home_key,
            home_file_system: FileSystem::of(&home),
            root_home: RootHome::default(),
            homes: Homes::load(&home),
            spaces: Mutex::default(),
            membership: Membership::of_process(),
        })
    }

    /// Where a file of this name goes. Waits for the disk.
    pub(super) fn resolve(&self, name: &Name, limits: &UploadLimits) -> Result<Destination, UploadError> {
        let destination = Destination::resolve(&self.root, name, limits)?;
        // A link may lead into the home.
        if destination.key == self.home_key { Err(UploadError::NotFound) } else { Ok(destination) }
    }

    /// The room of the file system of a mount.
    pub(super) fn space_of(&self, mount: Mount) -> Arc<FreeSpace> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if spaces.len() >= SPACES_MAX && !spaces.contains_key(&mount.device()) {
            // Those without a writer.
            spaces.retain(|_, space| Arc::strong_count(space) > 1);
        }
        Arc::clone(spaces.entry(mount.device()).or_default())
    }

    /// The root's home, kept open. Waits for the disk.
    pub(super) fn root_home(&self) -> Result<Home, UploadError> {
        self.root_home.open_or_create(self.root.directory())
    }

    /// The home that a partial lies in.
    pub(super) fn home_of(&self, partial: &Partial) -> Result<Option<Home>, UploadError> {
        let Some(directory) = &partial.beside else { return Home::open(self.root.directory()) };
        let failed = UploadError::at("opening the directory of the destination");
        Home::open(self.root.open_directory(directory).map_err(failed)?)
    }

    /// The home beside a destination, which a restart will find too.
    pub(super) fn home_beside(&self, destination: &Destination) -> Result<Home, UploadError> {
        let home = Home::open_or_create(destination.directory())?;
        if !self.homes.contains(destination.directory_path())
            && let Some(root_home) = Home::open(self.root.directory())?
        {
            self.homes.add(&root_home, destination.directory_path());
        }
        Ok(home)
    }
}
