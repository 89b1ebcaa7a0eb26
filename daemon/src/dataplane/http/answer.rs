//! Finds out what answers a request: a file, a listing, or why there is none.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::engine::{self, Engine, Facts};
use super::super::look_up;
use super::super::served::Served;
use super::content::of_file;
use super::digest;
use super::exchange::Exchange;
use super::listing::{self, ListingBody};
use super::response::{Asked, Body, Response};
use crate::config::EngineChoice;
use crate::files::residency::Residency;
use crate::files::{CONTENT_BYTES_MAX, FileError, Found, KnownFile, MountId, Root};
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Request;
use crate::protocol::listing::location_with_slash;
use crate::protocol::name::Name;
use crate::telemetry::Limit;

/// The answer to a request for a file that is known, if nothing of the file has to be read for it.
pub(super) fn of_known_file(worker: &Worker, exchange: &Exchange, known: &Rc<KnownFile>) -> Option<Response> {
    let request = &exchange.request;
    if request.want_repr_digest.is_some() || wants_content(worker, request, known) {
        return None;
    }
    Some(of_file(request, &exchange.asked(worker), known, None))
}

/// The answer to a request for a name of which nothing is known: a file, a listing, or why there is none.
pub(super) async fn of_name(worker: &Worker, connection: &Connection, exchange: &Exchange) -> Response {
    let (request, asked) = (&exchange.request, exchange.asked(worker));
    let served = worker.served();
    let Some((share, name)) = served.find(&request.name) else { return of_no_share(&served, &asked) };
    let generation = worker.generation();
    match look_up::find(worker, &share.root, &name, connection.group()).await {
        Ok(Found::File(file)) => {
            let known = look_up::keep(worker, &request.name, (share, &name), file, generation);
            let response = of_read_file(worker, connection, exchange, &known).await;
            worker.disk.release(known);
            response
        }
        Ok(Found::Directory(directory)) if share.share.settings.listing => {
            if !request.name.is_directory() {
                // A disk thread closes it, since a server may have to be asked for that.
                let owner = Owner { mount: MountId::of(&directory), group: connection.group() };
                worker.disk.discard(Lane::Listing, owner, directory);
                return redirect_to_directory(&asked, request);
            }
            of_directory(worker, connection, request, &asked, (&share.root, &name), directory).await
        }
        Ok(Found::Directory(_)) => Response::of_file_error(&asked, FileError::NotFound),
        Err(error) => Response::of_file_error(&asked, error),
    }
}

/// The answer to a request for a name that no share has.
fn of_no_share(served: &Served, asked: &Asked<'_>) -> Response {
    if served.shares().is_empty() {
        return Response::problem(asked, 404, "no files are served: start streamd with --root DIR");
    }
    Response::of_file_error(asked, FileError::NotFound)
}

/// The answer to a request for a file of which something may have to be read first: its bytes, if they are few, and its
/// digest.
pub(super) async fn of_read_file(
    worker: &Worker,
    connection: &Connection,
    exchange: &Exchange,
    known: &Rc<KnownFile>,
) -> Response {
    let (request, asked) = (&exchange.request, exchange.asked(worker));
    if wants_content(worker, request, known)
        && let Err(error) = Box::pin(read_content(worker, connection, known)).await
    {
        return Response::of_file_error(&asked, error);
    }
    // Boxed, since few requests want one.
    let repr_digest = match &request.want_repr_digest {
        Some(_) => Box::pin(digest::of(worker, connection, request, &known.file)).await,
        None => None,
    };
    let mut response = of_file(request, &asked, known, repr_digest.as_deref());
    if let Body::File(body) = &mut response.body {
        body.may_have_changed = true;
    }
    response
}

/// The answer that lists a directory.
async fn of_directory(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
    root: (&Arc<Root>, &Name),
    directory: OwnedFd,
) -> Response {
    let listings_max = worker.live().settings.address_listings_max;
    let share = worker.resources.shares.listings.take(connection.group(), 1, listings_max as u64);
    let Some(share) = share else { return too_many_listings(asked, listings_max) };
    // Boxed, since files need no room for this.
    let response = match Box::pin(listing::read(worker, connection, request, root, directory)).await {
        Ok(body) => of_listing(asked, body),
        Err(error) => Response::of_file_error(asked, error),
    };
    Response { share: Some(Box::new(share)), ..response }
}

fn of_listing(asked: &Asked<'_>, body: ListingBody) -> Response {
    let mut response = Response::in_pieces(asked, body.media_type(), body.framing(), |head| {
        body.describe(head);
    });
    if asked.has_body() {
        response.body = Body::Listing(Box::new(body));
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

/// Whether a request is for bytes that are few, so that they are kept with what is known of the file, and not kept yet.
fn wants_content(worker: &Worker, request: &Request, known: &KnownFile) -> bool {
    known.lacks_content()
        && request.method == Method::Get
        && is_copied_if_cold(worker.live().settings.engine, known.file.size())
}

fn is_copied_if_cold(choice: EngineChoice, bytes: u64) -> bool {
    let facts = Facts { choice, transfer_bytes: bytes, residency: Residency::Cold };
    engine::choose(facts) == Engine::Copy
}

/// Reads a short file that isn't in memory, so that this request and those that follow are answered from there.
async fn read_content(worker: &Worker, connection: &Connection, known: &KnownFile) -> Result<(), FileError> {
    let (file, owner) = (known.file.clone(), Owner { mount: known.file.mount(), group: connection.group() });
    let read = move || file.read_cold(CONTENT_BYTES_MAX);
    // Where no disk thread takes it now the engine reads it while it sends.
    let Ok(read) = worker.disk.run_or_refuse(Lane::Read, owner, read).await else {
        return Ok(());
    };
    worker.counters.windows_cold.add(1);
    if let Some(content) = read? {
        worker.files.keep_content(known, content);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CONTENT_BYTES_MAX, EngineChoice, is_copied_if_cold};

    #[test]
    fn a_short_cold_file_is_read_first_where_it_is_going_to_be_copied() {
        for (choice, bytes, expected) in [
            (EngineChoice::Auto, CONTENT_BYTES_MAX, true),
            (EngineChoice::Auto, CONTENT_BYTES_MAX + 1, false),
            (EngineChoice::Copy, CONTENT_BYTES_MAX, true),
            (EngineChoice::Sendfile, 1, false),
            (EngineChoice::Splice, 1, false),
        ] {
            assert_eq!(is_copied_if_cold(choice, bytes), expected, "{choice:?}, {bytes} bytes");
        }
    }
}
