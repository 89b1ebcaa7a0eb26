//! Answers: text, JSON, and problem documents (RFC 9457).

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::error::RequestError;

/// An answer with its whole body.
pub(super) type Answer = Response<Full<Bytes>>;

/// Seconds after which a refused stream may find room.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The content type of problem documents.
const PROBLEM_TYPE: &str = "application/problem+json";

/// A body of this type. No answer may be cached: each tells of this moment.
pub(super) fn body(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `value` as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    body(StatusCode::OK, "application/json", line(value))
}

/// The problem document of `error`, with the headers that its status asks for.
pub(super) fn problem(error: &RequestError) -> Answer {
    let status = error.status();
    let mut response = body(status, PROBLEM_TYPE, line(&Problem::of(error, status)));
    let headers = response.headers_mut();
    add_headers_of_status(headers, status);
    if let RequestError::Method { allow, .. } = error {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if error.leaves_body_unread() {
        make_last(&mut response);
    }
    response
}

/// Tells the client to send nothing more on this connection, and closes it after the answer.
pub(super) fn make_last(response: &mut Answer) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

fn add_headers_of_status(headers: &mut HeaderMap, status: StatusCode) {
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"streamd\""));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        _ => {}
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_sent: Option<u64>,
}

impl Problem<'_> {
    fn of(error: &RequestError, status: StatusCode) -> Problem<'_> {
        let (id, bytes_sent) = match error {
            RequestError::Stream { id, bytes_sent, .. } => (Some(id.as_str()), Some(*bytes_sent)),
            _ => (None, None),
        };
        Problem {
            // RFC 9457 4.2.1: the problem is what the status says, so the title is the status's phrase.
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: error.to_string(),
            id,
            bytes_sent,
        }
    }
}

fn line(value: &impl Serialize) -> String {
    // The values are structs of strings and numbers, which always have a JSON form.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}
