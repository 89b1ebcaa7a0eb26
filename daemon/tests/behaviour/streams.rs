//! Tests of streams that the control plane starts: to the own data plane and to targets of every behaviour.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::Value;
use streamd::config::Settings;
use streamd::telemetry::{Label, Outcome};

use crate::harness::{
    Connection, Fixture, Process, Response, Target, TestDaemon, drivers, every_engine_and_driver, frame_size,
    get, pattern, request, settings, sha256, wait_until,
};

/// The resident memory that no stream may make a daemon exceed, in bytes.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

fn post(control: SocketAddr, query: &str) -> Response {
    request(control, "POST", &format!("/stream?{query}"), "")
}

fn document(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

/// Returns the body of a stream that ended well.
fn done(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.field("Content-Type"), Some("application/json"));
    let document = document(response);
    assert_eq!(document["state"], "done", "{document}");
    assert_eq!(document["message"], "Data processed successfully", "{document}");
    document
}

/// Returns settings that let streams go to any port of this host.
fn to_any_port() -> Settings {
    Settings { targets_allowed: vec!["127.0.0.1:*".to_owned()], workers: 1, ..settings() }
}

fn streams(daemon: &TestDaemon, outcome: Outcome) -> u64 {
    daemon.telemetry().control.streams.get(outcome)
}

#[test]
fn a_stream_to_the_own_data_plane_is_acknowledged_whole() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..settings() });
        let mut bytes_all = 0;
        for (size, bytes) in [("169", 169), ("0", 0), ("64MiB", 64 << 20), ("1kB", 1_000)] {
            let stream = done(&post(daemon.control(), &format!("size={size}")));
            assert_eq!(stream["bytes_requested"], bytes, "{stream}");
            assert_eq!(stream["bytes_sent"], bytes, "{stream}");
            assert_eq!(stream["source"], "synthetic", "{stream}");
            assert_eq!(stream["target"], daemon.data().to_string(), "{stream}");
            assert_eq!(stream["engine"], if bytes == 0 { "none" } else { "sendfile" }, "{stream}");
            assert_eq!(stream["id"].as_str().unwrap().len(), 32, "{stream}");
            assert!(stream["elapsed_us"].as_u64().unwrap() > 0, "{stream}");
            assert_eq!(stream["throughput_bytes_per_s"].as_u64().unwrap() > 0, bytes > 0, "{stream}");
            bytes_all += bytes;
        }
        assert_eq!(daemon.count(|worker| worker.frames_received.get()), 4, "{driver:?}");
        assert_eq!(daemon.count(|worker| worker.bytes_received.get()), bytes_all, "{driver:?}");
        assert_eq!(streams(&daemon, Outcome::Complete), 4, "{driver:?}");
    }
}

#[test]
fn gibibytes_take_no_memory() {
    let process = Process::start(&[]);
    let stream = done(&post(process.control(), "size=10GiB"));
    assert_eq!(stream["bytes_sent"], 10_u64 << 30);
    assert_eq!(process.metric("streamd_bytes_received_total"), 10 << 30);
    eprintln!("10 GiB in {} us, {} bytes resident", stream["elapsed_us"], process.memory_peak_bytes());
    assert!(process.memory_peak_bytes() < MEMORY_BYTES_MAX, "{} bytes", process.memory_peak_bytes());
}

