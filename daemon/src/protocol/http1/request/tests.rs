//! Tests of the parser's rules, one table each; `properties` holds properties of every input.

use std::time::{Duration, SystemTime};

use super::*;

mod properties;
mod writes;

/// Makes a whole HTTP/1.1 request with the given lines after `Host`.
fn with_fields(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

fn complete(buffer: impl AsRef<[u8]>) -> Request {
    let buffer = buffer.as_ref();
    match parse(buffer) {
        Ok(Progress::Complete { request, head_bytes, .. }) => {
            assert_eq!(head_bytes, buffer.len());
            request
        }
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(buffer)),
    }
}

fn status(buffer: impl AsRef<[u8]>) -> Option<u16> {
    parse(buffer.as_ref()).err().map(|error| error.status())
}

#[test]
fn a_plain_request_is_read() {
    let request = complete("GET /a%20b?q=1 HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: x\r\n\r\n");
    let expected = Request {
        method: Method::Get,
        version: Version::Http11,
        target: "/a%20b?q=1".into(),
        name: Name::parse(b"/a%20b").unwrap(),
        wants_archive: false,
        keep_alive: true,
        body: Body::None,
        expects_continue: false,
        range: None,
        if_range: None,
        preconditions: Preconditions::default(),
        accepts_json: false,
        prefers_html: false,
        is_download: false,
        signs: Signs::default(),
        read: None,
        caller: Caller::of(Some(b"x"), None),
        write: None,
    };
    assert_eq!(request, expected);
    assert_eq!(complete("HEAD / HTTP/1.0\r\n\r\n").method, Method::Head);
}

#[test]
fn a_query_asks_for_an_archive_by_a_parameter_of_its_own() {
    let wants = |target: &str| complete(format!("GET {target} HTTP/1.0\r\n\r\n")).wants_archive;
    assert!(["/a?archive=tar", "/?x=y&archive=tar", "http://host?archive=tar&z"].into_iter().all(wants));
    assert!(!["/archive=tar", "/a?archive", "/a?archive=zip", "/a?xarchive=tar"].into_iter().any(wants));
}

#[test]
fn the_head_ends_at_its_empty_line() {
    let first = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let pipelined = format!("{first}GET /b HTTP/1.1\r\nbare\nline feed");
    let Ok(Progress::Complete { request, head_bytes, .. }) = parse(pipelined.as_bytes()) else { panic!() };
    assert_eq!((&*request.target, head_bytes), ("/a", first.len()));
}

#[test]
fn two_empty_lines_before_the_request_are_skipped_and_counted() {
    for lines in ["\r\n", "\r\n\r\n"] {
        assert_eq!(&*complete(format!("{lines}GET /a HTTP/1.0\r\n\r\n")).target, "/a");
    }
    assert_eq!(parse(b"\r\n\r\n\r"), Ok(Progress::Incomplete));
    assert_eq!(status("\r\n\r\n\r\n"), Some(400));
    assert_eq!(status("\n"), Some(400));
    assert_eq!(status("\rG"), Some(400));
}

