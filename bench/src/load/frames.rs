//! Frames to the data port: header, payload from memory, and the four bytes of the acknowledgement.

use std::io;
use std::sync::OnceLock;

use super::exchange::Exchange;

/// The bytes of the memory that payloads repeat.
const PAYLOAD_BYTES: usize = 1 << 20;

/// The answer to a frame.
const ACKNOWLEDGEMENT: &[u8] = b"done";

fn payload() -> &'static [u8] {
    static PAYLOAD: OnceLock<Vec<u8>> = OnceLock::new();
    PAYLOAD.get_or_init(|| vec![0x5a; PAYLOAD_BYTES])
}

/// Sends frames of `bytes` bytes, each after the last was acknowledged, until told to end.
pub(super) async fn send(exchange: &mut Exchange, bytes: u64) -> io::Result<()> {
    while !exchange.client().phase.is_stopping() {
        let begin = exchange.client().wait_for_start().await?;
        let stream = exchange.stream().clone();
        let (result, _) = stream.write_all(bytes.to_le_bytes().to_vec()).await;
        result?;
        let mut left = bytes;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(PAYLOAD_BYTES).min(PAYLOAD_BYTES);
            let (result, _) = stream.write(&payload()[..count]).submit().await;
            let sent = result? as u64;
            left -= sent;
            exchange.count_bytes(sent);
        }
        let mut answer = Vec::with_capacity(ACKNOWLEDGEMENT.len());
        while answer.len() < ACKNOWLEDGEMENT.len() {
            let more = Vec::with_capacity(ACKNOWLEDGEMENT.len() - answer.len());
            let (result, more) = stream.read(more).await;
            if result? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend(more);
        }
        if answer != ACKNOWLEDGEMENT {
            return Err(io::Error::other("an acknowledgement other than `done`"));
        }
        exchange.answered(begin);
    }
    Ok(())
}
