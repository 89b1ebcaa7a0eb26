//! Tests of resumable uploads (draft-ietf-httpbis-resumable-upload): an upload has a name of its own until it is
//! complete.

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, chunked, each_uploading, get, partials, pattern, request,
    request_text, send, uploading, wait_until, write_text,
};

const PARTIAL: &str = "Content-Type: application/partial-upload\r\n";

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| Settings { cache_valid_ms: 0, ..settings }, test);
}

/// Begins an upload to `/file` with its first bytes, and returns its name.
fn create(daemon: &TestDaemon, fields: &str, body: &[u8]) -> String {
    let response = send(daemon.data(), "POST", "/file", &format!("Upload-Complete: ?0\r\n{fields}"), body);
    assert_eq!(response.status, 201, "{}", response.text());
    assert_eq!(response.field("Upload-Complete"), Some("?0"));
    assert_eq!(response.field("Upload-Offset"), Some(body.len().to_string().as_str()));
    response.field("Location").unwrap().to_owned()
}

fn append(daemon: &TestDaemon, name: &str, offset: usize, complete: &str, body: &[u8]) -> Response {
    let fields = format!("{PARTIAL}Upload-Offset: {offset}\r\nUpload-Complete: {complete}\r\n");
    send(daemon.data(), "PATCH", name, &fields, body)
}

/// Returns the offset at which an upload goes on.
fn offset(daemon: &TestDaemon, name: &str) -> usize {
    let response = request(daemon.data(), "HEAD", name, "");
    assert_eq!(response.status, 204);
    response.field("Upload-Offset").unwrap().parse().unwrap()
}

fn assert_is_limit(response: &Response) {
    assert_eq!(response.field("Upload-Limit"), Some("max-size=1099511627776, max-age=86400"));
}

#[test]
fn a_client_that_knows_of_it_is_told_the_name_before_its_body() {
    each_daemon(|daemon, _| {
        for (method, version) in [("POST", 6), ("PUT", 7), ("POST", 8), ("PUT", 9)] {
            let path = format!("/file{version}");
            let fields = format!("Upload-Complete: ?1\r\nUpload-Draft-Interop-Version: {version}\r\n");
            let mut connection = Connection::open(daemon.data());
            let text = write_text(method, &path, &fields, b"content");
            connection.send(&text[..text.len() - 7]);
            let interim = connection.head();
            assert_eq!(interim.status, 104);
            let told = interim.field("Upload-Draft-Interop-Version");
            assert_eq!(told, Some(version.to_string().as_str()));
            assert_is_limit(&interim);
            let name = interim.field("Location").unwrap();
            let id = name.rsplit_once("/.streamd-uploads/").unwrap().1;
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
            assert_eq!(get(daemon.data(), &path, "").status, 404);
            connection.send(b"content");
            let response = connection.response_to(method);
            assert_eq!((response.status, response.field("Upload-Complete")), (201, Some("?1")));
            let seen = get(daemon.data(), &path, "");
            assert_eq!((seen.status, seen.text().as_str()), (200, "content"));
            assert_eq!(response.field("ETag"), seen.field("ETag"));
        }
    });
}

#[test]
fn a_client_that_does_not_know_of_it_gets_no_104() {
    each_daemon(|daemon, _| {
        for version in ["", "10"] {
            let path = format!("/file{}", version.len());
            let mut fields = "Upload-Complete: ?1\r\n".to_owned();
            if !version.is_empty() {
                fields += &format!("Upload-Draft-Interop-Version: {version}\r\n");
            }
            let response = send(daemon.data(), "POST", &path, &fields, b"content");
            assert!(matches!(response.status, 201 | 204), "{version:?}: {}", response.status);
            assert_eq!(response.field("Upload-Complete"), Some("?1"));
            assert_eq!(get(daemon.data(), &path, "").text(), "content");
        }
    });
}

#[test]
fn one_that_waits_for_100_gets_both() {
    each_daemon(|daemon, _| {
        let mut connection = Connection::open(daemon.data());
        let fields = "Content-Length: 7\r\nExpect: 100-continue\r\nUpload-Complete: ?1\r\n\
                      Upload-Draft-Interop-Version: 8\r\n";
        connection.send(request_text("POST", "/file", fields));
        let mut interim = [connection.head().status, connection.head().status];
        interim.sort_unstable();
        assert_eq!(interim, [100, 104]);
        connection.send(b"content");
        assert_eq!(connection.response_to("POST").status, 201);
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
    });
}

