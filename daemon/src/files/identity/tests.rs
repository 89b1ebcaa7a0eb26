use super::*;

const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A state that the kernel gave its times a minute before [`NOW`].
fn stamp() -> Stamp {
    let changed = Moment { seconds: NOW as i64 - 60, nanoseconds: 5 };
    Stamp { size: 10, modified: Moment { seconds: 499_162_500, nanoseconds: 0 }, changed, inode: 7 }
}

fn node(stamp: &Stamp, change_time: ChangeTime) -> String {
    stamp.etag(EtagChoice::Node, change_time, &Recorded::default(), at(NOW))
}

fn digested() -> Recorded {
    Recorded { digests: Digests { sha256: Some([0xab; 32]), crc32c: None }, is_published: false }
}

#[test]
fn whatever_differs_gives_another_tag() {
    let before_1970 = |seconds, nanoseconds| Moment { seconds, nanoseconds };
    let states = [
        stamp(),
        Stamp { size: 11, ..stamp() },
        Stamp { inode: 8, ..stamp() },
        Stamp { modified: before_1970(0, 0), ..stamp() },
        Stamp { modified: before_1970(1, 0), ..stamp() },
        Stamp { modified: before_1970(-1, 0), ..stamp() },
        Stamp { modified: before_1970(-1, 999_999_999), ..stamp() },
        Stamp { modified: before_1970(-2_000_000_000, 0), ..stamp() },
        Stamp { modified: before_1970(i64::MIN, 0), ..stamp() },
        Stamp { changed: Moment { nanoseconds: 6, ..stamp().changed }, ..stamp() },
        Stamp { changed: Moment { seconds: 1, nanoseconds: 5 }, ..stamp() },
    ];
    let tags: std::collections::HashSet<_> =
        states.iter().map(|stamp| node(stamp, ChangeTime::Kept)).collect();
    assert_eq!(tags.len(), states.len());
    assert!(tags.iter().all(|tag| tag.starts_with('"') && tag.ends_with('"') && tag.len() == 26), "{tags:?}");
    assert_eq!(node(&stamp(), ChangeTime::Kept), node(&stamp(), ChangeTime::Kept));
}

#[test]
fn a_tag_is_strong_where_its_state_is_the_only_one() {
    let aged = |milliseconds: u64| {
        let changed = at(NOW) - Duration::from_millis(milliseconds);
        let since = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Moment { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos().max(1) }
    };
    let whole = Moment { nanoseconds: 0, ..stamp().changed };
    let future = Moment { seconds: NOW as i64 + 60, nanoseconds: 5 };
    for (changed, change_time, is_strong) in [
        (aged(60_000), ChangeTime::Kept, true),
        (aged(2_001), ChangeTime::Kept, true),
        (aged(1_999), ChangeTime::Kept, false),
        (aged(0), ChangeTime::Kept, false),
        // In these cases the clock was set back, or the times came with an image.
        (future, ChangeTime::Kept, false),
        (whole, ChangeTime::Kept, false),
        (aged(60_000), ChangeTime::KeptWhereDistinct, true),
        (aged(60_000), ChangeTime::Unproven, false),
    ] {
        let tag = node(&Stamp { changed, ..stamp() }, change_time);
        assert_eq!(tag.starts_with('"'), is_strong, "{changed:?} {change_time:?}: {tag}");
        assert!(is_strong || tag.starts_with("W/\""), "{tag}");
    }
    let copied = Stamp { modified: stamp().changed, ..stamp() };
    assert!(node(&copied, ChangeTime::Kept).starts_with('"'));
    assert!(node(&copied, ChangeTime::KeptWhereDistinct).starts_with("W/"), "a layer may be an image");
    // A tag that becomes strong is the weak one without its mark.
    let young = Stamp { changed: aged(1), ..stamp() };
    let later = young.etag(EtagChoice::Node, ChangeTime::Kept, &Recorded::default(), at(NOW + 10));
    assert_eq!(node(&young, ChangeTime::Kept), format!("W/{later}"));
}

