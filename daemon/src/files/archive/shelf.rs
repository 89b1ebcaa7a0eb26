//! The plans that were made a moment ago, so that a further part of an archive takes no further walk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Plan;
use crate::files::Generation;

/// The time after its last use for which a plan is kept. Whoever goes on with a download does so by then.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The memory for plans that nobody may need any more: one eighth of what may wait by default. A larger plan is kept
/// as long as it is the only one.
const KEPT_BYTES_MAX: u64 = 8 << 20;

/// The key by which the plan of an archive is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The file system and inode of the directory.
    pub(super) directory: (u64, u64),
    /// The digest of the directory's name, with which all paths begin, of the share whose names are left out, and of
    /// the kind of its tags.
    pub(super) name: [u8; 32],
    /// The generation of the uploads below the root.
    pub(super) generation: Generation,
}

/// The plan that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) key: Key,
    /// The age up to which a plan counts as that of the directory as it is now.
    pub(super) age_max: Duration,
    /// The entity tag of an archive of which a further part is asked for, whose plan may be older.
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

    /// Keeps a plan, in place of an earlier one of the same directory. `made` is when its walk began.
    pub(super) fn put(&self, key: Key, plan: &Arc<Plan>, made: Instant) {
        let mut shelf = self.lock();
        shelf.retain(|kept| (kept.key.directory, kept.key.name) != (key.directory, key.name));
        shelf.push(Kept { key, plan: Arc::clone(plan), made, used: Instant::now() });
        while shelf.len() > 1 && shelf.iter().map(|kept| kept.plan.bytes()).sum::<u64>() > KEPT_BYTES_MAX {
            let oldest = shelf.iter().enumerate().min_by_key(|(_, kept)| kept.used).map(|(place, _)| place);
            oldest.map(|oldest| shelf.swap_remove(oldest));
        }
    }

    /// Drops the plans that nobody asked for in a while.
    pub(super) fn expire(&self) {
        self.lock().retain(|kept| kept.used.elapsed() < KEPT_FOR && !kept.plan.is_outdated());
    }

    /// Drops all plans.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