#[test]
fn parts_become_the_file() {
    let content = pattern(10_000);
    each_daemon(|daemon, fixture| {
        for (old, status) in [(None, 201), (Some("old"), 204)] {
            if let Some(text) = old {
                fixture.write("file", text.as_bytes());
            }
            let name = create(daemon, "", &content[..100]);
            let described = request(daemon.data(), "HEAD", &name, "");
            assert_eq!((described.status, described.field("Upload-Offset")), (204, Some("100")));
            assert_eq!(described.field("Upload-Complete"), Some("?0"));
            assert_eq!(described.field("Upload-Length"), None);
            assert_eq!(described.field("Cache-Control"), Some("no-store"));
            assert_is_limit(&described);
            // GET gives the same answer.
            assert_eq!(get(daemon.data(), &name, "").field("Upload-Offset"), Some("100"));
            let response = append(daemon, &name, 100, "?0", &content[100..5_000]);
            assert_eq!((response.status, response.field("Upload-Complete")), (204, Some("?0")));
            assert_eq!(response.field("Upload-Offset"), Some("5000"));
            assert_eq!(response.field("Location"), None);
            let published = request(daemon.data(), "HEAD", "/file", "");
            assert_eq!(published.status, if old.is_some() { 200 } else { 404 });
            assert!(old.is_none_or(|text| published.content_length() == text.len()));
            let response = append(daemon, &name, 5_000, "?1", &content[5_000..]);
            assert_eq!((response.status, response.field("Upload-Complete")), (status, Some("?1")));
            let seen = get(daemon.data(), "/file", "");
            assert!(seen.body == content);
            assert_eq!(response.field("ETag"), seen.field("ETag"));
            assert!(partials(fixture.path()).is_empty());
        }
    });
}

#[test]
fn the_last_part_may_bring_nothing_and_any_may_be_chunked() {
    each_daemon(|daemon, _| {
        let name = create(daemon, "", b"");
        assert_eq!(append(daemon, &name, 0, "?0", b"hello").status, 204);
        let mut connection = Connection::open(daemon.data());
        let fields =
            format!("{PARTIAL}Transfer-Encoding: chunked\r\nUpload-Offset: 5\r\nUpload-Complete: ?0\r\n");
        connection.send(request_text("PATCH", &name, &fields));
        connection.send(chunked(b", world", 2));
        assert_eq!(connection.response_to("PATCH").status, 204);
        assert_eq!(append(daemon, &name, 12, "?1", b"").status, 201);
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello, world");
    });
}

#[test]
fn a_creation_that_breaks_off_is_gone_on_with() {
    let content = pattern(3 * MIB);
    each_daemon(|daemon, _| {
        for (path, is_chunked) in [("/length", false), ("/chunked", true)] {
            let mut connection = Connection::open(daemon.data());
            let framing = if is_chunked {
                "Transfer-Encoding: chunked\r\n".to_owned()
            } else {
                format!("Content-Length: {}\r\n", content.len())
            };
            let fields = format!("{framing}Upload-Complete: ?1\r\nUpload-Draft-Interop-Version: 9\r\n");
            connection.send(request_text("POST", path, &fields));
            let interim = connection.head();
            assert_eq!(interim.status, 104);
            let name = interim.field("Location").unwrap().to_owned();
            let part = &content[..1_000_003];
            let body = if is_chunked { chunked(part, 10_000) } else { part.to_vec() };
            // The last chunk, which is `0`, is left out.
            connection.send(if is_chunked { &body[..body.len() - 5] } else { &body });
            connection.finish();
            let _ = connection.receive_what_comes();
            wait_until("all that was sent", || offset(daemon, &name) == part.len());
            let described = request(daemon.data(), "HEAD", &name, "");
            assert_eq!(described.field("Upload-Complete"), Some("?0"));
            let length = content.len().to_string();
            assert_eq!(described.field("Upload-Length"), (!is_chunked).then_some(length.as_str()));
            assert_eq!(get(daemon.data(), path, "").status, 404);
            assert_eq!(append(daemon, &name, part.len(), "?1", &content[part.len()..]).status, 201);
            assert!(get(daemon.data(), path, "").body == content);
        }
    });
}

