//! The identity of a file's state, known without reading the file, and the entity tag that follows from it (RFC
//! 9110 8.8.3).
//!
//! Size and modification time don't identify it: tar, rsync and touch set the time, and reproducible builds give
//! all files one. The change time can't be set, so together with the inode it identifies each state, once it is
//! older than a further write's could be.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};

use super::digests::Digests;
use super::file_system::ChangeTime;
use crate::config::EtagChoice;

/// The age from which a state can be told from the next: a further write within the tick of the kernel's clock (4
/// ms on most hosts, 10 ms at worst; Linux 6.13 has finer times) leaves the change time as it is. The rest is for
/// clocks that are set, and is what RFC 9110 8.8.2.2 thinks of.
const SETTLED_AGE_MIN: Duration = Duration::from_secs(2);

/// Bytes of the digest that an entity tag of metadata shows: 96 bits tell apart more states than there are files
/// in the world.
const TAG_BYTES: usize = 12;

/// A time as stat(2) has it: before 1970 the seconds are negative and the nanoseconds still count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

impl Moment {
    /// Makes a moment from the fields of stat(2) or timespec(3).
    pub(super) fn of(seconds: i64, nanoseconds: impl TryInto<u32>) -> Moment {
        Moment { seconds, nanoseconds: nanoseconds.try_into().unwrap_or(0) }
    }

    /// Converts to a system time; None where it is beyond what a clock can say.
    fn to_system_time(self) -> Option<SystemTime> {
        let seconds = Duration::from_secs(self.seconds.unsigned_abs());
        let whole = if self.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        whole?.checked_add(Duration::from_nanos(self.nanoseconds.into()))
    }
}

/// The identifying fields of one state of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified: Moment,
    pub(super) changed: Moment,
    pub(super) inode: u64,
}

/// The facts that are recorded of a file in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) digests: Digests,
    /// Whether this program published the file in this state. A later write by somebody else would have changed
    /// the modification time, which a publication sets to the nanosecond, so such a state needs no age.
    pub(super) is_published: bool,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Stamp {
        Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Moment::of(stat.st_mtime, stat.st_mtime_nsec),
            changed: Moment::of(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }

    /// Whether no other state of any file can have this stamp, once it is old enough. A change time in whole seconds is
    /// not the kernel's but that of a program that made the file system (mke2fs -d, mkfs.btrfs --rootdir), which
    /// gives another image the same one; or that of an inode without room for more (ext3, 128 bytes).
    pub(super) fn is_telling(&self, change_time: ChangeTime) -> bool {
        let is_kept = match change_time {
            ChangeTime::Kept => true,
            ChangeTime::KeptWhereDistinct => self.changed != self.modified,
            ChangeTime::Unproven => false,
        };
        is_kept && self.changed.nanoseconds != 0
    }

    /// Whether no further write, from `now` on, can leave this stamp as it is.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let changed = self.changed.to_system_time();
        changed.and_then(|changed| now.duration_since(changed).ok()).is_some_and(|age| age >= SETTLED_AGE_MIN)
    }

    /// Returns when the file was last modified, for an answer of this date, than which it mustn't be later (RFC
    /// 9110 8.8.2.1): a modification time in the future is somebody's mistake, and the change time says when that
    /// was made. None before 1970.
    pub(super) fn last_modified(&self, date: SystemTime) -> Option<SystemTime> {
        let past = |moment: Moment| moment.to_system_time().filter(|time| *time <= date);
        let modified = past(self.modified).or_else(|| past(self.changed)).unwrap_or(date);
        (modified >= SystemTime::UNIX_EPOCH).then_some(modified)
    }

    /// Whether the modification time is later than `date`.
    pub(super) fn is_modified_after(&self, date: SystemTime) -> bool {
        self.modified.to_system_time().is_some_and(|modified| modified > date)
    }

    /// Returns the entity tag, with its quotes; weak where other states may have the same one.
    pub(super) fn etag(
        &self,
        choice: EtagChoice,
        change_time: ChangeTime,
        recorded: &Recorded,
        now: SystemTime,
    ) -> String {
        let is_strong = match choice {
            EtagChoice::Times => return self.tag_of_times(),
            EtagChoice::Digest => match recorded.digests.etag() {
                Some(tag) => return tag,
                None => false,
            },
            EtagChoice::Node => {
                self.is_telling(change_time) && (self.is_settled(now) || recorded.is_published)
            }
        };
        self.tag_of_node(is_strong)
    }

    fn tag_of_times(&self) -> String {
        let (sign, seconds) =
            (if self.modified.seconds < 0 { "-" } else { "" }, self.modified.seconds.unsigned_abs());
        format!("W/\"{:x}-{sign}{seconds:x}\"", self.size)
    }

    /// Returns a tag that is a digest of the numbers, since inodes aren't told to clients.
    fn tag_of_node(&self, is_strong: bool) -> String {
        let digest = Sha256::digest(self.to_bytes());
        let mut tag = String::with_capacity(2 * TAG_BYTES + 4);
        tag.push_str(if is_strong { "\"" } else { "W/\"" });
        for byte in &digest[..TAG_BYTES] {
            // Writing to a String can't fail.
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        tag
    }

    /// Returns all fields in their order.
    pub(super) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.modified.seconds.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.modified.nanoseconds.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.changed.seconds.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.changed.nanoseconds.to_le_bytes());
        bytes[32..].copy_from_slice(&self.inode.to_le_bytes());
        bytes
    }
}

/// Length of [`Stamp::to_bytes`].
pub(super) const STAMP_BYTES: usize = 40;

/// The fields of an open file that change with its content, and those whose changes change its change time too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) stamp: Stamp,
    links: u64,
    mode: u32,
    owners: (u32, u32),
}

impl Observed {
    #[allow(
        clippy::useless_conversion,
        reason = "the number of links has 64 bits on x86-64 and 32 on others"
    )]
    pub(super) fn of(stat: &Stat) -> Observed {
        Observed {
            stamp: Stamp::of(stat),
            links: u64::from(stat.st_nlink),
            mode: stat.st_mode,
            owners: (stat.st_uid, stat.st_gid),
        }
    }

    /// Whether the open file may have other bytes by `later` than it had now. A new change time alone is no sign
    /// where a link was made or removed, as by a rename over the name, or the permissions were changed: those
    /// change it too, and not a byte.
    pub(super) fn may_differ(&self, later: &Observed, change_time: ChangeTime) -> bool {
        let (former, stamp) = (self.stamp, later.stamp);
        if (former.size, former.modified, former.inode) != (stamp.size, stamp.modified, stamp.inode) {
            return true;
        }
        // FUSE hides a file that is removed and still open by a rename, and network file systems do the same. A
        // file without a name was being removed, and its time had perhaps yet to change: stat(2) doesn't read all
        // fields at one moment.
        let is_kept = change_time != ChangeTime::Unproven && self.links > 0;
        let is_sign = is_kept && former.changed != stamp.changed;
        is_sign && (self.links, self.mode, self.owners) == (later.links, later.mode, later.owners)
    }
}

#[cfg(test)]
mod tests;
