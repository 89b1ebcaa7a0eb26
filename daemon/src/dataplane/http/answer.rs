//! Finds out what answers a request: a file, a listing, or why there is none.

use std::rc::Rc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::engine::{self, Engine, Facts};
use super::super::look_up;
use super::super::served::{Served, ServedShare};
use super::content::of_file;
use super::digest;
use super::directory::{self, Answering};
use super::exchange::Exchange;
use super::negotiation::{self, Selected};
use super::response::{Asked, Body, Response};
use super::upload::may_write;
use crate::config::EngineChoice;
use crate::files::residency::Residency;
use crate::files::{CONTENT_BYTES_MAX, FileError, Found, KnownFile};
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Request;
use crate::protocol::name::Name;

/// The answer to a request for a file that is known, if nothing has to be looked up or read for it.
pub(super) fn of_known_file(
    worker: &Worker,
    connection: &Connection,
    exchange: &Exchange,
    known: &Rc<KnownFile>,
) -> Option<Response> {
    if !known.description.depends_on_request() {
        return of_ready_file(worker, exchange, known);
    }
    if known.description.is_hidden && !may_write(worker, connection, &exchange.request) {
        return Some(absent(&exchange.asked(worker)));
    }
    match negotiation::select(worker, &exchange.request, known) {
        Selected::This(selected) => of_ready_file(worker, exchange, &selected),
        Selected::LookUp(..) => None,
    }
}

/// The answer with a file, if nothing of it has to be read first.
fn of_ready_file(worker: &Worker, exchange: &Exchange, known: &Rc<KnownFile>) -> Option<Response> {
    let request = &exchange.request;
    if request.want_repr_digest().is_some() || wants_content(worker, request, known) {
        return None;
    }
    Some(of_file(request, &exchange.asked(worker), known, None))
}

/// The answer to a request for a name of which nothing is known: a file, what answers for a directory, or why there is
/// none.
pub(super) async fn of_name(worker: &Worker, connection: &Connection, exchange: &Exchange) -> Response {
    let (request, asked) = (&exchange.request, exchange.asked(worker));
    let served = worker.served();
    let Some((share, within)) = served.find(&request.name) else { return of_no_share(&served, &asked) };
    // A hidden name isn't even looked up, so that not the time that it takes tells of it.
    if is_hidden(share, &within) && !may_write(worker, connection, request) {
        return absent(&asked);
    }
    let generation = worker.generation();
    let known = match look_up::find(worker, &share.root, &within, connection.group()).await {
        Ok(Found::File(file)) if request.wants_archive => {
            worker.disk.close(file);
            return Response::problem(&asked, 404, "this is a file, and only directories have archives");
        }
        Ok(Found::File(file)) => look_up::keep(worker, share, [&request.name; 2], file, generation),
        Ok(Found::Directory(directory)) => {
            match directory::of_directory(worker, connection, exchange, share, directory).await {
                Answering::Index(known) => known,
                Answering::Made(response) => return response,
            }
        }
        Err(error) => return Response::of_file_error(&asked, error),
    };
    of_found_file(worker, connection, exchange, known).await
}

/// Whether only those see a name of this share who may write.
fn is_hidden(share: &ServedShare, within: &Name) -> bool {
    let name = within.as_bytes();
    share.share.hidden.cover(name.strip_suffix(b"/").unwrap_or(name))
}

fn absent(asked: &Asked<'_>) -> Response {
    Response::of_file_error(asked, FileError::NotFound)
}

/// The answer to a request for a file that was found, or for the sibling that the client prefers to it.
pub(super) async fn of_found_file(
    worker: &Worker,
    connection: &Connection,
    exchange: &Exchange,
    known: Rc<KnownFile>,
) -> Response {
    let selected = if known.description.depends_on_request() {
        if known.description.is_hidden && !may_write(worker, connection, &exchange.request) {
            return absent(&exchange.asked(worker));
        }
        // Boxed, since few shares have siblings.
        let selected = Box::pin(negotiation::find(worker, connection, &exchange.request, &known)).await;
        worker.disk.release(known);
        selected
    } else {
        known
    };
    let response = of_read_file(worker, connection, exchange, &selected).await;
    worker.disk.release(selected);
    response
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
async fn of_read_file(
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
    let repr_digest = match request.want_repr_digest() {
        Some(_) => Box::pin(digest::of(worker, connection, request, &known.file)).await,
        None => None,
    };
    let mut response = of_file(request, &asked, known, repr_digest.as_deref());
    if let Body::File(body) = &mut response.body {
        body.may_have_changed = true;
    }
    response
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
