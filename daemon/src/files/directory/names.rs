//! A compact list of many names.

/// The end mark behind each name: no name contains it (path_resolution(7)).
const END: char = '\0';

/// The marks before each name, in the order of a listing.
const DIRECTORY: char = 'd';
const FILE: char = 'f';

/// Names of entries: one text, and the place in it where each name begins, four bytes a name. A string for each
/// would take three times as much, in as many pieces.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    beginnings: Vec<u32>,
}

impl Names {
    /// Adds a name; does nothing once there are 4 GiB of them.
    pub(super) fn add(&mut self, name: &str, is_directory: bool) {
        let Ok(beginning) = u32::try_from(self.text.len()) else { return };
        self.beginnings.push(beginning);
        self.text.push(if is_directory { DIRECTORY } else { FILE });
        self.text.push_str(name);
        self.text.push(END);
    }

    /// Sorts directories first and then by name. Frees spare memory.
    pub(super) fn sort(&mut self) {
        let text = &self.text;
        self.beginnings.sort_unstable_by_key(|beginning| marked(text, *beginning));
        self.beginnings.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    /// Returns the name at an index.
    pub(super) fn get(&self, place: usize) -> Option<&str> {
        self.beginnings.get(place).map(|beginning| &marked(&self.text, *beginning)[FILE.len_utf8()..])
    }

    /// Removes all names.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.beginnings.clear();
    }

    /// Returns the bytes of memory that the names need.
    pub(super) fn used_bytes(&self) -> usize {
        self.text.len() + self.beginnings.len() * size_of::<u32>()
    }

    /// Returns the bytes of memory that are allocated for them.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.beginnings.capacity() * size_of::<u32>()
    }
}

/// Returns a name with the mark before it.
fn marked(text: &str, beginning: u32) -> &str {
    let rest = &text[beginning as usize..];
    rest.split_once(END).map_or(rest, |(marked, _)| marked)
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn directories_come_first_and_then_the_bytes_decide() {
        let mut names = Names::default();
        for (name, is_directory) in
            [("b", false), ("\u{fc}", false), ("a", false), ("z", true), ("ab", false)]
        {
            names.add(name, is_directory);
        }
        assert_eq!(names.get(0), Some("b"));
        names.sort();
        let sorted: Vec<&str> = (0..).map_while(|place| names.get(place)).collect();
        assert_eq!(sorted, ["z", "a", "ab", "b", "\u{fc}"]);
        names.clear();
        assert_eq!(names.get(0), None);
    }

    #[test]
    fn a_name_takes_its_length_and_six_bytes() {
        let mut names = Names::default();
        (0..10_000).for_each(|number| names.add(&format!("IMG_2026_{number:05}_holiday_photo.jpeg"), false));
        names.sort();
        assert_eq!(names.bytes(), 10_000 * (33 + 6));
    }
}
