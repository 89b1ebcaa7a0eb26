//! The walk that plans an archive. It is made in pieces, since there may be many files, their disk may be slow, and
//! others wait too.

use std::collections::HashMap;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Access, AtFlags, FileType, OFlags, Stat, accessat, fstat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::error::ArchiveError;
use super::header::Kind;
use super::names::Names;
use super::plan::{Member, Members, Plan, TOP};
use super::shelf::Shelf;
use super::tree::Tree;
use crate::config::EtagChoice;
use crate::files::file_system::FileSystem;
use crate::files::identity::Stamp;
use crate::files::{FileError, MountId};
use crate::limits::Reserved;

/// The most members of one archive: their plan takes some 30 MiB, which is about what one address may hold by default.
const MEMBERS_MAX: usize = 1 << 18;

/// The time for which one task walks: some 5,000 files that are in memory.
const TASK_TIME_MAX: Duration = Duration::from_millis(5);

/// The memory that a file with several names takes while the walk remembers it.
const FIRST_NAME_BYTES: usize = 40;

/// The room that is taken at a time, so that not every member takes some.
const ROOM_BYTES: u64 = 64 << 10;

/// The bytes of the digest that an entity tag has. They tell apart all states of all directories in the world.
const TAG_BYTES: usize = 12;

/// The version of how archives are made, so that a program that makes them otherwise has other entity tags.
const FORMAT: &[u8] = b"pax 2\0";

/// A walk that hasn't come to its end.
#[derive(Debug)]
pub struct Walk {
    tree: Tree,
    /// The directories from the top down to where the walk is.
    levels: Vec<Level>,
    members: Members,
    /// The places of the first names of files that have several, by file system and inode.
    first_names: HashMap<(u64, u64), u32>,
    digest: Sha256,
    /// Whether the entity tag tells this state of the directory from any other.
    is_strong: bool,
    began: SystemTime,
    /// The mount that the next task asks.
    mount: MountId,
    room: Reserved,
    waiting_bytes_max: u64,
}

/// The state of a walk after a task.
#[derive(Debug)]
pub enum Walked {
    /// More is to be seen.
    Partly(Box<Walk>),
    /// All was seen, and this is the plan.
    Planned(Arc<Plan>),
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Level {
    /// The directory's place among the members.
    place: u32,
    path: Vec<u8>,
    mount: MountId,
    names: Names,
    is_read: bool,
    /// The open directory, while it is the deepest, so that one descriptor does for a walk.
    open: Option<OwnedFd>,
    /// The file system and inode of the directory when it was first opened.
    identity: Option<(u64, u64)>,
    file_system: Option<FileSystem>,
}

impl Level {
    fn new(place: u32, path: Vec<u8>, mount: MountId) -> Level {
        let names = Names::default();
        Level { place, path, mount, names, is_read: false, open: None, identity: None, file_system: None }
    }

    fn bytes(&self) -> usize {
        size_of::<Level>() + self.path.capacity() + self.names.bytes()
    }

    /// Opens the directory unless it is open. Waits for the disk.
    fn open(&mut self, tree: &Tree) -> Result<&OwnedFd, ArchiveError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let failed = |errno| ArchiveError::of(&self.path, errno);
                let open = tree.open(&self.path, OFlags::DIRECTORY).map_err(failed)?;
                let stat = fstat(&open).map_err(failed)?;
                let identity = (stat.st_dev, stat.st_ino);
                if *self.identity.get_or_insert(identity) != identity {
                    return Err(ArchiveError::changed(&self.path));
                }
                self.file_system.get_or_insert_with(|| FileSystem::of(&open));
                open
            }
        };
        Ok(self.open.insert(open))
    }
}

