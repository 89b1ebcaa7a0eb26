//! The header fields that matter to a method that writes.
//!
//! A fault in a value is kept and not reported here: it doesn't matter to a request that is refused anyway. A
//! field that may not repeat but does is refused, since any of its values could be the one that was meant, and
//! another could put the wrong bytes into a file.

use std::fmt;

use crate::protocol::content_range::{ContentRange, ContentRangeError};
use crate::protocol::digest::{self, Digest, DigestError};
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::field::{Once, join, lower_case};
use crate::protocol::http1::signs::Signs;
use crate::protocol::name::UploadId;
use crate::protocol::upload_fields::UploadFields;

/// The length of the longest name in [`Found::add`], `upload-draft-interop-version`, in bytes.
const NAME_BYTES_MAX: usize = 28;

/// The fields of a PUT, POST, PATCH or DELETE, besides those of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFields {
    /// The credentials of the client.
    pub authorization: Option<Credentials>,
    /// The host that the request is for, without the port.
    pub host: Option<Box<[u8]>>,
    /// The origin of the web page that makes the request, if one does.
    pub origin: Option<Box<[u8]>>,
    /// Whether a page of another site makes the request, by what the browser says (`Sec-Fetch-Site`, Fetch
    /// Metadata).
    pub is_cross_site: bool,
    /// Whether a proxy says that it stands in between (RFC 7239, RFC 9110 7.6.3, and older fields).
    pub is_forwarded: bool,
    /// The part of the file that the body is, where it isn't all of it.
    pub content_range: Result<Option<ContentRange>, ContentRangeError>,
    /// The media type of the body.
    pub content_type: Option<Box<[u8]>>,
    /// The coding of the body, if it has one.
    pub content_encoding: Option<Box<[u8]>>,
    /// The digests of the whole file.
    pub repr_digest: Result<Vec<Digest>, DigestError>,
    /// The digests of the body.
    pub content_digest: Result<Vec<Digest>, DigestError>,
    /// The fields of resumable uploads.
    pub upload: UploadFields,
    /// `Upload-Id`, the upload that a part belongs to which is sent to the file's own name. The field is our own;
    /// each 202 has it.
    pub upload_id: Result<Option<UploadId>, UploadIdError>,
    /// Whether `Tus-Resumable` is there, the field of tus 1.0.
    pub is_tus: bool,
    /// Whether `Content-Length` or `Transfer-Encoding` came. Without either there is no body (RFC 9112 6.3), but a
    /// PUT must not take the silence of an old client for an empty file, so it gets 411.
    pub is_framed: bool,
}

impl WriteFields {
    /// Reads the fields out of all fields of a head.
    pub(super) fn parse(headers: &[httparse::Header<'_>]) -> Result<Self, RequestError> {
        let mut found = Found::default();
        for header in headers {
            found.add(header.name, header.value);
        }
        found.read()
    }

    /// Returns the signs that somebody else than a program on this host writes.
    #[must_use]
    pub fn signs(&self) -> Signs {
        let WriteFields { is_cross_site, is_forwarded, .. } = *self;
        Signs { has_origin: self.origin.is_some(), is_cross_site, is_forwarded }
    }

    /// Whether the media type is `expected`, whatever its parameters (RFC 9110 8.3.1).
    #[must_use]
    pub fn has_content_type(&self, expected: &str) -> bool {
        let value = self.content_type.as_deref().unwrap_or_default();
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(expected.as_bytes())
    }
}

/// An `Upload-Id` that is no id. It is answered with 400: a client that sends one wants that upload to be
/// continued, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Upload-Id is not 32 lower-case hexadecimal digits, as an answer had it")]
pub struct UploadIdError;

/// The value of `Authorization`, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Box<[u8]>);

impl Credentials {
    /// Keeps the value of the field.
    pub(super) fn new(value: &[u8]) -> Credentials {
        Credentials(value.into())
    }

    /// Returns the bearer token (RFC 6750 2.1), if the credentials are one; the name of a scheme has no case (RFC
    /// 9110 11.1).
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

/// The values as they stand in the head.
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
            authorization: self.authorization.single("Authorization")?.map(Credentials::new),
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