#[test]
fn another_offset_is_told_the_right_one() {
    each_daemon(|daemon, _| {
        let name = create(daemon, "", b"hello");
        for provided in [0, 4, 6, 999_999_999_999_999_usize] {
            let response = append(daemon, &name, provided, "?0", b"");
            assert_eq!((response.status, response.field("Upload-Offset")), (409, Some("5")), "{provided}");
            assert_eq!(response.field("Upload-Complete"), Some("?0"));
            assert_eq!(response.problem_kind(), "mismatching-upload-offset");
            let document = response.problem_document();
            let members = (&document["expected-offset"], &document["provided-offset"]);
            assert_eq!(members, (&5.into(), &provided.into()));
        }
        assert_eq!(offset(daemon, &name), 5);
        assert_eq!(append(daemon, &name, 5, "?1", b"").status, 201);
    });
}

#[test]
fn what_a_client_says_of_the_length_must_agree() {
    each_daemon(|daemon, fixture| {
        for (fields, body) in [
            ("Upload-Complete: ?0\r\nUpload-Length: 4\r\n", "hello"),
            ("Upload-Complete: ?1\r\nUpload-Length: 4\r\n", "hello"),
            ("Upload-Complete: ?1\r\nUpload-Length: 6\r\n", "hello"),
        ] {
            let response = send(daemon.data(), "POST", "/file", fields, body.as_bytes());
            assert_eq!(response.status, 400, "{fields}");
            assert_eq!(response.problem_kind(), "inconsistent-upload-length", "{fields}");
        }
        assert!(partials(fixture.path()).is_empty());
        let name = create(daemon, "Upload-Length: 10\r\n", b"hello");
        let described = request(daemon.data(), "HEAD", &name, "");
        assert_eq!(described.field("Upload-Length"), Some("10"));
        for (fields, body) in [
            ("Upload-Complete: ?0\r\nUpload-Length: 11\r\n", "x"),
            ("Upload-Complete: ?1\r\nUpload-Length: 9\r\n", "four"),
            // This is the last part, and the upload is too short.
            ("Upload-Complete: ?1\r\n", "four"),
        ] {
            let fields = format!("{PARTIAL}Upload-Offset: 5\r\n{fields}");
            let response = send(daemon.data(), "PATCH", &name, &fields, body.as_bytes());
            assert_eq!(response.status, 400, "{fields}");
            assert_eq!(response.problem_kind(), "inconsistent-upload-length", "{fields}");
            assert_eq!(response.field("Upload-Complete"), Some("?0"), "{fields}");
            assert_eq!(offset(daemon, &name), 5, "{fields}");
        }
        assert_eq!(append(daemon, &name, 5, "?1", b"world").status, 201);
        assert_eq!(get(daemon.data(), "/file", "").text(), "helloworld");
    });
}

