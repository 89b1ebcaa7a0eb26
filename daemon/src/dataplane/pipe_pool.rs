//! Pipes of a worker, kept from one transfer to the next.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

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
}

/// Empty pipes of a worker.
#[derive(Default)]
pub(super) struct PipePool(RefCell<Vec<Arc<Pipe>>>);

impl PipePool {
    /// A pipe that is empty, a new one where none is kept.
    pub(super) fn take(&self) -> Result<Arc<Pipe>, Errno> {
        match self.0.borrow_mut().pop() {
            Some(pipe) => Ok(pipe),
            None => Ok(Arc::new(Pipe::new()?)),
        }
    }

    /// Takes back a pipe that is empty: one that holds bytes would send them to the next peer. A small one would make
    /// many calls of each window for as long as the daemon runs, though a new one may be large again by then.
    pub(super) fn put_back(&self, pipe: Arc<Pipe>) {
        let mut pipes = self.0.borrow_mut();
        if pipe.capacity as u64 >= WINDOW_BYTES && pipes.len() < PIPES_KEPT_MAX {
            pipes.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> Result<Pipe, Errno> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused to a user over fs.pipe-user-pages-soft, and then the pipe's own size has to do.
        let wanted = usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX);
        let capacity = fcntl_setpipe_size(&input, wanted).or_else(|_| fcntl_getpipe_size(&input))?;
        Ok(Pipe { output, input, capacity })
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::fcntl_setpipe_size;

    use super::{Arc, Pipe, PipePool, WINDOW_BYTES};

    #[test]
    fn a_pipe_that_is_too_small_for_a_window_is_not_kept() {
        let pool = PipePool::default();
        let mut small = Pipe::new().unwrap();
        small.capacity = fcntl_setpipe_size(&small.input, 4096).unwrap();
        pool.put_back(Arc::new(small));
        assert!(pool.0.borrow().is_empty());
        let large = Pipe::new().unwrap();
        if (large.capacity as u64) < WINDOW_BYTES {
            eprintln!(
                "not tested with a large pipe: this user has too many already (fs.pipe-user-pages-soft)"
            );
            return;
        }
        pool.put_back(Arc::new(large));
        assert_eq!(pool.0.borrow().len(), 1);
        assert_eq!(pool.take().unwrap().capacity as u64, WINDOW_BYTES);
    }
}
