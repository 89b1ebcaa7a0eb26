//! The sender of a request, as the proxies in between name it: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends the address that it got the request from, so the entries are read from the end, for as long
//! as the named address is a proxy that is trusted to name its own sender: anybody can have written the entries
//! before. The two fields have to agree. A proxy that writes one of them and passes the other on as it came would
//! let its clients choose who they are.

pub(super) mod error;

use std::net::{IpAddr, SocketAddr};

pub use error::ForwardedError;

use crate::protocol::http1::head;
use crate::protocol::http1::limits::FIELDS_MAX;
use crate::protocol::name::escape_for_log;

/// The sender that the proxies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client, or the farthest proxy where all that are named are trusted; the port is 0 where none is told.
    Client(SocketAddr),
    /// A sender whose address is hidden: `unknown`, or a name that means nothing elsewhere (RFC 7239 6.2, 6.3).
    Unnamed,
}

/// Returns the sender that the head at the start of `buffer` names, if all its fields have come; None where it
/// names none. `is_trusted` tells proxies that may be believed.
///
/// # Errors
/// [`ForwardedError`] where an entry that has to be believed can't be read.
pub fn of_head(buffer: &[u8], is_trusted: impl Fn(IpAddr) -> bool) -> Result<Option<Sender>, ForwardedError> {
    let Some(lines) = head::cut(buffer).fields else { return Ok(None) };
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    // A head that can't be read is refused elsewhere.
    let Ok(httparse::Status::Complete((_, headers))) = httparse::parse_headers(lines, &mut headers) else {
        return Ok(None);
    };
    let of_name = |name: &'static str| {
        let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    };
    of_fields(of_name("forwarded"), of_name("x-forwarded-for"), is_trusted)
}

/// Returns the sender that the values of all `Forwarded` and all `X-Forwarded-For` fields name, each in the order
/// of the head.
///
/// # Errors
/// As [`of_head`].
pub fn of_fields<'f>(
    forwarded: impl DoubleEndedIterator<Item = &'f [u8]>,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'f [u8]>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Result<Option<Sender>, ForwardedError> {
    let by_standard = nearest_stranger(forwarded.rev().flat_map(forwarded_nodes), &is_trusted)?;
    let by_custom = nearest_stranger(x_forwarded_for.rev().flat_map(list_nodes), &is_trusted)?;
    match (by_standard, by_custom) {
        (Some(standard), Some(custom)) => agreed(standard, custom).map(Some).ok_or(ForwardedError::Differ),
        (said, None) | (None, said) => Ok(said),
    }
}

/// Returns the sender that both fields name, with the port where only one has it; None where they differ.
fn agreed(one: Sender, other: Sender) -> Option<Sender> {
    match (one, other) {
        (Sender::Client(first), Sender::Client(second)) if first.ip() == second.ip() => {
            Some(Sender::Client(if first.port() == 0 { second } else { first }))
        }
        (Sender::Unnamed, Sender::Unnamed) => Some(one),
        _ => None,
    }
}

type Node = Result<Sender, ForwardedError>;

