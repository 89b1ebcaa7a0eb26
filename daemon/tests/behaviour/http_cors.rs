//! Tests of pages from elsewhere: which may read, which may write, and what OPTIONS tells them.

use std::process::Command;

use streamd::config::{CorsSettings, Settings};

use crate::harness::{Fixture, Response, TestDaemon, drivers, get, put, request, settings, uploading};
use crate::real_clients::installed;

const APP: &str = "https://app.example";

fn cors(origins: &[&str]) -> Option<CorsSettings> {
    let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    Some(CorsSettings { origins, ..CorsSettings::default() })
}

fn of_page(origin: &str) -> String {
    format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n")
}

fn varies_by_origin(response: &Response) -> bool {
    response.fields.iter().any(|(name, value)| name == "Vary" && value == "Origin")
}

#[test]
fn every_answer_names_the_origin_that_may_read_it() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            root: Some(fixture.path().to_owned()),
            listing: true,
            cors: cors(&[APP, "http://localhost:3000"]),
            ..settings()
        });
        for _ in 0..2 {
            let etag = get(daemon.data(), "/file", "").field("ETag").unwrap().to_owned();
            let condition = format!("If-None-Match: {etag}\r\n");
            for (path, fields, status) in [
                ("/file", "", 200),
                ("/file", "Range: bytes=0-1\r\n", 206),
                ("/file", &condition, 304),
                ("/file", "If-Match: \"other\"\r\n", 412),
                ("/file", "Range: bytes=100-\r\n", 416),
                ("/absent", "", 404),
                ("/", "", 200),
            ] {
                let allowed = get(daemon.data(), path, &format!("{fields}{}", of_page(APP)));
                assert_eq!(allowed.status, status, "{path}");
                assert_eq!(allowed.field("Access-Control-Allow-Origin"), Some(APP), "{path} {status}");
                let exposed = allowed.field("Access-Control-Expose-Headers").unwrap();
                assert!(exposed.contains("Content-Range") && exposed.contains("Upload-Offset"), "{exposed}");
                for fields in [fields.to_owned(), format!("{fields}{}", of_page("https://evil.example"))] {
                    let other = get(daemon.data(), path, &fields);
                    assert_eq!(other.status, status);
                    assert_eq!(other.field("Access-Control-Allow-Origin"), None, "{path} {status}");
                    assert!(varies_by_origin(&other), "{path} {status}");
                }
            }
        }
    }
}

#[test]
fn a_share_without_cors_says_nothing_of_origins() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let daemon = TestDaemon::serving(fixture.path());
    for (method, path) in [("GET", "/file"), ("GET", "/absent"), ("OPTIONS", "/file")] {
        let fields = format!("{}Access-Control-Request-Method: GET\r\n", of_page(APP));
        let response = request(daemon.data(), method, path, &fields);
        let is_of_cors = |name: &str| name.starts_with("Access-Control-");
        assert!(!response.fields.iter().any(|(name, _)| is_of_cors(name)), "{:?}", response.fields);
        assert!(!varies_by_origin(&response));
    }
}

#[test]
fn any_origin_may_read_where_all_may_and_none_writes_for_that() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let daemon = TestDaemon::start(Settings { cors: cors(&["*"]), ..uploading(fixture.path()) });
    for fields in [String::new(), of_page(APP), of_page("null")] {
        let response = get(daemon.data(), "/file", &fields);
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"), "{fields}");
        assert!(!varies_by_origin(&response));
    }
    assert_eq!(put(daemon.data(), "/new", &of_page(APP), b"content").status, 403);
    assert_eq!(put(daemon.data(), "/new", "", b"content").status, 201);
}

#[test]
fn exactly_the_pages_that_are_allowed_by_name_may_upload() {
    let fixture = Fixture::new();
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, cors: cors(&[APP]), ..uploading(fixture.path()) });
        let allowed = put(daemon.data(), "/file", &of_page(APP), b"content");
        assert!(matches!(allowed.status, 201 | 204), "{}", allowed.status);
        assert_eq!(allowed.field("Access-Control-Allow-Origin"), Some(APP));
        for origin in ["https://evil.example", "http://app.example", "null"] {
            let refused = put(daemon.data(), "/file", &of_page(origin), b"content");
            assert_eq!(refused.status, 403, "{origin}");
            assert_eq!(refused.field("Access-Control-Allow-Origin"), None);
        }
        let without_origin = put(daemon.data(), "/file", "Sec-Fetch-Site: cross-site\r\n", b"content");
        assert_eq!(without_origin.status, 403);
    }
}

