use super::*;
use proptest::prelude::*;

fn ranges(expected: &[(u64, u64)]) -> Selection {
    Selection::Ranges(expected.iter().map(|&(start, length)| ByteRange { start, length }).collect())
}

#[test]
fn ranges_inside_the_file_are_taken_as_asked() {
    let table: [(&str, &[(u64, u64)]); 18] = [
        ("bytes=0-0", &[(0, 1)]),
        ("bytes=0-9", &[(0, 10)]),
        ("bytes=3-5", &[(3, 3)]),
        ("bytes=9-9", &[(9, 1)]),
        ("bytes=4-", &[(4, 6)]),
        ("bytes=0-", &[(0, 10)]),
        ("bytes=-3", &[(7, 3)]),
        ("bytes=-10", &[(0, 10)]),
        ("bytes=-11", &[(0, 10)]),
        ("bytes=5-100", &[(5, 5)]),
        ("bytes=5-18446744073709551615", &[(5, 5)]),
        ("bytes=-18446744073709551615", &[(0, 10)]),
        ("BYTES=1-2", &[(1, 2)]),
        ("bytes=7-8,0-1", &[(7, 2), (0, 2)]),
        ("bytes=0-3,2-4", &[(0, 4), (2, 3)]),
        ("bytes= 0 - 1\t, 2-3 ", &[(0, 2), (2, 2)]),
        ("bytes=0-1,99-,5-2,-0,-1", &[(0, 2), (9, 1)]),
        ("bytes=00000000000000000000000000000000000000000001-2", &[(1, 2)]),
    ];
    for (field, expected) in table {
        assert_eq!(select(field.as_bytes(), 10), ranges(expected), "{field}");
    }
}

#[test]
fn what_is_not_about_bytes_is_ignored() {
    for field in ["", "bytes", "bytes=", "bytes 0-1", "bytes =0-1", "items=0-1", "byte=0-1", "lines=x"] {
        assert_eq!(select(field.as_bytes(), 10), Selection::Whole, "{field}");
    }
}

#[test]
fn malformed_and_unsatisfiable_ranges_are_416() {
    let table = [
        "bytes=-0",
        "bytes=10-",
        "bytes=10-20",
        "bytes=5-2",
        "bytes=99-,10-11",
        "bytes=x",
        "bytes=-",
        "bytes=1",
        "bytes=1-x",
        "bytes=1-2x",
        "bytes=--1",
        "bytes=- 1",
        "bytes=+1-2",
        "bytes=1-+2",
        "bytes=,",
        "bytes=,0-1",
        "bytes=0-1,",
        "bytes=0-1,,2-3",
        "bytes=0-1;2-3",
        "bytes=0-1 2-3",
        "bytes=0x1-2",
        "bytes= ",
        "bytes=\u{661}-2",
        "bytes=18446744073709551616-",
        "bytes=0-18446744073709551616",
        "bytes=-18446744073709551616",
        "bytes=0-1,x",
        "bytes=0-1-2",
    ];
    for field in table {
        assert_eq!(select(field.as_bytes(), 10), Selection::Unsatisfiable, "{field}");
    }
}

#[test]
fn ranges_that_add_up_to_more_than_the_file_give_the_file() {
    assert_eq!(select(b"bytes=0-9,0-0", 10), Selection::Whole);
    assert_eq!(select(b"bytes=0-,-1", 10), Selection::Whole);
    assert_eq!(select(b"bytes=0-4,5-9", 10), ranges(&[(0, 5), (5, 5)]));
    // The sum passes 2^64 (nginx CVE-2017-7529 was such a sum).
    assert_eq!(select(b"bytes=0-,0-,0-", u64::MAX), Selection::Whole);
}

#[test]
fn more_than_256_ranges_give_the_file() {
    let list = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
    assert_eq!(select(list(256).as_bytes(), 1000), ranges(&[(0, 1); 256]));
    assert_eq!(select(list(257).as_bytes(), 1000), Selection::Whole);
    // Ranges that are dropped don't count.
    assert_eq!(select(format!("{},5000-", list(256)).as_bytes(), 1000), ranges(&[(0, 1); 256]));
}

