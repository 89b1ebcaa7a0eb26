//! Smoke tests: the least that must work.

use crate::harness::{Fixture, Process, TestDaemon, get, pattern, request, sha256};

#[test]
fn a_file_comes_out_as_it_is() {
    let fixture = Fixture::new();
    let content = pattern(3_000_000);
    fixture.write("file", &content);
    let daemon = TestDaemon::serving(fixture.path());
    let response = get(daemon.data(), "/file", "");
    assert_eq!(response.status, 200);
    assert_eq!(sha256(&response.body), sha256(&content));
}

#[test]
fn the_binary_alone_needs_no_configuration() {
    let process = Process::start(&[]);
    let health = get(process.control(), "/health", "");
    assert_eq!((health.status, health.text().as_str()), (200, "OK"));
    let stream = request(process.control(), "POST", "/stream?size=169", "");
    assert_eq!(stream.status, 200);
    let document: serde_json::Value = serde_json::from_slice(&stream.body).unwrap();
    assert_eq!(document["bytes_sent"], 169);
    assert_eq!(document["message"], "Data processed successfully");
}
