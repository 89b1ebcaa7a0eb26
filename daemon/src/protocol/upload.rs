//! Resumable uploads (draft-ietf-httpbis-resumable-upload): the step that a request asks for, and the rules of the
//! answer.
//!
//! The code follows the editors' text before -12 (July 2026, interop version 9) and from what they changed in it
//! and soon after it. The newest is -15 of 2026-11-02; its own text has not been compared yet. Sections below are
//! the draft's; "here" marks what it leaves open and this daemon decides.
//!
//! **Fields** (4.1). `Upload-Offset` and `Upload-Length` are integers of structured fields from 0 to
//! [`INTEGER_MAX`], `Upload-Complete` is a boolean. The draft has a field with any other value ignored; here it is
//! 400, as one that repeats is: without it a part would be taken for a whole file. So is `Upload-Incomplete`,
//! which drafts before -02 had instead.
//!
//! **Length** (4.1.3). It is `Upload-Length`, or offset + `Content-Length` with `Upload-Complete: ?1`. All that a
//! client says about it must agree, within a request and across them, or the answer is 400 with
//! [`Kind::InconsistentLength`]. Once it is known no byte past it is taken: the upload is given up and its name
//! answers 404. At completion the offset must be the length, with a chunked body too; if not, the upload stays
//! incomplete and the answer is the same 400.
//!
//! **Creation** (4.2): any request that can have a body, with `Upload-Complete`. Here PUT and POST of a file's
//! name.
//! - If the client [announces](UploadFields::announced) a version that is known here, 104 with `Location` and
//!   `Upload-Limit` before the body is read; it doesn't stand in for a 100 that the client waits for (5). Further
//!   104s may name the `Upload-Offset`. All have `Upload-Draft-Interop-Version` with the version that the client named.
//! - `?1` and the whole body: the answer that the request would have had without the draft, with `Upload-Complete: ?1`.
//! - `?0` and the whole body, which may be all of a length that is known: the same, since nothing is left to send.
//! - `?0` and less than that: 201 with the same `Location`, `Upload-Limit`, `Upload-Complete: ?0`, and here
//!   `Upload-Offset`, which older versions ask for.
//! - A body that breaks off is kept as far as it came, and the upload is not complete.
//!
//! **Offset retrieval** (4.3): HEAD, and GET the same, of the upload's name. 204 with `Upload-Offset`,
//! `Upload-Complete`, `Upload-Length` if it is known, `Upload-Limit` and `Cache-Control: no-store`. The next
//! append must be taken at that offset (4.6), so whoever writes is stopped first, as the draft recommends: a
//! client asks when it has lost its request, and must not while it has one. Here that needs the right to write.
//!
//! **Append** (4.4): PATCH of the upload's name with the media type `application/partial-upload`, `Upload-Offset`
//! and `Upload-Complete`.
//! - Another offset than the upload's: 409 with the right `Upload-Offset`, `Upload-Complete: ?0` and
//!   [`Kind::MismatchingOffset`]; no byte is taken.
//! - The upload is complete: nothing changes. A body makes it 400 with [`Kind::InconsistentLength`]; an empty one with
//!   `?1` may be answered as the completion was, or with 410 and [`Kind::CompletedUpload`].
//! - `?0` and less than a known length: 204 with `Upload-Complete: ?0` and here `Upload-Offset`.
//! - `?1` and the whole body, or all of a known length: the answer that the creation would have had, with
//!   `Upload-Complete: ?1` and here `Upload-Offset`, be it success or failure. The method and the conditions are those
//!   of the creation.
//! - 104s may name the `Upload-Offset`; none has a `Location`.
//!
//! `Upload-Complete` in an answer is the state of the upload that it speaks of (4.1.2): `?1` once all of it was
//! received, whatever came of that, and going on is pointless; `?0` while it may be gone on with. The draft wants
//! it in answers to bodies that were received whole, and takes a missing one in any other for `?0` (4.4). So it is
//! missing where no upload is spoken of: a creation refused before its body, a name that is none, and a request
//! that contradicts itself or may not write, for which no upload was looked up.
//!
//! **Cancellation** (4.5): DELETE of the upload's name. 204; requests that write to it are cut off, and from then
//! on the name answers 404.
//!
//! **Concurrency** (4.6). One writer at a time. The draft recommends that a new request ends the one before; here
//! offset retrieval and cancellation do, and an append does where that one has stalled: while it makes progress an
//! append is 409 with `Upload-Complete: ?0`, so that one which was sent twice can't cut off itself.
//!
//! **Digests** (10). `Repr-Digest` of the creation is that of the whole file; `Content-Digest` that of one
//! request's body, which isn't appended where it differs.
//!
//! An answer of 413 has `Upload-Limit` (4.1.4).

