//! Plans that were made a moment ago: whoever asks for a further part of an archive walks through no directory again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Plan;
use crate::files::Generation;

/// A plan that nobody asked for in this time goes: whoever goes on with a download does so by then.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Memory for plans that nobody may need any more: one eighth of what may wait by default. A larger one is kept for as
/// long as it is the only one.
const KEPT_BYTES_MAX: u64 = 8 << 20;

/// Which archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its directory.
    pub(super) directory: (u64, u64),
    /// A digest of its name, with which all paths of it begin.
    pub(super) name: [u8; 32],
    /// What uploads had changed below the root.
    pub(super) generation: Generation,
}

/// What of an archive is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) key: Key,
    /// The archive as it is now: its plan is no older than this.
    pub(super) age_max: Duration,
    /// A further part of the one that has this tag, however old its plan is.
    pub(super) etag: Option<&'a [u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    key: Key,
    plan: Arc<Plan>,
    made: Instant,
    used: Instant,
}

impl Shelf {
    pub(super) fn find(&self, wanted: &Wanted<'_>) -> Option<Arc<Plan>> {
        let fits = |kept: &&mut Kept| {
            let is_fresh = kept.made.elapsed() < wanted.age_max;
            let is_continued = wanted.etag == Some(kept.plan.etag().as_bytes());
            kept.key == wanted.key && !kept.plan.is_outdated() && (is_fresh || is_continued)
        };
        let mut shelf = self.lock();
        let kept = shelf.iter_mut().find(fits)?;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.plan))
    }

    /// Puts a plan there for others, in place of an earlier one of the same directory; `made` is when its walk began.
    pub(super) fn put(&self, key: Key, plan: &Arc<Plan>, made: Instant) {
        let mut shelf = self.lock();
        shelf.retain(|kept| (kept.key.directory, kept.key.name) != (key.directory, key.name));
        shelf.push(Kept { key, plan: Arc::clone(plan), made, used: Instant::now() });
        while shelf.len() > 1 && shelf.iter().map(|kept| kept.plan.bytes()).sum::<u64>() > KEPT_BYTES_MAX {
            let oldest = shelf.iter().enumerate().min_by_key(|(_, kept)| kept.used).map(|(place, _)| place);
            oldest.map(|oldest| shelf.swap_remove(oldest));
        }
    }

    /// Lets those go that nobody asked for in a while.
    pub(super) fn expire(&self) {
        self.lock().retain(|kept| kept.used.elapsed() < KEPT_FOR && !kept.plan.is_outdated());
    }

    /// Lets all go.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
