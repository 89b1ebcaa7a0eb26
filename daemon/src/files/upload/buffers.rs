//! Buffers that a large body is received into, and written from past the page cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::Pages;

/// Bytes of a buffer, and so of a direct write. The device waits between writes, so that longer ones are faster: 1
/// MiB takes 1.4 times the CPU and 0.84 of the throughput on ext4 (docs/performance.md).
const BUFFER_BYTES: usize = 4 << 20;

/// Buffers of a body: one is received into while the other one is written.
const BUFFERS_PER_BODY: usize = 2;

/// Buffers of all bodies at once, 64 MiB: eight bodies keep a device busy, and the default of 16 disk threads
/// serves as many. Any further body goes through the page cache.
const BUFFERS_MAX: usize = 16;

/// The buffers take at most this part of the memory that the process may have: all of them fit from 512 MiB on.
/// The page cache can be reclaimed, and these can't.
const MEMORY_PART: u64 = 8;

/// The pool of buffers that may still be lent.
#[derive(Debug)]
pub(super) struct DirectBuffers {
    left: Arc<AtomicUsize>,
}

impl DirectBuffers {
    /// Makes as many buffers as fit into a process that may have `memory_bytes`; none where those of one body
    /// wouldn't.
    pub(super) fn within(memory_bytes: u64) -> DirectBuffers {
        let fitting = usize::try_from(memory_bytes / MEMORY_PART).unwrap_or(usize::MAX) / BUFFER_BYTES;
        DirectBuffers { left: Arc::new(AtomicUsize::new(BUFFERS_MAX.min(fitting))) }
    }

    /// Lends the buffers of a body, of which the first is `head` bytes shorter; None where all are lent or there
    /// is no memory. Each goes back to the system when it is dropped, so that no upload means no memory.
    pub(super) fn lend(&self, head: usize) -> Option<[DirectBuffer; BUFFERS_PER_BODY]> {
        let take = |left: usize| left.checked_sub(BUFFERS_PER_BODY);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).ok()?;
        let [first, second] = [(); BUFFERS_PER_BODY].map(|()| Place(Arc::clone(&self.left)));
        let room = BUFFER_BYTES.checked_sub(head)?;
        Some([DirectBuffer::map(first, room)?, DirectBuffer::map(second, BUFFER_BYTES)?])
    }
}

/// The place of a lent buffer, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A buffer, aligned for direct writes, and its content.
#[derive(Debug)]
pub struct DirectBuffer {
    pages: Pages,
    length: usize,
    /// The bytes that the buffer takes until it is cleared.
    limit: usize,
    _place: Place,
}

impl DirectBuffer {
    fn map(place: Place, limit: usize) -> Option<DirectBuffer> {
        let pages = Pages::map(BUFFER_BYTES).ok()?;
        Some(DirectBuffer { pages, length: 0, limit, _place: place })
    }

    /// Returns the bytes that were filled in.
    pub fn bytes(&self) -> &[u8] {
        &self.pages.as_slice()[..self.length]
    }

    /// Returns the free part, where more may be received.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.pages.as_mut_slice()[self.length..self.limit]
    }

    /// Adds `count` received bytes of the free part to the content.
    pub fn fill(&mut self, count: usize) {
        self.length = self.limit.min(self.length + count);
    }

    /// Empties the buffer.
    pub fn clear(&mut self) {
        (self.length, self.limit) = (0, BUFFER_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_BYTES, BUFFERS_MAX, DirectBuffers};

    #[test]
    fn so_many_bodies_have_buffers_and_no_more() {
        let buffers = DirectBuffers::within(u64::MAX);
        let mut lent: Vec<_> = (0..BUFFERS_MAX / 2).map(|_| buffers.lend(0).unwrap()).collect();
        assert!(buffers.lend(0).is_none());
        lent.pop();
        assert!(buffers.lend(0).is_some());
        assert!(buffers.lend(0).is_some(), "given back when it was dropped");
        assert!(buffers.lend(BUFFER_BYTES + 1).is_none());
        assert!(buffers.lend(0).is_some(), "given back where nothing was lent");
    }

    #[test]
    fn buffers_fit_into_the_memory_that_there_is() {
        for (memory_mib, bodies) in [(512, 8), (511, 7), (64, 1), (63, 0), (0, 0)] {
            let buffers = DirectBuffers::within(memory_mib << 20);
            let lent: Vec<_> = std::iter::from_fn(|| buffers.lend(0)).collect();
            assert_eq!(lent.len(), bodies, "{memory_mib} MiB");
        }
    }

    #[test]
    fn a_buffer_holds_what_it_was_filled_with() {
        let [mut first, mut second] = DirectBuffers::within(u64::MAX).lend(1000).unwrap();
        assert_eq!((first.room().len(), second.room().len()), (BUFFER_BYTES - 1000, BUFFER_BYTES));
        first.room()[..3].copy_from_slice(b"abc");
        first.fill(3);
        first.room()[..3].copy_from_slice(b"def");
        first.fill(2);
        assert_eq!(first.bytes(), b"abcde");
        second.fill(usize::MAX / 2);
        assert_eq!((second.bytes().len(), second.room().len()), (BUFFER_BYTES, 0));
        first.clear();
        assert_eq!(first.bytes(), b"");
        assert_eq!(first.room().len(), BUFFER_BYTES);
    }
}
