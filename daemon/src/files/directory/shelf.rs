//! The names of directories that are being listed: a second listing of an unchanged directory shares them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::Stat;

use super::Generation;
use super::sorted::Sorted;

/// The age from which a change time can't be that of a later change too: the coarsest clock of file systems
/// (vfat).
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How long names are shared that were read earlier than that age: a change from outside that came within the same
/// tick of the file system's clock may stay unseen for so long.
const UNSETTLED_FOR: Duration = Duration::from_secs(1);

/// The state of a directory at one moment.
#[derive(Clone, Debug)]
pub(super) struct State {
    directory: (u64, u64),
    changed: (i64, u64),
    generation: Generation,
    is_settled: bool,
}

/// The names that are being listed now, by directory.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<HashMap<(u64, u64), Kept>>);

#[derive(Debug)]
struct Kept {
    state: State,
    since: Instant,
    sorted: Weak<Sorted>,
}

impl State {
    /// Takes the state from the directory's fstat(2), asked before its names are read, and the `generation` of the
    /// uploads.
    pub(super) fn of(stat: &Stat, generation: Generation) -> State {
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        let seconds = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
        let settled_from = SystemTime::UNIX_EPOCH + seconds + SETTLED_AFTER;
        let is_settled = SystemTime::now() > settled_from;
        State { directory: (stat.st_dev, stat.st_ino), changed, generation, is_settled }
    }

    fn is(&self, other: &State) -> bool {
        (self.directory, self.changed, self.generation) == (other.directory, other.changed, other.generation)
    }
}

impl Shelf {
    /// Returns the names of a directory in this state, if somebody still lists it.
    pub(super) fn find(&self, state: &State) -> Option<Arc<Sorted>> {
        let shelf = self.lock();
        let kept = shelf.get(&state.directory).filter(|kept| kept.state.is(state))?;
        let is_valid = kept.state.is_settled || kept.since.elapsed() < UNSETTLED_FOR;
        kept.sorted.upgrade().filter(|_| is_valid)
    }

    /// Puts names on the shelf for others and returns them, or those that somebody else has put there meanwhile.
    pub(super) fn put(&self, state: State, sorted: Arc<Sorted>) -> Arc<Sorted> {
        if let Some(sorted) = self.find(&state) {
            return sorted;
        }
        let mut shelf = self.lock();
        // Names that nobody lists any more go, so that the table is no longer than there are listings.
        shelf.retain(|_, kept| kept.sorted.strong_count() > 0);
        let kept = Kept { since: Instant::now(), sorted: Arc::downgrade(&sorted), state };
        shelf.insert(kept.state.directory, kept);
        sorted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u64), Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
