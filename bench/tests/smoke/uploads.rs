//! Tests that uploads are measured, compared with the server's content, and removed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use stream_bench::load::ClientMode;
use stream_bench::peer::{Cost, UploadSupport};
use stream_bench::progress::Progress;
use stream_bench::result::Work;
use stream_bench::scenario::{self, ClientSetup, Measurement, Plan, ServedFile, Subject, Timing, UploadTo};

use super::{Ceiling, Server, assert_worked, bench, measure, sample};

/// The fault of a server of uploads.
#[derive(Clone, Copy)]
enum Fault {
    DropsAByte,
    FlipsABit,
    KeepsTheFirst,
}

/// Starts a server that takes uploads to one name, and spoils them; it answers every other request with its
/// content, or 404.
fn start_spoiler(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = None;
        for stream in listener.incoming() {
            spoil(stream.unwrap(), fault, &mut kept);
        }
    });
    address
}

fn spoil(stream: TcpStream, fault: Fault, kept: &mut Option<Vec<u8>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut is_put, mut line) = (0, false, String::new());
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            is_put |= line.starts_with("PUT");
            length =
                line.strip_prefix("Content-Length: ").map_or(length, |value| value.trim().parse().unwrap());
            line.clear();
        }
        let mut body = vec![0; length];
        if line.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        let answer = if is_put {
            match (fault, &kept) {
                // An empty upload makes the name.
                _ if body.is_empty() => {}
                (Fault::DropsAByte, _) => drop(body.remove(length / 2)),
                (Fault::FlipsABit, _) => body[length / 2] ^= 1,
                (Fault::KeepsTheFirst, Some(first)) if !first.is_empty() => body.clone_from(first),
                (Fault::KeepsTheFirst, _) => {}
            }
            *kept = Some(body);
            b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else if kept.is_none() {
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            let kept = kept.as_deref().unwrap_or_default();
            [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", kept.len()).as_bytes(), kept].concat()
        };
        // The client may be gone already.
        let _ = writer.write_all(&answer);
    }
}

#[test]
fn uploads_are_measured_compared_and_removed() {
    let ceiling = Ceiling::start();
    let address = ceiling.http.to_string();
    let run = measure(&["push", &address, "--put", "/up", "--size", "100kB", "-c", "3", "--threads", "2"]);
    assert_worked(&run, 3, 100_000);
    assert_eq!(sample(&run)["digests_checked"], 3);
    assert_eq!(std::fs::read_dir(ceiling.root.path()).unwrap().count(), 0, "the uploads are still there");
    let server = Server::start();
    let output = bench(&["push", &server.data(), "--put", "/up", "--size", "1kB", "--duration", "0.1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("status 405"), "{stderr}");
}

#[test]
fn a_server_that_spoils_an_upload_is_found_out() {
    for (fault, text) in [
        (Fault::DropsAByte, "gives back 999 bytes of 1000"),
        (Fault::FlipsABit, "as many bytes as were uploaded, but others"),
        (Fault::KeepsTheFirst, "as many bytes as were uploaded, but others"),
    ] {
        let spoiler = start_spoiler(fault).to_string();
        let arguments =
            ["push", &spoiler, "--put", "/up", "--size", "1kB", "--duration", "0.2", "--warm-up", "0"];
        let output = bench(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(text), "{stderr}");
        // The measurement is shown beside the fault.
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("PUT 1000 B") && stdout.contains("ERRORS"), "{stdout}");
    }
}

/// The scenarios of uploads with small bodies.
#[test]
fn scenarios_of_uploads_in_quick_form() {
    let ceiling = Ceiling::start();
    std::fs::create_dir(ceiling.root.path().join("d")).unwrap();
    std::fs::write(ceiling.root.path().join("hot"), [7; 1024]).unwrap();
    let hot = ServedFile { url_path: "/hot".to_owned(), bytes: 1024, source: None, path: None };
    let put = |durable| Work::Put { body_bytes: 300_000, connections: 4, durable };
    let mixed = Work::MixedPut { body_bytes: 1024, connections: 2, uploads: 2, upload_bytes: 5_000_000 };
    for (work, uploads) in
        [(put(false), UploadSupport::Taken), (put(true), UploadSupport::Made), (mixed, UploadSupport::Taken)]
    {
        let plan = Plan {
            id: "quick".to_owned(),
            title: "quick".to_owned(),
            work,
            files: vec![hot.clone()],
            cold_files: Vec::new(),
            uploads: Some(UploadTo::directory("d")),
        };
        let subject = Subject {
            name: "ceiling",
            http: ceiling.http,
            frames: None,
            control: None,
            connections_max: 1000,
            uploads,
            memory_at_start_bytes: 0,
            cost: &Cost::default,
        };
        scenario::can(&plan, &subject).unwrap();
        let client = ClientSetup { threads: 1, cores: Vec::new(), mode: ClientMode::Discard };
        let timing = Timing { warm_up: Duration::ZERO, duration: Duration::from_millis(200) };
        let progress = Progress::new(1);
        let measurement =
            Measurement { plan: &plan, subject: &subject, client: &client, timing, progress: &progress };
        let sample = scenario::measure(&measurement).unwrap();
        assert!(sample.requests > 0 && sample.errors.is_empty(), "{sample:?}");
        match work {
            Work::Put { .. } => {
                assert_eq!((sample.digests_checked, sample.bytes), (4, sample.requests * 300_000));
            }
            _ => {
                let ratio = sample.latency_p99_ratio;
                assert!(ratio.unwrap() > 0.0 && sample.upload_bytes_per_s.unwrap() > 0.0, "{sample:?}");
            }
        }
        scenario::tidy(ceiling.root.path(), plan.uploads.as_ref().unwrap()).unwrap();
    }
    assert_eq!(std::fs::read_dir(ceiling.root.path().join("d")).unwrap().count(), 0);
}

#[test]
fn compare_leaves_out_who_takes_no_uploads() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let output = bench(&[
        "compare",
        "--peers",
        "ceiling,streamd,lighttpd",
        // This program prints nothing, not even when it is asked for help.
        "--streamd",
        "/bin/true",
        "--only",
        "put-16MiB-64c-disk",
        "--put-directory",
        "put-disk",
        "--rounds",
        "1",
        "--directory",
        directory.path().join("work").to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("not measured: streamd: has no --uploads"), "{table}");
    assert!(table.contains("not measured: lighttpd: takes no uploads"), "{table}");
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(run["scenarios"][0]["samples"][1]["digests_checked"], 64);
    assert_eq!(run["peers"][0]["setup"], "uploads");
    let left = std::fs::read_dir(directory.path().join("work/root/put-disk")).unwrap().count();
    assert_eq!(left, 0, "the uploads are still there");
}
