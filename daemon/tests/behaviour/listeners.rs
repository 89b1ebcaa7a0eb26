//! Tests of several listeners, and of Unix sockets as those who talk to them see them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::{Signal, geteuid};

use crate::harness::{
    DEADLINE, Fixture, Process, Sockets, curl, curl_text, driver_names, get, json, lines_with, pattern, put,
    sha256, wait_until,
};

const STATUS: [&str; 4] = ["--output", "/dev/null", "--write-out", "%{http_code}"];

/// Starts a daemon with these tables, on TCP too, which serves `root`.
fn start(driver: &str, root: &Fixture, tables: &str, flags: &[&str]) -> Process {
    let config = Fixture::new();
    let config = config.write("streamd.toml", tables.as_bytes());
    let own =
        ["--driver", driver, "--root", root.path().to_str().unwrap(), "--config", config.to_str().unwrap()];
    Process::start(&[&own[..], flags].concat())
}

/// Connects to a socket, with a time-out for what is read.
fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn files_are_served_and_taken_over_a_unix_socket() {
    let large = pattern(64 << 20);
    for driver in driver_names() {
        let (root, sockets) = (Fixture::new(), Sockets::new());
        root.write("small", &pattern(1024));
        root.write("large", &large);
        let process = start(driver, &root, &sockets.table("data", ""), &["--uploads"]);
        let socket = sockets.path("data");
        assert_eq!(curl(&socket, &["http://localhost/small"]).stdout, pattern(1024), "{driver}");
        let range = curl(&socket, &["--range", "100-199", "http://localhost/small"]).stdout;
        assert_eq!(range, pattern(1024)[100..200]);
        let whole = curl(&socket, &["http://localhost/large", "--header", "X-Request-Id: large"]).stdout;
        assert_eq!(sha256(&whole), sha256(&large), "{driver}");
        let source = root.path().join("large");
        let put = ["--upload-file", source.to_str().unwrap(), "http://localhost/copy"];
        assert_eq!(curl_text(&socket, &[&STATUS[..], &put].concat()), "201", "{driver}");
        assert_eq!(sha256(&std::fs::read(root.path().join("copy")).unwrap()), sha256(&large));
        // A name that a page was rebound to is none of this host's.
        let foreign = [&STATUS[..], &["http://evil.example/small"]].concat();
        assert_eq!(curl_text(&socket, &foreign), "421", "{driver}");
        // The other listener serves the same.
        assert_eq!(get(process.data(), "/small", "").body, pattern(1024));
        let log = process.stop();
        assert!(!socket.exists(), "it is removed at the end");
        let line = lines_with(&log, "id", "large").pop().unwrap();
        // Linux lends pages of files to Unix sockets as it does to TCP (MSG_SPLICE_PAGES, 6.5).
        assert_eq!(line["engine"], "sendfile", "{driver}: {line}");
        let uid = geteuid().as_raw();
        assert!(line["peer"].as_str().unwrap().starts_with(&format!("unix:uid={uid},pid=")), "{line}");
    }
}

#[test]
fn a_cold_file_and_a_forced_engine_are_whole_over_a_unix_socket() {
    let content = pattern(5 << 20);
    for driver in driver_names() {
        for engine in ["sendfile", "splice", "copy"] {
            let (root, sockets) = (Fixture::new(), Sockets::new());
            root.write("file", &content);
            let process = start(driver, &root, &sockets.table("data", ""), &["--engine", engine]);
            let sent = curl(&sockets.path("data"), &["http://localhost/file"]).stdout;
            assert_eq!(sha256(&sent), sha256(&content), "{driver} {engine}");
            let sent = process.metric(&format!("streamd_bytes_sent_total{{engine=\"{engine}\"}}"));
            assert_eq!(sent, content.len() as u64, "{driver} {engine}");
        }
    }
}

#[test]
fn the_control_plane_answers_over_a_unix_socket() {
    let sockets = Sockets::new();
    let process = start("auto", &Fixture::new(), &sockets.table("control", "plane = \"control\""), &[]);
    let socket = sockets.path("control");
    assert_eq!(curl_text(&socket, &["http://localhost/health"]), "OK");
    let streamed = json(&curl_text(&socket, &["--request", "POST", "http://localhost/stream?size=1MiB"]));
    assert_eq!((&streamed["state"], &streamed["bytes_sent"]), (&"done".into(), &(1 << 20).into()));
    assert!(curl_text(&socket, &["http://localhost/metrics"]).contains("streamd_connections_accepted_total"));
    assert_eq!(get(process.control(), "/health", "").status, 200, "so does the other listener");
    process.stop();
    assert!(!socket.exists());
}

#[test]
fn daemons_that_listen_on_unix_sockets_alone_have_no_target_of_their_own() {
    let sockets = Sockets::new();
    let tables = sockets.table("data", "") + &sockets.table("control", "plane = \"control\"");
    let config = Fixture::new();
    let config = config.write("streamd.toml", tables.as_bytes());
    let mut command =
        crate::harness::command(&["--log-format", "json", "--config", config.to_str().unwrap()]);
    command.env("STREAMD_CONNECTIONS_MAX", "500");
    let process = Process::spawn(command);
    let line = json(&process.wait_for_line("listening"));
    assert_eq!(
        (&line["data"], &line["control"]),
        (&sockets.address("data").into(), &sockets.address("control").into())
    );
    let socket = sockets.path("control");
    let refused = curl_text(&socket, &["--request", "POST", "http://localhost/stream?size=1"]);
    assert!(refused.contains("listens on no address of TCP: name a target"), "{refused}");
    assert_eq!(curl_text(&sockets.path("data"), &[&STATUS[..], &["http://localhost/"]].concat()), "404");
    process.stop();
}

