//! Receives on a connection that brings frames: headers, payload, and the acknowledgements that go back.

use super::super::connection::{Connection, Phase};
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::{Input, ReadDeadline};
use super::super::socket::GATHERED_BYTES;
use crate::protocol::frame::{ACKNOWLEDGEMENT, FrameError, HEADER_BYTES, decode_header};

/// A connection that brings frames.
pub(super) struct Frames<'a> {
    pub(super) worker: &'a Worker,
    pub(super) connection: &'a Connection,
    pub(super) input: Input,
    /// Frames taken and not acknowledged yet.
    pub(super) unacknowledged: usize,
}

impl Frames<'_> {
    /// The next frame's size. None: the connection ended between frames.
    pub(super) async fn next_header(&mut self) -> Result<Option<Result<u64, FrameError>>, TransferError> {
        let live = self.worker.live();
        let mut read_deadline = ReadDeadline::new(self.worker, live.settings.receive_timeout_ms);
        loop {
            if let Some(header) = self.input.bytes().first_chunk::<HEADER_BYTES>() {
                let size = decode_header(*header, live.settings.frame_bytes_max);
                self.input.consume(HEADER_BYTES);
                return Ok(Some(size));
            }
            self.acknowledge().await?;
            let received = self.input.bytes().len();
            if !read_deadline.receive(self.worker, self.connection, &mut self.input).await? {
                let cut_short = FrameError::HeaderTruncated { received };
                return Ok((received > 0).then_some(Err(cut_short)));
            }
        }
    }

    /// Whether anything of the next frame has come. Where the kernel doesn't say, the next receive does.
    pub(super) fn has_more(&self) -> bool {
        !self.input.is_empty() || self.connection.socket.stream.arrived_bytes() > 0
    }

    /// Drops a payload inside the kernel.
    pub(super) async fn discard(&mut self, size: u64, received: &mut u64) -> Result<(), TransferError> {
        self.take_from_input(size, received);
        let socket = &self.connection.socket;
        let mut is_slow = false;
        while *received < size {
            *received += self.discard_now(size - *received)?;
            if *received == size {
                break;
            }
            let gathers = socket.gather(!is_slow && size - *received > u64::from(GATHERED_BYTES));
            match self.wait_readable().await {
                // The bytes that have come are too few to be woken for, but they are progress.
                Err(TransferError::TimedOut) if gathers => {
                    let late = self.discard_now(size - *received)?;
                    if late == 0 {
                        return Err(TransferError::TimedOut);
                    }
                    *received += late;
                    is_slow = true;
                }
                result => result?,
            }
        }
        socket.gather(false);
        Ok(())
    }

    /// Drops what is there of the next `bytes_max` bytes, and says how much that was.
    fn discard_now(&self, bytes_max: u64) -> Result<u64, TransferError> {
        match self.worker.discard(&self.connection.socket, bytes_max)? {
            Some(0) => Err(TransferError::PeerGone),
            count => Ok(count.unwrap_or(0) as u64),
        }
    }

    /// Drops what of the payload has been received already.
    fn take_from_input(&mut self, size: u64, received: &mut u64) {
        let here = (size - *received).min(self.input.bytes().len() as u64);
        self.input.consume(usize::try_from(here).unwrap_or(usize::MAX));
        *received += here;
    }

    /// Waits for more of a payload; frames taken before are acknowledged first.
    pub(super) async fn wait_readable(&mut self) -> Result<(), TransferError> {
        self.acknowledge().await?;
        let deadline = self.worker.clock.deadline(self.worker.live().settings.receive_timeout_ms);
        self.connection.readable(Phase::Receiving, deadline).await
    }

    /// Sends `done` for each frame taken.
    pub(super) async fn acknowledge(&mut self) -> Result<(), TransferError> {
        if self.unacknowledged == 0 {
            return Ok(());
        }
        let bytes = ACKNOWLEDGEMENT.repeat(std::mem::take(&mut self.unacknowledged));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match self.connection.socket.try_send(rest, false)? {
                Some(count) => rest = &rest[count..],
                None => {
                    let deadline = self.worker.clock.deadline(self.worker.live().settings.send_timeout_ms);
                    self.connection.writable(deadline).await?;
                }
            }
        }
        Ok(())
    }
}
