//! The errors of the control plane, with their one mapping to a status and an outcome.

use hyper::StatusCode;

use super::body::BodyError;
use super::caller::Caller;
use super::query::QueryError;
use super::target::TargetError;
use crate::job::StreamError;
use crate::protocol::http1;
use crate::protocol::http1::forwarded::ForwardedError;
use crate::telemetry::Outcome;

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The head can't be read.
    #[error(transparent)]
    Head(http1::error::RequestError),
    /// The head didn't come to its end within this time, in milliseconds.
    #[error("the request head was not complete within head_timeout_ms, {0} ms")]
    HeadSilent(u64),
    /// The client ended its direction within a head.
    #[error("the connection ended inside the request head")]
    HeadCutShort,
    /// The query can't be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// There is no Host, there are several, or it is no authority.
    #[error("the Host header {0}")]
    BadHost(&'static str),
    /// More bytes are asked for than allowed.
    #[error("{bytes} bytes are above stream_bytes_max, {stream_bytes_max}")]
    OverLimit { bytes: u64, stream_bytes_max: u64 },
    /// The body of a request can't be dropped.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A web page of another origin asks. Both texts are escaped.
    #[error("Origin \"{origin}\" is not this server, \"{host}\": web pages of other origins are refused")]
    ForeignOrigin { origin: String, host: String },
    /// A web page of another site asks, by what the browser says.
    #[error("Sec-Fetch-Site is cross-site: web pages of other sites are refused")]
    CrossSite,
    /// The Host is a name that an attacker's DNS may have pointed here.
    #[error(
        "without a token, Host {0:?} is refused, since any web page can point its own name at this address: \
         use localhost or the IP address, or set token_file"
    )]
    ForeignHost(String),
    /// A proxy's fields can't be believed.
    #[error(transparent)]
    Forwarded(#[from] ForwardedError),
    /// A proxy on this host asks for somebody who isn't on it.
    #[error(
        "this came by a proxy, for a client that is not on this host (as far as is known, {0}): without a token only \
         programs of this host may ask, so set token_file"
    )]
    Elsewhere(Caller),
    /// There is no token, or a wrong one.
    #[error("the token is missing or wrong: send the header Authorization: Bearer TOKEN")]
    Unauthorized,
    /// There is no such path.
    #[error("no such path: there are /health, /metrics, /stream, /streams and /streams/ID")]
    UnknownPath,
    /// There is no stream of this id.
    #[error("no stream has the id {0:?}; ended streams are forgotten after a while")]
    UnknownStream(String),
    /// The path doesn't have this method.
    #[error("{method} is not offered here, only {allow}")]
    Method { method: String, allow: &'static str },
    /// The stream limit is reached.
    #[error("{0} streams are running, which is streams_max: try again when one has ended")]
    TooManyStreams(usize),
    /// Too many bytes wait for readers already.
    #[error("too many answers wait for their readers (waiting_bytes_max): try again in a moment")]
    NoRoom,
    /// The stream limit of one address is reached.
    #[error(
        "{0} streams of this address are running, which is address_streams_max: try again when one has ended"
    )]
    TooManyStreamsOfAddress(usize),
    /// The target is not allowed, or can't be resolved.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A raw stream names the own data plane, which speaks frames and HTTP.
    #[error("protocol=raw to the own data plane, {0}: it takes frames alone, so leave protocol away")]
    RawToOwnDataPlane(String),
    /// The daemon is about to stop.
    #[error("the daemon is about to stop and starts no streams")]
    Draining,
    /// The system gave no random bytes.
    #[error("no random bytes for an id: {0}")]
    NoRandomness(String),
    /// The stream was started and failed.
    #[error("{error}")]
    Stream { id: String, bytes_sent: u64, error: StreamError },
}

impl ApiError {
    /// Returns the status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Head(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::HeadCutShort
            | Self::Query(_)
            | Self::BadHost(_)
            | Self::Forwarded(_)
            | Self::Body(BodyError::Broken(_))
            | Self::Target(TargetError::NoOwn)
            | Self::RawToOwnDataPlane(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin { .. }
            | Self::CrossSite
            | Self::ForeignHost(_)
            | Self::Elsewhere(_)
            | Self::Target(TargetError::NotAllowed(_)) => StatusCode::FORBIDDEN,
            Self::UnknownPath | Self::UnknownStream(_) => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadSilent(_) | Self::Body(BodyError::Silent(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::OverLimit { .. } | Self::Body(BodyError::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyStreams(_) | Self::TooManyStreamsOfAddress(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRandomness(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Target(TargetError::Unresolved { .. } | TargetError::Unanswered { .. }) => {
                StatusCode::BAD_GATEWAY
            }
            Self::Draining | Self::Target(TargetError::NoLookup(_)) | Self::NoRoom => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Stream { error, .. } => status_of(error),
        }
    }

    /// Whether the rest of the request may still be on its way, so that the connection can't be used again.
    pub(super) fn leaves_body_unread(&self) -> bool {
        matches!(self, Self::Head(_) | Self::HeadCutShort | Self::HeadSilent(_) | Self::Body(_))
    }

    /// Returns the value of `Allow`, only for a 405.
    pub(super) fn allow(&self) -> Option<&'static str> {
        match self {
            Self::Method { allow, .. } => Some(allow),
            // CONNECT and the asterisk have no path, so all methods of the plane are named.
            Self::Head(http1::error::RequestError::MethodNotOffered { .. }) => Some("GET, HEAD, POST"),
            _ => None,
        }
    }

    /// Whether the caller was refused for who or where it is.
    pub(super) fn is_refused_caller(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::ForeignOrigin { .. }
                | Self::CrossSite
                | Self::ForeignHost(_)
                | Self::Elsewhere(_)
        )
    }
}

fn status_of(error: &StreamError) -> StatusCode {
    match error {
        StreamError::NotFound | StreamError::NoRoot => StatusCode::NOT_FOUND,
        StreamError::BeyondEnd { .. } => StatusCode::BAD_REQUEST,
        StreamError::OverLimit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        StreamError::SourceFailed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        StreamError::TargetRefused(_) | StreamError::TargetBrokeOff(_) => StatusCode::BAD_GATEWAY,
        StreamError::TargetSilent(_) | StreamError::TargetSlow => StatusCode::GATEWAY_TIMEOUT,
        StreamError::Evicted => StatusCode::TOO_MANY_REQUESTS,
        // A cancelled stream's client is gone and reads no answer.
        StreamError::Cancelled | StreamError::Unavailable(_) | StreamError::NoLocalPort { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Returns the outcome as which a failed stream is counted.
pub(super) fn outcome_of(error: &StreamError) -> Outcome {
    match error {
        StreamError::NotFound
        | StreamError::NoRoot
        | StreamError::BeyondEnd { .. }
        | StreamError::OverLimit { .. }
        | StreamError::Unavailable(_) => Outcome::Refused,
        StreamError::SourceFailed(_) => Outcome::SourceFailed,
        StreamError::NoLocalPort { .. } => Outcome::NoLocalPort,
        StreamError::TargetRefused(_) | StreamError::TargetBrokeOff(_) => Outcome::PeerClosed,
        StreamError::TargetSilent(_) => Outcome::TimedOut,
        StreamError::TargetSlow => Outcome::TooSlow,
        StreamError::Evicted => Outcome::Evicted,
        StreamError::Cancelled => Outcome::Cancelled,
    }
}
