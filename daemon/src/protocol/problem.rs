//! Error bodies (RFC 9457) and reason phrases (RFC 9110 15).

/// The media type of [`document`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One problem document as a line of JSON: `about:blank`, so that the title is the status's own phrase and
/// `detail` says what was wrong with this request.
#[must_use]
pub fn document(status: u16, detail: &str) -> String {
    let detail = serde_json::Value::from(detail);
    let title = reason(status);
    format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":{detail}}}\n")
}

/// The phrase registered for a status code; `Unassigned` for one this daemon never sends.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
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
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
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
    fn a_document_is_one_line_in_a_fixed_order() {
        assert_eq!(
            document(404, "no such file"),
            "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"no such file\"}\n"
        );
    }

    #[test]
    fn phrases_are_the_registered_ones() {
        assert_eq!(reason(206), "Partial Content");
        assert_eq!(reason(414), "URI Too Long");
        assert_eq!(reason(431), "Request Header Fields Too Large");
        assert_eq!(reason(299), "Unassigned");
    }

    proptest! {
        #[test]
        fn any_detail_survives_a_json_parser(detail in ".*") {
            let text = document(400, &detail);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parsed["detail"].as_str(), Some(detail.as_str()));
            prop_assert_eq!(parsed["status"].as_u64(), Some(400));
            prop_assert_eq!(parsed["title"].as_str(), Some("Bad Request"));
        }
    }
}
