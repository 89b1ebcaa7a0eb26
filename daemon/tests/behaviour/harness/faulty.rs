//! A file system that fails when a test says so: its content is in this process's memory, and the kernel asks for
//! it by FUSE.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::mounts::{Mountpoint, mount_fuse};
use super::nodes::Nodes;

/// The time for which the kernel may remember an answer: it sees every change itself.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The size that the file system states, in blocks of 4 KiB: more than any reserve.
const BLOCKS: u64 = 1 << 20;

const BLOCK_BYTES: u32 = 4096;

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    LookUp,
    Create,
    Allocate,
    Write,
    Read,
    SetAttributes,
    Flush,
    Sync,
    SyncDirectory,
    Rename,
    Lock,
}

/// The place where written bytes wait until they are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// No place: write(2) itself tells a failure.
    Through,
    /// The page cache: write(2) succeeds, and writing back fails.
    Back,
}

/// The error of each operation, and how many calls, or bytes of writes, succeed before.
type Faults = HashMap<Operation, (usize, Errno)>;

/// The file system, mounted until the test ends.
pub(crate) struct FaultyFs {
    caching: Caching,
    session: Option<BackgroundSession>,
    mountpoint: Mountpoint,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    nodes: Mutex<Nodes>,
    faults: Mutex<Faults>,
    writes: AtomicUsize,
    /// The operation that waits until the file system is healed, and whether one is waiting.
    stalled: Mutex<(Option<Operation>, bool)>,
    healed: Condvar,
}

impl FaultyFs {
    /// Mounts the file system; None, with a line that says so, where the host doesn't allow it.
    pub(crate) fn mount(caching: Caching) -> Option<FaultyFs> {
        let shared = Arc::<Shared>::default();
        let mountpoint = Mountpoint::new();
        let session =
            mount_fuse(Memory { shared: Arc::clone(&shared), caching }, &mountpoint, &Config::default())?;
        Some(FaultyFs { caching, session: Some(session), mountpoint, shared })
    }

    /// Returns its mount point.
    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// Adds an empty file that the kernel doesn't know of before it is asked for.
    pub(crate) fn add_file(&self, name: &str) {
        let mut nodes = self.shared.nodes.lock().unwrap();
        nodes.create(INodeNo::ROOT, OsStr::new(name), FileType::RegularFile, 0o644).unwrap();
    }

    /// Returns the caching with which it was mounted.
    pub(crate) fn caching(&self) -> Caching {
        self.caching
    }

    /// Makes `operation` fail once it has succeeded `after` times more, or once so many more bytes are written.
    pub(crate) fn fail(&self, operation: Operation, errno: Errno, after: usize) {
        self.shared.faults.lock().unwrap().insert(operation, (after, errno));
    }

    /// Makes the next `operation` wait until everything is healed, and the whole file system with it.
    pub(crate) fn stall(&self, operation: Operation) {
        *self.shared.stalled.lock().unwrap() = (Some(operation), false);
    }

    /// Whether an operation waits.
    pub(crate) fn is_stalled(&self) -> bool {
        self.shared.stalled.lock().unwrap().1
    }

    /// Makes everything succeed again.
    pub(crate) fn heal(&self) {
        self.shared.faults.lock().unwrap().clear();
        *self.shared.stalled.lock().unwrap() = (None, false);
        self.shared.healed.notify_all();
    }

    /// Returns a guard that heals it: where a test fails while a daemon hangs in it, the daemon can't be ended
    /// before.
    pub(crate) fn healed_at_end(&self) -> HealedAtEnd<'_> {
        HealedAtEnd(self)
    }

    /// Returns how many writes it was asked for so far. Where nothing is cached, each write(2) is one or, if it is
    /// long, several.
    pub(crate) fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Returns the bytes of all files, including open ones without a name.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.shared.nodes.lock().unwrap().used_bytes()
    }
}

/// A guard that heals the file system when it is dropped.
pub(crate) struct HealedAtEnd<'a>(&'a FaultyFs);

