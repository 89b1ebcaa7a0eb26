//! Tests of the metrics as scrapers read them.

use std::io::Write;
use std::process::{Command, Stdio};

use streamd::config::Settings;

use crate::harness::{Fixture, TestDaemon, drivers, get, settings};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the verdict of Prometheus's text parser and its linter on this text; None where promtool isn't
/// installed.
fn promtool(text: &str) -> Option<(bool, String)> {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("not tested with promtool: it is not installed");
        return None;
    };
    // A promtool that refuses the first line doesn't read the rest.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Some((output.status.success(), said.concat()))
}

#[test]
fn promtool_takes_the_text_format_and_finds_nothing_to_say() {
    let fixture = Fixture::new();
    fixture.write("file", b"0123456789");
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, ..settings() });
        assert_eq!(get(daemon.data(), "/file", "").status, 200);
        for accept in ["", "Accept: text/plain;version=0.0.4\r\n", "Accept: */*\r\n"] {
            let answer = get(daemon.control(), "/metrics", accept);
            assert_eq!(
                (answer.status, answer.field("Content-Type")),
                (200, Some(TEXT)),
                "{driver:?} {accept}"
            );
            assert_eq!(answer.field("Vary"), Some("Accept"), "{driver:?} {accept}");
            let text = answer.text();
            assert!(text.contains("\n# TYPE streamd_requests_total counter\n"), "{text}");
            assert!(text.contains("\nstreamd_requests_total{status=\"200\"} 1\n"), "{text}");
            if let Some((is_right, said)) = promtool(&text) {
                assert!(is_right && said.is_empty(), "{driver:?} {accept}: {said}\n{text}");
            }
        }
    }
}

#[test]
fn openmetrics_is_for_those_who_prefer_it() {
    let daemon = TestDaemon::start(settings());
    // The first is Prometheus 2.42, the other agents that read nothing but the older format.
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, media_type) in [
        (prometheus, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
        ("application/openmetrics-text;q=0.1,text/plain", TEXT),
        ("application/openmetrics-text;q=0,*/*", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
    ] {
        let answer = get(daemon.control(), "/metrics", &format!("Accept: {accept}\r\n"));
        assert_eq!(answer.field("Content-Type"), Some(media_type), "{accept}");
        assert_eq!(answer.field("Vary"), Some("Accept"), "{accept}");
        assert_eq!(answer.text().ends_with("# EOF\n"), media_type == OPENMETRICS, "{accept}");
    }
}
