//! The conditions on which a file gets its name, and the facts about it once it has it.

use std::fmt;

use super::super::digest::{Algorithms, Digests};
use super::destination::Current;
use crate::protocol::conditional::Validators;

/// A test of the destination's state, None where no file is there, that says whether it is the one that was asked
/// for.
pub type Precondition<'p> = &'p dyn Fn(Option<&Validators>) -> bool;

/// The conditions of a publication, and the digests to be recorded.
#[derive(Clone, Copy, Default)]
pub struct Publication<'p> {
    /// Whether nothing may have the name (`If-None-Match: *`): not even something made from outside at the last
    /// moment is replaced.
    pub is_new: bool,
    /// The test of the destination's state, made under its lock right before the rename; between uploads and
    /// deletions of the daemons on this root nothing comes in between.
    pub precondition: Option<Precondition<'p>>,
    /// The digests that the content must have besides those promised by earlier parts: those of the last request's
    /// head, and of its trailers.
    pub digests: [Digests; 2],
    /// The algorithms whose digests are computed and recorded in any case.
    pub recorded: Algorithms,
}

impl fmt::Debug for Publication<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Publication").field("is_new", &self.is_new).finish_non_exhaustive()
    }
}

/// The facts about a published file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether nothing had the name before.
    pub created: bool,
    /// The file's length in bytes.
    pub size: u64,
    /// The file's entity tag, as a GET has it.
    pub etag: String,
    /// The digests that were computed.
    pub digests: Digests,
}

impl Publication<'_> {
    /// Whether the conditions allow to replace the current file.
    pub(super) fn permits(&self, current: &Current) -> bool {
        let is_free = !self.is_new || current.found.is_none();
        is_free && self.precondition.is_none_or(|precondition| precondition(current.validators.as_ref()))
    }
}
