//! Tests of who may do what, by the address that is listened on, the token, and the host that a request is for.

use std::net::SocketAddr;

use rustix::process::Signal;
use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, Process, Response, TestDaemon, driver_names, drivers, each_uploading, get, json,
    lines_with, run_streamd, settings, wait_until,
};

/// Names of a loopback address, whatever it is.
const OWN: [&str; 7] = [
    "localhost",
    "LOCALHOST.:80",
    "a.localhost",
    "127.0.0.1:1",
    "127.0.0.2",
    "[::1]:8080",
    "[::ffff:127.0.0.1]",
];
const FOREIGN: [&str; 5] = ["evil.example", "evil.example:80", "localhost.evil.example", "192.0.2.1", "a%2e"];

/// Sends one request for `host`, on a connection of its own.
fn ask(address: SocketAddr, method: &str, path: &str, host: &str, fields: &str) -> Response {
    let mut connection = Connection::open(address);
    let length = if method == "PUT" { "Content-Length: 3\r\n" } else { "" };
    let body = if method == "PUT" { "new" } else { "" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{fields}\r\n");
    connection.send(head + body);
    connection.response_to(method)
}

#[test]
fn a_token_is_asked_for_on_loopback_too() {
    let secret = Fixture::new();
    let token_file = Some(secret.write("token", b"secret-0123\n"));
    let change = |settings| Settings { token_file: token_file.clone(), ..settings };
    each_uploading(change, |daemon, fixture| {
        fixture.write("file", b"content");
        let upload = "/.streamd-uploads/0123456789abcdef0123456789abcdef";
        for (method, path) in [
            ("PUT", "/file"),
            ("PUT", "/absent"),
            ("POST", "/file"),
            ("PATCH", "/file"),
            ("DELETE", "/file"),
            ("HEAD", upload),
            ("GET", upload),
            ("PATCH", upload),
            ("DELETE", upload),
        ] {
            for fields in ["", "Authorization: Bearer wrong\r\n", "Origin: http://localhost\r\n"] {
                // The token is asked for before any host is refused.
                for host in ["localhost", "evil.example"] {
                    let response = ask(daemon.data(), method, path, host, fields);
                    assert_eq!(response.status, 401, "{method} {path} {host} {fields}");
                    assert_eq!(response.field("WWW-Authenticate"), Some("Bearer"));
                }
            }
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        let token = "Authorization: Bearer secret-0123\r\n";
        // The holder of the token may write, by whatever name of a proxy.
        for host in ["localhost", "files.example"] {
            assert_eq!(ask(daemon.data(), "PUT", "/file", host, token).status, 204, "{host}");
        }
        assert_eq!(ask(daemon.data(), "HEAD", upload, "localhost", token).status, 404);
        for (path, fields, status) in
            [("/streams", "", 401), ("/streams", token, 200), ("/nothing", "", 401), ("/health", "", 200)]
        {
            assert_eq!(get(daemon.control(), path, fields).status, status, "{path} {fields}");
        }
    });
}

#[test]
fn a_page_that_was_rebound_to_loopback_reads_and_writes_nothing() {
    each_uploading(
        |settings| settings,
        |daemon, fixture| {
            fixture.write("file", b"content");
            for host in FOREIGN {
                for method in ["GET", "HEAD", "PUT", "DELETE"] {
                    let response = ask(daemon.data(), method, "/file", host, "");
                    assert_eq!(response.status, 421, "{method} for {host}");
                    if method != "HEAD" {
                        let (detail, name) = (response.problem(), host.split(':').next().unwrap());
                        assert!(detail.contains("hosts_allowed") && detail.contains(name), "{detail}");
                        assert_eq!(response.problem_document()["title"], "Misdirected Request");
                    }
                }
            }
            for host in OWN {
                assert_eq!(ask(daemon.data(), "GET", "/file", host, "").text(), "content", "{host}");
                assert_eq!(ask(daemon.data(), "PUT", "/new", host, "").status / 100, 2, "{host}");
            }
            let cross_site = "Sec-Fetch-Site: cross-site\r\n";
            assert_eq!(ask(daemon.data(), "PUT", "/new", "localhost", cross_site).status, 403);
            // Each status is counted as itself.
            let count =
                |status| daemon.count(|worker| worker.requests.get(streamd::telemetry::Status::of(status)));
            wait_until("the counts", || count(421) == 4 * FOREIGN.len() as u64);
            assert_eq!(count(500), 0);
        },
    );
}

#[test]
fn what_says_that_it_came_by_a_proxy_writes_nothing_without_a_token() {
    const SAID: [&str; 5] = [
        "Forwarded: for=192.0.2.1\r\n",
        "Via: 1.1 proxy\r\n",
        "X-Forwarded-For: 192.0.2.1\r\n",
        "X-Forwarded-Host: files.example\r\n",
        "x-real-ip: 127.0.0.1\r\n",
    ];
    each_uploading(
        |settings| settings,
        |daemon, fixture| {
            fixture.write("file", b"content");
            for fields in SAID {
                for method in ["PUT", "DELETE"] {
                    let response = ask(daemon.data(), method, "/file", "localhost", fields);
                    assert_eq!(response.status, 403, "{method} {fields}");
                    assert!(response.problem().contains("token_file"), "{}", response.problem());
                }
                assert_eq!(ask(daemon.data(), "GET", "/file", "localhost", fields).text(), "content");
            }
        },
    );
    let secret = Fixture::new();
    let token_file = Some(secret.write("token", b"secret-0123\n"));
    let change = |settings| Settings { token_file: token_file.clone(), ..settings };
    each_uploading(change, |daemon, _| {
        for fields in SAID {
            let fields = format!("Authorization: Bearer secret-0123\r\n{fields}");
            assert_eq!(ask(daemon.data(), "PUT", "/file", "localhost", &fields).status / 100, 2, "{fields}");
        }
    });
}

#[test]
fn the_host_of_an_absolute_target_counts_and_old_clients_need_none() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, ..settings() });
        for (head, status) in [
            ("GET http://localhost/file HTTP/1.1\r\nHost: evil.example", 200),
            ("GET http://evil.example/file HTTP/1.1\r\nHost: localhost", 421),
            ("GET http://evil.example/file HTTP/1.0\r\nX: y", 421),
            ("GET /file HTTP/1.0\r\nX: y", 200),
            ("GET /file HTTP/1.0\r\nHost: evil.example", 421),
        ] {
            let mut connection = Connection::open(daemon.data());
            connection.send(format!("{head}\r\n\r\n"));
            assert_eq!(connection.response_to("GET").status, status, "{head}");
        }
    }
}

