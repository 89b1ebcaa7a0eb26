//! Records of files in one state: their digests, and that this program published them so.
//!
//! The records are a table of fixed size in a file beside the partials, or in memory where there are none: a
//! record in an attribute of the file would change the change time by which it is believed. All daemons on one
//! root share the table. Nothing is locked: a record is believed with its checksum alone, and one that is lost is
//! made again.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use rustix::fs::{
    FileType, MemfdFlags, Mode, OFlags, ResolveFlags, fstat, ftruncate, memfd_create, openat, openat2,
};
use rustix::io::{Errno, ReadWriteFlags, fcntl_dupfd_cloexec, preadv2, pwrite};

use super::digests::Digests;
use super::identity::{Recorded, STAMP_BYTES, Stamp};

/// The name of the table's file. Partials are named by 32 hexadecimal digits.
const NAME: &str = "records";

/// Buckets of the table. With [`SLOTS`] records each it holds 262,144 files in at most 32 MiB, of which empty
/// buckets take no space. A record that found no room is made again.
const BUCKETS: u64 = 64 << 10;

/// Records of a bucket: a bucket is one sector, and with a few in each hardly any is full before the table is.
const SLOTS: usize = 4;

const SLOT_BYTES: usize = 128;
const BUCKET_BYTES: usize = SLOTS * SLOT_BYTES;
const TABLE_BYTES: u64 = BUCKETS * BUCKET_BYTES as u64;

/// The mark of a used slot; the last byte is the version of the layout.
const MAGIC: [u8; 4] = *b"sdr\x01";

/// Flags of a record that say which of its fields count.
const IS_PUBLISHED: u8 = 1;
const HAS_SHA256: u8 = 2;
const HAS_CRC32C: u8 = 4;

/// Offsets of a slot's fields: after magic and checksum come the boot, the stamp, and the recorded facts.
const CHECKED: usize = 8;
const STAMP: usize = 16;
const FLAGS: usize = STAMP + STAMP_BYTES;
const CRC32C: usize = 60;
const SHA256: usize = 64;
const MADE: usize = 96;

type Slot = [u8; SLOT_BYTES];
type Bucket = [u8; BUCKET_BYTES];

/// The records of the files below one root.
#[derive(Debug)]
pub(super) struct Records {
    /// The directory of the table. The first record makes the table, which is open for reading alone between two
    /// records: a file that is open for writing would keep its file system from being made read-only.
    staging: Option<OwnedFd>,
    table: RwLock<Option<Arc<Table>>>,
    /// The table of records that the staging directory can't take.
    memory: OnceLock<Option<Table>>,
    /// A number of this boot of the host.
    boot: u64,
}

#[derive(Debug)]
struct Table {
    file: OwnedFd,
    number: (u64, u64),
    /// Whether the file had its full size when it was opened.
    is_whole: bool,
}

impl Records {
    /// Opens the records in a staging directory. Waits for the disk.
    pub(super) fn in_staging(staging: BorrowedFd<'_>) -> Records {
        let staging = fcntl_dupfd_cloexec(staging, 0).ok();
        let records = Records { staging, ..Records::in_memory() };
        records.open();
        records
    }

    /// Keeps records in memory, for as long as the daemon runs.
    pub(super) fn in_memory() -> Records {
        Records { staging: None, table: RwLock::default(), memory: OnceLock::new(), boot: boot() }
    }

    /// Whether nothing can have been recorded yet. Waits for the disk.
    pub(super) fn are_none(&self) -> bool {
        self.memory.get().is_none() && self.table().or_else(|| self.open()).is_none()
    }

    /// Returns the record of a file in this state. Waits for the disk.
    pub(super) fn find(&self, stamp: &Stamp) -> Recorded {
        let table = self.table().or_else(|| self.open());
        let found =
            table.and_then(|table| self.find_in(&table.read(stamp, ReadWriteFlags::empty()).ok()?, stamp));
        found.or_else(|| self.find_in_memory(stamp)).unwrap_or_default()
    }