#[test]
fn every_engine_sends_files_whole_and_in_part() {
    let root = Fixture::new();
    let content = pattern(5_000_001);
    root.write("directory/a file+100%.bin", &content);
    root.write("empty", b"");
    let base = Settings { root: Some(root.path().to_owned()), ..to_any_port() };
    every_engine_and_driver(&base, |daemon, case| {
        let (target, payloads) = Target::acknowledging();
        let escaped = "path=/directory/a%20file%2B100%25.bin";
        let part = &content[1_000_000..1_500_007];
        for (query, expected) in [
            (escaped.to_owned(), &content[..]),
            (format!("{escaped}&offset=1000000&length=500007"), part),
            (format!("{escaped}&offset=5000000"), &content[5_000_000..]),
            (format!("{escaped}&offset=5000001"), &[]),
            (format!("{escaped}&length=1"), &content[..1]),
            ("path=directory/../empty".to_owned(), &[]),
        ] {
            root.make_cold("directory/a file+100%.bin");
            let stream = done(&post(daemon.control(), &format!("{query}&target={}", target.address())));
            let payload = payloads.try_recv().unwrap();
            assert_eq!(payload.len(), expected.len(), "{case}: {query}");
            assert_eq!(sha256(&payload), sha256(expected), "{case}: {query}");
            assert_eq!(stream["bytes_requested"], expected.len(), "{case}: {query}");
            assert_eq!(stream["bytes_sent"], expected.len(), "{case}: {query}");
            assert_eq!(stream["target"], target.address().to_string(), "{case}");
        }
        let forced = case.rsplit(' ').next().unwrap().to_lowercase();
        if forced != "auto" {
            let stream = done(&post(daemon.control(), &format!("{escaped}&target={}", target.address())));
            assert_eq!(stream["engine"], forced, "{case}");
        }
    });
}

#[test]
fn a_target_that_breaks_off_is_a_502_with_the_bytes_sent() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..to_any_port() });
        let (target, _) = Target::start(|stream| {
            frame_size(stream);
            stream.read_exact(&mut [0; 1000]).unwrap();
        });
        let response = post(daemon.control(), &format!("size=64MiB&target={}", target.address()));
        assert_eq!(response.status, 502, "{}", response.text());
        assert_eq!(response.problem(), "the target broke off: the peer closed the connection");
        let document = document(&response);
        let bytes_sent = document["bytes_sent"].as_u64().unwrap();
        assert!((1000..64 << 20).contains(&bytes_sent), "{document}");
        assert_eq!(streams(&daemon, Outcome::PeerClosed), 1, "{driver:?}");
        let view = get(daemon.control(), &format!("/streams/{}", document["id"].as_str().unwrap()), "");
        let view: Value = serde_json::from_slice(&view.body).unwrap();
        assert_eq!(view["state"], "failed", "{view}");
        assert_eq!(view["bytes_sent"], bytes_sent, "{view}");
        assert_eq!(view["error"], "the target broke off: the peer closed the connection", "{view}");
    }
}

#[test]
fn a_wrong_acknowledgement_is_no_success() {
    let daemon = TestDaemon::start(to_any_port());
    let (target, _) = Target::start(|stream| {
        let size = frame_size(stream).unwrap();
        stream.take(size).read_to_end(&mut Vec::new()).unwrap();
        stream.write_all(b"fail").unwrap();
        // The connection is held until the daemon has read it and broken off.
        let _ = stream.read(&mut [0]);
    });
    let response = post(daemon.control(), &format!("size=169&target={}", target.address()));
    assert_eq!(response.status, 502, "{}", response.text());
    assert_eq!(document(&response)["bytes_sent"], 169);
}

#[test]
fn a_silent_target_is_a_504() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, target_timeout_ms: 200, ..to_any_port() });
        // The first target takes everything and never answers; the second takes nothing at all.
        let (answerless, ended) = Target::start(|stream| stream.read_to_end(&mut Vec::new()).is_err());
        let response = post(daemon.control(), &format!("size=169&target={}", answerless.address()));
        assert_eq!(response.status, 504, "{}", response.text());
        assert_eq!(response.problem(), "the target was silent for 200 ms");
        assert_eq!(document(&response)["bytes_sent"], 169);
        assert!(ended.recv().unwrap(), "{driver:?}: the target saw an orderly end");

        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = full.local_addr().unwrap();
        let response = post(daemon.control(), &format!("size=64MiB&target={address}"));
        assert_eq!(response.status, 504, "{}", response.text());
        let bytes_sent = document(&response)["bytes_sent"].as_u64().unwrap();
        assert!((1..64 << 20).contains(&bytes_sent), "{bytes_sent}");
        assert_eq!(streams(&daemon, Outcome::TimedOut), 2, "{driver:?}");
    }
}

