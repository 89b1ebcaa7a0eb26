//! HTTP dates (RFC 9110 5.6.7) and ISO dates: whole seconds, years 1970 to 9999.

use std::time::{Duration, SystemTime};

/// 9999-12-31T23:59:59Z, the last second that an IMF-fixdate can spell, in seconds since the epoch.
const LAST_SECOND: u64 = 253_402_300_799;

/// Writes `time` as an IMF-fixdate, 29 bytes, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// A file's modification time can be anything; times before 1970 or after 9999 are clamped, because `httpdate`
/// panics on them.
#[must_use]
pub fn http_date(time: SystemTime) -> String {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let clamped = since_epoch.min(Duration::from_secs(LAST_SECOND));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + clamped)
}

/// `time` as ISO 8601 has it, to the second and in UTC: `1994-11-06T08:49:37Z`, 20 bytes. Clamped as [`http_date`] is.
#[must_use]
pub fn iso_date(time: SystemTime) -> String {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let clamped = since_epoch.min(Duration::from_secs(LAST_SECOND));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + clamped).to_string()
}

/// Parses a date in any of the three formats of RFC 9110 5.6.7; `None` when the field is none.
#[must_use]
pub fn parse_http_date(field: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(field).ok()?).ok()
}

/// Returns the seconds since the epoch, rounded down, negative before it: the resolution in which HTTP dates are
/// compared.
pub(super) fn whole_seconds(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::from(after.as_secs()),
        Err(error) => {
            let before = error.duration();
            -i128::from(before.as_secs()) - i128::from(before.subsec_nanos() > 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_are_spelled_as_imf_fixdate() {
        assert_eq!(http_date(at(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            http_date(at(784_111_777) + Duration::from_nanos(999_999_999)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }

    #[test]
    fn times_that_no_http_date_can_spell_are_clamped() {
        assert_eq!(
            http_date(SystemTime::UNIX_EPOCH - Duration::from_secs(5)),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
        assert_eq!(http_date(at(LAST_SECOND)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(http_date(at(LAST_SECOND + 1)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn iso_dates_are_of_the_same_years() {
        for (time, text) in [
            (at(784_111_777), "1994-11-06T08:49:37Z"),
            (SystemTime::UNIX_EPOCH - Duration::from_secs(5), "1970-01-01T00:00:00Z"),
            (at(LAST_SECOND + 1), "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso_date(time), text);
        }
    }

    #[test]
    fn the_three_formats_parse_and_others_do_not() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), Some(at(784_111_777)), "{text}");
        }
        for text in
            ["", "0", "Sun, 06 Nov 1994 08:49:37", "1994-11-06T08:49:37Z", "Sun, 32 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_http_date(b"\xff\xfe"), None);
    }

    #[test]
    fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
        assert_eq!(whole_seconds(at(7) + Duration::from_millis(999)), 7);
        assert_eq!(whole_seconds(SystemTime::UNIX_EPOCH - Duration::from_millis(1)), -1);
        assert_eq!(whole_seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(2)), -2);
    }

    proptest! {
        #[test]
        fn dates_round_trip(seconds in 0..=LAST_SECOND) {
            let text = http_date(at(seconds));
            prop_assert_eq!(text.len(), 29);
            prop_assert_eq!(parse_http_date(text.as_bytes()), Some(at(seconds)));
        }

        #[test]
        fn parsing_never_panics(field: Vec<u8>) {
            let _ = parse_http_date(&field);
        }
    }
}