#[test]
fn options_tell_the_methods_that_there_are() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let of_uploads = "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS";
    for driver in drivers() {
        let reading = Settings { root: Some(fixture.path().to_owned()), driver, ..settings() };
        let writing = Settings { driver, ..uploading(fixture.path()) };
        for (settings, allow, patch) in
            [(reading, "GET, HEAD, OPTIONS", None), (writing, of_uploads, Some("application/partial-upload"))]
        {
            let daemon = TestDaemon::start(settings);
            for target in ["*", "/", "/file", "/absent", "/.streamd-uploads/0123456789abcdef0123456789abcdef"]
            {
                let response = request(daemon.data(), "OPTIONS", target, "");
                assert_eq!((response.status, response.field("Allow")), (204, Some(allow)), "{target}");
                assert_eq!((response.field("Accept-Patch"), response.body.len()), (patch, 0), "{target}");
            }
        }
    }
}

#[test]
fn a_preflight_is_answered_for_origins_that_are_allowed() {
    let fixture = Fixture::new();
    let settings = Settings {
        cors: Some(CorsSettings {
            allow: vec!["X-Own".to_owned()],
            max_age_s: 60,
            private_network: true,
            ..cors(&[APP]).unwrap()
        }),
        ..uploading(fixture.path())
    };
    let daemon = TestDaemon::start(settings);
    let preflight = |origin: &str, more: &str| {
        let fields = format!(
            "{}Access-Control-Request-Method: PATCH\r\nAccess-Control-Request-Headers: upload-offset\r\n{more}",
            of_page(origin)
        );
        request(daemon.data(), "OPTIONS", "/.streamd-uploads/0123456789abcdef0123456789abcdef", &fields)
    };
    let allowed = preflight(APP, "Access-Control-Request-Private-Network: true\r\n");
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.field("Access-Control-Allow-Origin"), Some(APP));
    assert!(allowed.field("Access-Control-Allow-Methods").unwrap().contains("PATCH"));
    let fields = allowed.field("Access-Control-Allow-Headers").unwrap();
    for name in ["Authorization", "Range", "Upload-Offset", "X-Own"] {
        assert!(fields.split(", ").any(|allowed| allowed == name), "{name}: {fields}");
    }
    assert_eq!(allowed.field("Access-Control-Max-Age"), Some("60"));
    assert_eq!(allowed.field("Access-Control-Allow-Private-Network"), Some("true"));
    assert_eq!(preflight(APP, "").field("Access-Control-Allow-Private-Network"), None);
    let refused = preflight("https://evil.example", "Access-Control-Request-Private-Network: true\r\n");
    assert_eq!(refused.status, 204);
    assert!(!refused.fields.iter().any(|(name, _)| name.starts_with("Access-Control-")));
}

#[test]
fn a_page_of_another_origin_reads_a_range_in_a_browser() {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/cors_page.py");
    if !["python3", "chromium", "chromedriver"].into_iter().all(installed) {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("file", b"0123456789");
    // The page is of another port, so of another origin; its own daemon serves it.
    fixture.write("page/index.html", b"<!doctype html><title>page</title>");
    let index = vec!["index.html".to_owned()];
    let root = Some(fixture.path().join("page"));
    let page = TestDaemon::start(Settings { root, index, ..settings() });
    let origin = format!("http://{}", page.data());
    let daemon = TestDaemon::start(Settings { cors: cors(&[&origin]), ..uploading(fixture.path()) });
    let closed = TestDaemon::serving(fixture.path());
    let [open, closed] = [&daemon, &closed].map(|daemon| format!("http://{}/file", daemon.data()));
    let output =
        Command::new("python3").args([SCRIPT, &format!("{origin}/"), &open, &closed]).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
