//! The thread that removes what nobody goes on with of uploads, and tells how many uploads there are.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::Live;
use crate::files::upload::Uploads;
use crate::telemetry::Telemetry;

/// Time between two passes: little beside the hours that partials are kept, and a pass over full directories takes
/// only milliseconds if nothing is to be removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How often uploads are counted, and how soon a pass that ended at a limit is followed by the next: no scraper asks
/// more often, and the disk gets some time for requests.
const TICK: Duration = Duration::from_secs(1);

/// The thread; it ends when this is dropped. Nobody waits for it: a file more or less that it removes is all one.
pub(super) struct Sweeper {
    /// Nothing is ever sent.
    _stop: Sender<()>,
}

impl Sweeper {
    pub(super) fn start(
        uploads: Arc<Uploads>,
        live: watch::Receiver<Arc<Live>>,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<Sweeper> {
        let (stop, stopped) = channel();
        let telemetry = Arc::clone(telemetry);
        let run = move || run(&uploads, &live, &telemetry, &stopped);
        thread::Builder::new().name("streamd-sweep".to_owned()).spawn(run)?;
        Ok(Sweeper { _stop: stop })
    }
}

fn run(uploads: &Uploads, live: &watch::Receiver<Arc<Live>>, telemetry: &Telemetry, stopped: &Receiver<()>) {
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            let ttl = live.borrow().settings.partial_ttl.0;
            due = Instant::now() + sweep(uploads, ttl);
        }
        let usage = uploads.usage();
        telemetry.uploads.writers.set(usage.writers as u64);
        telemetry.uploads.partials.set(usage.partials as u64);
        if stopped.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// One pass; returns the time until the next.
fn sweep(uploads: &Uploads, ttl: Duration) -> Duration {
    let swept = uploads.sweep(ttl);
    if swept.partials == 0 {
        // Not even where it ended at a limit: another pass would only find the same again.
        return SWEEP_INTERVAL;
    }
    tracing::info!(
        partials = swept.partials,
        bytes = swept.bytes,
        "removed uploads that nobody went on with"
    );
    if swept.is_partway { TICK } else { SWEEP_INTERVAL }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::config::Settings;
    use crate::files::Root;
    use crate::telemetry::LogQueue;

    /// Waits until `what` is so.
    fn wait_until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < end, "not within 10 s");
            thread::yield_now();
        }
    }

    fn leave(path: &Path, modified: SystemTime) {
        fs::write(path, "left behind").unwrap();
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    #[test]
    fn it_sweeps_at_once_and_ends_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(Arc::new(Root::open(directory.path()).unwrap())).unwrap();
        let home = directory.path().join(".streamd-uploads");
        let [old, young] = ["0", "1"].map(|digit| home.join(digit.repeat(32)));
        leave(&old, SystemTime::UNIX_EPOCH);
        leave(&young, SystemTime::now());
        let (_settings, live) = watch::channel(Arc::new(Live::new(Settings::default()).unwrap()));
        let telemetry = Telemetry::new(0, "epoll", LogQueue::nowhere());
        telemetry.uploads.partials.set(7);
        let sweeper = Sweeper::start(Arc::clone(&uploads), live, &telemetry).unwrap();
        wait_until(|| telemetry.uploads.partials.get() == 0);
        assert!(!old.exists() && young.exists());
        drop(sweeper);
        wait_until(|| Arc::strong_count(&uploads) == 1);
    }

    #[test]
    fn what_was_removed_up_to_a_limit_is_gone_on_with_soon() {
        let directory = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(Arc::new(Root::open(directory.path()).unwrap())).unwrap();
        assert_eq!(sweep(&uploads, Duration::ZERO), SWEEP_INTERVAL);
        // Of holes: more bytes than one pass removes.
        for digit in ["0", "1"] {
            let path = directory.path().join(".streamd-uploads").join(digit.repeat(32));
            File::create(&path).unwrap().set_len(1 << 37).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        assert_eq!(sweep(&uploads, Duration::ZERO), TICK);
        assert_eq!(sweep(&uploads, Duration::ZERO), SWEEP_INTERVAL);
        assert_eq!(uploads.sweep(Duration::ZERO).partials, 0);
    }
}
