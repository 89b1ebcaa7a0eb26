//! Tests that both planes have one reader's rules: each refuses what the other does, with the same status and the
//! same words.

use std::net::SocketAddr;
use std::time::Duration;

use streamd::config::Settings;
use streamd::telemetry::Status;

use crate::harness::{
    Connection, Fixture, Process, TestDaemon, driver_names, drivers, lines_with, settings, wait_until,
};
use crate::http_bad_input::{FRAMING, SMUGGLED, TARGETS, only_answer};

fn each_daemon(test: impl Fn(&TestDaemon)) {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let root = Some(fixture.path().to_owned());
        test(&TestDaemon::start(Settings { driver, root, ..settings() }));
    }
}

/// Heads that only one of the planes knew how to refuse, and the status of both.
const FURTHER: &[(&[u8], u16)] = &[
    (b"GET /file HTTP/1.1\nHost: localhost\n\n", 400),
    (b"GET /file HTTP/1.1\r\nHost: localhost\r\nX: y\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"GET /file HTTP/1.1\r\nHost: localhost\r\nIf-Match: a\r\nIf-Match: b\r\n\r\n", 400),
    (b"GET /file HTTP/1.1\r\nHost: localhost\r\nX: y\r\n z\r\n\r\n", 400),
    (b"GET /\xc3 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    // Byte 7 tells frames from requests.
    (b"GET /ab\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /ab\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
];

#[test]
fn both_planes_refuse_the_same_heads_in_the_same_words() {
    each_daemon(|daemon| {
        let targets = TARGETS.iter().map(|(target, status, _)| {
            (format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(), *status)
        });
        let framing = FRAMING.iter().map(|(bytes, status, _)| (bytes.as_bytes().to_vec(), *status));
        let further = FURTHER.iter().map(|(bytes, status)| (bytes.to_vec(), *status));
        for (bytes, status) in framing.chain(targets).chain(further) {
            let is_method_of_a_path = status == 405 && bytes.windows(2).any(|two| two == b" /");
            if is_method_of_a_path {
                continue;
            }
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let bytes = [&bytes, SMUGGLED.as_bytes()].concat();
            let [data, control] =
                [daemon.data(), daemon.control()].map(|address| only_answer(address, &bytes));
            assert_eq!((data.status, control.status), (status, status), "{shown:?}");
            assert_eq!(data.problem(), control.problem(), "{shown:?}");
            assert_eq!(data.problem_document()["title"], control.problem_document()["title"], "{shown:?}");
            assert_eq!(control.field("Connection"), Some("close"), "{shown:?}");
            assert_eq!(control.field("Allow").is_some(), status == 405, "{shown:?}");
        }
    });
}

#[test]
fn what_is_odd_but_allowed_is_answered_by_both() {
    each_daemon(|daemon| {
        for (address, path) in [(daemon.data(), "/file"), (daemon.control(), "/health")] {
            for head in [
                format!("\r\n\r\nGET {path} HTTP/1.1\r\nHost: localhost"),
                format!("GET {path} HTTP/1.7\r\nHost: localhost"),
                format!("GET http://localhost:1{path}?a%zz HTTP/1.1\r\nHost: evil.example"),
                format!("GET {path}?a|b HTTP/1.1\r\nHost: localhost:"),
                format!("GET {path} HTTP/1.1\r\nHost:\tlocalhost \r\nX: \u{e4}\r\nEmpty:"),
            ] {
                let bytes = format!("{head}\r\nConnection: close\r\n\r\n");
                assert_eq!(only_answer(address, &bytes).status, 200, "{bytes:?}");
            }
        }
    });
}

#[test]
fn a_target_that_only_one_of_them_can_read_is_no_empty_answer() {
    each_daemon(|daemon| {
        let bytes = "GET /health?a\"b HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let response = only_answer(daemon.control(), bytes);
        assert_eq!(response.status, 400);
        assert!(response.problem().contains("percent-encode"), "{}", response.problem());
    });
}

/// Sends each byte by itself, so that nothing is judged by how it was cut.
fn send_slowly(connection: &mut Connection, bytes: &[u8]) {
    for byte in bytes {
        connection.send([*byte]);
    }
}

#[test]
fn the_next_head_on_a_kept_control_connection_is_judged_too() {
    each_daemon(|daemon| {
        let good = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let length = "POST /stream?size=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
        let chunked = "POST /stream?size=1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                       4;a=b\r\nGET \r\n0\r\nT: r\r\n\r\n";
        let bad = "GET /health HTTP/1.1\nHost: localhost\r\n\r\n";
        for first in [good, length, chunked] {
            for is_slow in [false, true] {
                let mut connection = Connection::open(daemon.control());
                let bytes = format!("{first}{good}{bad}{SMUGGLED}");
                match is_slow {
                    true => send_slowly(&mut connection, bytes.as_bytes()),
                    false => connection.send(&bytes),
                }
                assert_eq!(connection.response_to("GET").status, 200, "{first:?}");
                assert_eq!(connection.response_to("GET").status, 200, "{first:?}");
                let refused = connection.response_to("GET");
                assert_eq!(refused.status, 400, "{first:?}");
                assert!(refused.problem().contains("line feed"), "{}", refused.problem());
                assert_eq!(connection.receive_to_end(), b"", "{first:?}");
            }
        }
    });
}

#[test]
fn a_body_whose_end_cannot_be_found_ends_the_connection_on_both() {
    each_daemon(|daemon| {
        for chunks in
            ["4\nGET \r\n", "4 \r\n", "+4\r\n", "4\r\nGET X", "11111111111111111\r\n", "4;\u{1}\r\n"]
        {
            for (address, target) in [(daemon.data(), "GET /file"), (daemon.control(), "POST /stream?size=1")]
            {
                let head =
                    format!("{target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
                let mut connection = Connection::open(address);
                connection.send(format!("{head}{chunks}{SMUGGLED}"));
                let answer = String::from_utf8(connection.receive_what_comes()).unwrap();
                assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{target} {chunks:?}: {answer}");
            }
        }
    });
}

#[test]
fn a_head_is_answered_without_a_body_whatever_is_wrong_with_it() {
    each_daemon(|daemon| {
        for address in [daemon.data(), daemon.control()] {
            for before in ["", "\r\n"] {
                let mut connection = Connection::open(address);
                connection.send(format!("{before}HEAD / HTTP/1.1\r\n\r\n"));
                let response = connection.response_to("HEAD");
                assert_eq!((response.status, response.content_length() > 0), (400, true));
                assert_eq!(connection.receive_to_end(), b"");
            }
        }
    });
}

/// The rows have a refused request, its status, method and path of its line, and whether that has agent and id.
const TOLD: [(&[u8], u16, &str, &str, bool); 9] = [
    (b"GET /a?b HTTP/1.1\r\nFIELDS\r\n", 400, "GET", "/a?b", true),
    (b"BREW /a HTTP/1.1\r\nHost: localhost\r\nFIELDS\r\n", 501, "BREW", "/a", true),
    (b"GET /a HTTP/2.0\r\nHost: localhost\r\nFIELDS\r\n", 505, "GET", "/a", true),
    (b"HEAD /a HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\nFIELDS\r\n", 417, "HEAD", "/a", true),
    (b"GET /a\xff HTTP/1.1\r\nHost: localhost\r\nFIELDS\r\n", 400, "GET", "/a\\xff", true),
    (b"HEAD /a HTTP/1.1\r\nHost: localhost\r\nFIELDSX: y\n\r\n", 400, "HEAD", "/a", false),
    (b"GET /a HTTP/1.1\r\nHost: localhost\r\nFIELDS", 400, "GET", "/a", false),
    (b"G(T /a HTTP/1.1\r\nHost: localhost\r\nFIELDS\r\n", 400, "-", "-", true),
    (b"GET /aaaa", 400, "GET", "-", false),
];

#[test]
fn what_is_refused_is_told_as_far_as_it_could_be_read() {
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver, "--log-level", "debug"]);
        for (number, (bytes, status, ..)) in TOLD.iter().enumerate() {
            let fields = format!("User-Agent: agent-{number}\r\nX-Request-Id: id-{number}\r\nRange: r\r\n");
            let at = bytes.windows(6).position(|six| six == b"FIELDS");
            let bytes = match at {
                Some(at) => [&bytes[..at], fields.as_bytes(), &bytes[at + 6..]].concat(),
                None => bytes.to_vec(),
            };
            for address in [process.data(), process.control()] {
                let mut connection = Connection::open(address);
                connection.send(&bytes);
                connection.finish();
                let answer = connection.response_to(if bytes.starts_with(b"HEAD") { "HEAD" } else { "GET" });
                assert_eq!(answer.status, *status, "{driver}: {number}");
                let is_named = TOLD[number].4;
                let id = format!("id-{number}");
                assert_eq!(
                    answer.field("X-Request-Id") == Some(&id),
                    is_named,
                    "{driver}: {number}: {answer:?}"
                );
            }
        }
        let log = process.stop();
        let (data, control) =
            (lines_with(&log, "message", "transfer"), lines_with(&log, "message", "control request"));
        assert_eq!((data.len(), control.len()), (TOLD.len(), TOLD.len()), "{driver}: {log:#?}");
        for (number, (_, status, method, path, is_named)) in TOLD.iter().enumerate() {
            let has = |line: &&serde_json::Value| {
                let expected_path =
                    if line["message"] == "transfer" { *path } else { path.split('?').next().unwrap() };
                line["status"] == *status
                    && line["method"] == *method
                    && line["path"] == expected_path
                    && (line["id"] == format!("id-{number}").as_str()) == *is_named
            };
            assert!(control.iter().any(|line| has(&line)), "{driver}: {number}: {control:#?}");
            let told = |line: &&serde_json::Value| {
                let agent = if *is_named { format!("agent-{number}") } else { "-".to_owned() };
                let range = if *is_named { "r" } else { "-" };
                has(line) && line["agent"] == agent.as_str() && line["range"] == range
            };
            assert!(data.iter().any(|line| told(&line)), "{driver}: {number}: {data:#?}");
        }
        // Foreign bytes are escaped once.
        assert!(data.iter().any(|line| line["reason"].as_str().unwrap().contains("`/a\\xff`")), "{data:#?}");
    }
}

#[test]
fn heads_that_the_client_ends_are_answered_and_counted() {
    each_daemon(|daemon| {
        let begun = ["G", "GET /", "GET /file", "GET /file HTTP/1.1\r\nHost: localhost\r\n"];
        for bytes in begun {
            for address in [daemon.data(), daemon.control()] {
                let mut connection = Connection::open(address);
                connection.send(bytes);
                connection.finish();
                let response = connection.response_to("GET");
                assert_eq!(response.status, 400, "{bytes:?}");
                assert_eq!(response.problem(), "the connection ended inside the request head");
            }
        }
        // Empty lines begin no head (RFC 9112 2.2).
        for address in [daemon.data(), daemon.control()] {
            let mut connection = Connection::open(address);
            connection.send("\r\n");
            connection.finish();
            assert_eq!(connection.receive_to_end(), b"");
        }
        let count = begun.len() as u64;
        wait_until("the counts", || {
            let data = daemon.count(|worker| worker.requests.get(Status::S400));
            (data, daemon.telemetry().control.requests.get(Status::S400)) == (count, count)
        });
    });
}

#[test]
fn a_head_that_began_together_with_the_request_before_is_late_as_any_other() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, head_timeout_ms: 300, ..settings() });
        for (address, path) in [(daemon.data(), "/file"), (daemon.control(), "/health")] {
            for first in ["GET", "HEAD"] {
                let mut connection = Connection::open(address);
                connection.send(format!("{first} {path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET {path} HT"));
                assert_eq!(connection.response_to(first).status, 200, "{path}");
                let late = connection.response_to("GET");
                assert_eq!(late.status, 408, "{path}");
                assert!(connection.receive_to_end().is_empty(), "{path}");
            }
            // An empty line behind a request begins none, so that nobody is told that it was late.
            let mut connection = Connection::open(address);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n"));
            assert_eq!(connection.response_to("GET").status, 200, "{path}");
            assert!(connection.receive_to_end().is_empty(), "{path}");
        }
        wait_until("the counts", || {
            let data = daemon.count(|worker| worker.requests.get(Status::of(408)));
            (data, daemon.telemetry().control.requests.get(Status::of(408))) == (2, 2)
        });
    }
}

