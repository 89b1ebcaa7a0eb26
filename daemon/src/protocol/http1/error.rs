//! Refusals of requests. After each of these the connection is closed: where the next request would begin is
//! either unknown or not worth trusting.

use crate::protocol::http1::forwarded::error::ForwardedError;
use crate::protocol::http1::limits::{FIELDS_MAX, HEAD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::protocol::http1::method::Method;
use crate::protocol::name::NameError;

/// Why a request gets an error instead of a file. Quoted parts of it are escaped for logs and cut after 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's text says what it is and what its one field quotes")]
pub enum RequestError {
    #[error("the head holds a line feed without a carriage return; lines end in CR LF")]
    BareLineFeed,
    #[error("the head holds a carriage return without a line feed; lines end in CR LF")]
    BareCarriageReturn,
    #[error("the head holds a NUL byte")]
    Nul,
    #[error(
        "this connection begins with a PROXY protocol header, which is taken on the data port alone, from \
         trusted_proxies alone, and where proxy_protocol says so"
    )]
    ProxyHeader,
    #[error("the head is over {HEAD_BYTES_MAX} bytes; send fewer or shorter fields (cookies?)")]
    HeadTooLong,

    #[error("the request line `{line}` is not `METHOD TARGET HTTP/1.1` with single spaces")]
    RequestLine { line: String },
    #[error("the method `{method}` is no token: HTTP methods are letters such as GET")]
    MethodInvalid { method: String },
    #[error("the method `{method}` is unknown here")]
    MethodUnknown { method: String },
    #[error("the method {method} is not offered here; the Allow field names those that are")]
    MethodNotOffered { method: &'static str },
    #[error("the method {method} is not offered here; the Allow field names those that are")]
    UploadsOff { method: &'static str },
    #[error("the version `{version}` is not of the form `HTTP/1.1`, in capitals and with nothing after it")]
    VersionInvalid { version: String },
    #[error("the version `{version}` is not spoken here; send HTTP/1.1 or HTTP/1.0")]
    VersionUnsupported { version: String },

    #[error("the request target is over {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    #[error(
        "the request target `{target}` is neither a path that begins with `/` nor an http:// or https:// URL"
    )]
    TargetForm { target: String },
    #[error(
        "the request target `{target}` holds a character that no target can, or is not UTF-8; percent-encode such bytes"
    )]
    TargetBytes { target: String },
    #[error(
        "the request target `{target}` holds a fragment; what follows `#` is the client's own, do not send it"
    )]
    TargetFragment { target: String },
    #[error("the request target names the host `{authority}`, which is not `HOST` or `HOST:PORT`")]
    TargetAuthority { authority: String },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Forwarded(#[from] ForwardedError),

    #[error("the head has more than {FIELDS_MAX} fields")]
    TooManyFields,
    #[error("a line of the head begins with white space; a field takes one line (RFC 9112 5.2)")]
    FoldedLine,
    #[error("the line `{line}` is no field: it takes a name, a colon right after it, and a value")]
    FieldName { line: String },
    #[error("the field `{line}` holds a control character")]
    FieldValue { line: String },

    #[error("there is more than one {name} field, and they need not agree")]
    FieldRepeated { name: &'static str },

    #[error("there is no Host field, which HTTP/1.1 requires")]
    HostMissing,
    #[error("there is more than one Host field")]
    HostRepeated,
    #[error("the Host field `{host}` is not `HOST` or `HOST:PORT`")]
    HostInvalid { host: String },
    #[error("requests for the host `{host}` are not answered here; hosts_allowed lists those that are")]
    HostNotAllowed { host: String },
    #[error("there are both Content-Length and Transfer-Encoding, so the body's end is ambiguous")]
    LengthAndEncoding,
    #[error("there is more than one Content-Length field")]
    LengthRepeated,
    #[error("the Content-Length `{value}` is not one decimal number below 2^63")]
    LengthInvalid { value: String },
    #[error("there is a Transfer-Encoding field, which HTTP/1.0 does not have")]
    EncodingOnHttp10,
    #[error("the Transfer-Encoding `{value}` is not supported; only a single `chunked` is")]
    EncodingUnsupported { value: String },
    #[error("the expectation `{value}` cannot be met; only `100-continue` can")]
    Expectation { value: String },
}

impl RequestError {
    /// Returns the status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::MethodNotOffered { .. } | Self::UploadsOff { .. } => 405,
            Self::TargetTooLong => 414,
            Self::Expectation { .. } => 417,
            Self::HostNotAllowed { .. } => 421,
            Self::HeadTooLong | Self::TooManyFields => 431,
            Self::MethodUnknown { .. } | Self::EncodingUnsupported { .. } => 501,
            Self::VersionUnsupported { .. } => 505,
            Self::BareLineFeed
            | Self::BareCarriageReturn
            | Self::Nul
            | Self::ProxyHeader
            | Self::Forwarded(_)
            | Self::RequestLine { .. }
            | Self::MethodInvalid { .. }
            | Self::VersionInvalid { .. }
            | Self::TargetForm { .. }
            | Self::TargetBytes { .. }
            | Self::TargetFragment { .. }
            | Self::TargetAuthority { .. }
            | Self::Name(_)
            | Self::FoldedLine
            | Self::FieldName { .. }
            | Self::FieldValue { .. }
            | Self::FieldRepeated { .. }
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid { .. }
            | Self::LengthAndEncoding
            | Self::LengthRepeated
            | Self::LengthInvalid { .. }
            | Self::EncodingOnHttp10 => 400,
        }
    }

    /// Returns the value of `Allow`, by whether uploads are on: only for a 405 (RFC 9110 15.5.6).
    #[must_use]
    pub fn allow(&self, uploads: bool) -> Option<&'static str> {
        match self {
            Self::MethodNotOffered { .. } => Some(Method::allowed(uploads)),
            Self::UploadsOff { .. } => Some(Method::allowed(false)),
            _ => None,
        }
    }
}
