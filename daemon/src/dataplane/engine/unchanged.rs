//! Whether a file is still what it was when its transfer began: the last bytes of a response aren't sent before that is
//! known, so that nobody takes a mixture of two versions for a whole.
//!
//! Zero copy lends pages of the file to TCP: what is written over them while they wait to be sent arrives, and a write
//! in the moment between the last look and the last bytes isn't seen. Files are replaced by a rename for that reason.

use super::super::error::TransferError;
use super::kernel::{Kernel, Source};
use super::transfer::Transfer;
use super::window::Window;

/// Looks at a file that grows while it is looked at. Each takes some 0.1 ms: one that is appended to 5,000 times a second
/// changes within half of them.
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

/// Looks at the file. One that has grown is unchanged if the bytes that were seen before are still there. That look waits
/// for a disk thread and its way back: a file that changed meanwhile is looked at again, if it isn't elsewhere.
pub(in super::super) async fn check<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
) -> Result<(), TransferError> {
    if !file.is_elsewhere() && file.is_as_opened() {
        return Ok(());
    }
    let mut looks_left = LOOKS_MAX;
    while looks_left > 0 {
        looks_left -= 1;
        let (opened, witnesses) = (file.clone(), transfer.witnesses.clone());
        let look = move || {
            let state = opened.state();
            let is_unchanged = opened.is_as_opened() || opened.has_grown() && opened.agrees(&witnesses);
            state.filter(|_| is_unchanged)
        };
        let Some(state) = transfer.on_disk_thread(file, look).await? else { break };
        if file.is_elsewhere() || file.state() == Some(state) {
            return Ok(());
        }
    }
    Err(TransferError::SourceChanged)
}
