//! An admitted upload: its place among those that may be written at once, and its client's claim on its name.

use std::sync::Arc;

use super::admission::{PlaceGuard, Slot};
use super::claims::{self, Claims, Serial};
use crate::protocol::name::Name;

/// A plain PUT that was admitted and of which nothing is on the disk. Dropping it means that the upload broke off.
#[derive(Debug)]
pub struct Admitted {
    slot: Slot,
    claim: Claimed,
}

/// A claim that belongs to no partial. Dropping it means that the upload has ended, and that its client may come
/// back with the rest.
#[derive(Debug)]
struct Claimed {
    claims: Arc<Claims>,
    serial: Serial,
    received: u64,
}

impl Admitted {
    /// Admits an upload to a destination, in the place `slot`.
    pub(super) fn new(slot: Slot, claims: &Arc<Claims>, destination: &Name, length: Option<u64>) -> Admitted {
        let serial = claims.make(destination, length);
        Admitted { slot, claim: Claimed { claims: Arc::clone(claims), serial, received: 0 } }
    }

    /// Returns a guard for the caller that waits for the upload's end: once it is dropped others have the place,
    /// even while the admission itself still waits for a disk.
    pub fn place_guard(&self) -> PlaceGuard {
        self.slot.place_guard()
    }

    /// Notes that `bytes` of the body have come.
    pub fn note_received(&mut self, bytes: u64) {
        self.claim.received = bytes;
    }

    /// Hands place and claim over to a partial, as which the upload goes on.
    pub(super) fn into_partial(self) -> (Slot, Serial) {
        let Admitted { slot, mut claim } = self;
        slot.bind();
        (slot, std::mem::replace(&mut claim.serial, claims::NONE))
    }

    /// Ends the claim of an upload that is published, or was refused for its head alone: its client won't go on.
    pub fn settle(mut self) {
        let serial = std::mem::replace(&mut self.claim.serial, claims::NONE);
        self.claim.claims.settle(serial);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.serial != claims::NONE {
            self.claims.end(self.serial, vec![self.received, 0]);
        }
    }
}
