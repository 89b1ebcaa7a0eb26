use std::time::Duration;

use super::*;
use proptest::prelude::*;

const ETAG: &str = "\"a-1\"";
const MODIFIED: u64 = 784_111_777;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn validators() -> Validators {
    Validators { etag: ETAG.into(), modified: Some(at(MODIFIED)) }
}

fn list(text: &str) -> Option<Box<[u8]>> {
    Some(text.as_bytes().into())
}

#[test]
fn without_conditions_the_request_proceeds() {
    assert_eq!(evaluate(&Preconditions::default(), &validators()), Verdict::Proceed);
}

#[test]
fn if_match_compares_strongly() {
    let table = [
        ("*", Verdict::Proceed),
        (" * ", Verdict::Proceed),
        ("\"a-1\"", Verdict::Proceed),
        ("\"x\", \"a-1\"", Verdict::Proceed),
        ("\"x\",,\t\"a-1\" ,", Verdict::Proceed),
        ("\"x,\", \"a-1\"", Verdict::Proceed),
        ("W/\"a-1\"", Verdict::Failed),
        ("\"x\"", Verdict::Failed),
        ("\"A-1\"", Verdict::Failed),
        ("a-1", Verdict::Failed),
        ("\"x, \"a-1\"", Verdict::Failed),
        ("\"a-1", Verdict::Failed),
        ("\"a-1\"x", Verdict::Failed),
        ("\"\"", Verdict::Failed),
        ("*, \"a-1\"", Verdict::Failed),
        ("", Verdict::Failed),
    ];
    for (text, expected) in table {
        let preconditions = Preconditions { if_match: list(text), ..Default::default() };
        assert_eq!(evaluate(&preconditions, &validators()), expected, "{text}");
    }
}

#[test]
fn if_none_match_compares_weakly() {
    let table = [
        ("*", Verdict::NotModified),
        ("\"a-1\"", Verdict::NotModified),
        ("W/\"a-1\"", Verdict::NotModified),
        ("W/\"x\", W/\"a-1\"", Verdict::NotModified),
        ("w/\"a-1\"", Verdict::Proceed),
        ("\"x\"", Verdict::Proceed),
        ("\"x, a-1\"", Verdict::Proceed),
        ("a-1", Verdict::Proceed),
        ("", Verdict::Proceed),
    ];
    for (text, expected) in table {
        let preconditions = Preconditions { if_none_match: list(text), ..Default::default() };
        assert_eq!(evaluate(&preconditions, &validators()), expected, "{text}");
    }
}

#[test]
fn a_tag_with_a_comma_is_one_tag() {
    let validators = Validators { etag: "\"a,b\"".into(), modified: Some(at(MODIFIED)) };
    let preconditions = Preconditions { if_none_match: list("\"a\", \"a,b\""), ..Default::default() };
    assert_eq!(evaluate(&preconditions, &validators), Verdict::NotModified);
    let preconditions = Preconditions { if_none_match: list("\"a\", \"b\""), ..Default::default() };
    assert_eq!(evaluate(&preconditions, &validators), Verdict::Proceed);
}

#[test]
fn dates_compare_in_whole_seconds() {
    let table = [
        (MODIFIED - 1, Verdict::Proceed, Verdict::Failed),
        (MODIFIED, Verdict::NotModified, Verdict::Proceed),
        (MODIFIED + 1, Verdict::NotModified, Verdict::Proceed),
    ];
    let modified = Some(at(MODIFIED) + Duration::from_millis(900));
    let validators = Validators { modified, ..validators() };
    for (date, since, unmodified) in table {
        let preconditions = Preconditions { if_modified_since: Some(at(date)), ..Default::default() };
        assert_eq!(evaluate(&preconditions, &validators), since, "since {date}");
        let preconditions = Preconditions { if_unmodified_since: Some(at(date)), ..Default::default() };
        assert_eq!(evaluate(&preconditions, &validators), unmodified, "unmodified {date}");
    }
}

