//! Tests of the names that take an upload, in which state, and how uploads are given up.

use std::os::unix::fs::symlink;
use std::time::Duration;

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, TestDaemon, each_uploading, get, partials, put, put_text, request, request_text,
};

/// Conditions with `ETAG` for the tag of the file and `MODIFIED` for its time, whether they let it be changed, and
/// whether they let an absent one be made.
const CONDITIONS: &[(&str, bool, bool)] = &[
    ("If-None-Match: *\r\n", false, true),
    ("If-None-Match: ETAG\r\n", false, true),
    ("If-None-Match: W/ETAG\r\n", false, true),
    ("If-None-Match: \"x\", ETAG\r\n", false, true),
    ("If-None-Match: \"x\"\r\n", true, true),
    ("If-Match: *\r\n", true, false),
    ("If-Match: ETAG\r\n", true, false),
    ("If-Match: \"x\", ETAG\r\n", true, false),
    // Strong comparison (RFC 9110 13.1.1).
    ("If-Match: W/ETAG\r\n", false, false),
    ("If-Match: \"x\"\r\n", false, false),
    ("If-Unmodified-Since: MODIFIED\r\n", true, false),
    ("If-Unmodified-Since: AFTER\r\n", true, false),
    ("If-Unmodified-Since: BEFORE\r\n", false, false),
    ("If-Unmodified-Since: yesterday\r\n", true, true),
    // The condition is for reads alone (RFC 9110 13.1.3).
    ("If-Modified-Since: AFTER\r\n", true, true),
    // The order of RFC 9110 13.2.2.
    ("If-Match: ETAG\r\nIf-Unmodified-Since: BEFORE\r\n", true, false),
    ("If-Match: ETAG\r\nIf-None-Match: *\r\n", false, false),
    ("If-Unmodified-Since: AFTER\r\nIf-None-Match: ETAG\r\n", false, false),
];

const UNFIT: &str = "the file is not in the state that was asked for";

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    // Changes from outside are seen at once.
    each_uploading(|settings| Settings { cache_valid_ms: 0, ..settings }, test);
}

/// The state of a file.
struct State {
    etag: String,
    modified: String,
}

/// Uploads the file anew: only a file known to be the daemon's own has a strong tag at once.
fn reset(daemon: &TestDaemon) -> State {
    assert!(put(daemon.data(), "/file", "", b"content").status < 300);
    let seen = get(daemon.data(), "/file", "");
    let field = |name| seen.field(name).unwrap().to_owned();
    State { etag: field("ETag"), modified: field("Last-Modified") }
}

impl State {
    fn spelled(&self, conditions: &str) -> String {
        let modified = httpdate::parse_http_date(&self.modified).unwrap();
        let second = Duration::from_secs(1);
        conditions
            .replace("ETAG", &self.etag)
            .replace("BEFORE", &httpdate::fmt_http_date(modified - second))
            .replace("MODIFIED", &self.modified)
            .replace("AFTER", &httpdate::fmt_http_date(modified + second))
    }

    fn assert_unchanged(&self, daemon: &TestDaemon, what: &str) {
        let seen = get(daemon.data(), "/file", "");
        assert_eq!((seen.status, seen.text().as_str()), (200, "content"), "{what}");
        let state = (seen.field("ETag"), seen.field("Last-Modified"));
        assert_eq!(state, (Some(self.etag.as_str()), Some(self.modified.as_str())), "{what}");
    }
}

