//! Files that were asked for a moment ago: a further request for one needs no open, no fstat and, where it is short,
//! no read either.
//!
//! Entries live for a fixed time, however often they are used, so a file that is replaced or changed from outside is
//! seen when that time is over, and a file that was unlinked gives its blocks back. There is no order of use to keep.
//! What the daemon itself publishes or deletes raises a generation, and entries of an earlier one aren't believed:
//! whoever was told that an upload is published finds it on every worker. A file whose bytes aren't kept is asked at
//! each use whether it is still the same: its old length must not promise what its new bytes can't keep.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::SystemTime;

use super::description::{Description, tag_in};
use super::generation::Generation;
use super::source::SourceFile;
use crate::limits::{KNOWN_FILES_MAX, Tick};
use crate::protocol::conditional::Validators;
use crate::protocol::date::http_date;
use crate::protocol::http1::response::{FieldBlock, ResponseHead};
use crate::protocol::name::Name;

/// Largest file whose content is kept: up to here copying from memory costs less than sendfile.
pub const CONTENT_BYTES_MAX: u64 = 32 << 10;

/// Most bytes of contents that are kept: [`KNOWN_FILES_MAX`] files of the largest size.
const CONTENTS_BYTES_MAX: usize = 32 << 20;

/// An open file with everything that every answer about it says.
#[derive(Debug)]
pub struct KnownFile {
    /// The open file.
    pub file: SourceFile,
    /// Its entity tag and modification time.
    pub validators: Validators,
    /// Its modification time as HTTP spells it, where HTTP can.
    pub last_modified: Option<String>,
    /// What its share says of it.
    pub description: Description,
    /// The whole content, where it is short and was in memory, or has been read since.
    content: OnceCell<Box<[u8]>>,
    /// Whether the content was looked for in memory and isn't all there.
    is_cold: bool,
    /// Whether a cache keeps this file and counts its content.
    is_kept: Cell<bool>,
    /// The header fields of an answer with the whole content, as [`KnownFile::describe`] writes them.
    pub whole: FieldBlock,
}

impl KnownFile {
    fn new(
        description: Description,
        mut file: SourceFile,
        with_content: bool,
        date: SystemTime,
    ) -> KnownFile {
        // Reading comes first, since it may find that the file has changed since it was opened.
        let content = if with_content { file.read_hot(CONTENT_BYTES_MAX) } else { None };
        let validators = file.validators(date);
        let validators = Validators { etag: tag_in(&validators.etag, description.coding), ..validators };
        let last_modified = validators.modified.map(http_date);
        let whole = FieldBlock::of(|head| {
            let media_type = &description.media_type;
            describe(head, media_type, file.size(), &validators, last_modified.as_deref(), &description);
        });
        let is_cold = with_content && content.is_none();
        let content = content.map_or_else(OnceCell::new, OnceCell::from);
        let is_kept = Cell::new(false);
        KnownFile { last_modified, validators, description, content, is_kept, is_cold, file, whole }
    }

    /// Writes the header fields of an answer that carries `content_length` bytes of this file as `media_type`.
    pub fn describe(&self, head: &mut ResponseHead<'_>, media_type: &str, content_length: u64) {
        let KnownFile { validators, last_modified, description, .. } = self;
        describe(head, media_type, content_length, validators, last_modified.as_deref(), description);
    }

    /// Returns the whole content, where it is short and known.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.get().map(|content| &**content)
    }

    /// Whether the content is short and not in memory, so that a read by somebody who may wait for a disk is worth
    /// keeping. A file that isn't kept is read by whoever sends it, and a remote file's content belongs to its
    /// server.
    pub fn lacks_content(&self) -> bool {
        self.is_cold
            && self.content().is_none()
            && self.file.size() <= CONTENT_BYTES_MAX
            && !self.file.is_elsewhere()
    }

    fn content_bytes(&self) -> usize {
        self.content().map_or(0, <[u8]>::len)
    }
}

fn describe(
    head: &mut ResponseHead<'_>,
    media_type: &str,
    content_length: u64,
    validators: &Validators,
    last_modified: Option<&str>,
    description: &Description,
) {
    head.field("Content-Type", media_type).field_number("Content-Length", content_length);
    if let Some(coding) = description.coding {
        head.field("Content-Encoding", coding.token());
    }
    if let Some(last_modified) = last_modified {
        head.field("Last-Modified", last_modified);
    }
    head.field("ETag", &validators.etag).field("Accept-Ranges", "bytes");
    head.block(&description.fields);
}

/// The open files that one worker keeps.
#[derive(Debug)]
pub struct FileCache {
    /// The most files that are kept. Each holds a descriptor; a file beyond them is served without being kept.
    entries_max: usize,
    entries: RefCell<HashMap<Box<[u8]>, Kept>>,
    content_bytes: Cell<usize>,
    /// Files that a later opening replaced, waiting to be handed out and closed.
    former: RefCell<Vec<Rc<KnownFile>>>,
}

