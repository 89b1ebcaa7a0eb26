//! Tests of what the web expects of a server of files: indexes, hidden names, coded siblings, fields by rules,
//! downloads, and errors that people can read.

use std::os::unix::fs::symlink;

use streamd::config::{HeaderSettings, Settings};

use crate::harness::{Fixture, Response, TestDaemon, drivers, get, put, request, settings, uploading};

const BROWSER: &str =
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n";

/// Starts a daemon on each driver, with the settings that `change` makes of those of a served fixture.
fn each_daemon(fixture: &Fixture, change: impl Fn(Settings) -> Settings, test: impl Fn(&TestDaemon)) {
    for driver in drivers() {
        let served = Settings { root: Some(fixture.path().to_owned()), driver, ..settings() };
        test(&TestDaemon::start(change(served)));
    }
}

/// Returns the values of a field that may stand in several lines.
fn values<'r>(response: &'r Response, name: &str) -> Vec<&'r str> {
    let of_name = response.fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
    of_name.map(|(_, value)| value.as_str()).collect()
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_index_answers_for_its_directory_as_a_file_does() {
    let fixture = Fixture::new();
    fixture.write("index.html", b"<p>root");
    fixture.write("a/index.htm", b"second");
    fixture.write("a/b/index.html/file", b"the index is a directory");
    fixture.write("c/file", b"no index");
    let change = |settings| Settings { index: names(&["index.html", "index.htm"]), ..settings };
    each_daemon(&fixture, change, |daemon| {
        // Known files answer as those do that are looked up.
        for _ in 0..2 {
            let response = get(daemon.data(), "/", "");
            assert_eq!((response.status, response.text().as_str()), (200, "<p>root"));
            assert_eq!(response.field("Content-Type"), Some("text/html; charset=utf-8"));
            let etag = response.field("ETag").unwrap();
            assert_eq!(get(daemon.data(), "/index.html", "").field("ETag"), Some(etag));
            let unchanged = get(daemon.data(), "/", &format!("If-None-Match: {etag}\r\n"));
            assert_eq!(unchanged.status, 304);
            let part = get(daemon.data(), "/", "Range: bytes=3-\r\n");
            assert_eq!((part.status, part.text().as_str()), (206, "root"));
            let head = request(daemon.data(), "HEAD", "/", "");
            assert_eq!((head.status, head.content_length()), (200, 7));
            assert_eq!(get(daemon.data(), "/a/", "").text(), "second");
        }
        for (path, location) in [("/a", "./a/"), ("/a?x=1&y", "./a/?x=1&y"), ("//a", "./a/")] {
            let response = get(daemon.data(), path, "");
            assert_eq!((response.status, response.field("Location")), (301, Some(location)), "{path}");
        }
        // Without an index or a listing a directory is as if it weren't there.
        for path in ["/c", "/c/", "/a/b", "/a/b/", "/index.html/"] {
            assert_eq!(get(daemon.data(), path, "").status, 404, "{path}");
        }
    });
}

#[test]
fn an_index_comes_before_the_listing() {
    let fixture = Fixture::new();
    fixture.write("a/index.html", b"index");
    fixture.write("b/file", b"");
    // It is on from the start, as everywhere.
    let change = |settings| Settings { listing: true, ..settings };
    each_daemon(&fixture, change, |daemon| {
        for _ in 0..2 {
            let index = get(daemon.data(), "/a/", "");
            assert_eq!((index.text().as_str(), index.field("Vary")), ("index", Some("Accept")));
            let listing = get(daemon.data(), "/a/", "Accept: application/json\r\n");
            assert!(listing.text().contains("index.html"), "{listing:?}");
        }
        assert!(get(daemon.data(), "/b/", "").text().contains("file"));
    });
    let change = |settings| Settings { listing: true, index: Vec::new(), ..settings };
    each_daemon(&fixture, change, |daemon| {
        assert!(get(daemon.data(), "/a/", "").text().contains("index.html"));
    });
}

