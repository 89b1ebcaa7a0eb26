//! What answers a request: a file, a listing, or why there is none.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::engine::{self, Engine, Facts};
use super::super::look_up;
use super::content::of_file;
use super::digest;
use super::exchange::Exchange;
use super::listing::{self, ListingBody};
use super::response::{Asked, Response};
use crate::files::residency::Residency;
use crate::files::{CONTENT_BYTES_MAX, FileError, Found, KnownFile, MountId, Root};
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Request;
use crate::protocol::listing::location_with_slash;
use crate::telemetry::Limit;

/// What answers a request for a file that is known.
pub(super) fn of_known_file(worker: &Worker, exchange: &Exchange) -> Option<Response> {
    let request = &exchange.request;
    let known =
        look_up::known_file(worker, &request.name).filter(|known| !wants_content(worker, request, known))?;
    Some(of_file(request, &exchange.asked(worker), &known, None))
}

/// Finds out what answers a request.
pub(super) async fn prepare(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
) -> Response {
    if let Some(known) = look_up::known_file(worker, &request.name) {
        return of_found(worker, connection, request, asked, &known).await;
    }
    let served = worker.served();
    let Some(root) = &served.root else {
        return Response::problem(asked, 404, "no files are served: start streamd with --root DIR");
    };
    let generation = worker.generation();
    match look_up::find(worker, root, &request.name, connection.group()).await {
        Ok(Found::File(file)) => {
            let known = look_up::keep(worker, &request.name, file, generation);
            let response = of_found(worker, connection, request, asked, &known).await;
            worker.disk.release(known);
            response
        }
        Ok(Found::Directory(directory)) if worker.live().settings.listing => {
            if !request.name.is_directory() {
                // As at the end of a listing: a server may have to be asked.
                let owner = Owner { mount: MountId::of(&directory), group: connection.group() };
                worker.disk.discard(Lane::Listing, owner, directory);
                return redirect_to_directory(asked, request);
            }
            of_directory(worker, connection, request, asked, root, directory).await
        }
        Ok(Found::Directory(_)) => Response::of_file_error(asked, FileError::NotFound),
        Err(error) => Response::of_file_error(asked, error),
    }
}

/// Lists a directory.
async fn of_directory(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
    root: &Arc<Root>,
    directory: OwnedFd,
) -> Response {
    let listings_max = worker.live().settings.address_listings_max;
    let share = worker.resources.shares.listings.take(connection.group(), 1, listings_max as u64);
    let Some(share) = share else { return too_many_listings(asked, listings_max) };
    // Boxed: files need no room for this.
    let response = match Box::pin(listing::read(worker, connection, request, root, directory)).await {
        Ok(body) => of_listing(asked, body),
        Err(error) => Response::of_file_error(asked, error),
    };
    Response { _share: Some(Box::new(share)), ..response }
}

fn of_listing(asked: &Asked<'_>, body: ListingBody) -> Response {
    let mut response = Response::in_pieces(asked, body.media_type(), body.framing(), |head| {
        body.describe(head);
    });
    if asked.has_body() {
        response.listing = Some(Box::new(body));
    } else {
        body.give_up(asked.worker);
    }
    response
}

/// The links of a listing are relative, and so right behind the slash alone.
fn redirect_to_directory(asked: &Asked<'_>, request: &Request) -> Response {
    Response::made(asked, 301, &[("Location", location_with_slash(&request.target))], None)
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
