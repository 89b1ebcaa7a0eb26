//! The content of a file system in memory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use fuser::{Errno, FileAttr, FileType, INodeNo, RenameFlags};

type Directory = BTreeMap<OsString, INodeNo>;

/// Files and directories by their numbers.
pub(super) struct Nodes {
    nodes: HashMap<INodeNo, Node>,
    last: u64,
}

struct Node {
    content: Content,
    mode: u32,
    modified: SystemTime,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    names: u32,
    /// How often the kernel was told of the node and hasn't forgotten it since: a file goes with its last name and
    /// its last user.
    lookups: u64,
}

enum Content {
    File(Vec<u8>),
    Directory(Directory),
}

impl Node {
    fn new(content: Content, mode: u32) -> Node {
        let modified = SystemTime::now();
        Node { content, mode, modified, xattrs: BTreeMap::new(), names: 1, lookups: 0 }
    }

    fn kind(&self) -> FileType {
        match self.content {
            Content::File(_) => FileType::RegularFile,
            Content::Directory(_) => FileType::Directory,
        }
    }

    fn size(&self) -> u64 {
        match &self.content {
            Content::File(bytes) => bytes.len() as u64,
            Content::Directory(_) => 0,
        }
    }

    fn attributes(&self, number: INodeNo) -> FileAttr {
        FileAttr {
            ino: number,
            size: self.size(),
            blocks: self.size().div_ceil(512),
            atime: self.modified,
            mtime: self.modified,
            ctime: self.modified,
            crtime: self.modified,
            kind: self.kind(),
            perm: u16::try_from(self.mode & 0o7777).unwrap(),
            nlink: self.names,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn file(&mut self) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.content {
            Content::File(bytes) => Ok(bytes),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn directory(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.content {
            Content::File(_) => Err(Errno::ENOTDIR),
            Content::Directory(entries) => Ok(entries),
        }
    }
}

impl Default for Nodes {
    fn default() -> Nodes {
        let root = Node::new(Content::Directory(Directory::new()), 0o755);
        Nodes { nodes: HashMap::from([(INodeNo::ROOT, root)]), last: INodeNo::ROOT.0 }
    }
}

impl Nodes {
    fn node(&mut self, number: INodeNo) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ESTALE)
    }

    fn find(&mut self, parent: INodeNo, name: &OsStr) -> Result<INodeNo, Errno> {
        self.node(parent)?.directory()?.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.nodes.values().map(Node::size).sum()
    }

    pub(super) fn look_up(&mut self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let number = self.find(parent, name)?;
        let node = self.node(number)?;
        node.lookups += 1;
        Ok(node.attributes(number))
    }

    pub(super) fn forget(&mut self, number: INodeNo, count: u64) {
        if let Ok(node) = self.node(number) {
            node.lookups -= count;
            self.drop_unused(number);
        }
    }

    fn drop_unused(&mut self, number: INodeNo) {
        if self.nodes.get(&number).is_some_and(|node| node.names == 0 && node.lookups == 0) {
            self.nodes.remove(&number);
        }
    }

    pub(super) fn attributes(&mut self, number: INodeNo) -> Result<FileAttr, Errno> {
        Ok(self.node(number)?.attributes(number))
    }

    pub(super) fn set_attributes(
        &mut self,
        number: INodeNo,
        mode: Option<u32>,
        size: Option<u64>,
        modified: Option<SystemTime>,
    ) -> Result<FileAttr, Errno> {
        let node = self.node(number)?;
        if let Some(size) = size {
            node.file()?.resize(usize::try_from(size).unwrap(), 0);
        }
        node.mode = mode.unwrap_or(node.mode);
        node.modified = modified.unwrap_or(node.modified);
        Ok(node.attributes(number))
    }

    /// Makes a file or a directory, of which the kernel is told.
    pub(super) fn create(
        &mut self,
        parent: INodeNo,
        name: &OsStr,
        kind: FileType,
        mode: u32,
    ) -> Result<FileAttr, Errno> {
        let number = INodeNo(self.last + 1);
        let entries = self.node(parent)?.directory()?;
        if entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        entries.insert(name.to_owned(), number);
        self.last = number.0;
        let content = match kind {
            FileType::Directory => Content::Directory(Directory::new()),
            _ => Content::File(Vec::new()),
        };
        let mut node = Node::new(content, mode);
        node.lookups = 1;
        let attributes = node.attributes(number);
        self.nodes.insert(number, node);
        Ok(attributes)
    }

    pub(super) fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(parent, name)?;
        let node = self.node(number)?;
        if node.directory().is_ok_and(|entries| !entries.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        node.names -= 1;
        self.node(parent)?.directory()?.remove(name);
        self.drop_unused(number);
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let number = self.find(from.0, from.1)?;
        if !RenameFlags::RENAME_NOREPLACE.contains(flags) {
            return Err(Errno::EINVAL);
        }
        match self.find(to.0, to.1) {
            Ok(_) if !flags.is_empty() => return Err(Errno::EEXIST),
            Ok(_) => self.remove(to.0, to.1)?,
            Err(_) => {}
        }
        self.node(from.0)?.directory()?.remove(from.1);
        self.node(to.0)?.directory()?.insert(to.1.to_owned(), number);
        Ok(())
    }

    pub(super) fn read(&mut self, number: INodeNo, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let bytes = self.node(number)?.file()?;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + size as usize).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    pub(super) fn write(&mut self, number: INodeNo, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let node = self.node(number)?;
        node.modified = SystemTime::now();
        let (file, start) = (node.file()?, usize::try_from(offset).unwrap());
        let end = start + bytes.len();
        file.resize(file.len().max(end), 0);
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Returns the entries of a directory.
    pub(super) fn entries(&mut self, number: INodeNo) -> Vec<(OsString, INodeNo, FileType)> {
        let Ok(entries) = self.node(number).and_then(Node::directory) else { return Vec::new() };
        let entries = entries.clone();
        entries.into_iter().map(|(name, number)| (name, number, self.nodes[&number].kind())).collect()
    }

    pub(super) fn xattr(&mut self, number: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        self.node(number)?.xattrs.get(name).cloned().ok_or(Errno::NO_XATTR)
    }

    pub(super) fn set_xattr(&mut self, number: INodeNo, name: &OsStr, value: &[u8]) -> Result<(), Errno> {
        self.node(number)?.xattrs.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, number: INodeNo, name: &OsStr) -> Result<(), Errno> {
        self.node(number)?.xattrs.remove(name).map(drop).ok_or(Errno::NO_XATTR)
    }
}
