//! The kind of file system that a file lies on, as far as serving it depends on that.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

use super::overlay;
use super::place::Place;

/// The number of overlayfs in linux/magic.h.
const OVERLAYFS: u64 = 0x794c_7630;

/// Whether a change time (ctime) can be trusted: whether every change of a file changes it too, and nobody can set
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeTime {
    /// The kernel keeps it.
    Kept,
    /// The change time is that of one of several layers, some of which may be images whose files have all one
    /// time. Those copy their modification times, so a change time that differs from the modification time is the
    /// kernel's.
    KeptWhereDistinct,
    /// The file system keeps no change time, or one that the kernel believes a server about, for as long as it is
    /// told to.
    Unproven,
}

/// The properties of a file system that serving depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) place: Place,
    pub(super) change_time: ChangeTime,
}

impl FileSystem {
    /// Returns the file system of a file or directory. Waits itself where a server has to be asked.
    pub(super) fn of(file: impl AsFd) -> FileSystem {
        match fstatfs(&file).map(|stat| u64::try_from(stat.f_type)) {
            Ok(Ok(OVERLAYFS)) => FileSystem { place: overlay::place(file), ..FileSystem::of_kind(OVERLAYFS) },
            Ok(Ok(kind)) => FileSystem::of_kind(kind),
            _ => FileSystem { place: Place::Elsewhere, change_time: ChangeTime::Unproven },
        }
    }

    /// Returns the properties of a file system by its number in linux/magic.h, or in ZFS's and bcachefs's own
    /// headers.
    fn of_kind(kind: u64) -> FileSystem {
        use ChangeTime::{Kept, KeptWhereDistinct, Unproven};
        use Place::{Elsewhere, LocalDisk, Memory};
        let (place, change_time) = match kind {
            // tmpfs, ramfs.
            0x0102_1994 | 0x8584_58f6 => (Memory, Kept),
            // ext2 to ext4, XFS, Btrfs, F2FS, ZFS, bcachefs.
            0xef53 | 0x5846_5342 | 0x9123_683e | 0xf2f5_2010 | 0x2fc1_2fc1 | 0xca45_1a4e => (LocalDisk, Kept),
            // overlayfs.
            OVERLAYFS => (LocalDisk, KeptWhereDistinct),
            // EROFS, SquashFS and ISO 9660 are images, which are put in each other's place with all times that
            // they had. FAT and exFAT have no change time: the kernel makes one up from the modification time,
            // which may be set.
            0xe0f5_e1e2 | 0x7371_7368 | 0x9660 | 0x4d44 | 0x2011_bab0 => (LocalDisk, Unproven),
            _ => (Elsewhere, Unproven),
        };
        FileSystem { place, change_time }
    }
}

/// Returns the name of a local file system that can't tell which bytes of a file are in memory (no FMODE_NOWAIT,
/// as of Linux 6.18); None for all others.
pub(super) fn mute_name(file: impl AsFd) -> Option<&'static str> {
    match u64::try_from(fstatfs(file).ok()?.f_type).ok()? {
        OVERLAYFS => Some("overlayfs"),
        0xe0f5_e1e2 => Some("EROFS"),
        0x7371_7368 => Some("SquashFS"),
        0x9660 => Some("ISO 9660"),
        0x4d44 => Some("FAT"),
        0x2011_bab0 => Some("exFAT"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ChangeTime, FileSystem, Place};

    #[test]
    fn memory_files_live_in_memory() {
        let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let expected = FileSystem { place: Place::Memory, change_time: ChangeTime::Kept };
        assert_eq!(FileSystem::of(&memory), expected);
    }

    #[test]
    fn a_file_system_that_nobody_knows_is_asked_as_if_it_were_far_and_not_believed() {
        // FUSE, NFS, CIFS, procfs.
        for kind in [0x6573_5546, 0x6969, 0xff53_4d42, 0x9fa0] {
            let expected = FileSystem { place: Place::Elsewhere, change_time: ChangeTime::Unproven };
            assert_eq!(FileSystem::of_kind(kind), expected, "{kind:x}");
        }
    }
}
