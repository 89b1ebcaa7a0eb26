//! Tests that pulls are called cold only where that was observed.

use super::{Server, assert_worked, bench, measure, sample};

#[test]
fn what_nobody_looked_at_is_not_called_cold() {
    let server = Server::start();
    let run = measure(&["mixed", &server.data(), "/small", "/large", "--cold-pulls", "3", "-c", "2"]);
    assert_worked(&run, 2, 1024);
    assert!(sample(&run)["cold_bytes_per_s"].is_null(), "{run}");
    assert!(sample(&run)["beside_bytes_per_s"].as_f64().unwrap() > 0.0, "{run}");
    assert!(run["scenarios"][0]["title"].as_str().unwrap().contains("may be in memory"), "{run}");
}

#[test]
fn a_file_that_two_pull_at_once_is_refused() {
    let server = Server::start();
    let root = server.root.path().to_str().unwrap();
    std::fs::hard_link(server.root.path().join("large"), server.root.path().join("link")).unwrap();
    for files in
        [vec!["/large", "/large"], vec!["/large", "/link"], vec!["/large", "/absent"], vec!["/large", "/"]]
    {
        let data = server.data();
        let line = [vec!["mixed", &data, "/small"], files, vec!["--cold-root", root]].concat();
        let output = bench(&line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {stderr}");
    }
}

/// The files lie in a directory of the build: files in memory alone can't leave it.
#[test]
fn files_that_leave_the_page_cache_are_cold() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start_in(directory, false);
    let paths = ["large", "other"].map(|name| server.root.path().join(name));
    for path in &paths {
        if let Err(error) = stream_bench::fixture::make_cold(&[path.as_path()]) {
            println!("skipped: {error:#}");
            return;
        }
    }
    let (data, root) = (server.data(), server.root.path().to_str().unwrap());
    let line =
        ["mixed", &data, "/small", "/large", "/other", "--cold-pulls", "2", "-c", "2", "--cold-root", root];
    let run = measure(&line);
    assert_worked(&run, 2, 1024);
    let sample = sample(&run);
    let rates = ["cold_bytes_per_s", "beside_bytes_per_s"].map(|name| sample[name].as_f64().unwrap_or(0.0));
    assert!(rates.iter().sum::<f64>() > 0.0 && rates.contains(&0.0), "{sample}");
}
