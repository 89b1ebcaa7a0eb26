//! The thread that removes abandoned uploads, and reports how much uploads and stored frames take.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::dataplane::{Served, ServedShare};
use crate::files::upload::{UploadUsage, Uploads};
use crate::files::{Spool, SpoolUsage};
use crate::telemetry::{SpoolGauges, Telemetry, UploadGauges};

/// The longest time between two passes: little beside the hours that partials are kept, and a pass over full
/// directories takes only milliseconds if nothing is to be removed.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(10 * 60);

/// The interval at which uploads and frames are counted, and after which a pass that ended at a limit is followed
/// by the next: no scraper asks more often, and the disk gets some time for requests.
const TICK: Duration = Duration::from_secs(1);

/// The handle of the thread, which ends when this is dropped. Nobody waits for its end: it doesn't matter whether
/// it removes one file more.
pub(super) struct Sweeper {
    /// A channel on which nothing is sent; its end stops the thread.
    _stop: Sender<()>,
}

/// The uploads of one share, and when they were swept.
struct Swept {
    share: Arc<ServedShare>,
    at: Option<Instant>,
    /// Whether the last pass ended at a limit.
    is_partway: bool,
}

impl Sweeper {
    pub(super) fn start(
        served: &Served,
        spool: Option<Arc<Spool>>,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<Sweeper> {
        let (stop, stopped) = channel();
        let telemetry = Arc::clone(telemetry);
        let taking = served.shares().iter().filter(|share| share.uploads.is_some());
        let swept = taking.map(|share| Swept { share: Arc::clone(share), at: None, is_partway: false });
        let swept: Vec<Swept> = swept.collect();
        let run = move || run(swept, spool.as_deref(), &telemetry, &stopped);
        thread::Builder::new().name("streamd-sweep".to_owned()).spawn(run)?;
        Ok(Sweeper { _stop: stop })
    }
}

fn run(mut swept: Vec<Swept>, spool: Option<&Spool>, telemetry: &Telemetry, stopped: &Receiver<()>) {
    loop {
        let mut usage = UploadUsage::default();
        for Swept { share, at, is_partway } in &mut swept {
            let Some(uploads) = &share.uploads else { continue };
            let ttl = share.share.settings.partial_ttl.0;
            let pause = if *is_partway { TICK } else { interval(ttl) };
            if at.is_none_or(|at| at.elapsed() >= pause) {
                *is_partway = sweep(uploads, ttl);
                *at = Some(Instant::now());
            }
            usage = usage.and(&uploads.usage());
        }
        if !swept.is_empty() {
            tell_uploads(&usage, &telemetry.uploads);
        }
        if let Some(spool) = spool {
            if let Err(error) = spool.refresh() {
                tracing::debug!(%error, "the spool could not be counted");
            }
            tell_spool(&spool.usage(), &telemetry.spool);
        }
        if stopped.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn tell_uploads(usage: &UploadUsage, gauges: &UploadGauges) {
    gauges.writers.set(usage.writers as u64);
    gauges.partials.set(usage.partials as u64);
    gauges.partial_bytes.set(usage.bytes);
    gauges.partial_bytes_ahead.set(usage.bytes_ahead);
}

fn tell_spool(usage: &SpoolUsage, gauges: &SpoolGauges) {
    gauges.bytes.set(usage.bytes);
    gauges.files.set(usage.files);
    gauges.incoming_bytes.set(usage.incoming_bytes);
    gauges.incoming_files.set(usage.incoming_files);
}

/// Returns the time between two passes where partials are kept for `ttl`: none is kept for half as long again.
fn interval(ttl: Duration) -> Duration {
    (ttl / 2).clamp(TICK, SWEEP_INTERVAL_MAX)
}

/// Makes one pass; true where the next has to follow soon.
fn sweep(uploads: &Uploads, ttl: Duration) -> bool {
    let swept = uploads.sweep(ttl);
    if swept.partials == 0 {
        // This holds even for a pass that ended at a limit: another one would only find the same again.
        return false;
    }
    tracing::info!(
        partials = swept.partials,
        bytes = swept.bytes,
        "removed uploads that nobody went on with"
    );
    swept.is_partway
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::config::{Live, Settings};
    use crate::daemon::serving;
    use crate::files::Root;
    use crate::telemetry::LogQueue;

    /// Waits until `what` holds.
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
        let root = Some(directory.path().to_owned());
        let live = Live::new(Settings { root, uploads: true, ..Settings::default() }).unwrap();
        let served = serving::open_all(&live.shares, 0).unwrap();
        let staging = directory.path().join(".streamd-uploads");
        let [old, young] = ["0", "1"].map(|digit| staging.join(digit.repeat(32)));
        leave(&old, SystemTime::UNIX_EPOCH);
        leave(&young, SystemTime::now());
        let telemetry = Telemetry::new(0, "epoll", LogQueue::nowhere());
        telemetry.uploads.partials.set(7);
        let sweeper = Sweeper::start(&served, None, &telemetry).unwrap();
        wait_until(|| telemetry.uploads.partials.get() == 0);
        assert!(!old.exists() && young.exists());
        drop(sweeper);
        wait_until(|| Arc::strong_count(&served.shares()[0]) == 1);
    }

    #[test]
    fn what_is_kept_for_a_minute_is_looked_for_within_half_of_it() {
        for (ttl_s, interval_s) in [(0, 1), (60, 30), (600, 300), (1200, 600), (86_400, 600)] {
            assert_eq!(interval(Duration::from_secs(ttl_s)), Duration::from_secs(interval_s), "{ttl_s}");
        }
    }

    #[test]
    fn what_was_removed_up_to_a_limit_is_gone_on_with_soon() {
        let directory = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(Arc::new(Root::open(directory.path()).unwrap())).unwrap();
        assert!(!sweep(&uploads, Duration::ZERO));
        // The files are made of holes, and have more bytes than one pass removes.
        for digit in ["0", "1"] {
            let path = directory.path().join(".streamd-uploads").join(digit.repeat(32));
            File::create(&path).unwrap().set_len(1 << 37).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        assert!(sweep(&uploads, Duration::ZERO));
        assert!(!sweep(&uploads, Duration::ZERO));
        assert_eq!(uploads.sweep(Duration::ZERO).partials, 0);
    }
}
