//! The PROXY protocol, versions 1 and 2: a header ahead of a connection's first byte, in which a proxy names its
//! client (HAProxy's `doc/proxy-protocol.txt`). Whether it may be believed is the reader's question: anybody can
//! send one.

use std::net::{IpAddr, SocketAddr};

use crate::protocol::detect::PREFIX_BYTES;
use crate::protocol::name::escape_for_log;

/// The longest header of version 1, in bytes, its line break included (2.1).
pub const V1_BYTES_MAX: usize = 107;

/// The longest header of version 2 that is taken, in bytes: nginx's limit. Addresses fill at most 216 bytes, and
/// the rest (names, certificates' subjects) is skipped.
pub const V2_BYTES_MAX: usize = 4096;

const V1_NAME: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 2 before its addresses: signature, command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// Bytes of two addresses and two ports (2.2), or of two paths of UNIX sockets.
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

/// The client that the sender of a header stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The sender itself: it connected of its own accord (`LOCAL`), for instance to check that somebody answers.
    Itself,
    /// A client without a name: `UNKNOWN`, a UNIX socket, or a family that isn't TCP.
    Unnamed,
    /// A client with this address.
    Client(SocketAddr),
}

/// The result of parsing the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProgress {
    /// A header has begun, or may have.
    Incomplete,
    /// The bytes are no header.
    Absent,
    /// A whole header has come.
    Complete {
        /// The client that the header names.
        origin: Origin,
        /// The bytes of the buffer that belong to the header.
        header_bytes: usize,
    },
}

/// Why bytes that begin like a header are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The line has no end within the limit.
    #[error("the PROXY header's line doesn't end within {V1_BYTES_MAX} bytes")]
    LineTooLong,
    /// The line isn't what 2.1 describes. It is escaped.
    #[error(
        "the PROXY header `{line}` is not `PROXY TCP4|TCP6 ADDRESS ADDRESS PORT PORT` or `PROXY UNKNOWN`"
    )]
    Line {
        /// The text of the line.
        line: String,
    },
    /// The first bytes are the signature's and the others aren't.
    #[error("the PROXY header's signature is cut off or changed")]
    Signature,
    /// The command is neither `LOCAL` nor `PROXY`, or of another version.
    #[error("the PROXY header has version and command 0x{0:02x}, and 0x20 and 0x21 are known")]
    Command(u8),
    /// The family is one that the protocol reserves.
    #[error("the PROXY header has the address family and transport 0x{0:02x}, which there isn't")]
    Family(u8),
    /// The header has no room for the addresses of its family.
    #[error("the PROXY header announces {bytes} bytes of addresses, too few for family 0x{family:02x}")]
    TooShort {
        /// The family and the transport.
        family: u8,
        /// The announced bytes of addresses.
        bytes: usize,
    },
    /// The header is longer than the limit.
    #[error("the PROXY header has {0} bytes, and {V2_BYTES_MAX} are taken")]
    TooLong(usize),
}

/// Whether bytes begin a header of either version; `None` while too few have come to decide. No frame begins so,
/// whose byte 7 is 0, and no request: no method is called `PROXY`, and none holds a NUL.
#[must_use]
pub fn begins(bytes: &[u8]) -> Option<bool> {
    let known = &bytes[..bytes.len().min(PREFIX_BYTES)];
    let is_like_v1 = known.iter().zip(V1_NAME).all(|(byte, of_name)| byte == of_name);
    if !is_like_v1 && !V2_SIGNATURE.starts_with(known) {
        return Some(false);
    }
    if known.len() < PREFIX_BYTES {
        return None;
    }
    Some(!is_like_v1 || matches!(&known[V1_NAME.len()..], b"TC" | b"UN"))
}

/// Reads the header at the start of `buffer`. It is called again, with the buffer from its start, when more bytes
/// have come after [`HeaderProgress::Incomplete`].
///
/// # Errors
/// [`ProxyHeaderError`] as soon as no further bytes could mend it.
pub fn parse(buffer: &[u8]) -> Result<HeaderProgress, ProxyHeaderError> {
    match begins(buffer) {
        None => Ok(HeaderProgress::Incomplete),
        Some(false) => Ok(HeaderProgress::Absent),
        Some(true) if buffer.starts_with(V1_NAME) => parse_v1(buffer),
        Some(true) => parse_v2(buffer),
    }
}

