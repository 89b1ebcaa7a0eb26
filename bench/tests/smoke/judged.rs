//! Tests that the command line is judged before anything begins, and that results are shown whatever happens.

use std::process::{Command, Stdio};

use super::{Server, bench, sample};

#[test]
fn every_argument_is_judged_before_the_run() {
    let server = Server::start();
    let data = server.data();
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (absent, not_empty) = (inside("no/run.json"), directory.path().to_str().unwrap().to_owned());
    std::fs::write(inside("file"), b"x").unwrap();
    let pull = |more: &[&str]| {
        [&["pull", &data, "/small"], more].concat().iter().map(|word| (*word).to_owned()).collect()
    };
    let mixed = |more: &[&str]| {
        [&["mixed", &data, "/small", "/large"], more].concat().iter().map(|word| (*word).to_owned()).collect()
    };
    let compare =
        |more: &[&str]| [&["compare"], more].concat().iter().map(|word| (*word).to_owned()).collect();
    let lines: Vec<(Vec<String>, &str)> = vec![
        (pull(&["--rate", "0"]), "--rate 0 "),
        (pull(&["--rate=-1"]), "--rate -1 "),
        (pull(&["--rate", "nan"]), "--rate NaN"),
        (pull(&["--rate", "inf"]), "--rate inf"),
        (pull(&["--rate", "1e300"]), "--rate 1"),
        (pull(&["--rate", "1e-300"]), "begins a request every"),
        (pull(&["--rate", "0.05"]), "none may begin within --duration 5"),
        (mixed(&["--rate", "nan"]), "--rate NaN"),
        (mixed(&["--cold-pulls", "99999999"]), "--cold-pulls"),
        (pull(&["-c", "0"]), "0 connections"),
        (pull(&["-c", "99999999"]), "outside 1 to"),
        (pull(&["--threads", "0"]), "--threads 0"),
        (pull(&["--threads", "65"]), "--threads 65"),
        (pull(&["--duration", "99999"]), "--duration"),
        (pull(&["--duration", "nan"]), "--duration"),
        (pull(&["--warm-up", "inf"]), "--warm-up"),
        (pull(&["--server-pid", "0"]), "there is no such process"),
        (pull(&["--server-pid", "4294967295"]), "there is no such process"),
        (pull(&["--client-cores", "99999"]), "--client-cores 99999"),
        (pull(&["--client-cores", "0,1023"]), "--client-cores 1023"),
        (pull(&["--json", &absent]), "can't be written"),
        (pull(&["--json", &not_empty]), "can't be written"),
        (vec!["pull".into(), data.clone(), "no-slash".into()], "no path of a URL"),
        (vec!["pull".into(), data.clone(), "/a b".into()], "no path of a URL"),
        (vec!["pull".into(), "192.0.2.1:80".into(), "/small".into()], "--allow-remote"),
        (vec!["pull".into(), "127.0.0.1:0".into(), "/small".into()], "port 0"),
        (vec!["push".into(), data.clone(), "--size".into(), "100PiB".into()], "--size"),
        (compare(&["--peers", "apache"]), "apache: there is no such peer"),
        (compare(&["--only", "no-such-scenario"]), "no scenario's id"),
        (compare(&["--rounds", "0"]), "--rounds 0"),
        (compare(&["--workers", "0"]), "--workers 0"),
        (compare(&["--server-cores", "1023"]), "--server-cores 1023"),
        (compare(&["--time-max", "18446744073709551615"]), "--time-max"),
        (compare(&["--put-directory", "../x"]), "--put-directory"),
        (compare(&["--slow", "/"]), "--slow"),
        (compare(&["--directory", &not_empty]), "holds files"),
    ];
    for (line, text) in lines {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let output = bench(&line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("stream-bench: ") && last.contains(text), "{line:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{line:?}");
    }
}

/// At this rate most of the connections would have their first request, and all their next one, long after the
/// end.
#[test]
fn a_slow_rate_is_measured() {
    let server = Server::start();
    let run = measure_for("4", &["pull", &server.data(), "/small", "-c", "16", "--rate", "0.5"]);
    let requests = sample(&run)["requests"].as_u64().unwrap();
    assert!((1..=4).contains(&requests), "{requests} requests at one in 2 s within 4 s");
    assert!(sample(&run)["errors"].as_array().unwrap().is_empty(), "{run}");
    let run =
        measure_for("4", &["pull", &server.data(), "/small", "-c", "16", "--rate", "0.5", "--no-keep-alive"]);
    assert!(sample(&run)["errors"].as_array().unwrap().is_empty(), "{run}");
}

fn measure_for(seconds: &str, line: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let more = ["--duration", seconds, "--warm-up", "0", "--json", json.to_str().unwrap()];
    let output = bench(&[line, &more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

#[test]
fn the_table_is_printed_whatever_becomes_of_the_file() {
    let server = Server::start();
    let line =
        ["pull", &server.data(), "/small", "--duration", "0.2", "--warm-up", "0", "--json", "/dev/full"];
    let output = bench(&line);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stdout.contains("GET 1 KiB, 1 connections"), "{stdout}");
    assert!(stderr.contains("/dev/full"), "{stderr}");
}

#[test]
fn the_file_is_written_whatever_becomes_of_the_table() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_stream-bench"))
        .args(["pull", &server.data(), "/small", "--duration", "0.2", "--warm-up", "0", "--json"])
        .arg(&json)
        .stdout(Stdio::from(full))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert!(sample(&run)["requests"].as_u64().unwrap() > 0);
}

#[test]
fn a_run_that_fails_leaves_the_last_result() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    std::fs::write(&json, b"the last").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = bench(&["pull", &closed, "/small", "--json", json.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(&json).unwrap(), b"the last");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
