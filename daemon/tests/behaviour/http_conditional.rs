//! Conditional requests (RFC 9110 13) over real connections.

use streamd::config::Settings;

use crate::harness::{Connection, Fixture, TestDaemon, drivers, get, request_text, settings};

const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const MODIFIED_S: u64 = 784_111_777;

/// A file of ten bytes that has a strong tag.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("file", b"0123456789");
    fixture.set_modified("file", MODIFIED_S);
    fixture.settle("file");
    fixture
}

fn etag_of(daemon: &TestDaemon) -> String {
    get(daemon.data(), "/file", "").field("ETag").unwrap().to_owned()
}

/// Conditions with `ETAG` for the file's own tag, which is strong, and the status of their answer.
const TABLE: &[(&str, u16)] = &[
    ("If-None-Match: ETAG\r\n", 304),
    ("If-None-Match: W/ETAG\r\n", 304),
    ("If-None-Match: *\r\n", 304),
    ("If-None-Match: \"x\", ETAG\r\n", 304),
    ("If-None-Match: \"x\",, \t\"y,z\" , W/ETAG\r\n", 304),
    ("If-None-Match: \"x\"\r\n", 200),
    ("If-None-Match: \"x\", \"y\"\r\n", 200),
    ("If-None-Match: \r\n", 200),
    ("If-Modified-Since: MODIFIED\r\n", 304),
    ("If-Modified-Since: AFTER\r\n", 304),
    ("If-Modified-Since: BEFORE\r\n", 200),
    ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", 304),
    ("If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n", 304),
    ("If-Modified-Since: yesterday\r\n", 200),
    // A tag that is given decides alone (13.1.3).
    ("If-None-Match: \"x\"\r\nIf-Modified-Since: AFTER\r\n", 200),
    ("If-None-Match: ETAG\r\nIf-Modified-Since: BEFORE\r\n", 304),
    ("If-Match: ETAG\r\n", 200),
    ("If-Match: *\r\n", 200),
    ("If-Match: \"x\", ETAG\r\n", 200),
    // Strong comparison: a weak tag equals nothing (13.1.1).
    ("If-Match: W/ETAG\r\n", 412),
    ("If-Match: \"x\"\r\n", 412),
    ("If-Match: \r\n", 412),
    ("If-Unmodified-Since: MODIFIED\r\n", 200),
    ("If-Unmodified-Since: AFTER\r\n", 200),
    ("If-Unmodified-Since: BEFORE\r\n", 412),
    ("If-Unmodified-Since: yesterday\r\n", 200),
    // The order of 13.2.2.
    ("If-Match: ETAG\r\nIf-Unmodified-Since: BEFORE\r\n", 200),
    ("If-Match: \"x\"\r\nIf-None-Match: ETAG\r\n", 412),
    ("If-Match: ETAG\r\nIf-None-Match: ETAG\r\n", 304),
    ("If-Unmodified-Since: BEFORE\r\nIf-Modified-Since: AFTER\r\n", 412),
    ("If-None-Match: ETAG\r\nRange: bytes=0-1\r\n", 304),
    ("If-Match: \"x\"\r\nRange: bytes=99-\r\n", 412),
    ("If-Match: ETAG\r\nRange: bytes=2-4\r\n", 206),
    ("If-None-Match: \"x\"\r\nRange: bytes=99-\r\n", 416),
];

#[test]
fn conditions_decide_and_the_connection_goes_on() {
    let fixture = fixture();
    for driver in drivers() {
        let daemon =
            TestDaemon::start(Settings { driver, root: Some(fixture.path().to_owned()), ..settings() });
        let etag = etag_of(&daemon);
        let mut connection = Connection::open(daemon.data());
        for (conditions, status) in TABLE {
            let fields = conditions
                .replace("ETAG", &etag)
                .replace("BEFORE", BEFORE)
                .replace("MODIFIED", MODIFIED)
                .replace("AFTER", AFTER);
            for method in ["GET", "HEAD"] {
                // HEAD ignores ranges.
                let expected = if method == "HEAD" && matches!(status, 206 | 416) { 200 } else { *status };
                connection.send(request_text(method, "/file", &fields));
                let response = connection.response_to(method);
                assert_eq!(response.status, expected, "{driver:?} {method} {conditions}");
                match (method, expected) {
                    ("GET", 200) => assert_eq!(response.text(), "0123456789", "{conditions}"),
                    ("GET", 206) => assert_eq!(response.text(), "234", "{conditions}"),
                    ("GET", 412) => {
                        let detail = "the file is not in the state that was asked for";
                        assert_eq!(response.problem(), detail, "{conditions}");
                    }
                    ("GET", 416) => assert_eq!(response.field("Content-Range"), Some("bytes */10")),
                    _ => assert!(response.body.is_empty()),
                }
            }
        }
    }
}

#[test]
fn not_modified_has_its_validators_and_no_body() {
    let fixture = fixture();
    let daemon = TestDaemon::serving(fixture.path());
    let etag = etag_of(&daemon);
    let mut connection = Connection::open(daemon.data());
    let conditional = request_text("GET", "/file", &format!("If-None-Match: {etag}\r\n"));
    // Any body of the first answer would be taken for the second.
    connection.send(conditional + &request_text("GET", "/file", "Connection: close\r\n"));
    let response = connection.response_to("GET");
    assert_eq!(response.status, 304);
    assert_eq!(response.field("ETag"), Some(etag.as_str()));
    assert_eq!(response.field("Last-Modified"), Some(MODIFIED));
    assert!(response.field("Date").is_some());
    assert_eq!(response.field("Content-Length"), None);
    assert_eq!(connection.response_to("GET").text(), "0123456789");
    assert!(connection.receive_to_end().is_empty());
}

#[test]
fn what_does_not_exist_meets_no_condition() {
    let fixture = fixture();
    let daemon = TestDaemon::serving(fixture.path());
    for fields in ["If-None-Match: *\r\n", "If-Match: *\r\n", "If-Match: \"x\"\r\n"] {
        assert_eq!(get(daemon.data(), "/absent", fields).status, 404, "{fields}");
    }
}
