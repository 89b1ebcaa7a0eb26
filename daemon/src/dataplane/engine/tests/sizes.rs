//! Ten thousand transfers at once are mostly their futures.

use std::ops::Range;

use super::super::super::platform::simulated::CHOICE_BYTES;
use super::super::transfer::Transfer;
use super::super::window::Window;
use super::super::{check, copy, send_range, send_synthetic, sendfile, splice};
use crate::files::{SourceFile, Synthetic};
use crate::protocol::range::ByteRange;

/// The future of a function of three parameters.
fn of_three<'a, A, B, F: Future>(_: impl Fn(&'a mut Transfer<'a>, A, B) -> F) -> usize {
    size_of::<F>()
}

fn of_four<'a, A, B, C, F: Future>(_: impl Fn(&'a mut Transfer<'a>, A, B, C) -> F) -> usize {
    size_of::<F>()
}

fn of_five<'a, A, B, C, D, F: Future>(_: impl Fn(&'a mut Transfer<'a>, A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

fn of_check<'a, F: Future>(_: impl Fn(&'a Transfer<'a>, &'a SourceFile) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_transfer_and_its_futures_take_no_more_memory_than_they_did() {
    for (what, bytes, bytes_max) in [
        ("a transfer", size_of::<Transfer<'static>>(), 88),
        ("a range", of_five::<Vec<u8>, &SourceFile, ByteRange, bool, _>(send_range), 800),
        ("a payload", of_four::<&[u8], Range<usize>, bool, _>(Transfer::send_payload), 448),
        ("a head and a body", of_three::<&[u8], &[u8], _>(Transfer::send_both), 544),
        ("copy", of_five::<Vec<u8>, &SourceFile, Window, bool, _>(copy::send_window), 616),
        ("splice", of_five::<Vec<u8>, &SourceFile, Window, bool, _>(splice::send_window), 712),
        ("sendfile", of_three::<&SourceFile, Window, _>(sendfile::send_window), 496),
        ("a look at the file", of_check(check), 56),
        ("random bytes", of_three::<&Synthetic, u64, _>(send_synthetic), 408),
    ] {
        let waits = !["a transfer", "a look at the file"].contains(&what);
        let choice_bytes = if waits { CHOICE_BYTES } else { 0 };
        assert!(bytes <= bytes_max + choice_bytes, "{what}: {bytes} bytes instead of {bytes_max}");
    }
}
