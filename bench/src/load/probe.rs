//! The length of a file, as the server says it before the clock runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The time without a byte after which the check gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest answer head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Returns the length that the server promises for `path`.
pub fn probe_length(address: SocketAddr, path: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.write_all(
        format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut received = Vec::new();
    let head_end = receive_head(&mut stream, &mut received)?;
    let head = String::from_utf8_lossy(&received[..head_end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or("no answer");
    if !status.starts_with("HTTP/1.1 200 ") {
        bail!("{address}{path}: {status}");
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length
        .and_then(|(_, value)| value.trim().parse().ok())
        .with_context(|| format!("{address}{path}: an answer without Content-Length"))
}

fn receive_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<usize> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(at + 4);
        }
        if received.len() > HEAD_BYTES_MAX {
            bail!("an answer head longer than 16 KiB");
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            bail!("the connection was closed inside the answer's head");
        }
        received.extend_from_slice(&buffer[..count]);
    }
}