/// For how long a file is kept, and what is known at its opening.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// The current tick.
    pub now: Tick,
    /// The first tick at which the file is too old; may be `now`.
    pub end: Tick,
    /// The generation just before the opening: a later publication may have replaced the file that was opened.
    pub generation: Generation,
    /// The latest time that the `Date` of the next answer can have.
    pub date: SystemTime,
}

#[derive(Debug)]
struct Kept {
    file: Rc<KnownFile>,
    /// The first tick at which the file is too old.
    end: Tick,
    /// The generation just before the file was opened.
    generation: Generation,
}

impl Default for FileCache {
    fn default() -> Self {
        FileCache::of(KNOWN_FILES_MAX)
    }
}

impl FileCache {
    /// Creates a cache of at most `entries_max` files.
    pub fn of(entries_max: usize) -> FileCache {
        FileCache {
            entries_max,
            entries: RefCell::default(),
            content_bytes: Cell::default(),
            former: RefCell::default(),
        }
    }

    /// Returns the file that answers for `name`, unless it is too old at tick `now` or from another generation. For a
    /// directory, whose name ends in a slash, that is its index.
    pub fn get(&self, name: &Name, now: Tick, generation: Generation) -> Option<Rc<KnownFile>> {
        let entries = self.entries.borrow();
        let is_current = |kept: &&Kept| now < kept.end && generation == kept.generation;
        let known = &entries.get(name.as_bytes()).filter(is_current)?.file;
        (known.content().is_some() || known.file.is_unchanged()).then(|| Rc::clone(known))
    }

    /// Takes a file that was just opened and answers for `name`, and keeps it for `term` if there is room.
    pub fn add(&self, name: &Name, description: Description, file: SourceFile, term: &Term) -> Rc<KnownFile> {
        let Term { now, end, generation, date } = *term;
        let mut entries = self.entries.borrow_mut();
        let has_room = entries.len() < self.entries_max && self.content_bytes.get() < CONTENTS_BYTES_MAX;
        let is_kept = now < end && (has_room || entries.contains_key(name.as_bytes()));
        let known = Rc::new(KnownFile::new(description, file, is_kept, date));
        if is_kept {
            self.content_bytes.set(self.content_bytes.get() + known.content_bytes());
            known.is_kept.set(true);
            let kept = Kept { file: Rc::clone(&known), end, generation };
            if let Some(former) = entries.insert(name.as_bytes().into(), kept) {
                self.uncount(&former.file);
                self.former.borrow_mut().push(former.file);
            }
        }
        known
    }

    /// Keeps `content` for a file, which must have been read from it in its known state. Does nothing where there
    /// is no room for more contents.
    pub fn keep_content(&self, known: &KnownFile, content: Box<[u8]>) {
        if known.is_kept.get() && self.content_bytes.get() >= CONTENTS_BYTES_MAX {
            return;
        }
        let bytes = content.len();
        // Two requests may have read it at the same time.
        if known.content.set(content).is_ok() && known.is_kept.get() {
            self.content_bytes.set(self.content_bytes.get() + bytes);
        }
    }

    /// Stops counting the content of a file that isn't kept any more.
    fn uncount(&self, known: &KnownFile) {
        known.is_kept.set(false);
        self.content_bytes.set(self.content_bytes.get() - known.content_bytes());
    }

    /// Removes the files that are too old at tick `now` and returns them, since closing a file may wait for a
    /// disk.
    pub fn expire(&self, now: Tick) -> Vec<Rc<KnownFile>> {
        let mut expired = Vec::new();
        self.entries.borrow_mut().retain(|_, kept| {
            if kept.end <= now {
                expired.push(Rc::clone(&kept.file));
            }
            now < kept.end
        });
        expired.iter().for_each(|file| self.uncount(file));
        expired.append(&mut self.former.borrow_mut());
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::{Found, Root};
    use super::*;
    use crate::config::{Live, Settings};

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

    fn term(now: u64, end: u64, generation: u64) -> Term {
        let (now, end) = (Tick::number(now), Tick::number(end));
        Term { now, end, generation: Generation::of(0, generation), date: SystemTime::now() }
    }

    fn get(cache: &FileCache, name: &Name, now: u64, generation: u64) -> Option<Rc<KnownFile>> {
        cache.get(name, Tick::number(now), Generation::of(0, generation))
    }

    fn description(name: &Name) -> Description {
        let settings = Settings { root: Some("/srv".into()), ..Settings::default() };
        let shares = Live::new(settings).unwrap().shares;
        Description::of(shares.iter().next().unwrap(), name)
    }

    fn add(cache: &FileCache, name: &Name, file: SourceFile, term: &Term) -> Rc<KnownFile> {
        cache.add(name, description(name), file, term)
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
            let added = add(&cache, &name, open(&root, &name), &term(5, 8, 0));
            assert_eq!(added.content().map(<[u8]>::len), content_bytes);
            let known = get(&cache, &name, 7, 0).unwrap();
            assert!(Rc::ptr_eq(&known, &added));
            assert!(get(&cache, &name, 8, 0).is_none(), "{path} at its end");
        }
        assert!(get(&cache, &name("/small/"), 7, 0).is_none());
        assert!(cache.expire(Tick::number(7)).is_empty());
        assert_eq!(cache.expire(Tick::number(8)).len(), 2);
        assert_eq!(cache.content_bytes.get(), 0);
    }

