//! The `store` sink: payload to the spool, through one buffer that a disk thread writes while nothing else of
//! the connection runs.

use std::sync::Arc;

use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::error::TransferError;
use super::receive::Frames;
use crate::files::{SpoolError, SpoolFile, SpoolLimits};

/// Bytes gathered before a disk thread is asked to write them: few hand-overs for a large frame, little memory
/// for a slow sender. It is also all that a frame takes of the spool ahead of what has come.
const BUFFER_BYTES: usize = 256 << 10;

/// The least that the buffer grows by: it follows what comes, since a header alone costs its sender nothing.
const BUFFER_GROWTH_BYTES: usize = 4 << 10;

/// The state of a frame after a turn on a disk thread.
enum Stored {
    Whole { name: String },
    Partly { file: SpoolFile, buffer: Vec<u8> },
}

/// Stores a payload of `size` bytes. It is durable when this succeeds, and leaves nothing behind when not.
pub(super) async fn store(
    frames: &mut Frames<'_>,
    size: u64,
    received: &mut u64,
) -> Result<(), TransferError> {
    let Some(spool) = frames.worker.resources.spool.clone() else {
        return Err(TransferError::Sink(SpoolError::Failed {
            step: "storing",
            reason: std::io::Error::other("no spool is configured"),
        }));
    };
    let (worker, from) = (frames.worker, frames.connection.group());
    let owner = Owner { mount: spool.mount(), group: from };
    let limits = SpoolLimits::of(&worker.live().settings);
    if !spool.has_room(size, from, &limits) {
        let spool = Arc::clone(&spool);
        on_spool(worker, owner, move || spool.check(size, from, &limits)).await?;
    }
    // Created with the first bytes, and in the same turn as those of a short frame get their name.
    let (mut file, mut buffer) = (None, Vec::new());
    loop {
        if let Err(error) = gather(frames, size, received, &mut buffer).await {
            // Unlinking and closing a large file takes long.
            if let Some(file) = file {
                let _ = worker.disk.run(Lane::Write, owner, move || drop::<SpoolFile>(file)).await;
            }
            return Err(error);
        }
        let (spool, is_whole) = (Arc::clone(&spool), *received == size);
        let turn = move || {
            let mut file = match file {
                Some(file) => file,
                None => spool.create(size, from, &limits)?,
            };
            file.write(&buffer)?;
            buffer.clear();
            if is_whole {
                return Ok(Stored::Whole { name: file.publish()? });
            }
            Ok(Stored::Partly { file, buffer })
        };
        match on_spool(worker, owner, turn).await? {
            Stored::Whole { name } => {
                tracing::debug!(name, "frame stored");
                return Ok(());
            }
            Stored::Partly { file: open, buffer: emptied } => (file, buffer) = (Some(open), emptied),
        }
    }
}

/// Receives until the buffer is full or the payload whole.
async fn gather(
    frames: &mut Frames<'_>,
    size: u64,
    received: &mut u64,
    buffer: &mut Vec<u8>,
) -> Result<(), TransferError> {
    let here = usize::try_from(size - *received).unwrap_or(usize::MAX).min(frames.input.bytes().len());
    buffer.extend_from_slice(&frames.input.bytes()[..here]);
    frames.input.consume(here);
    *received += here as u64;
    while *received < size && buffer.len() < BUFFER_BYTES {
        let start = buffer.len();
        let room = (buffer.capacity() - start).max(BUFFER_GROWTH_BYTES).min(BUFFER_BYTES - start);
        let wanted = usize::try_from(size - *received).unwrap_or(usize::MAX).min(room);
        buffer.resize(start + wanted, 0);
        let result = frames.connection.socket.try_receive(&mut buffer[start..]);
        let count = result.as_ref().map_or(0, |count| count.unwrap_or(0));
        buffer.truncate(start + count);
        match result? {
            Some(0) => return Err(TransferError::PeerGone),
            Some(count) => *received += count as u64,
            None => frames.wait_readable().await?,
        }
    }
    Ok(())
}

async fn on_spool<R: Send + 'static>(
    worker: &Worker,
    owner: Owner,
    work: impl FnOnce() -> Result<R, SpoolError> + Send + 'static,
) -> Result<R, TransferError> {
    worker.disk.run(Lane::Write, owner, work).await?.map_err(TransferError::Sink)
}
