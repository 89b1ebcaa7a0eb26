//! The query of `POST /stream`, read strictly: a parameter that isn't understood in full is refused by name.

use std::borrow::Cow;

use percent_encoding::{percent_decode_str, percent_encode};

use super::target::TargetName;
use crate::config::bytes;
use crate::job::{Source, TargetProtocol};
use crate::protocol::name::PATH_ESCAPED;

/// A stream as it was asked for.
#[derive(Debug)]
pub(super) struct StreamQuery {
    /// The bytes to send.
    pub(super) source: Source,
    /// The source as answers show it: `synthetic`, or the path.
    pub(super) source_name: String,
    /// The target; None means the own data plane.
    pub(super) target: Option<TargetName>,
    /// The protocol that the target speaks.
    pub(super) protocol: TargetProtocol,
}

/// Why a query is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// The query isn't percent-encoded UTF-8; a path alone may be any bytes.
    #[error("{0:?} is not percent-encoded UTF-8: write % as %25")]
    Encoding(String),
    /// A parameter doesn't exist.
    #[error("unknown parameter {0:?}: there are size, path, offset, length, target and protocol")]
    Unknown(String),
    /// A parameter is there twice.
    #[error("parameter {0} is given more than once")]
    Repeated(&'static str),
    /// The query names nothing to send.
    #[error("size is missing: try POST /stream?size=64MiB, or path=/FILE for a file below the root")]
    SourceMissing,
    /// The query names two things to send.
    #[error(
        "size and path exclude each other: size is for synthetic bytes, offset and length are for a file"
    )]
    SizeWithPath,
    /// The query names a range without a file.
    #[error("{0} needs path: synthetic bytes have no ranges, only size")]
    RangeWithoutPath(&'static str),
    /// A number can't be read.
    #[error("{parameter}: {reason}")]
    Number {
        /// The name of the parameter.
        parameter: &'static str,
        /// The fault of the number.
        reason: String,
    },
    /// The range ends beyond the largest number of 64 bits.
    #[error("offset {offset} and length {length} add up to more than any file can hold")]
    RangeOverflow {
        /// The offset that was asked for.
        offset: u64,
        /// The length that was asked for.
        length: u64,
    },
    /// The path can't be a file's.
    #[error("path: {0}")]
    Path(String),
    /// The target can't be read.
    #[error("target {target:?} {reason}")]
    Target {
        /// The target as given.
        target: String,
        /// The fault of the target.
        reason: &'static str,
    },
    /// The protocol doesn't exist.
    #[error("protocol {0:?} is neither frame nor raw")]
    Protocol(String),
}

impl StreamQuery {
    /// Reads the part of the request target after `?`.
    pub(super) fn parse(query: Option<&str>) -> Result<StreamQuery, QueryError> {
        let parameters = Parameters::read(query.unwrap_or_default())?;
        let target = parameters.target.as_deref().map(parse_target).transpose()?;
        let protocol = parse_protocol(parameters.protocol.as_deref())?;
        let (source, source_name) = parameters.source()?;
        Ok(StreamQuery { source, source_name, target, protocol })
    }

    /// Returns how many bytes are asked for; None for a file up to its end.
    pub(super) fn bytes_requested(&self) -> Option<u64> {
        match &self.source {
            Source::Synthetic { bytes } => Some(*bytes),
            Source::File { length, .. } => *length,
        }
    }
}

/// The parameters of the query, decoded, each at most once.
#[derive(Default)]
struct Parameters {
    size: Option<String>,
    path: Option<Vec<u8>>,
    offset: Option<String>,
    length: Option<String>,
    target: Option<String>,
    protocol: Option<String>,
}

