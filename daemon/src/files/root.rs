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
}

impl Root {
    /// Opens the root. Waits for the disk.
    pub fn open(path: &Path) -> Result<Root, FileError> {
        let directory = openat(CWD, path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let place = place_of(&directory);
        Ok(Root { directory, place })
    }

    /// Finds `name` if that needs no disk: every part is in the dentry cache (RESOLVE_CACHED, 5.12) and on the
    /// root's own mount, and that is local, since open(2) and fstat(2) on FUSE or a network file system ask a
    /// server. None where it might wait, and then [`Root::find`] has the answer.
    pub fn find_cached(&self, name: &Name) -> Option<Result<Found, FileError>> {
        if self.place == Place::Elsewhere {
            return None;
        }
        match self.resolve(name, ResolveFlags::CACHED | ResolveFlags::NO_XDEV) {
            // INVAL: a kernel before 5.12. XDEV: another mount, or outside.
            Err(Errno::AGAIN | Errno::INVAL | Errno::XDEV) => None,
            Ok(descriptor) => Some(inspect(descriptor, name, self.place)),
            Err(errno) => Some(Err(errno.into())),
        }
    }

    /// Finds `name`. Waits for the disk.
    pub fn find(&self, name: &Name) -> Result<Found, FileError> {
        for _ in 0..TRIES_MAX {
            match self.resolve(name, ResolveFlags::empty()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(descriptor) => {
                    let place = place_of(&descriptor);
                    return inspect(descriptor, name, place);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(FileError::Failed(Errno::AGAIN))
    }

    fn resolve(&self, name: &Name, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if name.as_str().is_empty() { "." } else { name.as_str() };
        // NONBLOCK: opening a FIFO must not wait for its writer. NOCTTY: nor take a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
        openat2(&self.directory, path, flags, Mode::empty(), resolve)
    }
}

fn inspect(descriptor: OwnedFd, name: &Name, place: Place) -> Result<Found, FileError> {
    let stat = fstat(&descriptor)?;
    match FileType::from_raw_mode(stat.st_mode) {
        // `file/` names no file.
        FileType::RegularFile if !name.is_directory() => {
            Ok(Found::File(SourceFile::new(descriptor, &stat, place)))
        }
        FileType::Directory => Ok(Found::Directory(descriptor)),
        _ => Err(FileError::NotFound),
    }
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
    fn a_cached_answer_agrees_with_the_full_one() {
        let (_keep, root) = fixture();
        let name = Name::parse(b"/file").unwrap();
        root.find(&name).unwrap();
        if let Some(found) = root.find_cached(&name) {
            assert!(matches!(found.unwrap(), Found::File(_)));
        }
    }
}
