//! The `store` sink: payload to the spool, through one buffer that a disk thread writes while nothing else of
//! the connection runs.

use super::super::error::TransferError;
use super::super::worker::Worker;
use super::Frames;
use crate::files::{SpoolError, SpoolFile};

/// Bytes gathered before a disk thread is asked to write them: few hand-overs for a large frame, little memory
/// for a slow sender.
const BUFFER_BYTES: usize = 256 << 10;

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
    let limit = frames.worker.live().settings.spool_bytes_max;
    let worker = frames.worker;
    let mut file = on_spool(worker, move || spool.create(size, limit)).await?;
    let mut buffer = Vec::new();
    while *received < size {
        if let Err(error) = gather(frames, size, received, &mut buffer).await {
            // Unlinking and closing a large file takes long.
            let _ = worker.disk.run(move || drop(file)).await;
            return Err(error);
        }
        (file, buffer) = write(worker, file, buffer).await?;
    }
    let name = on_spool(worker, move || file.publish()).await?;
    tracing::debug!(name, "frame stored");
    Ok(())
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
        let wanted = usize::try_from(size - *received).unwrap_or(usize::MAX).min(BUFFER_BYTES - buffer.len());
        let start = buffer.len();
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

async fn write(
    worker: &Worker,
    mut file: SpoolFile,
    mut buffer: Vec<u8>,
) -> Result<(SpoolFile, Vec<u8>), TransferError> {
    on_spool(worker, move || {
        file.write(&buffer)?;
        buffer.clear();
        Ok((file, buffer))
    })
    .await
}

async fn on_spool<R: Send + 'static>(
    worker: &Worker,
    work: impl FnOnce() -> Result<R, SpoolError> + Send + 'static,
) -> Result<R, TransferError> {
    worker.disk.run(work).await.map_err(|_| TransferError::Busy)?.map_err(TransferError::Sink)
}
