//! Tests of the log: one access line a transfer, nothing raw from peers, never the token.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{
    Connection, Fixture, Process, command, driver_names, get, lines_with, pattern, request, wait_until,
};

fn start(root: &Fixture, flags: &[&str]) -> Process {
    Process::start(&[&["--root", root.path().to_str().unwrap()], flags].concat())
}

/// Returns the one access line of `path`.
fn line<'a>(transfers: &'a [Value], path: &str) -> &'a Value {
    let lines: Vec<&Value> = transfers.iter().filter(|line| line["path"] == path).collect();
    assert_eq!(lines.len(), 1, "{path}: {transfers:#?}");
    lines[0]
}

/// The names of the daemon's peers while each kind of transfer was made.
struct Peers {
    http: String,
    frame: String,
    absent_bytes: usize,
}

/// Makes four requests on one connection, a frame on another, and a stream of ten bytes to the own data plane.
fn make_one_transfer_of_each_kind(process: &Process) -> Peers {
    let mut client = Connection::open(process.data());
    client.send("GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response_to("GET").status, 200);
    client.send("GET /file?part HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-99\r\n\r\n");
    assert_eq!(client.response_to("GET").status, 206);
    client.send("HEAD /./file HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 200);
    client.send("GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let absent = client.response_to("GET");
    assert_eq!(absent.status, 404);
    let mut frames = Connection::open(process.data());
    frames.send(b"\x05\0\0\0\0\0\0\0hello");
    assert_eq!(frames.receive(4), b"done");
    assert_eq!(request(process.control(), "POST", "/stream?path=/file&length=10", "").status, 200);
    Peers {
        http: client.stream().local_addr().unwrap().to_string(),
        frame: frames.stream().local_addr().unwrap().to_string(),
        absent_bytes: absent.body.len(),
    }
}

/// Returns the values of a line that can be foretold, in one order.
fn values(line: &Value) -> String {
    ["peer", "protocol", "method", "path", "status", "bytes_in", "bytes_out", "engine", "outcome"]
        .map(|name| line[name].as_str().map_or_else(|| line[name].to_string(), str::to_owned))
        .join(" ")
}

#[test]
fn each_transfer_writes_one_line_with_every_field() {
    let root = Fixture::new();
    root.write("file", &[7; 1000]);
    for driver in driver_names() {
        let process = start(&root, &["--driver", driver]);
        let Peers { http, frame, absent_bytes } = make_one_transfer_of_each_kind(&process);
        let data = process.data();
        let transfers = lines_with(&process.stop(), "message", "transfer");
        let fields: BTreeSet<&str> = [
            "timestamp",
            "level",
            "message",
            "peer",
            "protocol",
            "method",
            "path",
            "status",
            "bytes_in",
            "bytes_out",
            "duration_us",
            "engine",
            "outcome",
            "reason",
            "range",
            "agent",
            "id",
        ]
        .into();
        for transfer in &transfers {
            let sent: BTreeSet<&str> = transfer.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(sent, fields, "{driver}");
            assert_eq!(transfer["level"], "INFO", "{driver}");
            assert!(transfer["duration_us"].is_u64(), "{transfer}");
        }
        let (by_stream, by_peers): (Vec<&Value>, Vec<&Value>) =
            transfers.iter().partition(|line| line["method"] == "RECEIVE" && line["peer"] != frame.as_str());
        // The stream's frame, as its receiver saw it, came from a port that only the daemon knows.
        assert_eq!(by_stream.len(), 1, "{driver}: {transfers:#?}");
        assert_eq!((&by_stream[0]["bytes_in"], &by_stream[0]["outcome"]), (&10.into(), &"complete".into()));
        let lines: BTreeSet<String> = by_peers.iter().map(|line| values(line)).collect();
        let expected: BTreeSet<String> = [
            format!("{http} http GET /file 200 0 1000 copy complete"),
            format!("{http} http GET /file?part 206 0 100 copy complete"),
            format!("{http} http HEAD /./file 200 0 0 none complete"),
            format!("{http} http GET /absent 404 0 {absent_bytes} copy refused"),
            format!("{frame} frame RECEIVE - 0 5 0 none complete"),
            format!("{data} frame STREAM /file 0 0 10 copy complete"),
        ]
        .into();
        assert_eq!(lines, expected, "{driver}");
        assert_eq!(by_peers.len(), expected.len(), "{driver}: {transfers:#?}");
    }
}

#[test]
fn a_client_that_goes_away_is_no_warning() {
    let root = Fixture::new();
    root.write("large", &pattern(64 << 20));
    for driver in driver_names() {
        let process = start(&root, &["--driver", driver]);
        let mut client = Connection::open(process.data());
        client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.receive(1000);
        drop(client);
        process.wait_for_line("/large");
        assert_eq!(process.metric("streamd_transfers_total{outcome=\"peer_closed\"}"), 1, "{driver}");
        let log = process.stop();
        let transfers = lines_with(&log, "message", "transfer");
        let aborted = line(&transfers, "/large");
        assert_eq!(aborted["outcome"], "peer_closed", "{driver}");
        assert_eq!(aborted["status"], 200, "{driver}");
        let bytes = aborted["bytes_out"].as_u64().unwrap();
        assert!((1..64 << 20).contains(&bytes), "{driver}: {bytes}");
        assert!(lines_with(&log, "level", "WARN").is_empty(), "{driver}: {log:#?}");
    }
}

#[test]
fn text_lines_carry_the_same_fields() {
    let root = Fixture::new();
    root.write("file", &[7; 1000]);
    let mut command = command(&["--data-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"]);
    command.args(["--root", root.path().to_str().unwrap(), "--connections-max", "100"]);
    let process = Process::spawn(command);
    let listening = process.wait_for_line("listening");
    let data = listening.split_once("data=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(get(data, "/file", "").status, 200);
    let log = process.stop();
    let transfers: Vec<&String> = log.iter().filter(|line| line.contains(" transfer ")).collect();
    assert_eq!(transfers.len(), 1, "{log:#?}");
    let text = transfers[0];
    assert!(
        text.contains("protocol=\"http\" method=\"GET\" path=\"/file\" status=200 bytes_in=0 bytes_out=1000"),
        "{text}"
    );
    assert!(text.contains("engine=\"copy\" outcome=\"complete\""), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn nothing_that_a_peer_sends_reaches_the_log_raw() {
    let root = Fixture::new();
    for format in ["json", "text"] {
        let mut command = command(&["--data-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"]);
        command.args(["--root", root.path().to_str().unwrap(), "--connections-max", "100"]);
        command.args(["--log-format", format, "--log-level", "trace"]);
        let process = Process::spawn(command);
        let listening = process.wait_for_line("listening");
        let address = |name: &str| {
            let (_, rest) = listening.split_once(name).unwrap();
            let address: String = rest.chars().skip_while(|first| !first.is_ascii_digit()).collect();
            let end = address.find([' ', '"']).unwrap();
            address[..end].parse::<std::net::SocketAddr>().unwrap()
        };
        let (data, control) = (address("data"), address("control"));
        // A path that can be a file's name is asked for and shown as it was sent.
        let shown = ["/file?%1b[31mred", "/quote%22and%27", "/%e2%80%ae", "/%1b[31m", "/line%0d%0a"];
        for path in shown {
            assert_eq!(get(data, path, "").status, 404, "{format}: {path}");
            assert_eq!(get(control, path, "").status, 404, "{format}: {path}");
        }
        // No request may hold these bytes: it is refused, and they aren't shown.
        for raw in
            [&b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: \"\x1b\r\n\r\n"]
        {
            for address in [data, control] {
                let mut connection = Connection::open(address);
                connection.send(raw);
                connection.finish();
                assert_eq!(connection.response_to("GET").status, 400);
            }
        }
        request(control, "POST", "/stream?path=/%1b%0a", "");
        request(control, "POST", "/stream?size=1", "Origin: http://evil\u{9b}.\u{e9}x\u{fffd}ample\r\n");
        let log = process.stop();
        for line in &log {
            let is_clean = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            assert!(is_clean, "{format}: {line:?}");
        }
        for path in shown {
            let is_its_own = |line: &&String| line.contains("transfer") && line.contains(path);
            assert_eq!(log.iter().filter(is_its_own).count(), 1, "{format}: {path}: {log:#?}");
        }
    }
}

#[test]
fn access_lines_can_be_turned_off() {
    let root = Fixture::new();
    root.write("file", &[7; 1000]);
    let process = start(&root, &["--access-log=false"]);
    assert_eq!(get(process.data(), "/file", "").status, 200);
    assert_eq!(request(process.control(), "POST", "/stream?size=169", "").status, 200);
    wait_until("the frame to be counted", || process.metric("streamd_frames_received_total") == 1);
    let log = process.stop();
    assert_eq!(lines_with(&log, "message", "transfer"), [] as [Value; 0]);
    assert!(log.iter().any(|line| line.contains("stopped")), "{log:#?}");
}

#[test]
fn the_token_is_in_no_line() {
    const TOKEN: &str = "5d1f0c7e9ab2";
    let files = Fixture::new();
    let token_file = files.write("token", TOKEN.as_bytes());
    let process = Process::start(&["--token-file", token_file.to_str().unwrap(), "--log-level", "trace"]);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let wrong = format!("Authorization: Bearer {TOKEN}x\r\n");
    let basic = format!("Authorization: Basic {TOKEN}\r\n");
    assert_eq!(request(process.control(), "POST", "/stream?size=1", &bearer).status, 200);
    assert_eq!(request(process.control(), "POST", "/stream?size=1", &wrong).status, 401);
    assert_eq!(get(process.control(), "/metrics", &basic).status, 401);
    let in_query = format!("/stream?size=1&token={TOKEN}");
    assert_eq!(request(process.control(), "POST", &in_query, &bearer).status, 400);
    // The token doesn't belong there: headers of the data plane aren't logged either.
    assert_eq!(get(process.data(), "/file", &bearer).status, 404);
    process.signal(rustix::process::Signal::HUP);
    process.wait_for_line("reloaded");
    let log = process.stop();
    assert!(log.len() > 5, "{log:#?}");
    assert!(log.iter().all(|line| !line.contains(TOKEN)), "{log:#?}");
}
