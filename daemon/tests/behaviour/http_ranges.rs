//! Byte ranges: one, several, none that fits, and around the marks where 31 and 32 bits end.

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, Part, TestDaemon, drivers, every_engine_and_driver, get, parts, pattern, request,
    request_text, settings,
};

/// The size of the file: more than one send and less than a window; odd, so that nothing aligns by chance.
const SIZE: usize = 300_001;

fn serving(fixture: &Fixture) -> Settings {
    Settings { root: Some(fixture.path().to_owned()), ..settings() }
}

fn range(value: &str) -> String {
    format!("Range: {value}\r\n")
}

#[test]
fn one_range_is_sent_alone() {
    let fixture = Fixture::new();
    let content = pattern(SIZE);
    fixture.write("file", &content);
    let table = [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=299990-300000", 299_990, 11),
        ("bytes=100-200000", 100, 199_901),
        ("bytes=300000-", 300_000, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=7-99999999999", 7, SIZE - 7),
        ("bytes=-1", SIZE - 1, 1),
        ("bytes=-70000", SIZE - 70_000, 70_000),
        ("bytes=-300001", 0, SIZE),
        ("bytes=-300002", 0, SIZE),
        ("BYTES=5-6", 5, 2),
        // Parts outside the file are left out, and one range remains.
        ("bytes=400000-,10-19", 10, 10),
        ("bytes=-0,10-19,30-20", 10, 10),
    ];
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let mut connection = Connection::open(daemon.data());
        for (value, start, length) in table {
            connection.send(request_text("GET", "/file", &range(value)));
            let response = connection.response_to("GET");
            assert_eq!(response.status, 206, "{name} {value}");
            let expected = format!("bytes {start}-{}/{SIZE}", start + length - 1);
            assert_eq!(response.field("Content-Range"), Some(expected.as_str()), "{name} {value}");
            assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
            assert!(response.body == content[start..start + length], "{name} {value}: other bytes");
        }
    });
}

#[test]
fn several_ranges_are_parts_in_the_order_asked() {
    let fixture = Fixture::new();
    let content = pattern(SIZE);
    fixture.write("file.json", &content);
    let part = |start: usize, length: usize| Part {
        content_type: "application/json".to_owned(),
        content_range: format!("bytes {start}-{}/{SIZE}", start + length - 1),
        body: content[start..start + length].to_vec(),
    };
    let many = format!("bytes={}", vec!["9-9"; 256].join(","));
    let table = [
        ("bytes=0-0,-1", vec![part(0, 1), part(SIZE - 1, 1)]),
        ("bytes=200000-200009, 5-99999", vec![part(200_000, 10), part(5, 99_995)]),
        // Neither merged nor reordered.
        ("bytes=10-19,15-24,15-24", vec![part(10, 10), part(15, 10), part(15, 10)]),
        ("bytes=0-149999,150000-", vec![part(0, 150_000), part(150_000, 150_001)]),
        ("bytes=5-6,999999-,7-8", vec![part(5, 2), part(7, 2)]),
        (many.as_str(), vec![part(9, 1); 256]),
    ];
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let mut connection = Connection::open(daemon.data());
        for (value, expected) in &table {
            connection.send(request_text("GET", "/file.json", &range(value)));
            let response = connection.response_to("GET");
            assert_eq!(response.status, 206, "{name} {value}");
            assert_eq!(response.field("Content-Range"), None, "{name} {value}");
            assert!(parts(&response) == *expected, "{name} {value}: other parts");
        }
    });
}

#[test]
fn boundaries_are_never_the_same() {
    let fixture = Fixture::new();
    fixture.write("file", b"0123456789");
    let daemon = TestDaemon::serving(fixture.path());
    let boundary = || {
        let response = get(daemon.data(), "/file", "Range: bytes=0-0,2-2\r\n");
        response.field("Content-Type").unwrap().to_owned()
    };
    assert_ne!(boundary(), boundary());
}

#[test]
fn the_whole_file_answers_what_is_too_much_or_not_understood() {
    let fixture = Fixture::new();
    let content = pattern(SIZE);
    fixture.write("file", &content);
    let list = format!("bytes={}", vec!["0-0"; 257].join(","));
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        for value in [list.as_str(), "bytes=0-,0-0", "bytes=0-299999,0-9", "items=0-1", "bytes=", "bytes 0-1"]
        {
            let response = get(daemon.data(), "/file", &range(value));
            assert_eq!(response.status, 200, "{driver:?} {value}");
            assert_eq!(response.field("Content-Range"), None, "{driver:?} {value}");
            assert!(response.body == content, "{driver:?} {value}: other bytes");
        }
    }
}

#[test]
fn what_cannot_be_satisfied_is_416_with_the_size() {
    let fixture = Fixture::new();
    fixture.write("file", &pattern(SIZE));
    fixture.write("empty", b"");
    let table = [
        ("/file", "bytes=300001-"),
        ("/file", "bytes=300001-300002,400000-"),
        ("/file", "bytes=-0"),
        ("/file", "bytes=9-8"),
        ("/file", "bytes=x"),
        ("/file", "bytes=1"),
        ("/file", "bytes=0-1,,2-3"),
        ("/file", "bytes=0-1;2-3"),
        ("/file", "bytes=18446744073709551616-"),
        ("/empty", "bytes=1-"),
    ];
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..serving(&fixture) });
        let mut connection = Connection::open(daemon.data());
        for (path, value) in table {
            connection.send(request_text("GET", path, &range(value)));
            let response = connection.response_to("GET");
            assert_eq!(response.status, 416, "{driver:?} {value}");
            let size = if path == "/file" { SIZE } else { 0 };
            assert_eq!(response.field("Content-Range"), Some(format!("bytes */{size}").as_str()), "{value}");
            assert_eq!(response.problem(), format!("no such range: the file has {size} bytes"), "{value}");
        }
    }
}

