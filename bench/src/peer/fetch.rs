//! Single requests with std's blocking sockets, which show whether a server answers, and whether it answers right.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The time to connect on the loopback interface, and for an answer while a server starts.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// The time without a byte after which a fetch is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest head that is taken, in bytes.
const HEAD_BYTES_MAX: u64 = 16 << 10;

/// The bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// An answer that was fetched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// The bytes from the status line to the empty line.
    pub(super) head_bytes: u64,
    /// The bytes of the body.
    pub(super) body_bytes: u64,
    /// The body's digest.
    pub(super) sha256: [u8; 32],
}

/// Whether a server accepts connections at this address.
pub(super) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, ANSWER_TIME_MAX).is_ok()
}

/// Whether a GET gets an HTTP answer at this address, of whatever status: the root need not hold anything yet.
pub(super) fn answers(address: SocketAddr) -> bool {
    let ask = || -> Result<[u8; 7]> {
        let mut start = [0; 7];
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME_MAX)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.write_all(
            format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        stream.read_exact(&mut start)?;
        Ok(start)
    };
    ask().is_ok_and(|start| &start == b"HTTP/1.")
}

/// Fetches a file by its path below the root, on a connection that is kept alive as those of the load are.
pub(super) fn fetch(address: SocketAddr, name_in_root: &str) -> Result<Fetched> {
    let mut digest = Sha256::new();
    let (head_bytes, body_bytes) = get(address, &format!("/{name_in_root}"), |bytes| {
        digest.update(bytes);
        Ok(())
    })?;
    Ok(Fetched { head_bytes, body_bytes, sha256: digest.finalize().into() })
}

/// Fetches `path` and passes its bytes to `look`, piece by piece. Returns the bytes of head and body.
pub(crate) fn get(
    address: SocketAddr,
    path: &str,
    mut look: impl FnMut(&[u8]) -> Result<()>,
) -> Result<(u64, u64)> {
    let named = || format!("GET {path} from {address}");
    let (head, stream) = ask(address, &format!("GET {path}"), "", &[]).with_context(named)?;
    let length = content_length(&head).with_context(named)?;
    let (mut body_bytes, mut buffer) = (0, vec![0; BUFFER_BYTES]);
    let mut body = stream.take(length);
    loop {
        match body.read(&mut buffer)? {
            0 => break,
            count => {
                look(&buffer[..count])?;
                body_bytes += count as u64;
            }
        }
    }
    Ok((head.len() as u64, body_bytes))
}

/// Uploads a short body; returns the answer's status line.
pub(crate) fn put(address: SocketAddr, path: &str, body: &[u8]) -> Result<String> {
    let fields = format!("Content-Length: {}\r\n", body.len());
    let (head, _) = ask(address, &format!("PUT {path}"), &fields, body)
        .with_context(|| format!("PUT {path} to {address}"))?;
    Ok(status_line(&head).to_owned())
}

/// Asks for an empty file of a name that nothing has yet (RFC 9110, 13.1.2); returns the answer's status line.
pub(crate) fn create(address: SocketAddr, path: &str) -> Result<String> {
    let fields = "If-None-Match: *\r\nContent-Length: 0\r\n";
    let (head, _) = ask(address, &format!("PUT {path}"), fields, &[])
        .with_context(|| format!("PUT {path} to {address}"))?;
    Ok(status_line(&head).to_owned())
}

/// Asks whether there is a file; returns the answer's status line.
pub(crate) fn head(address: SocketAddr, path: &str) -> Result<String> {
    let (head, _) = ask(address, &format!("HEAD {path}"), "", &[])
        .with_context(|| format!("HEAD {path} from {address}"))?;
    Ok(status_line(&head).to_owned())
}

/// Asks for a file's removal; returns the answer's status line.
pub(crate) fn delete(address: SocketAddr, path: &str) -> Result<String> {
    let (head, _) = ask(address, &format!("DELETE {path}"), "", &[])
        .with_context(|| format!("DELETE {path} at {address}"))?;
    Ok(status_line(&head).to_owned())
}

/// Returns the number in a status line; 0 where there is none.
pub(crate) fn status(status_line: &str) -> u16 {
    status_line.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Sends a request; returns the head of its answer, and the stream that brings the rest.
fn ask(
    address: SocketAddr,
    request: &str,
    fields: &str,
    body: &[u8],
) -> Result<(String, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME_MAX)
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    Ok((read_head(&mut stream)?, stream))
}

fn read_head(stream: &mut impl BufRead) -> Result<String> {
    let (mut head, mut stream) = (Vec::new(), stream.take(HEAD_BYTES_MAX));
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            bail!("the answer's head has no end within {} bytes", head.len());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn status_line(head: &str) -> &str {
    head.lines().next().unwrap_or_default()
}

fn content_length(head: &str) -> Result<u64> {
    if status(status_line(head)) != 200 {
        bail!("the answer is {:?} instead of 200", status_line(head));
    }
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let field = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let value = field.and_then(|(_, value)| value.trim().parse().ok());
    value.context("the answer has no Content-Length, so that its body can't be compared")
}

#[cfg(test)]
mod tests {
    use super::{content_length, read_head, status};

    #[test]
    fn the_head_ends_where_the_body_begins() {
        let mut answer = &b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"[..];
        let head = read_head(&mut answer).unwrap();
        assert_eq!(content_length(&head).unwrap(), 4);
        assert_eq!(answer, b"body");
        assert!(read_head(&mut &b"HTTP/1.1 200 OK\r\n"[..]).is_err());
    }

    #[test]
    fn other_answers_are_named() {
        assert!(content_length("HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err().to_string().contains("404"));
        assert!(content_length("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert_eq!((status("HTTP/1.1 405 Not Allowed"), status("nonsense")), (405, 0));
    }
}
