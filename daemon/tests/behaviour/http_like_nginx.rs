//! Where the RFCs leave a choice the answers are nginx's: both are asked the same and compared.
//!
//! Not compared, since the design differs on purpose: the form of the entity tag and of the boundary, bodies of
//! errors, ranges of HEAD requests (RFC 9110 14.2: ignored; nginx obeys them), tags together with dates
//! (RFC 9110 13.2.2: the tag decides; nginx wants both), dates that are none with If-Unmodified-Since
//! (RFC 9110 13.1.4: ignored; nginx answers 412), tabs in lists (RFC 9110 5.6.1 allows them; nginx doesn't) and
//! offsets from 2^63 on (nginx's are signed).

use std::net::SocketAddr;

use crate::harness::{Fixture, Nginx, Response, TestDaemon, get, parts, pattern};

const MODIFIED_S: u64 = 784_111_777;

const FILES: [&str; 3] = ["/file", "/ten", "/empty"];

const RANGES: &[&str] = &[
    "bytes=0-0",
    "bytes=0-9",
    "bytes=0-",
    "bytes=1-",
    "bytes=1-1",
    "bytes=5-100",
    "bytes=9-",
    "bytes=9-9",
    "bytes=10-",
    "bytes=10-20",
    "bytes=0-9223372036854775806",
    "bytes=-1",
    "bytes=-0",
    "bytes=-9",
    "bytes=-10",
    "bytes=-11",
    "bytes=-9223372036854775806",
    "bytes=5-2",
    "BYTES=1-2",
    "Bytes=1-2",
    "bytes=00000000000000000000000000001-2",
    "bytes=0-0,2-2",
    "bytes=7-8,0-1",
    "bytes=0-3,2-4",
    "bytes=0-4,5-9",
    "bytes=0-4,5-",
    "bytes=0-9,0-0",
    "bytes=0-,-1",
    "bytes=0-,0-,0-",
    "bytes=0-0,99999999-",
    "bytes=99999999-,0-0",
    "bytes=99999999-,99999999-",
    "bytes=-0,-0",
    "bytes=-0,0-0",
    "bytes=0-1,5-2,-0,-1",
    "bytes=1-,0-",
    "bytes=0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0",
    "bytes= 0-1",
    "bytes=0 - 1",
    "bytes=0-1 , 2-3",
    "bytes=0-1,  -1",
    "bytes=- 1",
    "bytes=0-1, ",
    "bytes= ",
    "bytes=",
    "bytes",
    "bytes =0-1",
    "bytes 0-1",
    "items=0-1",
    "byte=0-1",
    "bytes=x",
    "bytes=-",
    "bytes=--1",
    "bytes=1",
    "bytes=1-x",
    "bytes=1-2x",
    "bytes=0-1-2",
    "bytes=+1-2",
    "bytes=1-+2",
    "bytes=0x1-2",
    "bytes=,",
    "bytes=,0-1",
    "bytes=0-1,",
    "bytes=0-1,,2-3",
    "bytes=0-1;2-3",
    "bytes=0-1 2-3",
    "bytes=0-1,x",
    "bytes=99999999-,x",
    "bytes=18446744073709551616-",
    "bytes=0-18446744073709551616",
    "bytes=-18446744073709551616",
    "bytes=99999999999999999999999999-",
];

