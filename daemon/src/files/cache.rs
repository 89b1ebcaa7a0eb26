//! Files that were asked for a moment ago: a further request for one needs no open, no fstat and, where it is short,
//! no read either.
//!
//! Entries live for a fixed time, however often they are used, so a file that is replaced or changed from outside is
//! seen when that time is over, and a file that was unlinked gives its blocks back. There is no order of use to keep.
//! What the daemon itself publishes or deletes raises a generation, and entries of an earlier one aren't believed:
//! whoever was told that an upload is published finds it on every worker. A file whose bytes aren't kept is asked at
//! each use whether it is still the same: its old length must not promise what its new bytes can't keep.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::source::SourceFile;
use crate::protocol::conditional::Validators;
use crate::protocol::date::http_date;
use crate::protocol::media_type::content_type;
use crate::protocol::name::Name;

/// Most files that are kept. Each holds a descriptor; what is asked for beyond is served without being kept.
const ENTRIES_MAX: usize = 1024;

/// Largest file whose content is kept: up to here copying from memory costs less than sendfile.
pub const CONTENT_BYTES_MAX: u64 = 32 << 10;

/// Most bytes of contents that are kept: [`ENTRIES_MAX`] files of the largest size.
const CONTENTS_BYTES_MAX: usize = 32 << 20;

/// A file, and what every answer about it says.
#[derive(Debug)]
pub struct KnownFile {
    /// The open file.
    pub file: SourceFile,
    /// Its entity tag and modification time.
    pub validators: Validators,
    /// Its modification time as HTTP spells it.
    pub last_modified: String,
    /// Its media type.
    pub media_type: Cow<'static, str>,
    /// All its bytes, where they are few and were in memory.
    pub content: Option<Box<[u8]>>,
}

impl KnownFile {
    fn new(name: &Name, file: SourceFile, with_content: bool) -> KnownFile {
        let modified = file.modified();
        KnownFile {
            validators: Validators { etag: file.etag(), modified },
            last_modified: http_date(modified),
            media_type: content_type(name.as_str()),
            content: if with_content { file.read_hot(CONTENT_BYTES_MAX) } else { None },
            file,
        }
    }

    fn content_bytes(&self) -> usize {
        self.content.as_ref().map_or(0, |content| content.len())
    }
}

/// The files of one worker.
#[derive(Debug, Default)]
pub struct FileCache {
    entries: RefCell<HashMap<Box<str>, Kept>>,
    content_bytes: Cell<usize>,
    /// Replaced by a later opening, and not yet handed out to be closed.
    former: RefCell<Vec<Rc<KnownFile>>>,
}

#[derive(Debug)]
struct Kept {
    file: Rc<KnownFile>,
    /// The first tick at which it is too old.
    end: u64,
    /// What had been published before it was opened.
    generation: u64,
}

impl FileCache {
    /// What is known of `name` and not too old, at tick `now` and in this generation.
    pub fn get(&self, name: &Name, now: u64, generation: u64) -> Option<Rc<KnownFile>> {
        // `file/` names no file, and `file` is what is known.
        if name.is_directory() {
            return None;
        }
        let entries = self.entries.borrow();
        let is_current = |kept: &&Kept| now < kept.end && generation == kept.generation;
        let known = &entries.get(name.as_str()).filter(is_current)?.file;
        (known.content.is_some() || known.file.is_unchanged()).then(|| Rc::clone(known))
    }

    /// Takes a file that was just opened, and keeps it until tick `end` if there is room; `end` may be `now`.
    /// `generation` is the one of a moment before the opening: what was published since then may not be what was
    /// opened.
    pub fn add(&self, name: &Name, file: SourceFile, now: u64, end: u64, generation: u64) -> Rc<KnownFile> {
        let mut entries = self.entries.borrow_mut();
        let has_room = entries.len() < ENTRIES_MAX && self.content_bytes.get() < CONTENTS_BYTES_MAX;
        let is_kept = now < end && (has_room || entries.contains_key(name.as_str()));
        let known = Rc::new(KnownFile::new(name, file, is_kept));
        if is_kept {
            self.content_bytes.set(self.content_bytes.get() + known.content_bytes());
            let kept = Kept { file: Rc::clone(&known), end, generation };
            if let Some(former) = entries.insert(name.as_str().into(), kept) {
                self.content_bytes.set(self.content_bytes.get() - former.file.content_bytes());
                self.former.borrow_mut().push(former.file);
            }
        }
        known
    }

