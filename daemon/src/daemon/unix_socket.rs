//! Unix sockets that the daemon binds itself: their files, which outlive whoever made them.
//!
//! Nobody can connect before listen(2), and by then the file has its group and its mode. It is made with the owner's
//! rights alone, whatever the umask says: bind(2) takes them from the socket's own inode (unix_bind_bsd, Linux 2.6).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Stat, chmod, chownat, fchmod, flock, fstat,
    open, statat, unlink,
};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// The rights of a file that isn't listened on yet.
const MODE_UNREADY: Mode = Mode::RUSR.union(Mode::WUSR);

/// The time for which a daemon that was killed may still seem to listen: its ring keeps the socket until a worker of
/// the kernel takes the ring down (io_uring, seen on Linux 6.18). Likewise that for which another may hold the lock.
const PREDECESSOR_TIME_MAX: Duration = Duration::from_millis(500);

/// The time between two looks.
const PREDECESSOR_POLL: Duration = Duration::from_millis(50);

/// Why a path can't be listened on, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// Another process listens.
    #[error("another process listens there: `ss -lxp` names it; end it, or set another path")]
    InUse,
    /// The file there is none of a socket, and nobody's to remove.
    #[error("there is a file that is no socket: remove it, or set another path")]
    NotSocket,
    /// It can't be told whether somebody listens.
    #[error(
        "there is a socket, and whether anybody listens can't be told: {0}; remove it, or set another path"
    )]
    Unknown(io::Error),
    /// The socket can't be made.
    #[error("{0}{remedy}", remedy = bind_remedy(.0))]
    Bind(io::Error),
    /// The socket can't have its group.
    #[error(
        "its group can't be {group}: {reason}: the user who runs streamd has to be in it, and streamd.service lets \
         nobody change a group: let a socket unit listen there (SocketGroup=), or leave group away"
    )]
    Group {
        /// The number of the group.
        group: u32,
        /// The error of the system.
        reason: io::Error,
    },
    /// The socket can't have its mode.
    #[error("its mode can't be set: {0}")]
    Mode(io::Error),
}

impl UnixSocketError {
    /// Returns the errno of the system, where that is the cause.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            UnixSocketError::InUse => Some(Errno::ADDRINUSE.raw_os_error()),
            UnixSocketError::NotSocket => None,
            UnixSocketError::Unknown(reason)
            | UnixSocketError::Bind(reason)
            | UnixSocketError::Group { reason, .. }
            | UnixSocketError::Mode(reason) => reason.raw_os_error(),
        }
    }
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ": its directory isn't there: create it (RuntimeDirectory= in the unit)"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": the user who runs streamd may make no socket there: give it a directory (RuntimeDirectory= in the unit)"
        }
        _ => "",
    }
}

/// The file of a socket, removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens at `path`. A file that a daemon left behind is removed, if it is a socket on which nobody listens.
pub(super) fn bind(
    path: &Path,
    mode: u32,
    group: Option<u32>,
    backlog: i32,
) -> Result<(OwnedFd, SocketFile), UnixSocketError> {
    // Two daemons that start at once would each take the other's socket, which nobody listens on yet, for a stale one.
    let _lock = lock_directory(path);
    let deadline = Instant::now() + PREDECESSOR_TIME_MAX;
    let socket = loop {
        match bind_once(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => remove_stale(path, deadline)?,
            result => break result.map_err(UnixSocketError::Bind)?,
        }
    };
    let file = admit(path, mode, group)?;
    socket.listen(backlog).map_err(UnixSocketError::Bind)?;
    Ok((socket.into(), file))
}

/// Locks the directory of a socket against other daemons, until this is dropped. Who can't goes on without: it is only
/// about daemons that start at the same moment.
fn lock_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(path.parent()?, flags, Mode::empty()).ok()?;
    let deadline = Instant::now() + PREDECESSOR_TIME_MAX;
    while flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::park_timeout(PREDECESSOR_POLL);
    }
    Some(directory)
}

fn bind_once(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, MODE_UNREADY)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Removes the file at `path` if it is a socket on which nobody listens, which connect(2) tells. Somebody who does is
/// waited for until `deadline`.
fn remove_stale(path: &Path, deadline: Instant) -> Result<(), UnixSocketError> {
    let Ok(found) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(UnixSocketError::NotSocket);
    }
    match try_connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            unlink(path).map_err(|error| UnixSocketError::Bind(error.into()))?;
            tracing::info!(path = %path.display(), "a socket on which nobody listened was removed");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(UnixSocketError::Unknown(error)),
        // It was accepted, its queue is full (EAGAIN), or it is one of datagrams (EPROTOTYPE).
        _ if Instant::now() < deadline => {
            std::thread::park_timeout(PREDECESSOR_POLL);
            Ok(())
        }
        _ => Err(UnixSocketError::InUse),
    }
}

fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Gives the file that was just made its group and then its mode. Where that fails it is removed.
fn admit(path: &Path, mode: u32, group: Option<u32>) -> Result<SocketFile, UnixSocketError> {
    // By a descriptor of the file itself, so that nobody can put another in its place meanwhile.
    let made = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let found = made.and_then(|made| Ok((fstat(&made)?, made)));
    let (stat, made) = found.map_err(|error| UnixSocketError::Bind(error.into()))?;
    let Stat { st_dev, st_ino, st_mode, .. } = stat;
    if FileType::from_raw_mode(st_mode) != FileType::Socket {
        return Err(UnixSocketError::NotSocket);
    }
    let given = give_rights(&made, mode, group);
    if given.is_err() {
        let _ = unlink(path);
    }
    given.map(|()| SocketFile { path: path.to_owned(), device: st_dev, inode: st_ino })
}

fn give_rights(made: &OwnedFd, mode: u32, group: Option<u32>) -> Result<(), UnixSocketError> {
    if let Some(group) = group {
        chownat(made, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)
            .map_err(|error| UnixSocketError::Group { group, reason: error.into() })?;
    }
    // fchmod(2) refuses a descriptor of O_PATH; the way by /proc leads to the same file.
    chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), Mode::from_raw_mode(mode))
        .map_err(|error| UnixSocketError::Mode(error.into()))
}

impl SocketFile {
    /// Whether the file at the path is the one that was made: another daemon may have replaced it.
    fn is_there(&self) -> bool {
        statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _lock = lock_directory(&self.path);
        if !self.is_there() {
            return;
        }
        if let Err(error) = unlink(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::sync::Barrier;

    use super::{UnixSocketError, bind, bind_once};

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        (directory, path)
    }

    fn refused(path: &Path) -> String {
        bind(path, 0o660, None, 128).unwrap_err().to_string()
    }

    #[test]
    fn the_file_has_its_mode_whatever_the_umask_and_goes_with_its_owner() {
        for mode in [0o600, 0o660, 0o666, 0o777, 0] {
            let (_directory, path) = directory();
            let (socket, file) = bind(&path, mode, None, 128).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            drop(socket);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn before_it_is_listened_on_only_its_owner_has_rights_and_nobody_connects() {
        let (_directory, path) = directory();
        let _socket = bind_once(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_group_is_set_or_the_socket_is_gone_again() {
        let (_directory, path) = directory();
        let own = fs::metadata(path.parent().unwrap()).unwrap().gid();
        let _bound = bind(&path, 0o660, Some(own), 128).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().gid(), own);
        if rustix::process::geteuid().is_root() {
            let (_directory, path) = directory();
            let _bound = bind(&path, 0o660, Some(12_345), 128).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().gid(), 12_345);
            return;
        }
        let (_directory, path) = directory();
        let message = bind(&path, 0o660, Some(0), 128).unwrap_err().to_string();
        assert!(
            message.starts_with("its group can't be 0: ") && message.contains("(SocketGroup=)"),
            "{message}"
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_one_that_somebody_does_is_not() {
        let (_directory, path) = directory();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "it was left behind");
        let (_socket, _file) = bind(&path, 0o660, None, 128).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert!(refused(&path).starts_with("another process listens there: `ss -lxp` names it"));
        assert!(UnixStream::connect(&path).is_ok(), "it is still there");
    }

    #[test]
    fn a_file_that_is_no_stale_socket_is_never_removed() {
        let (_directory, path) = directory();
        fs::write(&path, "content").unwrap();
        assert!(refused(&path).starts_with("there is a file that is no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"content");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(refused(&path).starts_with("there is a file that is no socket"));
        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(refused(&path).starts_with("another process listens there"));
    }

    #[test]
    fn what_took_the_place_of_a_socket_stays() {
        let (_directory, path) = directory();
        let (_socket, file) = bind(&path, 0o660, None, 128).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_with_a_remedy() {
        let message = refused(Path::new("/nonexistent/socket"));
        assert!(message.contains("create it (RuntimeDirectory="), "{message}");
    }

    #[test]
    fn of_those_that_start_together_one_listens() {
        const ROUNDS: usize = 20;
        for _ in 0..ROUNDS {
            let (_directory, path) = directory();
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(3);
            let bound: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    scope.spawn(|| {
                        barrier.wait();
                        bind(&path, 0o660, None, 128)
                    })
                };
                let threads = [start(), start(), start()];
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let errors = bound.iter().filter_map(|result| result.as_ref().err());
            assert!(errors.into_iter().all(|error| matches!(error, UnixSocketError::InUse)), "{bound:?}");
            assert_eq!(bound.iter().filter(|result| result.is_ok()).count(), 1, "{bound:?}");
            assert!(UnixStream::connect(&path).is_ok());
        }
    }
}
