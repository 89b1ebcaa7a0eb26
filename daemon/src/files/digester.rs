//! Digests of files whose entity tags follow from their content. A thread of the lowest priority makes them in the
//! background, once for each content.

use std::collections::HashSet;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::nice;

use super::digest::{BUFFER_BYTES, compute_paced};
use super::random::Random;
use super::residency::{Residency, probe};
use super::root::{Found, Root};
use super::source::SourceFile;
use crate::protocol::name::Name;
use crate::sys;

/// The most names that wait for their turn. A name beyond them is asked for again by its next request.
const NAMES_WAITING_MAX: usize = 4096;

/// Bytes that are read in a second: a part of any disk's rate, and 5 TB a day.
const BYTES_PER_SECOND_MAX: u64 = 64 << 20;

/// The niceness of the thread, the highest there is (nice(2)).
const NICENESS: i32 = 19;

/// The handle by which names reach the thread. The thread ends when every clone of it is gone.
#[derive(Clone, Debug)]
pub struct Digester {
    queue: SyncSender<Name>,
    waiting: Arc<Mutex<HashSet<Name>>>,
}

impl Digester {
    /// Starts the thread for the files below `root`. Nobody waits for its end: digests that it doesn't come to are
    /// made by the next run.
    pub fn start(root: Arc<Root>) -> io::Result<Digester> {
        let (queue, names) = sync_channel(NAMES_WAITING_MAX);
        let digester = Digester { queue, waiting: Arc::default() };
        let waiting = Arc::clone(&digester.waiting);
        let thread = std::thread::Builder::new().name("streamd-digest".to_owned());
        thread.spawn(move || run(&root, &names, &waiting))?;
        Ok(digester)
    }

    /// Asks for a digest of the file of this name, unless too many names wait. Doesn't wait itself.
    pub fn want(&self, name: &Name) {
        let mut waiting = lock(&self.waiting);
        if !waiting.contains(name) && self.queue.try_send(name.clone()).is_ok() {
            waiting.insert(name.clone());
        }
    }
}

fn lock(waiting: &Mutex<HashSet<Name>>) -> MutexGuard<'_, HashSet<Name>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(root: &Root, names: &Receiver<Name>, waiting: &Mutex<HashSet<Name>>) {
    // Both are best effort: on a host that refuses them the thread still pauses between its reads.
    let _ = nice(NICENESS);
    let _ = sys::read_when_idle();
    for name in names {
        if let Ok(Found::File(file)) = root.find(&name) {
            digest(root, &file);
        }
        lock(waiting).remove(&name);
    }
}

fn digest(root: &Root, file: &SourceFile) {
    let algorithms = root.algorithms();
    let mut pace = Pace::new(file);
    match compute_paced(root, file, algorithms, |offset, length| pace.after(offset, length)) {
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "a file could not be read for its digest"),
    }
}

/// The pace of one file's reading, which keeps it from taking the disk or the memory from others.
struct Pace<'a> {
    file: BorrowedFd<'a>,
    began: Instant,
    bytes: u64,
    /// Whether the next piece was in memory before it was read.
    is_hot: bool,
    random: Random,
}

impl<'a> Pace<'a> {
    fn new(file: &'a SourceFile) -> Pace<'a> {
        // Readahead is switched off: it would bring in the next pages, which nobody could tell from those that
        // others use.
        let _ = fadvise(file, 0, None, Advice::Random);
        let mut random = Random::default();
        let is_hot = probe(file, 0, BUFFER_BYTES as u64, &mut random) == Residency::Hot;
        Pace { file: file.as_fd(), began: Instant::now(), bytes: 0, is_hot, random }
    }

    /// Accounts for a piece that was read: pages that nobody else had in memory are dropped, and the next piece
    /// waits for its time.
    fn after(&mut self, offset: u64, length: u64) {
        if let Some(count) = NonZero::new(length).filter(|_| !self.is_hot) {
            // This is advice: where it isn't taken the kernel drops the oldest pages.
            let _ = fadvise(self.file, offset, Some(count), Advice::DontNeed);
        }
        self.is_hot = probe(self.file, offset + length, length, &mut self.random) == Residency::Hot;
        self.bytes += length;
        let due = Duration::from_micros(self.bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND_MAX);
        // Waking early does no harm: the next piece waits for its own time.
        std::thread::park_timeout(due.saturating_sub(self.began.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::EtagChoice;

    #[test]
    fn a_digest_is_made_once_and_then_is_the_tag() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), b"content").unwrap();
        let root = Arc::new(Root::open(directory.path()).unwrap().tagging(EtagChoice::Digest));
        let digester = Digester::start(Arc::clone(&root)).unwrap();
        let name = Name::parse(b"/file").unwrap();
        let tag = || match root.find(&name).unwrap() {
            Found::File(file) => {
                (file.validators(SystemTime::now()).etag, file.lacks_digest(SystemTime::now()))
            }
            Found::Directory(_) => panic!("a directory"),
        };
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let (tag, is_lacking) = tag();
            // The tag is that of `printf content | sha256sum`.
            if tag == "\"sha256-ed7002b439e9ac845f22357d822bac14\"" {
                assert!(!is_lacking);
                break;
            }
            assert!(tag.starts_with("W/\""), "{tag}");
            assert!(Instant::now() < end, "no digest within 30 s");
            if is_lacking {
                digester.want(&name);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let end = Instant::now() + Duration::from_secs(30);
        while !lock(&digester.waiting).is_empty() {
            assert!(Instant::now() < end, "a name waits for ever");
            std::thread::yield_now();
        }
    }
}
