//! The mounts below the root, and the mount to which a name leads: a file system that doesn't answer must hold up
//! its own files alone.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::protocol::name::{Name, is_reserved_segment};

/// The number of a mount, valid as long as the mount is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MountId(u64);

impl MountId {
    /// The id on kernels that tell none (before Linux 5.8): all mounts are one then.
    pub const UNKNOWN: MountId = MountId(0);

    /// Returns the mount of a file or directory. Asks no server and no disk.
    pub fn of(file: impl AsFd) -> MountId {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        match statx(file, "", flags, StatxFlags::MNT_ID) {
            Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => MountId(found.stx_mnt_id),
            _ => MountId::UNKNOWN,
        }
    }

    /// Returns the mount that a name in a directory leads to, without following a link. Asks no server and no disk.
    fn of_entry(directory: impl AsFd, name: &[u8]) -> MountId {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match statx(directory, name, flags, StatxFlags::MNT_ID) {
            Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => MountId(found.stx_mnt_id),
            _ => MountId::UNKNOWN,
        }
    }

    /// Makes the id with this number.
    #[cfg(test)]
    pub fn numbered(number: u64) -> MountId {
        MountId(number)
    }
}

/// The mounts of this process, in particular those below one directory.
#[derive(Debug)]
pub struct Mounts {
    /// The mount of the directory.
    root: MountId,
    /// The path of the directory.
    path: Vec<u8>,
    /// The open /proc/self/mountinfo, read again from its beginning when poll(2) says that it changed.
    source: Option<File>,
    table: RwLock<Arc<[Mount]>>,
    /// Whether any of them shows a directory of uploads, which is asked of every entry of a listing.
    has_reserved: AtomicBool,
}

#[derive(Debug)]
struct Mount {
    id: MountId,
    /// The mount point.
    point: Arc<[u8]>,
    /// The mount point relative to the directory, where it lies below it.
    below: Option<Arc<[u8]>>,
    /// Whether it shows a directory of uploads, or a part of one, at another place.
    is_reserved: bool,
}

impl Mounts {
    /// Reads the mounts below a directory.
    pub fn below(directory: impl AsFd) -> Mounts {
        let path = Mounts::path_of(&directory);
        Mounts::read(MountId::of(directory), path)
    }