#[test]
fn v6_takes_v4_too_unless_it_is_alone() {
    for (lines, takes_v4) in [("", true), ("ipv6_only = true", false)] {
        let tables = format!("[[listen]]\naddress = \"[::]:0\"\n{lines}\n");
        let process = start("auto", &Fixture::new(), &tables, &[]);
        let found = lines_with(&process.log(), "message", "listener");
        let line = found.iter().find(|line| line["address"].as_str().unwrap().starts_with("[::]:")).unwrap();
        let port: u16 = line["address"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        assert_eq!(get(([0, 0, 0, 0, 0, 0, 0, 1], port).into(), "/", "").status, 404);
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), takes_v4, "{lines}");
        process.stop();
    }
}

#[test]
fn both_workers_take_connections_of_a_unix_socket() {
    let (root, sockets) = (Fixture::new(), Sockets::new());
    for driver in driver_names() {
        let process = start(driver, &root, &sockets.table("data", ""), &["--workers", "2"]);
        let open: Vec<UnixStream> = (0..40).map(|_| connect(&sockets.path("data"))).collect();
        for mut stream in &open {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut begin = [0; 12];
            stream.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"HTTP/1.1 404", "{driver}");
        }
        assert_eq!(process.metric("streamd_connections_accepted_total"), 40, "{driver}");
        process.stop();
    }
}

#[test]
fn a_download_over_a_unix_socket_outlasts_the_drain_and_nobody_new_comes() {
    let content = pattern(16 << 20);
    for driver in driver_names() {
        let (root, sockets) = (Fixture::new(), Sockets::new());
        root.write("file", &content);
        let tables = sockets.table("data", "") + &sockets.table("control", "plane = \"control\"");
        let mut process = start(driver, &root, &tables, &[]);
        let mut stream = connect(&sockets.path("data"));
        stream.write_all(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut received = vec![0; 1000];
        stream.read_exact(&mut received).unwrap();
        process.signal(Signal::TERM);
        process.wait_for_line("\"draining\"");
        wait_until("the socket to be gone", || UnixStream::connect(sockets.path("data")).is_err());
        assert!(!sockets.path("data").exists());
        assert_eq!(curl_text(&sockets.path("control"), &["http://localhost/health"]), "draining", "{driver}");
        stream.read_to_end(&mut received).unwrap();
        let body = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(sha256(&received[body..]), sha256(&content), "{driver}");
        assert_eq!(process.wait().code(), Some(0));
        assert!(!sockets.path("control").exists());
    }
}

#[test]
fn a_reader_of_a_unix_socket_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
    let content = pattern(8 << 20);
    for driver in driver_names() {
        let (root, sockets) = (Fixture::new(), Sockets::new());
        root.write("file", &content);
        let flags = ["--send-timeout-ms", "2000", "--progress-interval-ms", "3000"];
        let process = start(driver, &root, &sockets.table("data", ""), &flags);
        let ask = |id: &str| {
            let mut stream = connect(&sockets.path("data"));
            let request = format!(
                "GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: {id}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
            stream
        };
        let (mut silent, mut slow) = (ask("silent"), ask("slow"));
        let mut received = vec![0; 64 << 10];
        let line = |id: &str| lines_with(&process.log(), "id", id).pop();
        wait_until("the silent reader to be given up", || {
            // Each piece is less than the socket holds, so that the daemon waits for this one all the time too.
            slow.read_exact(&mut received).unwrap();
            std::thread::park_timeout(std::time::Duration::from_millis(50));
            line("silent").is_some()
        });
        assert_eq!(line("silent").unwrap()["outcome"], "timed_out", "{driver}");
        // What it had been sent comes, and then the end ahead of the length that it was told.
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).unwrap();
        assert!(rest.len() < content.len(), "{driver}");
        slow.read_to_end(&mut Vec::new()).unwrap();
        wait_until("the slow reader's line", || line("slow").is_some());
        assert_eq!(line("slow").unwrap()["outcome"], "complete", "{driver}");
        process.stop();
    }
}

#[test]
fn a_reload_names_a_changed_listener_and_goes_on_with_those_that_there_are() {
    let (root, sockets) = (Fixture::new(), Sockets::new());
    let config = Fixture::new();
    let path = config.write("streamd.toml", sockets.table("data", "").as_bytes());
    let flags = ["--root", root.path().to_str().unwrap(), "--config", path.to_str().unwrap()];
    let process = Process::start(&flags);
    config.write(
        "streamd.toml",
        (sockets.table("data", "mode = \"0600\"") + &sockets.table("new", "")).as_bytes(),
    );
    process.signal(Signal::HUP);
    assert_eq!(json(&process.wait_for_line("needs restart"))["setting"], "listen");
    process.wait_for_line("\"reloaded\"");
    assert_eq!(curl_text(&sockets.path("data"), &[&STATUS[..], &["http://localhost/"]].concat()), "404");
    assert!(!sockets.path("new").exists());
    process.stop();
}

#[test]
fn uploads_of_this_host_need_no_token_and_those_by_a_proxy_do() {
    let (root, sockets) = (Fixture::new(), Sockets::new());
    let process = start("auto", &root, &sockets.table("data", ""), &["--uploads"]);
    let socket = sockets.path("data");
    let upload = |name: &str, more: &[&str]| {
        let url = format!("http://localhost/{name}");
        curl_text(&socket, &[&STATUS[..], &["--request", "PUT", "--data-binary", "x", &url], more].concat())
    };
    assert_eq!(upload("a", &[]), "201");
    assert_eq!(upload("b", &["--header", "X-Forwarded-For: 192.0.2.7"]), "403");
    assert_eq!(upload("c", &["--header", "Origin: http://evil.example"]), "403");
    assert_eq!(put(process.data(), "/d", "", b"x").status, 201);
    process.stop();
}