#[test]
fn a_target_that_nobody_listens_on_is_a_502() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..to_any_port() });
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for protocol in ["frame", "raw"] {
            let query = format!("size=169&target=127.0.0.1:{port}&protocol={protocol}");
            let response = post(daemon.control(), &query);
            assert_eq!(response.status, 502, "{driver:?}: {}", response.text());
            let detail = response.problem();
            assert!(detail.starts_with("the target refused the connection: Connection refused"), "{detail}");
            assert_eq!(document(&response)["bytes_sent"], 0);
        }
    }
}

#[test]
fn a_raw_stream_succeeds_when_its_target_closes_after_our_end() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..to_any_port() });
        let (target, received) = Target::start(|stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            // The bytes that a raw target sends back are ignored.
            stream.write_all(b"thanks").unwrap();
            bytes.len()
        });
        for bytes in [0_usize, 169, 3_000_000] {
            let query = format!("size={bytes}&protocol=raw&target={}", target.address());
            assert_eq!(done(&post(daemon.control(), &query))["bytes_sent"], bytes, "{driver:?}");
            assert_eq!(received.recv().unwrap(), bytes, "{driver:?}");
        }
    }
}

#[test]
fn a_raw_stream_whose_target_resets_has_failed() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..to_any_port() });
        let (target, _) = Target::start(|stream| {
            stream.read_to_end(&mut Vec::new()).unwrap();
            socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        });
        let query = format!("size=169&protocol=raw&target={}", target.address());
        let response = post(daemon.control(), &query);
        assert_eq!(response.status, 502, "{driver:?}: {}", response.text());
        assert_eq!(document(&response)["bytes_sent"], 169);
    }
}

/// A gate that connections wait at.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let opened = self.0.lock().unwrap();
        drop(self.1.wait_while(opened, |is_open| !*is_open).unwrap());
    }
}

/// Starts a target that acknowledges once the gate is open.
fn held_target(gate: &Arc<Gate>) -> Target {
    let gate = Arc::clone(gate);
    let (target, _) = Target::start(move |stream| {
        // The daemon keeps the connection for the next stream.
        while let Some(size) = frame_size(stream) {
            stream.take(size).read_to_end(&mut Vec::new()).unwrap();
            gate.wait();
            stream.write_all(b"done").unwrap();
        }
    });
    target
}

#[test]
fn streams_above_the_limit_are_told_to_come_back() {
    let daemon = TestDaemon::start(Settings { streams_max: 2, ..to_any_port() });
    let gate = Arc::new(Gate::default());
    let target = held_target(&gate);
    let (control, query) = (daemon.control(), format!("size=169&target={}", target.address()));
    thread::scope(|scope| {
        let running: Vec<_> = (0..2).map(|_| scope.spawn(|| post(control, &query))).collect();
        wait_until("two streams running", || target.accepted() == 2);
        let refused = post(control, &query);
        assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("1")));
        assert_eq!(
            refused.problem(),
            "2 streams are running, which is streams_max: try again when one has ended"
        );
        let listed: Value = serde_json::from_slice(&get(control, "/streams", "").body).unwrap();
        let states: Vec<&Value> = listed.as_array().unwrap().iter().map(|view| &view["state"]).collect();
        assert_eq!(states, ["running", "running"]);
        let id = listed[0]["id"].as_str().unwrap();
        let one: Value = serde_json::from_slice(&get(control, &format!("/streams/{id}"), "").body).unwrap();
        assert_eq!((&one["state"], &one["bytes_requested"]), (&"running".into(), &169.into()));
        assert_eq!(daemon.telemetry().control.streams_running.get(), 2);
        gate.open();
        for stream in running {
            done(&stream.join().unwrap());
        }
    });
    done(&post(control, &query));
    let listed: Value = serde_json::from_slice(&get(control, "/streams", "").body).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert!(listed.as_array().unwrap().iter().all(|view| view["state"] == "done"), "{listed}");
}