#[test]
fn other_addresses_have_all_names_until_some_are_listed() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let base = Settings {
            driver,
            root: Some(fixture.path().to_owned()),
            data_listen: "0.0.0.0:0".parse().unwrap(),
            ..settings()
        };
        let daemon = TestDaemon::start(base.clone());
        let address = SocketAddr::from(([127, 0, 0, 1], daemon.data().port()));
        let status = |host: &str| ask(address, "GET", "/file", host, "").status;
        for host in OWN.iter().chain(&FOREIGN) {
            assert_eq!(status(host), 200, "{host}");
        }
        // The hosts of a reload are in force from the worker's next tick on.
        let hosts_allowed = vec!["Files.example".to_owned()];
        assert_eq!(daemon.reload(Settings { hosts_allowed, ..base }), [] as [String; 0]);
        wait_until("the list", || status("evil.example") == 421);
        for host in ["files.example", "FILES.example.:80", "localhost", "127.0.0.1"] {
            assert_eq!(status(host), 200, "{host}");
        }
    }
}

#[test]
fn what_is_listed_opens_the_data_plane_and_never_the_control_plane() {
    for driver in drivers() {
        let fixture = Fixture::new();
        fixture.write("file", b"content");
        let root = Some(fixture.path().to_owned());
        for listed in ["*", "evil.example"] {
            let (hosts_allowed, root) = (vec![listed.to_owned()], root.clone());
            let daemon = TestDaemon::start(Settings { driver, root, hosts_allowed, ..settings() });
            assert_eq!(ask(daemon.data(), "GET", "/file", "evil.example", "").status, 200);
            assert_eq!(ask(daemon.control(), "GET", "/metrics", "evil.example", "").status, 403);
            assert_eq!(ask(daemon.control(), "GET", "/metrics", "localhost.", "").status, 200);
        }
    }
}

#[test]
fn uploads_that_a_proxy_opens_need_a_token() {
    let fixture = Fixture::new();
    let token = fixture.write("token", b"secret-0123\n");
    let root = fixture.path().to_str().unwrap();
    let flags = ["--check", "--uploads", "--root", root, "--data-listen", "127.0.0.1:0"];
    for hosts in ["*", "files.example", "192.0.2.1"] {
        let flags = [&flags[..], &["--control-listen", "127.0.0.1:0", "--hosts-allowed", hosts]].concat();
        for start in [&flags[..], &flags[1..]] {
            let refused = run_streamd(start);
            let stderr = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(78), "{stderr}");
            assert!(
                stderr.contains("uploads: hosts_allowed ") && stderr.contains("set token_file"),
                "{stderr}"
            );
        }
        let guarded = run_streamd(&[&flags[..], &["--token-file", token.to_str().unwrap()]].concat());
        assert_eq!(guarded.status.code(), Some(0), "{hosts}");
    }
}

#[test]
fn what_is_open_to_whom_is_said_by_check_and_in_the_log() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let root = fixture.path().to_str().unwrap().to_owned();
    let checked = run_streamd(&["--check", "--uploads", "--root", &root, "--data-listen", "127.0.0.1:0"]);
    let stdout = String::from_utf8(checked.stdout).unwrap();
    for line in [
        "reading        this host, by its own names",
        "frames         this host, which are dropped",
        "uploads        this host, but no web page",
        "control        this host, but no web page; /health web pages too",
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line:?} is missing in:\n{stdout}");
    }
    for driver in driver_names() {
        let file = fixture.write("streamd.toml", format!("root = {root:?}\n").as_bytes());
        let process = Process::start(&["--driver", driver, "--config", file.to_str().unwrap()]);
        let first = json(&process.wait_for_line("open to"));
        assert_eq!(first["reading"], "this host, by its own names", "{first}");
        assert_eq!(first["uploads"], "nobody, they are off");
        let refused = ask(process.data(), "GET", "/file", "files.example", "");
        assert_eq!(refused.status, 421);
        fixture.write(
            "streamd.toml",
            format!("root = {root:?}\nhosts_allowed = [\"files.example\"]\n").as_bytes(),
        );
        process.signal(Signal::HUP);
        wait_until("the reload", || ask(process.data(), "GET", "/file", "files.example", "").status == 200);
        let log = process.stop();
        let said = lines_with(&log, "message", "open to");
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[1]["reading"], "this host, by its own names and hosts_allowed");
    }
}
