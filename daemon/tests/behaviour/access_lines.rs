//! Access lines: one schema in text and in JSON, the one that the runbook describes.

use std::path::Path;

use serde_json::Value;

use crate::harness::{
    Connection, Fixture, Process, command, driver_names, get, json, lines_with, pattern, put_text, request,
    request_text, set_test_variables, wait_until,
};

const UPLOADS: [&str; 5] = ["--uploads", "--durability", "none", "--min-free-bytes", "0"];

/// The names of the runbook's table, in its order.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("## Access lines").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

fn start(root: &Fixture, flags: &[&str]) -> Process {
    Process::start(&[&["--root", root.path().to_str().unwrap()], flags].concat())
}

fn transfers(log: &[String]) -> Vec<Value> {
    lines_with(log, "message", "transfer")
}

/// Returns the lines of a daemon to which `talk` talks.
fn lines_of(root: &Fixture, flags: &[&str], talk: impl FnOnce(&Process)) -> Vec<Value> {
    let process = start(root, flags);
    talk(&process);
    transfers(&process.stop())
}

#[test]
fn both_formats_have_the_names_that_are_documented_in_that_order() {
    let (root, documented) = (Fixture::new(), documented());
    assert_eq!(documented.len(), 14, "{documented:?}");
    root.write("file", b"content");
    for format in ["json", "text"] {
        let mut command = command(&["--data-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"]);
        command.args([
            "--root",
            root.path().to_str().unwrap(),
            "--connections-max",
            "100",
            "--log-format",
            format,
        ]);
        let process = Process::spawn(command);
        let listening = process.wait_for_line("listening");
        let (_, rest) = listening.split_once("data").unwrap();
        let address = rest.trim_start_matches(['=', '"', ':']).split(['"', ' ']).next().unwrap();
        assert_eq!(get(address.parse().unwrap(), "/file", "User-Agent: a b\r\n").status, 200);
        let log = process.stop();
        let line = log.iter().find(|line| line.contains("transfer")).unwrap();
        let mut rest = line.as_str();
        for name in ["timestamp", "level", "message"].into_iter().filter(|_| format == "json") {
            rest = rest.split_once(&format!("\"{name}\":")).unwrap().1;
        }
        for name in &documented {
            let (before, after) =
                if format == "json" { (format!(",\"{name}\":"), "") } else { (format!(" {name}="), "") };
            let (skipped, follows) = rest.split_once(&before).unwrap_or_else(|| panic!("{name} in {line}"));
            // Nothing but one value stands between two names.
            let names = if format == "json" { "\":" } else { "=" };
            assert!(!skipped.trim_start_matches(after).contains(names), "{name}: {skipped:?} in {line}");
            rest = follows;
        }
    }
}

