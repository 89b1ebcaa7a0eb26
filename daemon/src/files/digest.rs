//! Digests of contents: computed over bytes as they pass or over a whole file, and kept with the file in an extended
//! attribute (xattr(7)), together with the size and the modification time that they belong to.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, fstat};
use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::FileError;
use super::source::SourceFile;
use super::stamp::Stamp;
use crate::protocol::digest::{Algorithm, Digest};

/// The attribute. Writing it changes a file's ctime, but neither its size nor its modification time.
const ATTRIBUTE: &str = "user.streamd.digest";

/// Most bytes of a record: twice what one with every digest takes.
const RECORD_BYTES_MAX: usize = 512;

/// Bytes that are read at once for hashing: few system calls, and the buffer stays in the second-level cache.
const BUFFER_BYTES: usize = 256 << 10;

/// A file written this recently isn't recorded: a further write within the tick of the file system's clock (4 ms on
/// most, 2 s on FAT) would leave its modification time as it is.
const RECORDED_AGE_MIN: Duration = Duration::from_secs(3);

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
    let mut hashers = Hashers::new(algorithms);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        match pread(file, &mut buffer[..wanted], offset) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                hashers.update(&buffer[..count]);
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Some(hashers.digests()))
}

/// The digests of a file by `algorithms`, read where they aren't recorded, and recorded then if the file can be
/// written by the daemon; None where the file changed meanwhile. Waits for the disk, as long as reading all of the
/// file takes.
pub fn compute(file: &SourceFile, algorithms: Algorithms) -> Result<Option<Digests>, FileError> {
    let stamp = file.stamp();
    let known = file.recorded().or(&recorded(file.as_fd(), stamp));
    let missing = algorithms.without(known.algorithms());
    if missing.is_empty() {
        return Ok(Some(known));
    }
    let age_at_start = SystemTime::now().duration_since(stamp.modified()).unwrap_or_default();
    let Some(computed) = of_file(file.as_fd(), stamp.size, missing)? else { return Ok(None) };
    if Stamp::of(&fstat(file.as_fd())?) != stamp {
        return Ok(None);
    }
    let digests = known.or(&computed);
    if age_at_start >= RECORDED_AGE_MIN {
        // Without a record the next one who asks waits as long again.
        let _ = record(file.as_fd(), stamp, &digests);
    }
    Ok(Some(digests))
}

/// What the attribute holds.
#[derive(Serialize, Deserialize)]
struct Record {
    size: u64,
    modified_s: u64,
    modified_ns: u32,
    #[serde(flatten)]
    digests: Digests,
}

/// Writes down that `digests` belong to the file as `stamp` has it.
pub(super) fn record(file: BorrowedFd<'_>, stamp: Stamp, digests: &Digests) -> Result<(), Errno> {
    let Stamp { size, modified_s, modified_ns } = stamp;
    let record = Record { size, modified_s, modified_ns, digests: *digests };
    let text = serde_json::to_vec(&record).map_err(|_| Errno::INVAL)?;
    fsetxattr(file, ATTRIBUTE, &text, XattrFlags::empty())
}

/// The recorded digests of a file that is as `stamp` has it; none where there is no record or it belongs to an
/// earlier content. Waits for the disk.
pub(super) fn recorded(file: BorrowedFd<'_>, stamp: Stamp) -> Digests {
    let mut buffer = [0_u8; RECORD_BYTES_MAX];
    let Ok(length) = fgetxattr(file, ATTRIBUTE, &mut buffer) else { return Digests::default() };
    match serde_json::from_slice::<Record>(buffer.get(..length).unwrap_or_default()) {
        Ok(Record { size, modified_s, modified_ns, digests })
            if (Stamp { size, modified_s, modified_ns }) == stamp =>
        {
            digests
        }
        _ => Digests::default(),
    }
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
