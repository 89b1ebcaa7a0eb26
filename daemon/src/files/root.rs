//! The served directory: names are resolved beneath it by openat2(2) (Linux 5.6), so that no link and no race
//! leads outside.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::error::FileError;
use super::residency::place_of;
use super::source::{Place, SourceFile};
use crate::protocol::name::Name;

/// openat2 answers EAGAIN when a rename elsewhere races with `..` in a link; each further try is as likely to
/// get through as the first.
const TRIES_MAX: usize = 8;

/// What a name led to.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(SourceFile),
    /// A directory.
    Directory(OwnedFd),
}

/// The root directory, held open: renaming it or mounting over it changes nothing for a running daemon.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    place: Place,
    reads_digests: bool,
}

impl Root {
    /// Opens the root. Waits for the disk.
    pub fn open(path: &Path) -> Result<Root, FileError> {
        let directory = openat(CWD, path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let place = place_of(&directory);
        let root = Root { directory, place, reads_digests: false };
        match root.open_beneath(
            ".",
            OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC,
            ResolveFlags::empty(),
        ) {
            // A filter that can't look into its arguments refuses it as a whole, as systemd's for RestrictSUIDSGID=
            // does, which DynamicUser= implies (systemd 252). Better said now than by each request.
            Err(Errno::NOSYS) => Err(FileError::NoOpenat2),
            _ => Ok(root),
        }
    }

    /// The same, but what it finds has its recorded digests with it, and the entity tag that follows from them.
    #[must_use]
    pub fn reading_digests(self) -> Root {
        Root { reads_digests: true, ..self }
    }

    pub(super) fn reads_digests(&self) -> bool {
        self.reads_digests
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Finds `name` if that needs no disk: every part is in the dentry cache (RESOLVE_CACHED, 5.12) and on the
    /// root's own mount, and that is local, since open(2) and fstat(2) on FUSE or a network file system ask a
    /// server. None where it might wait, and then [`Root::find`] has the answer.
    pub fn find_cached(&self, name: &Name) -> Option<Result<Found, FileError>> {
        if name.is_reserved() {
            return Some(Err(FileError::NotFound));
        }
        // An attribute may have to be read from the disk even where the inode is in memory.
        if self.place == Place::Elsewhere || (self.reads_digests && self.place != Place::Memory) {
            return None;
        }
        let path = name.as_str();
        match self.resolve(path, ResolveFlags::CACHED | ResolveFlags::NO_XDEV) {
            // INVAL: a kernel before 5.12. XDEV: another mount, or outside.
            Err(Errno::AGAIN | Errno::INVAL | Errno::XDEV) => None,
            Ok(descriptor) => Some(self.inspect(descriptor, path, self.place)),
            Err(errno) => Some(Err(errno.into())),
        }
    }

    /// Finds `name`. Waits for the disk.
    pub fn find(&self, name: &Name) -> Result<Found, FileError> {
        if name.is_reserved() {
            return Err(FileError::NotFound);
        }
        let path = name.as_str();
        let descriptor = patiently(|| self.resolve(path, ResolveFlags::empty()))?;
        let place = place_of(&descriptor);
        self.inspect(descriptor, path, place)
    }

    /// Opens the directory at `path`, which is relative to the root and `.` for the root itself; the descriptor can
    /// be synced. Waits for the disk.
    pub(super) fn open_directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        patiently(|| self.open_beneath(path, flags, ResolveFlags::empty()))
    }

    fn resolve(&self, path: &str, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "." } else { path };
        // NONBLOCK: opening a FIFO must not wait for its writer. NOCTTY: nor take a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.open_beneath(path, flags, extra)
    }

    fn open_beneath(&self, path: &str, flags: OFlags, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
        openat2(&self.directory, path, flags, Mode::empty(), resolve)
    }

    fn inspect(&self, descriptor: OwnedFd, path: &str, place: Place) -> Result<Found, FileError> {
        let stat = fstat(&descriptor)?;
        match FileType::from_raw_mode(stat.st_mode) {
            // `file/` names no file.
            FileType::RegularFile if !path.ends_with('/') => {
                let file = SourceFile::new(descriptor, &stat, place);
                Ok(Found::File(if self.reads_digests { file.with_recorded() } else { file }))
            }
            FileType::Directory => Ok(Found::Directory(descriptor)),
            _ => Err(FileError::NotFound),
        }
    }
}

/// Opens again where a race with a rename or a signal was in the way.
fn patiently(open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 0..TRIES_MAX {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{FileError, Found, Root};
    use crate::protocol::name::Name;

    fn find(root: &Root, path: &str) -> Result<Found, FileError> {
        root.find(&Name::parse(path.as_bytes()).unwrap())
    }

    fn fixture() -> (tempfile::TempDir, Root) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("root");
        std::fs::create_dir_all(inner.join("sub")).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        std::fs::write(inner.join("file"), "content").unwrap();
        symlink("../secret", inner.join("outside")).unwrap();
        symlink("/etc/passwd", inner.join("absolute")).unwrap();
        symlink("../file", inner.join("sub/inside")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, inner.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        let root = Root::open(&inner).unwrap();
        (outer, root)
    }

    #[test]
    fn files_and_links_inside_are_found() {
        let (_keep, root) = fixture();
        for path in ["/file", "/sub/inside", "/sub/../file", "//file"] {
            match find(&root, path).unwrap() {
                Found::File(file) => assert_eq!(file.size(), 7, "{path}"),
                Found::Directory(_) => panic!("{path} is a directory"),
            }
        }
        assert!(matches!(find(&root, "/sub/").unwrap(), Found::Directory(_)));
        assert!(matches!(find(&root, "/").unwrap(), Found::Directory(_)));
    }

    #[test]
    fn outside_and_absent_look_the_same() {
        let (_keep, root) = fixture();
        for path in ["/outside", "/absolute", "/absent", "/file/", "/file/below", "/fifo", "/%2e%2e/secret"] {
            assert_eq!(find(&root, path).unwrap_err(), FileError::NotFound, "{path}");
        }
    }

    #[test]
    fn reserved_names_are_absent() {
        let (keep, root) = fixture();
        let outer = keep.path().join("root/.streamd-uploads");
        std::fs::create_dir(&outer).unwrap();
        std::fs::write(outer.join("partial"), "part").unwrap();
        for path in [
            "/.streamd-uploads",
            "/.streamd-uploads/",
            "/.streamd-uploads/partial",
            "/%2Estreamd-uploads/partial",
        ] {
            let name = Name::parse(path.as_bytes()).unwrap();
            assert_eq!(root.find(&name).unwrap_err(), FileError::NotFound, "{path}");
            let cached = root.find_cached(&name);
            assert_eq!(cached.unwrap().unwrap_err(), FileError::NotFound, "{path}");
        }
    }

    #[test]
    fn a_cached_answer_agrees_with_the_full_one() {
        let (_keep, root) = fixture();
        let name = Name::parse(b"/file").unwrap();
        root.find(&name).unwrap();
        if let Some(found) = root.find_cached(&name) {
            assert!(matches!(found.unwrap(), Found::File(_)));
        }
    }
}
