//! A request's body on its way into a partial. A disk thread receives and writes, turn by turn, and the worker waits
//! between the turns for more to arrive: no byte passes through the ring thread, and none waits there for a disk. A
//! long body has two disk threads at a time (`direct`).

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::super::super::clock::Deadline;
use super::super::super::connection::{Connection, Phase};
use super::super::super::context::Worker;
use super::super::super::disk::{DiskError, Lane, Owner};
use super::super::super::error::TransferError;
use super::super::super::input::Input;
use super::super::super::socket::GATHERED_BYTES;
use super::direct;
use crate::files::upload::{DirectBuffer, UploadError, Writer};
use crate::protocol::http1::chunked::{ChunkError, ChunkedDecoder, Piece};
use crate::protocol::http1::request::Body;
use crate::protocol::http1::trailers::Trailers;

/// Bytes received and written at a time: few calls, and they stay in the second-level cache between the two copies.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes of one turn, after which other uploads get the disk thread: some milliseconds of it.
const TURN_BYTES: usize = 8 << 20;

/// Time after which what has gathered is taken, however little it is, in milliseconds: whoever asks for an upload sees
/// that it goes on.
pub(super) const GATHER_MS: u64 = 1_000;

/// Bytes that go through the page cache before it is asked again whether the rest can go past it: a sender that was
/// slow may be fast by then, and buffers may be back.
const CACHED_BYTES: u64 = 16 << 20;

/// Longest piece of a chunked body that is gathered with others instead of being written by itself: copying so much
/// costs less than a write does.
const GATHERED_PIECE_BYTES_MAX: usize = 16 << 10;

/// What a disk thread has for one turn at a time.
struct Buffers {
    received: Vec<u8>,
    /// Payload of short chunks, to be written together.
    gathered: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers { received: Vec::new(), gathered: Vec::new() }) };
}

/// Why a body didn't become whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The peer closed or reset the connection.
    #[error("the client closed the connection")]
    PeerGone,
    /// Nothing came for too long.
    #[error("the body did not come in time")]
    TimedOut,
    /// It came with less than the minimum of progress.
    #[error("the body came with fewer than progress_bytes_min bytes a second")]
    TooSlow,
    /// It had to make room.
    #[error("the upload made room for another address's: uploads_max or connections_max is reached")]
    Evicted,
    /// The daemon stops.
    #[error("the daemon stops")]
    Drained,
    /// The disk threads took it along, or don't take it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The chunks can't be told apart.
    #[error(transparent)]
    Malformed(#[from] ChunkError),
    /// The partial can't take it.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

impl BodyError {
    /// What a wait for more of a body ended with.
    pub(super) fn of_wait(error: &TransferError) -> BodyError {
        match error {
            TransferError::Drained => BodyError::Drained,
            TransferError::TooSlow => BodyError::TooSlow,
            TransferError::Evicted => BodyError::Evicted,
            _ => BodyError::PeerGone,
        }
    }
}

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
            Ok(Pause::NothingThere) => match arrival(worker, connection, &turn, patience).await {
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
async fn arrival(
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
        Err(TransferError::TimedOut) => Ok(worker.clock.ticks() >= patience.tick),
        Err(error) => Err(BodyError::of_wait(&error)),
    }
}

/// Where a body ends.
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its chunks say.
    Chunked { decoder: ChunkedDecoder, is_whole: bool },
}

impl Framing {
    fn of(body: Body) -> Framing {
        match body {
            Body::None => Framing::Length(0),
            Body::Length(length) => Framing::Length(length),
            Body::Chunked => Framing::Chunked { decoder: ChunkedDecoder::new(), is_whole: false },
        }
    }

    fn trailers(&self) -> Trailers {
        match self {
            Framing::Length(_) => Trailers::default(),
            Framing::Chunked { decoder, .. } => Trailers::parse(decoder.trailers()),
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked { is_whole, .. } => *is_whole,
        }
    }

    /// Bytes to ask for: of a body with a length none of the next request's.
    fn wanted(&self, room: usize) -> usize {
        match self {
            Framing::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(room),
            Framing::Chunked { .. } => room,
        }
    }