impl Walk {
    /// Creates a walk through a directory whose fstat(2) gave `top`.
    pub(super) fn new(tree: Tree, top: &Stat, room: Reserved, waiting_bytes_max: u64) -> Walk {
        let name = tree.name();
        let mut digest = Sha256::new();
        digest.update(FORMAT);
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        let mut walk = Walk {
            members: Members::below(name),
            levels: vec![Level::new(TOP, Vec::new(), tree.mount())],
            first_names: HashMap::new(),
            digest,
            is_strong: tree.etag != EtagChoice::Times,
            began: SystemTime::now(),
            mount: tree.mount(),
            room,
            waiting_bytes_max,
            tree,
        };
        // The root has no name that would be made anew where the archive is unpacked, and isn't its own member.
        if !walk.tree.name().is_empty() {
            walk.add(member_of(top, TOP, Kind::Directory), b"", b"");
        }
        walk
    }

    /// Returns the mount that the next task waits for.
    pub fn mount(&self) -> MountId {
        self.mount
    }

    /// Walks for a while. Plans on `shelf` are given up where there is no room without. Waits for the disk.
    pub(super) fn go_on(mut self: Box<Self>, shelf: &Shelf) -> Result<Walked, ArchiveError> {
        let since = Instant::now();
        while let Some(level) = self.levels.pop() {
            let mount = self.mount_of_next(&level);
            if mount != self.mount || since.elapsed() >= TASK_TIME_MAX {
                self.mount = mount;
                self.levels.push(level);
                return Ok(Walked::Partly(self));
            }
            self.step(level)?;
            self.make_room(shelf)?;
        }
        Ok(Walked::Planned(Arc::new(self.end())))
    }

    fn mount_of_next(&self, level: &Level) -> MountId {
        match level.names.peek() {
            Some((name, _)) if level.is_read => self.tree.mount_of(&joined(&level.path, name)),
            _ => level.mount,
        }
    }

    /// Reads names of the deepest directory, which has been taken out of the levels, or sees its next one.
    fn step(&mut self, mut level: Level) -> Result<(), ArchiveError> {
        if level.is_read && level.names.peek().is_none() {
            return Ok(());
        }
        level.open(&self.tree)?;
        if level.is_read {
            return self.see(level);
        }
        let (tree, path) = (&self.tree, &level.path);
        let is_left_out = |name: &[u8]| tree.hides(path, name);
        let read = level.open.as_ref().map_or(Ok(false), |open| level.names.read(open, is_left_out));
        level.is_read = !read.map_err(|errno| ArchiveError::of(&level.path, errno))?;
        if self.members.len() + level.names.len() > MEMBERS_MAX {
            return Err(ArchiveError::TooMany { members_max: MEMBERS_MAX });
        }
        if level.is_read {
            level.names.sort();
        }
        self.levels.push(level);
        Ok(())
    }

    /// Adds the next name of an open directory as a member, unless it has gone or no archive can hold it.
    fn see(&mut self, mut level: Level) -> Result<(), ArchiveError> {
        let (Some(open), Some((name, is_directory))) = (&level.open, level.names.peek()) else {
            return Ok(());
        };
        let path = joined(&level.path, name);
        let seen = look_at(open, name).map_err(|errno| ArchiveError::of(&path, errno))?;
        let seen = seen.filter(|_| !self.tree.is_reserved(open, name));
        let mut deeper = None;
        if let Some((kind, stat, target)) = seen {
            if (kind == Kind::Directory) != is_directory {
                return Err(ArchiveError::changed(&path));
            }
            if kind == Kind::File && !may_read(open, name, &stat) {
                return Err(ArchiveError::of(&path, Errno::ACCESS));
            }
            let file_system = level.file_system;
            let member = self.with_first_name(member_of(&stat, level.place, kind), &stat);
            let member = Member { is_mounted: self.mount != self.tree.mount(), ..member };
            let is_sure = |file_system: FileSystem| {
                member.stamp.is_telling(file_system.change_time) && member.stamp.is_settled(self.began)
            };
            if kind == Kind::File && !file_system.is_some_and(is_sure) {
                self.is_strong = false;
            }
            let too_many = ArchiveError::TooMany { members_max: MEMBERS_MAX };
            let place = self.add(member, name, &target).ok_or(too_many)?;
            if member.kind == Kind::File && stat.st_nlink > 1 {
                self.first_names.insert((stat.st_dev, stat.st_ino), place);
            }
            deeper = (kind == Kind::Directory).then_some(place);
        }
        level.names.advance();
        if deeper.is_some() {
            level.open = None;
        }
        self.levels.push(level);
        if let Some(place) = deeper {
            self.levels.push(Level::new(place, path, self.mount));
        }
        Ok(())
    }

