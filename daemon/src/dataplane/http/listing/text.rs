//! Writes names and numbers for people.

use std::fmt::Write;

/// Writes a name for HTML content and attribute values. Bytes that aren't UTF-8 get a replacement, and so do control
/// characters, which HTML has no way to write.
pub(super) fn escape(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().fold(String::with_capacity(name.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            control if control.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
        escaped
    })
}

/// Writes a size with a unit and as few digits as people compare sizes by.
pub(super) fn size(bytes: u128) -> String {
    const UNITS: [&str; 8] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths, rounded, since 1023.95 KiB are 1 MiB.
    let mut tenths = (bytes * 10 + 512) / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10_235 && units.len() > 0 {
        tenths = (tenths + 512) / 1024;
        unit = units.next();
    }
    let unit = unit.unwrap_or(&"");
    if tenths < 1000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", (tenths + 5) / 10)
    }
}

/// Writes bytes as hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_people_read() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_048_000, "1023 KiB"),
            (1_048_575, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (u128::from(u64::MAX), "16.0 EiB"),
            (1 << 90, "1024 YiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn names_are_escaped_for_where_they_stand() {
        assert_eq!(escape(b"<&\"'>"), "&lt;&amp;&quot;&#39;&gt;");
        assert_eq!(escape(b"a\xff\nb\xc2\x85"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
