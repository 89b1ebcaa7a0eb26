//! Tests of each status, with the content of its answer.

use rustix::io::Errno;

use super::harness::{Plane, wait_until};
use crate::job::{BrokeOff, SourceError, StreamError, Unavailable};
use crate::telemetry::{Outcome, Status};

#[test]
fn health_follows_the_workers() {
    let plane = Plane::start(|_| {});
    let healthy = plane.ask("GET /health", "");
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "OK"));
    assert_eq!(healthy.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(healthy.header("cache-control"), Some("no-store"));
    wait_until("the silent worker counts as stalled", || plane.ask("GET /health", "").status == 503);
    assert_eq!(plane.ask("GET /health", "").body, "stalled: worker 0");
    plane.telemetry.start_draining();
    let draining = plane.ask("GET /health", "");
    assert_eq!((draining.status, draining.body.as_str()), (503, "draining"));
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let plane = Plane::start(|_| {});
    let head = plane.ask("HEAD /health", "");
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, Some("2"), ""));
    let missing = plane.ask("HEAD /streams/none", "");
    assert_eq!((missing.status, missing.body.as_str()), (404, ""));
}

#[test]
fn a_finished_stream_is_told_in_one_line() {
    let mut plane = Plane::start(|_| {});
    let reply = plane.stream("POST /stream?size=169", 169, Ok("sendfile"));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let told = reply.json();
    let id = told["id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let (elapsed, rate) =
        (told["elapsed_us"].as_u64().unwrap(), told["throughput_bytes_per_s"].as_u64().unwrap());
    assert_eq!(rate, 169_000_000 / elapsed.max(1));
    let expected = format!(
        "{{\"id\":\"{id}\",\"state\":\"done\",\"source\":\"synthetic\",\"target\":\"127.0.0.1:8080\",\
         \"bytes_requested\":169,\"bytes_sent\":169,\"elapsed_us\":{elapsed},\
         \"throughput_bytes_per_s\":{rate},\"engine\":\"sendfile\",\
         \"message\":\"Data processed successfully\"}}\n"
    );
    assert_eq!(reply.body, expected);
    assert_eq!(plane.telemetry.control.streams.get(Outcome::Complete), 1);
    assert_eq!(plane.telemetry.control.streams_running.get(), 0);
}

#[test]
fn each_stream_error_has_its_status() {
    let mut plane = Plane::start(|_| {});
    let ends = [
        (StreamError::NotFound, 404, Outcome::Refused),
        (StreamError::BeyondEnd { offset: 1, length: 2, size: 2 }, 400, Outcome::Refused),
        (StreamError::OverLimit { bytes: 2, stream_bytes_max: 1 }, 413, Outcome::Refused),
        (StreamError::SourceFailed(SourceError::Changed), 500, Outcome::SourceFailed),
        (StreamError::TargetRefused(Errno::CONNREFUSED.into()), 502, Outcome::PeerClosed),
        (StreamError::NoLocalPort { target: "127.0.0.1:9".parse().unwrap() }, 503, Outcome::NoLocalPort),
        (StreamError::TargetBrokeOff(BrokeOff::Closed), 502, Outcome::PeerClosed),
        (StreamError::TargetSilent(60_000), 504, Outcome::TimedOut),
        (StreamError::Unavailable(Unavailable::Draining), 503, Outcome::Refused),
    ];
    for (error, status, outcome) in ends {
        let counted = plane.telemetry.control.streams.get(outcome);
        let reply = plane.stream("POST /stream?path=/file", 42, Err(error.clone()));
        assert_eq!(reply.status, status, "{error}");
        assert_eq!(reply.problem_detail(), error.to_string());
        assert_eq!(reply.json()["bytes_sent"], 42, "{error}");
        assert_eq!(reply.json()["id"].as_str().unwrap().len(), 32, "{error}");
        assert_eq!(reply.header("retry-after"), (status == 503).then_some("1"), "{error}");
        assert_eq!(plane.telemetry.control.streams.get(outcome), counted + 1, "{error}");
    }
}

#[test]
fn refused_requests_say_what_was_wrong() {
    let mut plane = Plane::start(|settings| settings.stream_bytes_max = 1000);
    for (request, status, said) in [
        ("GET /", 404, "no such path"),
        ("GET /streams/0123", 404, "no stream has the id \"0123\""),
        ("POST /stream", 400, "POST /stream?size=64MiB"),
        ("POST /stream?size=-1", 400, "size: \"-1\" is no byte count"),
        ("POST /stream?size=99999999999999999999", 400, "size: \"99999999999999999999\""),
        ("POST /stream?size=1&speed=2", 400, "unknown parameter \"speed\""),
        ("POST /stream?size=1&size=1", 400, "parameter size is given more than once"),
        ("POST /stream?size=1&path=/f", 400, "size and path exclude each other"),
        ("POST /stream?size=1&length=1", 400, "length needs path"),
        ("POST /stream?size=1&target=localhost", 400, "target \"localhost\" has no port"),
        ("POST /stream?size=1&protocol=raw", 400, "protocol=raw to the own data plane, 127.0.0.1:8080"),
        ("POST /stream?size=1&protocol=raw&target=[::ffff:127.0.0.1]:8080", 400, "protocol=raw to the own"),
        ("POST /stream?size=1001", 413, "1001 bytes are above stream_bytes_max, 1000"),
        ("POST /stream?path=/f&length=1001", 413, "1001 bytes are above stream_bytes_max, 1000"),
        ("POST /stream?size=1&target=127.0.0.1:22", 403, "target \"127.0.0.1:22\" is neither"),
    ] {
        let reply = plane.ask(request, "");
        assert_eq!(reply.status, status, "{request}: {}", reply.body);
        let detail = reply.problem_detail();
        assert!(detail.contains(said), "{request}: {detail}");
    }
    assert!(plane.has_no_job());
    assert_eq!(plane.telemetry.control.streams_running.get(), 0);
    assert_eq!(plane.telemetry.control.requests.get(Status::S413), 2);
}

#[test]
fn other_methods_are_told_which_there_are() {
    let plane = Plane::start(|_| {});
    for (request, allow) in [
        ("POST /health", "GET, HEAD"),
        ("DELETE /metrics", "GET, HEAD"),
        ("PUT /streams", "GET, HEAD"),
        ("POST /streams/0123", "GET, HEAD"),
        ("GET /stream?size=1", "POST"),
        ("HEAD /stream?size=1", "POST"),
        ("OPTIONS /stream?size=1", "POST"),
    ] {
        let reply = plane.ask(request, "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{request}");
    }
}

#[test]
fn no_stream_starts_while_the_daemon_drains_or_without_a_worker() {
    let mut plane = Plane::start(|_| {});
    plane.close_mailbox();
    let closed = plane.ask("POST /stream?size=1", "");
    assert_eq!((closed.status, closed.header("retry-after")), (503, Some("1")));
    assert_eq!(closed.json()["bytes_sent"], 0);
    plane.telemetry.start_draining();
    let draining = plane.ask("POST /stream?size=1", "");
    assert_eq!((draining.status, draining.header("retry-after")), (503, Some("1")));
    assert_eq!(draining.problem_detail(), "the daemon is about to stop and starts no streams");
}

#[test]
fn metrics_count_the_answers_in_the_format_that_is_accepted() {
    let plane = Plane::start(|_| {});
    plane.ask("GET /nothing", "");
    for (fields, media_type) in [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("Accept: text/plain\r\n", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text;version=1.0.0\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ] {
        let metrics = plane.ask("GET /metrics", fields);
        assert_eq!(metrics.status, 200);
        assert_eq!(metrics.header("content-type"), Some(media_type), "{fields}");
        assert_eq!(metrics.header("vary"), Some("Accept"), "{fields}");
        let line = "streamd_control_requests_total{status=\"404\"} 1";
        assert!(metrics.body.lines().any(|found| found == line), "{}", metrics.body);
        assert_eq!(
            metrics.body.ends_with("# EOF\n"),
            media_type.starts_with("application"),
            "{}",
            metrics.body
        );
    }
}
