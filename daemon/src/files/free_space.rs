//! The room that a file system has left, and who may take of it.
//!
//! A reserve stays free for others on the host. Room that is given out is remembered until the file system itself
//! counts it, so that uploads that come at once don't all find the same room.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::fstatvfs;
use rustix::io::Errno;

/// How long a look at the file system is good, less the room given out since: others on the host write little
/// beside a reserve within so short a time, and small files don't each pay for a look. Nobody is refused without a
/// new one.
const LOOK_VALID: Duration = Duration::from_millis(100);

/// An amount of bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Room {
    pub(super) fn of_bytes(bytes: u64) -> Room {
        Room { bytes, inodes: 0 }
    }
}

/// Why a file system takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// The reserve of bytes would be used.
    #[error(
        "there is not enough free space: min_free_bytes of the file system stay free; remove something from it, or \
         lower min_free_bytes"
    )]
    ReservedBytes,
    /// The reserve of inodes would be used.
    #[error(
        "there is not enough free space: min_free_inodes of the file system stay free (df -i); remove files from it, \
         or lower min_free_inodes"
    )]
    ReservedInodes,
    /// The file system is full, or has less than was announced.
    #[error(
        "there is not enough free space: remove something from the file system (df -h, df -i), or enlarge it"
    )]
    Disk,
    /// A quota is used up.
    #[error(
        "there is not enough free space: a quota of the daemon's user is used up; raise it, or remove files"
    )]
    Quota,
    /// The file is longer than files of this file system can be.
    #[error(
        "there is not enough free space: the file system's files can't be so long; take another file system"
    )]
    FileLength,
}

impl Shortage {
    /// Returns the shortage that an errno means; None where it means something else.
    pub(super) fn of(errno: Errno) -> Option<Shortage> {
        match errno {
            Errno::NOSPC => Some(Shortage::Disk),
            Errno::DQUOT => Some(Shortage::Quota),
            Errno::FBIG => Some(Shortage::FileLength),
            _ => None,
        }
    }
}

/// Why no room was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Short(Shortage),
    /// The file system doesn't tell its free space.
    Unknown(Errno),
}

/// The room of one file system. Every call may wait for it.
#[derive(Debug, Default)]
pub(super) struct FreeSpace(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    look: Option<Look>,
    /// The room that was given out and that the file system may not count yet.
    pending: Room,
}

/// The free space at the last look, less the room given out since. A file system that has no such number counts as
/// unlimited.
#[derive(Clone, Copy, Debug)]
struct Look {
    taken: Instant,
    left: Room,
}

/// Room that was given out, held until the file system counts the file that took it.
#[derive(Debug)]
pub(super) struct Admitted {
    space: Arc<FreeSpace>,
    room: Room,
}

impl FreeSpace {
    /// Gives out `room`, unless less than `reserve` of the file system that `file` lies on would be left. Bytes
    /// without a reserve aren't judged: the file system knows best what still fits.
    pub(super) fn admit(
        self: &Arc<Self>,
        file: impl AsFd,
        room: Room,
        reserve: Room,
    ) -> Result<Admitted, NoRoom> {
        let judged = Room { bytes: if reserve.bytes == 0 { 0 } else { room.bytes }, ..room };
        let mut seen = self.lock();
        seen.look_for(file, judged, reserve)?;
        if let Some(look) = &mut seen.look {
            look.left.bytes = look.left.bytes.saturating_sub(room.bytes);
            look.left.inodes = look.left.inodes.saturating_sub(room.inodes);
        }
        seen.pending.bytes = seen.pending.bytes.saturating_add(room.bytes);
        seen.pending.inodes += room.inodes;
        drop(seen);
        Ok(Admitted { space: Arc::clone(self), room })
    }