#[test]
fn an_id_is_the_clients_or_made_and_comes_back_with_each_answer() {
    let root = Fixture::new();
    root.write("file", b"content");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for driver in driver_names() {
        let mut ids = Vec::new();
        let lines = lines_of(&root, &["--driver", driver, UPLOADS[0]], |process| {
            let mut ask = |path: &str, fields: &str| {
                for (address, path) in [(process.data(), path), (process.control(), "/metrics")] {
                    let response = get(address, path, fields);
                    let id = response.field("X-Request-Id").unwrap().to_owned();
                    if address == process.data() {
                        ids.push(id);
                    } else if fields.contains("mine-1") {
                        assert_eq!(id, "mine-1");
                    } else {
                        assert!(!id.is_empty() && !id.contains([' ', '"', '\\']), "{id}");
                    }
                }
            };
            ask("/file", "X-Request-Id: mine-1\r\n");
            ask("/absent", "X-Request-Id: mine-1\r\n");
            ask("/file", &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"));
            ask("/file", &format!("X-Request-Id: mine-1\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"));
            ask("/file", "");
            ask("/file", "X-Request-Id: not mine\r\n");
            ask("/file", "X-Request-Id: quo\"te\r\n");
            ask("/file", &format!("X-Request-Id: {}\r\n", "x".repeat(129)));
            // The id is there also in refusals, in answers to writes, and in those without a body.
            let mut connection = Connection::open(process.data());
            connection.send("GET / HTTP/1.1\r\n\r\n");
            ids.push(connection.response_to("GET").field("X-Request-Id").unwrap().to_owned());
            let mut connection = Connection::open(process.data());
            connection.send(put_text("/new", "X-Request-Id: put-1\r\n", b"content"));
            ids.push(connection.response_to("PUT").field("X-Request-Id").unwrap().to_owned());
            connection.send(request_text("HEAD", "/new", "If-None-Match: *\r\n"));
            let response = connection.response_to("HEAD");
            assert_eq!(response.status, 304);
            ids.push(response.field("X-Request-Id").unwrap().to_owned());
        });
        assert_eq!(&ids[..4], ["mine-1", "mine-1", trace, "mine-1"], "{driver}");
        assert_eq!(ids[9], "put-1", "{driver}");
        let made: Vec<&String> = ids.iter().filter(|id| !id.contains('-') && *id != trace).collect();
        assert_eq!(made.len(), 6, "{driver}: {ids:?}");
        for id in made {
            assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{driver}: {id}");
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{driver}: {ids:?}");
        }
        let mut told: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        told.sort_unstable();
        ids.sort_unstable();
        assert_eq!(told, ids, "{driver}");
    }
}

#[test]
fn a_streams_line_has_the_streams_id() {
    for driver in driver_names() {
        let process = Process::start(&["--driver", driver]);
        let answer = json(&request(process.control(), "POST", "/stream?size=10", "").text());
        let log = process.stop();
        let line = transfers(&log).into_iter().find(|line| line["method"] == "STREAM").unwrap();
        assert_eq!(line["id"], answer["id"], "{driver}");
    }
}

#[test]
fn what_a_client_says_of_itself_is_escaped_and_cut() {
    let root = Fixture::new();
    root.write("file", b"content");
    for driver in driver_names() {
        let lines = lines_of(&root, &["--driver", driver], |process| {
            let fields = "User-Agent: a\"b\\c\u{e9}\u{9b}\td\r\nRange: bytes=0-1\r\n";
            assert_eq!(get(process.data(), "/file", fields).status, 206);
            let long =
                format!("User-Agent: {}\r\nRange: bytes=0-1{}\r\n", "x".repeat(2_000), ",0-1".repeat(200));
            get(process.data(), "/file", &long);
        });
        assert_eq!(lines[0]["agent"], r"a\x22b\x5cc\xc3\xa9\xc2\x9b\x09d", "{driver}");
        assert_eq!(lines[0]["range"], "bytes=0-1", "{driver}");
        assert_eq!(lines[1]["agent"], "x".repeat(128) + "...", "{driver}");
        let range = lines[1]["range"].as_str().unwrap();
        assert!(
            range.starts_with("bytes=0-1,0-1") && range.ends_with("...") && range.len() == 131,
            "{driver}: {range}"
        );
    }
}

#[test]
fn a_refusal_says_why() {
    let root = Fixture::new();
    root.write("file", b"content");
    for driver in driver_names() {
        let mut told = Vec::new();
        let lines = lines_of(&root, &["--driver", driver, UPLOADS[0]], |process| {
            for bytes in [
                request_text("GET", "/absent", ""),
                request_text("GET", "/file", "Range: bytes=9-\r\n"),
                request_text("GET", "/file", "If-Match: \"x\"\r\n"),
                "GET / HTTP/1.1\r\n\r\n".to_owned(),
                request_text("PUT", "/new", ""),
                request_text("POST", "/new", "Content-Length: 0\r\n"),
            ] {
                let mut connection = Connection::open(process.data());
                connection.send(bytes);
                told.push(connection.response_to("GET").problem());
            }
        });
        let mut reasons: Vec<String> =
            lines.iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
        assert!(lines.iter().all(|line| line["outcome"] == "refused"), "{driver}: {lines:#?}");
        reasons.sort();
        told.sort();
        assert_eq!(reasons, told, "{driver}");
    }
}

#[test]
fn bytes_that_come_and_bytes_that_go_are_told_apart() {
    let content = pattern(300_000);
    for driver in driver_names() {
        let root = Fixture::new();
        root.write("file", b"content");
        let flags = [&["--driver", driver, "--upload-bytes-max", "400000"], &UPLOADS[..]].concat();
        let mut answers = Vec::new();
        let lines = lines_of(&root, &flags, |process| {
            let mut send = |bytes: &[u8], method: &str| {
                let mut connection = Connection::open(process.data());
                connection.send(bytes);
                let response = connection.response_to(method);
                drop(connection);
                answers.push((response.status, response.body.len()));
            };
            send(&put_text("/new", "", &content), "PUT");
            send(&put_text("/other", "If-Match: \"x\"\r\n", b"content"), "PUT");
            let wrong = "Repr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n";
            send(&put_text("/other", wrong, b"content"), "PUT");
            send(request_text("GET", "/file", "Content-Length: 3\r\n").as_bytes(), "GET");
            send((request_text("GET", "/file", "Content-Length: 3\r\n") + "abc").as_bytes(), "GET");
            process.wait_for_line("\"bytes_in\":3");
        });
        let mut told: Vec<(u64, u64, u64)> = lines
            .iter()
            .map(|line| {
                let number = |name: &str| line[name].as_u64().unwrap();
                (number("status"), number("bytes_in"), number("bytes_out"))
            })
            .collect();
        let bodies: Vec<u64> = answers.iter().map(|(_, bytes)| *bytes as u64).collect();
        let mut expected =
            [(201, 300_000, 0), (412, 7, bodies[1]), (400, 7, bodies[2]), (200, 0, 7), (200, 3, 7)];
        // A client has its answer before the line is written, and asks another worker.
        told.sort_unstable();
        expected.sort_unstable();
        assert!(bodies[1] > 0 && bodies[2] > 0, "{driver}: {answers:?}");
        assert_eq!(told, expected, "{driver}");
    }
}

/// Neither the framing of a body nor the bytes behind it count.
#[test]
fn of_a_body_that_nobody_wanted_its_payload_is_told() {
    let chunks = "3;a=b\r\nabc\r\n0\r\nT: v\r\n\r\n";
    for driver in driver_names() {
        let root = Fixture::new();
        root.write("file", b"content");
        let lines = lines_of(&root, &["--driver", driver, UPLOADS[0]], |process| {
            let next = request_text("GET", "/file", "");
            let chunked = request_text("GET", "/file", "Transfer-Encoding: chunked\r\n");
            let page = request_text("PUT", "/new", "Origin: http://a\r\nTransfer-Encoding: chunked\r\n");
            let waiting = request_text("GET", "/file", "Expect: 100-continue\r\nContent-Length: 3\r\n");
            let waiting_chunked =
                request_text("GET", "/file", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n");
            for (bytes, status) in [
                (chunked.clone() + chunks + &next, 200),
                (page + chunks, 403),
                (waiting + "abc" + &next, 200),
                (waiting_chunked + chunks + &next, 200),
                (chunked + "3\r\nabc\r\nzz", 200),
            ] {
                let mut connection = Connection::open(process.data());
                connection.send(&bytes);
                assert_eq!(connection.response_to("GET").status, status, "{driver}: {bytes:?}");
                connection.finish();
                connection.receive_what_comes();
            }
        });
        let mut told: Vec<u64> = lines.iter().map(|line| line["bytes_in"].as_u64().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, [0, 3, 3, 3, 3, 3], "{driver}: {lines:#?}");
    }
}

#[test]
fn an_aborted_upload_has_a_status_and_a_peer_of_ipv4_has_one_name() {
    for driver in driver_names() {
        let root = Fixture::new();
        let token = Fixture::new();
        let token = token.write("token", b"secret");
        let mut command = command(&["--driver", driver, "--data-listen", "[::]:0"]);
        set_test_variables(&mut command);
        command.args(UPLOADS).arg("--root").arg(root.path()).arg("--token-file").arg(token);
        let process = Process::spawn(command);
        let port = process.data().port();
        let mut connection = Connection::open(format!("127.0.0.1:{port}").parse().unwrap());
        let fields = "Authorization: Bearer secret\r\nContent-Length: 10\r\n";
        connection.send(request_text("PUT", "/new", fields) + "abc");
        connection.finish();
        connection.receive_what_comes();
        let own = connection.stream().local_addr().unwrap().to_string();
        process.wait_for_line("\"transfer\"");
        let lines = transfers(&process.stop());
        assert_eq!(
            (&lines[0]["status"], &lines[0]["bytes_in"]),
            (&499.into(), &3.into()),
            "{driver}: {lines:?}"
        );
        assert_eq!(lines[0]["peer"], own.as_str(), "{driver}");
    }
}

/// Many requests at once for a short file, by a client that reads nothing, are answered until no buffer takes
/// more.
#[test]
fn an_answer_from_memory_that_breaks_off_says_how_much_of_it_was_sent() {
    /// The bytes of a file that is kept in memory once it has been asked for; no whole number of them fills a
    /// segment.
    const FILE_BYTES: usize = 30_000;
    /// The number of requests whose answers are more than the buffers of any host take.
    const REQUESTS: usize = 2_000;
    const CLIENTS: usize = 6;
    let root = Fixture::new();
    root.write("file", &pattern(FILE_BYTES));
    for driver in driver_names() {
        let flags = ["--driver", driver, "--send-timeout-ms", "500", "--cache-valid-ms", "60000"];
        let process = start(&root, &flags);
        assert_eq!(get(process.data(), "/file", "").body.len(), FILE_BYTES);
        let mut received = 0;
        let mut clients: Vec<Connection> =
            (0..CLIENTS).map(|_| Connection::open_slow(process.data(), 4096)).collect();
        for client in &mut clients {
            client.send_in_vain(request_text("GET", "/file", "").repeat(REQUESTS));
        }
        for client in &mut clients {
            wait_until("the answers to break off", || process.metric("streamd_connections_open") == 0);
            // The bytes that came before the reset can still be read.
            received += client.receive_what_comes().len();
        }
        let counted = process.metric("streamd_bytes_sent_total{engine=\"copy\"}");
        let lines = transfers(&process.stop());
        let bytes = |line: &Value| line["bytes_out"].as_u64().unwrap();
        let broken: Vec<&Value> = lines.iter().filter(|line| line["outcome"] != "complete").collect();
        assert_eq!(broken.len(), CLIENTS, "{driver}: {broken:#?}");
        for line in &broken {
            assert_eq!((&line["outcome"], &line["status"]), (&"timed_out".into(), &200.into()), "{driver}");
            assert!(bytes(line) < FILE_BYTES as u64, "{driver}: {line}");
        }
        // It would be an accident if the last one that fits did so to its end, and one of all of them.
        assert!(broken.iter().any(|line| bytes(line) > 0), "{driver}: {broken:#?}");
        let sent: u64 = lines.iter().map(bytes).sum();
        assert_eq!(sent, counted, "{driver}");
        // Part of the bytes are heads, of some hundred bytes each.
        let least = received * 9 / 10;
        assert!(sent >= least as u64, "{driver}: {sent} of {received}");
    }
}

#[test]
fn lines_of_all_threads_are_in_the_order_of_their_times() {
    let root = Fixture::new();
    root.write("file", b"content");
    for driver in driver_names() {
        let process = start(&root, &["--driver", driver, "--workers", "3", "--log-level", "debug"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(get(process.data(), "/file", "").status, 200);
                        assert_eq!(get(process.control(), "/absent", "").status, 404);
                    }
                });
            }
        });
        let log = process.stop();
        let times: Vec<String> =
            log.iter().map(|line| json(line)["timestamp"].as_str().unwrap().to_owned()).collect();
        assert_eq!(transfers(&log).len(), 200, "{driver}");
        if let Some(at) = times.windows(2).position(|pair| pair[0] > pair[1]) {
            panic!("{driver}: {:#?}", &log[at..at + 2]);
        }
    }
}

