//! Names to open files: what is known of them, and what they lead to, at once where that needs no disk.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::context::Worker;
use super::disk::{DiskError, Lane, Owner};
use super::served::ServedShare;
use crate::files::{FileError, Found, Generation, KnownFile, MountId, Root, SourceFile, Step, Term};
use crate::limits::AddressGroup;
use crate::protocol::name::Name;

/// What is known of the file of this name.
pub(super) fn known_file(worker: &Worker, name: &Name) -> Option<Rc<KnownFile>> {
    worker.files.get(name, worker.clock.now(), worker.generation())
}

/// Resolves a name for somebody of this group, at once where that needs no disk.
pub(super) async fn find(
    worker: &Worker,
    root: &Arc<Root>,
    name: &Name,
    group: Option<AddressGroup>,
) -> Result<Found, FileError> {
    if let Some(found) = root.find_cached(name) {
        return found;
    }
    // The mount that it would lead to without links, and then those that links lead to.
    let mut mounts = vec![root.mounts().of_name(name)];
    loop {
        let owner = Owner { mount: mounts.last().copied().unwrap_or_default(), group };
        let (root, name, known) = (Arc::clone(root), name.clone(), mounts.clone());
        let find = move || root.find_within(&name, &known);
        match worker.disk.run_or_refuse(Lane::LookUp, owner, find).await?? {
            Step::Found(found) => return Ok(found),
            Step::Elsewhere(mount) => mounts.push(mount),
        }
    }
}

/// Keeps a file that was just opened for the requests that follow, by its whole name; `within` is what it is called in
/// its share, and `generation` is the one before the opening.
pub(super) fn keep(
    worker: &Worker,
    name: &Name,
    (share, within): (&ServedShare, &Name),
    file: SourceFile,
    generation: Generation,
) -> Rc<KnownFile> {
    if let Some(digester) = share.digester.as_ref().filter(|_| file.lacks_digest(SystemTime::now())) {
        digester.want(within);
    }
    if file.is_modified_after(worker.clock.newest()) {
        // Of this very moment, most likely, which the next answer's date shouldn't be older than.
        worker.clock.look();
    }
    let now = worker.clock.now();
    let valid_ms = worker.live().settings.cache_valid_ms;
    let end = now + worker.clock.ticks_within(valid_ms);
    worker.files.add(name, file, &Term { now, end, generation, date: worker.clock.newest() })
}

/// The mount that the directory of a name is on, for somebody of this group who writes there.
pub(super) async fn mount_of_directory(
    worker: &Worker,
    root: &Arc<Root>,
    name: &Name,
    group: Option<AddressGroup>,
) -> Result<MountId, DiskError> {
    if let Some(mount) = root.mount_of_directory_now(name) {
        return Ok(mount);
    }
    let mut mount = root.mounts().of_name(name);
    let mut mounts = vec![mount];
    loop {
        let (root, name, known) = (Arc::clone(root), name.clone(), mounts.clone());
        let lead = move || root.directory_leads_to(&name, &known);
        match worker.disk.run_or_refuse(Lane::LookUp, Owner { mount, group }, lead).await? {
            Some(next) => mount = next,
            None => return Ok(mount),
        }
        mounts.push(mount);
    }
}
