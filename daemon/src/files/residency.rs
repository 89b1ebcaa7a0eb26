//! Whether a range of a file is hot: in the page cache, so that reading it can't wait for a disk.
//!
//! The question is asked by reads under RWF_NOWAIT, which tell the truth for their pages to any user. cachestat(2)
//! counts pages that are still being read, and mincore(2) calls everything resident for a user who doesn't own the
//! file: neither can be used.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::random::Random;

/// The residency of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// The pages that were looked at are in memory.
    Hot,
    /// At least part of the range isn't in memory.
    Cold,
    /// The file system doesn't support the question: a file that lives in memory counts as hot.
    Unknown,
}

/// Looks at four pages of a range: the first, since a cold range is read from there; the last, since readahead
/// comes in order, and the end isn't there while anything before it is awaited; and one in each half that nobody
/// foresees, since whoever knew the places could fetch just those. It notices a range of 256 pages of which three
/// are there all but once in 10,000 times, and one of which a single page is missing once in 128. Costs 2 µs.
pub fn probe(file: impl AsFd, offset: u64, length: u64, random: &mut Random) -> Residency {
    let file = file.as_fd();
    if length == 0 {
        return Residency::Hot;
    }
    let half = length / 2;
    for place in [0, length - 1, random.below(half), half + random.below(length - half)] {
        match probe_page(file, offset + place) {
            Residency::Hot => {}
            other => return other,
        }
    }
    Residency::Hot
}

/// Looks at one page of a range, at a place that nobody foresees.
pub fn glance(file: impl AsFd, offset: u64, length: u64, random: &mut Random) -> Residency {
    probe_page(file.as_fd(), offset + random.below(length))
}

fn probe_page(file: BorrowedFd<'_>, offset: u64) -> Residency {
    let mut byte = [0_u8];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
        // A result of 0 is beyond the end of a file that got shorter; reading there doesn't wait either.
        Ok(_) => Residency::Hot,
        Err(Errno::OPNOTSUPP) => Residency::Unknown,
        // AGAIN means not in memory. Any other error is told by the read itself, where waiting does no harm.
        Err(_) => Residency::Cold,
    }
}

/// The part of a range that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of the range is in memory.
    Whole,
    /// The beginning of the range is in memory, and not all.
    Part,
    /// Not even the beginning is in memory, or the file system doesn't support the question.
    Nothing,
}

/// Looks at every page of a range by reading all of it. Costs some 100 µs for 1 MiB, in which `buffer` matters: one
/// that fits the first caches is written without touching memory.
pub fn read_whole(file: impl AsFd, offset: u64, length: u64, buffer: &mut [u8]) -> Extent {
    let file = file.as_fd();
    let mut done = 0;
    while done < length {
        let count = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
        let mut slices = [IoSliceMut::new(&mut buffer[..count])];
        match preadv2(file, &mut slices, offset + done, ReadWriteFlags::NOWAIT) {
            // The offset is beyond the end of a file that got shorter.
            Ok(0) => return Extent::Whole,
            Ok(read) => done += read as u64,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => return Extent::Part,
            Err(_) => return Extent::Nothing,
        }
    }
    Extent::Whole
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{Advice, fadvise};

    use super::super::file_system::FileSystem;
    use super::super::hot_windows::WINDOW_BYTES;
    use super::super::place::Place;
    use super::{Extent, Random, Residency, glance, probe, read_whole};

    const PAGES: usize = 256;

    /// Makes a file of a window, and a descriptor of it through which nothing is read ahead.
    fn window() -> (tempfile::NamedTempFile, File) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        (0..PAGES).for_each(|_| file.write_all(&[7; 4096]).unwrap());
        file.as_file().sync_all().unwrap();
        let opened = File::open(file.path()).unwrap();
        fadvise(&opened, 0, None, Advice::Random).unwrap();
        (file, opened)
    }

    /// Drops the pages of a file; whether none of them is in memory any more.
    fn drop_pages(file: &File) -> bool {
        fadvise(file, 0, None, Advice::DontNeed).unwrap();
        read_whole(file, 4096, 1, &mut [0]) == Extent::Nothing
    }

    #[test]
    fn a_file_just_written_is_hot_or_lives_in_memory() {
        let (_keep, file) = window();
        let mut random = Random::default();
        match probe(&file, 0, WINDOW_BYTES, &mut random) {
            Residency::Hot => {
                assert_eq!(glance(&file, 0, WINDOW_BYTES, &mut random), Residency::Hot);
                assert_eq!(read_whole(&file, 0, WINDOW_BYTES, &mut [0; 5000]), Extent::Whole);
                assert_eq!(read_whole(&file, 5, 2 * WINDOW_BYTES, &mut [0; 5000]), Extent::Whole);
            }
            Residency::Unknown => assert_eq!(FileSystem::of(&file).place, Place::Memory),
            Residency::Cold => panic!("a file just written is cold"),
        }
    }

    #[test]
    fn a_window_of_which_somebody_fetched_single_pages_is_cold() {
        let (_keep, file) = window();
        let mut random = Random::default();
        let (mut found, mut tries) = (0, 0);
        for _ in 0..50 {
            if !drop_pages(&file) {
                continue;
            }
            for place in [0, WINDOW_BYTES / 2, WINDOW_BYTES - 1] {
                file.read_at(&mut [0], place).unwrap();
            }
            if read_whole(&file, 0, WINDOW_BYTES, &mut [0; 4096]) == Extent::Part {
                tries += 1;
                found += u32::from(probe(&file, 0, WINDOW_BYTES, &mut random) == Residency::Cold);
            }
        }
        if tries == 0 {
            eprintln!(
                "not tested: the file system keeps what it is told to drop, or reads more than it is asked for"
            );
        }
        // The probe misses this once in thousands of times, so never two of fifty times.
        assert!(found + 1 >= tries, "{found} of {tries}");
    }

    #[test]
    fn a_window_whose_end_is_still_to_come_is_cold() {
        let (_keep, file) = window();
        let mut random = Random::default();
        let (mut found, mut tries) = (0, 0);
        for _ in 0..50 {
            if !drop_pages(&file) {
                continue;
            }
            for page in 0..PAGES as u64 - 1 {
                file.read_at(&mut [0], page * 4096).unwrap();
            }
            // No other question is asked before: a question begins to read the pages that it finds missing.
            let is_found = probe(&file, 0, WINDOW_BYTES, &mut random) == Residency::Cold;
            // Where pages come together the end may be there.
            if is_found || read_whole(&file, 0, WINDOW_BYTES, &mut [0; 4096]) == Extent::Part {
                tries += 1;
                found += u32::from(is_found);
            }
        }
        if tries == 0 {
            eprintln!("not tested: the file system keeps what it is told to drop");
        }
        // By the random places alone it would be found in one of fifty tries.
        assert!(found > tries / 2 || tries == 0, "{found} of {tries}");
    }

    #[test]
    fn nothing_is_asked_of_an_empty_range() {
        let (_keep, file) = window();
        assert_eq!(probe(&file, 0, 0, &mut Random::default()), Residency::Hot);
        assert_eq!(read_whole(&file, 0, 0, &mut [0]), Extent::Whole);
    }
}