#[test]
fn debug_and_trace_tell_what_becomes_of_a_connection() {
    let root = Fixture::new();
    root.write("file", &pattern(3 << 20));
    for driver in driver_names() {
        for level in ["info", "debug", "trace"] {
            let process = start(&root, &["--driver", driver, "--log-level", level]);
            let mut connection = Connection::open(process.data());
            connection.send(request_text(
                "GET",
                "/file",
                "X-Request-Id: mine\r\nAuthorization: Bearer secret\r\n",
            ));
            assert_eq!(connection.response_to("GET").status, 200);
            let peer = connection.stream().local_addr().unwrap().to_string();
            drop(connection);
            crate::harness::wait_until("the connection closed", || {
                process.metric("streamd_connections_open") == 0
            });
            let log = process.stop();
            let told = |message: &str| {
                let lines = lines_with(&log, "message", message);
                lines.into_iter().filter(|line| line["peer"] == peer.as_str() || line["id"] == "mine").count()
            };
            let is_told = usize::from(level != "info");
            for message in ["connection accepted", "connection speaks", "request begins", "connection closed"]
            {
                assert_eq!(told(message), is_told, "{driver} {level}: {message}: {log:#?}");
            }
            if level != "info" {
                let closed = lines_with(&log, "message", "connection closed");
                assert!(
                    closed.iter().any(|line| line["reason"] == "the peer closed it"),
                    "{driver}: {closed:#?}"
                );
            }
            assert_eq!(told("received"), usize::from(level == "trace"), "{driver}");
            assert_eq!(told("window"), if level == "trace" { 3 } else { 0 }, "{driver}");
            assert!(log.iter().all(|line| !line.contains("secret")), "{driver} {level}: {log:#?}");
        }
    }
}
