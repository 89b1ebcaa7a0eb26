//! Reads an archive piece by piece, by its plan.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fstat};
use rustix::io::{Errno, pread};

use super::error::ArchiveError;
use super::header::padded;
use super::plan::{Member, Plan, TOP};
use super::tree::{Tree, has_change_time};
use crate::files::file_system::FileSystem;
use crate::files::{MountId, SourceFile};
use crate::protocol::range::ByteRange;

/// The length from which on a piece is long enough: short files take a sixth less time than by pieces of 256 KiB, since
/// a worker and a disk thread hand over less often. Two of them are in memory for each archive.
const PIECE_BYTES: usize = 1 << 20;

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
    text.reserve_exact(PIECE_BYTES_MAX.min(index(range.length)));
    let mount = mount_at(tree, plan, range.start);
    let (offset, end) = (range.start, range.start + range.length);
    let mut reading =
        Reading { tree, plan, mount, end, offset, text, body: None, parent: None, file_system: None };
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
    /// The directory of the file that was read last, and its place: the next one is in there, most likely.
    parent: Option<(u32, OwnedFd)>,
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
        let text_begin = self.text.len();
        self.plan.members.describe(member, |description| description.write(&mut self.text));
        let body_begin = member.offset + (self.text.len() - text_begin) as u64;
        let body_end = body_begin + member.body_bytes();
        // Of headers, which are written as a whole, only those bytes stay that are asked for.
        let from = index(self.offset.min(body_begin) - member.offset);
        let to = index(self.end.clamp(member.offset, body_begin) - member.offset).max(from);
        self.text.truncate(text_begin + to);
        self.text.drain(text_begin..text_begin + from);
        self.offset += (to - from) as u64;
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

    /// Opens the file of a member, from its directory on: a piece has many of one directory.
    fn open(&mut self, member: &Member) -> Result<OwnedFd, Errno> {
        let name = self.plan.members.name(member);
        if member.parent == TOP {
            return self.tree.open(name, OFlags::empty());
        }
        let parent = match self.parent.take() {
            Some((place, open)) if place == member.parent => open,
            _ => self.tree.open(&self.plan.members.path_of_parent(member), OFlags::DIRECTORY)?,
        };
        let (_, parent) = self.parent.insert((member.parent, parent));
        Tree::open_in(&*parent, name, OFlags::empty())
    }

    fn append_body(&mut self, member: &Member, range: ByteRange) -> Result<(), ArchiveError> {
        let members = &self.plan.members;
        let failed = |errno| ArchiveError::of(&members.path(member), errno);
        let changed = || ArchiveError::changed(&members.path(member));
        let file = self.open(member).map_err(failed)?;
        let is_short = range.length <= BODY_BYTES_MAX as u64;
        if is_short && !append_from(&file, range, &mut self.text).map_err(failed)? {
            return Err(changed());
        }
        // This look comes after the read, so what was read is what was planned.
        let stat = fstat(&file).map_err(failed)?;
        let file_system = *self.file_system.get_or_insert_with(|| FileSystem::of(&file));
        if !member.is(&stat, has_change_time(file_system)) {
            return Err(changed());
        }
        if !is_short {
            let source = SourceFile::new(file, &stat, file_system, self.tree.etag).on(self.mount);
            self.body = Some((source, range));
        }
        Ok(())
    }
}

/// Appends a range of a file, and returns whether the file has so many bytes.
fn append_from(file: &OwnedFd, range: ByteRange, text: &mut Vec<u8>) -> Result<bool, Errno> {
    let end = text.len() + index(range.length);
    let mut offset = range.start;
    while text.len() < end {
        text.reserve(end - text.len());
        // The room isn't zeroed first. It may take more than the range, which is cut off again.
        match pread(file, spare_capacity(text), offset) {
            Ok(0) => return Ok(false),
            Ok(count) => offset += count as u64,
            Err(Errno::INTR) => {}
            // A FIFO has taken its place.
            Err(Errno::SPIPE) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    text.truncate(end);
    Ok(true)
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
