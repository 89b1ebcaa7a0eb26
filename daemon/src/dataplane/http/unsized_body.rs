//! Sends files that say a length of 0 and have content: the kernel or a FUSE server makes them while they are read
//! (/proc, direct I/O). Nothing but reading tells where they end.

use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, pread};

use super::super::engine::Transfer;
use super::super::error::TransferError;
use super::chunks::Framing;
use crate::files::SourceFile;

/// Bytes read by one task of a disk thread and sent at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Sends `head` and all that the file has, piece by piece. Nothing is sent before the first piece was read.
pub(super) async fn send(
    transfer: &mut Transfer<'_>,
    head: Vec<u8>,
    file: &SourceFile,
    framing: Framing,
) -> Result<(), TransferError> {
    let (mut out, mut offset, mut piece) = (head, 0, Vec::new());
    loop {
        let descriptor = file.descriptor();
        let read = move || read_piece(&descriptor, piece, offset);
        let is_end;
        (piece, is_end) = transfer.on_disk_thread(file, read).await??;
        let payload = append(&mut out, &piece, is_end, framing);
        transfer.send_payload(&out, payload, !is_end).await?;
        out.clear();
        offset += piece.len() as u64;
        if is_end {
            return Ok(());
        }
    }
}

/// Fills `piece` anew, as far as the file has something, and says whether it ended there.
fn read_piece(file: &OwnedFd, mut piece: Vec<u8>, offset: u64) -> Result<(Vec<u8>, bool), TransferError> {
    piece.resize(PIECE_BYTES, 0);
    let mut filled = 0;
    while filled < PIECE_BYTES {
        let here = offset + filled as u64;
        match pread(file, &mut piece[filled..], here) {
            Ok(0) => {
                piece.truncate(filled);
                return Ok((piece, true));
            }
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(TransferError::SourceFailed { offset: here, errno }),
        }
    }
    Ok((piece, false))
}

/// Appends a piece as it is framed, and says where it is.
fn append(out: &mut Vec<u8>, piece: &[u8], is_end: bool, framing: Framing) -> Range<usize> {
    if piece.is_empty() {
        if is_end {
            framing.finish(out);
        }
        return 0..0;
    }
    framing.begin(piece.len(), out);
    let begin = out.len();
    out.extend_from_slice(piece);
    framing.end(is_end, out);
    begin..begin + piece.len()
}

#[cfg(test)]
mod tests {
    use super::{Framing, PIECE_BYTES, append, read_piece};

    #[test]
    fn pieces_are_whole_and_the_last_one_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; PIECE_BYTES + 3]).unwrap();
        let descriptor = std::fs::File::open(file.path()).unwrap().into();
        let (piece, is_end) = read_piece(&descriptor, Vec::new(), 0).unwrap();
        assert_eq!((piece.len(), is_end), (PIECE_BYTES, false));
        let (piece, is_end) = read_piece(&descriptor, piece, PIECE_BYTES as u64).unwrap();
        assert_eq!((piece, is_end), (vec![7; 3], true));
    }

    #[test]
    fn chunks_are_written_as_they_are_read_back() {
        let written = |piece: &[u8], is_end, framing| {
            let mut out = b"head".to_vec();
            append(&mut out, piece, is_end, framing);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&[b'x'; 17], false, Framing::Chunks), format!("head11\r\n{}\r\n", "x".repeat(17)));
        assert_eq!(written(b"ab", true, Framing::Chunks), "head2\r\nab\r\n0\r\n\r\n");
        assert_eq!(written(b"", true, Framing::Chunks), "head0\r\n\r\n");
        assert_eq!(written(b"ab", true, Framing::Connection), "headab");
    }
}
