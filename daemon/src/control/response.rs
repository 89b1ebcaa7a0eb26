//! Answers: text, JSON, and problem documents (RFC 9457).

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::ext::ReasonPhrase;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::error::ApiError;
use super::pages::StreamPages;
use crate::protocol::problem::{CONTENT_TYPE as PROBLEM_TYPE, DETAIL_BYTES_MAX, reason, shortened};

/// An answer, with its whole body or with one that is written as it is read.
pub(super) type Answer = Response<Either<Full<Bytes>, StreamPages>>;

/// The media type of answers that aren't text.
const JSON: &str = "application/json";

/// The seconds after which a refused stream may find room.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Makes an answer with a body of this type. No answer may be cached: each tells of this moment.
pub(super) fn body(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    with_body(status, content_type, Either::Left(Full::new(text.into())))
}

/// Makes an answer of a list of streams, as JSON, with its length where it is one page.
pub(super) fn streams(pages: Either<Bytes, StreamPages>) -> Answer {
    match pages {
        Either::Left(page) => body(StatusCode::OK, JSON, page),
        Either::Right(pages) => with_body(StatusCode::OK, JSON, Either::Right(pages)),
    }
}

fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: Either<Full<Bytes>, StreamPages>,
) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Makes an answer of `value` as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    body(StatusCode::OK, JSON, line(value))
}

/// Makes the problem document of `error`, with the headers that its status asks for.
pub(super) fn problem(error: &ApiError) -> Answer {
    let status = error.status();
    let mut response = body(status, PROBLEM_TYPE, line(&Problem::of(error, status)));
    // hyper has another phrase for some statuses.
    response.extensions_mut().insert(ReasonPhrase::from_static(reason(status.as_u16()).as_bytes()));
    let headers = response.headers_mut();
    add_headers_of_status(headers, status);
    if let Some(allow) = error.allow() {
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
    fn of(error: &ApiError, status: StatusCode) -> Problem<'_> {
        let (id, bytes_sent) = match error {
            ApiError::Stream { id, bytes_sent, .. } => (Some(id.as_str()), Some(*bytes_sent)),
            _ => (None, None),
        };
        Problem {
            // The problem is what the status says, so the title is the status's phrase (RFC 9457 4.2.1).
            r#type: "about:blank",
            title: reason(status.as_u16()),
            status: status.as_u16(),
            detail: match shortened(&error.to_string(), DETAIL_BYTES_MAX) {
                Cow::Borrowed(whole) => whole.to_owned(),
                Cow::Owned(cut) => cut,
            },
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
