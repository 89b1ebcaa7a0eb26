//! Receives a long body past the page cache: one buffer is received into while the other one is written, each on a disk
//! thread, and the worker waits for both.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::super::super::connection::{Connection, Phase};
use super::super::super::context::Worker;
use super::super::super::disk::{DiskError, Lane, Owner};
use super::super::super::error::TransferError;
use super::error::BodyError;
use super::framing::Framing;
use super::turn::{Direct, GATHER_MS, Pause, Paused, Turn};
use crate::files::upload::{DirectBuffer, Writer};

/// Receives and writes the `left` bytes to come, until they are there, or none comes for so long that those that have
/// gathered have to be taken: a slow sender gains nothing here, and others want the buffers. Whatever was received is
/// written.
pub(super) async fn run(
    worker: &Worker,
    connection: &Connection,
    turn: Turn,
    direct: Direct,
    owner: Owner,
) -> Result<Paused, DiskError> {
    let Direct { left, buffers: [first, second] } = direct;
    let Turn { writer, socket, ahead, bytes, cached_until, .. } = turn;
    let mut filling = Filling { socket, left, ahead, buffer: first };
    let mut writing = Writing { writer, buffer: second, bytes };
    let result = loop {
        let both = monoio::join!(filling.fill(worker, connection, owner), writing.write(worker, owner));
        let (filled, written) = (both.0?, both.1?);
        (filling, writing) = (filled.filling, written.writing);
        std::mem::swap(&mut filling.buffer, &mut writing.buffer);
        match (written.result, filled.result) {
            (Err(error), _) => break Err(error),
            (Ok(()), Ok(Pause::TurnOver)) => {}
            (Ok(()), paused) => {
                let last = writing.write(worker, owner).await?;
                writing = last.writing;
                break last.result.and(paused);
            }
        }
    };
    let framing = Framing::Length(filling.left);
    let Writing { writer, bytes, .. } = writing;
    let Filling { socket, ahead, .. } = filling;
    Ok(Paused { turn: Turn { writer, socket, framing, ahead, bytes, cached_until }, result })
}

/// An upload as a disk thread needs it to receive.
struct Filling {
    socket: Arc<OwnedFd>,
    /// Bytes of the body that are to come.
    left: u64,
    /// Bytes that were received ahead.
    ahead: Vec<u8>,
    buffer: DirectBuffer,
}

/// A buffer that was received into, with the reason why no further.
struct Filled {
    filling: Filling,
    result: Result<Pause, BodyError>,
}

impl Filling {
    /// Fills the buffer. Says that the turn is over where it is full.
    async fn fill(
        mut self,
        worker: &Worker,
        connection: &Connection,
        owner: Owner,
    ) -> Result<Filled, DiskError> {
        let patience_ms = worker.live().settings.receive_timeout_ms.min(GATHER_MS);
        let patience = worker.clock.deadline(patience_ms);
        loop {
            let done = worker.disk.run(Lane::Write, owner, move || {
                let pause = self.receive();
                (self, pause)
            });
            let (back, pause) = done.await?;
            self = back;
            if !matches!(pause, Pause::NothingThere) || worker.clock.now() >= patience.tick {
                return Ok(Filled { filling: self, result: Ok(pause) });
            }
            connection.socket.gather_bytes(u32::try_from(self.wanted()).unwrap_or(u32::MAX));
            match connection.readable(Phase::Receiving, patience).await {
                // Bytes may have gathered unseen, so they are taken after a time-out too.
                Ok(()) | Err(TransferError::TimedOut) => {}
                Err(error) => {
                    return Ok(Filled { filling: self, result: Err(BodyError::of_wait(&error)) });
                }
            }
        }
    }

    /// Receives what is there. Doesn't wait.
    fn receive(&mut self) -> Pause {
        let ahead = std::mem::take(&mut self.ahead);
        let count = self.wanted().min(ahead.len());
        self.buffer.room()[..count].copy_from_slice(&ahead[..count]);
        self.took(count);
        self.ahead = ahead[count..].to_vec();
        loop {
            let wanted = self.wanted();
            if wanted == 0 {
                return if self.left == 0 { Pause::Whole } else { Pause::TurnOver };
            }
            let room = &mut self.buffer.room()[..wanted];
            match recv(&self.socket, room, RecvFlags::DONTWAIT).map(|(_, count)| count) {
                Ok(0) => return Pause::PeerEnded,
                Ok(count) => self.took(count),
                Err(Errno::AGAIN) => return Pause::NothingThere,
                Err(Errno::INTR) => {}
                Err(_) => return Pause::PeerEnded,
            }
        }
    }

    /// How many bytes to ask for, none of them the next request's.
    fn wanted(&mut self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.room().len())
    }

    fn took(&mut self, count: usize) {
        self.buffer.fill(count);
        self.left -= count as u64;
    }
}

/// An upload as a disk thread needs it to write.
struct Writing {
    writer: Writer,
    buffer: DirectBuffer,
    /// Bytes of the body that are written.
    bytes: u64,
}

/// A buffer that was written, if it could be.
struct Written {
    writing: Writing,
    result: Result<(), BodyError>,
}

impl Writing {
    /// Writes what is in the buffer, and empties it.
    async fn write(mut self, worker: &Worker, owner: Owner) -> Result<Written, DiskError> {
        let count = self.buffer.bytes().len();
        if count == 0 {
            return Ok(Written { writing: self, result: Ok(()) });
        }
        let done = worker.disk.run(Lane::Write, owner, move || {
            let written = self.writer.write_direct(&mut self.buffer);
            (self, written)
        });
        let (mut writing, written) = done.await?;
        if written.is_ok() {
            writing.bytes += count as u64;
        }
        Ok(Written { writing, result: written.map_err(BodyError::from) })
    }
}
