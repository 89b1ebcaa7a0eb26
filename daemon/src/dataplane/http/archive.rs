//! Sends a directory as a tar. Its plan is made on disk threads, and each piece is sent while the next is read. Headers
//! and short files go together by copying, long files by whatever engine suits them.

use std::sync::Arc;
use std::time::Duration;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Asked, Lane, Owner};
use super::super::engine::{self, Transfer};
use super::super::error::TransferError;
use crate::files::archive::{ArchiveError, PIECE_BYTES_MAX, Piece, Plan, Planned, Tree, mount_at, read};
use crate::files::{FileError, Terms};
use crate::limits::{AddressGroup, Reserved};
use crate::protocol::http1::request::Request;
use crate::protocol::range::ByteRange;
use crate::telemetry::Outcome;

/// The pieces in memory: one is sent while the next is read.
const PIECES: u64 = 2;

/// A range of an archive that waits to be sent.
pub(super) struct ArchiveBody {
    tree: Tree,
    plan: Arc<Plan>,
    range: ByteRange,
    group: Option<AddressGroup>,
    room: Option<Reserved>,
}

impl ArchiveBody {
    /// Takes the room that its pieces will need.
    pub(super) fn new(
        worker: &Worker,
        tree: &Tree,
        plan: &Arc<Plan>,
        range: ByteRange,
        terms: Terms,
    ) -> Result<ArchiveBody, FileError> {
        let bytes = range.length.min(PIECES * PIECE_BYTES_MAX as u64);
        let bytes = usize::try_from(bytes).unwrap_or(PIECE_BYTES_MAX);
        let room = Some(worker.resources.archives.reserve(bytes, terms)?);
        Ok(ArchiveBody { tree: tree.clone(), plan: Arc::clone(plan), range, group: terms.holder, room })
    }

    /// Lets go of an archive that isn't sent.
    pub(super) fn give_up(self, worker: &Worker) {
        give_up(worker, self.tree, self.group);
    }
}

/// Makes the plan, or finds one that was made a moment ago. None where nobody waits for it any more.
pub(super) async fn plan(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    tree: &Tree,
    terms: Terms,
) -> Result<Option<Arc<Plan>>, ArchiveError> {
    let of = |mount| Owner { mount, group: terms.holder };
    // A plan of a moment ago may be outdated, which would cost the client its answer: it saves a walk for parts alone.
    let valid_ms = if request.range.is_some() { worker.live().settings.cache_valid_ms } else { 0 };
    let age_max = Duration::from_millis(valid_ms);
    let archives = Arc::clone(&worker.resources.archives);
    let (begun, etag) = (tree.clone(), request.if_range.clone());
    let begin = move || archives.begin(&begun, age_max, etag.as_deref(), terms);
    let disk_failed = |error| ArchiveError::File(FileError::from(error));
    let asked = worker.disk.run_or_refuse(Lane::Listing, of(tree.mount()), begin);
    let mut planned = asked.await.map_err(disk_failed)??;
    // Step by step, so that others get their turn on the disk thread, and a client that has left ends it.
    loop {
        match planned {
            Planned::Plan(plan) => return Ok(Some(plan)),
            Planned::Partly(planning) if connection.is_evicted() || connection.socket.is_broken_off() => {
                worker.disk.discard(Lane::Listing, of(planning.mount()), planning);
                return Ok(None);
            }
            Planned::Partly(planning) => {
                let archives = Arc::clone(&worker.resources.archives);
                let owner = of(planning.mount());
                let go_on = move || archives.go_on(planning);
                planned = worker.disk.run(Lane::Listing, owner, go_on).await.map_err(disk_failed)??;
            }
        }
    }
}

/// Sends an archive behind its head, at the pace of its reader.
pub(super) async fn send(
    transfer: &mut Transfer<'_>,
    head: Vec<u8>,
    body: ArchiveBody,
) -> Result<(), TransferError> {
    // Pieces are no answers of their own: the last bytes of one go with the next.
    transfer.connection().socket.set_cork(true);
    let ArchiveBody { tree, plan, range, group, mut room } = body;
    let source = Source { tree: &tree, plan: &plan, end: range.start + range.length, group };
    let result = send_pieces(transfer, head, &source, range.start, &mut room).await;
    if result.as_ref().is_err_and(|error| error.outcome() == Outcome::SourceFailed) {
        plan.note_outdated();
    }
    // Where nothing was sent the failure is answered instead, which uncorks by itself.
    if result.is_ok() || !transfer.tally.is_begun() {
        transfer.connection().socket.set_cork(false);
    }
    give_up(transfer.worker(), tree, group);
    result
}

/// The directory and plan from which pieces are read.
struct Source<'b> {
    tree: &'b Tree,
    plan: &'b Arc<Plan>,
    end: u64,
    group: Option<AddressGroup>,
}

impl Source<'_> {
    /// Has a disk thread read the piece at this offset.
    fn read<'a>(
        &self,
        worker: &'a Worker,
        offset: u64,
        text: Vec<u8>,
    ) -> Asked<'a, Result<Piece, ArchiveError>> {
        let (tree, plan) = (self.tree.clone(), Arc::clone(self.plan));
        let range = ByteRange { start: offset, length: self.end - offset };
        let owner = Owner { mount: mount_at(&tree, &plan, offset), group: self.group };
        worker.disk.run(Lane::Read, owner, move || read(&tree, &plan, range, text))
    }
}

async fn send_pieces(
    transfer: &mut Transfer<'_>,
    mut head: Vec<u8>,
    source: &Source<'_>,
    start: u64,
    room: &mut Option<Reserved>,
) -> Result<(), TransferError> {
    let worker = transfer.worker();
    let mut spare = Vec::new();
    let mut reading = source.read(worker, start, Vec::new());
    loop {
        let Piece { text, body, end } = reading.await??;
        let more = end < source.end;
        let next = more.then(|| source.read(worker, end, std::mem::take(&mut spare)));
        let before = std::mem::take(&mut head);
        match body {
            None => {
                transfer.send_counted(&before, &text, text.len(), room).await?;
                spare = text;
            }
            Some((file, range)) => {
                let text_bytes = text.len();
                let before = if before.is_empty() { text } else { [before, text].concat() };
                transfer.note_text(text_bytes);
                transfer.begin_file();
                let sent = engine::send_range(transfer, before, &file, range, more).await;
                // The last bytes of an answer were held back until the file was looked at.
                let sent = if sent.is_ok() && more { engine::check(transfer, &file).await } else { sent };
                worker.disk.close(file);
                sent?;
            }
        }
        let Some(next) = next else { return Ok(()) };
        reading = next;
    }
}

/// Closes the directory on a disk thread, since a server may have to be asked.
pub(super) fn give_up(worker: &Worker, tree: Tree, group: Option<AddressGroup>) {
    let owner = Owner { mount: tree.mount(), group };
    worker.disk.discard(Lane::Listing, owner, tree);
}
