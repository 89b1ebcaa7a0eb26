//! The ceiling's requests: a head is received, head and file are sent, corked; or a body is received.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, RwLock};

use rustix::fs::sendfile;
use rustix::net::sockopt::{set_tcp_cork, set_tcp_nodelay};

use super::put::{self, Stored};

/// The most files that are kept open; above it requests fail.
const FILES_MAX: usize = 4096;

/// The longest head of a request, in bytes, and so the most that is buffered of pipelined ones.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The largest body that is kept in memory behind its head, in bytes: one send is less work than sendfile.
const BODY_BYTES_IN_MEMORY_MAX: u64 = 32 << 10;

/// The most bytes that sendfile(2) transfers in a call.
const SENDFILE_BYTES_MAX: u64 = 0x7fff_f000;

const REMOVED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// The other fields that all servers send, so that heads are about the same size.
const FIELDS: &str = "Server: stream-bench/ceiling\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: application/octet-stream\r\n\
    Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    Accept-Ranges: bytes\r\n";

/// The open files by the paths of their requests.
pub(super) struct Files {
    root: PathBuf,
    open: RwLock<HashMap<Vec<u8>, Arc<OpenFile>>>,
}

/// A file and the answer that it gets.
struct OpenFile {
    path: Vec<u8>,
    /// The head, and the body behind it if it is small.
    start: Vec<u8>,
    file: File,
    /// The bytes that sendfile sends after `start`.
    sendfile_bytes: u64,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Files {
        Files { root, open: RwLock::default() }
    }

    fn find(&self, path: &[u8]) -> io::Result<Arc<OpenFile>> {
        let poisoned = || io::Error::other("a thread of the ceiling panicked");
        if let Some(file) = self.open.read().map_err(|_| poisoned())?.get(path) {
            return Ok(Arc::clone(file));
        }
        let mut open = self.open.write().map_err(|_| poisoned())?;
        if open.len() >= FILES_MAX {
            return Err(io::Error::other("too many files for the ceiling"));
        }
        let file = Arc::new(OpenFile::new(&self.root, path)?);
        open.insert(path.to_vec(), Arc::clone(&file));
        Ok(file)
    }

    /// Returns the path of a file that is about to change, and forgets its known state.
    fn change(&self, path: &[u8]) -> io::Result<PathBuf> {
        let mut open = self.open.write().map_err(|_| io::Error::other("a thread of the ceiling panicked"))?;
        open.remove(path);
        locate(&self.root, path)
    }
}

/// Returns the path of a request's file.
fn locate(root: &Path, path: &[u8]) -> io::Result<PathBuf> {
    let name = std::str::from_utf8(path).map_err(|_| io::ErrorKind::NotFound)?.trim_start_matches('/');
    let name = Path::new(name);
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(root.join(name))
}

impl OpenFile {
    fn new(root: &Path, path: &[u8]) -> io::Result<OpenFile> {
        let file = File::open(locate(root, path)?)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let bytes = metadata.len();
        let mut start = format!("HTTP/1.1 200 OK\r\n{FIELDS}Content-Length: {bytes}\r\n\r\n").into_bytes();
        if bytes > BODY_BYTES_IN_MEMORY_MAX {
            return Ok(OpenFile { path: path.to_vec(), start, file, sendfile_bytes: bytes });
        }
        (&file).take(bytes).read_to_end(&mut start)?;
        Ok(OpenFile { path: path.to_vec(), start, file, sendfile_bytes: 0 })
    }

    fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        if self.sendfile_bytes == 0 {
            return stream.write_all(&self.start);
        }
        set_tcp_cork(stream, true)?;
        stream.write_all(&self.start)?;
        let mut offset = 0;
        while offset < self.sendfile_bytes {
            let count = (self.sendfile_bytes - offset).min(SENDFILE_BYTES_MAX);
            // A 64-bit system's usize holds it; it is below 2^31.
            if sendfile(stream, &self.file, Some(&mut offset), usize::try_from(count).unwrap_or(usize::MAX))?
                == 0
            {
                return Err(io::Error::other("the file became shorter"));
            }
        }
        Ok(set_tcp_cork(stream, false)?)
    }
}