    /// Returns the path that an open directory has now; none where that can't be told.
    pub(super) fn path_of(directory: impl AsFd) -> Vec<u8> {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory.as_fd()));
        let path = std::fs::read_link(link).ok();
        path.map(|path| path.into_os_string().into_vec()).unwrap_or_default()
    }

    /// Reads the mounts of this process, where it serves no directory.
    pub fn of_process() -> Mounts {
        Mounts::read(MountId::UNKNOWN, Vec::new())
    }

    /// Makes a table with mounts at these places of a directory.
    #[cfg(test)]
    pub(super) fn of_points(root: MountId, points: &[(&str, MountId)]) -> Mounts {
        let mount = |(point, id): &(&str, MountId)| Mount {
            id: *id,
            below: Some(Arc::from(point.as_bytes())),
            point: Arc::from([b"/", point.as_bytes()].concat()),
            is_reserved: false,
        };
        let table = RwLock::new(points.iter().map(mount).collect());
        Mounts { root, path: Vec::new(), source: None, table, has_reserved: AtomicBool::new(false) }
    }

    fn read(root: MountId, path: Vec<u8>) -> Mounts {
        let source = File::open("/proc/self/mountinfo").ok();
        let (table, has_reserved) = (RwLock::new(Arc::from([])), AtomicBool::new(false));
        let mounts = Mounts { root, path, source, table, has_reserved };
        mounts.load();
        mounts
    }

    /// Returns the path of the directory when it was opened.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the mount of the directory.
    pub fn root(&self) -> MountId {
        self.root
    }

    /// Returns the mount that a name leads to, unless a link leads it elsewhere. Asks no file system.
    pub fn of_name(&self, name: &Name) -> MountId {
        self.of_path(name.as_bytes())
    }

    /// Returns the mount of a path without links.
    pub(super) fn of_path(&self, path: &[u8]) -> MountId {
        let table = self.table();
        let leads = |below: &[u8]| {
            path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let candidates = table.iter().filter_map(|mount| Some((mount.below.as_deref()?, mount.id)));
        // Where several are mounted at one place the last covers the others.
        let deepest = candidates.filter(|(below, _)| leads(below)).max_by_key(|(below, _)| below.len());
        deepest.map_or(self.root, |(_, id)| id)
    }

    /// Returns the mount of an absolute path without links.
    pub(super) fn of_absolute(&self, path: &[u8]) -> MountId {
        let table = self.table();
        let leads = |point: &[u8]| {
            let point = point.strip_suffix(b"/").unwrap_or(point);
            path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let deepest = table.iter().filter(|mount| leads(&mount.point)).max_by_key(|mount| mount.point.len());
        deepest.map_or(MountId::UNKNOWN, |mount| mount.id)
    }

    /// Whether an open file or directory is in a mount that shows a directory of uploads.
    pub(super) fn is_reserved_at(&self, file: impl AsFd) -> bool {
        self.refresh();
        self.have_reserved() && self.is_reserved(MountId::of(file))
    }

    /// Whether a name in an open directory is a mount that shows a directory of uploads. It is known of the mounts that
    /// there were when they were last read.
    pub(super) fn is_reserved_entry(&self, directory: impl AsFd, name: &[u8]) -> bool {
        self.have_reserved() && self.is_reserved(MountId::of_entry(directory, name))
    }

    fn have_reserved(&self) -> bool {
        self.has_reserved.load(Ordering::Relaxed)
    }

    fn is_reserved(&self, id: MountId) -> bool {
        self.table().iter().any(|mount| mount.id == id && mount.is_reserved)
    }

    /// Whether there are mounts below the directory besides its own and `these`, to which a link could lead.
    pub(super) fn are_besides(&self, these: &[MountId]) -> bool {
        let is_other = |mount: &Mount| mount.below.is_some() && !these.contains(&mount.id);
        self.table().iter().any(|mount| is_other(mount) && mount.id != self.root)
    }

    /// Returns the mount point of a mount.
    pub fn point(&self, id: MountId) -> Option<Arc<str>> {
        self.find(id, |mount| Some(shown(&mount.point).into()))
    }

    /// Returns the mount point relative to the directory, where it lies below it.
    pub fn point_below(&self, id: MountId) -> Option<Arc<str>> {
        self.find(id, |mount| Some(shown(mount.below.as_ref()?).into()))
    }

    /// Reads the mounts again if they changed since.
    pub fn refresh(&self) {
        let Some(source) = &self.source else { return };
        let mut changes = [PollFd::new(source, PollFlags::PRI)];
        if poll(&mut changes, Some(&Timespec::default())) == Ok(1) {
            self.load();
        }
    }

    fn find<T>(&self, id: MountId, of: impl Fn(&Mount) -> Option<T>) -> Option<T> {
        self.table().iter().find(|mount| mount.id == id).and_then(of)
    }

    fn table(&self) -> Arc<[Mount]> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn load(&self) {
        let Some(text) = self.source.as_ref().and_then(whole) else { return };
        let table: Arc<[Mount]> =
            text.split(|&byte| byte == b'\n').filter_map(|line| parse(line, &self.path)).collect();
        self.take(table);
    }

    fn take(&self, table: Arc<[Mount]>) {
        self.has_reserved.store(table.iter().any(|mount| mount.is_reserved), Ordering::Relaxed);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

/// Returns a place as it is shown.
fn shown(place: &[u8]) -> String {
    String::from_utf8_lossy(place).into_owned()
}

/// Reads all of a file of /proc, which has no length of its own.
fn whole(source: &File) -> Option<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match source.read_at(&mut piece, bytes.len() as u64).ok()? {
            0 => return Some(bytes),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// A line of /proc/self/mountinfo (proc_pid_mountinfo(5)): the number of the mount comes first, the directory of its
/// file system that it shows fourth, its place fifth.
fn parse(line: &[u8], directory: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = MountId(std::str::from_utf8(fields.next()?).ok()?.parse().ok()?);
    let shows = unescaped(fields.nth(2)?)?;
    let point = unescaped(fields.next()?)?;
    // The root directory is the one path that ends in a slash.
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let below = point.strip_prefix(directory).and_then(|rest| rest.strip_prefix(b"/"));
    let below = below.filter(|below| !below.is_empty()).map(Arc::from);
    let is_reserved = shows.split(|byte| *byte == b'/').any(is_reserved_segment);
    Some(Mount { id, below, point: point.into(), is_reserved })
}

/// Decodes blanks, line feeds and backslashes, which are written as three octal digits.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut parts = text.split(|&byte| byte == b'\\');
    let mut bytes = parts.next()?.to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()?);
        bytes.extend_from_slice(rest);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Arc, AtomicBool, MountId, Mounts, Name, RwLock, parse, whole};

    fn mounts(directory: &str, text: &[u8]) -> Mounts {
        let (path, lines) = (directory.as_bytes().to_vec(), text.split(|byte| *byte == b'\n'));
        let table: Arc<[_]> = lines.filter_map(|line| parse(line, &path)).collect();
        let (none, has_reserved) = (RwLock::new(Arc::from([])), AtomicBool::new(false));
        let mounts = Mounts { root: MountId(1), path, source: None, table: none, has_reserved };
        mounts.take(table);
        mounts
    }

    const LINES: [&str; 6] = [
        "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        "2 1 0:40 / /srv/data rw - nfs4 host:/data rw",
        "3 2 0:41 / /srv/data/in\\040it rw - fuse it rw",
        "4 1 0:42 / /srv/database rw - ext4 /dev/sdb rw",
        "5 1 0:43 / /elsewhere rw - ext4 /dev/sdc rw",
        "6 2 0:44 / /srv/data/in\\040it rw - fuse over-it rw",
    ];

    #[test]
    fn a_name_leads_to_the_deepest_mount_on_its_way() {
        for directory in ["/srv", "/"] {
            let mounts = mounts(directory, LINES.join("\n").as_bytes());
            let prefix = if directory == "/" { "/srv" } else { "" };
            for (path, id) in [
                ("/file", 1),
                ("/data", 2),
                ("/data/file", 2),
                ("/data/in%20it/file", 6),
                ("/data/in%20itself", 2),
                ("/database/x", 4),
            ] {
                let path = format!("{prefix}{path}");
                let name = Name::parse(path.as_bytes()).unwrap();
                assert_eq!(mounts.of_name(&name), MountId(id), "{path}");
            }
            let below = mounts.point_below(MountId(2)).unwrap();
            assert_eq!(format!("/{below}"), format!("{prefix}/data"));
        }
    }

    #[test]
    fn a_mount_is_named_by_its_place_and_from_the_root_on() {
        let mounts = mounts("/srv", LINES.join("\n").as_bytes());
        assert_eq!(mounts.point(MountId(3)).as_deref(), Some("/srv/data/in it"));
        assert_eq!(mounts.point_below(MountId(3)).as_deref(), Some("data/in it"));
        assert_eq!(mounts.point(MountId(5)).as_deref(), Some("/elsewhere"));
        assert_eq!(mounts.point_below(MountId(5)), None);
        assert_eq!((mounts.point(MountId(9)), mounts.point_below(MountId(9))), (None, None));
    }

    #[test]
    fn a_mount_that_shows_a_directory_of_uploads_is_known_by_what_it_shows() {
        let text = "7 1 8:1 /data/.streamd-uploads /srv/x rw - ext4 /dev/sda1 rw\n\
                    8 1 8:1 /data/.Streamd-Uploads/0123 /srv/y rw - ext4 /dev/sda1 rw\n\
                    9 1 8:1 /data/.streamd-uploads-of-old /srv/z rw - ext4 /dev/sda1 rw\n";
        let found = mounts("/srv", text.as_bytes());
        let reserved = [7, 8, 9, 1].map(|id| found.is_reserved(MountId(id)));
        assert!(found.have_reserved() && reserved == [true, true, false, false]);
        assert!(!mounts("/srv", LINES.join("\n").as_bytes()).have_reserved());
    }

    #[test]
    fn an_absolute_path_is_on_the_deepest_mount_on_its_way() {
        let found = mounts("/srv", LINES.join("\n").as_bytes());
        for (path, id) in
            [("/", 1), ("/srv", 1), ("/srv/data", 2), ("/srv/database/x", 4), ("/elsewhere/x", 5)]
        {
            assert_eq!(found.of_absolute(path.as_bytes()), MountId(id), "{path}");
        }
    }

    #[test]
    fn a_place_may_have_a_name_that_is_no_text() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"7 1 0:45 / /srv/\xff rw - ext4 /dev/sdd rw\n").unwrap();
        file.write_all(LINES.join("\n").as_bytes()).unwrap();
        let text = whole(&file).unwrap();
        let mounts = mounts("/srv", &text);
        assert_eq!(mounts.of_name(&Name::parse(b"/%ff/file").unwrap()), MountId(7));
        assert_eq!(mounts.point_below(MountId(7)).as_deref(), Some("\u{fffd}"));
        assert_eq!(mounts.of_name(&Name::parse(b"/data/file").unwrap()), MountId(2));
        assert_eq!(mounts.of_name(&Name::parse(b"/file").unwrap()), MountId(1));
    }

    #[test]
    fn this_process_has_the_mount_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let mounts = Mounts::below(std::fs::File::open(directory.path()).unwrap());
        mounts.refresh();
        assert_ne!(mounts.root(), MountId::UNKNOWN);
        let point = mounts.point(mounts.root()).unwrap();
        assert!(directory.path().canonicalize().unwrap().starts_with(&*point), "{point}");
        assert_eq!(mounts.of_name(&Name::parse(b"/file").unwrap()), mounts.root());
    }
}
