//! Uploads by a client to which anything may happen, and their remains on the disk.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use streamd::config::Settings;

use super::{DEADLINE, Response, settings, wait_until};

/// The bytes of a body that are sent without looking for an answer: fewer than any socket's buffers hold.
const UNWATCHED_BYTES_MAX: usize = 64 << 10;

/// Returns settings of a daemon that takes uploads below `root`, with no reserve.
pub(crate) fn taking_uploads(root: &Path) -> Settings {
    Settings {
        root: Some(root.to_owned()),
        uploads: true,
        min_free_bytes: 0,
        min_free_inodes: 0,
        ..settings()
    }
}

/// Opens a connection to upload on.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes the head of a PUT with further field lines, each ended by CRLF.
pub(crate) fn put_head(path: &str, fields: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

/// Sends a PUT of `body` with its length, on a connection of its own.
pub(crate) fn try_put(address: SocketAddr, path: &str, fields: &str, body: &[u8]) -> Result<Response> {
    let fields = format!("Content-Length: {}\r\n{fields}", body.len());
    exchange(&connect(address)?, put_head(path, &fields).as_bytes(), body)
}

/// Sends a PUT of `body` in chunks, on a connection of its own.
pub(crate) fn try_put_chunked(address: SocketAddr, path: &str, body: &[u8]) -> Result<Response> {
    let mut chunks = Vec::with_capacity(body.len() + body.len() / 1000);
    for chunk in body.chunks(100_000) {
        write!(chunks, "{:x}\r\n", chunk.len())?;
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    exchange(&connect(address)?, put_head(path, "Transfer-Encoding: chunked\r\n").as_bytes(), &chunks)
}

/// Sends a PUT that must be answered.
pub(crate) fn put(address: SocketAddr, path: &str, body: &[u8]) -> Response {
    try_put(address, path, "", body).unwrap()
}

/// Sends a PUT of `body` from `offset` on; all bytes before have come.
pub(crate) fn put_rest(address: SocketAddr, path: &str, body: &[u8], offset: usize) -> Response {
    let range = format!("Content-Range: bytes {offset}-{}/{}\r\n", body.len() - 1, body.len());
    try_put(address, path, &range, &body[offset..]).unwrap()
}

/// Completes an upload of `length` bytes, all of which have come.
pub(crate) fn put_nothing_more(address: SocketAddr, path: &str, length: usize) -> Response {
    try_put(address, path, &format!("Content-Range: bytes */{length}\r\n"), b"").unwrap()
}

/// Returns how much of an upload of `length` bytes has come, asked for by its last byte alone.
pub(crate) fn offset_of(address: SocketAddr, path: &str, length: usize) -> usize {
    let range = format!("Content-Range: bytes {0}-{0}/{length}\r\n", length - 1);
    let mut offset = None;
    // A process that another test starts has a copy of the partial's lock (flock(2)) until it executes its program.
    wait_until("an answer with an offset", || {
        let response = try_put(address, path, &range, b"?").unwrap();
        assert_eq!(response.status, 409, "{}", response.text());
        offset = response.field("Upload-Offset").map(|offset| offset.parse().unwrap());
        offset.is_some()
    });
    offset.unwrap()
}

/// Sends a whole request and receives its final answer, which may come before the last byte is sent.
pub(crate) fn exchange(stream: &TcpStream, head: &[u8], body: &[u8]) -> Result<Response> {
    let mut writer = stream;
    writer.write_all(head)?;
    if body.len() <= UNWATCHED_BYTES_MAX {
        // The request may have been refused; then the answer can be read.
        let _ = writer.write_all(body);
        return read_response(stream);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| (&*stream).write_all(body));
        let response = read_response(stream);
        // Whatever answer came, the rest of the body doesn't matter any more.
        let _ = stream.shutdown(Shutdown::Both);
        response
    })
}

/// Receives the final answer of a request.
pub(crate) fn read_response(mut stream: &TcpStream) -> Result<Response> {
    loop {
        let mut response = read_head(stream)?;
        if let Some(length) = response.field("Content-Length") {
            response.body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut response.body)?;
        }
        if response.status >= 200 {
            return Ok(response);
        }
    }
}

fn read_head(mut stream: &TcpStream) -> Result<Response> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, String::from_utf8_lossy(&head))),
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Response { status, fields: lines.map(|line| field(line).unwrap()).collect(), body: Vec::new() })
}

/// Ends a connection as a peer that crashed does: by a reset.
pub(crate) fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    // Closing with SO_LINGER at 0 resets (tcp(7), socket(7)).
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

/// Returns the partials below a root, by the names of their files: 32 hexadecimal digits.
pub(crate) fn partials(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root.join(".streamd-uploads")) else { return Vec::new() };
    let paths = entries.map_while(Result::ok).map(|entry| entry.path());
    paths.filter(|path| path.file_name().is_some_and(|name| name.len() == 32)).collect()
}

/// Returns how many bytes the longest partial has: blocks allocated ahead don't count.
pub(crate) fn longest_partial(root: &Path) -> usize {
    // A partial that is published meanwhile has no length.
    let lengths = partials(root).into_iter().filter_map(|path| std::fs::metadata(path).ok());
    lengths.map(|metadata| usize::try_from(metadata.len()).unwrap()).max().unwrap_or(0)
}