    /// Makes a member a link if its file is in the archive already.
    fn with_first_name(&self, member: Member, stat: &Stat) -> Member {
        match self.first_names.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) if member.kind == Kind::File => {
                Member { kind: Kind::FurtherName, first: *first, ..member }
            }
            _ => member,
        }
    }

    fn add(&mut self, member: Member, name: &[u8], target: &[u8]) -> Option<u32> {
        let place = self.members.add(member, name, target)?;
        let member = self.members.get(place as usize)?;
        self.digest.update(member.to_bytes(self.tree.etag != EtagChoice::Times));
        self.digest.update(name);
        self.digest.update(target);
        Some(place)
    }

    /// Takes room for all that was seen so far.
    fn make_room(&mut self, shelf: &Shelf) -> Result<(), ArchiveError> {
        let of_levels: usize = self.levels.iter().map(Level::bytes).sum();
        let bytes = self.members.bytes() + of_levels + self.first_names.capacity() * FIRST_NAME_BYTES;
        let more = (bytes as u64).saturating_sub(self.room.bytes());
        if more == 0 {
            return Ok(());
        }
        let more = more.next_multiple_of(ROOM_BYTES);
        let grown = self.room.grow(more, self.waiting_bytes_max).or_else(|_| {
            // Plans that nobody sends at this moment can be made again.
            shelf.clear();
            self.room.grow(more, self.waiting_bytes_max)
        });
        grown.map_err(|full| ArchiveError::File(FileError::NoRoom(full)))
    }

    fn end(self) -> Plan {
        let mut tag = String::from(if self.is_strong { "\"" } else { "W/\"" });
        for byte in &self.digest.finalize()[..TAG_BYTES] {
            // Writing to a String can't fail.
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        Plan::new(self.members, tag, self.room)
    }
}

/// Looks at a name, and returns None where nothing is there or no archive can hold it.
fn look_at(directory: &OwnedFd, name: &[u8]) -> Result<Option<(Kind, Stat, Vec<u8>)>, Errno> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some((Kind::File, stat, Vec::new())),
        FileType::Directory => Some((Kind::Directory, stat, Vec::new())),
        FileType::Symlink => match readlinkat(directory, name, Vec::new()) {
            Ok(target) => Some((Kind::Link, stat, target.into_bytes())),
            // It is something else by now.
            Err(Errno::INVAL) => return Err(Errno::NOENT),
            Err(errno) => return Err(errno),
        },
        _ => None,
    })
}

/// Tells whether the daemon's user may read a file. Where all may there is nothing to ask.
fn may_read(directory: &OwnedFd, name: &[u8], stat: &Stat) -> bool {
    const ALL_MAY_READ: u32 = 0o444;
    stat.st_mode & ALL_MAY_READ == ALL_MAY_READ
        // Without faccessat2(2) (Linux 5.8) it is found out when its turn comes.
        || !matches!(accessat(directory, name, Access::READ_OK, AtFlags::EACCESS), Err(Errno::ACCESS | Errno::PERM))
}

fn member_of(stat: &Stat, parent: u32, kind: Kind) -> Member {
    Member {
        offset: 0,
        stamp: Stamp::of(stat),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        parent,
        text: 0,
        name_bytes: 0,
        target_bytes: 0,
        first: 0,
        kind,
        is_mounted: false,
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}
