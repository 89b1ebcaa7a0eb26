//! The `Content-Range` of a request (RFC 9110 14.4, 14.5), which says which bytes of a file its body is.

/// A part of a file whose whole length is known: `first <= end <= total`, and empty only at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The offset of the first byte.
    pub first: u64,
    /// The offset of the byte after the part.
    pub end: u64,
    /// The bytes of the whole file.
    pub total: u64,
}

/// Why a `Content-Range` can't be followed. RFC 9110 14.5: each of these is answered with 400, since a receiver
/// that ignores the field takes a part for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentRangeError {
    /// The range unit isn't `bytes`.
    #[error("Content-Range is not in bytes; write `bytes FIRST-LAST/TOTAL`")]
    Unit,
    /// The field is `FIRST-LAST/*` or `*/*`.
    #[error("Content-Range does not say how long the whole file is; write `bytes FIRST-LAST/TOTAL`")]
    TotalUnknown,
    /// The field isn't made of three decimal numbers below 2^64.
    #[error("Content-Range is not of the form `bytes FIRST-LAST/TOTAL` with decimal numbers below 2^64")]
    Malformed,
    /// The numbers contradict each other.
    #[error("Content-Range names bytes {first} to {last} of {total}: no file has those")]
    Impossible {
        /// The first number as sent.
        first: u64,
        /// The second number as sent.
        last: u64,
        /// The third number as sent.
        total: u64,
    },
}

impl ContentRange {
    /// Reads the field's value.
    ///
    /// `bytes */TOTAL` is the empty part behind the last byte: all have been sent before. RFC 9110 has it in answers
    /// alone, but clients of other resumable uploads send it for want of a range without bytes.
    ///
    /// # Errors
    /// [`ContentRangeError`] for everything else but `bytes FIRST-LAST/TOTAL` with `FIRST <= LAST < TOTAL`.
    pub fn parse(field: &[u8]) -> Result<ContentRange, ContentRangeError> {
        let (unit, range) = split_at(field, b' ').ok_or(ContentRangeError::Malformed)?;
        if !unit.eq_ignore_ascii_case(b"bytes") {
            return Err(ContentRangeError::Unit);
        }
        let (bytes, total) = split_at(range, b'/').ok_or(ContentRangeError::Malformed)?;
        if total == b"*" {
            return Err(ContentRangeError::TotalUnknown);
        }
        if bytes == b"*" {
            let total = number(total)?;
            return Ok(ContentRange { first: total, end: total, total });
        }
        let (first, last) = split_at(bytes, b'-').ok_or(ContentRangeError::Malformed)?;
        let (first, last, total) = (number(first)?, number(last)?, number(total)?);
        if first > last || last >= total {
            return Err(ContentRangeError::Impossible { first, last, total });
        }
        // last < total <= u64::MAX, so the one added cannot overflow.
        Ok(ContentRange { first, end: last + 1, total })
    }

    /// Returns how many bytes the part has.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.end - self.first
    }

    /// Whether the file is whole once this part is there.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.end == self.total
    }
}

fn split_at(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Parses decimal digits alone: `parse` would take a sign.
fn number(digits: &[u8]) -> Result<u64, ContentRangeError> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(ContentRangeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_of_a_known_whole_are_read() {
        let max = u64::MAX;
        let table = [
            ("bytes 0-0/1".to_owned(), (0, 1, 1), 1, true),
            ("bytes 0-9/100".to_owned(), (0, 10, 100), 10, false),
            ("bytes 90-99/100".to_owned(), (90, 100, 100), 10, true),
            ("Bytes 5-6/8".to_owned(), (5, 7, 8), 2, false),
            ("bytes 007-08/0010".to_owned(), (7, 9, 10), 2, false),
            (format!("bytes 0-{}/{max}", max - 1), (0, max, max), max, true),
            (format!("bytes {0}-{0}/{max}", max - 1), (max - 1, max, max), 1, true),
            ("bytes */10".to_owned(), (10, 10, 10), 0, true),
            ("bytes */0".to_owned(), (0, 0, 0), 0, true),
            (format!("bytes */{max}"), (max, max, max), 0, true),
        ];
        for (field, (first, end, total), length, is_last) in table {
            let range = ContentRange::parse(field.as_bytes()).unwrap();
            assert_eq!(range, ContentRange { first, end, total }, "{field}");
            assert_eq!((range.length(), range.is_last()), (length, is_last), "{field}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let impossible = |first, last, total| ContentRangeError::Impossible { first, last, total };
        let table = [
            ("bytes */*", ContentRangeError::TotalUnknown),
            ("bytes */", ContentRangeError::Malformed),
            ("bytes */-1", ContentRangeError::Malformed),
            ("bytes *-9/10", ContentRangeError::Malformed),
            ("bytes 0-9/*", ContentRangeError::TotalUnknown),
            ("items 0-9/10", ContentRangeError::Unit),
            ("byte 0-9/10", ContentRangeError::Unit),
            (" 0-9/10", ContentRangeError::Unit),
            ("bytes 1-0/10", impossible(1, 0, 10)),
            ("bytes 0-10/10", impossible(0, 10, 10)),
            ("bytes 0-0/0", impossible(0, 0, 0)),
            ("bytes 10-9/10", impossible(10, 9, 10)),
            ("", ContentRangeError::Malformed),
            ("bytes", ContentRangeError::Malformed),
            ("bytes=0-9/10", ContentRangeError::Malformed),
            ("bytes 0-9", ContentRangeError::Malformed),
            ("bytes 09/10", ContentRangeError::Malformed),
            ("bytes -9/10", ContentRangeError::Malformed),
            ("bytes 0-/10", ContentRangeError::Malformed),
            ("bytes 0-9/", ContentRangeError::Malformed),
            ("bytes 0-9/10/11", ContentRangeError::Malformed),
            ("bytes 0-9-9/10", ContentRangeError::Malformed),
            ("bytes  0-9/10", ContentRangeError::Malformed),
            ("bytes 0 - 9/10", ContentRangeError::Malformed),
            ("bytes 0-9 /10", ContentRangeError::Malformed),
            ("bytes 0-9/10, bytes 0-9/10", ContentRangeError::Malformed),
            ("bytes +0-9/10", ContentRangeError::Malformed),
            ("bytes 0x0-9/10", ContentRangeError::Malformed),
            ("bytes 0-9/18446744073709551616", ContentRangeError::Malformed),
            ("bytes 18446744073709551616-18446744073709551617/1", ContentRangeError::Malformed),
        ];
        for (field, error) in table {
            assert_eq!(ContentRange::parse(field.as_bytes()), Err(error), "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_what_was_written_or_impossible(first: u64, last: u64, total: u64) {
            let field = format!("bytes {first}-{last}/{total}");
            let expected = if first <= last && last < total {
                Ok(ContentRange { first, end: last + 1, total })
            } else {
                Err(ContentRangeError::Impossible { first, last, total })
            };
            prop_assert_eq!(ContentRange::parse(field.as_bytes()), expected);
        }

        #[test]
        fn what_is_read_lies_inside_the_file(field in "bytes [0-9]{1,20}-[0-9]{1,20}/[0-9]{1,20}") {
            if let Ok(range) = ContentRange::parse(field.as_bytes()) {
                prop_assert!(range.length() > 0);
                prop_assert!(range.end <= range.total);
            }
        }

        #[test]
        fn no_field_panics(field: Vec<u8>) {
            let _ = ContentRange::parse(&field);
            let _ = ContentRange::parse(&[b"bytes ".as_slice(), &field].concat());
        }
    }
}
