//! The header blocks of a member: a ustar header, and before that an extended one where ustar has no room for what is
//! to be said (pax, POSIX.1-2001).

use std::io::Write;

use super::ustar::{BLOCK_BYTES, Ustar};
use crate::files::identity::Moment;

/// The name in the header of an extended header, which only readers without pax see. Python's tarfile uses it too.
const EXTENDED_NAME: &[u8] = b"././@PaxHeader";

/// The largest numbers that ustar's fields of 8 and 12 bytes hold in octal.
const SHORT_NUMBER_MAX: u32 = 0o7_777_777;
const LONG_NUMBER_MAX: u64 = 0o77_777_777_777;

/// The longest name or target of a link that a ustar header holds, and the longest prefix of a name.
const NAME_BYTES_MAX: usize = 100;
const PREFIX_BYTES_MAX: usize = 155;

/// The kind of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// A symbolic link, whose target is kept as it is.
    Link,
    /// A further name of a file that comes earlier in the archive.
    FurtherName,
}

/// The facts about a member that its headers state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description<'a> {
    pub(super) kind: Kind,
    /// The path in the archive, which ends in a slash for a directory.
    pub(super) path: &'a [u8],
    /// The target of a link, or the path of the first name where this is a further one.
    pub(super) target: &'a [u8],
    /// The length of the body in bytes.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Moment,
}

impl Description<'_> {
    /// Appends all header blocks.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut records = Vec::new();
        self.write_records(&mut records);
        if !records.is_empty() {
            let header =
                Ustar { typeflag: b'x', name: EXTENDED_NAME, size: records.len() as u64, ..Ustar::EMPTY };
            header.write(out);
            out.extend_from_slice(&records);
            fill_block(records.len() as u64, out);
        }
        self.ustar().write(out);
    }

    /// Returns how many bytes [`Description::write`] appends.
    pub(super) fn header_bytes(&self) -> u64 {
        let mut records = Vec::new();
        self.write_records(&mut records);
        let of_records =
            if records.is_empty() { 0 } else { BLOCK_BYTES as u64 + padded(records.len() as u64) };
        of_records + BLOCK_BYTES as u64
    }

    /// Returns what the ustar header says.
    fn ustar(&self) -> Ustar<'_> {
        let (prefix, name) = split(self.path).unwrap_or((b"", cut(self.path)));
        let typeflag = match self.kind {
            Kind::File => b'0',
            Kind::Directory => b'5',
            Kind::Link => b'2',
            Kind::FurtherName => b'1',
        };
        Ustar {
            typeflag,
            prefix,
            name,
            target: cut(self.target),
            size: self.size,
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            modified: u64::try_from(self.modified.seconds).unwrap_or(0),
        }
    }

    /// Appends the records of the extended header, of which there are only those that are needed.
    fn write_records(&self, out: &mut Vec<u8>) {
        let needs_path = split(self.path).is_none() || is_text_beyond_ascii(self.path);
        let needs_target = self.target.len() > NAME_BYTES_MAX || is_text_beyond_ascii(self.target);
        let is_text = |path: &[u8]| std::str::from_utf8(path).is_ok();
        // Records are UTF-8 unless this one declares that they are raw bytes.
        if needs_path && !is_text(self.path) || needs_target && !is_text(self.target) {
            record(b"hdrcharset", b"BINARY", out);
        }
        if needs_path {
            record(b"path", self.path, out);
        }
        if needs_target {
            record(b"linkpath", self.target, out);
        }
        if self.size > LONG_NUMBER_MAX {
            record(b"size", self.size.to_string().as_bytes(), out);
        }
        for (key, number) in [(b"uid", self.uid), (b"gid", self.gid)] {
            if number > SHORT_NUMBER_MAX {
                record(key, number.to_string().as_bytes(), out);
            }
        }
        // Parts of a second are left out, as tar does too unless it is told otherwise: with them each member would be
        // two blocks longer.
        if !u64::try_from(self.modified.seconds).is_ok_and(|seconds| seconds <= LONG_NUMBER_MAX) {
            record(b"mtime", self.modified.seconds.to_string().as_bytes(), out);
        }
    }
}

/// Rounds a length up to whole blocks.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// Appends the zeros that fill up a body of so many bytes.
pub(super) fn fill_block(bytes: u64, out: &mut Vec<u8>) {
    let rest = usize::try_from(padded(bytes) - bytes).unwrap_or(0);
    out.resize(out.len() + rest, 0);
}

/// Splits a path into ustar's prefix and name at a slash, which neither of them keeps.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_BYTES_MAX {
        return Some((b"", path));
    }
    let begin = path.len().checked_sub(NAME_BYTES_MAX + 1)?;
    // The slash at the end of a directory's path cuts nothing off.
    let end = (PREFIX_BYTES_MAX + 1).min(path.len() - 1);
    let slash = begin + path.get(begin..end)?.iter().position(|byte| *byte == b'/')?;
    (slash > 0).then(|| (&path[..slash], &path[slash + 1..]))
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(NAME_BYTES_MAX)]
}

/// Tells whether a path needs a record to be read as UTF-8: a ustar name is read in the reader's own locale.
fn is_text_beyond_ascii(path: &[u8]) -> bool {
    !path.is_ascii() && std::str::from_utf8(path).is_ok()
}

