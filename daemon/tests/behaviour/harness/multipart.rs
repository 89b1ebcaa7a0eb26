//! A reader of multipart/byteranges bodies (RFC 9110 14.6), which checks their framing byte by byte.

use super::Response;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) content_type: String,
    pub(crate) content_range: String,
    pub(crate) body: Vec<u8>,
}

/// Returns the parts of a 206 with several ranges.
pub(crate) fn parts(response: &Response) -> Vec<Part> {
    let media_type = response.field("Content-Type").unwrap();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter has its line break too, as in nginx.
    let mut rest =
        response.body.strip_prefix(delimiter.as_bytes()).expect("a body that begins with a delimiter");
    let mut parts = Vec::new();
    while rest != b"--\r\n" {
        let part = rest.strip_prefix(b"\r\n").expect("a line break after a delimiter");
        let end = position(part, delimiter.as_bytes());
        parts.push(parse(&part[..end]));
        rest = &part[end + delimiter.len()..];
    }
    parts
}

fn parse(part: &[u8]) -> Part {
    let end = position(part, b"\r\n\r\n");
    let head = std::str::from_utf8(&part[..end]).unwrap();
    let field = |name: &str| {
        let value = head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {name} in {head:?}")).to_owned()
    };
    Part {
        content_type: field("Content-Type"),
        content_range: field("Content-Range"),
        body: part[end + 4..].to_vec(),
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("a delimiter")
}
