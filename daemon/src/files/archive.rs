//! Archives: directories as tars that are made while they are sent.
//!
//! A walk makes the plan of an archive: its members in the order of their paths, and the offset of each. So its
//! length is known before its first byte, it can be sent from any byte on, and an entity tag of all that was seen
//! tells it from the archive of any other state. Files are read when their turn comes, and one that isn't what was
//! planned ends the archive.

mod error;
mod header;
mod names;
mod piece;
mod plan;
mod shelf;
mod tree;
mod ustar;
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Stat, fstat};
use sha2::{Digest as _, Sha256};

use super::directory::Terms;
use super::error::FileError;
use crate::limits::{Budget, Plane, Reserved};
pub use error::ArchiveError;
pub use piece::{PIECE_BYTES_MAX, Piece, mount_at, read};
pub use plan::Plan;
use shelf::{Key, Shelf, Wanted};
pub use tree::Tree;
pub use walk::{Walk, Walked};

/// The archives of one daemon, which share a budget and the plans of a moment ago.
#[derive(Debug)]
pub struct Archives {
    budget: Arc<Budget>,
    shelf: Shelf,
}

/// A plan in the making.
#[derive(Debug)]
pub struct Planning {
    key: Key,
    began: Instant,
    walk: Box<Walk>,
}

/// The state of a plan after a task.
#[derive(Debug)]
pub enum Planned {
    /// More of the directory is to be seen.
    Partly(Planning),
    /// The plan is made.
    Plan(Arc<Plan>),
}

impl Planning {
    /// Returns the mount that the next task waits for.
    pub fn mount(&self) -> super::MountId {
        self.walk.mount()
    }
}

impl Archives {
    /// Creates the archives of a daemon, whose memory is taken from `budget`.
    pub fn new(budget: Arc<Budget>) -> Archives {
        Archives { budget, shelf: Shelf::default() }
    }

    /// Reserves room for the bytes that wait for the reader of one archive.
    pub fn reserve(&self, bytes: usize, terms: Terms) -> Result<Reserved, FileError> {
        let plane = Plane::Data(terms.holder);
        let reserve = || self.budget.reserve(plane, bytes as u64, terms.waiting_bytes_max);
        reserve()
            .or_else(|_| {
                self.shelf.clear();
                reserve()
            })
            .map_err(FileError::NoRoom)
    }

    /// Begins the plan of a directory, or finds one that is no older than `age_max` or is that of the archive with this
    /// tag, of which somebody has a part already. Waits for the disk.
    pub fn begin(
        &self,
        tree: &Tree,
        age_max: Duration,
        etag: Option<&[u8]>,
        terms: Terms,
    ) -> Result<Planned, ArchiveError> {
        let began = Instant::now();
        tree.refresh_mounts();
        let stat = fstat(&*tree.descriptor).map_err(FileError::from)?;
        let key = key_of(tree, &stat, terms);
        if let Some(plan) = self.shelf.find(&Wanted { key, age_max, etag }) {
            return Ok(Planned::Plan(plan));
        }
        let room = self.reserve(0, terms)?;
        let walk = Box::new(Walk::new(tree.clone(), &stat, room, terms.waiting_bytes_max));
        self.go_on(Planning { key, began, walk })
    }

    /// Walks on for a plan for a while. Waits for the disk.
    pub fn go_on(&self, planning: Planning) -> Result<Planned, ArchiveError> {
        let Planning { key, began, walk } = planning;
        Ok(match walk.go_on(&self.shelf)? {
            Walked::Partly(walk) => Planned::Partly(Planning { key, began, walk }),
            Walked::Planned(plan) => {
                self.shelf.put(key, &plan, began);
                Planned::Plan(plan)
            }
        })
    }

    /// Drops the plans that nobody asked for in a while.
    pub fn expire(&self) {
        self.shelf.expire();
    }
}

fn key_of(tree: &Tree, stat: &Stat, terms: Terms) -> Key {
    // Who sees less gets another archive, and no share that of another.
    let etag = [tree.etag as u8];
    let name = Sha256::digest([tree.name(), b"/", tree.hides_for().as_bytes(), &etag].concat()).into();
    Key { directory: (stat.st_dev, stat.st_ino), name, generation: terms.generation }
}

#[cfg(test)]
mod tests;
