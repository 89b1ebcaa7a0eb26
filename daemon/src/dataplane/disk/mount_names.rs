//! The mounts that tasks are for, and what they are called: in the log by their mount points, to clients by the paths
//! of shares, since they needn't know where these lie.

use std::sync::Arc;

use crate::files::{MountId, Mounts};

/// The mounts below the roots of all shares.
pub(in crate::dataplane) struct MountNames(Vec<ShareMounts>);

/// The mounts below the root of one share.
pub(in crate::dataplane) struct ShareMounts {
    /// The share's path, without a slash at its end.
    pub(in crate::dataplane) path: String,
    pub(in crate::dataplane) mounts: Arc<Mounts>,
}

impl MountNames {
    /// Takes the mounts of shares; of this process, where there are none.
    pub(in crate::dataplane) fn new(mut names: Vec<ShareMounts>) -> MountNames {
        if names.is_empty() {
            names.push(ShareMounts { path: String::new(), mounts: Arc::new(Mounts::of_process()) });
        }
        MountNames(names)
    }

    /// The mounts that roots are on, each once.
    pub(super) fn root_mounts(&self) -> Vec<MountId> {
        let mut mounts: Vec<MountId> = Vec::new();
        for mount in self.0.iter().map(|share| share.mounts.root()) {
            if !mounts.contains(&mount) {
                mounts.push(mount);
            }
        }
        mounts
    }

    /// The mount point of a mount.
    pub(super) fn point(&self, id: MountId) -> Arc<str> {
        self.0.iter().find_map(|share| share.mounts.point(id)).unwrap_or_else(|| "?".into())
    }

    /// The mount point as clients see it.
    pub(super) fn shown(&self, id: MountId) -> Arc<str> {
        let below = self.0.iter().find_map(|ShareMounts { path, mounts }| {
            mounts.point_below(id).map(|below| format!("{path}/{below}").into())
        });
        let of_root = || {
            let share = self.0.iter().find(|share| share.mounts.root() == id)?;
            Some(if share.path.is_empty() { "/".into() } else { share.path.as_str().into() })
        };
        below.or_else(of_root).unwrap_or_else(|| "/".into())
    }
}
