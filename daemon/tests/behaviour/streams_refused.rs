//! Tests of the control plane's refusals: each with its status, and a detail that says what was wrong.

use std::net::SocketAddr;

use streamd::config::Settings;
use streamd::telemetry::Status;

use crate::harness::{Connection, Fixture, Response, TestDaemon, get, request, settings};

/// Starts a daemon with a root that holds `file`, 1,000 bytes, and streams of at most 1 MiB.
fn daemon() -> (TestDaemon, Fixture) {
    let root = Fixture::new();
    root.write("file", &[7; 1000]);
    root.write("directory/nested", b"");
    root.write("large", &vec![7; 2 << 20]);
    let path = Some(root.path().to_owned());
    (TestDaemon::start(Settings { root: path, stream_bytes_max: 1 << 20, ..settings() }), root)
}

fn post(control: SocketAddr, query: &str) -> Response {
    request(control, "POST", &format!("/stream{query}"), "")
}

#[test]
fn queries_that_make_no_sense_are_400() {
    let (daemon, _root) = daemon();
    let own = daemon.data();
    let raw = format!("?size=1&protocol=raw&target={own}");
    let raw_detail = format!("protocol=raw to the own data plane, {own}: it takes frames alone");
    let cases = [
        ("", "size is missing: try POST /stream?size=64MiB"),
        ("?", "size is missing"),
        ("?size=", "size: \"\" is no byte count"),
        ("?size=ten", "size: \"ten\" is no byte count: write bytes (169) or a suffix (64MiB, 1GB)"),
        ("?size=-1", "size: \"-1\" is no byte count"),
        ("?size=%2B1", "size: \"+1\" is no byte count"),
        ("?size=1%00", "size: \"1\\0\" is no byte count"),
        ("?size=99999999999999999999999", "size: "),
        ("?size=1&size=2", "parameter size is given more than once"),
        ("?size=1&path=/file", "size and path exclude each other"),
        ("?size=1&offset=1", "offset needs path"),
        ("?offset=1", "offset needs path"),
        ("?length=1", "length needs path"),
        ("?path=/file&offset=x", "offset: \"x\" is no byte count"),
        ("?path=/file&length=x", "length: \"x\" is no byte count"),
        ("?path=/file&offset=1&length=1000", "offset 1 and length 1000 reach beyond the file's 1000 bytes"),
        ("?path=/file&offset=1001", "offset 1001 and length 0 reach beyond the file's 1000 bytes"),
        (
            "?path=/file&offset=18446744073709551614&length=2",
            "offset 18446744073709551614 and length 2 add up to more than any file can hold",
        ),
        ("?path=/a%00b", "path: "),
        ("?size=1&protocol=udp", "protocol \"udp\" is neither frame nor raw"),
        ("?size=1&target=nowhere", "target \"nowhere\" has no port"),
        ("?size=1&target=host:0", "target \"host:0\" has a port outside 1 to 65535"),
        ("?size=1&colour=red", "unknown parameter \"colour\": there are size, path, offset, length"),
        ("?size=1&%zz=1", "\"%zz\" is not percent-encoded UTF-8"),
        (raw.as_str(), raw_detail.as_str()),
        ("?size=1&protocol=raw", raw_detail.as_str()),
    ];
    for (query, detail) in cases {
        let response = post(daemon.control(), query);
        assert_eq!(response.status, 400, "{query}: {}", response.text());
        let told = response.problem();
        assert!(told.starts_with(detail), "{query}: {told}");
    }
    assert_eq!(daemon.telemetry().control.requests.get(Status::S400), cases.len() as u64);
}

#[test]
fn each_other_refusal_has_its_own_status() {
    let (daemon, _root) = daemon();
    for (query, status, detail) in [
        ("?size=1048577", 413, "1048577 bytes are above stream_bytes_max, 1048576"),
        ("?size=2MiB", 413, "2097152 bytes are above stream_bytes_max, 1048576"),
        ("?path=/large&length=1048577", 413, "1048577 bytes are above stream_bytes_max, 1048576"),
        ("?path=/large", 413, "2097152 bytes are above the limit of 1048576"),
        ("?path=/absent", 404, "no such file below the root"),
        ("?path=/directory", 404, "no such file below the root"),
        ("?path=/../../etc/passwd", 404, "no such file below the root"),
        (
            "?size=1&target=127.0.0.1:9",
            403,
            "target \"127.0.0.1:9\" is neither the own data plane nor listed in targets_allowed",
        ),
    ] {
        let response = post(daemon.control(), query);
        assert_eq!(response.status, status, "{query}: {}", response.text());
        assert_eq!(response.problem(), detail, "{query}");
    }
    // The limit itself is fine.
    assert_eq!(post(daemon.control(), "?size=1MiB").status, 200);
    assert_eq!(post(daemon.control(), "?path=/large&length=1MiB").status, 200);
}

