//! Many names in little memory.

use crate::protocol::natural;

/// The byte behind each name, which no name has (path_resolution(7)).
const END: u8 = 0;

/// The byte before each name, in the order of a listing.
const DIRECTORY: u8 = b'd';
const FILE: u8 = b'f';

/// The bytes by which an entry is sorted before its name.
pub(super) type Key = [u8; 8];

/// A number that tells of most names which comes first, and where in the text the name begins.
type Ranked = (u64, u32);

/// The largest rank within directories or files.
const RANK_MAX: u64 = (1 << 56) - 1;

/// Names of entries: one text, and where in it each name begins, four bytes a name. A vector for each would take three
/// times as much, in as many pieces.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Vec<u8>,
    beginnings: Vec<u32>,
    /// Bytes of the key that stands before each name.
    key_bytes: usize,
    directories: usize,
}

impl Names {
    /// Of entries that are sorted by a key first.
    pub(super) fn with_keys() -> Names {
        Names { key_bytes: size_of::<Key>(), ..Names::default() }
    }

    /// Adds a name; without effect beyond 4 GiB of them. The key counts where there are keys.
    pub(super) fn add(&mut self, name: &[u8], is_directory: bool, key: Key) {
        let Ok(beginning) = u32::try_from(self.text.len()) else { return };
        self.beginnings.push(beginning);
        self.directories += usize::from(is_directory);
        self.text.push(if is_directory { DIRECTORY } else { FILE });
        self.text.extend_from_slice(&key[..self.key_bytes]);
        self.text.extend_from_slice(name);
        self.text.push(END);
    }

    /// Directories first, and then by key and name. Gives back what memory is to spare.
    pub(super) fn sort(&mut self) {
        let marked = |beginning| marked(&self.text, beginning, self.key_bytes);
        let mut ranked: Vec<Ranked> = if self.key_bytes == 0 {
            let common = [DIRECTORY, FILE].map(|mark| self.common_parts(mark));
            let rank = |(mark, name): (&[u8], &[u8])| {
                let common = common[usize::from(mark == [FILE])];
                rank(mark, natural::prefix(&name[common..]))
            };
            self.beginnings.iter().map(|beginning| (rank(marked(*beginning)), *beginning)).collect()
        } else {
            let key = |mark: &[u8]| mark[1..].first_chunk().copied().map_or(0, u64::from_be_bytes);
            let rank = |(mark, _): (&[u8], &[u8])| rank(mark, key(mark).min(RANK_MAX));
            self.beginnings.iter().map(|beginning| (rank(marked(*beginning)), *beginning)).collect()
        };
        ranked.sort_unstable_by(|(rank, beginning), (other_rank, other_beginning)| {
            rank.cmp(other_rank).then_with(|| {
                let ((mark, name), (other_mark, other_name)) = (marked(*beginning), marked(*other_beginning));
                mark.cmp(other_mark).then_with(|| natural::compare(name, other_name))
            })
        });
        self.beginnings.clear();
        self.beginnings.extend(ranked.into_iter().map(|(_, beginning)| beginning));
        self.beginnings.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    /// How much of the names behind this mark all have in common, in whole parts: it tells none from another.
    fn common_parts(&self, mark: u8) -> usize {
        let names = self.beginnings.iter().map(|beginning| marked(&self.text, *beginning, 0));
        let mut names = names.filter(|(found, _)| *found == [mark]).map(|(_, name)| name);
        let Some(first) = names.next() else { return 0 };
        names.fold(first, |common, name| &common[..natural::common_parts(common, name)]).len()
    }

    /// The name at a place.
    pub(super) fn get(&self, place: usize) -> Option<&[u8]> {
        self.beginnings.get(place).map(|beginning| marked(&self.text, *beginning, self.key_bytes).1)
    }

    /// The name at a place from the end: the directories are first there too.
    pub(super) fn get_reversed(&self, place: usize) -> Option<&[u8]> {
        let first_file = self.directories;
        if place >= self.beginnings.len() {
            return None;
        }
        let end = if place < first_file { first_file } else { self.beginnings.len() + first_file };
        self.get(end - 1 - place)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.beginnings.clear();
        self.directories = 0;
    }

    /// The memory that they need.
    pub(super) fn used_bytes(&self) -> usize {
        self.text.len() + self.beginnings.len() * size_of::<u32>()
    }

    /// The memory that sorting them takes.
    pub(super) fn bytes_to_sort(&self) -> usize {
        self.bytes() + self.beginnings.len() * size_of::<Ranked>()
    }

    /// The memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.beginnings.capacity() * size_of::<u32>()
    }
}

/// Directories come before files, whatever else they are ranked by.
fn rank(mark: &[u8], within: u64) -> u64 {
    within | u64::from(mark.first() == Some(&FILE)) << 56
}

/// Splits the mark and the key from the name behind them.
fn marked(text: &[u8], beginning: u32, key_bytes: usize) -> (&[u8], &[u8]) {
    let (mark, rest) = text[beginning as usize..].split_at(1 + key_bytes);
    (mark, &rest[..memchr::memchr(END, rest).unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::{Key, Names};

    const NONE: Key = [0; 8];

    fn sorted(mut names: Names, entries: &[(&str, bool, u64)]) -> [Vec<String>; 2] {
        for (name, is_directory, key) in entries {
            names.add(name.as_bytes(), *is_directory, key.to_be_bytes());
        }
        names.sort();
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        [
            (0..).map_while(|place| names.get(place).map(text)).collect(),
            (0..).map_while(|place| names.get_reversed(place).map(text)).collect(),
        ]
    }

    #[test]
    fn directories_come_first_and_then_names_in_natural_order() {
        let entries = [
            ("b10", false, 0),
            ("\u{fc}", false, 0),
            ("b9", false, 0),
            ("z2", true, 0),
            ("A", false, 0),
            ("z10", true, 0),
        ];
        let [upward, downward] = sorted(Names::default(), &entries);
        assert_eq!(upward, ["z2", "z10", "A", "b9", "b10", "\u{fc}"]);
        assert_eq!(downward, ["z10", "z2", "\u{fc}", "b10", "b9", "A"]);
        assert_eq!(sorted(Names::default(), &[("only", false, 0)])[1], ["only"]);
        assert_eq!(sorted(Names::default(), &[("only", true, 0)])[1], ["only"]);
    }

    #[test]
    fn a_key_comes_before_the_name() {
        let entries =
            [("a", false, 256), ("b", false, 0), ("c", false, 255), ("d", true, 9), ("e", false, 0)];
        assert_eq!(sorted(Names::with_keys(), &entries)[0], ["d", "b", "e", "c", "a"]);
        assert_eq!(sorted(Names::default(), &entries)[0], ["d", "a", "b", "c", "e"]);
    }

    #[test]
    fn a_name_takes_its_length_and_six_bytes() {
        let mut names = Names::default();
        (0..10_000).for_each(|number| {
            names.add(format!("IMG_2026_{number:05}_holiday_photo.jpeg").as_bytes(), false, NONE)
        });
        names.sort();
        assert_eq!(names.bytes(), 10_000 * (33 + 6));
        names.clear();
        assert_eq!((names.get(0), names.get_reversed(0)), (None, None));
    }
}
