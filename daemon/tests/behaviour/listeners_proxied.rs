//! Tests of real proxies in front of Unix sockets.

use serde_json::Value;

use crate::harness::{
    Fixture, HaProxy, Nginx, Process, Sockets, curl_text, driver_names, get, lines_with, or_skip, pattern,
    wait_until,
};

fn start(driver: &str, root: &Fixture, text: &str, flags: &[&str]) -> Process {
    let config = Fixture::new();
    let config = config.write("streamd.toml", text.as_bytes());
    let own =
        ["--driver", driver, "--root", root.path().to_str().unwrap(), "--config", config.to_str().unwrap()];
    Process::start(&[&own[..], flags].concat())
}

/// Waits for the line of the request with this id, and returns its peer.
fn peer_of(process: &Process, id: &str) -> String {
    let lines = || lines_with(&process.log(), "id", id);
    wait_until("the line of the request", || !lines().is_empty());
    lines()[0]["peer"].as_str().map(str::to_owned).unwrap_or_default()
}

#[test]
fn haproxy_names_its_clients_on_one_socket_and_nobody_does_on_the_other() {
    for driver in driver_names() {
        let (root, sockets) = (Fixture::new(), Sockets::new());
        root.write("file", b"content");
        let tables = "trusted_proxies = [\"unix:\"]\n".to_owned()
            + &sockets.table("proxied", "proxy_protocol = \"required\"")
            + &sockets.table("plain", "");
        let process = start(driver, &root, &tables, &[]);
        let server = format!("unix@{} send-proxy-v2", sockets.path("proxied").display());
        let Some(proxy) = or_skip(HaProxy::before(&server)) else { return };
        let answer = get(proxy.address(), "/file", "X-Request-Id: proxied\r\nHost: localhost\r\n");
        assert_eq!(answer.text(), "content", "{driver}");
        assert!(peer_of(&process, "proxied").starts_with("127.0.0.1:"), "HAProxy's client, by its address");
        let plain = ["http://localhost/file", "--header", "X-Request-Id: plain"];
        assert_eq!(curl_text(&sockets.path("plain"), &plain), "content");
        assert!(peer_of(&process, "plain").starts_with("unix:uid="));
        // A header that isn't expected is no request, and one that is expected is no matter of choice.
        let header = ["--haproxy-protocol", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let unexpected = crate::harness::curl(&sockets.path("plain"), &[&header[..], &plain[..1]].concat());
        assert_ne!(String::from_utf8_lossy(&unexpected.stdout), "200");
        let missing = crate::harness::curl(&sockets.path("proxied"), &plain[..1]);
        assert!(!missing.status.success(), "{driver}");
        process
            .wait_for_line("proxy_protocol is required, and this connection begins without a PROXY header");
        process.stop();
    }
}

#[test]
fn nginx_serves_a_prefix_from_a_unix_socket_and_names_its_clients() {
    for driver in driver_names() {
        let (root, sockets) = (Fixture::new(), Sockets::new());
        let content = pattern(3 << 20);
        root.write("sub/large", &content);
        let tables = "trusted_proxies = [\"unix:\"]\n".to_owned() + &sockets.table("data", "mode = \"0666\"");
        let process = start(driver, &root, &tables, &["--listing"]);
        let found =
            Nginx::before_socket(&sockets.path("data"), "/files").ok_or_else(|| "no nginx".to_owned());
        let Some(nginx) = or_skip(found) else { return };
        let fields = "X-Request-Id: large\r\n";
        assert_eq!(get(nginx.address(), "/files/sub/large", fields).body, content, "{driver}");
        assert_eq!(peer_of(&process, "large"), "127.0.0.1:0", "as X-Forwarded-For has it");
        let part = get(nginx.address(), "/files/sub/large", "Range: bytes=1000-1999\r\n");
        assert_eq!((part.status, &part.body[..]), (206, &content[1000..2000]), "{driver}");
        let listing = get(nginx.address(), "/files/sub/", "Accept: application/json\r\n");
        let names: Value = serde_json::from_str(&listing.text()).unwrap();
        assert!(names.to_string().contains("large"), "{names}");
        process.stop();
    }
}
