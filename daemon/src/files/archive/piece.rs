//! Reads an archive piece by piece, by its plan.

use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fstat};
use rustix::io::{Errno, pread};

use super::error::ArchiveError;
use super::header::padded;
use super::plan::{Member, Plan};
use super::tree::{Tree, has_change_time};
use crate::files::file_system::FileSystem;
use crate::files::{MountId, SourceFile};
use crate::protocol::range::ByteRange;

/// The length from which on a piece is long enough. It fits the cache of a core.
const PIECE_BYTES: usize = 256 << 10;

/// The longest body that is read with the headers around it. Longer ones are sent from their files.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The room for a piece: its last body may begin just below its length, with headers that have paths of 4 KiB.
pub const PIECE_BYTES_MAX: usize = PIECE_BYTES + BODY_BYTES_MAX + (16 << 10);

/// The time for which one task reads files that come from a disk.
const TASK_TIME_MAX: Duration = Duration::from_millis(20);

/// A piece of an archive.
#[derive(Debug)]
pub struct Piece {
    /// The headers and short bodies.
    pub text: Vec<u8>,
    /// The part of a long body that follows the text, and the file that has it.
    pub body: Option<(SourceFile, ByteRange)>,
    /// The offset behind the piece.
    pub end: u64,
}

/// Returns the mount that the byte at this offset comes from.
pub fn mount_at(tree: &Tree, plan: &Plan, offset: u64) -> MountId {
    let member = plan.members.get(plan.place_at(offset)).filter(|member| member.is_mounted);
    member.map_or(tree.mount(), |member| tree.mount_of(&plan.members.path(member)))
}

/// Reads a piece from the start of the range on, which ends with the range at the latest. `text` is used again. Waits
/// for the disk.
pub fn read(tree: &Tree, plan: &Plan, range: ByteRange, mut text: Vec<u8>) -> Result<Piece, ArchiveError> {
    text.clear();
    let mount = mount_at(tree, plan, range.start);
    let (offset, end) = (range.start, range.start + range.length);
    let mut reading = Reading { tree, plan, mount, end, offset, text, body: None, file_system: None };
    let since = Instant::now();
    let mut place = plan.place_at(range.start);
    while reading.wants_more() && since.elapsed() < TASK_TIME_MAX {
        match plan.members.get(place).filter(|_| reading.offset < plan.end()) {
            Some(member) if !reading.is_of_mount(member) => break,
            Some(member) => reading.append(member)?,
            None => reading.append_zeros(reading.end),
        }
        place += 1;
    }
    Ok(Piece { text: reading.text, body: reading.body, end: reading.offset })
}

struct Reading<'a> {
    tree: &'a Tree,
    plan: &'a Plan,
    mount: MountId,
    end: u64,
    offset: u64,
    text: Vec<u8>,
    body: Option<(SourceFile, ByteRange)>,
    /// The file system of the piece's mount, once it was asked for.
    file_system: Option<FileSystem>,
}

impl Reading<'_> {
    fn wants_more(&self) -> bool {
        self.body.is_none() && self.offset < self.end && self.text.len() < PIECE_BYTES
    }

    /// Tells whether a member lies on the mount from which all of the piece is read.
    fn is_of_mount(&self, member: &Member) -> bool {
        if !member.is_mounted {
            return self.mount == self.tree.mount() || member.body_bytes() == 0;
        }
        self.mount == self.tree.mount_of(&self.plan.members.path(member))
    }

    /// Appends the bytes of a member from the offset on.
    fn append(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let mut headers = Vec::new();
        self.plan.members.describe(member, |description| description.write(&mut headers));
        let body_begin = member.offset + headers.len() as u64;
        let body_end = body_begin + member.body_bytes();
        if self.offset < body_begin {
            let from = index(self.offset - member.offset);
            let to = index(self.end.min(body_begin) - member.offset);
            self.text.extend_from_slice(&headers[from..to]);
            self.offset += (to - from) as u64;
        }
        let to = body_end.min(self.end);
        if self.offset < to {
            let range = ByteRange { start: self.offset - body_begin, length: to - self.offset };
            self.append_body(member, range)?;
            self.offset = to;
        }
        if self.body.is_none() {
            self.append_zeros(body_begin + padded(member.body_bytes()));
        }
        Ok(())
    }

    fn append_zeros(&mut self, end: u64) {
        let zeros = end.min(self.end).saturating_sub(self.offset);
        self.text.resize(self.text.len() + index(zeros), 0);
        self.offset += zeros;
    }

    fn append_body(&mut self, member: &Member, range: ByteRange) -> Result<(), ArchiveError> {
        let path = self.plan.members.path(member);
        let failed = |errno| ArchiveError::of(&path, errno);
        let file = self.tree.open(&path, OFlags::empty()).map_err(failed)?;
        let is_short = range.length <= BODY_BYTES_MAX as u64;
        if is_short {
            let begin = self.text.len();
            self.text.resize(begin + index(range.length), 0);
            if !fill(&file, &mut self.text[begin..], range.start).map_err(failed)? {
                return Err(ArchiveError::changed(&path));
            }
        }
        // This look comes after the read, so what was read is what was planned.
        let stat = fstat(&file).map_err(failed)?;
        let file_system = *self.file_system.get_or_insert_with(|| FileSystem::of(&file));
        if !member.is(&stat, has_change_time(file_system)) {
            return Err(ArchiveError::changed(&path));
        }
        if !is_short {
            let source = SourceFile::new(file, &stat, file_system, self.tree.etag).on(self.mount);
            self.body = Some((source, range));
        }
        Ok(())
    }
}

/// Fills a buffer with the bytes from `offset` on, and returns whether the file has so many.
fn fill(file: &impl std::os::fd::AsFd, buffer: &mut [u8], offset: u64) -> Result<bool, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            // A FIFO has taken its place.
            Err(Errno::SPIPE) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
