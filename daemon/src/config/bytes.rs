//! Byte counts as people write them: `169`, `64MiB`, `1GB`.

use bytesize::ByteSize;
use serde::de::{self, Deserializer, Visitor};

/// Reads plain bytes or a number with a decimal (`kB`, `MB`, `GB`) or binary suffix (`KiB`, `MiB`, `GiB`).
pub fn parse(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>().map(|size| size.as_u64()).ok();
    // The crate reads a leading plus, and answers with the largest number where the product doesn't fit.
    size.filter(|bytes| text.starts_with(|first: char| first.is_ascii_digit()) && *bytes < u64::MAX)
        .ok_or_else(|| format!("{text:?} is no byte count: write bytes (169) or a suffix (64MiB, 1GB)"))
}

/// Takes an integer or a string as [`parse`] reads it.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(ByteCount)
}

struct ByteCount;

impl Visitor<'_> for ByteCount {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a byte count, as an integer or a string such as \"64MiB\"")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::custom(format!("{value} is below zero")))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<u64, E> {
        parse(value).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

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
}
