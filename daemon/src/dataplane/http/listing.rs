//! Directories, sent as they are read: a piece is written on a disk thread and waits for the reader, and then the next.

mod form;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use super::super::engine::Transfer;
use super::super::error::TransferError;
use super::chunks::Framing;
use crate::files::{Beginning, Begun, FileError, Listing, Listings, MountId, Terms};
use crate::limits::Reserved;
use crate::protocol::http1::request::Request;
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
}

/// Reads `directory`, whose name is the request's, up to the first piece. What is told in one piece has a length, like
/// any short answer.
pub(super) async fn read(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    directory: OwnedFd,
) -> Result<ListingBody, FileError> {
    let name = String::from_utf8_lossy(request.name.as_bytes()).trim_end_matches('/').to_owned();
    let form = Form::new(request.accepts_json, &name);
    let owner = Owner { mount: MountId::of(&directory), group: connection.group() };
    let waiting_bytes_max = worker.live().settings.waiting_bytes_max;
    let terms = Terms { waiting_bytes_max, holder: connection.group(), generation: worker.generation() };
    let reading = Reading { listings: Arc::clone(&worker.resources.listings), form, name, terms };
    let step = move || reading.begin(directory);
    let mut step = worker.disk.run_or_refuse(Lane::Listing, owner, step).await??;
    // Step by step, so that others get their turn on the disk thread, and a reader that has left ends it.
    let FirstPiece { page, piece, room } = loop {
        match step {
            Step::Partly(reading, beginning) => {
                let go_on = move || reading.go_on(beginning);
                step = worker.disk.run(Lane::Listing, owner, go_on).await??;
            }
            Step::Written(first) => break first,
        }
    };
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
    form: Form,
    name: String,
    terms: Terms,
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
}

impl Reading {
    /// Waits for the disk.
    fn begin(self, directory: OwnedFd) -> Result<Step, FileError> {
        let beginning = self.listings.begin(directory, self.terms)?;
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
        let Reading { listings, form, name, terms } = self;
        let mut room = listings.reserve(PIECE_BYTES_MAX, terms)?;
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        form.begin(&name, &mut piece);
        let mut page = Page { form, is_sorted: listing.is_sorted(), listing: Some(listing) };
        page.write(&mut piece)?;
        // The beginning of a page shows the path three times.
        let over = piece.capacity().saturating_sub(PIECE_BYTES_MAX) as u64;
        if over > 0 {
            room.grow(over, terms.waiting_bytes_max).map_err(FileError::NoRoom)?;
        }
        Ok(FirstPiece { page, piece, room })
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
        let ListingBody { mut page, mut piece, framing, room, owner } = body;
        before.clear();
        piece.clear();
        let write = move || page.write(&mut piece).map(|()| (page, piece));
        let written = transfer.worker().disk.run(Lane::Listing, owner, write).await?;
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
    /// What it is to a client.
    pub(super) fn media_type(&self) -> &'static str {
        self.page.form.media_type()
    }

    /// What tells its end.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether its entries are in the order of their names.
    pub(super) fn is_sorted(&self) -> bool {
        self.page.is_sorted
    }

    /// Nobody reads on. The directory is closed on a disk thread, since a server may have to be asked.
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

    /// Writes a piece. Waits for the disk.
    fn write(&mut self, piece: &mut Vec<u8>) -> Result<(), Errno> {
        let Some(listing) = &mut self.listing else { return Ok(()) };
        while piece.len() < PIECE_BYTES {
            let Some(entry) = listing.next_entry()? else {
                self.form.end(self.is_sorted, piece);
                self.listing = None;
                break;
            };
            self.form.write(&entry, piece);
        }
        Ok(())
    }
}
