//! Receives a request's body into a partial. A disk thread receives and writes, turn by turn, and the worker waits
//! between the turns for more to arrive: no byte passes through the ring thread, and none waits there for a disk. A
//! long body has two disk threads at a time (`direct`).

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::super::clock::Deadline;
use super::super::super::connection::{Connection, Phase};
use super::super::super::context::Worker;
use super::super::super::disk::{DiskError, Lane, Owner};
use super::super::super::error::TransferError;
use super::super::super::input::Input;
use super::direct;
use super::error::BodyError;
use super::framing::Framing;
use super::turn::{Direct, GATHER_MS, Pause, Paused, Turn};
use crate::files::upload::{UploadError, Writer};
use crate::protocol::http1::request::Body;
use crate::protocol::http1::trailers::Trailers;

/// How much of a body was received.
pub(super) struct Received {
    /// The writer that it went to; None where a disk thread took that along.
    pub(super) writer: Option<Writer>,
    /// Bytes of payload.
    pub(super) bytes: u64,
    pub(super) result: Result<(), BodyError>,
    /// The trailers that came behind it.
    pub(super) trailers: Trailers,
}

/// Receives a body and gives it to `writer`.
pub(super) async fn receive(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    body: Body,
    writer: Writer,
    owner: Owner,
) -> Received {
    let socket = match connection.socket.as_fd().try_clone_to_owned() {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::MFILE);
            let result = Err(BodyError::Upload(UploadError::Exhausted(errno)));
            return Received { writer: Some(writer), bytes: 0, result, trailers: Trailers::default() };
        }
    };
    let (framing, ahead) = (Framing::of(body), input.take());
    let turn = Turn { writer, socket, framing, ahead, bytes: 0, cached_until: 0 };
    let received = turns(worker, connection, input, turn, owner).await;
    connection.socket.gather(false);
    received
}

async fn turns(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    mut turn: Turn,
    owner: Owner,
) -> Received {
    let timeout_ms = worker.live().settings.receive_timeout_ms;
    let mut patience = worker.clock.deadline(timeout_ms);
    let mut is_late = false;
    let result = loop {
        let bytes = turn.bytes;
        let paused = match one_turn(worker, connection, turn, owner).await {
            Ok(paused) => paused,
            Err(error) => {
                let (result, trailers) = (Err(error.into()), Trailers::default());
                return Received { writer: None, bytes, result, trailers };
            }
        };
        turn = paused.turn;
        if turn.bytes > bytes {
            (patience, is_late) = (worker.clock.deadline(timeout_ms), false);
        }
        match paused.result {
            Ok(Pause::TurnOver) => {}
            Ok(Pause::Whole) => break Ok(()),
            Ok(Pause::PeerEnded) => break Err(BodyError::PeerGone),
            Ok(Pause::NothingThere) if is_late => break Err(BodyError::TimedOut),
            Ok(Pause::NothingThere) => match wait_readable(worker, connection, &turn, patience).await {
                Ok(late) => is_late = late,
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    input.put_back(turn.ahead);
    let trailers = turn.framing.trailers();
    Received { writer: Some(turn.writer), bytes: turn.bytes, result, trailers }
}

/// How far a disk thread came with a turn.
enum Progress {
    Paused(Paused),
    /// It found that the rest can go past the page cache.
    Direct(Turn, Direct),
}

async fn one_turn(
    worker: &Worker,
    connection: &Connection,
    mut turn: Turn,
    owner: Owner,
) -> Result<Paused, DiskError> {
    let done = worker.disk.run(Lane::Write, owner, move || {
        if let Some(direct) = turn.direct() {
            return Progress::Direct(turn, direct);
        }
        let result = turn.run();
        Progress::Paused(Paused { turn, result })
    });
    match done.await? {
        Progress::Paused(paused) => Ok(paused),
        // Boxed, since few bodies are so long.
        Progress::Direct(turn, direct) => {
            Box::pin(direct::run(worker, connection, turn, direct, owner)).await
        }
    }
}

/// Waits for more. It says true where `patience` is over, so that only what has gathered unseen can save the upload.
async fn wait_readable(
    worker: &Worker,
    connection: &Connection,
    turn: &Turn,
    patience: Deadline,
) -> Result<bool, BodyError> {
    let gathers = connection.socket.gather(turn.framing.can_gather());
    let until = match worker.clock.deadline(GATHER_MS) {
        soon if gathers && soon.tick < patience.tick => soon,
        _ => patience,
    };
    match connection.readable(Phase::Receiving, until).await {
        Ok(()) => Ok(false),
        Err(TransferError::TimedOut) => Ok(worker.clock.now() >= patience.tick),
        Err(error) => Err(BodyError::of_wait(&error)),
    }
}