    /// Forgets what is too old at tick `now`, and returns it: closing a file may wait for a disk.
    pub fn expire(&self, now: u64) -> Vec<Rc<KnownFile>> {
        let mut expired = Vec::new();
        self.entries.borrow_mut().retain(|_, kept| {
            if kept.end <= now {
                expired.push(Rc::clone(&kept.file));
            }
            now < kept.end
        });
        let freed: usize = expired.iter().map(|file| file.content_bytes()).sum();
        self.content_bytes.set(self.content_bytes.get() - freed);
        expired.append(&mut self.former.borrow_mut());
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::{Found, Root};
    use super::*;

    fn open(root: &Root, name: &Name) -> SourceFile {
        match root.find(name).unwrap() {
            Found::File(file) => file,
            Found::Directory(_) => panic!("{name:?} is a directory"),
        }
    }

    fn fixture(files: &[(&str, usize)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), vec![7; *bytes]).unwrap();
        }
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_is_known_for_its_time_and_no_longer() {
        let (_keep, root) = fixture(&[("small", 100), ("large", 100_000)]);
        let cache = FileCache::default();
        for (path, content_bytes) in [("/small", Some(100)), ("/large", None)] {
            let name = name(path);
            let added = cache.add(&name, open(&root, &name), 5, 8, 0);
            assert_eq!(added.content.as_ref().map(|content| content.len()), content_bytes);
            let known = cache.get(&name, 7, 0).unwrap();
            assert!(Rc::ptr_eq(&known, &added));
            assert!(cache.get(&name, 8, 0).is_none(), "{path} at its end");
        }
        assert!(cache.get(&name("/small/"), 7, 0).is_none());
        assert!(cache.expire(7).is_empty());
        assert_eq!(cache.expire(8).len(), 2);
        assert_eq!(cache.content_bytes.get(), 0);
    }

    #[test]
    fn a_file_of_an_earlier_generation_is_not_known() {
        let (_keep, root) = fixture(&[("file", 10)]);
        let cache = FileCache::default();
        let file = name("/file");
        cache.add(&file, open(&root, &file), 0, 2, 7);
        assert!(cache.get(&file, 1, 7).is_some());
        assert!(cache.get(&file, 1, 8).is_none());
        // Opened before the publication, and added after it by another request's look.
        cache.add(&file, open(&root, &file), 1, 2, 7);
        assert!(cache.get(&file, 1, 8).is_none());
        cache.add(&file, open(&root, &file), 1, 2, 8);
        assert!(cache.get(&file, 1, 8).is_some());
    }

    #[test]
    fn what_finds_no_room_or_no_time_is_served_and_not_kept() {
        let (_keep, root) = fixture(&[("file", 10)]);
        let cache = FileCache::default();
        let file = name("/file");
        cache.add(&file, open(&root, &file), 5, 5, 0);
        assert!(cache.get(&file, 5, 0).is_none());
        for number in 0..ENTRIES_MAX + 10 {
            cache.add(&name(&format!("/{number}")), open(&root, &file), 0, 1, 0);
        }
        assert_eq!(cache.expire(1).len(), ENTRIES_MAX);
    }

    #[test]
    fn a_long_file_that_changed_is_no_longer_known() {
        let (directory, root) = fixture(&[("written", 100_000), ("replaced", 100_000), ("removed", 100_000)]);
        let cache = FileCache::default();
        let paths = ["/written", "/replaced", "/removed"].map(name);
        for path in &paths {
            cache.add(path, open(&root, path), 0, 1, 0);
            assert!(cache.get(path, 0, 0).is_some());
        }
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("written"), [8; 1000]).unwrap();
        std::fs::write(at("new"), [8; 100_000]).unwrap();
        std::fs::rename(at("new"), at("replaced")).unwrap();
        std::fs::remove_file(at("removed")).unwrap();
        for path in &paths {
            assert!(cache.get(path, 0, 0).is_none(), "{path:?}");
        }
    }

    #[test]
    fn a_second_opening_of_the_same_name_is_not_counted_twice() {
        let (_keep, root) = fixture(&[("file", 10)]);
        let cache = FileCache::default();
        let file = name("/file");
        // Two requests may find at the same time that the file isn't known.
        cache.add(&file, open(&root, &file), 0, 1, 0);
        cache.add(&file, open(&root, &file), 0, 1, 0);
        assert_eq!(cache.content_bytes.get(), 10);
        cache.expire(1);
        assert_eq!(cache.content_bytes.get(), 0);
    }
}
