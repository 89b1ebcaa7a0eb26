//! The ledger of the spool: the room that finished frames and those on their way in take, by sender. Nothing here
//! knows files.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::super::error::SpoolError;
use super::limits::SpoolLimits;
use crate::limits::AddressGroup;

/// The most senders whose frames are told apart: some MiB of memory. Nobody has so many producers; those beyond
/// them are held to the limits of all together.
const SENDERS_MAX: usize = 65_536;

/// Bits of a frame's id that identify its sender; the others are random.
const SENDER_BITS: u32 = 32;

/// The sender of a stored frame: a digest of the address, in the first digits of the frame's id, so that it is
/// known after a restart too and goes with the file. 0 is a sender that isn't counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sender(u32);

impl Sender {
    pub(super) fn of(group: Option<AddressGroup>) -> Sender {
        let Some(group) = group else { return Sender(0) };
        let digest = Sha256::digest(group.to_string());
        Sender(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1))
    }

    /// Returns the sender of the frame with this id.
    pub(super) fn of_id(id: u128) -> Sender {
        Sender(u32::try_from(id >> (u128::BITS - SENDER_BITS)).unwrap_or(0))
    }

    /// Makes an id for a frame of this sender out of random bits.
    pub(super) fn id(self, random: u128) -> u128 {
        u128::from(self.0) << (u128::BITS - SENDER_BITS) | random >> SENDER_BITS
    }

    fn is_counted(self) -> bool {
        self.0 != 0
    }
}

/// Frames and the room that they take.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) files: u64,
    by_sender: HashMap<Sender, Part>,
}

/// The room that one sender's frames take.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    bytes: u64,
    files: u64,
}

impl Count {
    /// Adds one frame.
    pub(super) fn add(&mut self, sender: Sender, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let is_known = self.by_sender.contains_key(&sender) || self.by_sender.len() < SENDERS_MAX;
        if sender.is_counted() && is_known {
            let part = self.by_sender.entry(sender).or_default();
            part.bytes = part.bytes.saturating_add(bytes);
            part.files += 1;
        }
    }

    /// Adds to a frame that was added before.
    fn grow(&mut self, sender: Sender, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(part) = self.by_sender.get_mut(&sender) {
            part.bytes = part.bytes.saturating_add(bytes);
        }
    }

    fn remove(&mut self, sender: Sender, bytes: u64) {
        self.files -= 1;
        self.bytes -= bytes;
        if let Some(part) = self.by_sender.get_mut(&sender) {
            // Frames that came while there were too many senders were never added to the part.
            part.bytes = part.bytes.saturating_sub(bytes);
            part.files = part.files.saturating_sub(1);
            if part.files == 0 {
                self.by_sender.remove(&sender);
            }
        }
    }

    fn add_all(&mut self, other: Count) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files += other.files;
        for (sender, others) in other.by_sender {
            let part = self.by_sender.entry(sender).or_default();
            part.bytes = part.bytes.saturating_add(others.bytes);
            part.files += others.files;
        }
    }

    fn of_sender(&self, sender: Sender) -> Part {
        self.by_sender.get(&sender).copied().unwrap_or_default()
    }
}

/// The room that is taken, shared by all threads. Nothing here waits for a disk.
#[derive(Debug)]
pub(super) struct Ledger {
    usage: Mutex<Usage>,
    /// The least bytes that a file takes.
    block_bytes: u64,
}

#[derive(Debug, Default)]
struct Usage {
    /// The finished frames, as of the last count and since then.
    stored: Count,
    /// The frames on their way in, with the bytes that have come.
    incoming: Count,
    /// The frames that got their names while the directory is being counted.
    meanwhile: Option<Count>,
    /// The frames that a count leaves out, since they count themselves: those about to get their names, and those
    /// that got them while it goes on.
    fresh: HashSet<u128>,
    /// The frames of `fresh` that have their names.
    named: Vec<u128>,
}

impl Ledger {
    /// Makes the ledger of a directory with these frames, where a file takes `block_bytes` at least.
    pub(super) fn new(stored: Count, block_bytes: u64) -> Ledger {
        Ledger { usage: Mutex::new(Usage { stored, ..Usage::default() }), block_bytes }
    }