    /// Returns the record of a file in this state where that needs no disk, else None.
    pub(super) fn find_now(&self, stamp: &Stamp) -> Option<Recorded> {
        let found = match self.table() {
            Some(table) => match table.read(stamp, ReadWriteFlags::NOWAIT) {
                Ok(bucket) => self.find_in(&bucket, stamp),
                // The table lies on tmpfs before Linux 6.6, where nothing waits.
                Err(Errno::OPNOTSUPP) => return Some(self.find(stamp)),
                Err(_) => return None,
            },
            None => match &self.staging {
                Some(staging) if !is_known_absent(staging.as_fd()) => return None,
                _ => None,
            },
        };
        Some(found.or_else(|| self.find_in_memory(stamp)).unwrap_or_default())
    }

    /// Records facts of a file in this state, besides those recorded before. The digests of a content that isn't
    /// durable are believed until the host boots again: after a crash its file may have its length and other
    /// bytes. Waits for the disk.
    pub(super) fn put(&self, stamp: &Stamp, recorded: &Recorded, is_durable: bool) {
        let boot = if is_durable { ANY_BOOT } else { self.boot };
        if !is_durable && boot == ANY_BOOT {
            return;
        }
        let written = self.table_for_writing().and_then(|table| self.put_in(&table, stamp, recorded, boot));
        if let Err(errno) = written {
            if self.staging.is_some() {
                tracing::debug!(%errno, "a record is kept in memory: .streamd-uploads/records can't be written");
            }
            // Memory takes the record: otherwise the same digest would be made again and again.
            if let Some(memory) = self.memory.get_or_init(|| Table::in_memory().ok()) {
                let _ = self.put_in(memory, stamp, recorded, boot);
            }
        }
    }

    fn find_in_memory(&self, stamp: &Stamp) -> Option<Recorded> {
        let bucket = self.memory.get()?.as_ref()?.read(stamp, ReadWriteFlags::empty()).ok()?;
        self.find_in(&bucket, stamp)
    }

    fn table(&self) -> Option<Arc<Table>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the table, if there is one.
    fn open(&self) -> Option<Arc<Table>> {
        let table = Arc::new(Table::open(self.staging.as_ref()?.as_fd(), OFlags::RDONLY).ok()?);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&table));
        Some(table)
    }

    /// Opens the table for writing, and creates it where it is missing.
    fn table_for_writing(&self) -> Result<Table, Errno> {
        let staging = self.staging.as_ref().ok_or(Errno::NOENT)?;
        let table = Table::open(staging.as_fd(), OFlags::RDWR | OFlags::CREATE)?;
        if !table.is_whole {
            ftruncate(&table.file, TABLE_BYTES)?;
        }
        if self.table().is_none_or(|open| open.number != table.number) {
            self.open();
        }
        Ok(table)
    }

    fn put_in(&self, table: &Table, stamp: &Stamp, recorded: &Recorded, boot: u64) -> Result<(), Errno> {
        let bucket = table.read(stamp, ReadWriteFlags::empty())?;
        let former = self.find_in(&bucket, stamp).unwrap_or_default();
        let recorded = Recorded {
            digests: recorded.digests.or(&former.digests),
            is_published: recorded.is_published || former.is_published,
        };
        let index = self.slot_for(&bucket, stamp);
        let slot = encode(stamp, &recorded, boot);
        pwrite(&table.file, &slot, bucket_offset(stamp) + (index * SLOT_BYTES) as u64)?;
        Ok(())
    }

    fn find_in(&self, bucket: &Bucket, stamp: &Stamp) -> Option<Recorded> {
        let mut found = slots(bucket).filter(|slot| stamp_of(slot) == stamp.to_bytes());
        found.find_map(|slot| decode(slot, self.boot))
    }

    /// Returns the slot of another state of the same file, else a free one, else the oldest.
    fn slot_for(&self, bucket: &Bucket, stamp: &Stamp) -> usize {
        let rank = |slot: &Slot| {
            if stamp_of(slot)[STAMP_BYTES - 8..] == stamp.inode.to_le_bytes() {
                return (0, 0);
            }
            let made = slot[MADE..].first_chunk().copied().map_or(0, u64::from_le_bytes);
            if decode(slot, self.boot).is_none() { (1, 0) } else { (2, made) }
        };
        slots(bucket).enumerate().min_by_key(|(_, slot)| rank(slot)).map_or(0, |(index, _)| index)
    }
}

