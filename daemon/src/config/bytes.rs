//! Byte counts as people write them: `169`, `64MiB`, `1GB`.

use bytesize::ByteSize;

/// Reads plain bytes or a number with a decimal (`kB`, `MB`, `GB`) or binary suffix (`KiB`, `MiB`, `GiB`).
pub fn parse(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>().map(|size| size.as_u64()).ok();
    // The crate reads a leading plus, and answers with the largest number where the product doesn't fit.
    size.filter(|bytes| text.starts_with(|first: char| first.is_ascii_digit()) && *bytes < u64::MAX)
        .ok_or_else(|| format!("{text:?} is no byte count: write bytes (169) or a suffix (64MiB, 1GB)"))
}

/// The suffixes and their units, the greatest first. Binary ones win over decimal ones of the same length.
const SUFFIXES: [(&str, u64); 10] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
];

/// Writes a count as people do: exactly, and with the suffix that makes it shortest.
pub fn spell(bytes: u64) -> String {
    let fitting = SUFFIXES.iter().filter(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    let spellings = fitting.map(|(suffix, unit)| format!("{}{suffix}", bytes / unit));
    let shortest = spellings.min_by_key(String::len);
    shortest.filter(|text| text.len() <= bytes.to_string().len()).unwrap_or_else(|| bytes.to_string())
}

#[cfg(test)]
mod tests {
    use super::{parse, spell};

    #[test]
    fn plain_and_suffixed_counts() {
        for (text, bytes) in
            [("0", 0), ("169", 169), ("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("10GiB", 10 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refused_counts() {
        for text in ["", "-1", "ten", "1 parsec", "0x10", "1e3", "+1", "16EiB", "18446744073709551615"] {
            if let Ok(bytes) = parse(text) {
                panic!("{text:?} was read as {bytes}");
            }
        }
    }

    #[test]
    fn counts_are_written_exactly_and_shortly() {
        for (bytes, text) in [
            (0, "0"),
            (64, "64"),
            (1024, "1KiB"),
            (1000, "1000"),
            (1 << 20, "1MiB"),
            (64 << 20, "64MiB"),
            (3 << 29, "1536MiB"),
            (5_000_000_000, "5GB"),
            (1_000_000_000_000_000, "1PB"),
            (999_999_999_999_999, "999999999999999"),
            ((1 << 56) - 1, "72057594037927935"),
            (1 << 60, "1EiB"),
        ] {
            assert_eq!(spell(bytes), text);
            assert_eq!(parse(text), Ok(bytes));
        }
    }
}