#[test]
fn a_head_that_begins_when_a_connection_was_long_idle_has_its_own_time() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let root = Some(fixture.path().to_owned());
        let limits = Settings { idle_timeout_ms: 800, head_timeout_ms: 1_200, ..settings() };
        let daemon = TestDaemon::start(Settings { driver, root, ..limits });
        for (address, path) in [(daemon.data(), "/file"), (daemon.control(), "/health")] {
            let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let mut connection = Connection::open(address);
            connection.send(&ask);
            assert_eq!(connection.response_to("GET").status, 200, "{path}");
            std::thread::park_timeout(Duration::from_millis(300));
            connection.send(&ask[..5]);
            assert_eq!(connection.response_to("GET").status, 408, "{path}");
            let mut idle = Connection::open(address);
            idle.send(&ask);
            assert_eq!(idle.response_to("GET").status, 200, "{path}");
            assert!(idle.receive_to_end().is_empty(), "{path}");
        }
    }
}

/// Makes a ClientHello of this length, as far as this port looks at it.
fn hello(bytes: u16) -> Vec<u8> {
    let [record_high, record_low] = (bytes + 4).to_be_bytes();
    let [high, low] = bytes.to_be_bytes();
    let mut record = vec![0x16, 3, 1, record_high, record_low, 1, 0, high, low, 3, 3];
    record.resize(usize::from(bytes) + 9, 7);
    record
}