    /// Returns the bytes that a file of this length takes.
    pub(super) fn cost(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block_bytes).max(1).saturating_mul(self.block_bytes)
    }

    /// Checks whether a whole frame of `size` bytes would find room now. Nothing is held for it.
    pub(super) fn check(&self, sender: Sender, size: u64, limits: &SpoolLimits) -> Result<(), SpoolError> {
        self.lock().check(sender, (self.cost(size), 1), limits)
    }

    /// Returns bytes and files of the stored frames, and of those on their way in.
    pub(super) fn totals(&self) -> [(u64, u64); 2] {
        let usage = self.lock();
        [&usage.stored, &usage.incoming].map(|count| (count.bytes, count.files))
    }

    /// Begins a count of the directory.
    pub(super) fn start_count(&self) {
        self.lock().meanwhile = Some(Count::default());
    }

    /// Whether a count has to leave this frame out.
    pub(super) fn counts_itself(&self, id: u128) -> bool {
        self.lock().fresh.contains(&id)
    }

    /// Ends a count with its result; None where it failed.
    pub(super) fn end_count(&self, found: Option<Count>) {
        let mut usage = self.lock();
        let meanwhile = usage.meanwhile.take().unwrap_or_default();
        for id in std::mem::take(&mut usage.named) {
            usage.fresh.remove(&id);
        }
        if let Some(mut found) = found {
            found.add_all(meanwhile);
            let former = std::mem::replace(&mut usage.stored, found);
            // The former count is dropped outside the lock, since it may be long.
            drop(usage);
            drop(former);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    fn check(
        &self,
        sender: Sender,
        (bytes, files): (u64, u64),
        limits: &SpoolLimits,
    ) -> Result<(), SpoolError> {
        let used = self.stored.bytes.saturating_add(self.incoming.bytes);
        if used.saturating_add(bytes) > limits.bytes_max {
            return Err(SpoolError::Full { bytes, used, limit: limits.bytes_max });
        }
        let used = self.stored.files + self.incoming.files;
        if used + files > limits.files_max {
            return Err(SpoolError::TooMany { used, limit: limits.files_max });
        }
        if !sender.is_counted() {
            return Ok(());
        }
        let [stored, incoming] = [&self.stored, &self.incoming].map(|count| count.of_sender(sender));
        let used = stored.bytes.saturating_add(incoming.bytes);
        if used.saturating_add(bytes) > limits.address_bytes_max {
            return Err(SpoolError::OverShare { bytes, used, limit: limits.address_bytes_max });
        }
        let used = stored.files + incoming.files;
        if used + files > limits.address_files_max {
            return Err(SpoolError::TooManyOfAddress { used, limit: limits.address_files_max });
        }
        Ok(())
    }
}

/// The room of one frame on its way in, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    ledger: Arc<Ledger>,
    id: u128,
    bytes: u64,
    is_stored: bool,
}

impl Held {
    /// Takes the room of an empty file.
    pub(super) fn new(ledger: &Arc<Ledger>, id: u128, limits: &SpoolLimits) -> Result<Held, SpoolError> {
        let (sender, bytes) = (Sender::of_id(id), ledger.cost(0));
        let mut usage = ledger.lock();
        usage.check(sender, (bytes, 1), limits)?;
        usage.incoming.add(sender, bytes);
        drop(usage);
        Ok(Held { ledger: Arc::clone(ledger), id, bytes, is_stored: false })
    }

    /// Takes the room that a frame of `length` bytes needs beyond what it has, and returns how much that is.
    pub(super) fn grow(&mut self, length: u64, limits: &SpoolLimits) -> Result<u64, SpoolError> {
        let more = self.ledger.cost(length).saturating_sub(self.bytes);
        if more > 0 {
            let sender = Sender::of_id(self.id);
            let mut usage = self.ledger.lock();
            usage.check(sender, (more, 0), limits)?;
            usage.incoming.grow(sender, more);
            self.bytes += more;
        }
        Ok(more)
    }

    /// Announces that the frame is about to get its name: a count that sees it leaves it out. Must be called
    /// before the rename.
    pub(super) fn is_about_to_be_stored(&self) {
        self.ledger.lock().fresh.insert(self.id);
    }

    /// Counts the frame, which has its name now, as stored.
    pub(super) fn store(mut self) {
        self.is_stored = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let sender = Sender::of_id(self.id);
        let mut usage = self.ledger.lock();
        let usage = &mut *usage;
        usage.incoming.remove(sender, self.bytes);
        if self.is_stored {
            usage.stored.add(sender, self.bytes);
            if let Some(meanwhile) = &mut usage.meanwhile {
                meanwhile.add(sender, self.bytes);
                usage.named.push(self.id);
                return;
            }
        }
        usage.fresh.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
