//! The part of a range for which one residency question is asked.

use super::super::disk_waits::Care;
use crate::files::residency::Residency;

/// A part of a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether reading it may wait for a disk. The copy engine finds out by itself.
    pub(super) found: Found,
    /// Whether nothing of the response follows: its last bytes are held back until the file is known to be what it was
    /// when the first were sent.
    pub(super) is_last: bool,
}

impl Window {
    /// Returns the rest of it from `offset` on, which isn't believed to be in memory if there is any.
    pub(super) fn from(self, offset: u64) -> Window {
        Window { offset, length: self.length - (offset - self.offset), found: Found::Cold, ..self }
    }
}

/// The answer to where a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is in memory, and calls that send it are looked at with this care.
    Hot(Care),
    /// It isn't, or it can't be known.
    Cold,
}

impl Found {
    /// As the choice of an engine takes it.
    pub(super) fn residency(self) -> Residency {
        if self == Found::Cold { Residency::Cold } else { Residency::Hot }
    }
}
