//! Tests of uploads in which each fault is really made: files changed from outside, processes that end, full and
//! read-only file systems.

mod faults;
mod mounts;
mod parts;
mod publishing;
mod races;
mod restart;
mod resuming;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::digest::{Algorithms, Digests, Hashers};
use super::super::mounts::MountId;
use super::super::root::{Found, Root};
use super::storage::Storage;
use super::*;
use crate::config::EtagChoice;
use crate::protocol::digest::Algorithm;
use crate::protocol::name::{Name, UploadId, UploadResource};

const ALL: Algorithms = Algorithms { sha256: true, crc32c: true };

/// Bytes of a plain PUT that is long enough to be kept when it is cut short.
const LONG: usize = 3 << 20;

fn limits() -> UploadLimits {
    UploadLimits {
        upload_bytes_max: 1 << 30,
        uploads_max: 100,
        uploads_per_destination_max: 100,
        direct_bytes_min: 0,
        min_free_bytes: 0,
        min_free_inodes: 0,
        is_durable: false,
        create_dirs: false,
        stall: Duration::from_secs(3600),
    }
}

/// Returns limits under which a writer is stalled at once.
fn impatient() -> UploadLimits {
    UploadLimits { stall: Duration::ZERO, ..limits() }
}

fn name(path: &str) -> Name {
    Name::parse(path.as_bytes()).unwrap()
}

fn plan(path: &str, length: Option<u64>) -> Plan {
    let (digests, note) = (Digests::default(), String::new());
    Plan { destination: name(path), mount: MountId::default(), length, digests, note }
}

fn digests_of(bytes: &[u8]) -> Digests {
    let mut hashers = Hashers::new(ALL);
    hashers.update(bytes);
    hashers.digests()
}

/// Makes bytes that tell where they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((index * 31 + index / 251) % 251).unwrap()).collect()
}

struct Fixture {
    /// The root. The directory above it lies outside the root.
    path: PathBuf,
    root: Arc<Root>,
    uploads: Arc<Uploads>,
    _outer: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("root");
        std::fs::create_dir(&path).unwrap();
        Fixture::at(path, outer)
    }

    fn at(path: PathBuf, outer: tempfile::TempDir) -> Fixture {
        Fixture::tagging(EtagChoice::Node, path, outer)
    }

    fn tagging(etag: EtagChoice, path: PathBuf, outer: tempfile::TempDir) -> Fixture {
        let root = Arc::new(Root::open(&path).unwrap().tagging(etag));
        let uploads = Uploads::open(Arc::clone(&root)).unwrap();
        Fixture { path, root, uploads, _outer: outer }
    }

    /// Opens the uploads anew, as a restart of the daemon does.
    fn restart(&mut self) {
        self.uploads = Uploads::open(Arc::clone(&self.root)).unwrap();
    }

    /// Opens the uploads with a changed layout of directories and mounts.
    fn rearrange(&mut self, change: impl FnOnce(&mut Storage)) {
        let mut storage = Storage::open(Arc::clone(&self.root)).unwrap();
        change(&mut storage);
        self.uploads = Arc::new(Uploads::over(storage).unwrap());
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<Published, UploadError> {
        self.put_if(path, bytes, &Publication::default())
    }

    fn put_if(
        &self,
        path: &str,
        bytes: &[u8],
        publication: &Publication<'_>,
    ) -> Result<Published, UploadError> {
        let mut writer = self.uploads.begin(&plan(path, Some(bytes.len() as u64)), &limits())?;
        writer.write(bytes)?;
        writer.publish(publication)
    }

    /// Begins an upload of `total` bytes by its destination, and cuts it short after `bytes`.
    fn cut_short(&self, path: &str, bytes: &[u8], total: usize) -> Kept {
        let plan = plan(path, Some(total as u64));
        let mut writer = self.uploads.resume_destination(&plan, 0, &limits()).unwrap();
        writer.write(bytes).unwrap();
        writer.keep().unwrap()
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path.join(path)).ok()
    }

    fn staging(&self) -> PathBuf {
        self.path.join(".streamd-uploads")
    }

    /// Returns the names in the root's staging directory, except those of the lock and the table of records.
    fn partials(&self) -> Vec<String> {
        let mut names = names(&self.staging());
        names.retain(|name| name != "locks" && name != "records");
        names
    }

    /// Returns the entity tag that a GET shows.
    fn etag(&self, path: &str) -> Option<String> {
        match self.root.find(&name(path)) {
            Ok(Found::File(file)) => Some(file.validators(SystemTime::now()).etag),
            _ => None,
        }
    }

    /// Returns the number of uploads with a writer, and of all.
    fn counts(&self) -> (usize, usize) {
        let usage = self.uploads.usage();
        (usage.writers, usage.partials)
    }

    /// Asserts that nothing is left of any upload.
    fn assert_clean(&self) {
        assert_eq!(self.partials(), Vec::<String>::new());
        assert_eq!(self.uploads.usage(), UploadUsage::default());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether partials are described on the file system of a fixture.
fn has_attributes(fixture: &Fixture) -> bool {
    let path = fixture.path.join("probe");
    std::fs::write(&path, "").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let is_supported = rustix::fs::fsetxattr(&file, "user.streamd.test", b"1", flags).is_ok();
    std::fs::remove_file(&path).unwrap();
    if !is_supported {
        println!("skipped: no extended attributes on this file system");
    }
    is_supported
}

impl Uploads {
    /// Sends a part with the id of its upload, up to wherever its sender gets.
    fn resume_named(
        self: &Arc<Self>,
        plan: &Plan,
        first: u64,
        upload: UploadId,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let end = plan.length.unwrap_or(u64::MAX);
        self.take_part(plan, &Part { first, end, upload: Some(upload) }, limits)
    }

    /// Sends a part without proof, up to wherever its sender gets.
    fn resume_destination(
        self: &Arc<Self>,
        plan: &Plan,
        first: u64,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let end = plan.length.unwrap_or(u64::MAX);
        self.take_part(plan, &Part { first, end, upload: None }, limits)
    }
}

impl Writer {
    /// Ends the writer as the kill of the process does: the file is closed and nothing else done.
    fn crash(mut self) {
        self.is_over = true;
        self.partial.lock().active = None;
    }
}
