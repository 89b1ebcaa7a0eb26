//! What is served: the root of each share is opened with everything that belongs to it, and taken over by a reload
//! where it stays.

use std::sync::Arc;

use super::error::DaemonError;
use crate::config::{EtagChoice, Share, Shares};
use crate::dataplane::{Served, ServedShare};
use crate::files::upload::Uploads;
use crate::files::{Digester, Root};

/// Opens all shares, which come in force with reload number `number`.
pub(super) fn open_all(shares: &Shares, number: u64) -> Result<Served, DaemonError> {
    let opened = shares.iter().map(|share| open(share).map(Arc::new));
    Ok(Served::new(opened.collect::<Result<_, _>>()?, number))
}

/// Opens a share.
pub(super) fn open(share: &Arc<Share>) -> Result<ServedShare, DaemonError> {
    let root = open_root(share)?;
    let refused =
        |reason| DaemonError::Uploads { share: share.path.clone(), path: share.root.clone(), reason };
    let uploads = share.settings.uploads.then(|| Uploads::open(Arc::clone(&root)).map_err(refused));
    let uploads = uploads.transpose()?;
    // The digester comes after uploads, which keep records of files where they outlive the daemon.
    let has_digests = share.settings.etag == EtagChoice::Digest;
    let digester = has_digests.then(|| Digester::start(Arc::clone(&root)).map_err(DaemonError::Digester));
    Ok(ServedShare { share: Arc::clone(share), root, digester: digester.transpose()?, uploads })
}

/// Opens the root of a share alone.
pub(super) fn open_root(share: &Share) -> Result<Arc<Root>, DaemonError> {
    let root = Root::open(&share.root).map_err(|reason| DaemonError::Root {
        share: share.path.clone(),
        path: share.root.clone(),
        reason,
    })?;
    if let Some(name) = root.mute_file_system() {
        tracing::info!(
            share = %share.path,
            root = %share.root.display(),
            "the root is on {name}, which doesn't tell what is in memory: files are read by disk threads first, and \
             again after a minute"
        );
    }
    Ok(Arc::new(root.tagging(share.settings.etag)))
}

/// Returns a share that stays, with its settings of a reload.
pub(super) fn with_settings(served: &Arc<ServedShare>, share: &Arc<Share>) -> Arc<ServedShare> {
    if served.share.settings == share.settings {
        return Arc::clone(served);
    }
    Arc::new(ServedShare { share: Arc::clone(share), ..ServedShare::clone(served) })
}

/// Returns the shares of a reload as far as they were served before, for a reload that nothing could be opened for.
pub(super) fn without_new(served: &Served, shares: &Shares, number: u64) -> Served {
    let kept = shares.iter().filter_map(|share| Some(with_settings(served.at(share.path.as_str())?, share)));
    Served::new(kept.collect(), number)
}

/// Whether both serve the same roots with the same settings.
pub(super) fn are_same(left: &Served, right: &Served) -> bool {
    let (left, right) = (left.shares(), right.shares());
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| Arc::ptr_eq(left, right))
}
