//! Sends directories as they are read: a disk thread writes a piece, which waits for the reader, and then the next.

mod about;
mod form;
mod json;
mod page;
mod text;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{DiskError, Lane, Owner};
use super::super::engine::Transfer;
use super::super::error::TransferError;
use super::chunks::Framing;
use crate::config::Share;
use crate::files::{Beginning, Begun, FileError, Listing, Listings, MountId, Next, Root, Subject, Terms};
use crate::limits::Reserved;
use crate::protocol::http1::request::Request;
use crate::protocol::http1::response::ResponseHead;
use crate::protocol::listing::Order;
use crate::protocol::name::Name;
use about::About;
use form::Form;

/// A piece is long enough from here on: some 150 lines of a page, which a disk thread writes in a third of a
/// millisecond where the directory is in memory.
const PIECE_BYTES: usize = 32 << 10;

/// Room for a piece: the last entry of it may have a name of 255 bytes below a path of 4 KiB, all escaped.
const PIECE_BYTES_MAX: usize = 48 << 10;

/// A listing of which a piece waits for its reader.
pub(super) struct ListingBody {
    page: Page,
    piece: Vec<u8>,
    framing: Framing,
    room: Option<Reserved>,
    owner: Owner,
}

/// A listing as far as it is written.
struct Page {
    form: Form,
    /// None once its last entry is written.
    listing: Option<Listing>,
    is_sorted: bool,
    hiding: Option<Hiding>,
}

/// The names that are left out of the listing of a directory.
struct Hiding {
    share: Arc<Share>,
    /// The path of the directory within the share.
    directory: Vec<u8>,
}

impl Hiding {
    fn covers(&self, entry: &[u8]) -> bool {
        let name = match &*self.directory {
            b"" => entry.to_owned(),
            directory => [directory, b"/", entry].concat(),
        };
        self.share.hidden.fit(&name)
    }
}

/// Reads `directory`, which is called `within` below the root, up to the first piece. A listing of one piece has a
/// length, like any short answer.
pub(super) async fn read(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    (root, within): (&Arc<Root>, &Name),
    directory: OwnedFd,
    hiding: Option<Arc<Share>>,
) -> Result<ListingBody, FileError> {
    let path_of = |name: &Name| name.as_bytes().strip_suffix(b"/").unwrap_or(name.as_bytes()).to_owned();
    let path = path_of(within);
    let about =
        About { path: path_of(&request.name), order: Order::of_target(&request.target), is_sorted: false };
    let subject = Subject { directory, root: Arc::clone(root), path, order: about.order };
    let directory = &subject.directory;
    let mut owner = Owner { mount: MountId::of(directory), group: connection.group() };
    let waiting_bytes_max = worker.live().settings.waiting_bytes_max;
    let terms = Terms { waiting_bytes_max, holder: connection.group(), generation: worker.generation() };
    let listings = Arc::clone(&worker.resources.listings);
    let reading = Reading { listings, about, as_json: request.accepts_json, terms, hiding };
    let step = move || reading.begin(subject);
    let mut step = worker.disk.run_or_refuse(Lane::Listing, owner, step).await??;
    // It is read step by step, so that others get their turn on the disk thread, and a reader that has left ends it.
    let FirstPiece { mut page, mut piece, room, leads_to } = loop {
        match step {
            Step::Partly(reading, beginning) => {
                let go_on = move || reading.go_on(beginning);
                step = worker.disk.run(Lane::Listing, owner, go_on).await??;
            }
            Step::Written(first) => break first,
        }
    };
    if let Some(mount) = leads_to {
        owner.mount = mount;
        (page, piece) = write_piece(worker, &mut owner, page, piece).await??;
    }
    let framing = if page.is_ended() {
        Framing::Length(piece.len() as u64)
    } else {
        Framing::of_unknown_length(request.version)
    };
    Ok(ListingBody { page, piece, framing, room: Some(room), owner })
}

/// A listing whose names are being read.
struct Reading {
    listings: Arc<Listings>,
    about: About,
    as_json: bool,
    terms: Terms,
    /// The share whose hidden names are left out.
    hiding: Option<Arc<Share>>,
}

/// How far a listing is.
enum Step {
    Partly(Reading, Beginning),
    Written(FirstPiece),
}

struct FirstPiece {
    page: Page,
    piece: Vec<u8>,
    room: Reserved,
    /// Where it has to go on, as of [`Page::write`].
    leads_to: Option<MountId>,
}

impl Reading {
    /// Waits for the disk.
    fn begin(self, subject: Subject) -> Result<Step, FileError> {
        let beginning = self.listings.begin(subject, self.terms)?;
        self.go_on(beginning)
    }

    /// Reads on, and writes the first piece once all names are there. Waits for the disk.
    fn go_on(self, beginning: Beginning) -> Result<Step, FileError> {
        match self.listings.go_on(beginning, self.terms)? {
            Begun::Partly(beginning) => Ok(Step::Partly(self, beginning)),
            Begun::Listing(listing) => self.write(listing).map(Step::Written),
        }
    }

