//! Tests of who may use the control plane.

use super::harness::{Plane, exchange};

#[test]
fn a_token_guards_everything_but_health() {
    let mut plane = Plane::start(|_| {});
    plane.set_token("secret");
    for request in ["GET /metrics", "GET /streams", "POST /stream?size=1", "GET /nothing", "DELETE /stream"] {
        let refused = plane.ask(request, "");
        assert_eq!(refused.status, 401, "{request}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"streamd\""), "{request}");
        assert!(!refused.body.contains("secret"), "{request}");
        assert_eq!(plane.ask(request, "Authorization: Bearer wrong\r\n").status, 401, "{request}");
    }
    assert!(plane.has_no_job());
    assert_eq!(plane.ask("GET /health", "").status, 200);
    assert_eq!(plane.ask("GET /metrics", "Authorization: bearer secret\r\n").status, 200);
}

#[test]
fn a_reload_changes_the_token_of_the_next_request() {
    let plane = Plane::start(|_| {});
    assert_eq!(plane.ask("GET /streams", "").status, 200);
    plane.set_token("old");
    assert_eq!(plane.ask("GET /streams", "Authorization: Bearer old\r\n").status, 200);
    plane.set_token("new");
    assert_eq!(plane.ask("GET /streams", "Authorization: Bearer old\r\n").status, 401);
    assert_eq!(plane.ask("GET /streams", "Authorization: Bearer new\r\n").status, 200);
}

#[test]
fn web_pages_of_others_are_refused() {
    let mut plane = Plane::start(|_| {});
    for headers in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:3000\r\n",
        "Host: evil.example\r\nOrigin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(plane.ask("POST /stream?size=1", headers).status, 403, "{headers}");
        assert_eq!(plane.ask("GET /metrics", headers).status, 403, "{headers}");
        assert_eq!(plane.ask("GET /health", headers).status, 200, "{headers}");
    }
    assert!(plane.has_no_job());
    assert_eq!(plane.ask("GET /streams", "Origin: http://localhost\r\n").status, 200);
}

#[test]
fn host_is_checked_as_the_version_demands() {
    let plane = Plane::start(|_| {});
    let status = |request: &str| exchange(plane.address(), request).split(' ').nth(1).map(str::to_owned);
    assert_eq!(status("GET /streams HTTP/1.0\r\n\r\n").as_deref(), Some("200"));
    assert_eq!(status("GET /streams HTTP/1.1\r\nConnection: close\r\n\r\n").as_deref(), Some("400"));
    let twice = "GET /streams HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(twice).as_deref(), Some("400"));
}
