//! Chooses between a file and its siblings in other codings, by what the client takes.

use std::rc::Rc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::look_up;
use crate::config::CodingChoice;
use crate::files::{Found, KnownFile, MountId, Siblings};
use crate::protocol::accept::codings_taken;
use crate::protocol::http1::request::Request;

/// The file that answers, as far as that is known.
pub(super) enum Selected<'k> {
    This(Rc<KnownFile>),
    /// The sibling in this coding has to be looked for.
    LookUp(&'k Siblings, CodingChoice),
}

/// Selects the file that answers a request for `known`.
pub(super) fn select<'k>(worker: &Worker, request: &Request, known: &'k Rc<KnownFile>) -> Selected<'k> {
    let accepted = request.read.as_ref().and_then(|fields| fields.accept_encoding.as_deref());
    let (Some(siblings), Some(accepted)) = (&known.description.siblings, accepted) else {
        return Selected::This(Rc::clone(known));
    };
    let codings = siblings.codings();
    let tokens: Vec<_> = codings.iter().map(|coding| coding.token()).collect();
    let mut taken =
        codings_taken(accepted, &tokens).into_iter().filter_map(|index| codings.get(index).copied());
    let Some(coding) = taken.find(|coding| !siblings.is_absent(*coding)) else {
        return Selected::This(Rc::clone(known));
    };
    match look_up::known_sibling(worker, siblings, coding) {
        Some(sibling) => Selected::This(sibling),
        None => Selected::LookUp(siblings, coding),
    }
}

/// Finds the file that answers a request for `known`. Where a sibling isn't there, or can't be opened now, the file
/// itself is as good.
pub(super) async fn find(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    known: &Rc<KnownFile>,
) -> Rc<KnownFile> {
    let served = worker.served();
    let Some((share, _)) = served.find(&request.name) else { return Rc::clone(known) };
    loop {
        let (siblings, coding) = match select(worker, request, known) {
            Selected::This(selected) => return selected,
            Selected::LookUp(siblings, coding) => (siblings, coding),
        };
        let generation = worker.generation();
        let name = siblings.name_in(coding);
        // A sibling that has the name of another share's path is that one's.
        let Some(within) = share.name_within(&name) else { return Rc::clone(known) };
        match look_up::find(worker, &share.root, &within, connection.group()).await {
            Ok(Found::File(file)) => {
                return look_up::keep_sibling(worker, share, siblings, coding, file, generation);
            }
            Ok(Found::Directory(directory)) => {
                let owner = Owner { mount: MountId::of(&directory), group: connection.group() };
                worker.disk.discard(Lane::Listing, owner, directory);
            }
            Err(_) => {}
        }
        siblings.note_absent(coding);
    }
}
