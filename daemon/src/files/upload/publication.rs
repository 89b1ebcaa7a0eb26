//! What must hold for a file to get its name, and what it is once it has it.

use std::fmt;

use super::super::digest::{Algorithms, Digests};
use super::destination::Current;
use crate::protocol::conditional::Validators;

/// Says whether the destination's state, None where no file is there, is the one that was asked for.
pub type Precondition<'p> = &'p dyn Fn(Option<&Validators>) -> bool;

/// What must hold for an upload to be published, and what is recorded of it.
#[derive(Clone, Copy, Default)]
pub struct Publication<'p> {
    /// Whether nothing may have the name (`If-None-Match: *`): not even something made from outside at the last
    /// moment is replaced.
    pub is_new: bool,
    /// Asked under the destination's lock right before the rename; between uploads and deletions of the daemons on this
    /// root nothing comes in between.
    pub precondition: Option<Precondition<'p>>,
    /// What the content must turn out to be, besides what was promised by those before: what the last request said
    /// before its body, and behind it.
    pub digests: [Digests; 2],
    /// Digests that are computed and recorded in any case.
    pub recorded: Algorithms,
}

impl fmt::Debug for Publication<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Publication").field("is_new", &self.is_new).finish_non_exhaustive()
    }
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether nothing had the name before.
    pub created: bool,
    /// Its length in bytes.
    pub size: u64,
    /// Its entity tag, as a GET has it.
    pub etag: String,
    /// The digests that were computed.
    pub digests: Digests,
}

impl Publication<'_> {
    /// Whether a file may get the name that means this now.
    pub(super) fn permits(&self, current: &Current) -> bool {
        let is_free = !self.is_new || current.found.is_none();
        is_free && self.precondition.is_none_or(|precondition| precondition(current.validators.as_ref()))
    }
}
