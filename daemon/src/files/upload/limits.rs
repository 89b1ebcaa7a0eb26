//! The limits of uploads. They are given with each call, since settings change while the daemon runs.

use std::time::Duration;

use super::super::free_space::Room;
use crate::config::{Durability, Settings, ShareSettings};

/// The settings that uploads heed.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// The most bytes of one upload.
    pub upload_bytes_max: u64,
    /// The most uploads that have a writer at once.
    pub uploads_max: usize,
    /// The most uploads with a writer to one destination, and the most that are kept for one.
    pub uploads_per_destination_max: usize,
    /// The shortest rest of a body that is written past the page cache; 0 where none is.
    pub direct_bytes_min: u64,
    /// Bytes of the file system that uploads leave free.
    pub min_free_bytes: u64,
    /// Inodes of the file system that uploads leave free.
    pub min_free_inodes: u64,
    /// Whether file and directory of an upload are synced before it counts as published.
    pub is_durable: bool,
    /// Whether missing directories on the way to a destination are created.
    pub create_dirs: bool,
    /// How long a writer may make no progress before another one takes over.
    pub stall: Duration,
}

impl UploadLimits {
    /// Takes the limits from the settings of a share and the node's.
    pub fn of(share: &ShareSettings, node: &Settings) -> UploadLimits {
        let is_durable = share.durability == Durability::Fsync;
        UploadLimits {
            upload_bytes_max: share.upload_bytes_max,
            uploads_max: node.uploads_max,
            uploads_per_destination_max: node.uploads_per_destination_max,
            // Without durability the page cache takes the bytes in less time (docs/performance.md).
            direct_bytes_min: if is_durable { share.direct_bytes_min } else { 0 },
            min_free_bytes: share.min_free_bytes,
            min_free_inodes: share.min_free_inodes,
            is_durable,
            create_dirs: share.create_dirs,
            stall: STALL,
        }
    }

    /// Returns the room of a file system that uploads leave free.
    pub(super) fn reserve(&self) -> Room {
        Room { bytes: self.min_free_bytes, inodes: self.min_free_inodes }
    }
}

/// The value of [`UploadLimits::stall`]: an active sender is seldom silent for so long, a few retransmissions
/// included, and a client that lost its connection comes back about as soon.
const STALL: Duration = Duration::from_secs(5);

/// The share of [`UploadLimits::uploads_max`] that a mount below the root may hold: one part of so many. A mount
/// that doesn't answer holds its uploads until it does, and the others go on.
pub(super) const OTHER_MOUNT_DIVISOR: usize = 2;

/// The most uploads known at once, those without a writer too, except plain PUTs under way: half a MiB of memory,
/// and no more than a sweep can look at in one pass.
pub(super) const PARTIALS_MAX: usize = 4096;

/// The most completed uploads that are remembered, so that a client that lost the answer to its last request can
/// ask: minutes of a busy daemon, and some 50 KiB.
pub(super) const COMPLETED_MAX: usize = 512;

/// The shortest partial of a plain PUT that is kept: less than this is sent again in a moment.
pub(super) const KEPT_BYTES_MIN: u64 = 1 << 20;

/// The sizes of the windows in which blocks are allocated ahead: seven times what has come, from 1 MiB to 64 MiB.
/// The room that a sender holds follows from the bytes it has sent, and is bounded however many it announces. A
/// body of any length has few extents, and one call for each.
pub(super) const AHEAD_BYTES_MIN: u64 = 1 << 20;
pub(super) const AHEAD_BYTES_MAX: u64 = 64 << 20;
pub(super) const AHEAD_FACTOR: u64 = 7;

/// Bytes of a durable upload after which what has arrived is synced and noted: a host that crashes loses no more
/// than these, for one further sync of bytes that are on the disk already but for the last pieces.
pub(super) const CHECKPOINT_BYTES: u64 = 256 << 20;

/// The most directories that are created on the way to one destination: each costs a sync, and a deeper new tree
/// is a mistake.
pub(super) const CREATED_DIRECTORIES_MAX: usize = 64;

/// The block size of most file systems, by which partials are counted.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// The most file systems whose room is known: those of staging directories, and the root's.
pub(super) const SPACES_MAX: usize = STAGING_DIRECTORIES_MAX + 1;

/// The most directories known to have a staging directory of their own: those on mounts below the root.
pub(super) const STAGING_DIRECTORIES_MAX: usize = 64;

/// The most entries of a staging directory that one pass looks at: more than known and running uploads can leave
/// there.
pub(super) const SWEPT_ENTRIES_MAX: usize = 2 * PARTIALS_MAX;

/// The most bytes that one pass removes: freeing them takes a second or so, during which a disk thread does
/// nothing else.
pub(super) const SWEPT_BYTES_MAX: u64 = 64 << 30;

/// The least age at which a file without a description counts as left behind: the moment between creating a file
/// and locking it is shorter.
pub(super) const UNKNOWN_AGE_MIN: Duration = Duration::from_secs(60);
