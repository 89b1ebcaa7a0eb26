use std::time::Duration;

use super::*;
use proptest::prelude::*;

const ETAG: &str = "\"a-1\"";
const MODIFIED: u64 = 784_111_777;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn validators() -> Validators {
    Validators { etag: ETAG.into(), modified: at(MODIFIED) }
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
    let validators = Validators { etag: "\"a,b\"".into(), modified: at(MODIFIED) };
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
    let validators = Validators { modified: at(MODIFIED) + Duration::from_millis(900), ..validators() };
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
        // If-Match holds: If-Unmodified-Since, which does not, is not looked at.
        (
            Preconditions { if_match: list("\"a-1\""), if_unmodified_since: Some(at(0)), ..none() },
            Verdict::Proceed,
        ),
        // If-None-Match differs: If-Modified-Since, which would say 304, is not looked at.
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
fn if_range_wants_the_very_file() {
    let table = [
        ("\"a-1\"", true),
        ("\"x\"", false),
        ("W/\"a-1\"", false),
        ("\"a-1\", \"x\"", false),
        ("*", false),
        ("a-1", false),
        ("", false),
        ("Sun, 06 Nov 1994 08:49:37 GMT", true),
        ("Sun, 06 Nov 1994 08:49:36 GMT", false),
        ("Sun, 06 Nov 1994 08:49:38 GMT", false),
        ("Sunday, 06-Nov-94 08:49:37 GMT", true),
        ("yesterday", false),
    ];
    for (text, expected) in table {
        assert_eq!(range_applies(Some(text.as_bytes()), &validators()), expected, "{text}");
    }
    assert!(range_applies(None, &validators()));
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
        let validators = Validators { etag: format!("\"{wanted}\""), modified: at(0) };
        let strong = tags.iter().any(|(tag, weak)| *tag == wanted && !weak);
        let weak = tags.iter().any(|(tag, _)| *tag == wanted);
        prop_assert_eq!(matches(text.as_bytes(), &validators, Comparison::Strong), strong);
        prop_assert_eq!(matches(text.as_bytes(), &validators, Comparison::Weak), weak);
    }

    #[test]
    fn no_list_panics(field: Vec<u8>) {
        let _ = matches(&field, &validators(), Comparison::Weak);
        let _ = range_applies(Some(&field), &validators());
    }
}
