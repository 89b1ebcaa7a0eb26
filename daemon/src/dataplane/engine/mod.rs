//! How a transfer's bytes move. A range is sent window by window; each window's engine is chosen from what is
//! known of it, so a file that is half in memory is sent by two engines.

mod choice;
mod cold;
mod copy;
mod sendfile;
mod splice;
mod transfer;
mod unchanged;
mod window;

use super::error::TransferError;
use crate::files::residency::Residency;
use crate::files::{SourceFile, WINDOW_BYTES};
use crate::protocol::range::ByteRange;
pub(super) use choice::{Engine, Facts, choose};
pub(super) use sendfile::send_synthetic;
pub(super) use transfer::{Asker, Transfer};
pub(super) use unchanged::check;
use window::{Found, Window};

/// Bodies above this length are corked; shorter ones have their head held back by MSG_MORE, two calls fewer. That
/// holds only until the next acknowledgement arrives, which releases segments that aren't full: at 1 MiB the cork
/// saves 9 % of the server's CPU and 16 % of the client's, at 100 KiB nothing.
pub(super) const UNCORKED_BYTES_MAX: u64 = 256 << 10;

/// Sends `range` of `file`, which lies inside it, after `head`. `more`: bytes of the same response follow.
pub(super) async fn send_range(
    transfer: &mut Transfer<'_>,
    mut head: Vec<u8>,
    file: &SourceFile,
    range: ByteRange,
    more: bool,
) -> Result<(), TransferError> {
    let choice = transfer.worker.live().settings.engine;
    let choose = |residency| choose(Facts { choice, transfer_bytes: range.length, residency });
    let end = range.start + range.length;
    let mut offset = range.start;
    while offset < end {
        let length = WINDOW_BYTES.min(end - offset);
        // What is copied is read from memory or not at all: there is nothing to ask before.
        let is_copied = choose(Residency::Hot) == Engine::Copy;
        let found = if is_copied { Found::Cold } else { cold::find(transfer, file, offset, length) };
        if offset > range.start {
            transfer.note_wait();
        }
        let engine = if is_copied { Engine::Copy } else { choose(found.residency()) };
        tracing::trace!(peer = %transfer.connection.client(), offset, length, ?engine, "window");
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
                    // Of a cold window nobody notices the allocation.
                    Box::pin(splice::send_window(transfer, Vec::new(), file, rest, more)).await?;
                }
            }
        }
    }
    Ok(())
}
