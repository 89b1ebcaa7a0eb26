//! Error bodies (RFC 9457) and reason phrases (RFC 9110 15; 104 as
//! [`upload`](crate::protocol::upload) has it).

use std::borrow::Cow;

use serde_json::Value;

/// The media type of [`document`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// The longest `detail`, in bytes: some sentences, with the parts of the request that they quote. A request may be
/// longer than any answer should be.
pub const DETAIL_BYTES_MAX: usize = 1024;

/// The mark at the place where a text was cut.
const CUT_MARK: &str = "\u{2026}";

/// Cuts a text to `bytes_max`, with a mark where it goes on.
#[must_use]
pub fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mut end = bytes_max.saturating_sub(CUT_MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned([&text[..end], CUT_MARK].concat())
}

/// The kind of problem that a document describes: its `type`, by which a program knows the meaning of its members.
/// All but the first are in the registry at <https://www.iana.org/assignments/http-problem-types>, or on their way
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The problem is what the status says (RFC 9457 4.2.1).
    AboutBlank,
    /// The upload goes on at another offset; the members are `expected-offset` and `provided-offset`
    /// (draft-ietf-httpbis-resumable-upload 7.1).
    MismatchingOffset,
    /// The upload is complete and takes nothing more (draft-ietf-httpbis-resumable-upload 7.2).
    CompletedUpload,
    /// The lengths that a client gave for one upload differ (draft-ietf-httpbis-resumable-upload 7.3).
    InconsistentLength,
    /// A digest can't come from its algorithm; the member is `invalid_digests`
    /// (draft-ietf-httpapi-digest-fields-problem-types-06 3.2).
    InvalidDigest,
    /// The content has another digest than was sent along; the member is `mismatched_digests`
    /// (draft-ietf-httpapi-digest-fields-problem-types-06 3.3). The digest that was computed isn't told, as that
    /// section advises.
    MismatchedDigest,
}

impl Kind {
    /// Returns type and title; about:blank has its title from the status.
    fn registered(self) -> (&'static str, Option<&'static str>) {
        match self {
            Kind::AboutBlank => ("about:blank", None),
            Kind::MismatchingOffset => (
                "https://iana.org/assignments/http-problem-types#mismatching-upload-offset",
                Some("Mismatching Upload Offset"),
            ),
            Kind::CompletedUpload => (
                "https://iana.org/assignments/http-problem-types#completed-upload",
                Some("Upload Is Completed"),
            ),
            Kind::InconsistentLength => (
                "https://iana.org/assignments/http-problem-types#inconsistent-upload-length",
                Some("Inconsistent Upload Length Values"),
            ),
            Kind::InvalidDigest => (
                "https://iana.org/assignments/http-problem-types#digest-invalid-values",
                Some("Invalid Digest Values"),
            ),
            Kind::MismatchedDigest => (
                "https://iana.org/assignments/http-problem-types#digest-mismatched-values",
                Some("Mismatched Digest Values"),
            ),
        }
    }
}

/// Writes a problem document of `kind` as a line of JSON, its extension members (RFC 9457 3.2) last and in their
/// order. Their names must not be those of the four members that every document has.
#[must_use]
pub fn document_of(kind: Kind, status: u16, detail: &str, members: &[(&str, Value)]) -> String {
    let (uri, title) = kind.registered();
    let (title, detail) =
        (title.unwrap_or_else(|| reason(status)), Value::from(shortened(detail, DETAIL_BYTES_MAX)));
    let mut text = format!(r#"{{"type":"{uri}","title":"{title}","status":{status},"detail":{detail}"#);
    for (name, value) in members {
        debug_assert!(!["type", "title", "status", "detail"].contains(name));
        text.push_str(&format!(",{}:{value}", Value::from(*name)));
    }
    text.push_str("}\n");
    text
}

/// Writes a problem document as a line of JSON: `about:blank`, so that the title is the status's own phrase and
/// `detail` says what was wrong with this request.
#[must_use]
pub fn document(status: u16, detail: &str) -> String {
    document_of(Kind::AboutBlank, status, detail, &[])
}

/// Returns the phrase registered for a status code; `Unassigned` for one this daemon never sends.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        104 => "Upload Resumption Supported",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unassigned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_says_so() {
        for (text, bytes_max, shown) in [
            ("", 3, ""),
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc\u{2026}"),
            ("ab\u{fc}defg", 6, "ab\u{2026}"),
            ("\u{fc}\u{fc}\u{fc}\u{fc}", 8, "\u{fc}\u{fc}\u{fc}\u{fc}"),
        ] {
            assert_eq!(shortened(text, bytes_max), shown);
            assert!(shortened(text, bytes_max).len() <= bytes_max);
        }
        let document: Value = serde_json::from_str(&document(404, &"d".repeat(10_000))).unwrap();
        assert_eq!(document["detail"].as_str().unwrap().len(), DETAIL_BYTES_MAX);
    }

    #[test]
    fn a_document_is_one_line_in_a_fixed_order() {
        assert_eq!(
            document(404, "no such file"),
            "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"no such file\"}\n"
        );
    }

    #[test]
    fn a_kind_brings_its_type_title_and_members() {
        let members =
            [("expected-offset", Value::from(12_500_000)), ("provided-offset", Value::from(u64::MAX))];
        assert_eq!(
            document_of(Kind::MismatchingOffset, 409, "go on at 12500000", &members),
            "{\"type\":\"https://iana.org/assignments/http-problem-types#mismatching-upload-offset\",\
             \"title\":\"Mismatching Upload Offset\",\"status\":409,\"detail\":\"go on at 12500000\",\
             \"expected-offset\":12500000,\"provided-offset\":18446744073709551615}\n"
        );
        let kinds = [
            (Kind::CompletedUpload, "completed-upload", "Upload Is Completed"),
            (Kind::InconsistentLength, "inconsistent-upload-length", "Inconsistent Upload Length Values"),
            (Kind::InvalidDigest, "digest-invalid-values", "Invalid Digest Values"),
            (Kind::MismatchedDigest, "digest-mismatched-values", "Mismatched Digest Values"),
        ];
        for (kind, fragment, title) in kinds {
            let document: Value = serde_json::from_str(&document_of(kind, 400, "x", &[])).unwrap();
            let uri = format!("https://iana.org/assignments/http-problem-types#{fragment}");
            assert_eq!((document["type"].as_str(), document["title"].as_str()), (Some(&*uri), Some(title)));
        }
        assert_eq!(document_of(Kind::AboutBlank, 400, "x", &[]), document(400, "x"));
    }

    #[test]
    fn phrases_are_the_registered_ones() {
        assert_eq!(reason(104), "Upload Resumption Supported");
        assert_eq!(reason(206), "Partial Content");
        assert_eq!(reason(414), "URI Too Long");
        assert_eq!(reason(431), "Request Header Fields Too Large");
        assert_eq!(reason(299), "Unassigned");
    }

    proptest! {
        #[test]
        fn any_detail_survives_a_json_parser(detail in ".*") {
            let text = document_of(Kind::AboutBlank, 400, &detail, &[("found", Value::from(detail.as_str()))]);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let parsed: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parsed["detail"].as_str(), Some(detail.as_str()));
            prop_assert_eq!(parsed["found"].as_str(), Some(detail.as_str()));
            prop_assert_eq!(parsed["status"].as_u64(), Some(400));
            prop_assert_eq!(parsed["title"].as_str(), Some("Bad Request"));
        }
    }
}
