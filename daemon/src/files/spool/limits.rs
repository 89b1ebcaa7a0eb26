//! The limits of stored frames.

use super::super::free_space::Room;
use crate::config::Settings;

/// The limits of stored frames. They are given with each frame, since settings change while the daemon runs.
#[derive(Clone, Copy, Debug)]
pub struct SpoolLimits {
    /// The most bytes of all frames, in whole blocks.
    pub bytes_max: u64,
    /// The most frames.
    pub files_max: u64,
    /// The most bytes of the frames of one address.
    pub address_bytes_max: u64,
    /// The most frames of one address.
    pub address_files_max: u64,
    /// Bytes of the file system that stay free.
    pub min_free_bytes: u64,
    /// Inodes of the file system that stay free.
    pub min_free_inodes: u64,
}

impl SpoolLimits {
    /// Takes the limits from the settings.
    pub fn of(settings: &Settings) -> SpoolLimits {
        SpoolLimits {
            bytes_max: settings.spool_bytes_max,
            files_max: settings.spool_files_max,
            address_bytes_max: settings.address_spool_bytes(),
            address_files_max: settings.address_spool_files(),
            min_free_bytes: settings.min_free_bytes,
            min_free_inodes: settings.min_free_inodes,
        }
    }

    /// Returns the room of the file system that stays free.
    pub(super) fn reserve(&self) -> Room {
        Room { bytes: self.min_free_bytes, inodes: self.min_free_inodes }
    }
}