fn parse_v1(buffer: &[u8]) -> Result<HeaderProgress, ProxyHeaderError> {
    let window = &buffer[..buffer.len().min(V1_BYTES_MAX)];
    let Some(line_feed) = memchr::memchr(b'\n', window) else {
        let is_over = window.len() == V1_BYTES_MAX;
        return if is_over { Err(ProxyHeaderError::LineTooLong) } else { Ok(HeaderProgress::Incomplete) };
    };
    let line = &window[..line_feed];
    let origin = line.strip_suffix(b"\r").and_then(v1_origin);
    let origin = origin.ok_or_else(|| ProxyHeaderError::Line { line: escape_for_log(line) })?;
    Ok(HeaderProgress::Complete { origin, header_bytes: line_feed + 1 })
}

/// Returns the client that a line without its break names; `None` where it isn't a valid line.
fn v1_origin(line: &[u8]) -> Option<Origin> {
    let rest = line.strip_prefix(V1_NAME)?;
    // Any text behind UNKNOWN has to be ignored (2.1).
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Some(Origin::Unnamed);
    }
    let words: Vec<&str> = std::str::from_utf8(rest).ok()?.split(' ').collect();
    let [family, source, target, source_port, target_port] = words[..] else { return None };
    port(target_port)?;
    let (source, target): (IpAddr, IpAddr) = (source.parse().ok()?, target.parse().ok()?);
    let is_of_family = |address: IpAddr| match family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    let client = SocketAddr::new(source, port(source_port)?);
    (is_of_family(source) && is_of_family(target)).then(|| Origin::Client(canonical(client)))
}

/// Parses digits alone, without leading zeros (2.1): `parse` would take a sign.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    if is_number && !has_leading_zero { text.parse().ok() } else { None }
}

fn parse_v2(buffer: &[u8]) -> Result<HeaderProgress, ProxyHeaderError> {
    let signature = &buffer[..buffer.len().min(V2_SIGNATURE.len())];
    if !V2_SIGNATURE.starts_with(signature) {
        return Err(ProxyHeaderError::Signature);
    }
    let Some(fixed) = buffer.first_chunk::<V2_FIXED_BYTES>() else { return Ok(HeaderProgress::Incomplete) };
    let [.., command, family, length_high, length_low] = *fixed;
    let bytes = usize::from(u16::from_be_bytes([length_high, length_low]));
    let header_bytes = V2_FIXED_BYTES + bytes;
    if header_bytes > V2_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong(header_bytes));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyHeaderError::Command(other)),
    };
    let Some(block) = buffer.get(V2_FIXED_BYTES..header_bytes) else { return Ok(HeaderProgress::Incomplete) };
    // The family of a proxy's own connection means nothing (2.2).
    let origin = if is_local { Origin::Itself } else { v2_origin(family, block)? };
    Ok(HeaderProgress::Complete { origin, header_bytes })
}

fn v2_origin(family: u8, block: &[u8]) -> Result<Origin, ProxyHeaderError> {
    let too_short = ProxyHeaderError::TooShort { family, bytes: block.len() };
    let (needed_bytes, is_tcp) = match family {
        // The header names no client.
        0x00 => (0, false),
        // The families are TCP and UDP over IPv4, over IPv6, and UNIX sockets of two kinds.
        0x11 => (V4_BYTES, true),
        0x12 => (V4_BYTES, false),
        0x21 => (V6_BYTES, true),
        0x22 => (V6_BYTES, false),
        0x31 | 0x32 => (UNIX_BYTES, false),
        other => return Err(ProxyHeaderError::Family(other)),
    };
    if block.len() < needed_bytes {
        return Err(too_short);
    }
    if !is_tcp {
        return Ok(Origin::Unnamed);
    }
    let client = match *block {
        [a, b, c, d, _, _, _, _, port_high, port_low, ..] if family == 0x11 => {
            SocketAddr::from(([a, b, c, d], u16::from_be_bytes([port_high, port_low])))
        }
        _ => {
            let (Some(source), Some(port)) = (block.first_chunk::<16>(), block.get(32..34)) else {
                return Err(too_short);
            };
            SocketAddr::from((*source, u16::from_be_bytes([port[0], port[1]])))
        }
    };
    Ok(Origin::Client(canonical(client)))
}

/// The header of a connection that a proxy makes of its own accord (`LOCAL`, version 2).
pub const LOCAL_HEADER: [u8; V2_FIXED_BYTES] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Turns a mapped address (RFC 4291 2.5.5.2) into the IPv4 address that it holds.
fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

#[cfg(test)]
mod tests;
