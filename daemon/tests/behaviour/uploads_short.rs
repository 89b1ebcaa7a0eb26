//! Tests of short bodies: however they arrive, and on a file system in memory as on a disk, they become files in
//! one step.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use streamd::config::Settings;
use streamd::telemetry::UploadOutcome;

use crate::harness::{
    Connection, Mountpoint, TestDaemon, drivers, each_uploading, get, or_skip, partials, pattern, put,
    put_text, request_text, uploading, wait_until,
};

/// The length of the longest body that counts as short, in bytes.
const SHORT: usize = 64 << 10;

/// The time between two pieces of a body that comes at once.
const MOMENT: Duration = Duration::from_millis(10);

/// A pause so long that the bytes so far aren't waited for any more as those of a short body.
const PAUSE: Duration = Duration::from_millis(400);

/// Runs `test` on every driver and on both kinds of file system.
fn each_file_system(test: impl Fn(&TestDaemon, &Path) + Sync) {
    each_uploading(|settings| settings, |daemon, fixture| test(daemon, fixture.path()));
    let Some(memory) = or_skip(Mountpoint::tmpfs("size=64m")) else { return };
    for driver in drivers() {
        let root = memory.path().join(format!("{driver:?}"));
        std::fs::create_dir(&root).unwrap();
        let daemon = TestDaemon::start(Settings { driver, ..uploading(&root) });
        test(&daemon, &root);
    }
}

fn assert_nothing_is_left(daemon: &TestDaemon, root: &Path) {
    wait_until("no upload runs", || partials(root).is_empty());
    assert_eq!(daemon.count(|worker| worker.uploads.get(UploadOutcome::Failed)), 0);
}

#[test]
fn a_body_is_the_same_in_whatever_pieces_it_comes() {
    each_file_system(|daemon, root| {
        let mut connection = Connection::open(daemon.data());
        for length in [0, 1, 4096, SHORT - 1, SHORT, SHORT + 1] {
            let content = pattern(length);
            let text = put_text("/file", "", &content);
            let head = text.len() - length;
            // The body comes with its head, behind it, or cut within the head, at its end, and before the last
            // byte.
            for cuts in [vec![], vec![head], vec![head / 2, head + length / 2], vec![text.len() - 1]] {
                let ends = cuts.iter().copied().filter(|cut| *cut < text.len()).chain([text.len()]);
                let mut begun = 0;
                for end in ends {
                    assert!(begun == 0 || connection.is_silent_for(MOMENT), "{length} {cuts:?}");
                    connection.send(&text[begun..end]);
                    begun = end;
                }
                let status = connection.response_to("PUT").status;
                assert!([201, 204].contains(&status), "{length} {cuts:?}: {status}");
                assert!(std::fs::read(root.join("file")).unwrap() == content, "{length} {cuts:?}");
            }
        }
        assert_nothing_is_left(daemon, root);
    });
}

#[test]
fn a_body_that_stops_for_a_while_is_waited_for() {
    each_file_system(|daemon, root| {
        let content = pattern(10_000);
        let text = put_text("/file", "", &content);
        let mut connection = Connection::open(daemon.data());
        for _ in 0..2 {
            connection.send(&text[..text.len() - 5_000]);
            // After a while it is an upload like any other, with a partial.
            wait_until("a partial", || partials(root).iter().any(|(_, length)| *length == 5_000));
            connection.send(&text[text.len() - 5_000..]);
            assert!([201, 204].contains(&connection.response_to("PUT").status));
            assert!(std::fs::read(root.join("file")).unwrap() == content);
        }
        assert_nothing_is_left(daemon, root);
        assert_eq!(daemon.count(|worker| worker.bytes_uploaded.get()), 20_000);
    });
}

#[test]
fn what_follows_a_body_at_once_is_answered() {
    each_file_system(|daemon, _| {
        let mut connection = Connection::open(daemon.data());
        // From the third answer on the connection is told of arrivals instead of asked.
        for round in 0..4 {
            for length in [10, 5_000, SHORT] {
                let content = pattern(length);
                let texts = [
                    put_text("/file", "", &content),
                    request_text("GET", "/file", "").into_bytes(),
                    put_text("/other", "", b"other"),
                ];
                connection.send(texts.concat());
                assert!([201, 204].contains(&connection.response_to("PUT").status), "{round} {length}");
                assert!(connection.response_to("GET").body == content, "{round} {length}");
                assert!([201, 204].contains(&connection.response_to("PUT").status), "{round} {length}");
            }
        }
    });
}

