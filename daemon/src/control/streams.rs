//! `POST /stream`, and what can be asked about streams.

use std::fmt::Write;
use std::sync::Arc;

use hyper::Uri;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Shared;
use super::body::discard;
use super::error::RequestError;
use super::query::StreamQuery;
use super::registry::{Running, StreamView};
use super::response::{self, Answer};
use super::target::{self, Target};
use crate::config::Live;
use crate::job::{Progress, StreamError, StreamJob, TargetProtocol};
use crate::telemetry::Health;

/// Bytes of an id; 128 random bits don't meet twice.
const ID_BYTES: usize = 16;

/// Runs one stream and answers when it has ended. Dropping the future cancels the stream.
pub(super) async fn run(shared: &Shared, uri: &Uri, body: Incoming) -> Result<Answer, RequestError> {
    let live = shared.live();
    let query = read_query(uri, &live)?;
    discard(body, live.settings.head_timeout_ms).await?;
    if shared.telemetry.health() == Health::Draining {
        return Err(RequestError::Draining);
    }
    let streams_max = live.settings.streams_max;
    // Before the name lookup, which the limit then bounds too.
    let slot = shared.registry.reserve(streams_max).ok_or(RequestError::TooManyStreams(streams_max))?;
    let target = match target::find(query.target.as_ref(), shared.own, &live).await? {
        Target::Own(address) if query.protocol == TargetProtocol::Raw => {
            return Err(RequestError::RawToOwnDataPlane(address.to_string()));
        }
        Target::Own(address) | Target::Other(address) => address,
    };
    // A stream may take hours: the settings that it started with need not stay in memory.
    drop(live);

    let id = random_id()?;
    let progress = Arc::new(Progress::default());
    progress.set_bytes_requested(query.bytes_requested().unwrap_or(0));
    let running = slot.start(id.clone(), query.source_name, target, Arc::clone(&progress));
    let (end, ended) = oneshot::channel();
    let StreamQuery { source, protocol, .. } = query;
    let job = StreamJob { id: id.clone(), source, target, protocol, progress: Arc::clone(&progress), end };
    if let Err(error) = shared.mailboxes.post(job) {
        return Err(fail(running, id, &progress, error));
    }
    match ended.await {
        Ok(Ok(engine)) => done(running, engine),
        Ok(Err(error)) => Err(fail(running, id, &progress, error)),
        // The worker drops its side unanswered only when it ends.
        Err(_) => {
            Err(fail(running, id, &progress, StreamError::Unavailable("the worker ended before the stream")))
        }
    }
}

/// `GET /streams`: those that run and the last that ended, the youngest first.
pub(super) fn list(shared: &Shared) -> Answer {
    response::json(&shared.registry.all())
}

/// `GET /streams/ID`.
pub(super) fn show(shared: &Shared, id: &str) -> Result<Answer, RequestError> {
    let view = shared.registry.find(id).ok_or_else(|| RequestError::UnknownStream(id.to_owned()))?;
    Ok(response::json(&view))
}

fn read_query(uri: &Uri, live: &Live) -> Result<StreamQuery, RequestError> {
    let query = StreamQuery::parse(uri.query())?;
    let stream_bytes_max = live.settings.stream_bytes_max;
    match query.bytes_requested() {
        Some(bytes) if bytes > stream_bytes_max => Err(RequestError::OverLimit { bytes, stream_bytes_max }),
        _ => Ok(query),
    }
}

fn done(running: Running, engine: &'static str) -> Result<Answer, RequestError> {
    #[derive(Serialize)]
    struct Done {
        #[serde(flatten)]
        stream: Option<StreamView>,
        message: &'static str,
    }
    Ok(response::json(&Done { stream: running.end(&Ok(engine)), message: "Data processed successfully" }))
}

fn fail(running: Running, id: String, progress: &Progress, error: StreamError) -> RequestError {
    running.end(&Err(error.clone()));
    RequestError::Stream { id, bytes_sent: progress.bytes_sent(), error }
}

fn random_id() -> Result<String, RequestError> {
    let mut bytes = [0_u8; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| RequestError::NoRandomness(error.to_string()))?;
    Ok(bytes.iter().fold(String::with_capacity(2 * ID_BYTES), |mut id, byte| {
        // Writing to a String can't fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}