#[test]
fn what_was_published_here_needs_no_age() {
    let young = Stamp { changed: Moment { seconds: NOW as i64, nanoseconds: 5 }, ..stamp() };
    let published = Recorded { is_published: true, ..Recorded::default() };
    for (change_time, is_strong) in [(ChangeTime::Kept, true), (ChangeTime::Unproven, false)] {
        let tag = young.etag(EtagChoice::Node, change_time, &published, at(NOW));
        assert_eq!(tag.starts_with('"'), is_strong, "{change_time:?}");
    }
}

#[test]
fn the_tag_of_a_content_waits_for_its_digest_and_times_are_always_weak() {
    let tag = |choice, recorded: &Recorded| stamp().etag(choice, ChangeTime::Kept, recorded, at(NOW));
    assert_eq!(tag(EtagChoice::Digest, &digested()), "\"sha256-abababababababababababababababab\"");
    assert_eq!(
        tag(EtagChoice::Digest, &Recorded::default()),
        format!("W/{}", node(&stamp(), ChangeTime::Kept))
    );
    assert_eq!(tag(EtagChoice::Node, &digested()), node(&stamp(), ChangeTime::Kept));
    assert_eq!(tag(EtagChoice::Times, &digested()), "W/\"a-1dc09d84\"");
    let times = |seconds, nanoseconds| {
        let modified = Moment { seconds, nanoseconds };
        let other = Stamp { modified, inode: 9, changed: Moment::default(), ..stamp() };
        other.etag(EtagChoice::Times, ChangeTime::Unproven, &Recorded::default(), at(NOW))
    };
    assert_eq!(
        times(499_162_500, 999),
        tag(EtagChoice::Times, &Recorded::default()),
        "as tar or scp copies it"
    );
    assert_eq!(times(-5, 0), "W/\"a--5\"");
    assert_ne!(times(-5, 0), times(5, 0));
}

#[test]
fn a_last_modification_is_never_in_the_future_and_never_before_1970() {
    let moment = |seconds, nanoseconds| Moment { seconds, nanoseconds };
    let now = NOW as i64;
    for (modified, changed, expected) in [
        (moment(5, 9), moment(now, 1), Some(5)),
        (moment(now, 0), moment(now, 1), Some(NOW)),
        // The clock is ahead: the change time tells when the file came here.
        (moment(now + 1, 0), moment(now - 9, 1), Some(NOW - 9)),
        (moment(now + 1, 0), moment(now + 1, 0), Some(NOW)),
        (moment(i64::MAX, 999_999_999), moment(now - 9, 1), Some(NOW - 9)),
        (moment(0, 0), moment(now, 1), Some(0)),
        (moment(-1, 999_999_999), moment(now, 1), None),
        (moment(i64::MIN, 0), moment(now, 1), None),
    ] {
        let shown = Stamp { modified, changed, ..stamp() }.last_modified(at(NOW));
        let seconds = shown.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds, expected, "{modified:?}");
    }
}

#[test]
fn a_file_may_differ_by_all_but_links_and_rights() {
    let observed = |stamp| Observed { stamp, links: 1, mode: 0o644, owners: (0, 0) };
    let opened = observed(stamp());
    let rechanged = Stamp { changed: Moment { seconds: NOW as i64, nanoseconds: 1 }, ..stamp() };
    let rewritten = Stamp { modified: Moment { seconds: NOW as i64, nanoseconds: 1 }, ..rechanged };
    for (later, may_differ, may_differ_elsewhere) in [
        (opened, false, false),
        (observed(rewritten), true, true),
        (observed(Stamp { size: 11, ..rechanged }), true, true),
        // The file was written, and its time put back.
        (observed(rechanged), true, false),
        // The file was replaced by a rename, which takes a link from it; linked elsewhere; made readable.
        (Observed { links: 0, ..observed(rechanged) }, false, false),
        (Observed { links: 2, ..observed(rechanged) }, false, false),
        (Observed { mode: 0o600, ..observed(rechanged) }, false, false),
        (Observed { owners: (0, 1), ..observed(rechanged) }, false, false),
        (Observed { links: 0, ..observed(rewritten) }, true, true),
    ] {
        assert_eq!(opened.may_differ(&later, ChangeTime::Kept), may_differ, "{later:?}");
        assert_eq!(opened.may_differ(&later, ChangeTime::Unproven), may_differ_elsewhere, "{later:?}");
    }
}