    /// Whether so much is still to come that it may gather. The end of a chunked body can't be foreseen.
    fn can_gather(&self) -> bool {
        matches!(self, Framing::Length(left) if *left > u64::from(GATHERED_BYTES))
    }
}

/// Why a disk thread gave a turn back.
pub(super) enum Pause {
    Whole,
    NothingThere,
    TurnOver,
    PeerEnded,
}

/// What a disk thread needs for a turn.
pub(super) struct Turn {
    pub(super) writer: Writer,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) framing: Framing,
    /// Received before: at first with the head, at last of the next request.
    pub(super) ahead: Vec<u8>,
    pub(super) bytes: u64,
    /// So many bytes go through the page cache in any case.
    pub(super) cached_until: u64,
}

impl Turn {
    /// How much is left and buffers for it, where it can go past the page cache. Waits for the disk.
    fn direct_buffers(&mut self) -> Option<(u64, [DirectBuffer; 2])> {
        let Framing::Length(left) = self.framing else { return None };
        if self.bytes < self.cached_until {
            return None;
        }
        self.cached_until = self.bytes + CACHED_BYTES;
        Some((left, self.writer.direct_buffers(left)?))
    }

    /// Receives and writes what is there. Waits for the disk, not for the peer.
    fn run(&mut self) -> Result<Pause, BodyError> {
        BUFFERS.with_borrow_mut(|Buffers { received, gathered }| {
            received.resize(BUFFER_BYTES, 0);
            let result = self.receive(received, gathered);
            // Also before a chunk that is none: all before belongs to the body.
            let written = self.write_gathered(gathered);
            result.and_then(|pause| written.map(|()| pause))
        })
    }

    fn receive(&mut self, buffer: &mut [u8], gathered: &mut Vec<u8>) -> Result<Pause, BodyError> {
        let ahead = std::mem::take(&mut self.ahead);
        let used = self.take(&ahead, gathered)?;
        if self.framing.is_whole() {
            self.ahead = ahead[used..].to_vec();
            return Ok(Pause::Whole);
        }
        let mut received = 0;
        while received < TURN_BYTES {
            let wanted = self.framing.wanted(buffer.len());
            match recv(&self.socket, &mut buffer[..wanted], RecvFlags::DONTWAIT).map(|(_, count)| count) {
                Ok(0) => return Ok(Pause::PeerEnded),
                Ok(count) => {
                    received += count;
                    let used = self.take(&buffer[..count], gathered)?;
                    if self.framing.is_whole() {
                        self.ahead = buffer[used..count].to_vec();
                        return Ok(Pause::Whole);
                    }
                }
                Err(Errno::AGAIN) => return Ok(Pause::NothingThere),
                Err(Errno::INTR) => {}
                Err(_) => return Ok(Pause::PeerEnded),
            }
        }
        Ok(Pause::TurnOver)
    }

    /// Writes or gathers what of `bytes` belongs to the body, and says how many of them do.
    fn take(&mut self, bytes: &[u8], gathered: &mut Vec<u8>) -> Result<usize, BodyError> {
        match &mut self.framing {
            Framing::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                if count > 0 {
                    self.write(&bytes[..count])?;
                }
                Ok(count)
            }
            Framing::Chunked { .. } => self.take_chunks(bytes, gathered),
        }
    }

    fn take_chunks(&mut self, bytes: &[u8], gathered: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut rest = bytes;
        while let Framing::Chunked { decoder, is_whole } = &mut self.framing {
            match decoder.next_piece(&mut rest)? {
                Piece::Payload(payload) if payload.len() <= GATHERED_PIECE_BYTES_MAX => {
                    gathered.extend_from_slice(payload);
                    if gathered.len() >= BUFFER_BYTES {
                        self.write_gathered(gathered)?;
                    }
                }
                Piece::Payload(payload) => {
                    self.write_gathered(gathered)?;
                    self.write(payload)?;
                }
                Piece::Incomplete => break,
                Piece::Ended => {
                    *is_whole = true;
                    break;
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Writes what has gathered. Where that fails it is gone, as the upload is.
    fn write_gathered(&mut self, gathered: &mut Vec<u8>) -> Result<(), BodyError> {
        let result = if gathered.is_empty() { Ok(()) } else { self.write(gathered) };
        gathered.clear();
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.writer.write(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