    fn write(self, listing: Listing) -> Result<FirstPiece, FileError> {
        let Reading { listings, about, as_json, terms, hiding } = self;
        let hiding = hiding.map(|share| Hiding { share, directory: about.path.clone() });
        let form = Form::new(as_json, About { is_sorted: listing.is_sorted(), ..about });
        let mut room = listings.reserve(PIECE_BYTES_MAX, terms)?;
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        form.begin(&mut piece);
        let mut page = Page { form, is_sorted: listing.is_sorted(), listing: Some(listing), hiding };
        let leads_to = page.write(&mut piece)?;
        // The beginning of a page shows the path several times.
        let over = piece.capacity().saturating_sub(PIECE_BYTES_MAX) as u64;
        if over > 0 {
            room.grow(over, terms.waiting_bytes_max).map_err(FileError::NoRoom)?;
        }
        Ok(FirstPiece { page, piece, room, leads_to })
    }
}

/// Writes a piece on a disk thread. Where a link leads to another mount, it goes on in the name of that one, so that a
/// mount that doesn't answer holds up nobody but who asks for it.
async fn write_piece(
    worker: &Worker,
    owner: &mut Owner,
    mut page: Page,
    mut piece: Vec<u8>,
) -> Result<Result<(Page, Vec<u8>), Errno>, DiskError> {
    loop {
        let write = move || page.write(&mut piece).map(|leads_to| (page, piece, leads_to));
        match worker.disk.run(Lane::Listing, *owner, write).await? {
            Ok((written, bytes, None)) => return Ok(Ok((written, bytes))),
            Ok((written, bytes, Some(mount))) => {
                owner.mount = mount;
                (page, piece) = (written, bytes);
            }
            Err(errno) => return Ok(Err(errno)),
        }
    }
}

/// Sends a listing behind its head, at the pace of its reader.
pub(super) async fn send(
    transfer: &mut Transfer<'_>,
    head: &[u8],
    mut body: ListingBody,
) -> Result<(), TransferError> {
    let mut before = head.to_vec();
    loop {
        let sent = send_piece(transfer, &mut before, &mut body).await;
        if sent.is_err() || body.page.is_ended() {
            body.give_up(transfer.worker());
            return sent;
        }
        let ListingBody { page, mut piece, framing, room, mut owner } = body;
        before.clear();
        piece.clear();
        let written = write_piece(transfer.worker(), &mut owner, page, piece).await?;
        let (page, piece) = written.map_err(|errno| TransferError::ListingFailed { errno })?;
        body = ListingBody { page, piece, framing, room, owner };
    }
}

async fn send_piece(
    transfer: &mut Transfer<'_>,
    before: &mut Vec<u8>,
    body: &mut ListingBody,
) -> Result<(), TransferError> {
    let ListingBody { page, piece, framing, room, .. } = body;
    let length = piece.len();
    framing.begin(length, before);
    framing.end(page.is_ended(), piece);
    transfer.send_counted(before, piece, length, room).await
}

impl ListingBody {
    /// Its media type.
    pub(super) fn media_type(&self) -> &'static str {
        self.page.form.media_type()
    }

    /// Writes the fields that are a listing's own.
    pub(super) fn describe(&self, head: &mut ResponseHead<'_>) {
        head.field("Vary", "Accept").field("Cache-Control", "no-cache");
        if !self.page.is_sorted {
            head.field("X-Listing", "unsorted");
        }
        self.page.form.describe(head);
    }

    /// How a client sees its end.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Lets go of a listing that nobody reads any further. A disk thread closes the directory, since a server may have
    /// to be asked for that.
    pub(super) fn give_up(self, worker: &Worker) {
        if let Some(listing) = self.page.listing {
            worker.disk.discard(Lane::Listing, self.owner, listing);
        }
    }
}

impl Page {
    fn is_ended(&self) -> bool {
        self.listing.is_none()
    }

    /// Writes a piece, or some of it up to a link that leads to a mount which wasn't asked for anything yet, and names
    /// that. Waits for the disk.
    fn write(&mut self, piece: &mut Vec<u8>) -> Result<Option<MountId>, Errno> {
        let Some(listing) = &mut self.listing else { return Ok(None) };
        while piece.len() < PIECE_BYTES {
            match listing.next_entry()? {
                Next::Entry(entry)
                    if self.hiding.as_ref().is_some_and(|hiding| hiding.covers(&entry.name)) => {}
                Next::Entry(entry) => self.form.write(&entry, piece),
                Next::Elsewhere(mount) => return Ok(Some(mount)),
                Next::End => {
                    self.form.end(piece);
                    self.listing = None;
                    break;
                }
            }
        }
        Ok(None)
    }
}