#[test]
fn tags_overrule_dates_and_failure_overrules_not_modified() {
    let none = Preconditions::default;
    let table = [
        // If-Match holds, so If-Unmodified-Since, which doesn't, is not looked at.
        (
            Preconditions { if_match: list("\"a-1\""), if_unmodified_since: Some(at(0)), ..none() },
            Verdict::Proceed,
        ),
        // If-None-Match differs, so If-Modified-Since, which would say 304, is not looked at.
        (
            Preconditions { if_none_match: list("\"x\""), if_modified_since: Some(at(MODIFIED)), ..none() },
            Verdict::Proceed,
        ),
        (
            Preconditions { if_none_match: list("\"a-1\""), if_modified_since: Some(at(0)), ..none() },
            Verdict::NotModified,
        ),
        (
            Preconditions { if_match: list("\"a-1\""), if_none_match: list("\"a-1\""), ..none() },
            Verdict::NotModified,
        ),
        (
            Preconditions { if_match: list("\"x\""), if_none_match: list("\"a-1\""), ..none() },
            Verdict::Failed,
        ),
        (
            Preconditions {
                if_unmodified_since: Some(at(MODIFIED)),
                if_modified_since: Some(at(MODIFIED)),
                ..none()
            },
            Verdict::NotModified,
        ),
    ];
    for (preconditions, expected) in table {
        assert_eq!(evaluate(&preconditions, &validators()), expected, "{preconditions:?}");
    }
}

#[test]
fn writes_proceed_where_every_condition_holds() {
    let none = Preconditions::default;
    let if_match = |text| Preconditions { if_match: list(text), ..none() };
    let if_none_match = |text| Preconditions { if_none_match: list(text), ..none() };
    let unmodified = |date| Preconditions { if_unmodified_since: Some(at(date)), ..none() };
    // Each row has conditions, whether the file of `validators` may be written, and whether an absent one may.
    let table = [
        (none(), true, true),
        (if_match("*"), true, false),
        (if_match("\"a-1\""), true, false),
        (if_match("\"x\", \"a-1\""), true, false),
        (if_match("\"x\""), false, false),
        (if_match("W/\"a-1\""), false, false),
        (if_match(""), false, false),
        (if_none_match("*"), false, true),
        (if_none_match(" * "), false, true),
        (if_none_match("\"a-1\""), false, true),
        (if_none_match("W/\"a-1\""), false, true),
        (if_none_match("\"x\""), true, true),
        (if_none_match(""), true, true),
        (unmodified(MODIFIED), true, false),
        (unmodified(MODIFIED + 1), true, false),
        (unmodified(MODIFIED - 1), false, false),
        // If-Modified-Since means nothing to a write.
        (Preconditions { if_modified_since: Some(at(MODIFIED)), ..none() }, true, true),
        // The tag overrules the date.
        (Preconditions { if_match: list("\"a-1\""), ..unmodified(0) }, true, false),
        (Preconditions { if_match: list("\"x\""), ..unmodified(MODIFIED) }, false, false),
        (Preconditions { if_none_match: list("\"x\""), ..unmodified(0) }, false, false),
        (Preconditions { if_none_match: list("*"), ..if_match("*") }, false, false),
        (Preconditions { if_none_match: list("\"x\""), ..if_match("\"a-1\"") }, true, false),
    ];
    for (preconditions, existing, absent) in table {
        assert_eq!(permits_write(&preconditions, Some(&validators())), existing, "{preconditions:?}");
        assert_eq!(permits_write(&preconditions, None), absent, "absent: {preconditions:?}");
    }
}

#[test]
fn if_range_wants_the_very_file() {
    let table = [
        ("\"a-1\"", true),
        ("\"x\"", false),
        ("W/\"a-1\"", false),
        ("\"a-1\", \"x\"", false),
        ("*", false),
        ("a-1", false),
        ("", false),
        // Not even the file's own date counts: within that second it may have had another content.
        ("Sun, 06 Nov 1994 08:49:37 GMT", false),
        ("Sun, 06 Nov 1994 08:49:36 GMT", false),
        ("Sunday, 06-Nov-94 08:49:37 GMT", false),
        ("yesterday", false),
    ];
    for (text, expected) in table {
        assert_eq!(range_applies(Some(text.as_bytes()), &validators()), expected, "{text}");
    }
    assert!(range_applies(None, &validators()));
}

