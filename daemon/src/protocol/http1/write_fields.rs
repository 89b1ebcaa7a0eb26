//! The header fields that mean something to a method that writes.
//!
//! What is wrong with a value is kept, and not found out here: it is no matter of a request that is refused anyway. Of
//! fields that may not repeat but did, none can be told to be the one that was meant, and either could put the wrong
//! bytes into a file.

use std::fmt;

use crate::protocol::content_range::{ContentRange, ContentRangeError};
use crate::protocol::digest::{self, Digest, DigestError};
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::field::{Once, join, lower_case};
use crate::protocol::name::UploadId;
use crate::protocol::upload_fields::UploadFields;

/// Length of the longest name in [`Found::add`], `upload-draft-interop-version`.
const NAME_BYTES_MAX: usize = 28;

/// What the fields of a PUT, POST, PATCH or DELETE say, besides what those of every request may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFields {
    /// Who asks.
    pub authorization: Option<Credentials>,
    /// Whom it asks: the host alone.
    pub host: Option<Box<[u8]>>,
    /// The web page that asks, where one does.
    pub origin: Option<Box<[u8]>>,
    /// Whether a page of another site asks, by what the browser says (`Sec-Fetch-Site`, Fetch Metadata).
    pub is_cross_site: bool,
    /// Whether a proxy says that it stands in between (RFC 7239, RFC 9110 7.6.3, and what was there before).
    pub is_forwarded: bool,
    /// Which bytes of a file the body is, where it isn't all of them.
    pub content_range: Result<Option<ContentRange>, ContentRangeError>,
    /// The media type of the body.
    pub content_type: Option<Box<[u8]>>,
    /// How the body is coded, where it is.
    pub content_encoding: Option<Box<[u8]>>,
    /// What the whole file must hash to.
    pub repr_digest: Result<Vec<Digest>, DigestError>,
    /// What the body must hash to.
    pub content_digest: Result<Vec<Digest>, DigestError>,
    /// What is asked of a resumable upload.
    pub upload: UploadFields,
    /// `Upload-Id`: which upload a part belongs to that is sent to the file's own name. Ours; each 202 has it.
    pub upload_id: Result<Option<UploadId>, UploadIdError>,
    /// Whether `Tus-Resumable` is there: tus 1.0.
    pub is_tus: bool,
    /// Whether `Content-Length` or `Transfer-Encoding` came. Without either there is no body (RFC 9112 6.3), but a PUT
    /// should not take the silence of an old client for an empty file: 411.
    pub is_framed: bool,
}

impl WriteFields {
    /// Reads them out of all fields of a head.
    pub(super) fn parse(headers: &[httparse::Header<'_>]) -> Result<Self, RequestError> {
        let mut found = Found::default();
        for header in headers {
            found.add(header.name, header.value);
        }
        found.read()
    }

    /// Whether the media type is `expected`, whatever its parameters (RFC 9110 8.3.1).
    #[must_use]
    pub fn has_content_type(&self, expected: &str) -> bool {
        let value = self.content_type.as_deref().unwrap_or_default();
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(expected.as_bytes())
    }
}

/// An `Upload-Id` that is none. Answered with 400: whoever sends one wants that upload to be gone on with, and no
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Upload-Id is not 32 lower-case hexadecimal digits, as an answer had it")]
pub struct UploadIdError;

/// What `Authorization` holds; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Box<[u8]>);

impl Credentials {
    /// The bearer token (RFC 6750 2.1), where that is what was sent; the name of a scheme has no case (RFC 9110 11.1).
    #[must_use]
    pub fn bearer(&self) -> Option<&[u8]> {
        const SCHEME: &[u8] = b"bearer ";
        let (scheme, rest) = self.0.split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then(|| rest.trim_ascii())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(..)")
    }
}

/// Values as they stand in the head.
#[derive(Default)]
struct Found<'b> {
    authorization: Once<'b>,
    origin: Once<'b>,
    content_range: Once<'b>,
    content_type: Once<'b>,
    content_encoding: Option<Vec<u8>>,
    repr_digest: Option<Vec<u8>>,
    content_digest: Option<Vec<u8>>,
    upload_offset: Once<'b>,
    upload_complete: Once<'b>,
    upload_length: Once<'b>,
    interop_version: Once<'b>,
    is_cross_site: bool,
    is_forwarded: bool,
    upload_id: Once<'b>,
    is_obsolete: bool,
    is_tus: bool,
    is_framed: bool,
}

impl<'b> Found<'b> {
    fn add(&mut self, name: &str, value: &'b [u8]) {
        let mut room = [0; NAME_BYTES_MAX];
        let Some(lower_case) = lower_case(name, &mut room) else { return };
        match lower_case {
            b"authorization" => self.authorization.add(value),
            b"origin" => self.origin.add(value),
            b"sec-fetch-site" => self.is_cross_site |= value == b"cross-site",
            b"forwarded" | b"via" | b"x-forwarded-for" | b"x-forwarded-host" | b"x-real-ip" => {
                self.is_forwarded = true;
            }
            b"content-range" => self.content_range.add(value),
            b"content-type" => self.content_type.add(value),
            b"content-encoding" => join(&mut self.content_encoding, value),
            b"repr-digest" => join(&mut self.repr_digest, value),
            b"content-digest" => join(&mut self.content_digest, value),
            b"upload-offset" => self.upload_offset.add(value),
            b"upload-complete" => self.upload_complete.add(value),
            b"upload-length" => self.upload_length.add(value),
            b"upload-draft-interop-version" => self.interop_version.add(value),
            b"upload-incomplete" => self.is_obsolete = true,
            b"tus-resumable" => self.is_tus = true,
            b"upload-id" => self.upload_id.add(value),
            b"content-length" | b"transfer-encoding" => self.is_framed = true,
            _ => {}
        }
    }

    fn read(self) -> Result<WriteFields, RequestError> {
        Ok(WriteFields {
            authorization: self.authorization.single("Authorization")?.map(|value| Credentials(value.into())),
            host: None,
            origin: self.origin.single("Origin")?.map(Box::from),
            is_cross_site: self.is_cross_site,
            is_forwarded: self.is_forwarded,
            content_range: self
                .content_range
                .single("Content-Range")?
                .map_or(Ok(None), |value| ContentRange::parse(value).map(Some)),
            content_type: self.content_type.single("Content-Type")?.map(Box::from),
            content_encoding: self.content_encoding.map(Vec::into_boxed_slice),
            repr_digest: self.repr_digest.map_or(Ok(Vec::new()), |value| digest::parse(&value)),
            content_digest: self.content_digest.map_or(Ok(Vec::new()), |value| digest::parse(&value)),
            upload: UploadFields {
                is_obsolete: self.is_obsolete,
                ..UploadFields::parse(
                    self.upload_offset.single("Upload-Offset")?,
                    self.upload_complete.single("Upload-Complete")?,
                    self.upload_length.single("Upload-Length")?,
                    self.interop_version.single("Upload-Draft-Interop-Version")?,
                )
            },
            upload_id: self.upload_id.single("Upload-Id")?.map_or(Ok(None), parse_id),
            is_tus: self.is_tus,
            is_framed: self.is_framed,
        })
    }
}

fn parse_id(value: &[u8]) -> Result<Option<UploadId>, UploadIdError> {
    let id = std::str::from_utf8(value).ok().and_then(UploadId::parse);
    id.map(Some).ok_or(UploadIdError)
}
