//! The number of a group, by its name.

use std::io::Read;
use std::path::Path;

/// The file of the host's groups (group(5)). Other sources of names (NSS) are asked by the C library alone; a group of
/// theirs is given by its number.
const GROUPS: &str = "/etc/group";

/// The most bytes that are read of it: tens of thousands of groups.
const GROUPS_BYTES_MAX: u64 = 4 << 20;

/// Returns the number of a group. The error is a sentence with its remedy.
pub(super) fn number(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let text = read(Path::new(GROUPS)).map_err(|error| format!("{GROUPS}: {error}"))?;
    number_in(&text, group).ok_or_else(|| {
        format!(
            "there is no group {group:?} in {GROUPS}: `getent group` lists them; give others by their number"
        )
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(GROUPS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds a group in lines of `name:password:number:members`.
fn number_in(text: &str, group: &str) -> Option<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    text.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::{number, number_in};

    #[test]
    fn a_group_is_found_by_its_whole_name_or_is_its_number() {
        let text = "root:x:0:\nwww:x:7:\nwww-data:x:33:ann,ben\nbroken\n";
        assert_eq!(
            ["www-data", "root", "ww", "broken", ""].map(|name| number_in(text, name)),
            [Some(33), Some(0), None, None, None]
        );
        assert_eq!((number("33"), number("root")), (Ok(33), Ok(0)));
        assert!(number("no-such-group").unwrap_err().contains("`getent group`"));
    }
}
