//! A request's body on its way into a partial. A disk thread receives and writes, turn by turn, and the worker waits
//! between the turns for more to arrive: no byte passes through the ring thread, and none waits there for a disk. A
//! long body has two disk threads at a time (`direct`).

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
use super::turn::{GATHER_MS, Pause, Turn};
use crate::files::upload::{UploadError, Writer};
use crate::protocol::http1::request::Body;
use crate::protocol::http1::trailers::Trailers;

/// What there is of a body, and who has it.
pub(super) struct Received {
    /// None where a disk thread took it along.
    pub(super) writer: Option<Writer>,
    /// Bytes of payload.
    pub(super) bytes: u64,
    pub(super) result: Result<(), BodyError>,
    /// What came behind it.
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
    let socket = match connection.socket.stream.share() {
        Ok(socket) => socket,
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
        let (back, pause) = match one_turn(worker, connection, turn, owner).await {
            Ok(done) => done,
            Err(error) => {
                let (result, trailers) = (Err(error.into()), Trailers::default());
                return Received { writer: None, bytes, result, trailers };
            }
        };
        turn = back;
        if turn.bytes > bytes {
            (patience, is_late) = (worker.clock.deadline(timeout_ms), false);
        }
        match pause {
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

async fn one_turn(
    worker: &Worker,
    connection: &Connection,
    mut turn: Turn,
    owner: Owner,
) -> Result<(Turn, Result<Pause, BodyError>), DiskError> {
    let done = worker.disk.run(Lane::Write, owner, move || {
        let direct = turn.direct_buffers();
        let pause = if direct.is_some() { Ok(Pause::TurnOver) } else { turn.run() };
        (turn, pause, direct)
    });
    match done.await? {
        // Boxed: few bodies are so long.
        (turn, _, Some(direct)) => Box::pin(direct::run(worker, connection, turn, direct, owner)).await,
        (turn, pause, None) => Ok((turn, pause)),
    }
}

/// Waits for more. True: `patience` is over, and only what has gathered unseen can still save the upload.
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
