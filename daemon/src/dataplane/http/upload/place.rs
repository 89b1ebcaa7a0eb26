//! Takes a place among the uploads that are written at once, which are limited for each address and for the node. Where
//! the node has none left, the slowest upload of an address with more of them makes room.

use super::super::super::connection::Connection;
use super::super::super::context::Worker;
use super::super::super::room_requests::Want;
use super::answer::Answer;
use super::call::Call;
use crate::limits::{Share, TICK};
use crate::telemetry::Limit;

/// Time that an upload which was ended gets to give its place back, in milliseconds: another worker looks once a tick,
/// and a disk thread may be writing its last bytes.
const ROOM_MS: u64 = 1_000;

/// Ticks in which the other workers have looked for somebody to end.
const LOOKED_TICKS: u64 = 3;

/// A place, which is given back when this is dropped.
pub(super) struct Place<'a> {
    _share: Share,
    /// Its connection is one that brings an upload for as long as this lives.
    _mark: Mark<'a>,
}

struct Mark<'a>(&'a Connection);

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.set_uploading(false);
    }
}

impl<'a> Call<'a> {
    /// Takes a place for as long as the upload is written to.
    pub(super) async fn take_place(&self) -> Result<Place<'a>, Answer> {
        let settings_max = self.worker.live().settings.address_uploads_max;
        let (holder, uploads) = (self.connection.group(), &self.worker.resources.shares.uploads);
        let Some(share) = uploads.take(holder, 1, settings_max as u64) else {
            self.worker.counters.limited.add(Limit::AddressUploads, 1);
            let detail = format!(
                "{settings_max} uploads of this address are being written, which is address_uploads_max: try again \
                 when one has ended"
            );
            return Err(Answer::problem(429, &detail).field("Retry-After", "5"));
        };
        if self.is_above_limit() {
            self.make_room().await;
        }
        let connection: &'a Connection = self.connection;
        connection.set_uploading(true);
        Ok(Place { _share: share, _mark: Mark(connection) })
    }

    fn is_above_limit(&self) -> bool {
        self.worker.resources.shares.uploads.total() > self.limits().uploads_max as u64
    }

    /// Makes room among the node's uploads. Where none can be made the storage refuses the upload.
    async fn make_room(&self) {
        let worker: &Worker = self.worker;
        let want = Want::Upload(self.connection.group());
        let mut made = worker.make_room(want);
        let mut end = worker.clock.deadline(ROOM_MS).tick;
        if made == 0 {
            // Only other workers can have somebody to end.
            end = worker.clock.now() + if worker.workers() > 1 { LOOKED_TICKS } else { 0 };
        }
        while self.is_above_limit() && worker.clock.now() < end {
            monoio::time::sleep(TICK).await;
            if made == 0 && self.is_above_limit() {
                made = worker.make_room(want);
            }
        }
    }
}
