//! Byte ranges (RFC 9110 14.1.2). Where the RFC leaves a choice this does what nginx does.

/// The most ranges of one answer. zsync asks for 20 at once, others for up to 200 blocks of a file that changed.
/// Each costs a part header and three calls, and thousands of tiny ones would make a server work far harder than
/// the client (CVE-2011-3192); 256 don't disturb other clients of the worker, since a turn takes only a few parts.
pub const RANGES_MAX: usize = 256;

/// A run of bytes of one file; from [`select`] it is never empty and lies inside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The offset of the first byte.
    pub start: u64,
    /// The number of bytes.
    pub length: u64,
}

impl ByteRange {
    /// Returns the offset of the last byte, as `Content-Range` names it; of an empty range its start.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.start.saturating_add(self.length.saturating_sub(1))
    }
}

/// The meaning of a `Range` field for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The answer is 200 with the whole file.
    Whole,
    /// The answer is 206 with these: 1 to [`RANGES_MAX`] of them, as asked, neither merged nor reordered.
    Ranges(Vec<ByteRange>),
    /// The answer is 416.
    Unsatisfiable,
}

/// Reads a `Range` field for a file of `size` bytes.
///
/// - Another unit than `bytes` (without regard to case), or nothing after `bytes=`: the field is ignored.
/// - Malformed after `bytes=`, including empty list elements and numbers over 2^64 - 1: unsatisfiable.
/// - A range past the end, one whose end lies before its start, and `-0` are dropped; if none is left:
///   unsatisfiable.
/// - Lengths that add up to more than the file, or more than [`RANGES_MAX`] ranges: the whole file.
/// - An empty file asked for from its start or for its last bytes (`-0` too): the whole file, which is to say
///   200 with nothing. nginx answers so, and a client that always asks for `0-` gets no error for a file that
///   exists.
/// - Spaces and tabs may stand around commas and before and after the `-` of a range with a start, as in
///   nginx (which takes spaces only).
#[must_use]
pub fn select(field: &[u8], size: u64) -> Selection {
    let Some(list) = byte_ranges(field) else { return Selection::Whole };
    let mut cursor = Cursor { rest: list };
    let mut ranges = Vec::new();
    let mut sum: u64 = 0;
    loop {
        let Some(spec) = cursor.spec() else { return Selection::Unsatisfiable };
        match spec.resolve(size) {
            Some(_) if ranges.len() == RANGES_MAX => return Selection::Whole,
            Some(range) => {
                // Past 2^64 - 1 bytes they add up to more than any file has.
                let Some(total) = sum.checked_add(range.length) else { return Selection::Whole };
                sum = total;
                ranges.push(range);
            }
            None if size == 0 && spec.reaches_start() => return Selection::Whole,
            None => {}
        }
        if !cursor.take(b',') {
            break;
        }
    }
    if ranges.is_empty() {
        return Selection::Unsatisfiable;
    }
    if sum > size { Selection::Whole } else { Selection::Ranges(ranges) }
}

/// Returns the text after `bytes=`, when there is any.
fn byte_ranges(field: &[u8]) -> Option<&[u8]> {
    let (unit, list) = field.split_at_checked(b"bytes=".len())?;
    (unit.eq_ignore_ascii_case(b"bytes=") && !list.is_empty()).then_some(list)
}

#[derive(Clone, Copy)]
enum Spec {
    /// A range written `first-last`.
    Between { first: u64, last: u64 },
    /// A range written `first-`.
    From { first: u64 },
    /// A range written `-length`.
    Suffix { length: u64 },
}

impl Spec {
    /// Returns the bytes of a file of `size` bytes that the range covers; `None` when there are none.
    fn resolve(self, size: u64) -> Option<ByteRange> {
        let (start, last) = match self {
            Spec::Between { first, last } => (first, last.min(size.checked_sub(1)?)),
            Spec::From { first } => (first, size.checked_sub(1)?),
            Spec::Suffix { length } => (size.saturating_sub(length), size.checked_sub(1)?),
        };
        // last < size <= u64::MAX, so the one added for the length cannot overflow.
        let length = last.checked_sub(start)? + 1;
        Some(ByteRange { start, length })
    }

    /// Whether the range asks for the start of an empty file.
    fn reaches_start(self) -> bool {
        match self {
            Spec::Between { first, .. } | Spec::From { first } => first == 0,
            Spec::Suffix { .. } => true,
        }
    }
}

struct Cursor<'f> {
    rest: &'f [u8],
}

impl Cursor<'_> {
    /// Reads one element of the list, up to its comma or the end; `None` when it is malformed.
    fn spec(&mut self) -> Option<Spec> {
        self.skip_white_space();
        let spec = if self.take(b'-') { Spec::Suffix { length: self.number()? } } else { self.from()? };
        self.skip_white_space();
        self.at_end_of_element().then_some(spec)
    }

    fn from(&mut self) -> Option<Spec> {
        let first = self.number()?;
        self.skip_white_space();
        if !self.take(b'-') {
            return None;
        }
        self.skip_white_space();
        if self.at_end_of_element() {
            return Some(Spec::From { first });
        }
        Some(Spec::Between { first, last: self.number()? })
    }

    /// Reads all digits that follow, at least one; `None` over 2^64 - 1.
    fn number(&mut self) -> Option<u64> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_white_space(&mut self) {
        while self.take(b' ') || self.take(b'\t') {}
    }

    fn at_end_of_element(&self) -> bool {
        matches!(self.rest.first(), None | Some(b','))
    }
}

#[cfg(test)]
mod tests;