impl Table {
    fn open(staging: BorrowedFd<'_>, flags: OFlags) -> Result<Table, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(staging, NAME, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let is_whole = stat.st_size == TABLE_BYTES.cast_signed();
        Ok(Table { file, number: (stat.st_dev, stat.st_ino), is_whole })
    }

    /// Creates a table in memory, whose empty pages take none.
    fn in_memory() -> Result<Table, Errno> {
        let file = memfd_create("streamd-records", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, TABLE_BYTES)?;
        Ok(Table { file, number: (0, 0), is_whole: true })
    }

    fn read(&self, stamp: &Stamp, flags: ReadWriteFlags) -> Result<Bucket, Errno> {
        let mut bucket = [0; BUCKET_BYTES];
        let buffers = &mut [IoSliceMut::new(&mut bucket)];
        match preadv2(&self.file, buffers, bucket_offset(stamp), flags) {
            Ok(BUCKET_BYTES) => Ok(bucket),
            // Somebody has cut the file off.
            Ok(_) => Err(Errno::IO),
            Err(errno) => Err(errno),
        }
    }
}

/// Whether the table is known to be absent without asking the disk (RESOLVE_CACHED, Linux 5.12): before the first
/// record each look-up of a young file would wait for a disk thread to say so.
fn is_known_absent(staging: BorrowedFd<'_>) -> bool {
    let resolve = ResolveFlags::CACHED | ResolveFlags::NO_SYMLINKS;
    openat2(staging, NAME, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).err() == Some(Errno::NOENT)
}

/// The boot number of durable records, which are believed in each boot.
const ANY_BOOT: u64 = 0;

/// Returns a number of this boot; [`ANY_BOOT`] where it can't be known, and then nothing is recorded that isn't
/// durable.
fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(ANY_BOOT)
}

fn bucket_offset(stamp: &Stamp) -> u64 {
    let number = u64::from(crc32c::crc32c(&stamp.inode.to_le_bytes())) % BUCKETS;
    number * BUCKET_BYTES as u64
}

fn slots(bucket: &Bucket) -> impl Iterator<Item = &Slot> {
    bucket.chunks_exact(SLOT_BYTES).filter_map(|slot| slot.first_chunk())
}

fn stamp_of(slot: &Slot) -> &[u8] {
    &slot[STAMP..FLAGS]
}

fn encode(stamp: &Stamp, recorded: &Recorded, boot: u64) -> Slot {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&MAGIC);
    slot[CHECKED..STAMP].copy_from_slice(&boot.to_le_bytes());
    slot[STAMP..FLAGS].copy_from_slice(&stamp.to_bytes());
    if recorded.is_published {
        slot[FLAGS] |= IS_PUBLISHED;
    }
    if let Some(sha256) = recorded.digests.sha256 {
        slot[FLAGS] |= HAS_SHA256;
        slot[SHA256..SHA256 + 32].copy_from_slice(&sha256);
    }
    if let Some(crc32c) = recorded.digests.crc32c {
        slot[FLAGS] |= HAS_CRC32C;
        slot[CRC32C..CRC32C + 4].copy_from_slice(&crc32c);
    }
    let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    slot[MADE..MADE + 8].copy_from_slice(&made.to_le_bytes());
    let checksum = crc32c::crc32c(&slot[CHECKED..]);
    slot[4..CHECKED].copy_from_slice(&checksum.to_le_bytes());
    slot
}

/// Decodes a slot; None where it is free, torn by two writers, or of another boot.
fn decode(slot: &Slot, boot: u64) -> Option<Recorded> {
    let checksum = crc32c::crc32c(&slot[CHECKED..]).to_le_bytes();
    if slot[..4] != MAGIC || slot[4..CHECKED] != checksum {
        return None;
    }
    let written_in = u64::from_le_bytes(slot[CHECKED..STAMP].try_into().ok()?);
    if written_in != ANY_BOOT && written_in != boot {
        return None;
    }
    let flags = slot[FLAGS];
    Some(Recorded {
        digests: Digests {
            sha256: slot[SHA256..].first_chunk().copied().filter(|_| flags & HAS_SHA256 != 0),
            crc32c: slot[CRC32C..].first_chunk().copied().filter(|_| flags & HAS_CRC32C != 0),
        },
        is_published: flags & IS_PUBLISHED != 0,
    })
}

#[cfg(test)]
mod tests;
