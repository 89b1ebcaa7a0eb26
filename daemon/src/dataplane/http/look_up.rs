//! Which file answers a request: one that is known, or what its name leads to.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{DiskError, Lane, Owner};
use super::super::engine::{self, Engine, Facts};
use super::content::of_file;
use super::exchange::Exchange;
use super::response::{Asked, Response};
use super::{digest, listing};
use crate::files::residency::Residency;
use crate::files::{CONTENT_BYTES_MAX, FileError, Found, KnownFile, MountId, Root, SourceFile, Step, Term};
use crate::limits::AddressGroup;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Request;
use crate::protocol::name::Name;
use crate::telemetry::Limit;

/// What answers a request for a file that is known.
pub(super) fn of_known_file(worker: &Worker, exchange: &Exchange) -> Option<Response> {
    let request = &exchange.request;
    let known = known_file(worker, request).filter(|known| !wants_content(worker, request, known))?;
    Some(of_file(request, &Asked::new(worker, exchange), &known, None))
}

fn known_file(worker: &Worker, request: &Request) -> Option<Rc<KnownFile>> {
    worker.files.get(&request.name, worker.clock.ticks(), worker.generation())
}

/// Finds out what answers a request.
pub(super) async fn prepare(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
) -> Response {
    if let Some(known) = known_file(worker, request) {
        return of_found(worker, connection, request, asked, &known).await;
    }
    let served = worker.served();
    let Some(root) = &served.root else {
        return Response::problem(asked, 404, "no files are served: start streamd with --root DIR");
    };
    let generation = worker.generation();
    match find(worker, root, &request.name, connection.group()).await {
        Ok(Found::File(file)) => {
            let known = keep(worker, &request.name, file, generation);
            let response = of_found(worker, connection, request, asked, &known).await;
            worker.disk.release(known);
            response
        }
        Ok(Found::Directory(directory)) if worker.live().settings.listing => {
            let listings_max = worker.live().settings.address_listings_max;
            let share = worker.resources.shares.listings.take(connection.group(), 1, listings_max as u64);
            let Some(share) = share else { return too_many_listings(asked, listings_max) };
            // Boxed: files need no room for this.
            let response = Box::pin(listing::respond(worker, connection, request, asked, directory))
                .await
                .unwrap_or_else(|error| Response::of_file_error(asked, error));
            Response { _share: Some(Box::new(share)), ..response }
        }
        Ok(Found::Directory(_)) => Response::of_file_error(asked, FileError::NotFound),
        Err(error) => Response::of_file_error(asked, error),
    }
}

fn too_many_listings(asked: &Asked<'_>, listings_max: usize) -> Response {
    asked.worker.counters.limited.add(Limit::AddressListings, 1);
    let detail = format!("this address is being sent {listings_max} listings, which is address_listings_max");
    Response::problem_with(asked, 429, &detail, |head| {
        head.field("Retry-After", "1");
    })
}

/// Whether a file's bytes are few, sent from what is known of it, and not known yet.
fn wants_content(worker: &Worker, request: &Request, known: &KnownFile) -> bool {
    if !known.lacks_content() || request.method != Method::Get {
        return false;
    }
    let choice = worker.live().settings.engine;
    let facts = Facts { choice, transfer_bytes: known.file.size(), residency: Residency::Cold };
    engine::choose(facts) == Engine::Copy
}

/// Reads a short file that isn't in memory, so that this request and those that follow are answered from there.
async fn read_content(worker: &Worker, connection: &Connection, known: &KnownFile) -> Result<(), FileError> {
    let (file, owner) = (known.file.clone(), Owner { mount: known.file.mount(), group: connection.group() });
    let read = move || file.read_cold(CONTENT_BYTES_MAX);
    // Where nobody reads it now, the engine does when its turn comes.
    let Ok(read) = worker.disk.run_or_refuse(Lane::Read, owner, read).await else {
        return Ok(());
    };
    worker.counters.windows_cold.add(1);
    if let Some(content) = read? {
        worker.files.keep_content(known, content);
    }
    Ok(())
}

async fn of_found(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
    known: &Rc<KnownFile>,
) -> Response {
    if wants_content(worker, request, known)
        && let Err(error) = Box::pin(read_content(worker, connection, known)).await
    {
        return Response::of_file_error(asked, error);
    }
    // Boxed: few requests want one.
    let repr_digest = match &request.want_repr_digest {
        Some(_) => Box::pin(digest::of(worker, connection, request, &known.file)).await,
        None => None,
    };
    let mut response = of_file(request, asked, known, repr_digest.as_deref());
    if let Some(body) = &mut response.file {
        body.may_have_changed = true;
    }
    response
}

/// Keeps a file that was just opened for the requests that follow; `generation` is the one before the opening.
fn keep(worker: &Worker, name: &Name, file: SourceFile, generation: u64) -> Rc<KnownFile> {
    let served = worker.served();
    if let Some(digester) = served.digester.as_ref().filter(|_| file.lacks_digest(SystemTime::now())) {
        digester.want(name);
    }
    if file.is_modified_after(worker.clock.newest()) {
        // Of this very moment, most likely, which the next answer's date shouldn't be older than.
        worker.clock.look();
    }
    let now = worker.clock.ticks();
    let valid_ms = worker.live().settings.cache_valid_ms;
    let end = now + worker.clock.ticks_within(valid_ms);
    worker.files.add(name, file, &Term { now, end, generation, date: worker.clock.newest() })
}

/// Resolves a name for somebody of this group, at once where that needs no disk.
pub(in super::super) async fn find(
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
