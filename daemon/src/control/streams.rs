//! The answers to `POST /stream`, `GET /streams` and `GET /streams/ID`.

use std::sync::Arc;

use hyper::Uri;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::oneshot;

use super::body::discard;
use super::error::ApiError;
use super::head_deadline::InRequest;
use super::pages::{PAGES_BYTES_MAX, StreamPages};
use super::query::StreamQuery;
use super::registry::{Running, Slot, StreamView};
use super::response::{self, Answer};
use super::shared::Shared;
use super::target::{self, Target};
use crate::config::Live;
use crate::job::{StreamError, StreamJob, StreamProgress, TargetProtocol, Unavailable};
use crate::limits::Holder;
use crate::telemetry::Limit;

/// The bytes of an id; 128 random bits don't meet twice.
const ID_BYTES: usize = 16;

/// The caller that asks for a stream.
pub(super) struct StreamCaller<'a> {
    pub(super) holder: Holder,
    pub(super) in_request: &'a InRequest,
}

/// Runs one stream and answers when it has ended. Dropping the future cancels the stream.
pub(super) async fn run(
    shared: &Shared,
    uri: &Uri,
    body: Incoming,
    caller: &StreamCaller<'_>,
) -> Result<Answer, ApiError> {
    let live = shared.live();
    let query = read_query(uri, &live)?;
    discard(body, live.settings.head_timeout_ms).await?;
    if shared.telemetry.is_draining() {
        return Err(ApiError::Draining);
    }
    target::judge(query.target.as_ref(), &shared.own, &live)?;
    // The slot is taken before the name lookup, which the limit then bounds too.
    let slot = reserve(shared, &live, caller)?;
    caller.in_request.begin_work();
    let (target, own_listener) =
        match target::find(query.target.as_ref(), &shared.own, &live, &shared.lookups).await? {
            Target::Own(listener) if query.protocol == TargetProtocol::Raw => {
                return Err(ApiError::RawToOwnDataPlane(listener.address().to_string()));
            }
            Target::Own(listener) => (listener.address(), Some(listener.place)),
            Target::Other(address) => (address, None),
        };
    // A stream may take hours: the settings that it started with need not stay in memory.
    drop(live);

    let id = random_id()?;
    let progress = Arc::new(StreamProgress::default());
    progress.set_bytes_requested(query.bytes_requested().unwrap_or(0));
    let eviction = slot.eviction();
    let running = slot.start(id.clone(), &query.source_name, target, Arc::clone(&progress));
    let (end, mut ended) = oneshot::channel();
    let StreamQuery { source, protocol, .. } = query;
    let job = StreamJob {
        id: id.clone(),
        source,
        target,
        own_listener,
        protocol,
        progress: Arc::clone(&progress),
        end,
    };
    if let Err(error) = shared.mailboxes.post(job) {
        return Err(fail(running, id, &progress, error));
    }
    let ended = tokio::select! {
        biased;
        ended = &mut ended => ended,
        // The end of the receiver cancels the stream, after it was said why.
        () = eviction.due() => {
            progress.evict();
            Ok(Err(StreamError::Evicted))
        }
    };
    match ended {
        Ok(Ok(engine)) => done(running, engine),
        Ok(Err(error)) => Err(fail(running, id, &progress, error)),
        // The worker drops its side unanswered only when it ends.
        Err(_) => Err(fail(running, id, &progress, StreamError::Unavailable(Unavailable::WorkerEnded))),
    }
}

/// Takes a place below the limits of the caller's address and of the node. Where the node is full the slowest
/// stream of an address that has more running makes room.
fn reserve(shared: &Shared, live: &Live, caller: &StreamCaller<'_>) -> Result<Slot, ApiError> {
    let limited = &shared.telemetry.control.limited;
    let of_address = live.settings.address_streams_max;
    let share = shared.shares.streams.take(caller.holder, 1, of_address as u64).ok_or_else(|| {
        limited.add(Limit::AddressStreams, 1);
        ApiError::TooManyStreamsOfAddress(of_address)
    })?;
    let streams_max = shared.descriptors(live).streams_max;
    if shared.registry.is_full(streams_max)
        && let Some(outweighing) = shared.shares.streams.outweighing(caller.holder)
        && shared.registry.evict_slowest(outweighing)
    {
        limited.add(Limit::Streams, 1);
    }
    shared.registry.reserve(streams_max, share).ok_or(ApiError::TooManyStreams(streams_max))
}

/// Answers `GET /streams`: the streams that run and the last that ended, the youngest first.
pub(super) fn list(shared: &Shared) -> Result<Answer, ApiError> {
    let room = shared.reserve(PAGES_BYTES_MAX)?;
    Ok(response::streams(StreamPages::of(Arc::clone(&shared.registry), room)))
}

/// Answers `GET /streams/ID`.
pub(super) fn show(shared: &Shared, id: &str) -> Result<Answer, ApiError> {
    let view = shared.registry.find(id).ok_or_else(|| ApiError::UnknownStream(id.to_owned()))?;
    Ok(response::json(&view))
}

fn read_query(uri: &Uri, live: &Live) -> Result<StreamQuery, ApiError> {
    let query = StreamQuery::parse(uri.query())?;
    let stream_bytes_max = live.settings.stream_bytes_max;
    match query.bytes_requested() {
        Some(bytes) if bytes > stream_bytes_max => Err(ApiError::OverLimit { bytes, stream_bytes_max }),
        _ => Ok(query),
    }
}

fn done(running: Running, engine: &'static str) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Done {
        #[serde(flatten)]
        stream: Option<StreamView>,
        message: &'static str,
    }
    Ok(response::json(&Done { stream: running.end(&Ok(engine)), message: "Data processed successfully" }))
}

fn fail(running: Running, id: String, progress: &StreamProgress, error: StreamError) -> ApiError {
    running.end(&Err(error.clone()));
    ApiError::Stream { id, bytes_sent: progress.bytes_sent(), error }
}

/// Makes an id that no other stream has.
fn random_id() -> Result<String, ApiError> {
    let mut bytes = [0_u8; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::NoRandomness(error.to_string()))?;
    Ok(format!("{:0digits$x}", u128::from_be_bytes(bytes), digits = 2 * ID_BYTES))
}
