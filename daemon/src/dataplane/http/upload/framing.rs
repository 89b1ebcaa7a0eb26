//! Tells where the body of an upload ends.

use super::super::super::socket::GATHERED_BYTES;
use crate::protocol::http1::chunked::ChunkedDecoder;
use crate::protocol::http1::request::Body;
use crate::protocol::http1::trailers::Trailers;

/// The place where a body ends.
pub(super) enum Framing {
    /// It ends after so many bytes more.
    Length(u64),
    /// It ends where its chunks say.
    Chunked { decoder: ChunkedDecoder, is_whole: bool },
}

impl Framing {
    /// The framing of a request's body.
    pub(super) fn of(body: Body) -> Framing {
        match body {
            Body::None => Framing::Length(0),
            Body::Length(length) => Framing::Length(length),
            Body::Chunked => Framing::Chunked { decoder: ChunkedDecoder::new(), is_whole: false },
        }
    }

    /// The trailers that came behind the body.
    pub(super) fn trailers(&self) -> Trailers {
        match self {
            Framing::Length(_) => Trailers::default(),
            Framing::Chunked { decoder, .. } => Trailers::parse(decoder.trailers()),
        }
    }

    /// Whether the end has been reached.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked { is_whole, .. } => *is_whole,
        }
    }

    /// How many bytes to ask for. Where the body has a length none of the next request's are asked for.
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

#[cfg(test)]
mod tests {
    use super::{Body, Framing, GATHERED_BYTES};

    #[test]
    fn a_body_of_known_length_asks_for_no_byte_behind_it() {
        let framing = Framing::of(Body::Length(10));
        assert_eq!((framing.wanted(4), framing.wanted(100)), (4, 10));
        assert!(!framing.is_whole());
        assert!(Framing::of(Body::None).is_whole());
        assert_eq!(Framing::of(Body::Chunked).wanted(100), 100);
    }

    #[test]
    fn only_what_is_long_enough_gathers() {
        let gathered = u64::from(GATHERED_BYTES);
        assert!(!Framing::of(Body::Length(gathered)).can_gather());
        assert!(Framing::of(Body::Length(gathered + 1)).can_gather());
        assert!(!Framing::of(Body::Chunked).can_gather());
    }
}