#[test]
fn a_daemon_without_a_root_has_no_files_to_stream() {
    let daemon = TestDaemon::start(settings());
    let response = post(daemon.control(), "?path=/file");
    assert_eq!(
        (response.status, response.problem().as_str()),
        (404, "no files are served: start streamd with --root DIR")
    );
}

#[test]
fn paths_and_methods_that_are_not_offered() {
    let (daemon, _root) = daemon();
    let control = daemon.control();
    for (method, path, allow) in [
        ("GET", "/stream?size=1", "POST"),
        ("PUT", "/stream?size=1", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/streams", "GET, HEAD"),
        ("POST", "/streams/0", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
    ] {
        let response = request(control, method, path, "");
        assert_eq!(response.status, 405, "{method} {path}");
        assert_eq!(response.field("Allow"), Some(allow), "{method} {path}");
        assert_eq!(response.problem(), format!("{method} is not offered here, only {allow}"));
    }
    for path in ["/", "/Health", "/health/", "/stream/", "/streams/a/b", "/favicon.ico"] {
        let response = get(control, path, "");
        assert_eq!(response.status, 404, "{path}");
        let detail = "no such path: there are /health, /metrics, /stream, /streams and /streams/ID";
        assert_eq!(response.problem(), detail, "{path}");
    }
    let response = get(control, "/streams/0123", "");
    assert_eq!(response.status, 404);
    assert_eq!(
        response.problem(),
        "no stream has the id \"0123\"; ended streams are forgotten after a while"
    );
    assert_eq!(request(control, "HEAD", "/health", "").status, 200);
}

#[test]
fn a_token_is_asked_for_on_every_route_but_health() {
    let files = Fixture::new();
    let token_file = Some(files.write("token", b"secret\n"));
    let daemon = TestDaemon::start(Settings { token_file, ..settings() });
    let control = daemon.control();
    for (method, path) in [
        ("POST", "/stream?size=1"),
        ("GET", "/streams"),
        ("GET", "/streams/0"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ] {
        for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic secret\r\n"] {
            let response = request(control, method, path, fields);
            assert_eq!(response.status, 401, "{method} {path} {fields}");
            assert_eq!(response.field("WWW-Authenticate"), Some("Bearer realm=\"streamd\""));
            let detail = "the token is missing or wrong: send the header Authorization: Bearer TOKEN";
            assert_eq!(response.problem(), detail);
        }
    }
    assert_eq!(get(control, "/health", "").text(), "OK");
    let bearer = "Authorization: Bearer secret\r\n";
    assert_eq!(request(control, "POST", "/stream?size=1", bearer).status, 200);
    assert_eq!(get(control, "/metrics", bearer).status, 200);
    assert_eq!(get(control, "/streams", bearer).status, 200);
}

#[test]
fn web_pages_of_others_are_refused() {
    let (daemon, _root) = daemon();
    let control = daemon.control();
    let foreign = request(control, "POST", "/stream?size=1", "Origin: http://evil.example\r\n");
    assert_eq!(foreign.status, 403);
    assert_eq!(
        foreign.problem(),
        "Origin \"http://evil.example\" is not this server, \"localhost\": web pages of other origins are refused"
    );
    let cross_site = get(control, "/metrics", "Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(cross_site.status, 403);
    assert_eq!(request(control, "POST", "/stream?size=1", "Origin: http://localhost\r\n").status, 200);
    let mut rebound = Connection::open(control);
    rebound.send("POST /stream?size=1 HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    let rebound = rebound.response_to("POST");
    assert_eq!(rebound.status, 403);
    assert!(rebound.problem().contains("without a token, Host \"rebound.example\" is refused"));
}
