//! Requests that are refused: each with its status, a body that says what was wrong, and one answer only.

use std::net::SocketAddr;

use streamd::config::Settings;

use crate::harness::{Connection, Fixture, Response, TestDaemon, drivers, settings};

/// A row: the bytes that are sent, the status, and a part of the detail.
pub(crate) type Row = (&'static str, u16, &'static str);

pub(crate) const FRAMING: &[Row] = &[
    // Lines.
    ("GET /file HTTP/1.1\nHost: x\n\n", 400, "line feed without a carriage return"),
    ("GET /file HTTP/1.1\r\nHost: x\n\r\n", 400, "line feed without a carriage return"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\n\n", 400, "line feed without a carriage return"),
    ("GET /file HTTP/1.1\r\nHost:\rx\r\n\r\n", 400, "carriage return without a line feed"),
    ("GET /file\r HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "carriage return without a line feed"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n", 400, "begins with white space"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nA: b\r\n\tc\r\n\r\n", 400, "begins with white space"),
    ("GET /file HTTP/1.1\r\n Host: localhost\r\n\r\n", 400, "begins with white space"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nA: b\0c\r\n\r\n", 400, "NUL"),
    // Request lines.
    ("GET  /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "`GET  /file HTTP/1.1`"),
    ("GET /fi le HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "version"),
    ("GET /file\r\nHost: localhost\r\n\r\n", 400, "`GET /file`"),
    (" GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "` GET /file HTTP/1.1`"),
    ("GE(T /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "`GE(T`"),
    ("GET\t/file\tHTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "`GET\\x09/file\\x09HTTP/1.1`"),
    ("GET /file http/1.1\r\nHost: localhost\r\n\r\n", 400, "`http/1.1`"),
    ("GET /file HTTP/1.11\r\nHost: localhost\r\n\r\n", 400, "`HTTP/1.11`"),
    ("GET /file HTTP/0.9\r\nHost: localhost\r\n\r\n", 400, "`HTTP/0.9`"),
    ("GET /file HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "`HTTP/2.0`"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "`HTTP/2.0`"),
    // Methods.
    ("get /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "`get`"),
    ("BREW /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "`BREW`"),
    ("POST /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi", 405, "POST"),
    ("PUT /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi", 405, "PUT"),
    ("DELETE /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "DELETE"),
    ("PATCH /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "PATCH"),
    ("TRACE /file HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "TRACE"),
    ("CONNECT x:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "CONNECT"),
    // Host.
    ("GET /file HTTP/1.1\r\n\r\n", 400, "no Host field"),
    ("GET http://x/file HTTP/1.1\r\n\r\n", 400, "no Host field"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "more than one Host"),
    ("GET /file HTTP/1.0\r\nHost: localhost\r\nHost: y\r\n\r\n", 400, "more than one Host"),
    ("GET /file HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "`a b`"),
    ("GET /file HTTP/1.1\r\nHost: user@x\r\n\r\n", 400, "`user@x`"),
    ("GET /file HTTP/1.1\r\nHost:\r\n\r\n", 400, "the Host field ``"),
    ("GET /file HTTP/1.1\r\nHost: [zzz]\r\n\r\n", 400, "`[zzz]`"),
    ("GET /file HTTP/1.1\r\nHost: a%zz\r\n\r\n", 400, "`a%zz`"),
    // Fields.
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nRange: a\r\nRange: a\r\n\r\n", 400, "more than one Range"),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nAuthorization: a\r\nAuthorization: a\r\n\r\n",
        400,
        "more than one Authorization",
    ),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: a\r\nIf-None-Match: b\r\n\r\n",
        400,
        "more than one If-None-Match",
    ),
    ("GET /file HTTP/1.1\r\nHost : x\r\n\r\n", 400, "`Host : x`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n", 400, "`nonsense`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\n: y\r\n\r\n", 400, "`: y`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nA: \u{1}\r\n\r\n", 400, "`A: \\x01`"),
    // Bodies.
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "both Content-Length and Transfer-Encoding",
    ),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        "both Content-Length and Transfer-Encoding",
    ),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        400,
        "more than one Content-Length",
    ),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2, 2\r\n\r\nhi", 400, "`2, 2`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\nhi", 400, "`+2`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\nhi", 400, "`-1`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x2\r\n\r\nhi", 400, "`0x2`"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: \r\n\r\nhi", 400, "Content-Length ``"),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551616\r\n\r\nhi",
        400,
        "`18446744073709551616`",
    ),
    // hyper gives the last two numbers below 2^64 a meaning of its own.
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551615\r\n\r\nhi",
        400,
        "`18446744073709551615`",
    ),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551614\r\n\r\nhi",
        400,
        "below 2^63",
    ),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9223372036854775808\r\n\r\nhi",
        400,
        "`9223372036854775808`",
    ),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        "`gzip, chunked`",
    ),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\n\r\n", 501, "`identity`"),
    (
        "GET /file HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        501,
        "`chunked`",
    ),
    ("GET /file HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0"),
    ("GET /file HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\n\r\n", 417, "`200-ok`"),
];

pub(crate) const TARGETS: &[Row] = &[
    ("file", 400, "`file`"),
    ("*", 400, "`*`"),
    ("ftp://x/file", 400, "`ftp://x/file`"),
    ("http://", 400, "host ``"),
    ("http:///file", 400, "host ``"),
    ("http://user@x/file", 400, "`user@x`"),
    ("/file#part", 400, "fragment"),
    ("/\u{1}", 400, "`/\\x01`"),
    ("/\u{7f}", 400, "`/\\x7f`"),
    ("/file\tname", 400, "`/file\\x09name`"),
    // Names.
    ("/file%00", 400, "NUL"),
    ("/file%00.txt", 400, "NUL"),
    ("/%00/..", 400, "NUL"),
    ("/a%", 400, "`%`"),
    ("/a%4", 400, "`%4`"),
    ("/a%zz", 400, "`%zz`"),
    ("/a%2", 400, "`%2`"),
];

/// A well-formed request behind each bad one; an answer to it would be the second one.
pub(crate) const SMUGGLED: &str = "GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    fixture
}

fn daemons(fixture: &Fixture) -> impl Iterator<Item = TestDaemon> {
    drivers().into_iter().map(|driver| {
        TestDaemon::start(Settings { driver, root: Some(fixture.path().to_owned()), ..settings() })
    })
}

/// Returns the only answer to `bytes`, after which the connection ends in order.
pub(crate) fn only_answer(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(address);
    connection.send(bytes.as_ref());
    let response = connection.response_to("GET");
    let rest = connection.receive_to_end();
    assert!(
        rest.is_empty(),
        "{:?} has two answers: {:?}",
        String::from_utf8_lossy(bytes.as_ref()),
        String::from_utf8_lossy(&rest)
    );
    response
}

fn assert_refused(daemon: &TestDaemon, bytes: &str, status: u16, detail: &str) {
    let response = only_answer(daemon.data(), format!("{bytes}{SMUGGLED}"));
    assert_eq!(response.status, status, "{bytes:?}: {}", response.text());
    assert_eq!(response.field("Connection"), Some("close"), "{bytes:?}");
    assert_eq!(response.field("Allow"), (status == 405).then_some("GET, HEAD, OPTIONS"), "{bytes:?}");
    let found = response.problem();
    assert!(found.contains(detail), "{bytes:?}: {found:?} does not say {detail:?}");
}

#[test]
fn framing_is_strict() {
    let fixture = fixture();
    for daemon in daemons(&fixture) {
        for (bytes, status, detail) in FRAMING {
            assert_refused(&daemon, bytes, *status, detail);
        }
    }
}

#[test]
fn targets_and_names_that_are_none_are_refused() {
    let fixture = fixture();
    for daemon in daemons(&fixture) {
        for (target, status, detail) in TARGETS {
            assert_refused(
                &daemon,
                &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                *status,
                detail,
            );
        }
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let fixture = fixture();
    for daemon in daemons(&fixture) {
        let response = only_answer(daemon.data(), b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(response.status, 400);
        assert!(response.problem().contains("`/\\xff`"), "{}", response.problem());
    }
}

#[test]
fn upgrades_are_not_made() {
    let fixture = fixture();
    for daemon in daemons(&fixture) {
        let mut connection = Connection::open(daemon.data());
        let fields = "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n";
        connection.send(format!("GET /file HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{SMUGGLED}"));
        for _ in 0..2 {
            let response = connection.response_to("GET");
            assert_eq!((response.status, response.text().as_str()), (200, "content"));
            assert_eq!(response.field("Upgrade"), None);
        }
    }
}

/// Makes a GET of `/file` whose head has exactly `bytes` bytes.
fn head_of(bytes: usize) -> String {
    const AROUND: &str = "GET /file HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n";
    AROUND.replace("X: ", &format!("X: {}", "x".repeat(bytes - AROUND.len())))
}

#[test]
fn heads_targets_and_fields_have_limits() {
    let fixture = fixture();
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n", "a/".repeat((bytes - 1) / 2) + "a");
    let fields =
        |count: usize| format!("GET /file HTTP/1.1\r\nHost: localhost\r\n{}", "X: y\r\n".repeat(count - 1));
    for daemon in daemons(&fixture) {
        let status = |head: String| {
            let mut connection = Connection::open(daemon.data());
            connection.send(head);
            connection.response_to("GET").status
        };
        assert_eq!(status(head_of(16_384)), 200);
        assert_refused(&daemon, &head_of(16_385), 431, "over 16384 bytes");
        assert_refused(&daemon, &head_of(64_000), 431, "over 16384 bytes");
        // The status is 404, since the name is as long as a path may be, and longer.
        assert_eq!(status(target(8_192) + "\r\n"), 404);
        assert_refused(&daemon, &(target(8_194) + "\r\n"), 414, "over 8192 bytes");
        assert_eq!(status(fields(100) + "\r\n"), 200);
        assert_refused(&daemon, &(fields(101) + "\r\n"), 431, "more than 100 fields");
        // An endless line is refused before its end.
        let endless = format!("GET /{}", "a".repeat(8_192));
        let mut connection = Connection::open(daemon.data());
        connection.send(endless);
        assert_eq!(connection.response_to("GET").status, 414);
        assert!(connection.receive_to_end().is_empty());
    }
}

#[test]
fn a_head_must_be_complete_in_time() {
    let fixture = fixture();
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, head_timeout_ms: 300, ..settings() });
        let response = only_answer(daemon.data(), "GET /file HTTP/1.1\r\nHost:");
        assert_eq!(response.status, 408, "{driver:?}");
        assert_eq!(response.problem(), "the request head was not complete in time", "{driver:?}");
        assert_eq!(response.field("Connection"), Some("close"), "{driver:?}");
        // The bytes are too few to tell HTTP from a frame, but letters, so there is an answer. Other bytes get
        // none.
        let response = only_answer(daemon.data(), "GET /");
        assert_eq!(response.status, 408, "{driver:?}");
        let mut connection = Connection::open(daemon.data());
        connection.send([10, 0, 0]);
        assert!(connection.receive_to_end().is_empty(), "{driver:?}");
        // The next head of a connection has its own time.
        let mut connection = Connection::open(daemon.data());
        connection.send(format!("{SMUGGLED}GET /fi"));
        assert_eq!(connection.response_to("GET").status, 200, "{driver:?}");
        assert_eq!(connection.response_to("GET").status, 408, "{driver:?}");
        assert!(connection.receive_to_end().is_empty(), "{driver:?}");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let fixture = fixture();
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, idle_timeout_ms: 300, ..settings() });
        let mut fresh = Connection::open(daemon.data());
        let mut used = Connection::open(daemon.data());
        used.send(SMUGGLED);
        assert_eq!(used.response_to("GET").status, 200, "{driver:?}");
        assert!(fresh.receive_to_end().is_empty(), "{driver:?}");
        assert!(used.receive_to_end().is_empty(), "{driver:?}");
    }
}

#[test]
fn a_head_that_is_refused_gets_no_body() {
    let daemon = TestDaemon::start(settings());
    let mut connection = Connection::open(daemon.data());
    connection.send("HEAD /file HTTP/1.1\r\n\r\n");
    let response = connection.response_to("HEAD");
    assert_eq!((response.status, response.field("Connection")), (400, Some("close")));
    assert_eq!(connection.receive_to_end(), b"");
}
