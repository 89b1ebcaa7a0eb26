//! Whether a file is still what it was when its transfer began: the last bytes of a response aren't sent before that is
//! known, so that nobody takes a mixture of two versions for a whole.
//!
//! Zero copy lends pages of the file to TCP: what is written over them while they wait to be sent arrives, and a write
//! in the moment between the last look and the last bytes isn't seen. Files are replaced by a rename for that reason.

use super::super::disk::Lane;
use super::super::error::TransferError;
use super::transfer::Transfer;
use super::window::Window;
use crate::files::SourceFile;

/// Before a further part of a window goes to the socket: in a response's last window the file is looked at, if there
/// was time for it to change since the last look. That is once for a transfer of several windows, and once more for
/// each wait within the last.
pub(super) async fn check_window(
    transfer: &Transfer<'_>,
    file: &SourceFile,
    window: Window,
) -> Result<(), TransferError> {
    if window.is_last && transfer.take_wait() { check(transfer, file).await } else { Ok(()) }
}

/// Looks at the file. One that has grown is unchanged if the bytes that were seen before are still there.
pub(in super::super) async fn check(transfer: &Transfer<'_>, file: &SourceFile) -> Result<(), TransferError> {
    if !file.is_elsewhere() && file.is_as_opened() {
        return Ok(());
    }
    let owner = transfer.owner(file);
    let (file, witnesses) = (file.clone(), transfer.witnesses.clone());
    let is_unchanged = move || file.is_as_opened() || file.has_grown() && witnesses.agree(&file);
    let is_unchanged = transfer.worker.disk.run(Lane::Read, owner, is_unchanged).await?;
    if is_unchanged { Ok(()) } else { Err(TransferError::SourceChanged) }
}
