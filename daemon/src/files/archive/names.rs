//! The names of one directory, in the order of an archive.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::files::directory_names::read_names;

/// Bytes of a directory that one call reads.
const READ_BYTES: usize = 32 << 10;

/// The byte behind each name. No name has one in it (path_resolution(7)).
const END: u8 = 0;

/// The byte behind the name of a directory, which sorts it to where the paths below it belong.
const SLASH: u8 = b'/';

/// The names of a directory: one text, and the index at which each begins.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Vec<u8>,
    beginnings: Vec<u32>,
    next: usize,
}

impl Names {
    /// Reads names by one call, those that are left out aside, and returns whether there may be more.
    pub(super) fn read(
        &mut self,
        directory: &OwnedFd,
        is_left_out: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        read_names(directory, &mut buffer, |name, file_type| {
            match file_type {
                _ if is_left_out(name) => {}
                FileType::Directory => self.add(name, true),
                FileType::RegularFile | FileType::Symlink => self.add(name, false),
                // Some file systems don't say (readdir(3)).
                FileType::Unknown => match is_directory(directory, name) {
                    Ok(is_directory) => self.add(name, is_directory),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                },
                _ => {}
            }
            Ok(())
        })
    }

    /// Adds a name; without effect beyond 4 GiB of them.
    fn add(&mut self, name: &[u8], is_directory: bool) {
        let Ok(beginning) = u32::try_from(self.text.len()) else { return };
        self.beginnings.push(beginning);
        self.text.extend_from_slice(name);
        if is_directory {
            self.text.push(SLASH);
        }
        self.text.push(END);
    }

    /// Sorts the names as the paths below them are to be sorted.
    pub(super) fn sort(&mut self) {
        let text = &self.text;
        self.beginnings.sort_unstable_by_key(|beginning| marked(text, *beginning));
    }

    /// Returns the next name, and whether it is that of a directory.
    pub(super) fn peek(&self) -> Option<(&[u8], bool)> {
        let marked = marked(&self.text, *self.beginnings.get(self.next)?);
        Some(marked.strip_suffix(&[SLASH]).map_or((marked, false), |name| (name, true)))
    }

    /// Goes on to the name behind the next.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.beginnings.len()
    }

    /// Returns the bytes of memory that the names take.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.beginnings.capacity() * size_of::<u32>()
    }
}

fn is_directory(directory: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Returns a name with its slash, if it has one.
fn marked(text: &[u8], beginning: u32) -> &[u8] {
    let rest = &text[beginning as usize..];
    memchr::memchr(END, rest).map_or(rest, |end| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn a_directory_comes_where_the_paths_below_it_do() {
        let mut names = Names::default();
        for (name, is_directory) in
            [("b", false), ("a", true), ("a-b", false), ("a0", false), ("a.txt", false)]
        {
            names.add(name.as_bytes(), is_directory);
        }
        names.sort();
        let mut sorted = Vec::new();
        while let Some((name, _)) = names.peek() {
            sorted.push(String::from_utf8(name.to_vec()).unwrap());
            names.advance();
        }
        assert_eq!(sorted, ["a-b", "a.txt", "a", "a0", "b"]);
    }
}