#[test]
fn conditions_decide_about_a_put() {
    each_daemon(|daemon, fixture| {
        for (conditions, may_change, may_make) in CONDITIONS {
            let state = reset(daemon);
            let fields = state.spelled(conditions);
            let response = put(daemon.data(), "/file", &fields, b"new");
            if *may_change {
                assert_eq!(response.status, 204, "{conditions}");
                assert_eq!(get(daemon.data(), "/file", "").text(), "new", "{conditions}");
            } else {
                assert_eq!((response.status, response.problem().as_str()), (412, UNFIT), "{conditions}");
                state.assert_unchanged(daemon, conditions);
            }
            let response = put(daemon.data(), "/absent", &fields, b"new");
            let status = get(daemon.data(), "/absent", "").status;
            let expected = if *may_make { (201, 200) } else { (412, 404) };
            assert_eq!((response.status, status), expected, "{conditions}");
            let _ = std::fs::remove_file(fixture.path().join("absent"));
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn conditions_decide_about_a_delete() {
    each_daemon(|daemon, _| {
        for (conditions, may_change, _) in CONDITIONS {
            let state = reset(daemon);
            let response = request(daemon.data(), "DELETE", "/file", &state.spelled(conditions));
            if *may_change {
                assert_eq!(response.status, 204, "{conditions}");
                assert_eq!(get(daemon.data(), "/file", "").status, 404, "{conditions}");
            } else {
                assert_eq!((response.status, response.problem().as_str()), (412, UNFIT), "{conditions}");
                state.assert_unchanged(daemon, conditions);
            }
        }
    });
}

/// The state is checked before the body and again when the file gets its name.
#[test]
fn a_condition_that_fails_while_the_body_comes_is_412() {
    each_daemon(|daemon, fixture| {
        for (path, condition) in [("/file", "If-Match: ETAG\r\n"), ("/absent", "If-None-Match: *\r\n")] {
            let condition = reset(daemon).spelled(condition);
            let mut late = Connection::open(daemon.data());
            late.send(request_text(
                "PUT",
                path,
                &format!("Expect: 100-continue\r\nContent-Length: 4\r\n{condition}"),
            ));
            assert_eq!(late.head().status, 100, "{path}");
            assert!(put(daemon.data(), path, "", b"quick").status < 300);
            late.send(b"late");
            let response = late.response_to("PUT");
            assert_eq!((response.status, response.problem().as_str()), (412, UNFIT), "{path}");
            assert_eq!(get(daemon.data(), path, "").text(), "quick");
            // The body has been taken, so the connection can be used as before.
            late.send(request_text("GET", path, ""));
            assert_eq!(late.response_to("GET").text(), "quick");
        }
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn of_many_that_create_one_name_one_does() {
    each_daemon(|daemon, _| {
        for round in 0..10 {
            let (address, path) = (daemon.data(), format!("/file{round}"));
            let statuses: Vec<u16> = std::thread::scope(|scope| {
                let create = |number: u8| {
                    let path = &path;
                    scope.spawn(move || put(address, path, "If-None-Match: *\r\n", &[number; 10]).status)
                };
                let threads: Vec<_> = (0..8).map(create).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
            assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
            let winner = statuses.iter().position(|status| *status == 201).unwrap();
            assert_eq!(get(daemon.data(), &path, "").body, vec![u8::try_from(winner).unwrap(); 10]);
        }
    });
}

#[test]
fn a_put_says_how_its_body_ends() {
    each_daemon(|daemon, _| {
        let state = reset(daemon);
        for path in ["/file", "/absent"] {
            let response = request(daemon.data(), "PUT", path, "");
            assert_eq!(response.status, 411, "{path}");
            response.problem();
        }
        state.assert_unchanged(daemon, "411");
        assert_eq!(get(daemon.data(), "/absent", "").status, 404);
    });
}

#[test]
fn directories_on_the_way_are_created_only_if_that_is_wanted() {
    for create_dirs in [false, true] {
        each_uploading(
            |settings| Settings { create_dirs, ..settings },
            |daemon, fixture| {
                fixture.write("file", b"content");
                let response = put(daemon.data(), "/new/deep/file", "", b"new");
                if create_dirs {
                    assert_eq!(response.status, 201);
                    assert_eq!(get(daemon.data(), "/new/deep/file", "").text(), "new");
                    assert_eq!(put(daemon.data(), "/new/other", "", b"x").status, 201);
                } else {
                    assert_eq!(response.status, 409);
                    assert_eq!(response.problem(), "the directory of the destination does not exist");
                    assert!(!fixture.path().join("new").exists());
                }
                // The way may not lead through a file, and a removal makes no directories.
                assert_eq!(put(daemon.data(), "/file/below", "", b"x").status, 409);
                assert_eq!(request(daemon.data(), "DELETE", "/other/file", "").status, 404);
                assert!(!fixture.path().join("other").exists());
                assert_eq!(get(daemon.data(), "/file", "").text(), "content");
                assert!(partials(fixture.path()).is_empty());
            },
        );
    }
}

#[test]
fn a_directory_is_no_destination() {
    each_daemon(|daemon, fixture| {
        fixture.write("directory/file", b"content");
        std::fs::create_dir(fixture.path().join("empty")).unwrap();
        for path in ["/directory", "/directory/", "/empty", "/", "/directory/file/..", "/absent/"] {
            let response = put(daemon.data(), path, "", b"new");
            assert_eq!(response.status, 409, "{path}");
            response.problem();
        }
        for path in ["/directory", "/directory/", "/empty", "/"] {
            let response = request(daemon.data(), "DELETE", path, "");
            assert_eq!(response.status, 409, "{path}");
            response.problem();
        }
        assert_eq!(get(daemon.data(), "/directory/file", "").text(), "content");
        assert!(fixture.path().join("empty").is_dir());
    });
}

#[test]
fn what_is_no_regular_file_is_no_destination() {
    each_daemon(|daemon, fixture| {
        let fifo = fixture.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(put(daemon.data(), "/fifo", "", b"new").status, 409);
        assert_eq!(request(daemon.data(), "DELETE", "/fifo", "").status, 409);
        assert!(fifo.exists());
    });
}

#[test]
fn reserved_names_are_nobodys() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    each_daemon(|daemon, fixture| {
        fixture.write("sub/file", b"content");
        fixture.write(".streamd-uploads/file", b"content");
        let paths = [
            "/.streamd-uploads",
            "/.streamd-uploads/file",
            "/.streamd-uploads/new",
            "/%2estreamd-uploads/file",
            "/sub/.streamd-uploads",
            "/sub/.streamd-uploads/new",
            "/.Streamd-Uploads/file",
            "/sub/../.streamd-uploads/file",
        ];
        for path in paths {
            for method in ["PUT", "DELETE", "GET"] {
                let response = request(daemon.data(), method, path, "Content-Length: 0\r\n");
                assert_eq!(response.status, 404, "{method} {path}");
                response.problem();
            }
        }
        assert_eq!(std::fs::read(fixture.path().join(".streamd-uploads/file")).unwrap(), b"content");
        assert!(!fixture.path().join("sub/.streamd-uploads").exists());
        // This is a file with the name of an upload, and no upload.
        fixture.write(&format!(".streamd-uploads/{ID}"), b"content");
        let path = format!("/.streamd-uploads/{ID}");
        for method in ["GET", "HEAD", "DELETE"] {
            assert_eq!(request(daemon.data(), method, &path, "").status, 404, "{method}");
        }
        assert!(fixture.path().join(&path[1..]).exists());
        let response = put(daemon.data(), &path, "", b"");
        assert_eq!(
            (response.status, response.field("Allow")),
            (405, Some("GET, HEAD, PATCH, DELETE, OPTIONS"))
        );
    });
}

#[test]
fn a_link_may_not_lead_into_the_reserved_directory() {
    each_daemon(|daemon, fixture| {
        symlink(".streamd-uploads", fixture.path().join("link")).unwrap();
        // It leads nowhere, as a link to the outside does.
        assert_eq!(put(daemon.data(), "/link/file", "", b"new").status, 409);
        assert_eq!(request(daemon.data(), "DELETE", "/link/file", "").status, 404);
        assert!(!fixture.path().join(".streamd-uploads/file").exists());
    });
}

#[test]
fn deleted_files_are_gone_at_once() {
    let change = |settings| Settings { workers: 4, cache_valid_ms: 60_000, ..settings };
    each_uploading(change, |daemon, fixture| {
        let mut readers: Vec<Connection> = (0..16).map(|_| Connection::open(daemon.data())).collect();
        for _ in 0..5 {
            assert_eq!(put(daemon.data(), "/file", "", b"content").status, 201);
            for reader in &mut readers {
                reader.send(request_text("GET", "/file", ""));
                assert_eq!(reader.response_to("GET").text(), "content");
            }
            let response = request(daemon.data(), "DELETE", "/file", "");
            assert_eq!((response.status, response.field("Content-Length")), (204, None));
            for reader in &mut readers {
                reader.send(request_text("GET", "/file", ""));
                assert_eq!(reader.response_to("GET").status, 404);
            }
        }
        for path in ["/file", "/absent/file", "/file/below"] {
            let response = request(daemon.data(), "DELETE", path, "");
            assert_eq!(response.status, 404, "{path}");
            response.problem();
        }
        // The body of a DELETE has no meaning, and the next request begins after it (RFC 9110 9.3.5).
        fixture.write("file", b"content");
        let mut connection = Connection::open(daemon.data());
        connection.send(request_text("DELETE", "/file", "Content-Length: 5\r\n") + "hello");
        connection.send(request_text("GET", "/file", ""));
        assert_eq!(connection.response_to("DELETE").status, 204);
        assert_eq!(connection.response_to("GET").status, 404);
    });
}

#[test]
fn a_link_is_replaced_and_what_it_led_to_stays() {
    each_daemon(|daemon, fixture| {
        let outside = Fixture::new();
        let secret = outside.write("secret", b"secret");
        let file = fixture.write("sub/file", b"content");
        let link = |name: &str, leads_to: &str| symlink(leads_to, fixture.path().join(name)).unwrap();
        link("inside", "sub/file");
        link("outside", secret.to_str().unwrap());
        link("nowhere", "absent");
        link("directory", "sub");
        link("loop", "loop");
        for name in ["inside", "outside", "nowhere", "directory", "loop"] {
            let path = format!("/{name}");
            let response = put(daemon.data(), &path, "If-None-Match: *\r\n", b"new");
            // The name is taken, if only by a link that leads nowhere.
            assert_eq!(response.status, 412, "{path}");
            assert_eq!(put(daemon.data(), &path, "", b"new").status, 204, "{path}");
            assert!(!fixture.path().join(name).is_symlink(), "{path}");
            assert_eq!(get(daemon.data(), &path, "").text(), "new", "{path}");
        }
        link("again", "sub/file");
        assert_eq!(request(daemon.data(), "DELETE", "/again", "").status, 204);
        assert_eq!(std::fs::read(file).unwrap(), b"content");
        assert_eq!(std::fs::read(secret).unwrap(), b"secret");
        assert!(!fixture.path().join("absent").exists());
    });
}

#[test]
fn links_on_the_way_are_followed_beneath_the_root_alone() {
    each_daemon(|daemon, fixture| {
        let outside = Fixture::new();
        outside.write("file", b"secret");
        fixture.write("sub/file", b"content");
        symlink("sub", fixture.path().join("inside")).unwrap();
        symlink(outside.path(), fixture.path().join("outside")).unwrap();
        symlink("../..", fixture.path().join("sub/up")).unwrap();
        assert_eq!(put(daemon.data(), "/inside/new", "", b"new").status, 201);
        assert_eq!(get(daemon.data(), "/sub/new", "").text(), "new");
        assert_eq!(request(daemon.data(), "DELETE", "/inside/file", "").status, 204);
        assert_eq!(get(daemon.data(), "/sub/file", "").status, 404);
        for path in ["/outside/file", "/outside/new", "/sub/up/new", "/sub/%2e%2e/%2e%2e/outside/file"] {
            assert_eq!(put(daemon.data(), path, "", b"new").status, 409, "{path}");
            assert_eq!(request(daemon.data(), "DELETE", path, "").status, 404, "{path}");
        }
        assert_eq!(std::fs::read(outside.path().join("file")).unwrap(), b"secret");
        assert!(!outside.path().join("new").exists());
        let kept = put_text("/..%2f..%2fnew", "", b"new");
        let mut connection = Connection::open(daemon.data());
        connection.send(kept);
        // Above the root is the root (RFC 3986 5.2.4).
        assert_eq!(connection.response_to("PUT").status, 201);
        assert_eq!(get(daemon.data(), "/new", "").text(), "new");
    });
}
