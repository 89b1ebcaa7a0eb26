//! The threads for what may wait for a disk: few, shared by all workers, behind one queue.
//!
//! The queue takes whatever comes: what it turned away would be dropped where it came from, on a worker, and with it
//! the files that it has open. It is bounded by what goes into it. A task waits with a place ([`Disk`]), of which there
//! are few, or closes a file, of which there are no more than descriptors.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use monoio::blocking::{BlockingTask, ThreadPool};
use tokio::sync::Semaphore;

use crate::files::{KnownFile, SourceFile};

/// Tasks that may wait for a thread, over all workers, besides those that close files: some hundred milliseconds of
/// work for one disk.
const TASKS_WAITING_MAX: usize = 1024;

/// The disk threads of one daemon. They end when every clone of this is gone and their work is done.
#[derive(Clone)]
pub(super) struct DiskThreads {
    tasks: Sender<BlockingTask>,
    /// Places of uploads, over all workers: half of the threads, since a slow disk holds those that write to it, and
    /// whoever only reads mustn't wait behind them.
    uploads: Arc<Semaphore>,
}

impl DiskThreads {
    /// Starts `count` threads.
    pub(super) fn start(count: usize) -> io::Result<DiskThreads> {
        let (tasks, queue) = unbounded();
        for number in 0..count {
            let queue: Receiver<BlockingTask> = queue.clone();
            let name = format!("streamd-disk-{number}");
            // Not joined: a thread that hangs in a dead file system must not hold up the end of the daemon.
            std::thread::Builder::new().name(name).spawn(move || queue.iter().for_each(BlockingTask::run))?;
        }
        Ok(DiskThreads { tasks, uploads: Arc::new(Semaphore::new((count / 2).max(1))) })
    }
}

impl ThreadPool for DiskThreads {
    fn schedule_task(&self, task: BlockingTask) {
        // Fails only where no thread is left, which never is: each holds the other end for as long as this one is held.
        // Dropping the task would tell its waiter that it was cancelled.
        let _ = self.tasks.send(task);
    }
}

/// The task was turned away: too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiskBusy;

/// A worker's access to the disk threads: its share of the queue.
pub(super) struct Disk {
    places: Semaphore,
    long: Semaphore,
    uploads: Arc<Semaphore>,
}

/// Tasks of one worker that may hold a thread for as long as reading a whole file takes: others need the threads too.
const LONG_TASKS_MAX: usize = 2;

impl Disk {
    /// For one of `workers` workers.
    pub(super) fn new(threads: &DiskThreads, workers: usize) -> Disk {
        Disk {
            places: Semaphore::new((TASKS_WAITING_MAX / workers.max(1)).max(1)),
            long: Semaphore::new(LONG_TASKS_MAX),
            uploads: Arc::clone(&threads.uploads),
        }
    }

    /// Runs `work` on a disk thread, or turns it away at once: for what has not begun, so that its client can be
    /// told that the daemon is busy.
    pub(super) async fn run_or_refuse<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, DiskBusy> {
        let _place = self.places.try_acquire().map_err(|_| DiskBusy)?;
        on_disk_thread(work).await
    }

    /// Runs `work`, which takes long, on a disk thread, or turns it away at once.
    pub(super) async fn run_long<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, DiskBusy> {
        let _place = self.long.try_acquire().map_err(|_| DiskBusy)?;
        self.run_or_refuse(work).await
    }

    /// Runs `work` on a disk thread when its turn comes: for what is under way and must not be broken off.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, DiskBusy> {
        let _place = self.places.acquire().await.map_err(|_| DiskBusy)?;
        on_disk_thread(work).await
    }

    /// Runs `work` of an upload on a disk thread when its turn comes.
    pub(super) async fn run_upload<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, DiskBusy> {
        let _turn = self.uploads.acquire().await.map_err(|_| DiskBusy)?;
        self.run(work).await
    }

    /// Lets go of a file, and closes it if nobody else needs it.
    pub(super) fn release(&self, known: Rc<KnownFile>) {
        if let Some(known) = Rc::into_inner(known) {
            self.close(known.file);
        }
    }

    /// Closes a file. The last close of an unlinked file frees its blocks, and on FUSE or a network file system a
    /// close asks a server: neither may happen on a worker.
    pub(super) fn close(&self, file: SourceFile) {
        if file.is_last() && file.close_may_wait() {
            // Nobody waits for it.
            drop(monoio::spawn_blocking(move || drop(file)));
        }
    }
}

async fn on_disk_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, DiskBusy> {
    monoio::spawn_blocking(work).await.map_err(|_| DiskBusy)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use monoio::{LegacyDriver, RuntimeBuilder};

    use super::{DiskThreads, TASKS_WAITING_MAX};

    /// Like an open file: it matters where it goes.
    struct Closed(Sender<String>);

    impl Drop for Closed {
        fn drop(&mut self) {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            self.0.send(name).unwrap();
        }
    }

    #[test]
    fn what_a_task_holds_is_dropped_on_a_disk_thread_however_many_wait() {
        let threads = DiskThreads::start(1).unwrap();
        let runtime = RuntimeBuilder::<LegacyDriver>::new().attach_thread_pool(Box::new(threads)).build();
        let (go, gone) = channel::<()>();
        let (sender, closed) = channel();
        runtime.unwrap().block_on(async move {
            drop(monoio::spawn_blocking(move || gone.recv()));
            for _ in 0..2 * TASKS_WAITING_MAX {
                let file = Closed(sender.clone());
                drop(monoio::spawn_blocking(move || drop(file)));
            }
            assert!(closed.try_recv().is_err(), "none before its turn");
            go.send(()).unwrap();
            drop(sender);
            let names: Vec<String> = closed.iter().collect();
            assert_eq!(names.len(), 2 * TASKS_WAITING_MAX);
            assert!(names.iter().all(|name| name == "streamd-disk-0"), "{names:?}");
        });
    }
}
