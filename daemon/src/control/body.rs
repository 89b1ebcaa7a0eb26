//! Request bodies: no route needs one, so a short one is read and dropped.

use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time;

/// The longest body that is read and dropped, in bytes: enough for what clients send by habit (`curl -d ''`, an
/// empty JSON object), too little to be worth sending at a daemon.
pub(super) const DISCARDED_BYTES_MAX: u64 = 64 * 1024;

/// Why a body could not be dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The body is longer than the limit.
    #[error("the request body is longer than {DISCARDED_BYTES_MAX} bytes; this request needs none")]
    TooLong,
    /// The body didn't come within this time, in milliseconds.
    #[error("the request body did not arrive within head_timeout_ms, {0} ms; this request needs none")]
    Silent(u64),
    /// The body broke off.
    #[error("the request body can't be read: {0}")]
    Broken(String),
}

/// Reads `body` to its end within `timeout_ms` and drops it, so that the connection can take the next request
/// and hyper watches it for the client going away.
pub(super) async fn discard<B>(body: B, timeout_ms: u64) -> Result<(), BodyError>
where
    B: Body<Error: std::fmt::Display>,
{
    if body.size_hint().lower() > DISCARDED_BYTES_MAX {
        return Err(BodyError::TooLong);
    }
    time::timeout(Duration::from_millis(timeout_ms), read_to_end(body))
        .await
        .unwrap_or(Err(BodyError::Silent(timeout_ms)))
}

async fn read_to_end<B>(body: B) -> Result<(), BodyError>
where
    B: Body<Error: std::fmt::Display>,
{
    let mut body = pin!(body);
    let mut discarded: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        discarded += bytes::Buf::remaining(data) as u64;
        if discarded > DISCARDED_BYTES_MAX {
            return Err(BodyError::TooLong);
        }
    }
    Ok(())
}
