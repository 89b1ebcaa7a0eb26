//! Digests of contents: computed over bytes as they pass or over a whole file.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::fdatasync;
use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::FileError;
use super::root::Root;
use super::source::SourceFile;
use crate::protocol::digest::{Algorithm, Digest};

/// Bytes that are read at once for hashing: few system calls, and the buffer stays in the second-level cache.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// Some of the algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// [`Algorithm::Sha256`].
    pub sha256: bool,
    /// [`Algorithm::Crc32c`].
    pub crc32c: bool,
}

impl Algorithms {
    /// Those that are named.
    pub fn of(algorithms: &[Algorithm]) -> Algorithms {
        Algorithms {
            sha256: algorithms.contains(&Algorithm::Sha256),
            crc32c: algorithms.contains(&Algorithm::Crc32c),
        }
    }

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Algorithms) -> Algorithms {
        Algorithms { sha256: self.sha256 || other.sha256, crc32c: self.crc32c || other.crc32c }
    }

    /// Those that `other` lacks.
    #[must_use]
    pub fn without(self, other: Algorithms) -> Algorithms {
        Algorithms { sha256: self.sha256 && !other.sha256, crc32c: self.crc32c && !other.crc32c }
    }

    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self == Algorithms::default()
    }
}

/// Digests of one content, those that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// By [`Algorithm::Sha256`].
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[u8; 32]>,
    /// By [`Algorithm::Crc32c`], most significant byte first, as RFC 9530 has it.
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<[u8; 4]>,
}

impl Digests {
    /// Those that a digest field names; of two by one algorithm the last.
    pub fn from_fields(fields: &[Digest]) -> Digests {
        let mut digests = Digests::default();
        for field in fields {
            match field {
                Digest::Sha256(bytes) => digests.sha256 = Some(*bytes),
                Digest::Crc32c(bytes) => digests.crc32c = Some(*bytes),
            }
        }
        digests
    }

    /// What a digest field says of them.
    pub fn to_fields(&self) -> Vec<Digest> {
        let (sha256, crc32c) = (self.sha256.map(Digest::Sha256), self.crc32c.map(Digest::Crc32c));
        sha256.into_iter().chain(crc32c).collect()
    }

    /// Which are known.
    pub fn algorithms(&self) -> Algorithms {
        Algorithms { sha256: self.sha256.is_some(), crc32c: self.crc32c.is_some() }
    }

    /// The first algorithm by which `other` is another content's, or not known here.
    pub fn mismatch(&self, other: &Digests) -> Option<Algorithm> {
        if other.sha256.is_some() && other.sha256 != self.sha256 {
            return Some(Algorithm::Sha256);
        }
        (other.crc32c.is_some() && other.crc32c != self.crc32c).then_some(Algorithm::Crc32c)
    }

    /// Whether `digest` is known here to be another content's.
    pub fn contradict(&self, digest: &Digest) -> bool {
        match digest {
            Digest::Sha256(sent) => self.sha256.is_some_and(|computed| computed != *sent),
            Digest::Crc32c(sent) => self.crc32c.is_some_and(|computed| computed != *sent),
        }
    }

    /// These, and those of `other` where they are unknown here.
    #[must_use]
    pub fn or(&self, other: &Digests) -> Digests {
        Digests { sha256: self.sha256.or(other.sha256), crc32c: self.crc32c.or(other.crc32c) }
    }

    /// The entity tag of the content, with its quotes: 128 bits of its SHA-256.
    pub(super) fn etag(&self) -> Option<String> {
        let sha256 = self.sha256?;
        Some(format!("\"sha256-{}\"", hex::encode(&sha256[..16])))
    }
}

/// Digests of bytes that pass one after the other.
#[derive(Clone, Debug, Default)]
pub struct Hashers {
    sha256: Option<Sha256>,
    crc32c: Option<u32>,
}

