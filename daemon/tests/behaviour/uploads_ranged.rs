//! Tests of uploads that are continued by `Content-Range`: PUT of a part says which bytes it brings.

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, chunked, each_uploading, get, partials, pattern, put,
    put_text, request, request_text, uploading, wait_until,
};

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| settings, test);
}

/// Sends a PUT of `content[from..to]` with its range.
fn put_part(daemon: &TestDaemon, path: &str, content: &[u8], from: usize, to: usize) -> Response {
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, content.len());
    put(daemon.data(), path, &range, &content[from..to])
}

/// Checks that `response` says that the upload goes on at `expected` and not at `provided`.
fn assert_goes_on_at(response: &Response, expected: usize, provided: usize) {
    assert_eq!(response.status, 409);
    assert_eq!(response.field("Upload-Offset"), Some(expected.to_string().as_str()));
    assert_eq!(response.problem_kind(), "mismatching-upload-offset");
    let document = response.problem_document();
    assert_eq!(
        (&document["expected-offset"], &document["provided-offset"]),
        (&expected.into(), &provided.into())
    );
}

/// Returns the id of the upload that was begun.
fn id_of(begun: &Response) -> String {
    begun.field("Upload-Id").unwrap().to_owned()
}

/// Cuts a PUT of `content` short after `count` bytes of it, and waits until that much can be gone on with.
fn cut_short(daemon: &TestDaemon, path: &str, content: &[u8], count: usize) {
    cut_short_with(daemon, path, "", content, count);
}

fn cut_short_with(daemon: &TestDaemon, path: &str, fields: &str, content: &[u8], count: usize) {
    let mut connection = Connection::open(daemon.data());
    let text = put_text(path, fields, content);
    connection.send(&text[..text.len() - content.len() + count]);
    connection.finish();
    // There is no answer, or one that nobody waits for.
    let _ = connection.receive_what_comes();
    let length = content.len();
    wait_until("the upload to be kept", || {
        // Nothing of this part is taken: more than one byte has come.
        let response = put(daemon.data(), path, &format!("Content-Range: bytes 1-1/{length}\r\n"), b"x");
        assert_eq!(response.status, 409, "{}", response.text());
        response.field("Upload-Offset").is_some_and(|offset| offset == count.to_string())
    });
}

