//! Tests that parts of different uploads are never joined: a part continues the upload that its sender can prove
//! to have begun, or one that nobody else can have.

use std::os::unix::fs::symlink;
use std::path::Path;

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, drivers, each_uploading, get, partials, put, put_text,
    request, send, uploading, wait_until,
};

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| Settings { cache_valid_ms: 0, ..settings }, test);
}

/// Sends a PUT of bytes `from..to` of a file of 100 bytes that are all `byte`.
fn part_of(daemon: &TestDaemon, path: &str, byte: u8, from: usize, to: usize, fields: &str) -> Response {
    let fields = format!("Content-Range: bytes {from}-{}/100\r\n{fields}", to - 1);
    put(daemon.data(), path, &fields, &vec![byte; to - from])
}

fn part(daemon: &TestDaemon, byte: u8, from: usize, to: usize) -> Response {
    part_of(daemon, "/file", byte, from, to, "")
}

fn id_of(begun: &Response) -> String {
    assert_eq!(begun.status, 202, "{}", begun.text());
    format!("Upload-Id: {}\r\n", begun.field("Upload-Id").unwrap())
}

/// Checks that a part was refused for want of a proof, and that the answer helps.
fn assert_unproved(response: &Response) {
    assert_eq!(response.status, 409, "{}", response.text());
    let document = response.problem_document();
    let detail = document["detail"].as_str().unwrap();
    for remedy in ["Upload-Id", "Repr-Digest", "byte 0"] {
        assert!(detail.contains(remedy), "{detail}");
    }
    // A client that followed an offset would continue another client's upload.
    assert_eq!(response.field("Upload-Offset"), None);
}

fn assert_content(root: &Path, path: &str, byte: u8) {
    assert_eq!(std::fs::read(root.join(&path[1..])).unwrap(), [byte; 100], "{path}");
}

