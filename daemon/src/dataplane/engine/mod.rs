//! How a transfer's bytes move. A range is sent window by window; each window's engine is chosen from what is
//! known of it, so a file that is half in memory is sent by two engines.

mod cold;
mod copy;
mod sendfile;
mod splice;
mod transfer;
mod unchanged;
mod window;

pub(super) use sendfile::send_synthetic;
pub(super) use transfer::{Asker, Transfer};
pub(super) use unchanged::check;

use window::{Found, Window};

use super::error::TransferError;
use crate::config::EngineChoice;
use crate::files::residency::Residency;
use crate::files::{CONTENT_BYTES_MAX, SourceFile, WINDOW_BYTES};
use crate::protocol::range::ByteRange;
use crate::telemetry::EngineLabel;

/// Transfers up to this length are read and sent in one piece with their head: two system calls in all.
pub(super) const COPY_BYTES_MAX: u64 = CONTENT_BYTES_MAX;

/// Bodies above this length are corked; shorter ones have their head held back by MSG_MORE, two calls fewer. That
/// holds only until the next acknowledgement arrives, which releases segments that aren't full: at 1 MiB the cork
/// saves 9 % of the server's CPU and 16 % of the client's, at 100 KiB nothing.
pub(super) const UNCORKED_BYTES_MAX: u64 = 256 << 10;

/// What is known of a window when its engine is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// What the operator asked for.
    pub(super) choice: EngineChoice,
    /// Length of the whole transfer.
    pub(super) transfer_bytes: u64,
    /// Where the window is.
    pub(super) residency: Residency,
}

/// The engine of a window.
pub(super) fn choose(facts: Facts) -> EngineLabel {
    match facts.choice {
        EngineChoice::Copy => EngineLabel::Copy,
        EngineChoice::Sendfile => EngineLabel::Sendfile,
        EngineChoice::Splice => EngineLabel::Splice,
        EngineChoice::Auto if facts.transfer_bytes <= COPY_BYTES_MAX => EngineLabel::Copy,
        EngineChoice::Auto if facts.residency == Residency::Hot => EngineLabel::Sendfile,
        // A disk thread fills a pipe with the pages that it waited for: they are read and handed over in one.
        EngineChoice::Auto => EngineLabel::Splice,
    }
}

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
        let is_copied = choose(Residency::Hot) == EngineLabel::Copy;
        let found = if is_copied { Found::Cold } else { cold::find(transfer, file, offset, length) };
        if offset > range.start {
            transfer.note_wait();
        }
        let engine = if is_copied { EngineLabel::Copy } else { choose(found.residency()) };
        tracing::trace!(peer = %transfer.connection.client(), offset, length, ?engine, "window");
        offset += length;
        let more = more || offset < end;
        let window = Window { offset: offset - length, length, found, is_last: !more };
        if engine == EngineLabel::Copy {
            copy::send_window(transfer, std::mem::take(&mut head), file, window, more).await?;
            continue;
        }
        let head = std::mem::take(&mut head);
        if engine == EngineLabel::Splice {
            // Boxed: what mostly waits for a disk must not take up room in every transfer.
            Box::pin(splice::send_window(transfer, head, file, window, more)).await?;
            continue;
        }
        transfer.send_head(head).await?;
        let rest = window.from(sendfile::send_window(transfer, file, window).await?);
        if rest.length > 0 {
            // Of a cold window nobody notices the allocation.
            Box::pin(splice::send_window(transfer, Vec::new(), file, rest, more)).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{COPY_BYTES_MAX, Facts, choose};
    use crate::config::EngineChoice;
    use crate::files::residency::Residency;
    use crate::telemetry::EngineLabel;

    #[test]
    fn the_engine_follows_from_the_facts() {
        use EngineChoice as Asked;
        use EngineLabel::{Copy, Sendfile, Splice};
        use Residency::{Cold, Hot};
        let large = COPY_BYTES_MAX + 1;
        for (choice, transfer_bytes, residency, engine) in [
            (Asked::Auto, COPY_BYTES_MAX, Hot, Copy),
            (Asked::Auto, COPY_BYTES_MAX, Cold, Copy),
            (Asked::Auto, large, Hot, Sendfile),
            (Asked::Auto, large, Cold, Splice),
            (Asked::Copy, large, Hot, Copy),
            (Asked::Sendfile, 1, Cold, Sendfile),
            (Asked::Splice, 1, Hot, Splice),
        ] {
            let facts = Facts { choice, transfer_bytes, residency };
            assert_eq!(choose(facts), engine, "{facts:?}");
        }
    }
}
