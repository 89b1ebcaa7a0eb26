//! The ceiling's uploads: recv(2) and write(2) in turn to a temporary file, and its rename. Nothing is synced,
//! unless the server makes the bytes itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{RecvFlags, recv};

use crate::load::Body;

/// The bytes that one recv waits for (MSG_WAITALL) and one write takes: 0.43 s of CPU for 1 GB into tmpfs, 0.47
/// with 256 KiB, 0.55 with 256 KiB without waiting, which leaves pages half written (2026-11-25, Linux 6.18).
const RECEIVE_BYTES: usize = 512 << 10;

/// The bytes of one write of a file that is made here, as of `dd bs=1M`.
const MAKE_BYTES: usize = 1 << 20;

/// The most bytes that are made on one request.
const MADE_BYTES_MAX: u64 = 16 << 30;

/// Whether the upload created its name or replaced a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Created,
    Replaced,
}

impl Stored {
    pub(super) fn answer(self) -> &'static [u8] {
        match self {
            Stored::Created => b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            Stored::Replaced => b"HTTP/1.1 204 No Content\r\n\r\n",
        }
    }

    fn at(path: &Path) -> Stored {
        if path.exists() { Stored::Replaced } else { Stored::Created }
    }
}

/// Takes a body of `bytes` bytes, which begins with `first`, for `path`. The `buffer` is the connection's, so that its
/// pages are there already.
pub(super) fn receive(
    stream: &TcpStream,
    first: &[u8],
    bytes: u64,
    path: &Path,
    buffer: &mut Vec<u8>,
) -> io::Result<Stored> {
    let temporary = Temporary::beside(path)?;
    let mut file = &temporary.file;
    file.write_all(first)?;
    buffer.resize(RECEIVE_BYTES, 0);
    let mut left = bytes - first.len() as u64;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(RECEIVE_BYTES).min(RECEIVE_BYTES);
        let (_, received) = recv(stream, &mut buffer[..count], RecvFlags::WAITALL)?;
        if received < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    let stored = Stored::at(path);
    fs::rename(&temporary.path, path)?;
    Ok(stored)
}

/// Writes `bytes` bytes to `path` and waits until they are on the disk, as `dd bs=1M conv=fsync` does.
pub(super) fn make(bytes: u64, path: &Path) -> io::Result<Stored> {
    if bytes > MADE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let stored = Stored::at(path);
    let mut file = File::create(path)?;
    let (mut body, mut buffer) = (Body::new(0, 0, bytes), Vec::with_capacity(MAKE_BYTES));
    while body.left() > 0 {
        buffer.clear();
        while buffer.len() < MAKE_BYTES && body.left() > 0 {
            let next = body.next_bytes();
            let count = next.len().min(MAKE_BYTES - buffer.len());
            buffer.extend_from_slice(&next[..count]);
            body.advance(count);
        }
        file.write_all(&buffer)?;
    }
    file.sync_all()?;
    Ok(stored)
}

/// A file that has no name of its own yet; removed where it gets none.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn beside(path: &Path) -> io::Result<Temporary> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The bench removes files that begin with the name of its uploads, should this process be killed.
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-ceiling-{number}"));
        let path = path.with_file_name(name);
        Ok(Temporary { file: File::create_new(&path)?, path })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename it doesn't exist any more.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::{Stored, make, receive};
    use crate::load::Body;

    #[test]
    fn a_body_gets_its_name_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("put-0");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let body = vec![7; 600_000];
        let mut buffer = Vec::new();
        for expected in [Stored::Created, Stored::Replaced] {
            let sender = std::thread::scope(|scope| {
                scope.spawn(|| client.write_all(&body[3..]).unwrap());
                receive(&server, &body[..3], body.len() as u64, &path, &mut buffer)
            });
            assert_eq!(sender.unwrap(), expected);
            assert_eq!(std::fs::read(&path).unwrap(), body);
        }
        drop(client);
        std::fs::write(&path, b"old").unwrap();
        assert!(receive(&server, b"a", 2, &path, &mut buffer).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn what_is_made_here_is_a_body() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("put-0");
        for (bytes, expected) in [(5_000_000, Stored::Created), (10, Stored::Replaced)] {
            assert_eq!(make(bytes, &path).unwrap(), expected);
            let mut body = Body::new(0, 0, bytes);
            assert!(body.goes_on_with(&std::fs::read(&path).unwrap()) && body.left() == 0);
        }
        assert!(make(u64::MAX, &path).is_err());
    }
}