use std::time::Duration;

pub use crate::protocol::upload_fields::{INTEGER_MAX, INTEROP_VERSIONS, UploadFields};

use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Body, Request, WriteFields};
use crate::protocol::problem::Kind;

/// The last version whose appends need no media type.
const UNTYPED_VERSION: u64 = 5;

/// The media type of a body that is appended (draft section 6), and what `Accept-Patch` says in a 415 for any other.
pub const MEDIA_TYPE: &str = "application/partial-upload";

/// The step of a resumable upload that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadStep {
    /// The request reads, removes, or brings a file in the ordinary way.
    Neither,
    /// The request begins an upload.
    Create {
        /// Whether this body is the whole file.
        complete: bool,
        /// The bytes of the whole file, if the request tells.
        length: Option<u64>,
    },
    /// The request continues an upload.
    Append {
        /// The offset of the body in the file.
        offset: u64,
        /// Whether the body's end is the file's.
        complete: bool,
        /// The bytes of the whole file, if the request tells.
        length: Option<u64>,
    },
}

impl UploadStep {
    /// Returns the step that `request` asks for, by its fields and by whether its name is an upload's. Other
    /// reserved names aren't judged here: they are 404.
    ///
    /// # Errors
    /// [`UploadRequestError`] for requests that contradict themselves. The body is not to be taken then.
    pub fn of(request: &Request) -> Result<UploadStep, UploadRequestError> {
        let Some(write) = &request.write else { return Ok(UploadStep::Neither) };
        if request.method != Method::Delete {
            check_kind(request, write)?;
            check_fields(&write.upload)?;
        }
        match (request.method, request.name.upload_resource().is_some()) {
            (Method::Patch, true) => append(write, request.body),
            (Method::Patch, false) => Err(UploadRequestError::PatchOfFile),
            (Method::Put | Method::Post, true) => {
                Err(UploadRequestError::WriteOfUpload { method: request.method })
            }
            (Method::Put | Method::Post, false) => create(write, request.body),
            (Method::Get | Method::Head | Method::Options | Method::Delete, _) => Ok(UploadStep::Neither),
        }
    }
}

