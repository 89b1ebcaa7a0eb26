//! Tests of clients behind a trusted proxy: its word counts, in lines and for rights of this host alone, and
//! nobody else's does.

use std::net::SocketAddr;

use serde_json::Value;
use streamd::config::{ProxyProtocolChoice, Settings};

use crate::harness::{
    Connection, Fixture, Process, TestDaemon, driver_names, drivers, each_uploading, lines_with, put_text,
    request_text, settings, wait_until,
};

/// The address of this host that is a trusted proxy's in these tests, and one that isn't.
pub(crate) const PROXY: [u8; 4] = [127, 0, 0, 2];
pub(crate) const STRANGER: [u8; 4] = [127, 0, 0, 3];

pub(crate) const TRUSTED: [&str; 4] =
    ["--trusted-proxies", "127.0.0.2,10.0.0.0/8", "--proxy-protocol", "optional"];

/// Starts the daemon of these flags with one file, and returns it with its root.
pub(crate) fn start(driver: &str, flags: &[&str]) -> (Process, Fixture) {
    let root = Fixture::new();
    root.write("file", b"content");
    let root_flags = ["--driver", driver, "--root", root.path().to_str().unwrap()];
    (Process::start(&[&root_flags[..], flags].concat()), root)
}

/// Returns the access line of the request with this id.
pub(crate) fn line_of(log: &[String], id: &str) -> Value {
    let lines = lines_with(log, "message", "transfer");
    lines.into_iter().find(|line| line["id"] == id).unwrap_or_else(|| panic!("no line of {id} in {log:#?}"))
}

/// Makes a GET of the file with an id for its line and further fields, on a connection that is kept.
pub(crate) fn named(id: &str, fields: &str) -> String {
    request_text("GET", "/file", &format!("X-Request-Id: {id}\r\n{fields}"))
}

#[test]
fn fields_of_a_trusted_proxy_name_the_client_of_each_request() {
    for driver in driver_names() {
        let (process, _root) = start(driver, &TRUSTED);
        let mut connection = Connection::open_from(PROXY, process.data());
        let own = connection.stream().local_addr().unwrap().to_string();
        let requests = [
            ("xff", "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7:0"),
            ("none", "", &own),
            ("chain", "X-Forwarded-For: 198.51.100.9, 192.0.2.8, 10.1.1.1\r\n", "192.0.2.8:0"),
            ("lines", "x-forwarded-for: 198.51.100.9\r\nX-FORWARDED-FOR: 192.0.2.9\r\n", "192.0.2.9:0"),
            (
                "rfc",
                "Forwarded: for=198.51.100.9, for=\"[2001:db8::7]:4711\";proto=https\r\n",
                "[2001:db8::7]:4711",
            ),
            ("both", "Forwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7:5\r\n", "192.0.2.7:5"),
            ("port", "X-Forwarded-For: \"[2001:db8::7]:80\"\r\n", "[2001:db8::7]:80"),
            ("unknown", "X-Forwarded-For: 192.0.2.7, unknown\r\n", &own),
            ("hidden", "Forwarded: for=_hidden\r\n", &own),
            ("last", "", &own),
        ];
        for (id, fields, _) in requests {
            connection.send(named(id, fields));
            assert_eq!(connection.response_to("GET").text(), "content", "{driver} {id}");
        }
        // A peer that is no proxy is its own client.
        let mut stranger = Connection::open_from(STRANGER, process.data());
        stranger.send(named("stranger", "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=garbage\r\n"));
        assert_eq!(stranger.response_to("GET").text(), "content");
        let itself = stranger.stream().local_addr().unwrap().to_string();
        let log = process.stop();
        for (id, _, peer) in requests {
            assert_eq!(line_of(&log, id)["peer"], peer, "{driver} {id}");
        }
        assert_eq!(line_of(&log, "stranger")["peer"], *itself, "{driver}");
    }
}

#[test]
fn what_a_proxy_says_must_be_readable_and_of_one_client() {
    for driver in driver_names() {
        let (process, _root) = start(driver, &TRUSTED);
        for (fields, expected) in [
            ("X-Forwarded-For: garbage\r\n", "X-Forwarded-For names `garbage`"),
            ("Forwarded: for=\"192.0.2.7\r\n", "Forwarded field"),
            ("Forwarded: for=127.0.0.1\r\nX-Forwarded-For: 192.0.2.7\r\n", "different clients"),
        ] {
            for address in [process.data(), process.control()] {
                let mut connection = Connection::open_from(PROXY, address);
                let path = if address == process.data() { "/file" } else { "/metrics" };
                connection.send(request_text("GET", path, fields));
                let response = connection.response_to("GET");
                assert_eq!(response.status, 400, "{driver} {fields}");
                assert!(response.problem().contains(expected), "{driver} {}", response.problem());
            }
        }
        // Health is answered to everybody.
        let mut connection = Connection::open_from(PROXY, process.control());
        connection.send(request_text("GET", "/health", "X-Forwarded-For: garbage\r\n"));
        assert_eq!(connection.response_to("GET").text(), "OK");
        let log = process.stop();
        let lines = lines_with(&log, "message", "transfer");
        assert!(
            lines
                .iter()
                .all(|line| line["status"] == 400 && line["peer"].as_str().unwrap().starts_with("127."))
        );
    }
}

