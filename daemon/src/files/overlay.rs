//! The place where the layers of an overlayfs lie. Its content is read from the layers, so an overlayfs over FUSE
//! or a network file system asks a server as those do.

use std::fs::read_to_string;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::place::Place;

/// The depth to which layers of layers are followed: overlayfs stacks no deeper (FILESYSTEM_MAX_STACK_DEPTH).
const DEPTH_MAX: usize = 2;

/// Returns where the layers of the overlayfs lie on which `file` is. Layers that this mount namespace doesn't
/// show, as in a container, count as a local disk's: hosts that keep images on a network look no different, and a
/// cold read that was taken for hot is noticed by how long it takes.
pub(super) fn place(file: impl AsFd) -> Place {
    // STATX_MNT_ID is there from Linux 5.8 on. mountinfo is read without a word to any server.
    let mount = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|statx| statx.stx_mnt_id);
    match (mount, read_to_string("/proc/self/mountinfo")) {
        (Ok(mount), Ok(text)) => Mounts::parse(&text).place_of_overlay(mount, DEPTH_MAX),
        _ => Place::LocalDisk,
    }
}

/// The mounts of this process.
struct Mounts<'t>(Vec<Mount<'t>>);

/// A line of proc_pid_mountinfo(5).
struct Mount<'t> {
    id: u64,
    point: PathBuf,
    kind: &'t str,
    options: &'t str,
}

impl Mounts<'_> {
    fn parse(text: &str) -> Mounts<'_> {
        Mounts(text.lines().filter_map(Mount::parse).collect())
    }

    fn place_of_overlay(&self, id: u64, depth: usize) -> Place {
        let Some(overlay) = self.0.iter().find(|mount| mount.id == id) else { return Place::LocalDisk };
        let is_elsewhere = |layer: &PathBuf| self.place_of_layer(layer, id, depth) == Place::Elsewhere;
        if layers(overlay.options).iter().any(is_elsewhere) { Place::Elsewhere } else { Place::LocalDisk }
    }

    /// Returns the place of the mount on which the layer lies, the last one mounted at its point.
    fn place_of_layer(&self, layer: &Path, overlay: u64, depth: usize) -> Place {
        let below = self.0.iter().filter(|mount| layer.starts_with(&mount.point));
        let Some(mount) = below.max_by_key(|mount| mount.point.as_os_str().len()) else {
            return Place::LocalDisk;
        };
        match mount.kind {
            // The layer seems to lie on its own overlay: the path is another namespace's.
            "overlay" if mount.id == overlay || depth == 0 => Place::LocalDisk,
            "overlay" => self.place_of_overlay(mount.id, depth - 1),
            kind => place_of_kind(kind),
        }
    }
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let id = fields.next()?.parse().ok()?;
        let point = unescape(fields.nth(3)?).into();
        let mut fields = file_system.split(' ');
        Some(Mount { id, point, kind: fields.next()?, options: fields.nth(1).unwrap_or_default() })
    }
}

/// Returns the directories that an overlayfs's options name.
fn layers(options: &str) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for (key, value) in options.split(',').filter_map(|option| option.split_once('=')) {
        match key {
            // Colons separate the paths, and are written \: in names (as \134: here).
            "lowerdir" => layers.extend(
                value
                    .replace("\\134:", "\0")
                    .split(':')
                    .filter(|path| !path.is_empty())
                    .map(|path| unescape(&path.replace('\0', ":")).into()),
            ),
            // Each of these options names one path (Linux 6.5 and 6.8).
            "lowerdir+" | "datadir+" | "upperdir" => layers.push(unescape(value).into()),
            _ => {}
        }
    }
    layers
}

/// Decodes the octal numbers of mountinfo, for blanks and backslashes.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\054", ","), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Returns the place of a file system by the name that mount(8) knows. An unknown one counts as one that asks a
/// server.
fn place_of_kind(kind: &str) -> Place {
    match kind {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "zfs" | "bcachefs" | "tmpfs" | "ramfs"
        | "erofs" | "squashfs" | "iso9660" | "vfat" | "exfat" => Place::LocalDisk,
        _ => Place::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, Mounts, Place};

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /far rw,nosuid - fuse.sshfs host:/ rw,user_id=0
31 22 0:41 / /nfs rw - nfs4 server:/ rw
40 22 0:50 / /local rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/w
41 22 0:51 / /over\\040fuse rw - overlay overlay ro,lowerdir=/a:/far/images,redirect_dir=on
42 22 0:52 / /over-nfs rw - overlay overlay rw,lowerdir=/a,upperdir=/nfs/up,workdir=/nfs/work
43 22 0:53 / /twice rw - overlay overlay ro,lowerdir=/over\\040fuse/x
44 22 0:54 / /new rw - overlay overlay ro,lowerdir+=/a,lowerdir+=/far/b,datadir+=/c
45 22 0:55 / /colon rw - overlay overlay ro,lowerdir=/far\\134:/x:/a
46 22 0:56 / /fa rw - overlay overlay ro,lowerdir=/faraway:/fa/r
";

    #[test]
    fn what_lies_below_counts() {
        let mounts = Mounts::parse(MOUNTS);
        for (id, place) in [
            (40, Place::LocalDisk),
            (41, Place::Elsewhere),
            (42, Place::Elsewhere),
            (43, Place::Elsewhere),
            (44, Place::Elsewhere),
            // The layer is `/far:`, which isn't below `/far`.
            (45, Place::LocalDisk),
            (46, Place::LocalDisk),
            // There is no such mount.
            (99, Place::LocalDisk),
        ] {
            assert_eq!(mounts.place_of_overlay(id, DEPTH_MAX), place, "{id}");
        }
    }

    #[test]
    fn a_container_does_not_see_its_layers() {
        let mounts = Mounts::parse(
            "1 0 0:50 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A,upperdir=/var/lib/docker/u\n\
             2 1 0:51 / /proc rw - proc proc rw\n",
        );
        assert_eq!(mounts.place_of_overlay(1, DEPTH_MAX), Place::LocalDisk);
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        assert!(Mounts::parse("\n1\n1 2 3 - x\nx 2 3 / /p rw - ext4 /dev/x rw\n").0.is_empty());
        assert!(super::layers(",=,lowerdir,lowerdir=:,workdir=/w").is_empty());
    }
}
