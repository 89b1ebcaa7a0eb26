//! All names of a directory, sorted and within the budget of what waits for readers.

use super::names::Names;
use crate::limits::Reserved;

/// All names of a directory, with their place in the budget.
#[derive(Debug)]
pub(super) struct Sorted {
    names: Names,
    _room: Reserved,
}

impl Sorted {
    /// Sorts the names that were read; `room` keeps the bytes that they take.
    pub(super) fn new(mut names: Names, mut room: Reserved) -> Sorted {
        names.sort();
        room.shrink_to(names.bytes() as u64);
        Sorted { names, _room: room }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }
}