#[test]
fn a_weak_tag_of_the_file_is_good_for_reading_again_alone() {
    let weak = Validators { etag: format!("W/{ETAG}"), ..validators() };
    for text in ["\"a-1\"", "W/\"a-1\""] {
        let matching = Preconditions { if_match: list(text), ..Default::default() };
        assert_eq!(evaluate(&matching, &weak), Verdict::Failed, "{text}");
        assert!(!permits_write(&matching, Some(&weak)), "{text}");
        let other = Preconditions { if_none_match: list(text), ..Default::default() };
        assert_eq!(evaluate(&other, &weak), Verdict::NotModified, "{text}");
        assert!(!permits_write(&other, Some(&weak)), "{text}");
        assert!(!range_applies(Some(text.as_bytes()), &weak), "{text}");
    }
    let any = Preconditions { if_match: list("*"), ..Default::default() };
    assert!(evaluate(&any, &weak) == Verdict::Proceed && permits_write(&any, Some(&weak)));
    assert!(range_applies(None, &weak));
}

#[test]
fn dates_say_nothing_of_a_file_that_has_none() {
    let dateless = Validators { modified: None, ..validators() };
    for date in [0, MODIFIED] {
        let since = Preconditions { if_modified_since: Some(at(date)), ..Default::default() };
        assert_eq!(evaluate(&since, &dateless), Verdict::Proceed);
        let unmodified = Preconditions { if_unmodified_since: Some(at(date)), ..Default::default() };
        assert_eq!(evaluate(&unmodified, &dateless), Verdict::Proceed);
        assert!(permits_write(&unmodified, Some(&dateless)));
        assert!(!permits_write(&unmodified, None));
    }
}

proptest! {
    #[test]
    fn a_tag_is_found_in_any_list_that_holds_it_and_in_no_other(
        tags in prop::collection::vec(("[a-c, ]{0,3}", any::<bool>()), 0..6),
        wanted in "[a-c, ]{0,3}",
        separator in prop::sample::select(vec![",", ", ", " ,\t", ",,"]),
    ) {
        let spelled: Vec<String> =
            tags.iter().map(|(tag, weak)| format!("{}\"{tag}\"", if *weak { "W/" } else { "" })).collect();
        let text = spelled.join(separator);
        let validators = Validators { etag: format!("\"{wanted}\""), modified: Some(at(0)) };
        let strong = tags.iter().any(|(tag, weak)| *tag == wanted && !weak);
        let weak = tags.iter().any(|(tag, _)| *tag == wanted);
        prop_assert_eq!(matches(text.as_bytes(), &validators, Comparison::Strong), strong);
        prop_assert_eq!(matches(text.as_bytes(), &validators, Comparison::Weak), weak);
    }

    /// A write with a condition is refused exactly where a read would have failed or found nothing new.
    #[test]
    fn a_write_is_refused_where_a_read_has_nothing_to_do(
        if_match in prop::option::of("(\\*|(W/)?\"[ax]-1\"(, \"[ax]-1\")?)?"),
        if_none_match in prop::option::of("(\\*|(W/)?\"[ax]-1\"(, \"[ax]-1\")?)?"),
        unmodified in prop::option::of(MODIFIED - 1..=MODIFIED + 1),
    ) {
        let preconditions = Preconditions {
            if_match: if_match.as_deref().and_then(list),
            if_none_match: if_none_match.as_deref().and_then(list),
            if_unmodified_since: unmodified.map(at),
            ..Default::default()
        };
        let read = evaluate(&preconditions, &validators());
        prop_assert_eq!(permits_write(&preconditions, Some(&validators())), read == Verdict::Proceed);
    }

    #[test]
    fn no_list_panics(field: Vec<u8>) {
        let _ = matches(&field, &validators(), Comparison::Weak);
        let _ = range_applies(Some(&field), &validators());
        let _ = permits_write(&Preconditions { if_match: Some(field.into()), ..Default::default() }, None);
    }
}
