//! A range of a file, window by window.

use super::super::error::TransferError;
use super::choice::{Engine, Facts, choose};
use super::kernel::Kernel;
use super::transfer::Transfer;
use super::window::{Found, Window};
use super::{cold, copy, sendfile, splice};
use crate::files::WINDOW_BYTES;
use crate::files::residency::Residency;
use crate::protocol::range::ByteRange;

/// Sends `range` of `file`, which lies inside it, after `head`. `more`: bytes of the same response follow.
pub(in super::super) async fn send_range<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    mut head: Vec<u8>,
    file: &K::File,
    range: ByteRange,
    more: bool,
) -> Result<(), TransferError> {
    let choice = transfer.kernel.engine_choice();
    let choose = |residency| choose(Facts { choice, transfer_bytes: range.length, residency });
    let end = range.start + range.length;
    let mut offset = range.start;
    while offset < end {
        let length = WINDOW_BYTES.min(end - offset);
        // A range that is copied is read from memory or by a disk thread: there is nothing to ask before.
        let is_copied = choose(Residency::Hot) == Engine::Copy;
        let found = if is_copied { Found::Cold } else { cold::find(transfer, file, offset, length) };
        if offset > range.start {
            transfer.note_wait();
        }
        let engine = if is_copied { Engine::Copy } else { choose(found.residency()) };
        tracing::trace!(peer = %transfer.kernel.client(), offset, length, ?engine, "window");
        offset += length;
        let more = more || offset < end;
        let window = Window { offset: offset - length, length, found, is_last: !more };
        let head = std::mem::take(&mut head);
        match engine {
            Engine::Copy => copy::send_window(transfer, head, file, window, more).await?,
            // Boxed: what mostly waits for a disk must not take up room in every transfer.
            Engine::Splice => Box::pin(splice::send_window(transfer, head, file, window, more)).await?,
            Engine::Sendfile => {
                transfer.send_head(head).await?;
                let rest = window.from(sendfile::send_window(transfer, file, window).await?);
                if rest.length > 0 {
                    // Beside the read of a cold window nobody notices the allocation.
                    Box::pin(splice::send_window(transfer, Vec::new(), file, rest, more)).await?;
                }
            }
        }
    }
    Ok(())
}