#[test]
fn a_body_that_breaks_off_leaves_the_former_file_and_nothing_else() {
    each_file_system(|daemon, root| {
        assert_eq!(put(daemon.data(), "/file", "", b"before").status, 201);
        let broken_off = || daemon.count(|worker| worker.uploads.get(UploadOutcome::BrokenOff));
        for (count, pause) in [(0, None), (1_000, None), (1_000, Some(PAUSE))] {
            let before = broken_off();
            let text = put_text("/file", "", &pattern(5_000));
            let mut connection = Connection::open(daemon.data());
            connection.send(&text[..text.len() - 5_000 + count]);
            assert!(pause.is_none_or(|pause| connection.is_silent_for(pause)));
            connection.finish();
            connection.receive_what_comes();
            wait_until("its count", || broken_off() == before + 1);
        }
        assert_eq!(get(daemon.data(), "/file", "").body, b"before");
        assert_nothing_is_left(daemon, root);
        assert_eq!(daemon.count(|worker| worker.bytes_uploaded.get()), 6 + 2_000);
    });
}

#[test]
fn a_refused_body_keeps_the_connection_and_the_former_file() {
    each_file_system(|daemon, root| {
        std::fs::create_dir(root.join("directory")).unwrap();
        let mut connection = Connection::open(daemon.data());
        let mut answer = |path: &str, fields: &str, body: &[u8]| {
            connection.send(put_text(path, fields, body));
            connection.response_to("PUT")
        };
        assert_eq!(answer("/file", "", b"before").status, 201);
        let wrong = "Content-Digest: sha-256=:RvIdDVQvVXlEvZrYbZ7cRd4sPGFFw7KRnYVAuMUgUjY=:\r\n";
        let also_wrong = wrong.replace("Content", "Repr");
        for (path, fields, status) in [
            ("/file", "If-None-Match: *\r\n", 412),
            ("/file", "If-Match: \"other\"\r\n", 412),
            ("/file", wrong, 400),
            ("/file", &also_wrong, 400),
            ("/directory", "", 409),
            ("/absent/file", "", 409),
            ("/.streamd-uploads/file", "", 404),
        ] {
            for body in [&b"after"[..], &pattern(SHORT)] {
                assert_eq!(answer(path, fields, body).status, status, "{path} {fields}");
            }
        }
        let tag = get(daemon.data(), "/file", "").field("ETag").unwrap().to_owned();
        assert_eq!(std::fs::read(root.join("file")).unwrap(), b"before");
        let published = answer("/file", &format!("If-Match: {tag}\r\n"), b"after");
        assert_eq!(published.status, 204);
        let response = get(daemon.data(), "/file", "");
        assert_eq!(response.body, b"after");
        assert_eq!(response.field("ETag"), published.field("ETag"));
        assert_nothing_is_left(daemon, root);
    });
}

#[test]
fn many_at_once_are_all_published() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 20;
    let uploads = |address: SocketAddr, client: usize| {
        let mut connection = Connection::open(address);
        for round in 0..ROUNDS {
            let content = vec![u8::try_from(client).unwrap(); 100 + 3_000 * round];
            // Each body goes to a name of its own, and all go to a common one.
            for path in [format!("/file-{client}"), "/common".to_owned()] {
                connection.send(put_text(&path, "", &content));
                assert!([201, 204].contains(&connection.response_to("PUT").status), "{path}");
            }
        }
    };
    each_file_system(|daemon, root| {
        let address = daemon.data();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || uploads(address, client));
            }
        });
        for client in 0..CLIENTS {
            let content = std::fs::read(root.join(format!("file-{client}"))).unwrap();
            assert!(content == vec![u8::try_from(client).unwrap(); 100 + 3_000 * (ROUNDS - 1)]);
        }
        let common = std::fs::read(root.join("common")).unwrap();
        assert!(common.len() == 100 + 3_000 * (ROUNDS - 1) && common.iter().all(|byte| *byte == common[0]));
        assert_nothing_is_left(daemon, root);
        let published = daemon.count(|worker| worker.uploads.get(UploadOutcome::Published));
        assert_eq!(published, (2 * CLIENTS * ROUNDS) as u64);
    });
}
