//! `multipart/byteranges` (RFC 9110 14.6): the body of a 206 with several ranges, planned before a byte is
//! sent, so that its length is known and the file's bytes never pass through a buffer.

use crate::protocol::range::ByteRange;

/// A piece of the body, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Delimiters and part headers.
    Text(Vec<u8>),
    /// Bytes of the file.
    File(ByteRange),
}

/// The planned body of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    /// The text that separates the parts, without its dashes.
    pub boundary: String,
    /// The segments, text and file in turn, beginning and ending with text.
    pub segments: Vec<Segment>,
    /// The bytes of all segments together.
    pub content_length: u64,
}

impl Multipart {
    /// Returns the `Content-Type` of the answer; each part carries the file's own.
    #[must_use]
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }
}

/// Lays out the ranges of a file of `size` bytes, in their order. `None` only if the lengths add up to more
/// than 2^64 - 1 bytes.
///
/// The first delimiter has a line break before it as well, as nginx writes it: RFC 2046 5.1.1 lets it be left out, and
/// zsync doesn't find a delimiter without one.
///
/// The boundary must be 1 to 70 letters and digits (RFC 2046 5.1.1) that nobody can have put into the file:
/// random, a new one for each answer.
#[must_use]
pub fn plan(ranges: &[ByteRange], size: u64, content_type: &str, boundary: String) -> Option<Multipart> {
    debug_assert!((1..=70).contains(&boundary.len()) && boundary.bytes().all(|b| b.is_ascii_alphanumeric()));
    let mut segments = Vec::with_capacity(2 * ranges.len() + 1);
    let mut content_length: u64 = 0;
    for range in ranges {
        let (start, last) = (range.start, range.last());
        let header = format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\
             Content-Range: bytes {start}-{last}/{size}\r\n\r\n"
        );
        content_length = content_length.checked_add(header.len() as u64)?.checked_add(range.length)?;
        segments.push(Segment::Text(header.into_bytes()));
        segments.push(Segment::File(*range));
    }
    let close = format!("\r\n--{boundary}--\r\n");
    content_length = content_length.checked_add(close.len() as u64)?;
    segments.push(Segment::Text(close.into_bytes()));
    Some(Multipart { boundary, segments, content_length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the body as a client would get it.
    fn render(multipart: &Multipart, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for segment in &multipart.segments {
            match segment {
                Segment::Text(text) => body.extend_from_slice(text),
                Segment::File(range) => {
                    let start = usize::try_from(range.start).unwrap();
                    body.extend_from_slice(&file[start..start + usize::try_from(range.length).unwrap()]);
                }
            }
        }
        body
    }

    #[test]
    fn the_body_is_spelled_as_in_the_rfc() {
        let ranges = [ByteRange { start: 7, length: 2 }, ByteRange { start: 0, length: 1 }];
        let multipart = plan(&ranges, 10, "text/plain", "B0".into()).unwrap();
        let expected = "\r\n--B0\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-8/10\r\n\r\n78\
                        \r\n--B0\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n0\
                        \r\n--B0--\r\n";
        assert_eq!(String::from_utf8(render(&multipart, b"0123456789")).unwrap(), expected);
        assert_eq!(multipart.content_length, expected.len() as u64);
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=B0");
    }

    #[test]
    fn a_length_past_64_bits_is_no_plan() {
        let huge = ByteRange { start: 0, length: u64::MAX - 100 };
        assert_eq!(plan(&[huge, huge], u64::MAX, "text/plain", "B0".into()), None);
        assert_eq!(
            plan(&[ByteRange { start: 0, length: u64::MAX }], u64::MAX, "text/plain", "B0".into()),
            None
        );
    }

    proptest! {
        #[test]
        fn the_length_is_that_of_the_segments(
            ranges in prop::collection::vec((0..1000u64, 1..1000u64), 1..17),
            content_type in "[a-z]{1,9}/[a-z]{1,9}",
            boundary in "[0-9a-z]{1,70}",
        ) {
            let ranges: Vec<_> =
                ranges.into_iter().map(|(start, length)| ByteRange { start, length }).collect();
            let file = vec![b'x'; 2000];
            let multipart = plan(&ranges, 2000, &content_type, boundary).unwrap();
            prop_assert_eq!(multipart.content_length, render(&multipart, &file).len() as u64);
            prop_assert_eq!(multipart.segments.len(), 2 * ranges.len() + 1);
            let sent: Vec<ByteRange> = multipart.segments.iter()
                .filter_map(|segment| match segment {
                    Segment::File(range) => Some(*range),
                    Segment::Text(_) => None,
                })
                .collect();
            prop_assert_eq!(sent, ranges);
        }
    }
}
