//! Finds out which share a request writes to.

use std::sync::Arc;

use super::super::super::served::{Served, ServedShare};
use crate::files::upload::Uploads;
use crate::protocol::name::Name;

/// The share that a request writes to, and the name there.
pub(in crate::dataplane::http) struct WrittenShare {
    pub(super) share: Arc<ServedShare>,
    pub(super) uploads: Arc<Uploads>,
    pub(super) name: Name,
}

impl WrittenShare {
    /// Finds the share of a name; None where its share takes no uploads.
    pub(in crate::dataplane::http) fn of(served: &Served, name: &Name) -> Option<WrittenShare> {
        let (share, name) = served.find(name)?;
        let uploads = share.uploads.clone()?;
        Some(WrittenShare { share: Arc::clone(share), uploads, name: name.into_owned() })
    }
}