/// Why a request contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadRequestError {
    /// The body is a form, as browsers and `curl -F` send it.
    #[error("a form is not taken; send the file itself: curl -T FILE URL, or PUT with the file as its body")]
    Form,
    /// The client speaks tus, the protocol that the draft began with.
    #[error(
        "tus 1.0 is not spoken here; PUT takes a file (curl -T FILE URL), and clients of the IETF's resumable uploads \
         are served (tus-js-client with protocol: 'ietf-draft-05')"
    )]
    Tus,
    /// The request pushes a container image.
    #[error(
        "this is no container registry; push to one, or upload the image as a file: docker save, then curl -T"
    )]
    Registry,
    /// A field has a value that it can't have.
    #[error(
        "{field} has a value that it can't have: numbers are 0 to {INTEGER_MAX}, Upload-Complete is ?0 or ?1"
    )]
    Malformed {
        /// The name of the field.
        field: &'static str,
    },
    /// The client speaks a version of the draft before the first that is known, which may say the opposite of
    /// `Upload-Complete`.
    #[error(
        "this version of resumable uploads is not spoken; send Upload-Complete and Upload-Draft-Interop-Version 5 to 9"
    )]
    Obsolete,
    /// A PATCH names anything but an upload.
    #[error("PATCH goes on with an upload, whose name a creation gives in Location; a file takes PUT")]
    PatchOfFile,
    /// A PUT or POST names an upload.
    #[error("{method} of an upload is not offered; PATCH goes on with it")]
    WriteOfUpload {
        /// The method, PUT or POST.
        method: Method,
    },
    /// An append has another body than [`MEDIA_TYPE`].
    #[error("the Content-Type of what is appended to an upload must be {MEDIA_TYPE}")]
    MediaType,
    /// An append that doesn't say where.
    #[error("there is no Upload-Offset field with a whole number of at most 15 digits")]
    NoOffset,
    /// An append that doesn't say whether it is the last.
    #[error("there is no Upload-Complete field with ?0 or ?1")]
    NoComplete,
    /// An offset is given where an upload begins or is none: the body would be taken for a file's beginning, or
    /// for all of it.
    #[error("Upload-Offset {offset} has no meaning here; an upload begins at 0 and goes on with PATCH")]
    Offset {
        /// The offset as sent.
        offset: u64,
    },
    /// The request describes a part in two ways at once.
    #[error(
        "there are both Content-Range and Upload-Complete or Upload-Offset; a part is described by one of them"
    )]
    ContentRange,
    /// The stated length isn't the one that follows from the body.
    #[error("Upload-Length is {stated}, but this body ends at {end}")]
    InconsistentLength {
        /// The value of `Upload-Length`.
        stated: u64,
        /// The end of the body, or at least its beginning.
        end: u64,
    },
    /// The file would be longer than [`INTEGER_MAX`].
    #[error("an upload of more than {INTEGER_MAX} bytes can't be described by Upload-Offset")]
    TooLong,
}

impl UploadRequestError {
    /// Returns the status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::PatchOfFile | Self::WriteOfUpload { .. } => 405,
            Self::MediaType | Self::Form | Self::Tus => 415,
            Self::Registry => 404,
            Self::TooLong => 413,
            Self::Malformed { .. }
            | Self::Obsolete
            | Self::NoOffset
            | Self::NoComplete
            | Self::Offset { .. }
            | Self::ContentRange
            | Self::InconsistentLength { .. } => 400,
        }
    }

    /// Returns the problem type of the answer.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::InconsistentLength { .. } => Kind::InconsistentLength,
            _ => Kind::AboutBlank,
        }
    }

    /// Returns the value of `Allow`, which differs for a file and for an upload: only for a 405 (RFC 9110 15.5.6).
    #[must_use]
    pub fn allow(&self) -> Option<&'static str> {
        match self {
            Self::PatchOfFile => Some("GET, HEAD, PUT, POST, DELETE, OPTIONS"),
            Self::WriteOfUpload { .. } => Some("GET, HEAD, PATCH, DELETE, OPTIONS"),
            _ => None,
        }
    }
}

/// Refuses requests meant for another kind of server, with a word on what this one takes.
fn check_kind(request: &Request, write: &WriteFields) -> Result<(), UploadRequestError> {
    let name = request.name.as_bytes();
    if write.is_tus {
        return Err(UploadRequestError::Tus);
    }
    // docker and podman push like this (distribution-spec, "Pushing blobs"). A PUT of such a name stores a file.
    if request.method != Method::Put
        && name.starts_with(b"v2/")
        && memchr::memmem::find(name, b"/blobs/uploads").is_some()
    {
        return Err(UploadRequestError::Registry);
    }
    let is_whole = write.upload.complete.is_none() && request.method != Method::Patch;
    let is_form = write.has_content_type("multipart/form-data")
        || request.method == Method::Post && write.has_content_type("application/x-www-form-urlencoded");
    if is_whole && is_form { Err(UploadRequestError::Form) } else { Ok(()) }
}