#[test]
fn a_hidden_name_is_as_if_it_were_not_there() {
    let fixture = Fixture::new();
    fixture.write(".env", b"secret");
    fixture.write(".git/config", b"secret");
    fixture.write("a/.draft", b"secret");
    fixture.write("a/shown", b"shown");
    fixture.write(".well-known/security.txt", b"Contact");
    symlink("shown", fixture.path().join("a/.link")).unwrap();
    each_daemon(
        &fixture,
        |settings| Settings { listing: true, ..settings },
        |daemon| {
            let absent = get(daemon.data(), "/absent", "").text();
            for path in
                ["/.env", "/%2Eenv", "/.git/config", "/.git", "/.git/", "/a/.draft", "/a/.link", "/.absent"]
            {
                for _ in 0..2 {
                    let response = get(daemon.data(), path, "");
                    assert_eq!((response.status, response.text()), (404, absent.clone()), "{path}");
                    assert_eq!(request(daemon.data(), "HEAD", path, "").status, 404, "{path}");
                }
            }
            assert_eq!(get(daemon.data(), "/.well-known/security.txt", "").text(), "Contact");
            for accept in ["", "Accept: application/json\r\n"] {
                let listing = get(daemon.data(), "/a/", accept).text();
                assert!(listing.contains("shown") && !listing.contains(".draft"), "{listing}");
                assert!(!listing.contains(".link"), "{listing}");
                let listing = get(daemon.data(), "/", accept).text();
                assert!(listing.contains(".well-known") && !listing.contains(".git"), "{listing}");
            }
            let archive = get(daemon.data(), "/?archive=tar", "");
            assert_eq!(archive.status, 200);
            let holds = |text: &[u8]| archive.body.windows(text.len()).any(|window| window == text);
            assert!(holds(b"shown") && holds(b"security.txt"));
            assert!(!holds(b"secret") && !holds(b".draft") && !holds(b".git"));
        },
    );
}

#[test]
fn hidden_names_are_seen_by_those_who_may_write() {
    let fixture = Fixture::new();
    fixture.write(".env", b"secret");
    let token = fixture.write("token", b"right");
    let change = |settings| Settings {
        listing: true,
        token_file: Some(token.clone()),
        cache_control: Some("public, max-age=60".to_owned()),
        ..settings
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    each_daemon(&fixture, change, |daemon| {
        for _ in 0..2 {
            let seen = get(daemon.data(), "/.env", &bearer("right"));
            assert_eq!((seen.status, seen.text().as_str()), (200, "secret"));
            // No cache that others share may keep it.
            assert_eq!(seen.field("Cache-Control"), Some("private, no-cache"));
            assert_eq!(get(daemon.data(), "/.env", &bearer("wrong")).status, 404);
            assert_eq!(get(daemon.data(), "/.env", "").status, 404);
        }
        let listed = |fields: &str| get(daemon.data(), "/", fields).text().contains(".env");
        assert!(listed(&bearer("right")) && !listed(&bearer("wrong")) && !listed(""));
        assert_eq!(get(daemon.data(), "/token", "").field("Cache-Control"), Some("public, max-age=60"));
    });
    // Without a token a program on this host may write, and a page from elsewhere may not.
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..uploading(fixture.path()) });
        assert_eq!(get(daemon.data(), "/.env", "").text(), "secret");
        for fields in ["Origin: https://a.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Via: 1.1 a\r\n"] {
            assert_eq!(get(daemon.data(), "/.env", fields).status, 404, "{fields}");
        }
        assert!(matches!(put(daemon.data(), "/.new", "", b"content").status, 201 | 204));
        assert_eq!(get(daemon.data(), "/.new", "").text(), "content");
    }
}

