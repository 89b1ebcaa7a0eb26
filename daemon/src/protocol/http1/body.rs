//! How the body of a request is framed.

/// The body that a request brings along. Nobody wants that of a GET or HEAD, but the next request begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// None, or one of length 0.
    None,
    /// This many bytes, at least 1.
    Length(u64),
    /// See [`ChunkedDecoder`](crate::protocol::http1::chunked::ChunkedDecoder).
    Chunked,
}