#[test]
fn an_empty_file_is_given_whole_from_its_start() {
    for field in ["bytes=0-", "bytes=0-0", "bytes=0-100", "bytes=-1", "bytes=-0", "bytes=1-,0-"] {
        assert_eq!(select(field.as_bytes(), 0), Selection::Whole, "{field}");
    }
    for field in ["bytes=1-", "bytes=1-2", "bytes=x"] {
        assert_eq!(select(field.as_bytes(), 0), Selection::Unsatisfiable, "{field}");
    }
}

#[test]
fn the_ends_of_the_largest_file_are_reached() {
    let size = u64::MAX;
    assert_eq!(select(b"bytes=-1", size), ranges(&[(size - 1, 1)]));
    assert_eq!(select(b"bytes=0-", size), ranges(&[(0, size)]));
    assert_eq!(select(b"bytes=18446744073709551615-", size), Selection::Unsatisfiable);
    assert_eq!(select(b"bytes=18446744073709551614-", size), ranges(&[(size - 1, 1)]));
}

#[test]
fn the_last_byte_is_inclusive() {
    assert_eq!(ByteRange { start: 5, length: 3 }.last(), 7);
    assert_eq!(ByteRange { start: u64::MAX - 1, length: 1 }.last(), u64::MAX - 1);
    assert_eq!(ByteRange { start: 4, length: 0 }.last(), 4);
}

/// Reads a list in the plainest way, by marking each byte of a small file.
fn model(specs: &[(Option<u64>, Option<u64>)], size: u64) -> Selection {
    let mut found = Vec::new();
    for &(first, last) in specs {
        let wanted: Vec<u64> = (0..size)
            .filter(|&byte| match (first, last) {
                (Some(first), Some(last)) => byte >= first && byte <= last,
                (Some(first), None) => byte >= first,
                (None, Some(length)) => byte + length >= size,
                (None, None) => false,
            })
            .collect();
        if let Some(&start) = wanted.first() {
            found.push((start, wanted.len() as u64));
        }
    }
    if found.len() > RANGES_MAX || found.iter().map(|&(_, length)| length).sum::<u64>() > size {
        return Selection::Whole;
    }
    if found.is_empty() { Selection::Unsatisfiable } else { ranges(&found) }
}

fn spec() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
    prop_oneof![
        (0..40u64, 0..40u64).prop_map(|(first, last)| (Some(first), Some(last))),
        (0..40u64).prop_map(|first| (Some(first), None)),
        (0..40u64).prop_map(|length| (None, Some(length))),
    ]
}

fn spell(spec: &(Option<u64>, Option<u64>)) -> String {
    let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    format!("{}-{}", number(spec.0), number(spec.1))
}

proptest! {
    #[test]
    fn selections_agree_with_the_model(
        specs in prop::collection::vec(spec(), 1..20),
        size in 1..60u64,
        separator in prop::sample::select(vec![",", ", ", "\t,"]),
    ) {
        let field = format!("bytes={}", specs.iter().map(spell).collect::<Vec<_>>().join(separator));
        prop_assert_eq!(select(field.as_bytes(), size), model(&specs, size), "{} of {}", field, size);
    }

    #[test]
    fn selected_ranges_lie_inside_the_file(
        field in "bytes=([0-9]{0,20}-[0-9]{0,20},?){1,20}",
        size: u64,
    ) {
        if let Selection::Ranges(ranges) = select(field.as_bytes(), size) {
            prop_assert!((1..=RANGES_MAX).contains(&ranges.len()));
            let mut sum = 0u64;
            for range in ranges {
                prop_assert!(range.length > 0);
                prop_assert!(range.start.checked_add(range.length).is_some_and(|end| end <= size));
                prop_assert_eq!(range.last(), range.start + range.length - 1);
                sum = sum.checked_add(range.length).unwrap();
            }
            prop_assert!(sum <= size);
        }
    }

    #[test]
    fn no_field_panics(field: Vec<u8>, size: u64) {
        let _ = select(&field, size);
        let _ = select(&[b"bytes=".as_slice(), &field].concat(), size);
    }
}
