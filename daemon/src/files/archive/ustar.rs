//! The block of a ustar header (POSIX.1-2001, pax, "ustar Interchange Format"). An archive of short files is little
//! else, so it is written in place, by one pass for its numbers and one for its checksum.

use std::ops::Range;

/// Bytes of a block. Headers are whole blocks, and bodies are filled up to such.
pub(super) const BLOCK_BYTES: usize = 512;

const NAME: usize = 0;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPEFLAG: usize = 156;
const TARGET: usize = 157;
const MAGIC_AND_VERSION: usize = 257;
const PREFIX: usize = 345;

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ustar<'a> {
    pub(super) typeflag: u8,
    /// At most 155 bytes.
    pub(super) prefix: &'a [u8],
    /// At most 100 bytes, as the target.
    pub(super) name: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
}

impl Ustar<'_> {
    /// The header of a file of nobody that has no name.
    pub(super) const EMPTY: Ustar<'static> = Ustar {
        typeflag: b'0',
        prefix: b"",
        name: b"",
        target: b"",
        size: 0,
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: 0,
    };

    /// Appends the block.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut block = [0; BLOCK_BYTES];
        for (at, text) in [(NAME, self.name), (TARGET, self.target), (PREFIX, self.prefix)] {
            block[at..at + text.len()].copy_from_slice(text);
        }
        let numbers = [
            (MODE, u64::from(self.mode)),
            (UID, self.uid.into()),
            (GID, self.gid.into()),
            (SIZE, self.size),
            (MODIFIED, self.modified),
        ];
        for (field, number) in numbers {
            put_number(&mut block[field], number);
        }
        block[TYPEFLAG] = self.typeflag;
        block[MAGIC_AND_VERSION..MAGIC_AND_VERSION + 8].copy_from_slice(b"ustar\x0000");
        // The sum counts its own field as blanks.
        block[CHECKSUM].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        put_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], sum);
        out.extend_from_slice(&block);
    }
}

/// Writes a number in octal with a zero byte behind it; one that is too long for that in binary, as GNU and BSD do, for
/// readers that don't know extended headers.
fn put_number(field: &mut [u8], number: u64) {
    let digits_max = u32::try_from(field.len() - 1).unwrap_or(u32::MAX);
    if number.checked_shr(3 * digits_max).unwrap_or(0) == 0 {
        return put_octal(field, number);
    }
    let (length, bytes) = (field.len(), number.to_be_bytes());
    let kept = bytes.len().min(length - 1);
    field[length - kept..].copy_from_slice(&bytes[bytes.len() - kept..]);
    field[0] = 0x80;
}

/// Writes a number in octal that fits, with leading zeros and a zero byte at the end.
fn put_octal(field: &mut [u8], mut number: u64) {
    let Some((last, digits)) = field.split_last_mut() else { return };
    *last = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
}