/// Only at its end does a chunked body tell its length.
#[test]
fn a_chunked_body_keeps_to_the_length() {
    each_daemon(|daemon, fixture| {
        let append_chunked = |name: &str, offset: usize, body: &[u8]| {
            let mut connection = Connection::open(daemon.data());
            let fields = format!(
                "{PARTIAL}Transfer-Encoding: chunked\r\nUpload-Offset: {offset}\r\nUpload-Complete: ?1\r\n"
            );
            connection.send(request_text("PATCH", name, &fields));
            connection.send(chunked(body, 3));
            connection.response_to("PATCH")
        };
        let name = create(daemon, "Upload-Length: 10\r\n", b"hello");
        let response = append_chunked(&name, 5, b"wor");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "inconsistent-upload-length"));
        assert_eq!(response.field("Upload-Complete"), Some("?0"));
        assert_eq!(offset(daemon, &name), 8);
        // This is a byte past the end: the upload is given up.
        let response = append_chunked(&name, 8, b"lds");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "inconsistent-upload-length"));
        assert_eq!(request(daemon.data(), "HEAD", &name, "").status, 404);
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn a_complete_upload_takes_nothing_more() {
    each_daemon(|daemon, _| {
        let name = create(daemon, "", b"hello");
        assert_eq!(append(daemon, &name, 5, "?1", b", world").status, 201);
        let described = request(daemon.data(), "HEAD", &name, "");
        assert_eq!((described.status, described.field("Upload-Complete")), (204, Some("?1")));
        assert_eq!(
            (described.field("Upload-Offset"), described.field("Upload-Length")),
            (Some("12"), Some("12"))
        );
        let response = append(daemon, &name, 12, "?1", b"!");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "inconsistent-upload-length"));
        assert_eq!(response.field("Upload-Complete"), Some("?1"));
        // A client that lost the answer asks again.
        let response = append(daemon, &name, 12, "?1", b"");
        assert_eq!(response.field("Upload-Complete"), Some("?1"));
        assert!(matches!(response.status, 200..=299 | 410), "{}", response.status);
        if response.status == 410 {
            assert_eq!(response.problem_kind(), "completed-upload");
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello, world");
        // The published file stays.
        assert_eq!(request(daemon.data(), "DELETE", &name, "").status, 204);
        assert_eq!(request(daemon.data(), "HEAD", &name, "").status, 404);
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello, world");
    });
}

#[test]
fn an_upload_is_given_up_by_delete() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon, "", b"hello");
        assert_eq!(partials(fixture.path()).len(), 1);
        let response = request(daemon.data(), "DELETE", &name, "");
        assert_eq!(response.status, 204);
        assert!(partials(fixture.path()).is_empty());
        for method in ["HEAD", "GET", "DELETE"] {
            assert_eq!(request(daemon.data(), method, &name, "").status, 404, "{method}");
        }
        let response = append(daemon, &name, 5, "?1", b"x");
        assert_eq!(response.status, 404);
        response.problem();
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
    });
}