impl Hashers {
    /// By `algorithms`, of nothing yet.
    pub fn new(algorithms: Algorithms) -> Hashers {
        Hashers { sha256: algorithms.sha256.then(Sha256::new), crc32c: algorithms.crc32c.then_some(0) }
    }

    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(crc32c) = &mut self.crc32c {
            *crc32c = crc32c::crc32c_append(*crc32c, bytes);
        }
    }

    /// The digests of all bytes so far.
    pub fn digests(&self) -> Digests {
        Digests {
            sha256: self.sha256.clone().map(|sha256| sha256.finalize().into()),
            crc32c: self.crc32c.map(u32::to_be_bytes),
        }
    }
}

/// The digests of the first `size` bytes of a file; None where it has fewer. Waits for the disk.
pub(super) fn of_file(
    file: BorrowedFd<'_>,
    size: u64,
    algorithms: Algorithms,
) -> Result<Option<Digests>, Errno> {
    of_file_paced(file, size, algorithms, |_, _| {})
}

/// The same; `pace` is told of each piece that was read, by its offset and length.
fn of_file_paced(
    file: BorrowedFd<'_>,
    size: u64,
    algorithms: Algorithms,
    mut pace: impl FnMut(u64, u64),
) -> Result<Option<Digests>, Errno> {
    let mut hashers = Hashers::new(algorithms);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        match pread(file, &mut buffer[..wanted], offset) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                hashers.update(&buffer[..count]);
                pace(offset, count as u64);
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Some(hashers.digests()))
}

/// Bytes of a step of a [`Computation`], and the time after which it ends in any case: others want the thread too.
const STEP_BYTES: u64 = 4 << 20;
const STEP_TIME_MAX: Duration = Duration::from_millis(25);

/// How far a [`Computation`] is.
pub enum Step {
    /// The digests; None where the file changed meanwhile.
    Whole(Option<Digests>),
    /// Part of the file has been read.
    Partly(Box<Computation>),
}

/// Digests of a file that are made in many short steps, and no more of them than somebody asks for.
pub struct Computation {
    root: Arc<Root>,
    file: SourceFile,
    known: Digests,
    hashers: Hashers,
    offset: u64,
    is_recorded: bool,
}

impl Computation {
    /// Begins with the digests of a file by `algorithms`. They are read where they aren't recorded, and recorded then
    /// if the file can be told from what it may become. Waits for the disk.
    pub fn begin(root: Arc<Root>, file: SourceFile, algorithms: Algorithms) -> Result<Step, FileError> {
        let known = root.recorded(&file).digests;
        let missing = algorithms.without(known.algorithms());
        if missing.is_empty() {
            return Ok(Step::Whole(Some(known)));
        }
        // Asked before the first byte is read: a write after that would be told by the change time.
        let is_recorded = file.is_settled(SystemTime::now());
        let hashers = Hashers::new(missing);
        Box::new(Computation { root, file, known, hashers, offset: 0, is_recorded }).go_on()
    }

    /// Reads a further part of the file. Waits for the disk.
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
        Ok(Step::Whole(recorded(
            &self.root,
            &self.file,
            &self.known.or(&self.hashers.digests()),
            self.is_recorded,
        )))
    }
}

/// The digests of a file as it was opened, recorded; None where it changed meanwhile.
fn recorded(root: &Root, file: &SourceFile, digests: &Digests, is_recorded: bool) -> Option<Digests> {
    if !file.is_as_opened() {
        return None;
    }
    if is_recorded {
        // Whoever wrote the file may not have waited for the disk.
        let is_durable = fdatasync(file).is_ok();
        root.record(file, digests, is_durable);
    }
    Some(*digests)
}

/// The digests of a file by `algorithms`, as a [`Computation`] makes them, in one step; `pace` is told of each piece
/// that was read, by its offset and length.
pub(super) fn compute_paced(
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
    // Asked before the first byte is read: a write after that would be told by the change time.
    let is_recorded = file.is_settled(SystemTime::now());
    let Some(computed) = of_file_paced(file.as_fd(), file.size(), missing, pace)? else { return Ok(None) };
    Ok(recorded(root, file, &known.or(&computed), is_recorded))
}

/// Bytes as lower-case hexadecimal digits, for people who read attributes.
mod hex {
    use std::fmt::Write;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if text.len() != 2 * N {
            return None;
        }
        let mut bytes = [0; N];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(bytes)
    }

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(text.as_bytes()).map(Some).ok_or_else(|| D::Error::custom("not so many hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests;