#[test]
fn request_lines_that_are_refused() {
    let table = [
        ("GET /", 400),
        ("GET / ", 400),
        ("GET", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET  HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        (" GET / HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/1", 400),
        ("GET / HTTP/1.", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/01.1", 400),
        ("GET / HTTP/0.9", 400),
        ("GET / HTTP/x.1", 400),
        ("GET / HTTPS/1.1", 400),
        ("GET / FTP/1.0", 400),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/3.1", 505),
        ("GET / HTTP/9.9", 505),
        ("PRI * HTTP/2.0", 505),
        ("BREW / HTTP/1.1", 501),
        ("get / HTTP/1.1", 501),
        ("GETT / HTTP/1.1", 501),
        ("PROPFIND / HTTP/1.1", 501),
        ("G(T / HTTP/1.1", 400),
        ("G\u{e4}T / HTTP/1.1", 400),
        ("\x16\x03\x01 / HTTP/1.1", 400),
    ];
    for (line, expected) in table {
        assert_eq!(status(format!("{line}\r\nHost: a\r\n\r\n")), Some(expected), "{line:?}");
        // The fault is known before the fields come.
        assert_eq!(status(format!("{line}\r\n")), Some(expected), "{line:?}");
    }
}

#[test]
fn a_misplaced_space_is_told_by_the_whole_line() {
    for line in ["GET  / HTTP/1.1", " GET / HTTP/1.1", "GET  ", " G"] {
        let expected = RequestError::RequestLine { line: line.to_owned() };
        assert_eq!(parse(line.as_bytes()), Err(expected), "{line:?}");
    }
}

#[test]
fn known_methods_that_are_not_offered_say_which_are() {
    for method in ["TRACE", "CONNECT"] {
        let error = parse(format!("{method} * HTTP/1.1\r\n").as_bytes()).unwrap_err();
        assert_eq!((error.status(), error.allow(false)), (405, Some("GET, HEAD, OPTIONS")), "{method}");
        assert_eq!(error.allow(true), Some("GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"), "{method}");
    }
    let error = parse(b"BREW / HTTP/1.1\r\n").unwrap_err();
    assert_eq!((error.status(), error.allow(false), error.allow(true)), (501, None, None));
}

#[test]
fn later_minor_versions_are_spoken_as_1_1() {
    assert_eq!(complete("GET / HTTP/1.2\r\nHost: a\r\n\r\n").version, Version::Http11);
    assert_eq!(complete("GET / HTTP/1.9\r\nHost: a\r\n\r\n").version, Version::Http11);
    assert_eq!(complete("GET / HTTP/1.0\r\n\r\n").version, Version::Http10);
}

#[test]
fn targets_give_names() {
    let table = [
        ("/", ""),
        ("/?", ""),
        ("/a/b", "a/b"),
        ("/a?b=../../c", "a"),
        ("/a?b?c/d", "a"),
        ("/a?%zz%00", "a"),
        ("//evil.example/x", "evil.example/x"),
        ("/../../etc/passwd", "etc/passwd"),
        ("/\u{e4}", "\u{e4}"),
        ("http://a", ""),
        ("http://a?q", ""),
        ("http://a/", ""),
        ("http://a/b/c?q", "b/c"),
        ("HTTPS://a:443/b", "b"),
        ("http://[::1]:80/b", "b"),
        ("http://a//b/../c", "c"),
    ];
    for (target, name) in table {
        let request = complete(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((&*request.target, &*request.name.text()), (target, name));
    }
}

#[test]
fn targets_that_are_refused() {
    let targets: [&[u8]; 22] = [
        b"*",
        b"a:80",
        b"a.example:443",
        b"index.html",
        b"?q",
        b"ftp://a/b",
        b"http:/a/b",
        b"http:a",
        b"http://",
        b"http:///b",
        b"http://:80/b",
        b"http://user@a/b",
        b"http://a:x/b",
        b"http://a\\b/c",
        b"/a#b",
        b"/a?b#c",
        b"/a\tb",
        b"/a\x7f",
        b"/a?\x01",
        b"/\xff",
        b"/a%00b",
        b"/a%zz",
    ];
    for target in targets {
        let buffer = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(status(&buffer), Some(400), "{}", String::from_utf8_lossy(target));
    }
}

#[test]
fn bytes_that_no_head_can_hold_are_refused_as_soon_as_they_come() {
    let table: [(&[u8], RequestError); 9] = [
        (b"GET / HTTP/1.1\n", RequestError::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\n", RequestError::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", RequestError::BareLineFeed),
        (b"GET / HTTP/1.1\rH", RequestError::BareCarriageReturn),
        (b"GET / HTTP/1.1\r\nHost: a\rb", RequestError::BareCarriageReturn),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\r", RequestError::BareCarriageReturn),
        (b"GET /a\0", RequestError::Nul),
        (b"GET / HTTP/1.1\r\nHost: a\0", RequestError::Nul),
        (b"GET / HTTP/1.1\r\nHost: a\r\n ", RequestError::FoldedLine),
    ];
    for (buffer, error) in table {
        assert_eq!(parse(buffer), Err(error.clone()), "{}", String::from_utf8_lossy(buffer));
        assert_eq!(error.status(), 400);
        assert_eq!(parse(&buffer[..buffer.len() - 1]), Ok(Progress::Incomplete));
    }
    assert_eq!(status("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"), Some(400));
    assert_eq!(status([0x16, 0x03, 0x01]), Some(400));
}

#[test]
fn malformed_fields_are_refused() {
    let table = [
        "Host : a\r\n",
        "X\t: a\r\n",
        "X\r\n",
        ": a\r\n",
        "X y: a\r\n",
        "X(y): a\r\n",
        "X: \x01\r\n",
        "X: a\x7f\r\n",
        "\u{e4}: a\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\r",
        "X: a\x0b\r\n",
    ];
    for lines in table {
        assert_eq!(status(with_fields(lines)), Some(400), "{lines:?}");
    }
    let error = parse(&with_fields("X: 1\r\nBad Name: 2\r\n")).unwrap_err();
    assert_eq!(error, RequestError::FieldName { line: "Bad Name: 2".into() });
    let error = parse(&with_fields("X: 1\r\nY: \x1b[m\r\n")).unwrap_err();
    assert_eq!(error, RequestError::FieldValue { line: "Y: \\x1b[m".into() });
    // These fields are odd but allowed.
    complete(with_fields("X:\r\nY:a\r\nZ: \t b \t\r\nW: \u{e4}\r\n!#$%&'*+-.^_`|~0: x\r\n"));
}

#[test]
fn hosts() {
    let table = [
        ("HTTP/1.1\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a\r\nHost: a\r\n", Some(400)),
        ("HTTP/1.0\r\nHost: a\r\nhOST: b\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a b\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a, b\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a/b\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: user@a\r\n", Some(400)),
        ("HTTP/1.0\r\nHost: a/b\r\n", Some(400)),
        ("HTTP/1.1\r\nHost:\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: :80\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: [zzz]\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a%zz\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a%2\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a:65536\r\n", Some(400)),
        ("HTTP/1.1\r\nHost: a%2e\r\n", None),
        ("HTTP/1.1\r\nHost: [::1]:8080\r\n", None),
        ("HTTP/1.0\r\n", None),
    ];
    for (rest, expected) in table {
        assert_eq!(status(format!("GET / {rest}\r\n")), expected, "{rest:?}");
    }
    assert_eq!(status("GET http://a/ HTTP/1.1\r\n\r\n"), Some(400));
}

#[test]
fn whom_a_request_is_for() {
    let table = [
        ("GET / HTTP/1.1\r\nHost: A.example:80\r\n", Some(("A.example", Some(80)))),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n", Some(("[::1]", None))),
        // An absolute target outranks Host (RFC 9112 3.2.2).
        ("GET http://b:81/ HTTP/1.1\r\nHost: a\r\n", Some(("b", Some(81)))),
        ("GET http://b HTTP/1.0\r\n", Some(("b", None))),
        ("GET / HTTP/1.0\r\n", None),
    ];
    for (head, expected) in table {
        let bytes = format!("{head}\r\n");
        let Ok(Progress::Complete { authority, .. }) = parse(bytes.as_bytes()) else { panic!("{head:?}") };
        let found = authority.map(|found| (std::str::from_utf8(found.host).unwrap(), found.port));
        assert_eq!(found, expected, "{head:?}");
    }
    let write = complete("PUT http://b:81/c HTTP/1.1\r\nHost: a\r\n\r\n").write.unwrap();
    assert_eq!(write.host.as_deref(), Some(b"b".as_slice()));
}

#[test]
fn fields_that_two_readers_could_take_differently_stand_once() {
    for name in [
        "Authorization",
        "Range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
    ] {
        let error = parse(&with_fields(&format!("{name}: x\r\n{}: x\r\n", name.to_lowercase()))).unwrap_err();
        assert_eq!(error, RequestError::FieldRepeated { name });
        assert_eq!(error.status(), 400);
        assert_eq!(status(with_fields(&format!("{name}: x\r\n").repeat(3))), Some(400), "{name}");
    }
}

#[test]
fn bodies() {
    let table = [
        ("", Ok(Body::None)),
        ("Content-Length: 0\r\n", Ok(Body::None)),
        ("Content-Length: 5\r\n", Ok(Body::Length(5))),
        ("Content-Length: 9223372036854775807\r\n", Ok(Body::Length(i64::MAX as u64))),
        ("Content-Length: 9223372036854775808\r\n", Err(400)),
        ("Content-Length: 18446744073709551615\r\n", Err(400)),
        ("content-length:\t007 \r\n", Ok(Body::Length(7))),
        ("Transfer-Encoding: chunked\r\n", Ok(Body::Chunked)),
        ("transfer-encoding: CHUNKED\r\n", Ok(Body::Chunked)),
        ("Content-Length: 18446744073709551616\r\n", Err(400)),
        ("Content-Length:\r\n", Err(400)),
        ("Content-Length: +5\r\n", Err(400)),
        ("Content-Length: -5\r\n", Err(400)),
        ("Content-Length: 0x5\r\n", Err(400)),
        ("Content-Length: 5 5\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length: 5.0\r\n", Err(400)),
        ("Content-Length: five\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nX: y\r\nContent-Length: 6\r\n", Err(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Err(400)),
        ("Transfer-Encoding: gzip\r\nContent-Length: 0\r\n", Err(400)),
        ("Transfer-Encoding: gzip\r\n", Err(501)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(501)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(501)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(501)),
        ("Transfer-Encoding: xchunked\r\n", Err(501)),
        ("Transfer-Encoding: identity\r\n", Err(501)),
        ("Transfer-Encoding:\r\n", Err(501)),
    ];
    for (lines, expected) in table {
        let buffer = with_fields(lines);
        match expected {
            Ok(body) => assert_eq!(complete(&buffer).body, body, "{lines:?}"),
            Err(expected) => assert_eq!(status(&buffer), Some(expected), "{lines:?}"),
        }
    }
    assert_eq!(status("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(400));
    assert_eq!(complete("GET / HTTP/1.0\r\nContent-Length: 3\r\n\r\n").body, Body::Length(3));
}

#[test]
fn keep_alive() {
    let table = [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "connection: x, CLOSE ,\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("HTTP/1.1", "Connection: close, keep-alive\r\n", false),
        ("HTTP/1.1", "Connection: closed\r\n", true),
        ("HTTP/1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\n", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: x,keep-alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ("HTTP/1.0", "Keep-Alive: 5\r\n", false),
    ];
    for (version, lines, expected) in table {
        let request = complete(format!("GET / {version}\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(request.keep_alive, expected, "{version} {lines:?}");
    }
}

#[test]
fn expectations() {
    assert!(complete(with_fields("Expect: 100-Continue\r\n")).expects_continue);
    assert!(!complete(with_fields("Expect:\r\n")).expects_continue);
    assert!(!complete("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue);
    for lines in
        ["Expect: 200-ok\r\n", "Expect: 100-continue, x=y\r\n", "Expect: 100-continue\r\nExpect: z\r\n"]
    {
        assert_eq!(status(with_fields(lines)), Some(417), "{lines:?}");
    }
    assert_eq!(status("GET / HTTP/1.0\r\nExpect: z\r\n\r\n"), Some(417));
}

#[test]
fn ranges_and_conditions_are_handed_on() {
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let request = complete(with_fields(
        "Range: bytes=0-1\r\nIf-Range: \"a\"\r\nIf-Match: \"a\", W/\"c\",*\r\nIf-None-Match:\r\n\
         If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         If-Unmodified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
    ));
    assert_eq!(request.range.as_deref(), Some(b"bytes=0-1".as_slice()));
    assert_eq!(request.if_range.as_deref(), Some(b"\"a\"".as_slice()));
    assert_eq!(request.preconditions.if_match.as_deref(), Some(b"\"a\", W/\"c\",*".as_slice()));
    assert_eq!(request.preconditions.if_none_match.as_deref(), Some(b"".as_slice()));
    assert_eq!(request.preconditions.if_modified_since, Some(date));
    assert_eq!(request.preconditions.if_unmodified_since, Some(date));
    let request = complete(with_fields("If-Modified-Since: yesterday\r\nIf-Unmodified-Since: 0\r\n"));
    assert_eq!(request.preconditions, Preconditions::default());
    let request = complete(with_fields("Want-Repr-Digest: sha-256=1\r\nwant-repr-digest: crc32c=2\r\n"));
    assert_eq!(request.want_repr_digest(), Some(b"sha-256=1, crc32c=2".as_slice()));
}

#[test]
fn json_is_accepted_by_name() {
    let table = [
        ("application/json", true),
        ("text/html, Application/JSON;q=0.5", true),
        ("application/json ; charset=utf-8", true),
        ("application/json;q=0", false),
        ("application/json; q=0.000", false),
        ("*/*", false),
        ("application/*", false),
        ("application/jsonp", false),
        ("", false),
    ];
    for (value, expected) in table {
        assert_eq!(complete(with_fields(&format!("Accept: {value}\r\n"))).accepts_json, expected, "{value}");
    }
    assert!(complete(with_fields("Accept: text/html\r\nAccept: application/json\r\n")).accepts_json);
}

#[test]
fn a_target_may_have_8_kib() {
    let fitting = format!("/{}", "a".repeat(TARGET_BYTES_MAX - 1));
    assert_eq!(&*complete(format!("GET {fitting} HTTP/1.1\r\nHost: a\r\n\r\n")).target, fitting);
    assert_eq!(parse(format!("GET {fitting}").as_bytes()), Ok(Progress::Incomplete));
    assert_eq!(status(format!("GET {fitting}a")), Some(414));
    assert_eq!(status(format!("GET {fitting}a HTTP/1.1\r\nHost: a\r\n\r\n")), Some(414));
    assert_eq!(status(format!("GET /?{fitting}")), Some(414));
}

#[test]
fn a_method_is_known_to_be_unknown_after_32_bytes() {
    assert_eq!(parse("X".repeat(32).as_bytes()), Ok(Progress::Incomplete));
    assert_eq!(status("X".repeat(33)), Some(501));
    assert_eq!(status("X".repeat(20_000)), Some(501));
}

#[test]
fn a_head_may_have_16_kib() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let fitting = format!("{start}{}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX - start.len() - 4));
    assert_eq!(fitting.len(), HEAD_BYTES_MAX);
    complete(&fitting);
    assert_eq!(parse(&fitting.as_bytes()[..HEAD_BYTES_MAX - 1]), Ok(Progress::Incomplete));
    let excessive = fitting.replace("X: ", "X: x");
    assert_eq!(parse(excessive.as_bytes()), Err(RequestError::HeadTooLong));
    assert_eq!(parse(&excessive.as_bytes()[..HEAD_BYTES_MAX]), Err(RequestError::HeadTooLong));
    assert_eq!(RequestError::HeadTooLong.status(), 431);
}

#[test]
fn a_head_may_have_100_fields() {
    // The Host field is one of them.
    complete(with_fields(&"X: y\r\n".repeat(FIELDS_MAX - 1)));
    let excessive = with_fields(&"X: y\r\n".repeat(FIELDS_MAX));
    assert_eq!(parse(&excessive), Err(RequestError::TooManyFields));
    assert_eq!(parse(&excessive[..excessive.len() - 2]), Err(RequestError::TooManyFields));
    assert_eq!(RequestError::TooManyFields.status(), 431);
}

#[test]
fn errors_quote_what_was_sent_escaped_and_cut() {
    let error = parse(b"G\x1b[2JT / HTTP/1.1\r\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the method `G\\x1b[2JT` is no token: HTTP methods are letters such as GET"
    );
    let long = format!("GET /{}\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8000));
    assert!(parse(long.as_bytes()).unwrap_err().to_string().len() < 700);
    let error = parse(b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the path holds `%zz`, where `%` must be followed by two hexadecimal digits (write `%` as `%25`)"
    );
}
