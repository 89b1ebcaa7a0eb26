//! Whether a file is still what it was when its transfer began: the last bytes of a response aren't sent before that is
//! known, so that nobody takes a mixture of two versions for a whole.
//!
//! Zero copy lends pages of the file to TCP: what is written over them while they wait to be sent arrives, and a write
//! in the moment between the last look and the last bytes isn't seen. Files are replaced by a rename for that reason.

use super::super::disk::DiskError;
use super::super::error::TransferError;
use super::kernel::{Kernel, Source};
use super::transfer::Transfer;
use super::window::Window;

/// Looks at a file that grows while it is looked at. Each takes some 0.1 ms: a file that is appended to 5,000 times a
/// second changes within half of them.
const LOOKS_MAX: u8 = 16;

/// Before a further part of a window goes to the socket: in a response's last window the file is looked at, if there
/// was time for it to change since the last look. That is once for a transfer of several windows, and once more for
/// each wait within the last.
pub(super) async fn check_window<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    window: Window,
) -> Result<(), TransferError> {
    if window.is_last && transfer.take_wait() { check(transfer, file).await } else { Ok(()) }
}

/// Looks at the file. One that has grown is unchanged if the bytes that were seen before are still there. That look
/// waits for a disk thread and its way back: a file that changed meanwhile is looked at again, if it isn't elsewhere.
// No `async fn`, whose future would have room for each parameter twice.
#[expect(clippy::manual_async_fn, reason = "it is smaller by two references")]
pub(in super::super) fn check<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
) -> impl Future<Output = Result<(), TransferError>> {
    async move {
        if !file.is_elsewhere() && file.is_as_opened() {
            return Ok(());
        }
        let is_known = match look(transfer, file).await? {
            None => return Err(TransferError::SourceChanged),
            Some(state) => is_told_of(file, &state),
        };
        // Boxed: few files are written to while they are sent.
        if is_known { Ok(()) } else { Box::pin(look_again(transfer, file)).await }
    }
}

/// Has a disk thread look at the file. The state that it was in before the look, if it is unchanged.
fn look<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
) -> impl Future<Output = Result<Option<<K::File as Source>::State>, DiskError>> {
    let (opened, witnesses) = (file.clone(), transfer.witnesses.clone());
    transfer.on_disk_thread(file, move || {
        let state = opened.state();
        let is_unchanged = opened.is_as_opened() || opened.has_grown() && opened.agrees(&witnesses);
        state.filter(|_| is_unchanged)
    })
}

/// Whether the file is still in the state of which a disk thread told. One elsewhere isn't asked: that would take as
/// long again.
fn is_told_of<F: Source>(file: &F, state: &F::State) -> bool {
    file.is_elsewhere() || file.state().as_ref() == Some(state)
}

async fn look_again<K: Kernel>(transfer: &Transfer<'_, K>, file: &K::File) -> Result<(), TransferError> {
    for _ in 1..LOOKS_MAX {
        let Some(state) = look(transfer, file).await? else { break };
        if is_told_of(file, &state) {
            return Ok(());
        }
    }
    Err(TransferError::SourceChanged)
}
