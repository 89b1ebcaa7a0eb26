//! Response heads, appended to the buffer in which the first body bytes may follow.

use crate::protocol::http1::request::Version;
use crate::protocol::problem::reason;
use crate::protocol::range::ByteRange;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The value of `Server`. It names no version, which would help only somebody who looks for an old one.
const SERVER: &str = "streamd";

/// Whole field lines that many heads have in common, written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldBlock(Box<[u8]>);

impl FieldBlock {
    /// Keeps the fields that `write` writes.
    pub fn of(write: impl FnOnce(&mut ResponseHead<'_>)) -> FieldBlock {
        let mut out = Vec::new();
        write(&mut ResponseHead { out: &mut out });
        FieldBlock(out.into())
    }

    /// Makes the block of `Server` and `Date`, with which every answer begins. `date` is an IMF-fixdate
    /// ([`http_date`](crate::protocol::date::http_date)).
    pub fn of_date(date: &str) -> FieldBlock {
        FieldBlock::of(|head| {
            head.field("Server", SERVER).field("Date", date);
        })
    }

    /// Returns the lines as they will be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A writer of one head, field by field, in the order of the calls. Names are written as given: spell them
/// canonically (`ETag`, `Content-Range`).
#[derive(Debug)]
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ResponseHead<'o> {
    /// Appends the status line and the fields that every answer [begins with](FieldBlock::of_date) to `out`. The
    /// version is always HTTP/1.1, whatever the client speaks (RFC 9110 2.5).
    pub fn new(out: &'o mut Vec<u8>, status: u16, beginning: &FieldBlock) -> Self {
        let mut head = match status {
            // Most answers are a 200, which takes one copy instead of five.
            200 => {
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
                Self { out }
            }
            _ => Self::interim(out, status),
        };
        head.block(beginning);
        head
    }

    /// Appends the status line of an interim answer (RFC 9110 15.2), which holds only fields that can't wait for
    /// the final answer. [`ResponseHead::finish_interim`] ends it.
    pub fn interim(out: &'o mut Vec<u8>, status: u16) -> Self {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Appends a field. Neither name nor value may come from outside unchecked: a line break in it would
    /// forge a field.
    pub fn field(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(!name.contains(['\r', '\n', '\0', ':']) && !value.contains(['\r', '\n', '\0']));
        self.field_bytes(name, value.as_bytes())
    }

    /// Appends a field whose value is known to be visible ASCII.
    pub fn field_bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.begin(name);
        self.out.extend_from_slice(value);
        self.end()
    }

    /// Appends a block of whole fields.
    pub fn block(&mut self, fields: &FieldBlock) -> &mut Self {
        self.out.extend_from_slice(&fields.0);
        self
    }

    /// Appends a field whose value is a number, such as `Content-Length`.
    pub fn field_number(&mut self, name: &str, value: u64) -> &mut Self {
        self.begin(name);
        push_number(self.out, value);
        self.end()
    }

    /// Appends the `Content-Range: bytes FIRST-LAST/SIZE` (RFC 9110 14.4) of a 206 with one range.
    pub fn content_range(&mut self, range: ByteRange, size: u64) -> &mut Self {
        self.begin("Content-Range");
        self.out.extend_from_slice(b"bytes ");
        push_number(self.out, range.start);
        self.out.push(b'-');
        push_number(self.out, range.last());
        self.out.push(b'/');
        push_number(self.out, size);
        self.end()
    }

    /// Appends the `Content-Range: bytes */SIZE` of a 416.
    pub fn content_range_unsatisfied(&mut self, size: u64) -> &mut Self {
        self.begin("Content-Range");
        self.out.extend_from_slice(b"bytes */");
        push_number(self.out, size);
        self.end()
    }

    /// Ends the head. `version` is the request's: only an HTTP/1.0 client has to be told that the connection
    /// stays.
    pub fn finish(&mut self, keep_alive: bool, version: Version) {
        if !keep_alive {
            self.field("Connection", "close");
        } else if version == Version::Http10 {
            self.field("Connection", "keep-alive");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head of an interim answer: the connection stays for the final one.
    pub fn finish_interim(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn begin(&mut self, name: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
    }

    fn end(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"\r\n");
        self
    }
}

/// Appends decimal digits; `write!` would go through the formatting machinery several times per answer.
fn push_number(out: &mut Vec<u8>, number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    let mut left = number;
    loop {
        start -= 1;
        digits[start] = b"0123456789"[(left % 10) as usize];
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn head(status: u16, build: impl FnOnce(&mut ResponseHead<'_>)) -> String {
        let mut out = Vec::new();
        build(&mut ResponseHead::new(&mut out, status, &FieldBlock::of_date(DATE)));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_written_in_order() {
        let text = head(206, |head| {
            head.field("ETag", "\"a\"")
                .field_number("Content-Length", u64::MAX)
                .content_range(ByteRange { start: 0, length: 5 }, 10)
                .finish(true, Version::Http11);
        });
        let expected = "HTTP/1.1 206 Partial Content\r\nServer: streamd\r\n\
                        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                        ETag: \"a\"\r\nContent-Length: 18446744073709551615\r\n\
                        Content-Range: bytes 0-4/10\r\n\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_connection_field_follows_version_and_wish() {
        let table = [
            (true, Version::Http11, ""),
            (true, Version::Http10, "Connection: keep-alive\r\n"),
            (false, Version::Http11, "Connection: close\r\n"),
            (false, Version::Http10, "Connection: close\r\n"),
        ];
        for (keep_alive, version, field) in table {
            let text = head(304, |head| head.finish(keep_alive, version));
            let expected =
                format!("HTTP/1.1 304 Not Modified\r\nServer: streamd\r\nDate: {DATE}\r\n{field}\r\n");
            assert_eq!(text, expected, "{keep_alive} {version}");
        }
    }

    #[test]
    fn an_unsatisfied_range_names_the_size() {
        let text = head(416, |head| {
            head.content_range_unsatisfied(0);
        });
        assert!(text.ends_with("\r\nContent-Range: bytes */0\r\n"), "{text}");
    }

    #[test]
    fn an_interim_head_says_only_what_it_is_for() {
        let mut out = Vec::new();
        let mut head = ResponseHead::interim(&mut out, 104);
        head.field("Location", "/a").field_number("Upload-Draft-Interop-Version", 9).finish_interim();
        let expected = "HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /a\r\n\
                        Upload-Draft-Interop-Version: 9\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        ResponseHead::interim(&mut out, 100).finish_interim();
        assert_eq!(out, CONTINUE);
    }

    #[test]
    fn heads_are_appended() {
        let mut out = b"before".to_vec();
        ResponseHead::new(&mut out, 200, &FieldBlock::of_date(DATE)).finish(true, Version::Http11);
        assert!(out.starts_with(b"beforeHTTP/1.1 200 OK\r\nServer: "));
    }

    proptest! {
        #[test]
        fn numbers_are_decimal(number: u64) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
