//! Bytes of a file that were seen while it was sent. Length and times don't tell a file that was appended to, as
//! logs are, from one that was cut off and written anew until it was longer; the bytes that went out before do.

use std::io::IoSliceMut;

use rustix::io::{ReadWriteFlags, preadv2};

use super::random::Random;
use super::source::SourceFile;

/// Bytes of one witness: enough that two versions hardly share them at a place that nobody chose.
const WITNESS_BYTES: usize = 16;

/// The most witnesses that are kept of one transfer, from all of its length: 768 bytes of memory.
const WITNESSES_MAX: usize = 32;

/// The witnesses of one file in one transfer. They take memory from the first look on: most transfers need none.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(Option<Box<Reservoir>>);

#[derive(Clone, Debug, Default)]
struct Reservoir {
    seen: Vec<Witness>,
    /// The number of looks, including those whose witnesses were replaced.
    count: u64,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Witness {
    offset: u64,
    bytes: [u8; WITNESS_BYTES],
}

impl Witnesses {
    /// Whether nothing was seen so far.
    pub fn are_none(&self) -> bool {
        self.0.is_none()
    }

    /// Looks at a place between `start` and `end`, which are being sent and so are in memory. A place that isn't
    /// any more is left out, and so is a file that had changed before the first look. Never waits.
    pub fn look(&mut self, file: &SourceFile, start: u64, end: u64) {
        let Some(places) = (end - start).checked_sub(WITNESS_BYTES as u64 - 1).filter(|places| *places > 0)
        else {
            return;
        };
        if file.is_elsewhere() || self.0.is_none() && !file.is_as_opened() {
            return;
        }
        let reservoir = self.0.get_or_insert_default();
        let offset = start + reservoir.random.below(places);
        let mut witness = Witness { offset, bytes: [0; WITNESS_BYTES] };
        let flags = if file.lives_in_memory() { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        let read = preadv2(file, &mut [IoSliceMut::new(&mut witness.bytes)], witness.offset, flags);
        if read == Ok(WITNESS_BYTES) {
            reservoir.keep(witness);
        }
    }

    /// Whether the file still has every byte that was seen; false where none was. Waits for the disk.
    pub fn agree(&self, file: &SourceFile) -> bool {
        let is_there = |witness: &Witness| {
            let mut bytes = [0; WITNESS_BYTES];
            let flags = ReadWriteFlags::empty();
            let read = preadv2(file, &mut [IoSliceMut::new(&mut bytes)], witness.offset, flags);
            read == Ok(WITNESS_BYTES) && bytes == witness.bytes
        };
        let seen = self.0.as_ref().map(|reservoir| &reservoir.seen);
        seen.is_some_and(|seen| !seen.is_empty() && seen.iter().all(is_there))
    }
}

impl Reservoir {
    /// Keeps a witness so that each has the same chance to stay (Vitter, Random Sampling with a Reservoir, 1985,
    /// algorithm R).
    fn keep(&mut self, witness: Witness) {
        self.count += 1;
        if self.seen.len() < WITNESSES_MAX {
            self.seen.push(witness);
            return;
        }
        let place = usize::try_from(self.random.below(self.count)).unwrap_or(usize::MAX);
        if let Some(place) = self.seen.get_mut(place) {
            *place = witness;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use rustix::fs::fstat;

    use super::super::file_system::FileSystem;
    use super::*;
    use crate::config::EtagChoice;

    const FILE_BYTES: u64 = 1 << 20;

    fn content() -> Vec<u8> {
        (0..FILE_BYTES).map(|number| (number % 251) as u8).collect()
    }

    /// Makes a file, and the witnesses of a hundred looks at its first half.
    fn looked_at() -> (tempfile::NamedTempFile, SourceFile, Witnesses) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content()).unwrap();
        let opened = File::open(file.path()).unwrap();
        let (stat, file_system) = (fstat(&opened).unwrap(), FileSystem::of(&opened));
        let source = SourceFile::new(opened.into(), &stat, file_system, EtagChoice::Node);
        let mut witnesses = Witnesses::default();
        (0..100).for_each(|_| witnesses.look(&source, 0, FILE_BYTES / 2));
        (file, source, witnesses)
    }

    #[test]
    fn a_file_that_was_appended_to_has_every_byte_that_was_seen() {
        let (file, source, witnesses) = looked_at();
        OpenOptions::new().append(true).open(file.path()).unwrap().write_all(b"more").unwrap();
        assert!(source.has_grown() && witnesses.agree(&source));
    }

    #[test]
    fn a_file_that_was_written_anew_has_not() {
        let (file, source, witnesses) = looked_at();
        let mut other = content();
        other.rotate_left(1);
        other.push(0);
        std::fs::write(file.path(), other).unwrap();
        assert!(source.has_grown() && !witnesses.agree(&source));
    }

    #[test]
    fn nothing_is_seen_of_a_file_that_had_changed_before_the_first_look() {
        let (file, source, _) = looked_at();
        OpenOptions::new().write(true).open(file.path()).unwrap().write_all_at(b"other", FILE_BYTES).unwrap();
        let mut witnesses = Witnesses::default();
        witnesses.look(&source, 0, FILE_BYTES);
        assert!(!witnesses.agree(&source));
    }

    #[test]
    fn so_many_are_kept_and_less_than_one_is_none() {
        let (_file, source, mut witnesses) = looked_at();
        let count = |witnesses: &Witnesses| witnesses.0.as_ref().unwrap().count;
        assert_eq!(count(&witnesses), 100);
        assert_eq!(witnesses.0.as_ref().unwrap().seen.len(), WITNESSES_MAX);
        witnesses.look(&source, 7, 7 + WITNESS_BYTES as u64 - 1);
        assert_eq!(count(&witnesses), 100);
        let last = FILE_BYTES - WITNESS_BYTES as u64;
        witnesses.look(&source, last, FILE_BYTES);
        assert_eq!(count(&witnesses), 101);
    }
}
