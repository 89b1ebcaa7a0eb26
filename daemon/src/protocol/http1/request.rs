//! The parser that makes requests of received bytes.

pub use crate::protocol::http1::body::Body;
pub use crate::protocol::http1::caller::Caller;
pub use crate::protocol::http1::error::RequestError;
pub use crate::protocol::http1::limits::{FIELDS_MAX, HEAD_BYTES_MAX, TARGET_BYTES_MAX};
pub use crate::protocol::http1::line::Version;
pub use crate::protocol::http1::method::Method;
pub use crate::protocol::http1::read_fields::{Preflight, ReadFields, Wanted};
pub use crate::protocol::http1::signs::Signs;
pub use crate::protocol::http1::write_fields::WriteFields;

use crate::protocol::conditional::Preconditions;
use crate::protocol::http1::authority::Authority;
use crate::protocol::http1::fields::Fields;
use crate::protocol::http1::head;
use crate::protocol::http1::target::{self, Target};
use crate::protocol::name::Name;

/// The parameter that asks for an archive.
const ARCHIVE: &str = "archive=tar";

/// A request whose every field has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The version that the client speaks.
    pub version: Version,
    /// The target as sent, for logs (escape it first).
    pub target: Box<str>,
    /// The file that the target means.
    pub name: Name,
    /// Whether the query asks for the archive of the directory (`archive=tar`), which no file has.
    pub wants_archive: bool,
    /// Whether the connection may outlive the answer.
    pub keep_alive: bool,
    /// The framing of the body that follows the head.
    pub body: Body,
    /// Whether the client waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// The `Range` field, for [`select`](crate::protocol::range::select).
    pub range: Option<Box<[u8]>>,
    /// The `If-Range` field, for [`range_applies`](crate::protocol::conditional::range_applies).
    pub if_range: Option<Box<[u8]>>,
    /// The conditions, for [`evaluate`](crate::protocol::conditional::evaluate).
    pub preconditions: Preconditions,
    /// Whether `Accept` names `application/json`, by its name and with a weight above zero.
    pub accepts_json: bool,
    /// Whether `Accept` names `text/html`, and prefers it to JSON.
    pub prefers_html: bool,
    /// Whether the query asks for a download (`?download`).
    pub is_download: bool,
    /// The signs that somebody else than a program on this host asks.
    pub signs: Signs,
    /// The fields that matter where the settings say so, as far as they were wanted.
    pub read: Option<Box<ReadFields>>,
    /// The names that the client gives itself and its request, if it does.
    pub caller: Option<Box<Caller>>,
    /// The fields that matter to a write; `None` for [reads](Method::is_read), and for no other request.
    pub write: Option<Box<WriteFields>>,
}

impl Request {
    /// Returns the `Want-Repr-Digest` field, its lines joined with `, `, for
    /// [`wanted`](crate::protocol::digest::wanted).
    #[must_use]
    pub fn want_repr_digest(&self) -> Option<&[u8]> {
        self.read.as_ref()?.want_repr_digest.as_deref()
    }
}

/// The result of parsing the bytes received so far.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack for one call; a box would cost each request"
)]
pub enum Progress<'b> {
    /// No fault was found, and more bytes are needed.
    Incomplete,
    /// A whole head has come.
    Complete {
        /// The request.
        request: Request,
        /// The bytes of the buffer that belong to the head; the body or the next request follows.
        head_bytes: usize,
        /// The authority of the request: that of an absolute target (RFC 9112 3.2.2), else that of `Host`. None
        /// where it is the known one, and before HTTP/1.1 where neither is there.
        authority: Option<Authority<'b>>,
    },
}

/// Reads the request head at the start of `buffer`. It is called again, with the buffer from its start, when more
/// bytes have come after [`Progress::Incomplete`]; never more than [`HEAD_BYTES_MAX`] bytes are looked at.
///
/// # Errors
/// [`RequestError`] as soon as no further bytes could mend the head; faults in fields are reported once the head
/// is whole. The connection can't be used for another request then.
pub fn parse(buffer: &[u8]) -> Result<Progress<'_>, RequestError> {
    parse_knowing(buffer, b"", Wanted::default())
}

/// Reads as [`parse`] does, but takes a `Host` of `known_host`, which was read before, without reading it again.
/// Requests that may change something get their authority all the same. Of the [`ReadFields`] those are kept that are
/// `wanted`.
///
/// # Errors
/// As [`parse`].
pub fn parse_knowing<'b>(
    buffer: &'b [u8],
    known_host: &[u8],
    wanted: Wanted,
) -> Result<Progress<'b>, RequestError> {
    let located = head::locate(buffer, |line| line.method.offered().map(drop))?;
    let Some(head) = located else { return Ok(Progress::Incomplete) };
    let (method, version) = (head.line.method.offered()?, head.line.version);
    let target = match (method, head.line.target) {
        (Method::Options, b"*") => Target::ASTERISK,
        (_, target) => target::parse(target)?,
    };
    let name = target.name()?;
    // A client that asks how far an upload came ends the request that writes to it, so even that question may
    // change something.
    let may_change = !method.is_read() || method != Method::Options && name.upload_resource().is_some();
    let mut fields = Fields::parse(head.fields, Some(method), may_change, wanted)?;
    let body = fields.body(version)?;
    let host = fields.check(version, if may_change { b"" } else { known_host })?;
    let authority = target.authority.or(host);
    let request = Request {
        method,
        version,
        target: target.text.into(),
        name,
        wants_archive: target.has_parameter(ARCHIVE),
        keep_alive: fields.keep_alive(version),
        body,
        expects_continue: fields.expects_continue(version),
        range: fields.range(),
        if_range: fields.if_range(),
        preconditions: fields.preconditions(),
        accepts_json: fields.accepted().takes_json(),
        prefers_html: fields.accepted().prefers_html(),
        is_download: target.has_parameter("download"),
        signs: fields.signs(),
        read: fields.read(),
        caller: fields.caller(),
        write: fields.write(authority),
    };
    Ok(Progress::Complete { request, head_bytes: head.bytes, authority })
}

#[cfg(test)]
mod tests;
