//! An upload that was let in: its place among those that may be written at once, and its client's claim on its name.

use std::sync::Arc;

use super::admission::{PlaceGuard, Slot};
use super::claims::{self, Claims, Serial};
use crate::protocol::name::Name;

/// A plain PUT that was let in and of which nothing is on the disk. Dropped, it has broken off.
#[derive(Debug)]
pub struct Admitted {
    slot: Slot,
    claim: Claimed,
}

/// A claim of nobody's partial. Dropped, its upload has ended, and its client may come back with the rest.
#[derive(Debug)]
struct Claimed {
    claims: Arc<Claims>,
    serial: Serial,
    received: u64,
}

impl Admitted {
    /// In this place, to a destination.
    pub(super) fn new(slot: Slot, claims: &Arc<Claims>, destination: &Name, length: Option<u64>) -> Admitted {
        let serial = claims.make(destination, length);
        Admitted { slot, claim: Claimed { claims: Arc::clone(claims), serial, received: 0 } }
    }

    /// For whoever waits for what becomes of it: once that is dropped others have its place, wherever the admission
    /// itself may still wait for a disk.
    pub fn place_guard(&self) -> PlaceGuard {
        self.slot.place_guard()
    }

    /// So much of its body has come.
    pub fn note_received(&mut self, bytes: u64) {
        self.claim.received = bytes;
    }

    /// It goes on as a partial, which has its place and its claim from here on.
    pub(super) fn into_partial(self) -> (Slot, Serial) {
        let Admitted { slot, mut claim } = self;
        slot.bind();
        (slot, std::mem::replace(&mut claim.serial, claims::NONE))
    }

    /// It is published, or was refused for its head alone: its client won't go on.
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