/// Refuses fields that can't be understood.
fn check_fields(fields: &UploadFields) -> Result<(), UploadRequestError> {
    let is_first = fields.interop_version.is_some_and(|version| version < *INTEROP_VERSIONS.start());
    match fields.malformed {
        _ if fields.is_obsolete || is_first => Err(UploadRequestError::Obsolete),
        Some(field) => Err(UploadRequestError::Malformed { field }),
        None => Ok(()),
    }
}

fn create(write: &WriteFields, body: Body) -> Result<UploadStep, UploadRequestError> {
    let fields = &write.upload;
    let is_ranged = !matches!(write.content_range, Ok(None));
    if is_ranged && (fields.complete.is_some() || fields.offset.is_some()) {
        return Err(UploadRequestError::ContentRange);
    }
    if let Some(offset) = fields.offset.filter(|&offset| offset > 0 || fields.complete.is_none()) {
        return Err(UploadRequestError::Offset { offset });
    }
    let Some(complete) = fields.complete else {
        // The body is all of the file, or a part that tells the file's length.
        match write.content_range {
            Ok(Some(range)) if fields.length.is_some_and(|stated| stated != range.total) => {
                let stated = fields.length.unwrap_or_default();
                return Err(UploadRequestError::InconsistentLength { stated, end: range.total });
            }
            Ok(None) if fields.length.is_some() => length(fields, 0, true, body).map(drop)?,
            _ => {}
        }
        return Ok(UploadStep::Neither);
    };
    Ok(UploadStep::Create { complete, length: length(fields, 0, complete, body)? })
}

fn append(write: &WriteFields, body: Body) -> Result<UploadStep, UploadRequestError> {
    let fields = &write.upload;
    let is_untyped = fields.interop_version == Some(UNTYPED_VERSION) && write.content_type.is_none();
    if !is_untyped && !write.has_content_type(MEDIA_TYPE) {
        return Err(UploadRequestError::MediaType);
    }
    if !matches!(write.content_range, Ok(None)) {
        return Err(UploadRequestError::ContentRange);
    }
    let offset = fields.offset.ok_or(UploadRequestError::NoOffset)?;
    let complete = fields.complete.ok_or(UploadRequestError::NoComplete)?;
    Ok(UploadStep::Append { offset, complete, length: length(fields, offset, complete, body)? })
}

/// Returns the bytes of the whole file, as far as one request tells (draft section 4.1.3).
fn length(
    fields: &UploadFields,
    offset: u64,
    complete: bool,
    body: Body,
) -> Result<Option<u64>, UploadRequestError> {
    let body_bytes = match body {
        Body::None => Some(0),
        Body::Length(length) => Some(length),
        Body::Chunked => None,
    };
    let end = offset.checked_add(body_bytes.unwrap_or(0)).filter(|&end| end <= INTEGER_MAX);
    let end = end.ok_or(UploadRequestError::TooLong)?;
    let is_the_end = complete && body_bytes.is_some();
    match fields.length {
        Some(stated) if stated < end || (is_the_end && stated != end) => {
            Err(UploadRequestError::InconsistentLength { stated, end })
        }
        Some(stated) => Ok(Some(stated)),
        None => Ok(is_the_end.then_some(end)),
    }
}

/// Returns the value of `Upload-Complete` in an answer.
#[must_use]
pub fn complete(complete: bool) -> &'static str {
    if complete { "?1" } else { "?0" }
}

/// Returns the value of `Upload-Limit` in an answer (draft section 4.1.4): the longest upload, in bytes, and how
/// long one that isn't continued is kept.
#[must_use]
pub fn limit(bytes_max: u64, lifetime: Duration) -> String {
    let (bytes, seconds) = (bytes_max.min(INTEGER_MAX), lifetime.as_secs().min(INTEGER_MAX));
    format!("max-size={bytes}, max-age={seconds}")
}

#[cfg(test)]
mod tests;
