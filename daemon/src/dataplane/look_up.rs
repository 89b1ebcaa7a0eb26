//! Names to open files: what is known of them, and what they lead to, at once where that needs no disk.

use std::rc::Rc;
use std::sync::Arc;

use super::context::Worker;
use super::disk::{DiskError, Lane, Owner};
use super::platform;
use super::served::ServedShare;
use crate::config::CodingChoice;
use crate::files::{
    Description, FileError, Found, Generation, KnownFile, MountId, Root, Siblings, SourceFile, Step, Term,
};
use crate::limits::AddressGroup;
use crate::protocol::name::Name;

/// Returns the file of this name, if it is known.
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

/// Keeps a file of this share that was just opened for the requests that follow. `own` is its name, and `name` the one
/// for which it answers: the same, or its directory's. `generation` is the one before the opening.
pub(super) fn keep(
    worker: &Worker,
    share: &ServedShare,
    [name, own]: [&Name; 2],
    file: SourceFile,
    generation: Generation,
) -> Rc<KnownFile> {
    let description = Description::of(&share.share, own);
    keep_as(worker, share, [name, own], description, file, generation)
}

/// Returns the sibling in this coding that is known.
pub(super) fn known_sibling(
    worker: &Worker,
    siblings: &Siblings,
    coding: CodingChoice,
) -> Option<Rc<KnownFile>> {
    known_file(worker, &key_of_sibling(siblings, coding))
}

/// Keeps the sibling in this coding, apart from what answers for its own name.
pub(super) fn keep_sibling(
    worker: &Worker,
    share: &ServedShare,
    siblings: &Siblings,
    coding: CodingChoice,
    file: SourceFile,
    generation: Generation,
) -> Rc<KnownFile> {
    let description = Description::of_coded(&share.share, siblings.name(), coding);
    let names = [&key_of_sibling(siblings, coding), &siblings.name_in(coding)];
    keep_as(worker, share, names, description, file, generation)
}

/// A name that no request can have, since none has a zero byte.
fn key_of_sibling(siblings: &Siblings, coding: CodingChoice) -> Name {
    siblings.name_in(coding).with_end("\0")
}

/// Keeps a file of the name `own`, which answers for `name`. Both are whole names, with the path of the share.
fn keep_as(
    worker: &Worker,
    share: &ServedShare,
    [name, own]: [&Name; 2],
    description: Description,
    file: SourceFile,
    generation: Generation,
) -> Rc<KnownFile> {
    if let Some(digester) = &share.digester
        && file.lacks_digest(platform::wall_clock())
        && let Some(within) = share.name_within(own)
    {
        digester.want(&within);
    }
    if file.is_modified_after(worker.clock.newest()) {
        // Its time is most likely this very moment, which the next answer's date shouldn't be older than.
        worker.clock.look();
    }
    let now = worker.clock.now();
    let valid_ms = worker.live().settings.cache_valid_ms;
    let end = now + worker.clock.ticks_within(valid_ms);
    worker.files.add(name, description, file, &Term { now, end, generation, date: worker.clock.newest() })
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
