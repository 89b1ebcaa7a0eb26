//! The plan of an archive: some hundred bytes for each member, from which every byte of the archive but those of its
//! files follows.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Stat;

use super::header::{Description, Kind, padded};
use super::ustar::BLOCK_BYTES;
use crate::files::identity::{Moment, Stamp};
use crate::limits::Reserved;

/// Two empty blocks end an archive (pax, POSIX.1-2001).
pub(super) const END_BYTES: u64 = 2 * BLOCK_BYTES as u64;

/// The parent of those members that lie in the directory itself.
pub(super) const TOP: u32 = u32::MAX;

/// A file, directory or link of an archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// The offset at which the member's first header begins.
    pub(super) offset: u64,
    /// The state in which the member was seen.
    pub(super) stamp: Stamp,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The place of the member's directory among the members, or [`TOP`].
    pub(super) parent: u32,
    /// The index in the text at which the member's name begins. A symbolic link's target follows it.
    pub(super) text: u32,
    pub(super) name_bytes: u16,
    pub(super) target_bytes: u16,
    /// The place of the file's first name among the members, where this is a further one.
    pub(super) first: u32,
    pub(super) kind: Kind,
    /// Whether the member lies on another mount than the directory.
    pub(super) is_mounted: bool,
}

impl Member {
    /// Returns the length of the body in bytes.
    pub(super) fn body_bytes(&self) -> u64 {
        if self.kind == Kind::File { self.stamp.size } else { 0 }
    }

    /// Tells whether a file is still the one that was planned, as far as its times show. `has_change_time`: whether its
    /// file system keeps change times.
    pub(super) fn is(&self, stat: &Stat, has_change_time: bool) -> bool {
        let mut now = Stamp::of(stat);
        if !has_change_time {
            now.changed = self.stamp.changed;
        }
        (now, stat.st_mode, stat.st_uid, stat.st_gid) == (self.stamp, self.mode, self.uid, self.gid)
    }

    /// Returns all facts about the member but its offset and its text, for the entity tag. `with_state`: whether inode
    /// and change time are among them.
    pub(super) fn to_bytes(self, with_state: bool) -> [u8; MEMBER_BYTES] {
        let Stamp { size, modified, changed, inode } = self.stamp;
        let (changed, inode) = if with_state { (changed, inode) } else { (Moment::default(), 0) };
        let mut bytes = [0; MEMBER_BYTES];
        bytes[..40].copy_from_slice(&Stamp { size, modified, changed, inode }.to_bytes());
        let words = [self.mode, self.uid, self.gid, self.parent, self.first];
        for (place, word) in bytes[40..60].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[60..62].copy_from_slice(&self.name_bytes.to_le_bytes());
        bytes[62..64].copy_from_slice(&self.target_bytes.to_le_bytes());
        bytes[64] = self.kind as u8;
        bytes
    }
}

/// Length of [`Member::to_bytes`].
const MEMBER_BYTES: usize = 65;

/// The members of an archive, in the order of their paths.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Member>,
    text: Vec<u8>,
    /// The first part of all paths, which is empty for the root.
    top: Box<[u8]>,
    /// The offset at which the next member begins.
    end: u64,
}