#[test]
fn an_empty_file_has_no_ranges() {
    let fixture = Fixture::new();
    fixture.write("empty", b"");
    let daemon = TestDaemon::serving(fixture.path());
    for value in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=-0"] {
        let response = get(daemon.data(), "/empty", &range(value));
        assert_eq!((response.status, response.field("Content-Length")), (200, Some("0")), "{value}");
    }
}

#[test]
fn head_ignores_ranges() {
    let fixture = Fixture::new();
    fixture.write("file", &pattern(SIZE));
    let daemon = TestDaemon::serving(fixture.path());
    for value in ["bytes=0-0", "bytes=0-0,2-2", "bytes=-0", "bytes=x"] {
        let response = request(daemon.data(), "HEAD", "/file", &range(value));
        assert_eq!((response.status, response.content_length()), (200, SIZE), "{value}");
        assert_eq!(response.field("Content-Range"), None, "{value}");
    }
}

#[test]
fn a_range_of_another_version_is_the_whole_file() {
    let fixture = Fixture::new();
    fixture.write("file", b"0123456789");
    fixture.set_modified("file", 784_111_777);
    fixture.settle("file");
    let daemon = TestDaemon::serving(fixture.path());
    let etag = get(daemon.data(), "/file", "").field("ETag").unwrap().to_owned();
    let weak = format!("W/{etag}");
    let unquoted = etag.trim_matches('"');
    for (if_range, status) in [
        (etag.as_str(), 206),
        // The date is the file's own, but no proof that it is the same file: programs set a time twice.
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
        (&weak, 200),
        (unquoted, 200),
        ("\"other\"", 200),
        ("*", 200),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ("yesterday", 200),
    ] {
        let fields = format!("Range: bytes=2-4\r\nIf-Range: {if_range}\r\n");
        let response = get(daemon.data(), "/file", &fields);
        let expected = if status == 206 { "234" } else { "0123456789" };
        assert_eq!((response.status, response.text().as_str()), (status, expected), "{if_range}");
    }
    // A range that can't be satisfied isn't looked at either.
    let response = get(daemon.data(), "/file", "Range: bytes=99-\r\nIf-Range: \"other\"\r\n");
    assert_eq!(response.status, 200);
}

#[test]
fn ranges_around_2_and_4_gib_are_exact() {
    const FILE_BYTES: u64 = 5 << 30;
    const HEAD_BYTES: usize = 1 << 20;
    const MARKS: [u64; 2] = [2 << 30, 4 << 30];
    /// More than a window on both sides of a mark.
    const AROUND: u64 = 1_500_000;
    let fixture = Fixture::new();
    fixture.write_sparse("file", FILE_BYTES, HEAD_BYTES, &MARKS);
    let marked = |mark: u64| [mark.to_be_bytes(), (!mark).to_be_bytes()].concat();
    every_engine_and_driver(&serving(&fixture), |daemon, name| {
        let mut connection = Connection::open(daemon.data());
        let mut ask = |value: String| {
            connection.send(request_text("GET", "/file", &range(&value)));
            connection.response_to("GET")
        };
        for mark in MARKS {
            let (first, last) = (mark - 8, mark + 7);
            let response = ask(format!("bytes={first}-{last}"));
            let expected = format!("bytes {first}-{last}/{FILE_BYTES}");
            assert_eq!(response.field("Content-Range"), Some(expected.as_str()), "{name}");
            assert_eq!(response.body, marked(mark), "{name}");
            assert_eq!(ask(format!("bytes={}-{mark}", mark - 1)).body, marked(mark)[7..9], "{name}");
            let (zeros, large) = (vec![0; 1_499_992], ask(around(mark, AROUND)).body);
            assert!(large == [zeros.clone(), marked(mark), zeros].concat(), "{name}: around {mark}");
        }
        let spanning = ask(format!("bytes={}-{},{}-{}", MARKS[0], MARKS[0] + 1, MARKS[1] - 2, MARKS[1] - 1));
        let bodies: Vec<_> = parts(&spanning).into_iter().map(|part| part.body).collect();
        assert_eq!(bodies, [&marked(MARKS[0])[8..10], &marked(MARKS[1])[6..8]], "{name}");
        let tail = ask("bytes=-3".to_owned());
        assert_eq!(tail.field("Content-Range"), Some("bytes 5368709117-5368709119/5368709120"), "{name}");
        assert_eq!(tail.body, [0; 3], "{name}");
        assert_eq!(ask("bytes=5368709119-".to_owned()).body, [0], "{name}");
        let past = ask("bytes=5368709120-".to_owned());
        assert_eq!((past.status, past.field("Content-Range")), (416, Some("bytes */5368709120")), "{name}");
        let whole = request(daemon.data(), "HEAD", "/file", "");
        assert_eq!(whole.field("Content-Length"), Some("5368709120"), "{name}");
    });
}

fn around(mark: u64, bytes: u64) -> String {
    format!("bytes={}-{}", mark - bytes, mark + bytes - 1)
}