/// Appends `LENGTH KEY=VALUE\n`, whose length counts itself.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // A blank, an equals sign and a line feed.
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    loop {
        let with_digits = rest + length.to_string().len();
        if with_digits == length {
            break;
        }
        length = with_digits;
    }
    // Writing to memory can't fail.
    let _ = write!(out, "{length} ");
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{Description, Kind, Moment, split};

    const MEMBER: Description<'static> = Description {
        kind: Kind::File,
        path: b"directory/file",
        target: b"",
        size: 0,
        mode: 0o100_640,
        uid: 1000,
        gid: 100,
        modified: Moment { seconds: 1_700_000_000, nanoseconds: 0 },
    };

    fn written(member: &Description<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        member.write(&mut out);
        assert_eq!(out.len() as u64, member.header_bytes());
        out
    }

    /// The records of the extended header, as the library reads them.
    fn records(member: &Description<'_>) -> Vec<(String, Vec<u8>)> {
        let bytes = written(&Description { size: 0, ..*member });
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let extensions = entry.pax_extensions().unwrap().into_iter().flatten();
        extensions
            .map(Result::unwrap)
            .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn what_ustar_has_room_for_takes_one_block() {
        let bytes = written(&MEMBER);
        assert_eq!(bytes.len(), 512);
        let header = tar::Header::from_byte_slice(&bytes);
        assert_eq!(&*header.path_bytes(), b"directory/file");
        assert_eq!(
            (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
            (0o640, 1000, 100)
        );
        assert_eq!(header.mtime().unwrap(), 1_700_000_000);
    }

    #[test]
    fn long_paths_are_cut_at_a_slash_or_get_a_record() {
        let (directory, name) = ("d".repeat(150), "n".repeat(100));
        let fits = format!("{directory}/{name}");
        assert_eq!(split(fits.as_bytes()), Some((directory.as_bytes(), name.as_bytes())));
        assert!(records(&Description { path: fits.as_bytes(), ..MEMBER }).is_empty());
        for path in [format!("{directory}/{name}n"), "n".repeat(101), format!("{}/x", "d".repeat(156))] {
            assert_eq!(split(path.as_bytes()), None, "{path}");
            let expected = [("path".to_owned(), path.clone().into_bytes())];
            assert_eq!(records(&Description { path: path.as_bytes(), ..MEMBER }), expected);
        }
        let slash_at_end = format!("{}/", "d".repeat(100));
        assert_eq!(split(slash_at_end.as_bytes()), None);
    }

    #[test]
    fn names_that_are_no_text_are_kept_byte_by_byte() {
        assert!(records(&Description { path: b"\xff\xfe", ..MEMBER }).is_empty());
        assert_eq!(&written(&Description { path: b"\xff\xfe", ..MEMBER })[..3], b"\xff\xfe\0");
        let long = [0xff; 255];
        let records = records(&Description { path: &long, ..MEMBER });
        assert_eq!(records[0], ("hdrcharset".to_owned(), b"BINARY".to_vec()));
        assert_eq!(records[1], ("path".to_owned(), long.to_vec()));
    }

    #[test]
    fn text_beyond_ascii_says_that_it_is_utf_8() {
        let path = "\u{fc}n\u{ef}";
        let expected = [("path".to_owned(), path.as_bytes().to_vec())];
        assert_eq!(records(&Description { path: path.as_bytes(), ..MEMBER }), expected);
    }

    #[test]
    fn long_targets_large_numbers_and_times_before_1970_get_records() {
        let target = "t".repeat(101);
        let member = Description {
            kind: Kind::Link,
            target: target.as_bytes(),
            uid: 0x20_0000,
            gid: u32::MAX,
            modified: Moment { seconds: -3, nanoseconds: 20 },
            ..MEMBER
        };
        let records = records(&member);
        let keys: Vec<&str> = records.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["linkpath", "uid", "gid", "mtime"]);
        assert_eq!(records[2].1, b"4294967295");
        assert_eq!(records[3].1, b"-3");
        let bytes = written(&member);
        let header = tar::Header::from_byte_slice(&bytes[bytes.len() - 512..]);
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0x20_0000, u32::MAX.into()));
        assert_eq!(header.mtime().unwrap(), 0);
    }

    #[test]
    fn parts_of_a_second_are_left_out() {
        let modified = Moment { seconds: 7, nanoseconds: 999_999_999 };
        let bytes = written(&Description { modified, ..MEMBER });
        assert_eq!((bytes.len(), tar::Header::from_byte_slice(&bytes).mtime().unwrap()), (512, 7));
    }

    #[test]
    fn a_size_beyond_8_gib_is_said_both_ways() {
        let bytes = written(&Description { size: 9 << 30, ..MEMBER });
        assert_eq!(bytes.len(), 3 * 512);
        let mut records = String::new();
        (&bytes[512..540]).read_to_string(&mut records).unwrap();
        assert!(records.starts_with("19 size=9663676416\n"), "{records}");
        assert_eq!(tar::Header::from_byte_slice(&bytes[1024..]).size().unwrap(), 9 << 30);
    }
}