#[test]
fn an_append_says_what_it_is() {
    each_daemon(|daemon, _| {
        let name = create(daemon, "", b"hello");
        for (fields, status) in [
            (format!("{PARTIAL}Upload-Complete: ?0\r\n"), 400),
            (format!("{PARTIAL}Upload-Offset: 5\r\n"), 400),
            (format!("{PARTIAL}Upload-Offset: -5\r\nUpload-Complete: ?0\r\n"), 400),
            (format!("{PARTIAL}Upload-Offset: 5\r\nUpload-Complete: 1\r\n"), 400),
            (format!("{PARTIAL}Upload-Offset: 5\r\nUpload-Offset: 5\r\nUpload-Complete: ?0\r\n"), 400),
            (
                format!("{PARTIAL}Upload-Offset: 5\r\nUpload-Complete: ?0\r\nContent-Range: bytes 5-5/9\r\n"),
                400,
            ),
            ("Upload-Offset: 5\r\nUpload-Complete: ?0\r\n".to_owned(), 415),
            ("Content-Type: text/plain\r\nUpload-Offset: 5\r\nUpload-Complete: ?0\r\n".to_owned(), 415),
        ] {
            let response = send(daemon.data(), "PATCH", &name, &fields, b"x");
            assert_eq!(response.status, status, "{fields}");
            response.problem();
            // Nobody has checked whether the upload is complete.
            assert_eq!(response.field("Upload-Complete"), None, "{fields}");
            if status == 415 {
                assert_eq!(response.field("Accept-Patch"), Some("application/partial-upload"));
            }
        }
        assert_eq!(offset(daemon, &name), 5);
        let fields = format!("{PARTIAL}Upload-Offset: 0\r\nUpload-Complete: ?0\r\n");
        for (method, path, allow) in [
            ("PATCH", "/file", "GET, HEAD, PUT, POST, DELETE, OPTIONS"),
            ("PUT", name.as_str(), "GET, HEAD, PATCH, DELETE, OPTIONS"),
            ("POST", name.as_str(), "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ] {
            let response = send(daemon.data(), method, path, &fields, b"x");
            assert_eq!((response.status, response.field("Allow")), (405, Some(allow)), "{method} {path}");
        }
        let absent = "/.streamd-uploads/0123456789abcdef0123456789abcdef";
        let response = append(daemon, absent, 0, "?1", b"x");
        assert_eq!((response.status, response.field("Upload-Complete")), (404, None));
    });
}

#[test]
fn a_creation_says_what_it_is() {
    each_daemon(|daemon, fixture| {
        for fields in [
            "Upload-Complete: ?0\r\nUpload-Offset: 5\r\n",
            "Upload-Offset: 0\r\n",
            "Upload-Complete: ?1\r\nContent-Range: bytes 0-0/1\r\n",
        ] {
            let response = send(daemon.data(), "PUT", "/file", fields, b"x");
            assert_eq!((response.status, response.field("Upload-Complete")), (400, None), "{fields}");
            response.problem();
        }
        // Where no upload is begun, none is complete or incomplete.
        let response = send(daemon.data(), "POST", "/absent/file", "Upload-Complete: ?1\r\n", b"x");
        assert_eq!((response.status, response.field("Upload-Complete")), (409, None));
        assert_eq!(send(daemon.data(), "POST", "/", "Upload-Complete: ?0\r\n", b"x").status, 409);
        assert!(partials(fixture.path()).is_empty());
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
    });
}

#[test]
fn conditions_are_those_of_the_creation() {
    each_daemon(|daemon, fixture| {
        let name = create(daemon, "If-None-Match: *\r\n", b"hello");
        fixture.write("file", b"content");
        let response = append(daemon, &name, 5, "?1", b"");
        assert_eq!((response.status, response.field("Upload-Complete")), (412, Some("?1")));
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        let fields = "Upload-Complete: ?0\r\nIf-None-Match: *\r\n";
        assert_eq!(send(daemon.data(), "POST", "/file", fields, b"x").status, 412);
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn one_that_is_too_long_is_told_the_limit() {
    let change = |settings| Settings { upload_bytes_max: 10, ..settings };
    each_uploading(change, |daemon, fixture| {
        let limit = Some("max-size=10, max-age=86400");
        for (fields, body) in [
            ("Upload-Complete: ?0\r\nUpload-Length: 11\r\n", "hello"),
            ("Upload-Complete: ?0\r\n", "hello, world"),
            ("Upload-Complete: ?1\r\n", "hello, world"),
        ] {
            let response = send(daemon.data(), "POST", "/file", fields, body.as_bytes());
            assert_eq!((response.status, response.field("Upload-Limit")), (413, limit), "{fields}");
        }
        assert!(partials(fixture.path()).is_empty());
        let name = create(daemon, "", b"hello");
        let response = append(daemon, &name, 5, "?0", b", world");
        assert_eq!((response.status, response.field("Upload-Limit")), (413, limit));
    });
}

#[test]
fn a_restart_keeps_uploads_and_their_names() {
    for driver in crate::harness::drivers() {
        let fixture = Fixture::new();
        let start = || TestDaemon::start(Settings { driver, ..uploading(fixture.path()) });
        let daemon = start();
        let name = create(&daemon, "Upload-Length: 12\r\nIf-None-Match: *\r\n", b"hello");
        let refused = create(&daemon, "If-None-Match: *\r\n", b"hello");
        drop(daemon);
        let path = fixture.path().join(&name[1..]);
        if rustix::fs::getxattr(&path, "user.streamd.upload", &mut [0_u8; 4096]).is_err() {
            eprintln!("restarts are not tested: no extended attributes here");
            return;
        }
        let daemon = start();
        let described = request(daemon.data(), "HEAD", &name, "");
        assert_eq!((described.status, described.field("Upload-Offset")), (204, Some("5")), "{driver:?}");
        assert_eq!(described.field("Upload-Length"), Some("12"));
        assert_eq!(append(&daemon, &name, 5, "?1", b", world").status, 201, "{driver:?}");
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello, world", "{driver:?}");
        // The upload's condition was kept too.
        assert_eq!(append(&daemon, &refused, 5, "?1", b"").status, 412, "{driver:?}");
        assert_eq!(get(daemon.data(), "/file", "").text(), "hello, world", "{driver:?}");
        assert!(partials(fixture.path()).is_empty());
    }
}