#[test]
fn parts_one_after_the_other_become_the_file() {
    let content = pattern(1_000);
    each_daemon(|daemon, fixture| {
        for (path, before, last) in [("/new", None, 201), ("/old", Some("old content"), 204)] {
            if let Some(text) = before {
                fixture.write(&path[1..], text.as_bytes());
            }
            for (from, to) in [(0, 1), (1, 400), (400, 999)] {
                let response = put_part(daemon, path, &content, from, to);
                assert_eq!(response.status, 202, "{path} {from}");
                assert_eq!(response.field("Upload-Offset"), Some(to.to_string().as_str()), "{path}");
                assert_eq!(response.field("ETag"), None, "of which file?");
                // The answer has the tag of the published file, though no byte of it is sent.
                let head = request(daemon.data(), "HEAD", path, "");
                match before {
                    None => assert_eq!(head.status, 404),
                    Some(text) => assert_eq!((head.status, head.content_length()), (200, text.len())),
                }
                assert_eq!(head.field("Upload-Offset"), None);
            }
            let response = put_part(daemon, path, &content, 999, 1_000);
            assert_eq!(response.status, last, "{path}");
            let seen = get(daemon.data(), path, "");
            assert!(seen.body == content, "{path}");
            assert_eq!(response.field("ETag"), seen.field("ETag"), "{path}");
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_part_may_be_the_whole() {
    each_daemon(|daemon, fixture| {
        assert_eq!(put_part(daemon, "/file", b"hello", 0, 5).status, 201);
        assert_eq!(put_part(daemon, "/file", b"hello!", 0, 6).status, 204);
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello!");
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn an_upload_that_was_cut_short_is_gone_on_with() {
    let content = pattern(5 * MIB + 77);
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"content");
        for cut in [3 * MIB + 1, content.len() - 1] {
            cut_short(daemon, "/file", &content, cut);
            assert_eq!(get(daemon.data(), "/file", "").content_length(), 7);
            assert_goes_on_at(&put_part(daemon, "/file", &content, cut - 1, content.len()), cut, cut - 1);
            assert_goes_on_at(&put_part(daemon, "/file", &content, 1, 2), cut, 1);
            assert_eq!(put_part(daemon, "/file", &content, cut, content.len()).status, 204);
            assert!(get(daemon.data(), "/file", "").body == content);
            assert!(partials(fixture.path()).is_empty());
            assert_eq!(put(daemon.data(), "/file", "", b"content").status, 204);
        }
        // The continued upload is cut short again, whatever it brought.
        cut_short(daemon, "/file", &content, 2 * MIB);
        let mut connection = Connection::open(daemon.data());
        let range = format!("Content-Range: bytes {}-{}/{}\r\n", 2 * MIB, content.len() - 1, content.len());
        let text = put_text("/file", &range, &content[2 * MIB..]);
        let head_bytes = text.len() - (content.len() - 2 * MIB);
        connection.send(&text[..head_bytes + 10]);
        connection.finish();
        let _ = connection.receive_what_comes();
        wait_until("ten more bytes", || {
            let response = put_part(daemon, "/file", &content, 1, 2);
            response.field("Upload-Offset") == Some((2 * MIB + 10).to_string().as_str())
        });
        assert_eq!(put_part(daemon, "/file", &content, 2 * MIB + 10, content.len()).status, 204);
        assert!(get(daemon.data(), "/file", "").body == content);
    });
}

#[test]
fn of_little_or_unknown_length_nothing_is_kept() {
    let content = pattern(3 * MIB);
    each_daemon(|daemon, fixture| {
        let mut short = Connection::open(daemon.data());
        short.send(&put_text("/file", "", &content)[..500_000]);
        let mut endless = Connection::open(daemon.data());
        endless.send(request_text("PUT", "/file", "Transfer-Encoding: chunked\r\n"));
        endless.send(&chunked(&content, 65_536)[..2 * MIB]);
        wait_until("two uploads", || partials(fixture.path()).len() == 2);
        for mut connection in [short, endless] {
            connection.finish();
            let _ = connection.receive_what_comes();
        }
        wait_until("the uploads to be gone", || partials(fixture.path()).is_empty());
        assert_goes_on_at(&put_part(daemon, "/file", &content, 1, 2), 0, 1);
    });
}

#[test]
fn the_first_byte_starts_anew() {
    let content = pattern(3 * MIB);
    each_daemon(|daemon, fixture| {
        cut_short(daemon, "/file", &content, 2 * MIB);
        let other = pattern(2_000).into_iter().rev().collect::<Vec<u8>>();
        let begun = put_part(daemon, "/file", &other, 0, 500);
        assert_eq!(begun.status, 202);
        // The former upload may be another client's.
        assert_eq!(partials(fixture.path()).len(), 2);
        // This client's own upload is given up.
        let again = format!("Upload-Id: {}\r\nContent-Range: bytes 0-699/2000\r\n", id_of(&begun));
        let begun = put(daemon.data(), "/file", &again, &other[..700]);
        assert_eq!((begun.status, partials(fixture.path()).len()), (202, 2));
        assert_goes_on_at(&put_part(daemon, "/file", &other, 500, 2_000), 700, 500);
        assert_eq!(put_part(daemon, "/file", &other, 700, 2_000).status, 201);
        assert!(get(daemon.data(), "/file", "").body == other);
        assert_eq!(put_part(daemon, "/file", &content, 2 * MIB, content.len()).status, 204);
        assert!(get(daemon.data(), "/file", "").body == content);
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_whole_put_and_a_ranged_one_do_not_touch_each_other() {
    let content = pattern(1_000);
    each_daemon(|daemon, _| {
        assert_eq!(put_part(daemon, "/file", &content, 0, 500).status, 202);
        assert_eq!(put(daemon.data(), "/file", "", b"whole").status, 201);
        assert_eq!(get(daemon.data(), "/file", "").text(), "whole");
        assert_eq!(put_part(daemon, "/file", &content, 500, 1_000).status, 204);
        assert!(get(daemon.data(), "/file", "").body == content);
    });
}

#[test]
fn another_length_is_another_upload() {
    let content = pattern(1_000);
    each_daemon(|daemon, _| {
        assert_eq!(put_part(daemon, "/file", &content, 0, 500).status, 202);
        assert_goes_on_at(&put_part(daemon, "/file", &content[..900], 500, 900), 0, 500);
        assert_eq!(put_part(daemon, "/file", &content, 500, 1_000).status, 201);
    });
}

#[test]
fn conditions_hold_for_the_file_and_not_for_the_part() {
    let content = pattern(1_000);
    each_daemon(|daemon, fixture| {
        let ranged = |range: &str, body: &[u8]| {
            let fields = format!("If-None-Match: *\r\nContent-Range: bytes {range}/1000\r\n");
            put(daemon.data(), "/file", &fields, body)
        };
        assert_eq!(ranged("0-499", &content[..500]).status, 202);
        fixture.write("file", b"content");
        assert_eq!(ranged("500-999", &content[500..]).status, 412);
        assert_eq!(std::fs::read(fixture.path().join("file")).unwrap(), b"content");
        std::fs::remove_file(fixture.path().join("file")).unwrap();
    });
}

/// The conditions of the first part hold until the rename, though the last one doesn't repeat them; so do those of
/// a whole PUT that was cut short.
#[test]
fn conditions_of_the_beginning_hold_at_the_end() {
    let content = pattern(2 * MIB);
    each_daemon(|daemon, fixture| {
        let wants_new = "If-None-Match: *\r\n";
        cut_short_with(daemon, "/whole", wants_new, &content, MIB);
        let fields = format!("{wants_new}Content-Range: bytes 0-{}/{}\r\n", MIB - 1, 2 * MIB);
        assert_eq!(put(daemon.data(), "/part", &fields, &content[..MIB]).status, 202);
        for name in ["whole", "part"] {
            fixture.write(name, b"content");
            assert_eq!(put_part(daemon, &format!("/{name}"), &content, MIB, 2 * MIB).status, 412, "{name}");
            assert_eq!(std::fs::read(fixture.path().join(name)).unwrap(), b"content");
            std::fs::remove_file(fixture.path().join(name)).unwrap();
        }
    });
}

#[test]
fn a_range_that_says_nothing_is_400() {
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"content");
        for range in [
            "bytes */10",
            "bytes */",
            "bytes 0-4/*",
            "bytes */*",
            "bytes 0-10/10",
            "bytes 4-0/10",
            "items 0-4/10",
            "bytes=0-4/10",
            "0-4/10",
            "",
            "bytes 0-4/18446744073709551616",
            // The range isn't as long as the body.
            "bytes 0-3/10",
            "bytes 0-5/10",
            "bytes 0-9/10",
        ] {
            for path in ["/file", "/absent"] {
                let response = put(daemon.data(), path, &format!("Content-Range: {range}\r\n"), b"hello");
                assert_eq!(response.status, 400, "{range}");
                response.problem();
            }
        }
        let twice = "Content-Range: bytes 0-4/10\r\nContent-Range: bytes 0-4/10\r\n";
        assert_eq!(put(daemon.data(), "/file", twice, b"hello").status, 400);
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        assert_eq!(get(daemon.data(), "/absent", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_chunked_part_brings_what_it_says() {
    let content = pattern(1_000);
    each_daemon(|daemon, fixture| {
        let part = |path: &str, range: &str, body: &[u8]| {
            let mut connection = Connection::open(daemon.data());
            let fields = format!("Transfer-Encoding: chunked\r\nContent-Range: bytes {range}/1000\r\n");
            connection.send(request_text("PUT", path, &fields));
            connection.send(chunked(body, 64));
            connection.response_to("PUT")
        };
        // A body that is longer than its range is refused, even if the file is longer still.
        assert_eq!(part("/much", "0-499", &content[..600]).status, 400);
        assert_goes_on_at(&part("/much", "500-999", &content[500..]), 0, 500);
        // The body has a byte more and a byte less than the range.
        assert_eq!(part("/more", "0-499", &content[..500]).status, 202);
        assert_eq!(part("/more", "500-999", &[&content[500..], b"x"].concat()).status, 400);
        assert_eq!(get(daemon.data(), "/more", "").status, 404);
        assert_eq!(part("/less", "0-499", &content[..500]).status, 202);
        assert_eq!(part("/less", "500-999", &content[500..999]).status, 400);
        assert_eq!(get(daemon.data(), "/less", "").status, 404);
        assert_eq!(part("/less", "999-999", &content[999..]).status, 201);
        assert_eq!(part("/file", "0-499", &content[..500]).status, 202);
        assert_eq!(part("/file", "500-999", &content[500..]).status, 201);
        for path in ["/less", "/file"] {
            assert!(get(daemon.data(), path, "").body == content, "{path}");
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn what_is_not_all_there_is_not_completed() {
    let content = pattern(2 * MIB);
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"content");
        let complete = |path: &str, total: usize, fields: &str| {
            put(daemon.data(), path, &format!("Content-Range: bytes */{total}\r\n{fields}"), b"")
        };
        // No byte has come, or not all, or the length is another.
        assert_goes_on_at(&complete("/file", content.len(), ""), 0, content.len());
        let whole = format!("Content-Length: {}\r\n", content.len());
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("PUT", "/file", &whole));
        connection.send(&content[..MIB]);
        connection.finish();
        assert!(connection.ends());
        wait_until("what came to be kept", || {
            let response = complete("/file", content.len(), "");
            response.field("Upload-Offset") == Some(MIB.to_string().as_str())
        });
        assert_goes_on_at(&complete("/file", content.len(), ""), MIB, content.len());
        assert_goes_on_at(&complete("/file", MIB, ""), 0, MIB);
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        // All of it has come, but with a wrong digest.
        let refused = format!(
            "Content-Range: bytes {MIB}-{}/{}\r\nContent-Digest: crc32c=:AAAAAA==:\r\n",
            content.len() - 1,
            content.len()
        );
        assert_eq!(put(daemon.data(), "/file", &refused, &content[MIB..]).status, 400);
        assert_goes_on_at(&complete("/file", content.len(), ""), MIB, content.len());
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        // A file of no bytes is whole as it is.
        assert_eq!(complete("/empty", 0, "If-None-Match: *\r\n").status, 201);
        assert_eq!(get(daemon.data(), "/empty", "").text(), "");
        let response = put(daemon.data(), "/file", "Content-Range: bytes */5\r\n", b"hello");
        assert_eq!(response.status, 400);
    });
}

#[test]
fn a_restart_finds_what_was_left() {
    let content = pattern(3 * MIB);
    for driver in crate::harness::drivers() {
        let fixture = Fixture::new();
        let start = || TestDaemon::start(Settings { driver, ..uploading(fixture.path()) });
        let daemon = start();
        cut_short(&daemon, "/large", &content, 2 * MIB + 5);
        assert_eq!(put_part(&daemon, "/small", &content[..100], 0, 10).status, 202);
        drop(daemon);
        if !keeps_attributes(&fixture) {
            return;
        }
        let daemon = start();
        assert_goes_on_at(&put_part(&daemon, "/large", &content, 1, 2), 2 * MIB + 5, 1);
        assert_eq!(put_part(&daemon, "/large", &content, 2 * MIB + 5, content.len()).status, 201);
        assert!(get(daemon.data(), "/large", "").body == content, "{driver:?}");
        assert_eq!(put_part(&daemon, "/small", &content[..100], 10, 100).status, 201);
        assert!(get(daemon.data(), "/small", "").body == content[..100], "{driver:?}");
        assert!(partials(fixture.path()).is_empty());
    }
}

/// The state is that of a kill between the last byte and the name.
#[test]
fn one_of_which_all_has_come_is_completed_without_a_byte() {
    let content = pattern(2 * MIB);
    for driver in crate::harness::drivers() {
        let fixture = Fixture::new();
        if !keeps_attributes(&fixture) {
            return;
        }
        let start = || TestDaemon::start(Settings { driver, ..uploading(fixture.path()) });
        let daemon = start();
        cut_short(&daemon, "/file", &content, MIB);
        drop(daemon);
        let [(partial, length)] = &partials(fixture.path())[..] else { panic!("one partial") };
        assert_eq!(*length, MIB as u64);
        std::fs::write(partial, &content).unwrap();
        let daemon = start();
        let complete = |fields: &str| {
            let range = format!("Content-Range: bytes */{}\r\n", content.len());
            put(daemon.data(), "/file", &(range + fields), b"").status
        };
        assert_eq!(complete("If-Match: \"x\"\r\n"), 412, "{driver:?}");
        assert_eq!(get(daemon.data(), "/file", "").status, 404, "{driver:?}");
        assert_eq!(complete("If-None-Match: *\r\n"), 201, "{driver:?}");
        assert!(get(daemon.data(), "/file", "").body == content, "{driver:?}");
        assert!(partials(fixture.path()).is_empty());
        assert_eq!(complete(""), 409, "{driver:?}");
    }
}

/// Whether files can have extended attributes there, without which a restart finds no partials; printed where they
/// can't.
fn keeps_attributes(fixture: &Fixture) -> bool {
    let path = fixture.write("attributes", b"");
    let result = rustix::fs::setxattr(path, "user.test", b"x", rustix::fs::XattrFlags::empty());
    if let Err(errno) = result {
        eprintln!("restarts are not tested: no extended attributes here: {errno}");
    }
    result.is_ok()
}

#[test]
fn a_daemon_that_stops_leaves_what_it_could_not_wait_for() {
    let content = pattern(3 * MIB);
    for driver in crate::harness::drivers() {
        let fixture = Fixture::new();
        let settings = Settings { driver, drain_timeout_ms: 100, ..uploading(fixture.path()) };
        let daemon = TestDaemon::start(settings.clone());
        let mut connection = Connection::open(daemon.data());
        let text = put_text("/file", "", &content);
        connection.send(&text[..2 * MIB]);
        wait_until("the first MiB to be written", || {
            partials(fixture.path()).iter().any(|(_, length)| *length >= MIB as u64)
        });
        daemon.drain().join().unwrap();
        if !keeps_attributes(&fixture) {
            return;
        }
        let daemon = TestDaemon::start(settings);
        let response = put_part(&daemon, "/file", &content, 1, 2);
        let offset: usize = response.field("Upload-Offset").unwrap().parse().unwrap();
        assert!((MIB..=2 * MIB).contains(&offset), "{driver:?}: {offset}");
        assert_eq!(put_part(&daemon, "/file", &content, offset, content.len()).status, 201);
        assert!(get(daemon.data(), "/file", "").body == content, "{driver:?}");
    }
}