#[test]
fn refused_requests_have_the_clients_address_too() {
    for driver in driver_names() {
        let (process, _root) = start(driver, &TRUSTED);
        let heads = [
            ("GET /%zz HTTP/1.1\r\nHost: localhost\r\n", 400),
            ("GET /file HTTP/1.1\r\nHost: evil.example\r\n", 421),
            ("BREW /file HTTP/1.1\r\nHost: localhost\r\n", 501),
        ];
        for (head, status) in heads {
            let mut connection = Connection::open_from(PROXY, process.data());
            connection.send(format!("{head}X-Request-Id: r{status}\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"));
            assert_eq!(connection.response_to("GET").status, status, "{driver}");
        }
        let log = process.stop();
        for (_, status) in heads {
            // A line that is refused before its fields came has no id.
            let lines = lines_with(&log, "message", "transfer");
            let line = lines.iter().find(|line| line["status"] == status).unwrap();
            assert_eq!(line["peer"], "192.0.2.7:0", "{driver} {line}");
        }
    }
}

/// Returns settings under which all of loopback is a proxy, as beside an NGINX on this host.
fn all_of_loopback(settings: Settings) -> Settings {
    Settings {
        trusted_proxies: vec!["127.0.0.0/8".to_owned()],
        proxy_protocol: ProxyProtocolChoice::Optional,
        ..settings
    }
}

/// Returns the status of a PUT without a token behind `header`, and its detail where it is a refusal.
fn put_behind(daemon: SocketAddr, header: &str, fields: &str) -> (u16, String) {
    let mut connection = Connection::open(daemon);
    connection.send(header);
    connection.send(put_text("/new", fields, b"new"));
    let response = connection.response_to("PUT");
    (response.status, if response.status == 403 { response.problem() } else { String::new() })
}

#[test]
fn what_this_host_alone_may_is_its_clients_and_never_the_proxys() {
    each_uploading(all_of_loopback, |daemon, _| {
        for (header, fields, refused_as) in [
            ("", "", None),
            ("PROXY TCP4 127.0.0.1 127.0.0.1 5 6\r\n", "", None),
            ("PROXY TCP6 ::1 ::1 5 6\r\n", "", None),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n", "", Some("192.0.2.7")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 5 6\r\n", "", Some("2001:db8::7")),
            ("PROXY UNKNOWN\r\n", "", Some("127.0.0.1")),
            ("", "X-Forwarded-For: 192.0.2.7\r\n", Some("token_file")),
            // A client may have written that, and the proxy passed it on.
            ("", "X-Forwarded-For: 127.0.0.1\r\n", Some("token_file")),
            ("", "Forwarded: for=127.0.0.1\r\n", Some("token_file")),
            ("", "X-Real-IP: 192.0.2.7\r\nX-Forwarded-For: 127.0.0.1\r\n", Some("token_file")),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n", "X-Forwarded-For: 127.0.0.1\r\n", Some("token_file")),
            ("PROXY TCP4 127.0.0.1 127.0.0.1 5 6\r\n", "X-Forwarded-For: 192.0.2.7\r\n", Some("token_file")),
        ] {
            let (status, detail) = put_behind(daemon.data(), header, fields);
            match refused_as {
                None => assert_eq!(status / 100, 2, "{header:?} {fields:?}"),
                Some(named) => {
                    assert_eq!(status, 403, "{header:?} {fields:?}");
                    assert!(detail.contains(named) && detail.contains("token_file"), "{detail}");
                }
            }
        }
    });
}

#[test]
fn the_control_port_asks_who_is_behind_a_proxy() {
    for driver in drivers() {
        let base = Settings { driver, ..settings() };
        let daemon = TestDaemon::start(base.clone());
        let status = |path: &str, fields: &str| {
            let mut connection = Connection::open(daemon.control());
            connection.send(request_text(
                if path.starts_with("/stream?") { "POST" } else { "GET" },
                path,
                fields,
            ));
            connection.response_to("GET").status
        };
        let remote = "X-Forwarded-For: 192.0.2.7\r\n";
        assert_eq!(status("/metrics", remote), 200, "nobody is believed");
        assert_eq!(daemon.reload(all_of_loopback(base)), [] as [String; 0]);
        wait_until("the reload", || status("/metrics", remote) == 403);
        for path in ["/metrics", "/streams", "/stream?size=1", "/nothing"] {
            for fields in [remote, "Forwarded: for=unknown\r\n", "Forwarded: for=\"[2001:db8::7]\"\r\n"] {
                assert_eq!(status(path, fields), 403, "{driver:?} {path} {fields}");
            }
        }
        for (path, fields, expected) in [
            ("/health", remote, 200),
            ("/metrics", "", 200),
            ("/stream?size=1000", "", 200),
            ("/metrics", "X-Forwarded-For: 127.0.0.1\r\n", 200),
            // The client wrote the first, NGINX the second.
            ("/metrics", "X-Forwarded-For: 127.0.0.1, 192.0.2.7\r\n", 403),
        ] {
            assert_eq!(status(path, fields), expected, "{driver:?} {path} {fields}");
        }
    }
}

#[test]
fn refused_callers_are_named_in_the_log() {
    let (process, _root) = start("epoll", &["--trusted-proxies", "127.0.0.1"]);
    let mut connection = Connection::open(process.control());
    connection.send(request_text("GET", "/metrics", "X-Forwarded-For: 192.0.2.7\r\n"));
    let response = connection.response_to("GET");
    assert!(response.problem().contains("192.0.2.7"), "{}", response.problem());
    let log = process.stop();
    let lines = lines_with(&log, "message", "control request refused");
    assert_eq!(lines[0]["peer"], "192.0.2.7:0", "{lines:?}");
}