    /// Checks whether `room` is free at this moment besides `reserve`; nothing is held for the caller.
    pub(super) fn check(&self, file: impl AsFd, room: Room, reserve: Room) -> Result<(), NoRoom> {
        self.lock().look_for(file, room, reserve)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Looks anew where the last look is old or says no. The lock is held meanwhile: room given back during the
    /// look would be neither pending nor seen.
    fn look_for(&mut self, file: impl AsFd, room: Room, reserve: Room) -> Result<(), NoRoom> {
        let now = Instant::now();
        let known = self.look.filter(|look| now.duration_since(look.taken) < LOOK_VALID);
        if known.is_some_and(|look| shortage(look.left, room, reserve).is_none()) {
            return Ok(());
        }
        let stat = fstatvfs(file).map_err(NoRoom::Unknown)?;
        // No blocks at all means a tmpfs without a limit, or a file system that doesn't tell. No inodes at all
        // means a file system that makes them as they are needed, such as Btrfs, or has none, such as FAT.
        let bytes = if stat.f_blocks == 0 { u64::MAX } else { stat.f_bavail.saturating_mul(stat.f_frsize) };
        let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
        let left = Room {
            bytes: bytes.saturating_sub(self.pending.bytes),
            inodes: inodes.saturating_sub(self.pending.inodes),
        };
        self.look = Some(Look { taken: now, left });
        shortage(left, room, reserve).map_or(Ok(()), |shortage| Err(NoRoom::Short(shortage)))
    }
}

fn shortage(left: Room, room: Room, reserve: Room) -> Option<Shortage> {
    if room.bytes > left.bytes {
        return Some(Shortage::Disk);
    }
    if left.bytes - room.bytes < reserve.bytes {
        return Some(Shortage::ReservedBytes);
    }
    // Without a reserve the file system says whether it has one more.
    if reserve.inodes > 0 && left.inodes.saturating_sub(room.inodes) < reserve.inodes {
        return Some(Shortage::ReservedInodes);
    }
    None
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut seen = self.space.lock();
        seen.pending.bytes = seen.pending.bytes.saturating_sub(self.room.bytes);
        seen.pending.inodes = seen.pending.inodes.saturating_sub(self.room.inodes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn free(file: &File) -> Room {
        let stat = fstatvfs(file).unwrap();
        Room { bytes: stat.f_bavail * stat.f_frsize, inodes: stat.f_favail }
    }

    #[test]
    fn what_is_let_in_is_missing_for_others_until_it_is_given_back() {
        let file = tempfile::tempfile().unwrap();
        let space = Arc::<FreeSpace>::default();
        // The test takes half of the free space, since others on the host may write meanwhile.
        let half = Room::of_bytes(free(&file).bytes / 2);
        let reserve = Room::of_bytes(half.bytes / 2);
        let first = space.admit(&file, half, reserve).unwrap();
        let error = space.admit(&file, half, reserve).unwrap_err();
        assert!(matches!(error, NoRoom::Short(Shortage::Disk | Shortage::ReservedBytes)), "{error:?}");
        // The room is also missing after a new look, which sees none of it.
        space.lock().look = None;
        space.admit(&file, half, reserve).unwrap_err();
        drop(first);
        space.lock().look = None;
        let second = space.admit(&file, half, reserve).unwrap();
        assert_eq!(space.lock().pending, half);
        drop(second);
        assert_eq!(space.lock().pending, Room::default());
    }

    #[test]
    fn a_check_holds_nothing() {
        let file = tempfile::tempfile().unwrap();
        let space = FreeSpace::default();
        let most = Room::of_bytes(free(&file).bytes / 4 * 3);
        for _ in 0..4 {
            space.check(&file, most, Room::default()).unwrap();
        }
        let more = Room::of_bytes(u64::MAX);
        assert_eq!(space.check(&file, more, Room::default()), Err(NoRoom::Short(Shortage::Disk)));
        assert_eq!(space.check(&file, Room::default(), more), Err(NoRoom::Short(Shortage::ReservedBytes)));
    }

    #[test]
    fn inodes_are_judged_where_there_is_a_reserve_of_them() {
        let left = Room { bytes: 100, inodes: 5 };
        let one = Room { bytes: 0, inodes: 1 };
        for (inodes, expected) in [(0, None), (4, None), (5, Some(Shortage::ReservedInodes))] {
            assert_eq!(shortage(left, one, Room { bytes: 0, inodes }), expected, "{inodes}");
        }
        let none_left = Room { bytes: 100, inodes: 0 };
        assert_eq!(shortage(none_left, one, Room::default()), None);
    }
}