/// `ETAG` stands for the tag that each gave the file.
const CONDITIONS: &[&str] = &[
    "If-None-Match: ETAG\r\n",
    "If-None-Match: W/ETAG\r\n",
    "If-None-Match: *\r\n",
    "If-None-Match: \"x\", ETAG\r\n",
    "If-None-Match: \"x\",W/ETAG , \"y\"\r\n",
    "If-None-Match: \"x\"\r\n",
    "If-None-Match: x\r\n",
    "If-Match: ETAG\r\n",
    "If-Match: W/ETAG\r\n",
    "If-Match: *\r\n",
    "If-Match: \"x\", ETAG\r\n",
    "If-Match: \"x\"\r\n",
    "If-Match: ETAG\r\nIf-None-Match: ETAG\r\n",
    "If-Match: \"x\"\r\nIf-None-Match: ETAG\r\n",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT\r\n",
    "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
    "If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n",
    "If-Modified-Since: yesterday\r\n",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:38 GMT\r\n",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\nIf-None-Match: ETAG\r\n",
    "If-None-Match: ETAG\r\nRange: bytes=0-1\r\n",
    "If-None-Match: \"x\"\r\nRange: bytes=0-1\r\n",
    "If-Match: \"x\"\r\nRange: bytes=0-1\r\n",
    "If-Range: ETAG\r\nRange: bytes=0-1\r\n",
    "If-Range: ETAG\r\nRange: bytes=99999999-\r\n",
    "If-Range: ETAG\r\nRange: bytes=0-1,3-4\r\n",
    "If-Range: W/ETAG\r\nRange: bytes=0-1\r\n",
    "If-Range: \"x\"\r\nRange: bytes=0-1\r\n",
    "If-Range: \"x\"\r\nRange: bytes=99999999-\r\n",
    // With the very date nginx sends a part, and the daemon the whole: a date is no proof.
    "If-Range: Sun, 06 Nov 1994 08:49:36 GMT\r\nRange: bytes=0-1\r\n",
    "If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\nRange: bytes=0-1\r\n",
    "If-Range: yesterday\r\nRange: bytes=0-1\r\n",
    "If-Range: *\r\nRange: bytes=0-1\r\n",
];

/// Returns the answer of one server for one file.
fn ask(address: SocketAddr, path: &str, fields: &str) -> Response {
    let whole = get(address, path, "");
    get(address, path, &fields.replace("ETAG", whole.field("ETag").unwrap()))
}

fn assert_alike(ours: &Response, theirs: &Response, what: &str) {
    assert_eq!(ours.status, theirs.status, "{what}");
    assert_eq!(ours.field("Content-Range"), theirs.field("Content-Range"), "{what}");
    assert_eq!(ours.field("Last-Modified"), theirs.field("Last-Modified").filter(|_| ours.status < 400));
    if ours.status >= 400 {
        return;
    }
    if ours.status == 206 && ours.field("Content-Range").is_none() {
        assert!(parts(ours) == parts(theirs), "{what}: other parts");
        return;
    }
    assert_eq!(ours.field("Content-Length"), theirs.field("Content-Length"), "{what}");
    assert!(ours.body == theirs.body, "{what}: other bytes");
}

#[test]
fn ranges_and_conditions_are_answered_as_nginx_answers() {
    let fixture = Fixture::new();
    for (path, content) in FILES.iter().zip([pattern(100_000), b"0123456789".to_vec(), Vec::new()]) {
        let name = path.trim_start_matches('/');
        fixture.write(name, &content);
        fixture.set_modified(name, MODIFIED_S);
        fixture.settle(name);
    }
    let Some(nginx) = Nginx::serving(fixture.path()) else {
        eprintln!("not compared with nginx: it is not installed");
        return;
    };
    let daemon = TestDaemon::serving(fixture.path());
    // nginx.conf here sets max_ranges to the daemon's own limit, so that the edge is compared too.
    let lists = [16, 17, 255, 256, 257, 1000].map(|count| format!("bytes={}", vec!["0-0"; count].join(",")));
    let dropped = format!("{},99999999-", lists[3]);
    let ranges = RANGES.iter().copied().chain(lists.iter().map(String::as_str)).chain([dropped.as_str()]);
    let fields = ranges.map(|value| format!("Range: {value}\r\n"));
    let fields: Vec<_> = fields.chain(CONDITIONS.iter().map(|text| (*text).to_owned())).collect();
    for path in FILES {
        for fields in &fields {
            let (ours, theirs) = (ask(daemon.data(), path, fields), ask(nginx.address(), path, fields));
            assert_alike(&ours, &theirs, &format!("{path} {fields}"));
        }
    }
}
