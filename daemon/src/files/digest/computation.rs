//! Digests of whole files below the root, recorded where they can be.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::fdatasync;
use rustix::io::{Errno, pread};

use super::super::digests::{Algorithms, Digests};
use super::super::error::FileError;
use super::super::root::Root;
use super::super::source::SourceFile;
use super::hashing::{BUFFER_BYTES, Hashers, of_file_paced};

/// The bytes of one step of a [`Computation`], and the time after which a step ends in any case, since others want
/// the thread too.
pub(super) const STEP_BYTES: u64 = 4 << 20;
const STEP_TIME_MAX: Duration = Duration::from_millis(25);

/// The state of a [`Computation`] after a step.
pub enum Step {
    /// The digests and the record to be written of them; None where the file changed meanwhile.
    Whole(Option<(Digests, Option<Box<Record>>)>),
    /// Part of the file has been read, and the computation can go on.
    Partly(Box<Computation>),
}

/// Digests that aren't recorded yet: whoever wants them needn't wait until they are written down.
pub struct Record {
    root: Arc<Root>,
    file: SourceFile,
    digests: Digests,
}

impl Record {
    /// Writes the digests down. Waits for the disk, as whatever writes does.
    pub fn write(self) {
        record(&self.root, &self.file, &self.digests);
    }
}

/// Digests of a file, computed in short steps and by no more algorithms than were asked for.
pub struct Computation {
    root: Arc<Root>,
    file: SourceFile,
    known: Digests,
    hashers: Hashers,
    offset: u64,
    is_recorded: bool,
}

impl Computation {
    /// Begins to compute the digests of a file by `algorithms`. Recorded ones are read; others are recorded later
    /// if the file's state can be told from later ones. Waits for the disk to read.
    pub fn begin(root: Arc<Root>, file: SourceFile, algorithms: Algorithms) -> Result<Step, FileError> {
        let known = root.recorded(&file).digests;
        let missing = algorithms.without(known.algorithms());
        if missing.is_empty() {
            return Ok(Step::Whole(Some((known, None))));
        }
        // This is asked before the first byte is read: a write after that would show in the change time.
        let is_recorded = file.is_settled(SystemTime::now());
        let hashers = Hashers::new(missing);
        Box::new(Computation { root, file, known, hashers, offset: 0, is_recorded }).go_on()
    }

    /// Reads a further part of the file. Waits for the disk to read.
    pub fn go_on(mut self: Box<Self>) -> Result<Step, FileError> {
        let (began, end) = (Instant::now(), self.file.size().min(self.offset + STEP_BYTES));
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.offset < end && began.elapsed() < STEP_TIME_MAX {
            let wanted = usize::try_from(end - self.offset).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            match pread(&self.file, &mut buffer[..wanted], self.offset) {
                Ok(0) => return Ok(Step::Whole(None)),
                Ok(count) => {
                    self.hashers.update(&buffer[..count]);
                    self.offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.offset < self.file.size() {
            return Ok(Step::Partly(self));
        }
        if !self.file.is_as_opened() {
            return Ok(Step::Whole(None));
        }
        let Computation { root, file, known, hashers, is_recorded, .. } = *self;
        let digests = known.or(&hashers.digests());
        let record = is_recorded.then(|| Box::new(Record { root, file, digests }));
        Ok(Step::Whole(Some((digests, record))))
    }
}

/// Records the digests of a file in the state in which it was opened.
fn record(root: &Root, file: &SourceFile, digests: &Digests) {
    // The content is synced here, since whoever wrote the file may not have waited for the disk.
    let is_durable = fdatasync(file).is_ok();
    root.record(file, digests, is_durable);
}

/// Computes the digests of a file by `algorithms` as a [`Computation`] does, but in one step, and records them.
/// `pace` is told the offset and length of each piece that was read.
pub(in crate::files) fn compute_paced(
    root: &Root,
    file: &SourceFile,
    algorithms: Algorithms,
    pace: impl FnMut(u64, u64),
) -> Result<Option<Digests>, FileError> {
    let known = root.recorded(file).digests;
    let missing = algorithms.without(known.algorithms());
    if missing.is_empty() {
        return Ok(Some(known));
    }
    // This is asked before the first byte is read: a write after that would show in the change time.
    let is_recorded = file.is_settled(SystemTime::now());
    let Some(computed) = of_file_paced(file.as_fd(), file.size(), missing, pace)? else { return Ok(None) };
    let digests = known.or(&computed);
    if !file.is_as_opened() {
        return Ok(None);
    }
    if is_recorded {
        record(root, file, &digests);
    }
    Ok(Some(digests))
}