#[test]
fn a_sibling_answers_where_the_client_takes_its_coding() {
    let fixture = Fixture::new();
    fixture.write("a.js", b"plain content");
    fixture.write("a.js.gz", b"gzip");
    fixture.write("a.js.zst", b"zstd bytes");
    fixture.write("b.js", b"without siblings");
    let change = |settings| Settings { precompressed: names(&["zst", "br", "gz"]), ..settings };
    each_daemon(&fixture, change, |daemon| {
        let of = |path: &str, accepted: &str| {
            get(daemon.data(), path, &format!("Accept-Encoding: {accepted}\r\n"))
        };
        for _ in 0..2 {
            for (accepted, coding, content) in [
                ("gzip, deflate, br, zstd", Some("zstd"), "zstd bytes"),
                ("gzip", Some("gzip"), "gzip"),
                ("zstd;q=0.5, gzip", Some("gzip"), "gzip"),
                ("br", None, "plain content"),
                ("gzip;q=0", None, "plain content"),
                ("identity;q=1, *;q=0.5", None, "plain content"),
            ] {
                let response = of("/a.js", accepted);
                assert_eq!((response.status, response.text().as_str()), (200, content), "{accepted}");
                assert_eq!(response.field("Content-Encoding"), coding, "{accepted}");
                assert_eq!(response.field("Content-Type"), Some("text/javascript; charset=utf-8"));
                assert_eq!(response.field("Vary"), Some("Accept-Encoding"), "{accepted}");
            }
            let plain = get(daemon.data(), "/a.js", "");
            assert_eq!(
                (plain.text().as_str(), plain.field("Vary")),
                ("plain content", Some("Accept-Encoding"))
            );
            assert_eq!(of("/b.js", "gzip").text(), "without siblings");
            // By its own name a sibling is a file as any other.
            let own = of("/a.js.gz", "gzip");
            assert_eq!(
                (own.field("Content-Encoding"), own.field("Content-Type")),
                (None, Some("application/gzip"))
            );
        }
        let coded = of("/a.js", "zstd");
        let etag = coded.field("ETag").unwrap();
        assert_ne!(get(daemon.data(), "/a.js", "").field("ETag"), Some(etag));
        let fields = format!("Accept-Encoding: zstd\r\nIf-None-Match: {etag}\r\n");
        assert_eq!(get(daemon.data(), "/a.js", &fields).status, 304);
        assert_eq!(get(daemon.data(), "/a.js", &format!("If-None-Match: {etag}\r\n")).status, 200);
        let fields = format!("Accept-Encoding: zstd\r\nIf-Range: {etag}\r\nRange: bytes=0-3\r\n");
        // A tag of a file that was written just now is weak, and ranges are for strong ones.
        let part = get(daemon.data(), "/a.js", &fields);
        assert!(matches!((part.status, part.text().as_str()), (206, "zstd") | (200, "zstd bytes")));
        let part = get(daemon.data(), "/a.js", "Accept-Encoding: zstd\r\nRange: bytes=5-\r\n");
        assert_eq!((part.status, part.text().as_str()), (206, "bytes"));
        assert_eq!(part.field("Content-Encoding"), Some("zstd"));
        assert_eq!(part.field("Content-Range"), Some("bytes 5-9/10"));
    });
}

#[test]
fn without_precompressed_no_answer_varies() {
    let fixture = Fixture::new();
    fixture.write("a.js", b"plain");
    fixture.write("a.js.gz", b"gzip");
    each_daemon(
        &fixture,
        |settings| settings,
        |daemon| {
            let response = get(daemon.data(), "/a.js", "Accept-Encoding: gzip\r\n");
            assert_eq!((response.text().as_str(), response.field("Vary")), ("plain", None));
        },
    );
}

