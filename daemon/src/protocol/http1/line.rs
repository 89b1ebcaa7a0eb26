//! The request line (RFC 9112 3): three parts, one space between them.

use std::fmt;

use memchr::memchr;

use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::limits::TARGET_BYTES_MAX;
use crate::protocol::http1::method_name::{MethodName, check_spelling};
use crate::protocol::name::escape_for_log;

/// The HTTP version of a request, which decides what its framing may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: one request per connection unless `Connection: keep-alive` says otherwise.
    Http10,
    /// HTTP/1.1 and any later 1.x (RFC 9110 2.5).
    Http11,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        })
    }
}

const VERSION_BYTES: usize = b"HTTP/1.1".len();

/// A request line whose method and version are read; its target is only cut out.
pub(super) struct RequestLine<'b> {
    pub(super) method: MethodName,
    pub(super) target: &'b [u8],
    pub(super) version: Version,
}

impl<'b> RequestLine<'b> {
    /// Reads a whole line, without its CR LF. A version that is not spoken here comes before an unknown
    /// method, so that the `PRI * HTTP/2.0` of an HTTP/2 client is answered with 505.
    pub(super) fn parse(line: &'b [u8]) -> Result<Self, RequestError> {
        let parts = Parts::of(line);
        parts.check()?;
        let (Some(target), Some(version)) = (parts.target, parts.version) else {
            return Err(RequestError::RequestLine { line: escape_for_log(line) });
        };
        let version = parse_version(version)?;
        let method = MethodName::parse(parts.method)?;
        Ok(Self { method, target, version })
    }
}

/// Whether the part of a line that came so far can still become a request line.
pub(super) fn check_beginning(line: &[u8]) -> Result<(), RequestError> {
    Parts::of(line).check()
}

/// Returns method and target of a line in which something may be wrong, as far as they can be read.
pub(super) fn tell(line: &[u8], is_whole: bool) -> (Option<&str>, Option<&[u8]>) {
    let parts = Parts::of(line);
    let is_method = !parts.method.is_empty() && check_spelling(parts.method).is_ok();
    let Some(target) = parts.target.filter(|_| is_method) else { return (None, None) };
    let is_target_whole = is_whole || parts.version.is_some() || target.len() > TARGET_BYTES_MAX;
    let method = std::str::from_utf8(parts.method).ok();
    (method, Some(target).filter(|target| is_target_whole && !target.is_empty()))
}

/// A line, or its beginning, cut at the first two spaces. The last part present may be incomplete.
struct Parts<'b> {
    line: &'b [u8],
    method: &'b [u8],
    target: Option<&'b [u8]>,
    version: Option<&'b [u8]>,
}

impl<'b> Parts<'b> {
    fn of(line: &'b [u8]) -> Self {
        let Some((method, rest)) = split_at_space(line) else {
            return Parts { line, method: line, target: None, version: None };
        };
        match split_at_space(rest) {
            Some((target, version)) => Parts { line, method, target: Some(target), version: Some(version) },
            None => Parts { line, method, target: Some(rest), version: None },
        }
    }

    /// Refuses faults that more bytes can't mend.
    fn check(&self) -> Result<(), RequestError> {
        check_spelling(self.method)?;
        if self.has_gap() {
            return Err(RequestError::RequestLine { line: escape_for_log(self.line) });
        }
        if self.target.is_some_and(|target| target.len() > TARGET_BYTES_MAX) {
            return Err(RequestError::TargetTooLong);
        }
        match self.version {
            Some(version) if version.len() > VERSION_BYTES => parse_version(version).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether a space stands where a method or a target should, which would make the next part look wrong.
    fn has_gap(&self) -> bool {
        let no_method = self.method.is_empty() && self.target.is_some();
        let no_target = self.target.is_some_and(<[u8]>::is_empty) && self.version.is_some();
        no_method || no_target
    }
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr(b' ', bytes)?;
    Some((&bytes[..space], &bytes[space + 1..]))
}

fn parse_version(version: &[u8]) -> Result<Version, RequestError> {
    match version {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9'] => {
            Err(RequestError::VersionUnsupported { version: escape_for_log(version) })
        }
        _ => Err(RequestError::VersionInvalid { version: escape_for_log(version) }),
    }
}