#[test]
fn who_speaks_tls_is_told_so_in_tls() {
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver]);
        let addresses: [SocketAddr; 2] = [process.data(), process.control()];
        for address in addresses {
            // The short one would be a frame above 1 TiB.
            for bytes in [512, 40, 1788] {
                let mut connection = Connection::open(address);
                connection.send(hello(bytes));
                assert_eq!(connection.receive_to_end(), [0x15, 3, 1, 0, 2, 2, 70], "{driver}: {bytes}");
            }
            // A hello in pieces is recognised as well.
            for pieces in [1, 5] {
                let mut connection = Connection::open(address);
                for piece in hello(40).chunks(pieces) {
                    connection.send_in_vain(piece);
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                let answer = connection.receive_what_comes();
                assert_eq!(answer, [0x15, 3, 1, 0, 2, 2, 70], "{driver}: pieces of {pieces}");
            }
        }
        wait_until("the lines", || {
            let log = process.log();
            log.iter().filter(|line| line.contains("this port speaks plain HTTP")).count() == 10
        });
        assert_eq!(process.metric("streamd_connections_unknown_total"), 5);
        let log = process.stop();
        assert_eq!(lines_with(&log, "message", "connection refused").len(), 10, "{log:#?}");
        assert!(log.iter().all(|line| !line.contains("\"WARN\"")), "{log:#?}");
    }
}

#[test]
fn a_frame_that_looks_like_tls_is_one_where_so_large_ones_are_taken() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, frame_bytes_max: 1 << 42, ..settings() });
        let mut connection = Connection::open(daemon.data());
        connection.send(hello(40));
        wait_until("the payload", || daemon.count(|worker| worker.connections_accepted.get()) == 1);
        assert!(connection.is_silent_for(Duration::from_millis(300)));
        assert_eq!(daemon.count(|worker| worker.connections_unknown.get()), 0);
    }
}