#[test]
fn fields_and_types_follow_from_the_rules_and_a_reload_changes_them_at_once() {
    let fixture = Fixture::new();
    fixture.write("app.js", b"script");
    fixture.write("data.q9zx", b"data");
    let rule = |pattern: &str, name: &str, value: &str| HeaderSettings {
        r#match: Some(pattern.to_owned()),
        set: [(name.to_owned(), value.to_owned())].into(),
    };
    for driver in drivers() {
        let base =
            Settings { root: Some(fixture.path().to_owned()), driver, cache_valid_ms: 60_000, ..settings() };
        let ruled = Settings {
            cache_control: Some("no-cache".to_owned()),
            headers: vec![
                rule("*.js", "Cache-Control", "max-age=60, immutable"),
                rule("*", "X-Frame-Options", "DENY"),
            ],
            types: [("q9zx".to_owned(), "chemical/x-xyz".to_owned())].into(),
            ..base.clone()
        };
        let daemon = TestDaemon::start(ruled);
        let etag = get(daemon.data(), "/app.js", "").field("ETag").unwrap().to_owned();
        let condition = format!("If-None-Match: {etag}\r\n");
        for (fields, status) in [("", 200), ("Range: bytes=1-2\r\n", 206), (&condition, 304)] {
            let response = get(daemon.data(), "/app.js", fields);
            assert_eq!(response.status, status);
            assert_eq!(response.field("Cache-Control"), Some("max-age=60, immutable"), "{status}");
            assert_eq!(response.field("X-Frame-Options"), Some("DENY"), "{status}");
        }
        let data = get(daemon.data(), "/data.q9zx", "");
        assert_eq!(data.field("Content-Type"), Some("chemical/x-xyz"));
        assert_eq!(data.field("Cache-Control"), Some("no-cache"));
        assert_eq!(data.field("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(daemon.reload(base), [] as [String; 0]);
        crate::harness::wait_until("the reload reaches known files", || {
            let responses = ["/app.js", "/data.q9zx"].map(|path| get(daemon.data(), path, ""));
            let is_bare = |response: &Response| {
                response.field("Cache-Control").is_none() && response.field("X-Frame-Options").is_none()
            };
            responses.iter().all(is_bare)
                && responses[1].field("Content-Type") == Some("application/octet-stream")
        });
    }
}

#[test]
fn a_download_is_saved_under_its_own_name() {
    let fixture = Fixture::new();
    fixture.write("a b.txt", b"text");
    fixture.write("\u{fc}.txt", b"text");
    each_daemon(
        &fixture,
        |settings| settings,
        |daemon| {
            for (path, value) in [
                ("/a%20b.txt?download", Some("attachment; filename=\"a b.txt\"")),
                (
                    "/%C3%BC.txt?x&download",
                    Some("attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"),
                ),
                ("/a%20b.txt", None),
                ("/a%20b.txt?downloads", None),
            ] {
                let response = get(daemon.data(), path, "");
                assert_eq!((response.status, response.field("Content-Disposition")), (200, value), "{path}");
            }
            let part = get(daemon.data(), "/a%20b.txt?download", "Range: bytes=0-1\r\n");
            assert_eq!(part.status, 206);
            assert!(part.field("Content-Disposition").is_some());
        },
    );
}

#[test]
fn errors_are_a_page_for_browsers_and_a_document_for_all_others() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    each_daemon(
        &fixture,
        |settings| settings,
        |daemon| {
            let page = get(daemon.data(), "/%3Cscript%3E", BROWSER);
            assert_eq!((page.status, page.field("Content-Type")), (404, Some("text/html; charset=utf-8")));
            assert!(page.text().contains("<h1>404 Not Found</h1>") && !page.text().contains("script>"));
            assert!(page.field("Content-Security-Policy").unwrap().starts_with("default-src 'none'; "));
            let malformed = get(daemon.data(), "/%zz", BROWSER);
            assert_eq!(
                (malformed.status, malformed.field("Content-Type")),
                (400, Some("text/html; charset=utf-8"))
            );
            for accept in ["", "Accept: */*\r\n", "Accept: application/json, text/html\r\n"] {
                let response = get(daemon.data(), "/absent", accept);
                response.problem();
                assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"));
                assert_eq!(values(&response, "Vary"), ["Accept"]);
            }
            assert_eq!(request(daemon.data(), "HEAD", "/absent", BROWSER).body, b"");
        },
    );
}

#[test]
fn a_new_file_says_where_it_is() {
    let fixture = Fixture::new();
    let daemon = TestDaemon::start(Settings { create_dirs: true, ..uploading(fixture.path()) });
    let created = put(daemon.data(), "/a%20b/%C3%BC.txt", "", b"content");
    assert_eq!((created.status, created.field("Location")), (201, Some("/a%20b/%C3%BC.txt")));
    let replaced = put(daemon.data(), "/a%20b/%C3%BC.txt", "", b"content");
    assert_eq!((replaced.status, replaced.field("Location")), (204, None));
}