impl Parameters {
    fn read(query: &str) -> Result<Parameters, QueryError> {
        let mut parameters = Parameters::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, bytes) = (decode(name)?, decode_bytes(value)?);
            if name == "path" {
                if parameters.path.replace(bytes).is_some() {
                    return Err(QueryError::Repeated("path"));
                }
                continue;
            }
            let (name, slot) = parameters.slot(&name).ok_or(QueryError::Unknown(name))?;
            if slot.replace(decode(value)?).is_some() {
                return Err(QueryError::Repeated(name));
            }
        }
        Ok(parameters)
    }

    fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Option<String>)> {
        match name {
            "size" => Some(("size", &mut self.size)),
            "offset" => Some(("offset", &mut self.offset)),
            "length" => Some(("length", &mut self.length)),
            "target" => Some(("target", &mut self.target)),
            "protocol" => Some(("protocol", &mut self.protocol)),
            _ => None,
        }
    }

    fn source(self) -> Result<(Source, String), QueryError> {
        match (&self.size, self.path) {
            (Some(_), Some(_)) => Err(QueryError::SizeWithPath),
            (_, None) if self.offset.is_some() => Err(QueryError::RangeWithoutPath("offset")),
            (_, None) if self.length.is_some() => Err(QueryError::RangeWithoutPath("length")),
            (None, None) => Err(QueryError::SourceMissing),
            (Some(size), None) => {
                Ok((Source::Synthetic { bytes: parse_bytes("size", size)? }, "synthetic".to_owned()))
            }
            (None, Some(path)) => {
                let offset = self.offset.map_or(Ok(0), |text| parse_bytes("offset", &text))?;
                let length = self.length.map(|text| parse_bytes("length", &text)).transpose()?;
                file(&path, offset, length)
            }
        }
    }
}

fn file(path: &[u8], offset: u64, length: Option<u64>) -> Result<(Source, String), QueryError> {
    if let Some(length) = length
        && offset.checked_add(length).is_none()
    {
        return Err(QueryError::RangeOverflow { offset, length });
    }
    // Source::file decodes escapes, as those of a request target; the query's own are decoded already, and a name
    // must be decoded once: a % that is left stands for itself.
    let escaped = percent_encode(path, PATH_ESCAPED).to_string();
    let source =
        Source::file(&escaped, offset, length).map_err(|error| QueryError::Path(error.to_string()))?;
    // A path that isn't text is shown as a URL has it.
    Ok((source, std::str::from_utf8(path).map_or(escaped, str::to_owned)))
}

/// Decodes as application/x-www-form-urlencoded does, since that is how clients' query builders encode: `+` is a
/// space.
fn decode(text: &str) -> Result<String, QueryError> {
    String::from_utf8(decode_bytes(text)?).map_err(|_| QueryError::Encoding(text.to_owned()))
}

fn decode_bytes(text: &str) -> Result<Vec<u8>, QueryError> {
    let is_escaped_whole = text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !is_escaped_whole {
        return Err(QueryError::Encoding(text.to_owned()));
    }
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    Ok(percent_decode_str(&spaced).collect())
}

fn parse_bytes(parameter: &'static str, text: &str) -> Result<u64, QueryError> {
    let fault = |reason| QueryError::Number { parameter, reason };
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(fault(format!("{text:?} is no byte count: write bytes (169) or a suffix (64MiB, 1GB)")));
    }
    match bytes::parse(text).map_err(fault)? {
        // The parser saturates where a count with a suffix doesn't fit into 64 bits.
        u64::MAX => Err(fault(format!("{text:?} is more bytes than 64 bits count"))),
        bytes => Ok(bytes),
    }
}

fn parse_target(text: &str) -> Result<TargetName, QueryError> {
    TargetName::parse(text).map_err(|reason| QueryError::Target { target: text.to_owned(), reason })
}

