//! Tests of streams as they run: several at once, refused, watched, given up.

use std::io::Write;
use std::net::SocketAddr;

use super::harness::{DATA_ADDRESS, Plane, connect, wait_until};
use crate::config::TargetRule;
use crate::job::{BrokeOff, Source, StreamError, TargetProtocol};
use crate::telemetry::Outcome;

#[test]
fn a_target_that_no_rule_allows_is_denied_without_a_look_up_or_a_slot() {
    let mut plane = Plane::start(|settings| {
        settings.streams_max = 1;
        settings.connect_timeout_ms = 2000;
        settings.targets_allowed = vec!["allowed.invalid:80".to_owned(), "192.0.2.0/24:80".to_owned()];
    });
    let running = plane.ask_aside("POST /stream?size=1");
    let job = plane.next_job();
    // The only slot is taken, and each of these targets is denied all the same. Such names resolve nowhere (RFC
    // 6761 6.4): a look-up would end in 502.
    for target in
        ["other.invalid:79", "allowed.invalid:81", "other.invalid:8080", "192.0.3.1:80", "localhost:1"]
    {
        let reply = plane.ask(&format!("POST /stream?size=1&target={target}"), "");
        assert_eq!(reply.status, 403, "{target}: {}", reply.body);
        assert!(reply.problem_detail().contains("targets_allowed"), "{target}");
    }
    // A target that may be allowed waits for its slot before the look-up.
    for target in ["allowed.invalid:80", "any.invalid:80", "192.0.2.7:80"] {
        assert_eq!(plane.ask(&format!("POST /stream?size=1&target={target}"), "").status, 429, "{target}");
    }
    job.end.send(Ok("copy")).unwrap();
    assert_eq!(running.join().unwrap().status, 200);
    assert_eq!(plane.ask("POST /stream?size=1&target=allowed.invalid:80", "").status, 502);
}

#[test]
fn streams_run_side_by_side_up_to_the_limit() {
    let mut plane = Plane::start(|settings| settings.streams_max = 2);
    let clients = [plane.ask_aside("POST /stream?size=1"), plane.ask_aside("POST /stream?size=1")];
    let (first, second) = (plane.next_job(), plane.next_job());
    let refused = plane.ask("POST /stream?size=1", "");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!(refused.problem_detail().starts_with("2 streams are running"), "{}", refused.body);
    assert_eq!(plane.telemetry.control.streams_running.get(), 2);

    first.end.send(Ok("copy")).unwrap();
    wait_until("the first slot is free", || plane.telemetry.control.streams_running.get() == 1);
    assert_eq!(plane.stream("POST /stream?size=1", 1, Ok("copy")).status, 200);
    second.end.send(Err(StreamError::TargetSilent(1))).unwrap();
    let mut statuses = clients.map(|client| client.join().unwrap().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
}

#[test]
fn a_reload_changes_the_limit() {
    let mut plane = Plane::start(|settings| settings.streams_max = 1);
    let client = plane.ask_aside("POST /stream?size=1");
    let job = plane.next_job();
    assert_eq!(plane.ask("POST /stream?size=1", "").status, 429);
    plane.reload(|live| live.settings.streams_max = 2);
    assert_eq!(plane.stream("POST /stream?size=1", 1, Ok("copy")).status, 200);
    job.end.send(Ok("copy")).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
}

/// Returns the members of a stream that the runbook describes, in its order.
fn documented() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## Streams\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_stream_has_the_members_that_are_documented_in_that_order() {
    let (documented, mut shown) = (documented(), Vec::new());
    for end in [Ok("copy"), Err(StreamError::TargetSilent(7))] {
        let mut plane = Plane::start(|_| {});
        let client = plane.ask_aside("POST /stream?size=1");
        let job = plane.next_job();
        let running = plane.ask("GET /streams", "").body;
        job.end.send(end).unwrap();
        client.join().unwrap();
        for text in [running, plane.ask("GET /streams", "").body] {
            // The members come in the order in which they are written.
            let members = documented.iter().filter(|name| text.contains(&format!("\"{name}\":")));
            let at = |name: &String| text.find(&format!("\"{name}\":")).unwrap();
            assert!(members.clone().map(at).is_sorted(), "{text}");
            let stream: serde_json::Value = serde_json::from_str(&text).unwrap();
            let names: Vec<String> = stream[0].as_object().unwrap().keys().cloned().collect();
            assert_eq!(names.len(), members.count(), "{text} has a member that isn't documented");
            shown.extend(names);
        }
    }
    assert!(documented.iter().all(|name| shown.contains(name)), "{documented:?} {shown:?}");
}