    #[test]
    fn a_file_of_an_earlier_generation_is_not_known() {
        let (_keep, root) = fixture(&[("file", 10)]);
        let cache = FileCache::default();
        let file = name("/file");
        add(&cache, &file, open(&root, &file), &term(0, 2, 7));
        assert!(get(&cache, &file, 1, 7).is_some());
        assert!(get(&cache, &file, 1, 8).is_none());
        // This file was opened before the publication, and is added after it by another request's look.
        add(&cache, &file, open(&root, &file), &term(1, 2, 7));
        assert!(get(&cache, &file, 1, 8).is_none());
        add(&cache, &file, open(&root, &file), &term(1, 2, 8));
        assert!(get(&cache, &file, 1, 8).is_some());
    }

    #[test]
    fn what_finds_no_room_or_no_time_is_served_and_not_kept() {
        let (_keep, root) = fixture(&[("file", 10)]);
        let cache = FileCache::of(10);
        let file = name("/file");
        let known = add(&cache, &file, open(&root, &file), &term(5, 5, 0));
        assert!(get(&cache, &file, 5, 0).is_none());
        assert!(!known.lacks_content(), "it may well be in memory");
        for number in 0..20_u64 {
            add(&cache, &name(&format!("/{number}")), open(&root, &file), &term(0, 1, 0));
        }
        assert_eq!(cache.expire(Tick::number(1)).len(), 10);
    }

    #[test]
    fn a_content_that_is_read_later_is_kept_and_counted_once() {
        let (_keep, root) = fixture(&[("file", 10), ("long", 100_000)]);
        let cache = FileCache::default();
        // A file whose content wasn't in memory at its opening.
        let cold = |path: &Name| KnownFile {
            is_cold: true,
            ..KnownFile::new(description(path), open(&root, path), false, SystemTime::now())
        };
        for (is_kept, counted) in [(true, 10), (false, 0)] {
            let known = cold(&name("/file"));
            known.is_kept.set(is_kept);
            assert!(known.lacks_content());
            let content = known.file.read_cold(CONTENT_BYTES_MAX).unwrap().unwrap();
            cache.keep_content(&known, content.clone());
            cache.keep_content(&known, content);
            assert!(!known.lacks_content());
            assert_eq!((known.content(), cache.content_bytes.get()), (Some(&[7; 10][..]), counted));
            if is_kept {
                cache.uncount(&known);
            }
            assert_eq!(cache.content_bytes.get(), 0);
        }
        cache.content_bytes.set(CONTENTS_BYTES_MAX);
        let known = cold(&name("/file"));
        known.is_kept.set(true);
        cache.keep_content(&known, Box::new([7; 10]));
        assert!(known.lacks_content(), "there is no room for more");
        assert!(!cold(&name("/long")).lacks_content());
        let unread = KnownFile::new(
            description(&name("/file")),
            open(&root, &name("/file")),
            false,
            SystemTime::now(),
        );
        assert!(!unread.lacks_content(), "nobody has looked whether it is in memory");
    }

    #[test]
    fn a_long_file_that_changed_is_no_longer_known() {
        let (directory, root) = fixture(&[("written", 100_000), ("replaced", 100_000), ("removed", 100_000)]);
        let cache = FileCache::default();
        let paths = ["/written", "/replaced", "/removed"].map(name);
        for path in &paths {
            add(&cache, path, open(&root, path), &term(0, 1, 0));
            assert!(get(&cache, path, 0, 0).is_some());
        }
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("written"), [8; 1000]).unwrap();
        std::fs::write(at("new"), [8; 100_000]).unwrap();
        std::fs::rename(at("new"), at("replaced")).unwrap();
        std::fs::remove_file(at("removed")).unwrap();
        for path in &paths {
            assert!(get(&cache, path, 0, 0).is_none(), "{path:?}");
        }
    }

    #[test]
    fn a_second_opening_of_the_same_name_is_not_counted_twice() {
        let (_keep, root) = fixture(&[("file", 10)]);
        let cache = FileCache::default();
        let file = name("/file");
        // Two requests may find at the same time that the file isn't known.
        add(&cache, &file, open(&root, &file), &term(0, 1, 0));
        add(&cache, &file, open(&root, &file), &term(0, 1, 0));
        assert_eq!(cache.content_bytes.get(), 10);
        cache.expire(Tick::number(1));
        assert_eq!(cache.content_bytes.get(), 0);
    }
}