fn parse_protocol(text: Option<&str>) -> Result<TargetProtocol, QueryError> {
    match text {
        None | Some("frame") => Ok(TargetProtocol::Frame),
        Some("raw") => Ok(TargetProtocol::Raw),
        Some(other) => Err(QueryError::Protocol(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{QueryError, StreamQuery};
    use crate::job::{Source, TargetProtocol};

    fn size_of(query: &str) -> u64 {
        match StreamQuery::parse(Some(query)).unwrap().source {
            Source::Synthetic { bytes } => bytes,
            Source::File { .. } => panic!("{query} was read as a file"),
        }
    }

    fn file_of(query: &str) -> (String, u64, Option<u64>) {
        match StreamQuery::parse(Some(query)).unwrap().source {
            Source::File { name, offset, length } => (name.text().into_owned(), offset, length),
            Source::Synthetic { .. } => panic!("{query} was read as synthetic"),
        }
    }

    #[test]
    fn sizes() {
        for (query, bytes) in [
            ("size=169", 169),
            ("size=0", 0),
            ("size=64MiB", 64 << 20),
            ("size=1GB", 1_000_000_000),
            ("s%69ze=1%47B", 1_000_000_000),
            ("&size=10GiB&", 10 << 30),
            ("size=18446744073709551614", u64::MAX - 1),
        ] {
            assert_eq!(size_of(query), bytes, "{query}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused_by_name() {
        for parameter in ["size", "path=/f&offset", "path=/f&length"] {
            for text in [
                "",
                "-1",
                "%2B1",
                "+1",
                "ten",
                "1e3",
                "0x10",
                "NaN",
                "inf",
                ".",
                "99999999999999999999",
                "16EiB",
            ] {
                let query = format!("{parameter}={text}");
                let refused = StreamQuery::parse(Some(&query)).unwrap_err();
                let QueryError::Number { parameter: named, .. } = &refused else {
                    panic!("{query}: {refused}")
                };
                assert!(parameter.ends_with(named), "{query}: {refused}");
            }
        }
    }

    #[test]
    fn paths_are_decoded_once() {
        for (query, name) in [
            ("path=/dir/file", "dir/file"),
            ("path=dir/file", "dir/file"),
            ("path=/dir%2Ffile", "dir/file"),
            ("path=/a%20b", "a b"),
            ("path=/a+b", "a b"),
            ("path=/a%2Bb", "a+b"),
            ("path=/a%2520b", "a%20b"),
            ("path=/100%25", "100%"),
            ("path=/what%3F%23", "what?#"),
            ("path=/%C3%A9", "\u{e9}"),
            ("path=/a%26size=1", "a&size=1"),
            ("path=/a%5Cb", "a\\b"),
            // Names that are no line of text, as Name::text has them.
            ("path=/a%0Ab", "/a%0Ab"),
            ("path=/%FF", "/%FF"),
        ] {
            assert_eq!(file_of(query).0, name, "{query}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(file_of("path=/f"), ("f".to_owned(), 0, None));
        assert_eq!(file_of("path=/f&offset=5&length=1KiB"), ("f".to_owned(), 5, Some(1024)));
        assert_eq!(file_of("length=0&path=/f"), ("f".to_owned(), 0, Some(0)));
        let overflow = StreamQuery::parse(Some("path=/f&offset=2&length=18446744073709551614")).unwrap_err();
        assert_eq!(overflow, QueryError::RangeOverflow { offset: 2, length: u64::MAX - 1 });
    }

    #[test]
    fn the_protocol_is_frame_unless_said_otherwise() {
        for (query, protocol) in [
            ("size=1", TargetProtocol::Frame),
            ("size=1&protocol=frame", TargetProtocol::Frame),
            ("size=1&protocol=raw", TargetProtocol::Raw),
        ] {
            assert_eq!(StreamQuery::parse(Some(query)).unwrap().protocol, protocol, "{query}");
        }
    }

    #[test]
    fn refused_queries() {
        let long = "x".to_owned();
        for (query, expected) in [
            ("", QueryError::SourceMissing),
            ("target=a:1", QueryError::SourceMissing),
            ("size=1&path=/f", QueryError::SizeWithPath),
            ("size=1&offset=1", QueryError::RangeWithoutPath("offset")),
            ("length=1", QueryError::RangeWithoutPath("length")),
            ("size=1&size=1", QueryError::Repeated("size")),
            ("path=/f&path=/g", QueryError::Repeated("path")),
            ("Size=1", QueryError::Unknown("Size".to_owned())),
            ("size=1&x", QueryError::Unknown(long)),
            ("size=1&protocol=RAW", QueryError::Protocol("RAW".to_owned())),
            ("size=1%", QueryError::Encoding("1%".to_owned())),
            ("size=1%4", QueryError::Encoding("1%4".to_owned())),
            ("size=1%zz", QueryError::Encoding("1%zz".to_owned())),
            ("target=%FF", QueryError::Encoding("%FF".to_owned())),
        ] {
            assert_eq!(StreamQuery::parse(Some(query)).unwrap_err(), expected, "{query}");
        }
        assert_eq!(StreamQuery::parse(None).unwrap_err(), QueryError::SourceMissing);
        let refused = StreamQuery::parse(Some("path=/a%00")).unwrap_err();
        assert!(matches!(refused, QueryError::Path(_)), "{refused}");
        let refused = StreamQuery::parse(Some("size=1&target=nowhere")).unwrap_err();
        assert!(matches!(&refused, QueryError::Target { target, .. } if target == "nowhere"), "{refused}");
    }
}
