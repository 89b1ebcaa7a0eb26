//! A disk that loses power: an image that this process serves by FUSE, with the bytes written to it since it was
//! last told to make everything durable.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, WriteFlags,
};

use super::mounts::{Mountpoint, make_ext4, mount_fuse, or_skip};
use super::random::Random;

/// The one file's name and number.
const IMAGE: &str = "image";
const IMAGE_NUMBER: INodeNo = INodeNo(2);

const REMEMBERED: Duration = Duration::from_secs(60);

/// The bytes that a disk writes as a whole or not at all, as far as ext4 is concerned.
const BLOCK_BYTES: usize = 4096;

/// The fate of the blocks that were written and not yet made durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// All blocks are there: the host crashed, the disk didn't.
    Nothing,
    /// All blocks are lost with the disk's cache.
    Everything,
    /// Each block is there or lost, at random.
    Half,
}

impl Loss {
    pub(crate) const ALL: [Loss; 3] = [Loss::Nothing, Loss::Everything, Loss::Half];
}

/// The disk, with an ext4 on it.
pub(crate) struct Disk {
    session: Option<BackgroundSession>,
    mountpoint: Mountpoint,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    platter: Platter,
    /// The number of blocks to be written before the hook is called, and the hook.
    hook: Option<(usize, Hook)>,
}

/// A hook that is called in the middle of a write.
type Hook = Box<dyn FnOnce(&Platter) + Send>;

/// The content of the disk at one moment.
#[derive(Clone)]
pub(crate) struct Platter {
    durable: Vec<u8>,
    /// The content as it is read: all that was written is there.
    current: Vec<u8>,
    /// The blocks that were written since the last flush, in order, with their places.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Platter {
    fn write(&mut self, offset: usize, block: &[u8]) {
        self.current[offset..offset + block.len()].copy_from_slice(block);
        self.pending.push((offset, block.to_owned()));
    }

    fn flush(&mut self) {
        for (offset, block) in self.pending.drain(..) {
            self.durable[offset..offset + block.len()].copy_from_slice(&block);
        }
    }

    /// Returns how many blocks were written and not yet made durable.
    pub(crate) fn pending_blocks(&self) -> usize {
        self.pending.len()
    }

    /// Returns the content of the disk when the power is back.
    pub(crate) fn after(&self, loss: Loss, random: &mut Random) -> Vec<u8> {
        let mut found = self.durable.clone();
        for (offset, block) in &self.pending {
            let is_there = match loss {
                Loss::Nothing => true,
                Loss::Everything => false,
                Loss::Half => random.below(2) == 0,
            };
            if is_there {
                found[*offset..offset + block.len()].copy_from_slice(block);
            }
        }
        found
    }
}

impl Shared {
    fn write(&mut self, mut offset: usize, bytes: &[u8]) {
        for block in bytes.chunks(BLOCK_BYTES) {
            self.platter.write(offset, block);
            offset += block.len();
            self.hook = match self.hook.take() {
                Some((0, hook)) => {
                    hook(&self.platter);
                    None
                }
                Some((left, hook)) => Some((left - 1, hook)),
                None => None,
            };
        }
    }
}

impl Disk {
    /// Makes a disk of `bytes` with an empty ext4; None, with a line that says so, where the host doesn't allow
    /// it.
    pub(crate) fn with_ext4(bytes: u64) -> Option<Disk> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let image = directory.path().join(IMAGE);
        or_skip(make_ext4(&image, bytes))?;
        let durable = std::fs::read(image).unwrap();
        let platter = Platter { current: durable.clone(), durable, pending: Vec::new() };
        let shared = Arc::new(Mutex::new(Shared { platter, hook: None }));
        let mountpoint = Mountpoint::new();
        let session = mount_fuse(Image { shared: Arc::clone(&shared) }, &mountpoint, &Config::default())?;
        Some(Disk { session: Some(session), mountpoint, shared })
    }

    /// Returns the path of the image, to be mounted.
    pub(crate) fn image(&self) -> PathBuf {
        self.mountpoint.path().join(IMAGE)
    }

    /// Returns the current content.
    pub(crate) fn platter(&self) -> Platter {
        self.shared.lock().unwrap().platter.clone()
    }

    /// Calls `hook` when the write after `blocks` more comes; nothing more is written until it returns.
    pub(crate) fn after_blocks(&self, blocks: usize, hook: impl FnOnce(&Platter) + Send + 'static) {
        self.shared.lock().unwrap().hook = Some((blocks, Box::new(hook)));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let is_unused = self.mountpoint.unmount();
        if let Some(session) = self.session.take().filter(|_| is_unused) {
            let _ = session.join();
        }
    }
}

/// A file system of one file. The kernel caches nothing of it, so that each write and each flush of the disk arrives
/// as it was made.
struct Image {
    shared: Arc<Mutex<Shared>>,
}

impl Image {
    fn attributes(&self, number: INodeNo) -> FileAttr {
        let is_root = number == INodeNo::ROOT;
        let size = if is_root { 0 } else { self.shared.lock().unwrap().platter.current.len() as u64 };
        FileAttr {
            ino: number,
            size,
            blocks: size / 512,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if is_root { FileType::Directory } else { FileType::RegularFile },
            perm: 0o700,
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Image {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == IMAGE {
            reply.entry(&REMEMBERED, &self.attributes(IMAGE_NUMBER), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&REMEMBERED, &self.attributes(number));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let platter = &self.shared.lock().unwrap().platter;
        let start = usize::try_from(offset).unwrap().min(platter.current.len());
        let end = (start + size as usize).min(platter.current.len());
        reply.data(&platter.current[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.shared.lock().unwrap().write(usize::try_from(offset).unwrap(), bytes);
        reply.written(u32::try_from(bytes.len()).unwrap());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // This flush is of a file that is closed, not of the disk.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.shared.lock().unwrap().platter.flush();
        reply.ok();
    }
}
