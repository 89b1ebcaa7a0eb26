//! Tests of the PROXY protocol ahead of a connection's first byte, which is believed of trusted proxies alone.

use std::time::Duration;

use serde_json::Value;
use streamd::config::{ProxyProtocolChoice, Settings};
use streamd::telemetry::{Label, ProxyRefusal};

use crate::harness::{
    Connection, Fixture, TestDaemon, driver_names, drivers, get, lines_with, request_text, run_streamd,
    settings, wait_until,
};
use crate::proxies::{PROXY, STRANGER, TRUSTED, line_of, named, start};

const REQUIRED: [&str; 4] = ["--trusted-proxies", "127.0.0.2", "--proxy-protocol", "required"];

/// Makes a header of version 2 for TCP over IPv4, from 192.0.2.7:4711.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12".to_vec();
    header.extend_from_slice(&[192, 0, 2, 7, 203, 0, 113, 1]);
    header.extend_from_slice(&[4711_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat());
    // The rest is skipped: a TLV of three bytes.
    header.extend_from_slice(&[0xe0, 0, 3, 1, 2, 3]);
    header
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&i64::try_from(payload.len()).unwrap().to_le_bytes()[..], payload].concat()
}

/// Returns the reasons of connections that were refused.
fn refusals(log: &[String]) -> Vec<String> {
    let lines = lines_with(log, "message", "connection refused");
    lines.iter().map(|line: &Value| line["error"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_trusted_proxys_header_names_the_client_of_all_that_follows() {
    const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n";
    for driver in driver_names() {
        for mode in ["optional", "required"] {
            let flags = ["--trusted-proxies", "127.0.0.2", "--proxy-protocol", mode, "--access-log"];
            let (process, _root) = start(driver, &flags);
            for (id, header) in [("line", LINE.to_vec()), ("binary", binary())] {
                let mut connection = Connection::open_from(PROXY, process.data());
                connection.send([&header[..], named(id, "").as_bytes()].concat());
                assert_eq!(connection.response_to("GET").text(), "content", "{driver} {mode} {id}");
                // The requests behind it are the client's: a trusted proxy's fields would count, the client's
                // don't.
                connection.send(named(&format!("{id}-kept"), "X-Forwarded-For: 127.0.0.1\r\n"));
                assert_eq!(connection.response_to("GET").text(), "content", "{driver} {mode} {id}");
                // The header is also sent in the smallest pieces.
                let mut slow = Connection::open_from(PROXY, process.data());
                for byte in &header {
                    slow.send([*byte]);
                }
                slow.send(named(&format!("{id}-slow"), ""));
                assert_eq!(slow.response_to("GET").text(), "content", "{driver} {mode} {id}");
                let mut frames = Connection::open_from(PROXY, process.data());
                frames.send([&header[..], &frame(b"abc"), &frame(b"")].concat());
                assert_eq!(frames.receive(8), b"donedone", "{driver} {mode} {id}");
            }
            let log = process.stop();
            let lines = lines_with(&log, "message", "transfer");
            assert_eq!(lines.len(), 2 * 5, "{driver} {mode}");
            assert!(lines.iter().all(|line| line["peer"] == "192.0.2.7:4711"), "{lines:#?}");
            assert_eq!(refusals(&log), [] as [String; 0]);
        }
    }
}

#[test]
fn where_it_is_optional_a_trusted_proxy_may_speak_for_itself() {
    for driver in driver_names() {
        let (process, _root) = start(driver, &TRUSTED);
        let mut itself = Vec::new();
        for (id, header) in [
            ("direct", &b""[..]),
            ("local", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
            ("unknown", b"PROXY UNKNOWN\r\n"),
            ("empty-lines", b"\r\n\r\n"),
        ] {
            let mut connection = Connection::open_from(PROXY, process.data());
            connection.send(header);
            connection.send(named(id, ""));
            assert_eq!(connection.response_to("GET").text(), "content", "{driver} {id}");
            itself.push((id, connection.stream().local_addr().unwrap().to_string()));
        }
        let mut frames = Connection::open_from(PROXY, process.data());
        frames.send(frame(b"abc"));
        assert_eq!(frames.receive(4), b"done");
        // A header of a proxy in front of a proxy: its own word counts for the next.
        let mut chained = Connection::open_from(PROXY, process.data());
        chained.send("PROXY TCP4 10.0.0.9 203.0.113.1 5 443\r\n");
        chained.send(named("chained", "X-Forwarded-For: 192.0.2.7\r\n"));
        assert_eq!(chained.response_to("GET").text(), "content");
        let log = process.stop();
        for (id, peer) in itself {
            assert_eq!(line_of(&log, id)["peer"], *peer, "{driver} {id}");
        }
        assert_eq!(line_of(&log, "chained")["peer"], "192.0.2.7:0");
    }
}

#[test]
fn nobody_elses_header_is_believed_and_the_log_says_what_came() {
    for driver in driver_names() {
        for flags in [&TRUSTED[..], &TRUSTED[..2], &[]] {
            let (process, _root) = start(driver, flags);
            for header in [b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n".to_vec(), binary()] {
                let mut connection = Connection::open_from(STRANGER, process.data());
                connection.send(&header);
                connection.send_in_vain(named("vain", ""));
                let detail = connection.response_to("GET").problem();
                assert!(detail.contains("PROXY protocol header"), "{driver} {flags:?}: {detail}");
                assert!(detail.contains("trusted_proxies"), "{detail}");
            }
            let mut control = Connection::open_from(PROXY, process.control());
            control.send("PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n");
            assert!(control.response_to("GET").problem().contains("PROXY protocol header"));
            let log = process.stop();
            let lines = lines_with(&log, "message", "transfer");
            assert_eq!(lines.len(), 2, "{driver} {flags:?}");
            for line in lines {
                assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.3:"), "{line}");
                assert_eq!(line["status"], 400, "{line}");
                assert!(line["reason"].as_str().unwrap().contains("PROXY protocol header"), "{line}");
            }
        }
    }
}

#[test]
fn where_it_is_required_nobody_comes_without() {
    let missing = "begins without a PROXY header";
    let cases: [(&[u8], &str); 7] = [
        (b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n", missing),
        (b"\x03\0\0\0\0\0\0\0abc", missing),
        (b"PROXY / HTTP/1.1\r\nHost: localhost\r\n\r\n", missing),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 4711\r\n", "the PROXY header `PROXY TCP4"),
        (b"PROXY TCP4 \x1b[31m", "ended inside its PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "bytes, and 4096 are taken"),
        (b"\r\n\r\n\0\r\nQ", "ended inside its PROXY header"),
    ];
    for driver in driver_names() {
        let (process, _root) = start(driver, &REQUIRED);
        for (bytes, _) in cases {
            let mut connection = Connection::open_from(PROXY, process.data());
            connection.send(bytes);
            connection.finish();
            assert!(connection.ends(), "{driver} {}", bytes.escape_ascii());
        }
        let mut stranger = Connection::open_from(STRANGER, process.data());
        assert!(stranger.ends(), "{driver}");
        // A connection that only checks whether somebody listens is no fault.
        let mut check = Connection::open_from(PROXY, process.data());
        check.finish();
        assert!(check.ends(), "{driver}");
        let metrics = get(process.control(), "/metrics", "").text();
        let log = process.stop();
        let refused = refusals(&log);
        assert_eq!(refused.len(), cases.len() + 1, "{driver} {refused:#?}");
        for (reason, (_, expected)) in refused.iter().zip(cases) {
            assert!(reason.contains(expected) && !reason.contains('\u{1b}'), "{driver} {reason}");
        }
        assert!(refused[cases.len()].contains("none of trusted_proxies"), "{refused:?}");
        for (label, count) in [("missing", 3), ("malformed", 4), ("untrusted", 1), ("timed_out", 0)] {
            let line = format!("streamd_proxy_headers_refused_total{{reason=\"{label}\"}} {count}\n");
            assert!(metrics.contains(&line), "{driver} {line} in {metrics}");
        }
        assert_eq!(lines_with(&log, "message", "transfer").len(), 0);
    }
}

#[test]
fn a_header_has_the_time_of_a_head_and_behind_it_a_client_may_be_idle() {
    for driver in drivers() {
        for proxy_protocol in [ProxyProtocolChoice::Optional, ProxyProtocolChoice::Required] {
            let fixture = Fixture::new();
            fixture.write("file", b"content");
            let daemon = TestDaemon::start(Settings {
                driver,
                root: Some(fixture.path().to_owned()),
                trusted_proxies: vec!["127.0.0.1".to_owned()],
                proxy_protocol,
                head_timeout_ms: 300,
                ..settings()
            });
            let mut idle = Connection::open(daemon.data());
            idle.send("PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n");
            let mut begun = Connection::open(daemon.data());
            begun.send("PROXY TCP4 192.0.2.7 ");
            assert!(begun.ends(), "{driver:?}");
            wait_until("the count", || {
                daemon.count(|worker| worker.proxy_headers_refused.get(ProxyRefusal::TimedOut)) == 1
            });
            assert!(idle.is_silent_for(Duration::from_millis(900)), "{driver:?}");
            idle.send(request_text("GET", "/file", ""));
            assert_eq!(idle.response_to("GET").text(), "content", "{driver:?}");
        }
    }
    assert_eq!(ProxyRefusal::ALL.len(), 4);
}

#[test]
fn a_reload_changes_who_is_believed() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let base = Settings { driver, root: Some(fixture.path().to_owned()), workers: 1, ..settings() };
        let daemon = TestDaemon::start(base.clone());
        let status = |fields: &str, header: &str| {
            let mut connection = Connection::open(daemon.data());
            connection.send(header);
            connection.send_in_vain(request_text("GET", "/file", fields));
            connection.response_to("GET").status
        };
        let (header, contradiction) =
            ("PROXY UNKNOWN\r\n", "Forwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\n");
        assert_eq!((status("", header), status(contradiction, "")), (400, 200), "{driver:?}");
        let trusting = Settings {
            trusted_proxies: vec!["127.0.0.1".to_owned()],
            proxy_protocol: ProxyProtocolChoice::Optional,
            ..base.clone()
        };
        assert_eq!(daemon.reload(trusting), [] as [String; 0]);
        wait_until("the reload", || status("", header) == 200);
        let mut kept = Connection::open(daemon.data());
        let mut ask = || {
            kept.send(request_text("GET", "/file", contradiction));
            kept.response_to("GET").status
        };
        assert_eq!(status(contradiction, ""), 400, "{driver:?}");
        assert_eq!(daemon.reload(base), [] as [String; 0]);
        wait_until("the reload", || status("", header) == 400);
        // A connection that was accepted before isn't believed any more either.
        assert_eq!(ask(), 200, "{driver:?}");
    }
}

#[test]
fn a_daemon_streams_to_itself_where_headers_are_required() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            trusted_proxies: vec!["127.0.0.1".to_owned()],
            proxy_protocol: ProxyProtocolChoice::Required,
            ..settings()
        });
        for _ in 0..3 {
            let mut connection = Connection::open(daemon.control());
            connection.send(request_text("POST", "/stream?size=100000", "Content-Length: 0\r\n"));
            let response = connection.response_to("POST");
            assert_eq!(response.status, 200, "{driver:?} {}", response.text());
        }
        assert_eq!(daemon.count(|worker| worker.frames_received.get()), 3);
    }
}

#[test]
fn required_of_everybody_and_believed_of_nobody_is_a_fault() {
    let refused = run_streamd(&["--check", "--proxy-protocol", "required"]);
    assert_eq!(refused.status.code(), Some(78));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("proxy_protocol: ") && stderr.contains("set trusted_proxies"), "{stderr}");
    let refused = run_streamd(&["--check", "--trusted-proxies", "10.0.0.0/33"]);
    assert_eq!(refused.status.code(), Some(78));
    let good = run_streamd(&[
        "--check",
        "--trusted-proxies",
        "127.0.0.0/8,::1",
        "--proxy-protocol",
        "required",
        "--data-listen",
        "127.0.0.1:0",
    ]);
    let stdout = String::from_utf8(good.stdout).unwrap();
    let line = "proxies        127.0.0.0/8, ::1 say whom they stand for: PROXY protocol, without which nobody \
                connects, Forwarded, X-Forwarded-For";
    assert!(stdout.lines().any(|found| found == line), "{stdout}");
}
