//! The framing of request bodies.

/// The framing of a request's body. The body of a GET or HEAD is dropped, but the next request begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is no body, or one of length 0.
    None,
    /// The body has this many bytes, at least 1.
    Length(u64),
    /// The body is chunked, see [`ChunkedDecoder`](crate::protocol::http1::chunked::ChunkedDecoder).
    Chunked,
}