#[test]
fn a_client_that_goes_away_cancels_its_stream() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, ..to_any_port() });
        let (started, has_started) = channel();
        // One takes everything and never answers, the other stops reading in the middle.
        for is_reading in [true, false] {
            let started = started.clone();
            let gate = Arc::new(Gate::default());
            let held = Arc::clone(&gate);
            let (target, ended) = Target::start(move |stream| {
                frame_size(stream);
                started.send(()).unwrap();
                if !is_reading {
                    held.wait();
                }
                stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
            });
            let mut client = Connection::open(daemon.control());
            let size = if is_reading { "169" } else { "64MiB" };
            let target_line = format!("size={size}&target={}", target.address());
            client.send(format!("POST /stream?{target_line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            has_started.recv().unwrap();
            let cancelled = || daemon.count(|worker| worker.transfers.get(Outcome::Cancelled));
            let before = cancelled();
            drop(client);
            wait_until("the stream cancelled", || cancelled() == before + 1);
            gate.open();
            let end = ended.recv().unwrap();
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{driver:?}, reading: {is_reading}");
        }
        assert_eq!(streams(&daemon, Outcome::Cancelled), 2, "{driver:?}");
        assert_eq!(daemon.telemetry().control.streams_running.get(), 0, "{driver:?}");
    }
}

#[test]
fn connections_to_a_target_are_used_again() {
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings { driver, workers: 2, ..to_any_port() });
        let (target, payloads) = Target::acknowledging();
        for bytes in 0..50_usize {
            done(&post(daemon.control(), &format!("size={bytes}&target={}", target.address())));
            assert_eq!(payloads.recv().unwrap().len(), bytes, "{driver:?}");
        }
        assert!(target.accepted() <= 2, "{driver:?}: {} connections", target.accepted());
    }
}

#[test]
fn a_target_that_closes_after_each_frame_is_connected_to_anew() {
    let daemon = TestDaemon::start(to_any_port());
    let (target, closed) = Target::start(|stream| {
        let size = frame_size(stream).unwrap();
        stream.take(size).read_to_end(&mut Vec::new()).unwrap();
        stream.write_all(b"done").unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    for _ in 0..20 {
        done(&post(daemon.control(), &format!("size=169&target={}", target.address())));
        closed.recv().unwrap();
    }
    assert_eq!(target.accepted(), 20);
}

#[test]
fn streams_to_other_targets_follow_the_list_that_is_in_force() {
    let (target, _payloads) = Target::acknowledging();
    let port = target.address().port();
    let allowing = |rules: &[String]| Settings { targets_allowed: rules.to_vec(), ..settings() };
    let daemon = TestDaemon::start(allowing(&[format!("localhost:{port}"), "10.0.0.0/8:*".to_owned()]));
    let status = |host: &str| post(daemon.control(), &format!("size=1&target={host}:{port}")).status;
    assert_eq!(status("localhost"), 200);
    // The rule names a name: the address behind it is not allowed.
    assert_eq!(status("127.0.0.1"), 403);
    assert_eq!(daemon.reload(allowing(&["127.0.0.0/8:*".to_owned()])), [] as [String; 0]);
    assert_eq!(status("127.0.0.1"), 200);
    assert_eq!(status("127.0.0.2"), 502, "nobody listens there");
    assert_eq!(daemon.reload(allowing(&[])), [] as [String; 0]);
    assert_eq!(status("127.0.0.1"), 403);
}

#[test]
fn all_outcomes_are_exposed_before_they_happen() {
    let daemon = TestDaemon::start(settings());
    let metrics = get(daemon.control(), "/metrics", "");
    assert_eq!(metrics.status, 200);
    for outcome in Outcome::ALL {
        let line = format!("streamd_streams_total{{outcome=\"{}\"}} 0\n", outcome.label());
        assert!(metrics.text().contains(&line), "{line}");
    }
}