/// Answers requests until the client ends the connection or asks to.
pub(super) fn serve(mut stream: &TcpStream, files: &Files) -> io::Result<()> {
    set_tcp_nodelay(stream, true)?;
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    let mut filled = 0;
    let mut last: Option<Arc<OpenFile>> = None;
    let mut body_buffer = Vec::new();
    loop {
        let Some(end) = head_end(&buffer[..filled]) else {
            // A full buffer reads 0 as well: heads that don't fit end the connection.
            match stream.read(&mut buffer[filled..])? {
                0 => return Ok(()),
                count => filled += count,
            }
            continue;
        };
        let head = &buffer[..end];
        if let Some(change) = change(head) {
            last = None;
            let of_body = usize::try_from(change.body_bytes).unwrap_or(usize::MAX).min(filled - end);
            let first = &buffer[end..end + of_body];
            stream.write_all(change.make(stream, first, files, &mut body_buffer)?)?;
            buffer.copy_within(end + of_body..filled, 0);
            filled -= end + of_body;
            continue;
        }
        let path = path(head).ok_or(io::ErrorKind::InvalidData)?;
        let closing = asks_to_close(head);
        let file = match last.take().filter(|file| file.path == path) {
            Some(file) => Ok(file),
            None => files.find(path),
        };
        match &file {
            Ok(file) => file.send(stream)?,
            Err(_) => stream.write_all(NOT_FOUND)?,
        }
        if closing {
            return Ok(());
        }
        last = file.ok();
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
}

/// A request that changes a file.
struct FileChange<'a> {
    method: Method,
    path: &'a [u8],
    body_bytes: u64,
}

enum Method {
    Put,
    /// POST, which makes the server write this many bytes.
    Make(u64),
    Delete,
}

/// Reads the head of a request that changes a file; None for all others.
fn change(head: &[u8]) -> Option<FileChange<'_>> {
    let target = path(head)?;
    let (path, query) = split_at(target, b'?').unwrap_or((target, b""));
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.trim().parse().ok();
    let method = match head.split(|byte| *byte == b' ').next()? {
        b"PUT" => Method::Put,
        b"POST" => Method::Make(query.strip_prefix(b"bytes=").and_then(number)?),
        b"DELETE" => Method::Delete,
        _ => return None,
    };
    let mut fields = head.split(|byte| *byte == b'\n').filter_map(|line| split_at(line, b':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
    Some(FileChange { method, path, body_bytes: length.and_then(|(_, value)| number(value)).unwrap_or(0) })
}

impl FileChange<'_> {
    /// Makes the change and returns the answer.
    fn make(
        &self,
        stream: &TcpStream,
        first: &[u8],
        files: &Files,
        buffer: &mut Vec<u8>,
    ) -> io::Result<&'static [u8]> {
        let path = files.change(self.path)?;
        let stored = match self.method {
            Method::Put => put::receive(stream, first, self.body_bytes, &path, buffer),
            Method::Make(bytes) => put::make(bytes, &path),
            Method::Delete => {
                return Ok(if fs::remove_file(&path).is_ok() { REMOVED } else { NOT_FOUND });
            }
        };
        stored.map(Stored::answer)
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Returns the word between the first two spaces.
fn path(head: &[u8]) -> Option<&[u8]> {
    head.split(|byte| *byte == b' ').nth(1)
}

/// Splits at the first `mark`, which belongs to neither half.
fn split_at(bytes: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == mark)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn asks_to_close(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n')
        .any(|line| line.trim_ascii_end().eq_ignore_ascii_case(b"connection: close"))
}

#[cfg(test)]
mod tests {
    use super::{Files, asks_to_close, change, head_end, path};

    #[test]
    fn heads_are_split() {
        let bytes = b"GET /a HTTP/1.1\r\nconnection: Close\r\n\r\nGET";
        let end = head_end(bytes).unwrap();
        assert_eq!(&bytes[end..], b"GET");
        assert_eq!(path(&bytes[..end]), Some(&b"/a"[..]));
        assert!(asks_to_close(&bytes[..end]));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n"), None);
    }

    #[test]
    fn requests_that_change_files_are_told_from_others() {
        let of = |head: &str| change(head.as_bytes()).map(|found| (found.path.to_vec(), found.body_bytes));
        assert_eq!(
            of("PUT /a HTTP/1.1\r\nHost: b\r\ncontent-length: 12\r\n\r\n"),
            Some((b"/a".to_vec(), 12))
        );
        assert_eq!(of("DELETE /a HTTP/1.1\r\n\r\n"), Some((b"/a".to_vec(), 0)));
        assert_eq!(of("POST /a?bytes=5 HTTP/1.1\r\n\r\n"), Some((b"/a".to_vec(), 0)));
        assert_eq!(of("POST /a HTTP/1.1\r\n\r\n"), None);
        assert_eq!(of("GET /a HTTP/1.1\r\nContent-Length: 1\r\n\r\n"), None);
    }

    #[test]
    fn only_files_below_the_root_are_opened() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("directory")).unwrap();
        std::fs::write(root.path().join("directory/file"), b"12345").unwrap();
        let files = Files::new(root.path().to_owned());
        let file = files.find(b"/directory/file").unwrap();
        assert!(file.start.ends_with(b"Content-Length: 5\r\n\r\n12345") && file.sendfile_bytes == 0);
        for path in [&b"/directory"[..], b"/", b"/../etc/passwd", b"/absent", b"/\xff"] {
            assert!(files.find(path).is_err(), "{}", path.escape_ascii());
        }
    }
}