#[test]
fn a_client_that_goes_away_cancels_its_stream() {
    let mut plane = Plane::start(|settings| settings.streams_max = 1);
    let mut client = connect(plane.address());
    client.write_all(b"POST /stream?size=1GiB HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let job = plane.next_job();
    assert!(!job.end.is_closed());
    drop(client);
    wait_until("the job is cancelled", || job.end.is_closed());
    wait_until("the slot is free", || plane.telemetry.control.streams_running.get() == 0);
    assert_eq!(plane.telemetry.control.streams.get(Outcome::Cancelled), 1);
    let shown = plane.ask(&format!("GET /streams/{}", job.id), "").json();
    assert_eq!(shown["state"], "failed");
    assert_eq!(shown["error"], StreamError::Cancelled.to_string());
}

#[test]
fn a_worker_that_ends_without_a_word_is_an_answer_too() {
    let mut plane = Plane::start(|_| {});
    let client = plane.ask_aside("POST /stream?size=1");
    drop(plane.next_job());
    let reply = client.join().unwrap();
    assert_eq!(reply.status, 503);
    assert!(reply.problem_detail().contains("the worker ended before the stream"), "{}", reply.body);
}

#[test]
fn the_job_says_what_was_asked_for() {
    let mut plane = Plane::start(|_| {});
    plane.reload(|live| live.targets = vec![TargetRule::parse("192.0.2.0/24:9000").unwrap()]);
    let client =
        plane.ask_aside("POST /stream?path=/a%20b&offset=1KiB&length=5&target=192.0.2.7:9000&protocol=raw");
    let job = plane.next_job();
    let Source::File { name, offset, length } = &job.source else { panic!("{:?}", job.source) };
    assert_eq!((&*name.text(), *offset, *length), ("a b", 1024, Some(5)));
    assert_eq!(job.target, "192.0.2.7:9000".parse::<SocketAddr>().unwrap());
    assert_eq!(job.protocol, TargetProtocol::Raw);
    assert_eq!(job.progress.bytes_requested(), 5);
    let id = job.id.clone();
    job.end.send(Ok("splice")).unwrap();
    let told = client.join().unwrap().json();
    assert_eq!((told["id"].as_str(), told["source"].as_str()), (Some(id.as_str()), Some("/a b")));
    assert_eq!((told["target"].as_str(), told["engine"].as_str()), (Some("192.0.2.7:9000"), Some("splice")));
}

#[test]
fn the_own_data_plane_may_be_named() {
    let mut plane = Plane::start(|_| {});
    for target in ["127.0.0.1:8080", "localhost:8080", "0.0.0.0:8080"] {
        let client = plane.ask_aside(&format!("POST /stream?size=0&target={target}"));
        let job = plane.next_job();
        assert_eq!(job.target, DATA_ADDRESS.parse::<SocketAddr>().unwrap(), "{target}");
        job.end.send(Ok("copy")).unwrap();
        assert_eq!(client.join().unwrap().status, 200, "{target}");
    }
}

#[test]
fn a_name_without_an_address_is_a_bad_gateway() {
    // The time-out is long enough to ask, and short where no name server answers.
    let mut plane = Plane::start(|settings| {
        settings.connect_timeout_ms = 2000;
        settings.targets_allowed = vec!["nowhere.invalid:80".to_owned()];
    });
    let reply = plane.ask("POST /stream?size=1&target=nowhere.invalid:80", "");
    assert_eq!(reply.status, 502, "{}", reply.body);
    let detail = reply.problem_detail();
    assert!(detail.starts_with("target \"nowhere.invalid:80\" can't be resolved: "), "{detail}");
    assert!(plane.has_no_job());
    assert_eq!(plane.telemetry.control.streams_running.get(), 0);
}

#[test]
fn streams_can_be_watched_and_looked_up() {
    let mut plane = Plane::start(|_| {});
    assert_eq!(plane.ask("GET /streams", "").body, "[]\n");
    plane.stream("POST /stream?size=7", 3, Err(StreamError::TargetBrokeOff(BrokeOff::Closed)));
    let client = plane.ask_aside("POST /stream?size=9");
    let job = plane.next_job();
    job.progress.add_bytes_sent(4);

    let list = plane.ask("GET /streams", "").json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[0]["id"], job.id.as_str());
    assert_eq!((&list[0]["state"], &list[0]["bytes_sent"]), (&"running".into(), &4.into()));
    assert_eq!((&list[1]["state"], &list[1]["bytes_sent"]), (&"failed".into(), &3.into()));
    assert_eq!(list[1]["error"], "the target broke off: the peer closed the connection");

    let path = format!("GET /streams/{}", job.id);
    let running = plane.ask(&path, "").json();
    assert_eq!((&running["state"], &running["bytes_requested"]), (&"running".into(), &9.into()));
    assert!(running.get("engine").is_none() && running.get("error").is_none(), "{running}");
    job.end.send(Ok("copy")).unwrap();
    let told = client.join().unwrap().json();
    let mut done = plane.ask(&path, "").json();
    done["message"] = told["message"].clone();
    assert_eq!(done, told);
}
