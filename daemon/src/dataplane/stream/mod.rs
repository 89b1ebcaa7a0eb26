//! Streams that the control plane asks for: this worker is the client, the target takes a frame or bare bytes.

mod idle;
mod target;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::account::{Access, Tally};
use super::engine::{self, Asker, Transfer, UNCORKED_BYTES_MAX};
use super::error::{PeerGone, TransferError};
use super::http::find;
use super::registry::{Connection, Registered};
use super::worker::Worker;
use crate::files::{FileError, Found, SourceFile};
use crate::job::{JobEnd, Source, StreamError, StreamJob, TargetProtocol};
use crate::protocol::frame::encode_header;
use crate::protocol::name::Name;
use crate::protocol::range::ByteRange;

pub(super) use idle::IdleTargets;

/// Runs the jobs that come through the mailbox, side by side, until it closes or the worker drains.
pub(super) async fn take_jobs(worker: Rc<Worker>, mut jobs: mpsc::Receiver<StreamJob>) {
    while let Some(job) = jobs.recv().await {
        if worker.is_draining() {
            let _ = job.end.send(Err(StreamError::Unavailable("the daemon drains")));
            continue;
        }
        worker.streams_running.set(worker.streams_running.get() + 1);
        monoio::spawn(run(Rc::clone(&worker), job));
    }
}

/// A stream and who asked for it.
struct Stream {
    source: Source,
    target: SocketAddr,
    protocol: TargetProtocol,
    asker: Asker,
}

async fn run(worker: Rc<Worker>, job: StreamJob) {
    let started = Instant::now();
    let StreamJob { id, source, target, protocol, progress, end } = job;
    tracing::debug!(id, %target, ?source, "stream begins");
    let stream = Stream { source, target, protocol, asker: Asker::new(progress, end) };
    let (tally, result) = run_stream(&worker, &stream).await;
    let path = match &stream.source {
        Source::Synthetic { .. } => "-".to_owned(),
        Source::File { name, .. } => format!("/{}", name.as_str()),
    };
    let access = Access {
        peer: target,
        protocol: if protocol == TargetProtocol::Frame { "frame" } else { "raw" },
        method: "STREAM",
        path: &path,
        status: 0,
        bytes: tally.total(),
        started,
        engine: tally.engine(),
    };
    let (result, end) = split(result, &tally);
    access.finish(&worker, &result);
    stream.asker.tell(end);
    worker.streams_running.set(worker.streams_running.get() - 1);
}

/// What the log says of the end, and what the control plane is told.
fn split(result: Result<(), Failure>, tally: &Tally) -> (Result<(), TransferError>, JobEnd) {
    match result {
        Ok(()) => (Ok(()), Ok(tally.engine())),
        Err(Failure::Before(error, outcome)) => (Err(outcome), Err(error)),
        Err(Failure::During(error, timeout_ms)) => {
            let told = match &error {
                TransferError::PeerGone => StreamError::TargetBrokeOff(error.to_string()),
                TransferError::TimedOut => StreamError::TargetSilent(timeout_ms),
                TransferError::Cancelled => StreamError::Cancelled,
                TransferError::Drained => StreamError::Unavailable("the daemon stopped before the end"),
                other => StreamError::SourceFailed(other.to_string()),
            };
            (Err(error), Err(told))
        }
    }
}

/// How a stream failed.
enum Failure {
    /// Before its first byte.
    Before(StreamError, TransferError),
    /// On the way; with the time-out that was in force, in milliseconds.
    During(TransferError, u64),
}

/// What is to be sent, opened and checked.
enum Body {
    Synthetic(u64),
    File(SourceFile, ByteRange),
}

impl Body {
    fn length(&self) -> u64 {
        match self {
            Body::Synthetic(bytes) => *bytes,
            Body::File(_, range) => range.length,
        }
    }
}