impl Members {
    /// Creates an empty list of members whose paths will all begin with this name.
    pub(super) fn below(top: &[u8]) -> Members {
        Members { top: top.into(), ..Members::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Member> {
        self.members.get(place)
    }

    /// Adds a member at the end, sets its offset and text, and returns its place. None where the names take more than
    /// 4 GiB.
    pub(super) fn add(&mut self, member: Member, name: &[u8], target: &[u8]) -> Option<u32> {
        let place = u32::try_from(self.members.len()).ok().filter(|place| *place != TOP)?;
        let member = Member {
            offset: self.end,
            text: u32::try_from(self.text.len()).ok()?,
            name_bytes: u16::try_from(name.len()).ok()?,
            target_bytes: u16::try_from(target.len()).ok()?,
            ..member
        };
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(target);
        self.members.push(member);
        let header_bytes = self.describe(&member, |description| description.header_bytes());
        self.end = member.offset.checked_add(header_bytes)?.checked_add(padded(member.body_bytes()))?;
        self.end.checked_add(END_BYTES)?;
        Some(place)
    }

    /// Returns the bytes of memory that the members take.
    pub(super) fn bytes(&self) -> usize {
        self.members.capacity() * size_of::<Member>() + self.text.capacity()
    }

    /// Returns the path of a member from the directory on, which is empty for the directory itself.
    pub(super) fn path(&self, member: &Member) -> Vec<u8> {
        self.path_behind(b"", member)
    }

    /// Returns the path of a member's directory, as [`Members::path`] does.
    pub(super) fn path_of_parent(&self, member: &Member) -> Vec<u8> {
        self.directory(member.parent).map_or_else(Vec::new, |parent| self.path(parent))
    }

    /// Calls `with` with the facts that the headers of a member state.
    pub(super) fn describe<R>(&self, member: &Member, with: impl FnOnce(&Description<'_>) -> R) -> R {
        let path = self.path_in_archive(member);
        let first;
        let target = match member.kind {
            Kind::Link => &self.text[self.target(member)],
            Kind::FurtherName => {
                let named = self.members.get(member.first as usize);
                first = named.map_or_else(Vec::new, |named| self.path_in_archive(named));
                first.as_slice()
            }
            Kind::File | Kind::Directory => b"",
        };
        with(&Description {
            kind: member.kind,
            path: &path,
            target,
            size: member.body_bytes(),
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            modified: member.stamp.modified,
        })
    }

    /// Returns the path of a member in the archive, which ends in a slash for a directory.
    fn path_in_archive(&self, member: &Member) -> Vec<u8> {
        let mut path = self.path_behind(&self.top, member);
        if member.kind == Kind::Directory {
            path.push(b'/');
        }
        path
    }

    /// Returns `top` and the names on the way to a member, with slashes between them. Each member of an archive needs
    /// it, so it takes one allocation.
    fn path_behind(&self, top: &[u8], member: &Member) -> Vec<u8> {
        let mut bytes = 0;
        self.each_name_upwards(member, top, |name| bytes += name.len() + 1);
        // The first name has no slash before it; a directory's path will get one at its end.
        let mut path = Vec::with_capacity(bytes);
        path.resize(bytes.saturating_sub(1), b'/');
        let mut end = path.len();
        self.each_name_upwards(member, top, |name| {
            let begin = end - name.len();
            path[begin..end].copy_from_slice(name);
            end = begin.saturating_sub(1);
        });
        path
    }

    fn each_name_upwards<'m>(&'m self, member: &'m Member, top: &'m [u8], mut with: impl FnMut(&'m [u8])) {
        let names = std::iter::successors(Some(member), |below| self.directory(below.parent));
        let names = names.map(|member| self.name(member)).chain([top]);
        names.filter(|name| !name.is_empty()).for_each(&mut with);
    }

    fn directory(&self, place: u32) -> Option<&Member> {
        if place == TOP { None } else { self.members.get(place as usize) }
    }

    /// Returns the name of a member in its directory.
    pub(super) fn name(&self, member: &Member) -> &[u8] {
        let begin = member.text as usize;
        &self.text[begin..begin + usize::from(member.name_bytes)]
    }

    fn target(&self, member: &Member) -> Range<usize> {
        let begin = member.text as usize + usize::from(member.name_bytes);
        begin..begin + usize::from(member.target_bytes)
    }
}

/// The plan of an archive, by which it can be sent from any of its bytes on.
#[derive(Debug)]
pub struct Plan {
    pub(super) members: Members,
    etag: String,
    is_outdated: AtomicBool,
    room: Reserved,
}

impl Plan {
    /// Makes the plan of all members. `room` keeps as much as they take.
    pub(super) fn new(mut members: Members, etag: String, mut room: Reserved) -> Plan {
        members.members.shrink_to_fit();
        members.text.shrink_to_fit();
        room.shrink_to(members.bytes() as u64);
        Plan { members, etag, is_outdated: AtomicBool::new(false), room }
    }

    /// Returns the length of the archive in bytes.
    pub fn length(&self) -> u64 {
        self.members.end + END_BYTES
    }

    /// Returns the entity tag of the archive, with its quotes.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// Returns the bytes of memory that the plan takes.
    pub(super) fn bytes(&self) -> u64 {
        self.room.bytes()
    }

    /// Returns the offset of the two empty blocks at the end.
    pub(super) fn end(&self) -> u64 {
        self.members.end
    }

    /// Returns the place of the member that has the byte at this offset, or of the last member for a byte behind it.
    pub(super) fn place_at(&self, offset: u64) -> usize {
        self.members.members.partition_point(|member| member.offset <= offset).saturating_sub(1)
    }

    /// Notes that the directory isn't what was planned any more, so that the next request gets another plan.
    pub fn note_outdated(&self) {
        self.is_outdated.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Relaxed)
    }
}