/// Returns the first node that isn't a trusted proxy, of nodes from the last to the first.
fn nearest_stranger(
    nodes: impl Iterator<Item = Node>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Result<Option<Sender>, ForwardedError> {
    let mut farthest = None;
    for node in nodes {
        let sender = node?;
        farthest = Some(sender);
        match sender {
            Sender::Client(address) if is_trusted(address.ip()) => {}
            Sender::Client(_) | Sender::Unnamed => break,
        }
    }
    Ok(farthest)
}

/// Returns the entries of one `X-Forwarded-For`, the last first and without empty ones (RFC 9110 5.6.1).
fn list_nodes(value: &[u8]) -> impl Iterator<Item = Node> {
    let entries =
        value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
    entries.map(|entry| {
        let unquoted = entry.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(entry);
        node(unquoted).ok_or_else(|| ForwardedError::Node { node: escape_for_log(entry) })
    })
}

/// Returns the elements of one `Forwarded`, the last first. Quotation marks can be matched only from the front, so
/// all are read.
fn forwarded_nodes(value: &[u8]) -> impl Iterator<Item = Node> {
    let nodes = read_elements(value).map_or_else(
        || vec![Err(ForwardedError::Forwarded { value: escape_for_log(value) })],
        |nodes| nodes.into_iter().map(Ok).collect(),
    );
    nodes.into_iter().rev()
}

/// Reads the elements of one `Forwarded`; `None` where the value isn't what RFC 7239 4 describes.
fn read_elements(value: &[u8]) -> Option<Vec<Sender>> {
    let mut rest = value.trim_ascii();
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let mut named = None;
        loop {
            let (pair, after) = read_pair(rest)?;
            rest = after;
            if let Some((name, text)) = pair
                && name.eq_ignore_ascii_case(b"for")
                && named.replace(node(&text)?).is_some()
            {
                return None;
            }
            match rest.split_first() {
                Some((b';', after)) => rest = after.trim_ascii(),
                Some((b',', after)) => {
                    rest = after.trim_ascii();
                    break;
                }
                Some(_) => return None,
                None => break,
            }
        }
        // A proxy that doesn't name its client hides it.
        nodes.push(named.unwrap_or(Sender::Unnamed));
    }
    Some(nodes)
}

/// A parameter with its name and value, and the text that follows; no pair where nothing stands before a
/// separator.
type Pair<'v> = (Option<(&'v [u8], Vec<u8>)>, &'v [u8]);

fn read_pair(text: &[u8]) -> Option<Pair<'_>> {
    if matches!(text.first(), None | Some(b';' | b',')) {
        return Some((None, text));
    }
    let equals = memchr::memchr(b'=', text)?;
    let (name, rest) = (&text[..equals], &text[equals + 1..]);
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let (value, after) = unquote(quoted)?;
        return Some((Some((name, value)), after.trim_ascii_start()));
    }
    // Addresses with colons belong into quotation marks, and many proxies forget them.
    let end = rest.iter().position(|byte| b";,\"".contains(byte)).unwrap_or(rest.len());
    let value = rest[..end].trim_ascii_end();
    (!value.is_empty()).then(|| (Some((name, value.to_vec())), &rest[end..]))
}

/// Returns the text up to the closing quotation mark (RFC 9110 5.6.4), and the text that follows.
fn unquote(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match *quoted.get(at)? {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => {
                at += 1;
                value.push(*quoted.get(at)?);
            }
            byte => value.push(byte),
        }
        at += 1;
    }
}

/// Reads an address, with a port or without, IPv6 in brackets or not, or a word that stands for one (RFC 7239 6).
fn node(text: &[u8]) -> Option<Sender> {
    let text = std::str::from_utf8(text).ok()?;
    let (name, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_unnamed = |name: &str| name.eq_ignore_ascii_case("unknown") || is_obfuscated(name);
    if is_unnamed(text) || (is_unnamed(name) && is_port(port)) {
        return Some(Sender::Unnamed);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => match text.parse() {
            Ok(address) => address,
            Err(_) => return with_port(name, port),
        },
    };
    Some(Sender::Client(SocketAddr::new(address.to_canonical(), 0)))
}

/// Reads an address, IPv6 in its brackets, with the port behind the colon.
fn with_port(address: &str, port: &str) -> Option<Sender> {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    let port = if is_obfuscated(port) { 0 } else { is_port(port).then(|| port.parse().ok())?? };
    Some(Sender::Client(SocketAddr::new(address.to_canonical(), port)))
}

fn is_port(port: &str) -> bool {
    is_obfuscated(port) || ((1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether the name is an obfuscated identifier (RFC 7239 6.3).
fn is_obfuscated(name: &str) -> bool {
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() > 1 && name.starts_with('_') && name.bytes().all(is_of_one)
}

#[cfg(test)]
mod tests;
