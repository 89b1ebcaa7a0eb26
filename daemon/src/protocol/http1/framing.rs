//! The ends of heads and bodies, by the same rules as [`parse`](crate::protocol::http1::request::parse), for a
//! caller that hands them on to another reader: where one of two readers takes a request that the other refuses,
//! or ends it elsewhere, requests can be smuggled.

use memchr::memchr2;

use crate::protocol::http1::body::Body;
use crate::protocol::http1::chunked::{ChunkError, ChunkedDecoder};
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::fields::Fields;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::method_name::MethodName;
use crate::protocol::http1::read_fields::Wanted;
use crate::protocol::http1::{head, target};

/// A whole head without faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed<'b> {
    /// The bytes of the buffer that belong to the head.
    pub head_bytes: usize,
    /// The end of the request line in the buffer.
    pub line_bytes: usize,
    /// The target as sent.
    pub target: &'b [u8],
    /// The framing of the body that follows.
    pub body: Body,
}

/// Finds the request head at the start of `buffer`; `None` while its end has not come. Fields that matter to
/// uploads alone aren't looked at, and known methods pass whether they are on offer or not.
///
/// # Errors
/// As [`parse`](crate::protocol::http1::request::parse).
pub fn frame(buffer: &[u8]) -> Result<Option<Framed<'_>>, RequestError> {
    let Some(head) = head::locate(buffer, |_| Ok(()))? else { return Ok(None) };
    let (method, version) = (head.line.method, head.line.version);
    let target = match (target::parse(head.line.target), method) {
        (Ok(target), _) => target,
        // CONNECT and OPTIONS have targets of their own (RFC 9112 3.2.3, 3.2.4).
        (Err(_), MethodName::NotOffered(method)) => return Err(RequestError::MethodNotOffered { method }),
        (Err(_), MethodName::Offered(method @ Method::Options)) => {
            return Err(RequestError::MethodNotOffered { method: method.as_str() });
        }
        (Err(error), MethodName::Offered(_)) => return Err(error),
    };
    // Only such paths can be refused.
    if memchr2(b'%', b'\\', target.path).is_some() {
        target.name()?;
    }
    let fields = Fields::parse(head.fields, None, false, Wanted::default())?;
    let body = fields.body(version)?;
    fields.check(version, b"")?;
    let line_bytes = head.bytes - head.fields.len() - b"\r\n".len();
    Ok(Some(Framed { head_bytes: head.bytes, line_bytes, target: head.line.target, body }))
}

/// The rest of a body, followed to its end.
#[derive(Debug, Clone)]
pub enum BodyEnd {
    /// The body has come to its end.
    Reached,
    /// This many bytes of the body are still to come.
    After(u64),
    /// The end of the body is found on the way.
    Chunked(ChunkedDecoder),
}

impl BodyEnd {
    /// Begins with the first byte of a body.
    #[must_use]
    pub fn of(body: Body) -> BodyEnd {
        match body {
            Body::None => BodyEnd::Reached,
            Body::Length(bytes) => BodyEnd::After(bytes),
            Body::Chunked => BodyEnd::Chunked(ChunkedDecoder::new()),
        }
    }

    /// Whether a head comes next.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        matches!(self, BodyEnd::Reached)
    }

    /// Returns how many of the next bytes belong to the body.
    ///
    /// # Errors
    /// [`ChunkError`] where its end can't be found.
    pub fn skip(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        match self {
            BodyEnd::Reached => Ok(0),
            BodyEnd::After(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= here as u64;
                if *left == 0 {
                    *self = BodyEnd::Reached;
                }
                Ok(here)
            }
            BodyEnd::Chunked(decoder) => {
                let (here, is_over) = decoder.skip(bytes)?;
                if is_over {
                    *self = BodyEnd::Reached;
                }
                Ok(here)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_ends_where_it_says() {
        let mut none = BodyEnd::of(Body::None);
        assert!(none.is_reached());
        assert_eq!(none.skip(b"GET").unwrap(), 0);
        let mut of_length = BodyEnd::of(Body::Length(5));
        assert_eq!(of_length.skip(b"abc").unwrap(), 3);
        assert!(!of_length.is_reached());
        assert_eq!(of_length.skip(b"deGET").unwrap(), 2);
        assert!(of_length.is_reached());
        let mut chunked = BodyEnd::of(Body::Chunked);
        assert_eq!(chunked.skip(b"1\r\na\r\n0\r\n").unwrap(), 9);
        assert!(!chunked.is_reached());
        assert_eq!(chunked.skip(b"\r\nGET").unwrap(), 2);
        assert!(chunked.is_reached());
        assert!(BodyEnd::of(Body::Chunked).skip(b"1\n").is_err());
    }

    #[test]
    fn methods_that_are_not_offered_pass() {
        let head = b"OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n";
        let framed = frame(head).unwrap().unwrap();
        assert_eq!((framed.head_bytes, framed.target, framed.body), (head.len(), &b"/a"[..], Body::None));
        assert_eq!(&head[..framed.line_bytes], b"OPTIONS /a HTTP/1.1");
        for line in ["OPTIONS *", "CONNECT a:80"] {
            let error = frame(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap_err();
            assert_eq!(error.status(), 405, "{line}");
        }
    }

    proptest! {
        /// Wherever the body is split, its end is at the same place.
        #[test]
        fn the_end_does_not_depend_on_splits(lengths in prop::collection::vec(0_usize..40, 0..5), cut in 0_usize..200) {
            let mut body: Vec<u8> = Vec::new();
            for length in lengths.iter().filter(|length| **length > 0) {
                body.extend_from_slice(format!("{length:x}\r\n{}\r\n", "x".repeat(*length)).as_bytes());
            }
            body.extend_from_slice(b"0\r\n\r\n");
            for kind in [Body::Length(body.len() as u64), Body::Chunked] {
                let mut end = BodyEnd::of(kind);
                let (first, second) = body.split_at(cut.min(body.len()));
                prop_assert_eq!(end.skip(first).unwrap(), first.len());
                prop_assert_eq!(end.is_reached(), second.is_empty());
                let followed = [second, b"GET / HTTP/1.1\r\n"].concat();
                prop_assert_eq!(end.skip(&followed).unwrap(), second.len());
                prop_assert!(end.is_reached());
            }
        }
    }
}
