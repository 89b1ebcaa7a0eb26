//! The lanes of the disk threads, and whose work a task is.

use crate::files::MountId;
use crate::limits::AddressGroup;
use crate::telemetry::LANE_NAMES;

/// A share of the disk threads for one kind of work, in the order of [`LANE_NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Lane {
    /// Names to open files.
    LookUp,
    /// Windows of files that aren't in memory.
    Read,
    /// Uploads and stored frames, and closing what takes long to close.
    Write,
    /// Digests of whole files.
    Digest,
    /// Directories.
    Listing,
}

impl Lane {
    pub(super) const ALL: [Lane; 5] = [Lane::LookUp, Lane::Read, Lane::Write, Lane::Digest, Lane::Listing];

    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        LANE_NAMES[self as usize]
    }
}

/// Whose share of a lane a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Owner {
    /// The mount that it may wait for.
    pub(in crate::dataplane) mount: MountId,
    /// Whom it is for; None for everybody on this host.
    pub(in crate::dataplane) group: Option<AddressGroup>,
}

#[cfg(test)]
mod tests {
    use super::Lane;

    #[test]
    fn metrics_name_the_lanes_in_this_order() {
        let names = ["lookup", "read", "write", "digest", "listing"];
        assert_eq!(Lane::ALL.map(Lane::name), names);
        for (place, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane as usize, place, "{lane:?}");
        }
    }
}
