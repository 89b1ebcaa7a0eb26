//! One turn of a disk thread with an upload: it receives and writes what is there.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::error::BodyError;
use super::framing::Framing;
use crate::files::upload::{DirectBuffer, Writer};
use crate::protocol::http1::chunked::Piece;

/// Bytes received and written at a time: few calls, and they stay in the second-level cache between the two copies.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes of one turn, after which other uploads get the disk thread: some milliseconds of it.
const TURN_BYTES: usize = 8 << 20;

/// Time after which bytes that have gathered are taken, however few, in milliseconds: a client that asks for the upload
/// sees that it goes on.
pub(super) const GATHER_MS: u64 = 1_000;

/// Bytes that go through the page cache before it is asked again whether the rest can go past it: a sender that was
/// slow may be fast by then, and buffers may be back.
const CACHED_BYTES: u64 = 16 << 20;

/// Longest piece of a chunked body that is gathered with others instead of being written by itself: copying so much
/// costs less than a write does.
const GATHERED_PIECE_BYTES_MAX: usize = 16 << 10;

/// Memory of a disk thread for one turn at a time.
struct Buffers {
    received: Vec<u8>,
    /// The payload of short chunks, which is written together.
    gathered: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers { received: Vec::new(), gathered: Vec::new() }) };
}

/// Why a disk thread gives a turn back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The body is whole.
    Whole,
    /// Nothing more of it has come by now.
    NothingThere,
    /// Others have their turn.
    TurnOver,
    /// The peer ended before the body did.
    PeerEnded,
}

/// A turn that was given back.
pub(super) struct Paused {
    pub(super) turn: Turn,
    pub(super) result: Result<Pause, BodyError>,
}

/// The rest of a body that can go past the page cache.
pub(super) struct Direct {
    /// Bytes that are to come.
    pub(super) left: u64,
    pub(super) buffers: [DirectBuffer; 2],
}

/// An upload as a disk thread needs it for a turn.
pub(super) struct Turn {
    pub(super) writer: Writer,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) framing: Framing,
    /// Bytes that were received ahead: at first those that came with the head, in the end those of the next request.
    pub(super) ahead: Vec<u8>,
    pub(super) bytes: u64,
    /// Up to here the body goes through the page cache in any case.
    pub(super) cached_until: u64,
}

impl Turn {
    /// The rest with buffers for it, where it can go past the page cache. Waits for the disk.
    pub(super) fn direct(&mut self) -> Option<Direct> {
        let Framing::Length(left) = self.framing else { return None };
        if self.bytes < self.cached_until {
            return None;
        }
        self.cached_until = self.bytes + CACHED_BYTES;
        Some(Direct { left, buffers: self.writer.direct_buffers(left)? })
    }

    /// Receives and writes what is there. Waits for the disk, not for the peer.
    pub(super) fn run(&mut self) -> Result<Pause, BodyError> {
        BUFFERS.with_borrow_mut(|Buffers { received, gathered }| {
            received.resize(BUFFER_BYTES, 0);
            let result = self.receive(received, gathered);
            // Also where a chunk was none, since all before it belongs to the body.
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

    /// Writes or gathers those of `bytes` that belong to the body, and says how many do.
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

    /// Writes the payload that has gathered. Where that fails it is lost, as the upload is.
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
