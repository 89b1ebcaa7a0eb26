//! Where the body of an upload ends.

use super::super::super::socket::GATHERED_BYTES;
use crate::protocol::http1::chunked::ChunkedDecoder;
use crate::protocol::http1::request::Body;
use crate::protocol::http1::trailers::Trailers;

/// Where a body ends.
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its chunks say.
    Chunked { decoder: ChunkedDecoder, is_whole: bool },
}

impl Framing {
    /// That of a request.
    pub(super) fn of(body: Body) -> Framing {
        match body {
            Body::None => Framing::Length(0),
            Body::Length(length) => Framing::Length(length),
            Body::Chunked => Framing::Chunked { decoder: ChunkedDecoder::new(), is_whole: false },
        }
    }

    /// What came behind it.
    pub(super) fn trailers(&self) -> Trailers {
        match self {
            Framing::Length(_) => Trailers::default(),
            Framing::Chunked { decoder, .. } => Trailers::parse(decoder.trailers()),
        }
    }

    /// Whether it has been reached.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked { is_whole, .. } => *is_whole,
        }
    }

    /// Bytes to ask for: of a body with a length none of the next request's.
    pub(super) fn wanted(&self, room: usize) -> usize {
        match self {
            Framing::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(room),
            Framing::Chunked { .. } => room,
        }
    }

    /// Whether so much is still to come that it may gather. The end of a chunked body can't be foreseen.
    pub(super) fn can_gather(&self) -> bool {
        matches!(self, Framing::Length(left) if *left > u64::from(GATHERED_BYTES))
    }
}
