//! Pipes of a worker: so many at once, some of them kept from one transfer to the next.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use crate::files::WINDOW_BYTES;

/// Pipes kept for the next transfer; more at once are made and closed again.
const PIPES_KEPT_MAX: usize = 64;

/// An empty pipe, or one whose content its transfer knows.
pub(super) struct Pipe {
    pub(super) output: OwnedFd,
    pub(super) input: OwnedFd,
    /// Bytes of whole pages that it holds.
    pub(super) capacity: usize,
    _open: Open,
}

/// One of those that are open, whoever holds it: a disk thread may be the last.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The pipes of a worker.
pub(super) struct PipePool {
    kept: RefCell<Vec<Arc<Pipe>>>,
    open: Arc<AtomicUsize>,
    open_max: Cell<usize>,
}

impl PipePool {
    /// So many pipes at once.
    pub(super) fn of(open_max: usize) -> PipePool {
        PipePool { kept: RefCell::default(), open: Arc::default(), open_max: Cell::new(open_max) }
    }

    /// From now on it is so many; where more are open these are closed after use.
    pub(super) fn limit(&self, open_max: usize) {
        self.open_max.set(open_max);
    }

    /// A pipe that is empty, a new one where none is kept. None where there are as many as there may be, or descriptors
    /// are used up.
    pub(super) fn take(&self) -> Option<Arc<Pipe>> {
        if let Some(pipe) = self.kept.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.open.load(Ordering::Relaxed) >= self.open_max.get() {
            return None;
        }
        Pipe::new(&self.open).ok().map(Arc::new)
    }

    /// How many are open that aren't kept.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.open.load(Ordering::Relaxed) - self.kept.borrow().len()
    }

    /// Takes back a pipe that is empty: one that holds bytes would send them to the next peer. A small one would make
    /// many calls of each window for as long as the daemon runs, though a new one may be large again by then.
    pub(super) fn put_back(&self, pipe: Arc<Pipe>) {
        let mut kept = self.kept.borrow_mut();
        let is_over = self.open.load(Ordering::Relaxed) > self.open_max.get();
        if pipe.capacity as u64 >= WINDOW_BYTES && kept.len() < PIPES_KEPT_MAX && !is_over {
            kept.push(pipe);
        }
    }
}

impl Pipe {
    fn new(open: &Arc<AtomicUsize>) -> Result<Pipe, Errno> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused to a user over fs.pipe-user-pages-soft, and then the pipe's own size has to do.
        let wanted = usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX);
        let capacity = fcntl_setpipe_size(&input, wanted).or_else(|_| fcntl_getpipe_size(&input))?;
        open.fetch_add(1, Ordering::Relaxed);
        Ok(Pipe { output, input, capacity, _open: Open(Arc::clone(open)) })
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::fcntl_setpipe_size;

    use super::{Arc, Ordering, Pipe, PipePool, WINDOW_BYTES};

    #[test]
    fn so_many_are_open_and_no_more_whoever_holds_them() {
        let pool = PipePool::of(2);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        let of_disk_thread = Arc::clone(&first);
        drop(first);
        assert!(pool.take().is_none());
        drop(of_disk_thread);
        let third = pool.take().unwrap();
        assert!(pool.take().is_none());
        pool.limit(1);
        pool.put_back(second);
        assert_eq!((pool.kept.borrow().len(), pool.open.load(Ordering::Relaxed)), (0, 1));
        drop(third);
        assert!(pool.take().is_some());
    }

    #[test]
    fn a_pipe_that_is_too_small_for_a_window_is_not_kept() {
        let pool = PipePool::of(2);
        let mut small = Pipe::new(&pool.open).unwrap();
        small.capacity = fcntl_setpipe_size(&small.input, 4096).unwrap();
        pool.put_back(Arc::new(small));
        assert!(pool.kept.borrow().is_empty());
        let large = Pipe::new(&pool.open).unwrap();
        if (large.capacity as u64) < WINDOW_BYTES {
            eprintln!(
                "not tested with a large pipe: this user has too many already (fs.pipe-user-pages-soft)"
            );
            return;
        }
        pool.put_back(Arc::new(large));
        assert_eq!(pool.kept.borrow().len(), 1);
        assert_eq!(pool.take().unwrap().capacity as u64, WINDOW_BYTES);
    }
}
