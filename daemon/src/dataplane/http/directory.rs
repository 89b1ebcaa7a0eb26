//! Finds out what answers for a directory: its index, its listing, or nothing.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::look_up;
use super::super::served::ServedShare;
use super::archive_content;
use super::exchange::Exchange;
use super::listing::{self, ListingBody};
use super::response::{Asked, Body, Response};
use super::upload::may_write;
use crate::config::Share;
use crate::files::{FileError, Found, Generation, KnownFile, MountId, SourceFile};
use crate::protocol::http1::request::Request;
use crate::protocol::listing::location_with_slash;
use crate::protocol::name::Name;
use crate::telemetry::Limit;

/// What answers for a directory.
pub(super) enum Answering {
    /// A file of it, as any file.
    Index(Rc<KnownFile>),
    /// This, whose making is over.
    Made(Response),
}

/// Finds out what answers a request for this directory. One without the slash at its end is led to the name with it,
/// where something answers there: links in what is sent are relative to that.
pub(super) async fn of_directory(
    worker: &Worker,
    connection: &Connection,
    exchange: &Exchange,
    served: &Arc<ServedShare>,
    directory: OwnedFd,
) -> Answering {
    let (request, asked) = (&exchange.request, exchange.asked(worker));
    let share = &served.share;
    let wants_listing = request.wants_archive || request.accepts_json && share.settings.listing;
    let index = if share.settings.index.is_empty() || wants_listing {
        Ok(None)
    } else {
        Box::pin(find_index(worker, connection, request, served)).await
    };
    let response = match (index, share.settings.listing) {
        (Ok(Some(index)), _) => {
            discard(worker, connection, directory);
            if !request.name.is_directory() {
                worker.disk.close(index.file);
                return Answering::Made(redirect(&asked, request));
            }
            let Index { name, file, generation } = index;
            return Answering::Index(look_up::keep(worker, served, [&request.name, &name], file, generation));
        }
        (Err(error), _) => {
            discard(worker, connection, directory);
            Response::of_file_error(&asked, error)
        }
        // An archive is the same whichever way it is asked for.
        (Ok(None), true) if !request.name.is_directory() && !request.wants_archive => {
            discard(worker, connection, directory);
            redirect(&asked, request)
        }
        (Ok(None), true) => {
            let hiding = (!may_write(worker, connection, request)).then(|| Arc::clone(share));
            list(worker, connection, request, &asked, Subject { served, directory, hiding }).await
        }
        (Ok(None), false) => {
            discard(worker, connection, directory);
            Response::of_file_error(&asked, FileError::NotFound)
        }
    };
    Answering::Made(response)
}

/// A file that answers for its directory.
struct Index {
    name: Name,
    file: SourceFile,
    generation: Generation,
}

async fn find_index(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    served: &ServedShare,
) -> Result<Option<Index>, FileError> {
    // Whether the directory itself is hidden from this reader is decided by now.
    let names = served.share.settings.index.iter().map(|entry| request.name.join(entry));
    for name in names {
        let Some(within) = served.name_within(&name) else { continue };
        if served.share.hidden.fit(within.as_bytes()) {
            continue;
        }
        let generation = worker.generation();
        match look_up::find(worker, &served.root, &within, connection.group()).await {
            Ok(Found::File(file)) => {
                drop(within);
                return Ok(Some(Index { name, file, generation }));
            }
            Ok(Found::Directory(directory)) => discard(worker, connection, directory),
            Err(FileError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A disk thread closes a directory, since a server may have to be asked for that.
fn discard(worker: &Worker, connection: &Connection, directory: OwnedFd) {
    let owner = Owner { mount: MountId::of(&directory), group: connection.group() };
    worker.disk.discard(Lane::Listing, owner, directory);
}

/// The links of a listing and of an index are relative, and so right behind the slash alone.
fn redirect(asked: &Asked<'_>, request: &Request) -> Response {
    Response::made(asked, 301, &[("Location", location_with_slash(&request.target))], None)
}

/// A directory that is to be listed, or sent as an archive.
struct Subject<'r> {
    served: &'r ServedShare,
    directory: OwnedFd,
    /// The share whose hidden names are left out.
    hiding: Option<Arc<Share>>,
}

async fn list(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
    subject: Subject<'_>,
) -> Response {
    let Subject { served, directory, hiding } = subject;
    let Some(within) = served.name_within(&request.name) else {
        discard(worker, connection, directory);
        return Response::of_file_error(asked, FileError::NotFound);
    };
    let root = (&served.root, &*within);
    let listings_max = worker.live().settings.address_listings_max;
    let share = worker.resources.shares.listings.take(connection.group(), 1, listings_max as u64);
    let Some(share) = share else { return too_many_listings(asked, listings_max) };
    if request.wants_archive {
        // Its place among the listings is for the plan alone: a download takes as long as its client.
        let archive =
            archive_content::of_directory(worker, connection, request, asked, root, directory, hiding);
        return Box::pin(archive).await;
    }
    // Boxed, since files need no room for this.
    let read = Box::pin(listing::read(worker, connection, request, root, directory, hiding));
    let response = match read.await {
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

fn too_many_listings(asked: &Asked<'_>, listings_max: usize) -> Response {
    asked.worker.counters.limited.add(Limit::AddressListings, 1);
    let detail = format!("this address is being sent {listings_max} listings, which is address_listings_max");
    Response::problem_with(asked, 429, &detail, |head| {
        head.field("Retry-After", "1");
    })
}