async fn run_stream(worker: &Rc<Worker>, stream: &Stream) -> (Tally, Result<(), Failure>) {
    let body = match open(worker, stream).await {
        Ok(body) => body,
        Err(error) => return (Tally::default(), Err(before(error))),
    };
    stream.asker.progress.set_bytes_requested(body.length());
    let connection = match target::connect(worker, stream).await {
        Ok(connection) => connection,
        Err(error) => return (Tally::default(), Err(before(error))),
    };
    let mut transfer = Transfer::of_stream(worker, &connection, &stream.asker);
    let result = send(&mut transfer, stream, &body).await;
    if let Body::File(file, _) = body {
        worker.disk.close(file);
    }
    let tally = transfer.tally;
    let timeout_ms = worker.live().settings.target_timeout_ms;
    match result {
        Ok(()) => {
            keep(worker, stream, connection);
            (tally, Ok(()))
        }
        Err(error) => {
            // The target must not take a part for the whole.
            connection.socket.abort();
            (tally, Err(Failure::During(error, timeout_ms)))
        }
    }
}

fn before(error: StreamError) -> Failure {
    let outcome = match &error {
        StreamError::TargetSilent(_) => TransferError::TimedOut,
        StreamError::TargetRefused(_) => TransferError::PeerGone,
        StreamError::Cancelled => TransferError::Cancelled,
        _ => TransferError::Unusable,
    };
    Failure::Before(error, outcome)
}

/// A connection on which a frame was acknowledged can carry the next.
fn keep(worker: &Worker, stream: &Stream, connection: Registered) {
    if stream.protocol == TargetProtocol::Frame && !worker.is_draining() {
        worker.idle_targets.keep(worker, stream.target, connection);
    }
}

async fn send(transfer: &mut Transfer<'_>, stream: &Stream, body: &Body) -> Result<(), TransferError> {
    let length = body.length();
    let corked = length > UNCORKED_BYTES_MAX;
    if corked {
        transfer.connection.socket.set_cork(true);
    }
    if stream.protocol == TargetProtocol::Frame {
        transfer.send_all(&encode_header(length), length > 0).await?;
    }
    match body {
        Body::Synthetic(bytes) => {
            engine::send_synthetic(transfer, &transfer.worker.resources.synthetic.clone(), *bytes).await?;
        }
        Body::File(file, range) => engine::send_range(transfer, Vec::new(), file, *range, false).await?,
    }
    if corked {
        transfer.connection.socket.set_cork(false);
    }
    target::await_end(transfer, stream.protocol).await
}

/// Opens the source and checks the range against it.
async fn open(worker: &Worker, stream: &Stream) -> Result<Body, StreamError> {
    let stream_bytes_max = worker.live().settings.stream_bytes_max;
    let body = match &stream.source {
        Source::Synthetic { bytes } => Body::Synthetic(*bytes),
        Source::File { name, offset, length } => {
            let file = open_file(worker, name).await?;
            let range = range_of(&file, *offset, *length)?;
            Body::File(file, range)
        }
    };
    if body.length() > stream_bytes_max {
        return Err(StreamError::OverLimit { bytes: body.length(), stream_bytes_max });
    }
    Ok(body)
}

async fn open_file(worker: &Worker, name: &Name) -> Result<SourceFile, StreamError> {
    let root = worker.resources.root.as_ref().ok_or(StreamError::NotFound)?;
    match find(worker, root, name).await {
        Ok(Found::File(file)) => Ok(file),
        Ok(Found::Directory(_)) | Err(FileError::NotFound) => Err(StreamError::NotFound),
        Err(error) => Err(StreamError::SourceFailed(error.to_string())),
    }
}

fn range_of(file: &SourceFile, offset: u64, length: Option<u64>) -> Result<ByteRange, StreamError> {
    let size = file.size();
    let length = length.unwrap_or(size.saturating_sub(offset));
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(ByteRange { start: offset, length }),
        _ => Err(StreamError::BeyondEnd { offset, length, size }),
    }
}

/// Drops what a target has sent so far: how many bytes, 0 at its end, None if nothing is there now.
fn discard_now(worker: &Worker, connection: &Connection) -> Result<Option<usize>, PeerGone> {
    connection.socket.try_discard(&mut worker.discard.borrow_mut()[..])
}