impl Drop for HealedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        self.heal();
        self.mountpoint.unmount();
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

struct Memory {
    shared: Arc<Shared>,
    caching: Caching,
}

impl Memory {
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.shared.nodes.lock().unwrap()
    }

    /// Returns the error that `operation` has to fail with now.
    fn check(&self, operation: Operation) -> Result<(), Errno> {
        self.check_many(operation, 1)
    }

    fn wait(&self, operation: Operation) {
        let mut stalled = self.shared.stalled.lock().unwrap();
        while stalled.0 == Some(operation) {
            stalled.1 = true;
            stalled = self.shared.healed.wait(stalled).unwrap();
        }
    }

    /// Does as `check` for `count` calls or bytes at once. An operation that has failed fails from then on.
    fn check_many(&self, operation: Operation, count: usize) -> Result<(), Errno> {
        self.wait(operation);
        match self.shared.faults.lock().unwrap().get_mut(&operation) {
            Some((left, errno)) if *left < count => {
                *left = 0;
                Err(*errno)
            }
            Some((left, _)) => {
                *left -= count;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn answer_attributes(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
        Err(errno) => reply.error(errno),
    }
}

fn answer_xattr(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap()),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl Filesystem for Memory {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Without this capability the kernel grants the locks of fcntl(2) by itself.
        config.add_capabilities(InitFlags::FUSE_POSIX_LOCKS).map_err(|_| std::io::ErrorKind::Unsupported)?;
        if self.caching == Caching::Back {
            config
                .add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE)
                .map_err(|_| std::io::ErrorKind::Unsupported)?;
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.check(Operation::LookUp).and_then(|()| self.nodes().look_up(parent, name)));
    }

    fn forget(&self, _: &Request, node: INodeNo, count: u64) {
        self.nodes().forget(node, count);
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(reply, self.nodes().attributes(node));
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let result = self
            .check(Operation::SetAttributes)
            .and_then(|()| self.nodes().set_attributes(node, mode, size, mtime.map(time)));
        answer_attributes(reply, result);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        answer_entry(reply, self.nodes().create(parent, name, FileType::Directory, mode & !umask));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.nodes().remove(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.nodes().remove(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent, name), (new_parent, new_name));
        let result = self.check(Operation::Rename).and_then(|()| self.nodes().rename(from, to, flags));
        answer(reply, result);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.check(Operation::Read).and_then(|()| self.nodes().read(node, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.shared.writes.fetch_add(1, Ordering::Relaxed);
        match self
            .check_many(Operation::Write, bytes.len())
            .and_then(|()| self.nodes().write(node, offset, bytes))
        {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap()),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(reply, self.check(Operation::Flush));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.check(Operation::Sync));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.check(Operation::SyncDirectory));
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _process: u32,
        _waits: bool,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.check(Operation::Lock));
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = self.nodes().entries(node);
        for (index, (name, node, kind)) in
            entries.into_iter().enumerate().skip(usize::try_from(offset).unwrap())
        {
            if reply.add(node, index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let free = BLOCKS - self.nodes().used_bytes() / u64::from(BLOCK_BYTES);
        reply.statfs(BLOCKS, free, free, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    fn setxattr(
        &self,
        _: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.nodes().set_xattr(node, name, value));
    }

    fn getxattr(&self, _: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer_xattr(reply, size, self.nodes().xattr(node, name));
    }

    fn removexattr(&self, _: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.nodes().remove_xattr(node, name));
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self
            .check(Operation::Create)
            .and_then(|()| self.nodes().create(parent, name, FileType::RegularFile, mode & !umask));
        match created {
            Ok(attributes) => {
                reply.created(&REMEMBERED, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _offset: u64,
        _length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // The mode is FALLOC_FL_KEEP_SIZE (linux/falloc.h).
        let result = if mode == 1 { self.check(Operation::Allocate) } else { Err(Errno::EOPNOTSUPP) };
        answer(reply, result);
    }
}
