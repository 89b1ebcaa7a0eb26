//! Streams that the control plane asks for: this worker is the client, the target takes a frame or bare bytes.

mod target;

use std::rc::Rc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::account::{Access, Caller, Tally};
use super::context::Worker;
use super::engine::{self, JobCaller, Transfer, UNCORKED_BYTES_MAX};
use super::error::TransferError;
use super::look_up::find;
use super::registry::Registered;
use crate::files::{FileError, Found, SourceFile};
use crate::job::{
    BrokeOff, JobEnd, Source, SourceError, StreamError, StreamJob, TargetProtocol, Unavailable,
};
use crate::protocol::frame::encode_header;
use crate::protocol::name::Name;
use crate::protocol::range::ByteRange;
use target::Target;

/// Runs the jobs that come through the mailbox, side by side, until it closes or the worker drains.
pub(super) async fn take_jobs(worker: Rc<Worker>, mut jobs: mpsc::Receiver<StreamJob>) {
    while let Some(job) = jobs.recv().await {
        worker.streams_running.set(worker.streams_running.get() + 1);
        monoio::spawn(run(Rc::clone(&worker), job));
    }
}

/// A stream and who asked for it.
struct Stream {
    source: Source,
    target: Target,
    caller: JobCaller,
}

async fn run(worker: Rc<Worker>, job: StreamJob) {
    let started = Instant::now();
    let StreamJob { id, source, target, own_listener, protocol, progress, end } = job;
    let target = Target { address: target, own_listener, protocol };
    let stream = Stream { source, target, caller: JobCaller::new(progress, end) };
    let (tally, result) = if worker.is_draining() {
        let error = StreamError::Unavailable(Unavailable::Draining);
        (Tally::default(), Err(Failure::Before(error, TransferError::Drained)))
    } else {
        tracing::debug!(id, target = %stream.target.address, source = ?stream.source, "stream begins");
        run_stream(&worker, &stream).await
    };
    let (result, end) = split(result, &tally);
    account(&worker, &id, &stream, started, &tally, &result, &end);
    stream.caller.tell(end);
    worker.streams_running.set(worker.streams_running.get() - 1);
}

fn account(
    worker: &Worker,
    id: &str,
    stream: &Stream,
    started: Instant,
    tally: &Tally,
    result: &Result<(), TransferError>,
    end: &JobEnd,
) {
    let path = match &stream.source {
        Source::Synthetic { .. } => b"-".to_vec(),
        Source::File { name, .. } => [b"/", name.as_bytes()].concat(),
    };
    let reason = end.as_ref().err().map(ToString::to_string);
    let access = Access {
        peer: stream.target.address.into(),
        protocol: if stream.target.protocol == TargetProtocol::Frame { "frame" } else { "raw" },
        method: "STREAM",
        path: &path,
        status: 0,
        bytes_in: 0,
        bytes_out: tally.total(),
        started,
        engine: tally.engine(),
        reason: reason.as_deref(),
        caller: Caller { id: id.as_bytes(), ..Caller::default() },
    };
    access.finish(worker, result);
}

/// Splits the end of a stream into what the log says and what the control plane is told.
fn split(result: Result<(), Failure>, tally: &Tally) -> (Result<(), TransferError>, JobEnd) {
    match result {
        Ok(()) => (Ok(()), Ok(tally.engine())),
        Err(Failure::Before(error, outcome)) => (Err(outcome), Err(error)),
        Err(Failure::During(error, timeout_ms)) => {
            let told = match &error {
                TransferError::PeerGone => StreamError::TargetBrokeOff(BrokeOff::Closed),
                TransferError::NotAcknowledged => StreamError::TargetBrokeOff(BrokeOff::NotAcknowledged),
                TransferError::TimedOut => StreamError::TargetSilent(timeout_ms),
                TransferError::TooSlow => StreamError::TargetSlow,
                TransferError::Evicted => StreamError::Evicted,
                TransferError::Cancelled => StreamError::Cancelled,
                TransferError::Drained => StreamError::Unavailable(Unavailable::Stopped),
                error => StreamError::SourceFailed(source_error(error)),
            };
            (Err(error), Err(told))
        }
    }
}

/// Returns the error that the control plane is told of a source that failed on the way, in the words of the log.
fn source_error(error: &TransferError) -> SourceError {
    match error {
        TransferError::SourceShrank { offset } => SourceError::Shrank { offset: *offset },
        TransferError::SourceChanged => SourceError::Changed,
        TransferError::SourceFailed { offset, errno } => {
            SourceError::Unreadable { offset: *offset, errno: *errno }
        }
        TransferError::Disk(error) => SourceError::NoFile(error.clone().into()),
        TransferError::NoRoom(full) => SourceError::NoRoom(*full),
        // No engine has another one.
        _ => SourceError::Unusable,
    }
}

