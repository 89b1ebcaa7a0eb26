//! What an upload may take. Given with each call, since settings change while the daemon runs.

use std::time::Duration;

use super::super::free_space::Room;
use crate::config::{Durability, Settings};

/// The settings that uploads heed.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Longest upload.
    pub upload_bytes_max: u64,
    /// Most uploads with a writer at once.
    pub uploads_max: usize,
    /// Most of them to one destination, and most that are kept for one.
    pub uploads_per_destination_max: usize,
    /// Shortest rest of a body that is written past the page cache; 0 where none is.
    pub direct_bytes_min: u64,
    /// Bytes of the file system that uploads leave free.
    pub min_free_bytes: u64,
    /// Inodes of it that they leave free.
    pub min_free_inodes: u64,
    /// Whether a published upload is durable: file and directory are synced.
    pub is_durable: bool,
    /// Whether missing directories on the way to a destination are created.
    pub create_dirs: bool,
    /// How long a writer may make no progress before another one takes over.
    pub stall: Duration,
}

impl UploadLimits {
    /// What the settings say.
    pub fn of(settings: &Settings) -> UploadLimits {
        let is_durable = settings.durability == Durability::Fsync;
        UploadLimits {
            upload_bytes_max: settings.upload_bytes_max,
            uploads_max: settings.uploads_max,
            uploads_per_destination_max: settings.uploads_per_destination_max,
            // What needn't be on the disk is taken by the page cache in less time (docs/performance.md).
            direct_bytes_min: if is_durable { settings.direct_bytes_min } else { 0 },
            min_free_bytes: settings.min_free_bytes,
            min_free_inodes: settings.min_free_inodes,
            is_durable,
            create_dirs: settings.create_dirs,
            stall: STALL,
        }
    }

    /// What uploads leave free of a file system.
    pub(super) fn reserve(&self) -> Room {
        Room { bytes: self.min_free_bytes, inodes: self.min_free_inodes }
    }
}

/// [`UploadLimits::stall`]: a sender that is there is seldom silent for so long, a few retransmissions included, and a
/// client that lost its connection comes back about as soon.
const STALL: Duration = Duration::from_secs(5);

/// What a mount below the root may hold of [`UploadLimits::uploads_max`]: one part of so many. One that doesn't answer
/// holds what it has until it does, and the others go on.
pub(super) const OTHER_MOUNT_DIVISOR: usize = 2;

/// Most uploads known at once, those without a writer too, but for plain PUTs under way: half a MiB of memory, and no
/// more than a sweep can look at in one pass.
pub(super) const PARTIALS_MAX: usize = 4096;

/// Most completed uploads that are remembered, so that whoever lost the answer to its last request can ask: minutes
/// of a busy daemon, and some 50 KiB.
pub(super) const COMPLETED_MAX: usize = 512;

/// Shortest partial of a plain PUT that is kept: less than this is sent again in a moment.
pub(super) const KEPT_BYTES_MIN: u64 = 1 << 20;

/// Blocks are allocated ahead of what comes in windows: seven times what has come, from 1 MiB to 64 MiB. What a sender
/// holds of the disk follows from what it has brought, and is bounded however much it announces. A body of any length
/// has few extents, and one call for each.
pub(super) const AHEAD_BYTES_MIN: u64 = 1 << 20;
pub(super) const AHEAD_BYTES_MAX: u64 = 64 << 20;
pub(super) const AHEAD_FACTOR: u64 = 7;

/// Bytes of a durable upload after which what has arrived is synced and noted: a host that crashes loses no more of
/// it, for one further sync of what is on the disk already but for the last pieces.
pub(super) const CHECKPOINT_BYTES: u64 = 256 << 20;

/// Most directories that are created on the way to one destination: each costs a sync, and a deeper new tree is a
/// mistake.
pub(super) const CREATED_DIRECTORIES_MAX: usize = 64;

/// Block of most file systems, by which partials are counted.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Most file systems whose room is known: those of staging directories, and the root's.
pub(super) const SPACES_MAX: usize = STAGING_DIRECTORIES_MAX + 1;

/// Most directories known to have a staging directory of their own: those on mounts below the root.
pub(super) const STAGING_DIRECTORIES_MAX: usize = 64;

/// Entries of a staging directory that one pass looks at: more than uploads that are known and run can leave there.
pub(super) const SWEPT_ENTRIES_MAX: usize = 2 * PARTIALS_MAX;

/// Bytes that one pass removes: freeing this takes a second or so, during which a disk thread does nothing else.
pub(super) const SWEPT_BYTES_MAX: u64 = 64 << 30;

/// Youngest file without a description that is taken for left behind: the moment between creating a file and locking
/// it is shorter.
pub(super) const UNKNOWN_AGE_MIN: Duration = Duration::from_secs(60);