#[test]
fn two_clients_parts_are_not_joined() {
    each_daemon(|daemon, fixture| {
        let [a, b] = [b'A', b'B'].map(|byte| part(daemon, byte, 0, 50));
        for byte in [b'A', b'B'] {
            assert_unproved(&part(daemon, byte, 50, 100));
        }
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
        // With its id each part comes to its own upload.
        for (begun, byte, status) in [(a, b'A', 201), (b, b'B', 204)] {
            let id = id_of(&begun);
            let location = begun.field("Location").unwrap();
            assert!(location.ends_with(begun.field("Upload-Id").unwrap()), "{location}");
            let described = request(daemon.data(), "HEAD", location, "");
            assert_eq!((described.status, described.field("Upload-Offset")), (204, Some("50")));
            let next = part_of(daemon, "/file", byte, 50, 70, &id);
            assert_eq!((next.status, id_of(&next)), (202, id.clone()));
            assert_eq!(part_of(daemon, "/file", byte, 70, 100, &id).status, status);
            assert_content(fixture.path(), "/file", byte);
            // A client that lost the answer is told.
            let again = part_of(daemon, "/file", byte, 70, 100, &id);
            assert_eq!((again.status, again.problem_kind().as_str()), (410, "completed-upload"));
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn the_digest_of_the_whole_proves_it_too() {
    // The digests are the sha256sum of a hundred times A, and of a hundred times B.
    const DIGESTS: [(u8, &str); 2] = [
        (b'A', "sha-256=:2CxqoTOg/CWwh/Rq1+0qMEJ3LmEuAVVx5hdT/1W6bag=:"),
        (b'B', "sha-256=:z759LbLz3N7HwnmfC3xhHlvfwUWnY5UW6OweUaZccKw=:"),
    ];
    each_daemon(|daemon, fixture| {
        let field = |digest: &str| format!("Repr-Digest: {digest}\r\n");
        for (byte, digest) in DIGESTS {
            assert_eq!(part_of(daemon, "/file", byte, 0, 50, &field(digest)).status, 202);
        }
        assert_unproved(&part(daemon, b'A', 50, 100));
        for (byte, digest) in DIGESTS {
            assert_eq!(part_of(daemon, "/file", byte, 50, 100, &field(digest)).status / 100, 2);
            assert_content(fixture.path(), "/file", byte);
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

/// Sends a PUT of which only `count` bytes come, and waits until these are kept.
fn cut_short(daemon: &TestDaemon, root: &Path, content: &[u8], count: usize) {
    let before = partials(root).len();
    let mut connection = Connection::open(daemon.data());
    let text = put_text("/file", "", content);
    connection.send(&text[..text.len() - content.len() + count]);
    connection.finish();
    let _ = connection.receive_what_comes();
    wait_until("the upload to be kept", || {
        let kept = partials(root);
        let is_there = kept.len() == before + 1 && kept.iter().any(|(_, length)| *length == count as u64);
        is_there && daemon.telemetry().connections_open() == 0
    });
}

#[test]
fn what_a_broken_put_left_is_its_clients_while_that_is_alone() {
    let [a, b] = [vec![b'A'; 3 * MIB], vec![b'B'; 3 * MIB]];
    let rest = format!("Content-Range: bytes {}-{}/{}\r\n", 2 * MIB, 3 * MIB - 1, 3 * MIB);
    each_daemon(|daemon, fixture| {
        let go_on = |content: &[u8]| put(daemon.data(), "/file", &rest, &content[2 * MIB..]);
        cut_short(daemon, fixture.path(), &a, 2 * MIB);
        assert_eq!(go_on(&a).status, 201);
        assert!(get(daemon.data(), "/file", "").body == a);
        // Where there are two uploads no client is told whose one is, even if the other has brought nothing.
        cut_short(daemon, fixture.path(), &a, 2 * MIB);
        cut_short(daemon, fixture.path(), &b, 2 * MIB);
        assert_unproved(&go_on(&a));
        assert!(get(daemon.data(), "/file", "").body == a);
        // A client that sends the whole file needs no proof.
        assert_eq!(put(daemon.data(), "/file", "", &b).status, 204);
        assert!(get(daemon.data(), "/file", "").body == b);
    });
}

/// Begins an upload whose first part is refused, since its digest is wrong.
fn assert_begins_with_refusal(daemon: &TestDaemon, path: &str) {
    let wrong = "Content-Digest: crc32c=:AAAAAA==:\r\n";
    assert_eq!(part_of(daemon, path, b'A', 0, 50, wrong).status, 400);
}

/// Begins an upload and removes it.
fn assert_removed(daemon: &TestDaemon, path: &str) {
    let begun = part_of(daemon, path, b'A', 0, 50, "");
    let location = begun.field("Location").unwrap();
    assert_eq!(send(daemon.data(), "DELETE", location, "", b"").status, 204);
}

/// The name of a file whose upload ends, and the function that ends it.
type Ended<'t> = (&'t str, &'t dyn Fn(&str));

#[test]
fn a_client_that_does_not_know_that_its_upload_ended_joins_no_other() {
    each_daemon(|daemon, fixture| {
        let refused = |path: &str| assert_begins_with_refusal(daemon, path);
        let removed = |path: &str| assert_removed(daemon, path);
        let failed = |path: &str| {
            assert_eq!(part_of(daemon, path, b'A', 0, 50, "").status, 202);
            let wrong = "Repr-Digest: crc32c=:AAAAAA==:\r\n";
            assert_eq!(part_of(daemon, path, b'A', 50, 100, wrong).status, 400);
        };
        let unanswered = |path: &str| {
            assert_eq!(part_of(daemon, path, b'A', 0, 50, "").status, 202);
            let fields = "Content-Range: bytes 50-99/100\r\n";
            let mut connection = Connection::open(daemon.data());
            connection.send(put_text(path, fields, &[b'A'; 50]));
            drop(connection);
            wait_until("the file", || get(daemon.data(), path, "").status == 200);
            std::fs::remove_file(fixture.path().join(&path[1..])).unwrap();
        };
        let ends: [Ended<'_>; 4] = [
            ("/refused", &refused),
            ("/removed", &removed),
            ("/failed", &failed),
            ("/unanswered", &unanswered),
        ];
        for (path, end) in ends {
            end(path);
            let id = id_of(&part_of(daemon, path, b'B', 0, 50, ""));
            assert_unproved(&part_of(daemon, path, b'A', 50, 100, ""));
            assert_eq!(part_of(daemon, path, b'B', 50, 100, &id).status, 201, "{path}");
            assert_content(fixture.path(), path, b'B');
        }
        // The upload is refused since another one is writing.
        let mut writer = Connection::open(daemon.data());
        let text = put_text("/busy", "Content-Range: bytes 0-49/100\r\n", &[b'B'; 50]);
        writer.send(&text[..text.len() - 1]);
        wait_until("a writer", || !partials(fixture.path()).is_empty());
        assert_eq!(part_of(daemon, "/busy", b'A', 0, 50, "").status, 409);
        writer.send(b"B");
        let id = id_of(&writer.response_to("PUT"));
        assert_unproved(&part_of(daemon, "/busy", b'A', 50, 100, ""));
        assert_eq!(part_of(daemon, "/busy", b'B', 50, 100, &id).status, 201);
        assert_content(fixture.path(), "/busy", b'B');
    });
}

/// A client that asks where to go on may be that of an upload that has ended: the offset would be another's.
#[test]
fn whose_upload_ended_is_not_told_where_another_goes_on() {
    each_daemon(|daemon, fixture| {
        let refused = |path: &str| assert_begins_with_refusal(daemon, path);
        let removed = |path: &str| assert_removed(daemon, path);
        let too_short = |path: &str| {
            let mut connection = Connection::open(daemon.data());
            let text = put_text(path, "", &[b'A'; 100]);
            connection.send(&text[..text.len() - 50]);
            wait_until("the upload to begin", || !partials(fixture.path()).is_empty());
            connection.finish();
            wait_until("the upload to be gone", || partials(fixture.path()).is_empty());
        };
        let ends: [Ended<'_>; 3] =
            [("/refused", &refused), ("/removed", &removed), ("/too-short", &too_short)];
        for (path, end) in ends {
            end(path);
            let id = id_of(&part_of(daemon, path, b'B', 0, 30, ""));
            let asked = put(daemon.data(), path, "Content-Range: bytes */100\r\n", b"");
            assert_unproved(&asked);
            assert_unproved(&part_of(daemon, path, b'A', 60, 100, ""));
            assert_eq!(part_of(daemon, path, b'B', 30, 100, &id).status, 201, "{path}");
            assert_content(fixture.path(), path, b'B');
        }
        // A client that is alone is told.
        assert_eq!(part(daemon, b'A', 0, 50).status, 202);
        let asked = put(daemon.data(), "/file", "Content-Range: bytes */100\r\n", b"");
        assert_eq!((asked.status, asked.field("Upload-Offset")), (409, Some("50")));
        assert_eq!(part(daemon, b'A', 50, 100).status, 201);
    });
}

/// A client that is alone, and got its answers, goes on without proof as often as it likes.
#[test]
fn a_client_that_is_alone_needs_no_proof() {
    each_daemon(|daemon, fixture| {
        for byte in *b"ABC" {
            assert_eq!(part(daemon, byte, 0, 50).status, 202);
            assert_eq!(part(daemon, byte, 50, 70).status, 202);
            assert_eq!(part(daemon, byte, 70, 100).status / 100, 2);
            assert_content(fixture.path(), "/file", byte);
            // A file that is sent whole in between is no upload that can be continued.
            assert_eq!(put(daemon.data(), "/file", "", &[b'W'; 100]).status, 204);
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_put_that_its_condition_refuses_leaves_nothing_that_a_part_could_be_of() {
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"former");
        assert_eq!(part(daemon, b'A', 0, 50).status, 202);
        for condition in ["If-None-Match: *\r\n", "If-Match: \"other\"\r\n"] {
            assert_eq!(put(daemon.data(), "/file", condition, &[b'B'; 100]).status, 412);
        }
        assert_eq!(part(daemon, b'A', 50, 100).status, 204);
        assert_content(fixture.path(), "/file", b'A');
    });
}

#[test]
fn one_file_by_two_names_is_one_file() {
    each_daemon(|daemon, fixture| {
        std::fs::create_dir(fixture.path().join("directory")).unwrap();
        symlink("directory", fixture.path().join("link")).unwrap();
        let id = id_of(&part_of(daemon, "/directory/file", b'A', 0, 50, ""));
        assert_eq!(part_of(daemon, "/link/file", b'B', 0, 50, "").status, 202);
        for path in ["/directory/file", "/link/file"] {
            assert_unproved(&part_of(daemon, path, b'A', 50, 100, ""));
        }
        assert_eq!(part_of(daemon, "/link/file", b'A', 50, 100, &id).status, 201);
        assert_content(fixture.path(), "/directory/file", b'A');
    });
}

#[test]
fn an_id_is_of_one_upload_to_one_name() {
    each_daemon(|daemon, _| {
        let id = id_of(&part(daemon, b'A', 0, 50));
        let other = part_of(daemon, "/other", b'A', 50, 100, &id);
        assert_eq!(other.status, 409);
        assert!(other.text().contains("no upload to this name"), "{}", other.text());
        for malformed in ["", "x", "0123456789ABCDEF0123456789ABCDEF"] {
            let fields = format!("Upload-Id: {malformed}\r\n");
            assert_eq!(part_of(daemon, "/file", b'A', 50, 100, &fields).status, 400, "{malformed:?}");
        }
        assert_eq!(part_of(daemon, "/file", b'A', 50, 100, &id.repeat(2)).status, 400);
        let range = format!("Content-Range: bytes 50-98/99\r\n{id}");
        assert_eq!(put(daemon.data(), "/file", &range, &[b'A'; 49]).status, 400);
        assert_eq!(part_of(daemon, "/file", b'A', 50, 100, &id).status, 201);
    });
}

/// Replicas share a root, and a balancer sends each part where it likes.
#[test]
fn two_daemons_on_one_root_join_nothing() {
    for driver in drivers() {
        let fixture = Fixture::new();
        if rustix::fs::setxattr(fixture.path(), "user.test", b"x", rustix::fs::XattrFlags::empty()).is_err() {
            eprintln!("skipped: no extended attributes here");
            return;
        }
        let start = || TestDaemon::start(Settings { driver, cache_valid_ms: 0, ..uploading(fixture.path()) });
        let (first, second) = (start(), start());
        let a = id_of(&part(&first, b'A', 0, 50));
        let b = id_of(&part(&second, b'B', 0, 50));
        for daemon in [&first, &second] {
            assert_unproved(&part(daemon, b'A', 50, 100));
        }
        // The daemon of the first upload stops.
        drop(first);
        assert_unproved(&part(&second, b'A', 50, 100));
        assert_eq!(part_of(&second, "/file", b'A', 50, 100, &a).status, 201, "{driver:?}");
        assert_content(fixture.path(), "/file", b'A');
        let third = start();
        // An upload that another daemon completes is gone for this one, whoever continues it.
        for (path, says_id) in [("/with", true), ("/without", false)] {
            let id = id_of(&part_of(&second, path, b'A', 0, 50, ""));
            assert_eq!(part_of(&third, path, b'A', 50, 100, &id).status, 201, "{driver:?}");
            let again = part_of(&second, path, b'A', 50, 100, if says_id { &id } else { "" });
            assert_eq!(again.status, 409, "{driver:?} {path}: {}", again.text());
            assert!(again.text().contains("byte 0"), "{}", again.text());
        }
        assert_eq!(part_of(&third, "/file", b'B', 50, 100, &b).status, 204, "{driver:?}");
        assert_content(fixture.path(), "/file", b'B');
        assert!(partials(fixture.path()).is_empty());
    }
}