/// How a stream failed.
enum Failure {
    /// Before its first byte.
    Before(StreamError, TransferError),
    /// On the way; with the time-out that was in force, in milliseconds.
    During(TransferError, u64),
}

/// The body to be sent, opened and checked.
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
    stream.caller.progress.set_bytes_requested(body.length());
    let ended = send_body(worker, stream, &body).await;
    if let Body::File(file, _) = body {
        worker.disk.close(file);
    }
    ended
}

/// Sends on a connection that was kept, or on a new one. Whoever keeps one may close it at any time, and the stream
/// that meets the close loses nothing: what no byte of an acknowledgement came for goes over a new connection, once.
async fn send_body(worker: &Rc<Worker>, stream: &Stream, body: &Body) -> (Tally, Result<(), Failure>) {
    if let Some(connection) = target::kept(worker, &stream.target) {
        let (tally, result) = send_on(worker, stream, body, connection).await;
        match result {
            Err(Failure::During(TransferError::PeerGone, _)) => stream.caller.progress.restart(),
            result => return (tally, result),
        }
    }
    match target::connect(worker, &stream.target).await {
        Ok(connection) => send_on(worker, stream, body, connection).await,
        Err(error) => (Tally::default(), Err(before(error))),
    }
}

async fn send_on(
    worker: &Rc<Worker>,
    stream: &Stream,
    body: &Body,
    connection: Registered,
) -> (Tally, Result<(), Failure>) {
    let mut transfer = Transfer::of_stream(worker, &connection, &stream.caller);
    let result = send(&mut transfer, stream, body).await;
    let tally = transfer.tally;
    let timeout_ms = worker.live().settings.target_timeout_ms;
    match result {
        Ok(()) => {
            if stream.target.protocol == TargetProtocol::Raw {
                connection.socket.end_in_order();
            }
            target::keep(worker, &stream.target, connection);
            (tally, Ok(()))
        }
        Err(error) => {
            let error = connection.blame(error);
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
        StreamError::NoLocalPort { .. } => TransferError::NoLocalPort,
        StreamError::Cancelled => TransferError::Cancelled,
        _ => TransferError::Unusable,
    };
    Failure::Before(error, outcome)
}

async fn send(transfer: &mut Transfer<'_>, stream: &Stream, body: &Body) -> Result<(), TransferError> {
    let length = body.length();
    let corked = length > UNCORKED_BYTES_MAX;
    if corked {
        transfer.connection().socket.set_cork(true);
    }
    if stream.target.protocol == TargetProtocol::Frame {
        transfer.send_all(&encode_header(length), length > 0).await?;
    }
    match body {
        Body::Synthetic(bytes) => {
            engine::send_synthetic(transfer, &transfer.worker().resources.synthetic.clone(), *bytes).await?;
        }
        Body::File(file, range) => engine::send_range(transfer, Vec::new(), file, *range, false).await?,
    }
    if corked {
        transfer.connection().socket.set_cork(false);
    }
    target::await_end(transfer, stream.target.protocol).await
}

/// Opens the source and checks the range against it.
async fn open(worker: &Worker, stream: &Stream) -> Result<Body, StreamError> {
    let stream_bytes_max = worker.live().settings.stream_bytes_max;
    let body = match &stream.source {
        Source::Synthetic { bytes } => Body::Synthetic(*bytes),
        Source::File { name, offset, length } => {
            let file = open_file(worker, name).await?;
            if file.is_unsized() {
                return Err(StreamError::SourceFailed(SourceError::NoLength));
            }
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
    let served = worker.served();
    if served.shares().is_empty() {
        return Err(StreamError::NoRoot);
    }
    let (share, name) = served.find(name).ok_or(StreamError::NotFound)?;
    match find(worker, &share.root, &name, None).await {
        Ok(Found::File(file)) => Ok(file),
        Ok(Found::Directory(_)) | Err(FileError::NotFound) => Err(StreamError::NotFound),
        Err(error) => Err(StreamError::SourceFailed(error.into())),
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

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::super::disk::{DiskError, Lane};
    use super::super::error::TransferError;
    use super::source_error;
    use crate::limits::Full;

    #[test]
    fn the_caller_hears_of_a_failed_source_in_the_words_of_the_log() {
        for error in [
            TransferError::SourceShrank { offset: 7 },
            TransferError::SourceChanged,
            TransferError::SourceFailed { offset: 7, errno: Errno::IO },
            TransferError::Disk(DiskError::Busy(Lane::Read)),
            TransferError::Disk(DiskError::Silent("/mnt".into())),
            TransferError::NoRoom(Full::Node),
            TransferError::Unusable,
        ] {
            assert_eq!(source_error(&error).to_string(), error.to_string());
        }
    }
}
