//! Tests of the page as a whole, and of files that aren't results.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::read::RESULT_BYTES_MAX;
use super::{ReportError, made_up, page, read};
use crate::result::{FORMAT_VERSION, Run};

/// Returns the SVG elements of `html`.
fn drawings(html: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find("<svg") {
        let end = rest[start..].find("</svg>").unwrap() + start + "</svg>".len();
        found.push(&rest[start..end]);
        rest = &rest[end..];
    }
    found
}

/// Parses the page as XML: stricter than HTML, once the tags without an end are closed.
fn check_well_formed(html: &str) {
    let xml =
        html.replace("<meta charset=\"utf-8\">", "").replace("initial-scale=1\">", "initial-scale=1\"/>");
    let xml = xml.replace("&middot;", "·").replace("<!DOCTYPE html>", "");
    let document = roxmltree::Document::parse(xml.trim_start()).unwrap();
    let sources = ["src", "href", "data", "action", "style"];
    for node in document.descendants() {
        assert!(
            !["script", "link", "img", "iframe"].contains(&node.tag_name().name()),
            "{:?}",
            node.tag_name()
        );
        for attribute in node.attributes() {
            assert!(!sources.contains(&attribute.name()), "{attribute:?}");
            assert!(!attribute.name().starts_with("on"), "{attribute:?}");
        }
    }
    for drawing in drawings(html) {
        roxmltree::Document::parse(drawing).unwrap();
        assert!(
            !drawing.contains("NaN") && !drawing.contains("inf,") && !drawing.contains("2147483"),
            "{drawing}"
        );
    }
}

#[test]
fn full_run_has_every_plot_and_every_peer() {
    let html = page(&[made_up::full()]).unwrap();
    check_well_formed(&html);
    let plots = html.matches("<figure>").count();
    // The plots are three metrics by size for pull and stream each, two by connections, two of uploads, two mixed,
    // and a latency plot for each of the scenarios with small bodies.
    assert_eq!((plots, html.matches("class=\"plot\"").count()), (3 + 3 + 2 + 2 + 2 + 13, plots));
    for expected in [
        "lighttpd 1.2.3",
        "Absent: h2o (not installed).",
        "3 requests failed: time-out after 30 s",
        "Linux 6.18.2-amd64",
        "stream-bench compare --scenario full",
        "$a &lt; 1 &amp;&amp; $b &gt; 2",
        "Not measured: lighttpd, caddy: takes no uploads.",
        "PUT 16 MiB, 64 connections, tmpfs",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    assert!(!html.contains("@import") && !html.contains("url("), "the style sheet loads something");
    assert!(!html.contains("Before and after") && !html.contains("Interrupted"));
}

#[test]
fn gaps_leave_a_page() {
    for run in [made_up::single(), made_up::interrupted(), made_up::bare_run()] {
        check_well_formed(&page(&[run]).unwrap());
    }
    let html = page(&[made_up::interrupted()]).unwrap();
    assert!(html.contains("Interrupted: the run ended early"));
    assert!(html.contains("No ratio rests on more than 2 pairs of rounds"));
    assert!(html.contains("Noise wasn’t measured"));
    assert!(page(&[made_up::bare_run()]).unwrap().contains("Nothing was measured."));
}

#[test]
fn two_runs_are_compared() {
    let html = page(&[made_up::full(), made_up::later()]).unwrap();
    check_well_formed(&html);
    assert!(html.contains("<h2>Before and after: streamd</h2>"));
    let changes = html.split("<h3>All changes</h3>").nth(1).unwrap().split("</table>").next().unwrap();
    let row = changes.lines().find(|line| line.contains("Server CPU per GB")).unwrap();
    assert!(row.contains(">0.80 [") && row.contains("<strong>lower</strong>"), "{row}");
    let row = changes.lines().find(|line| line.contains(">Throughput</td>")).unwrap();
    assert!(row.contains(">1.00 [") && row.ends_with("<td>none</td></tr>"), "{row}");
    let mut elsewhere = made_up::later();
    elsewhere.host.kernel = "5.10.0".to_owned();
    assert!(page(&[made_up::full(), elsewhere]).unwrap().contains("The hosts differ in kernel"));
    let unrelated = page(&[made_up::full(), made_up::bare_run()]).unwrap();
    assert!(unrelated.contains("no scenario in common"));
}

#[test]
fn text_of_a_result_file_never_becomes_markup() {
    const EVIL: &str = "</title><script>alert(1)</script><svg onload=\"x\">'&\u{0}\u{1b}";
    let mut run = made_up::full();
    run.started = EVIL.to_owned();
    run.command_line = vec![EVIL.to_owned()];
    (run.host.kernel, run.host.cpu, run.host.governor) = (EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned());
    run.host.congestion_control = EVIL.to_owned();
    run.absent[0].name = EVIL.to_owned();
    run.absent[0].reason = EVIL.to_owned();
    for scenario in &mut run.scenarios {
        scenario.title = format!("{EVIL}{}", scenario.title);
        for sample in scenario.samples.iter_mut().filter(|sample| sample.peer == "nginx") {
            sample.peer = EVIL.to_owned();
            sample.errors = vec![(EVIL.to_owned(), 1)];
        }
    }
    let nginx = run.peers.iter_mut().find(|peer| peer.name == "nginx").unwrap();
    (nginx.name, nginx.version, nginx.configuration) = (EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned());
    nginx.command_line = vec![EVIL.to_owned()];
    let html = page(&[run.clone(), run]).unwrap();
    check_well_formed(&html);
    assert!(!html.contains("<script") && !html.contains("<svg onload") && !html.contains('\u{1b}'));
}

#[test]
fn other_format_versions_are_refused() {
    let run = Run { format_version: FORMAT_VERSION + 1, ..made_up::single() };
    let told = page(std::slice::from_ref(&run)).unwrap_err().to_string();
    let expected = "the run of 2026-11-20T14:03:11Z has format version 2, this stream-bench reads version 1: \
                    use the stream-bench that wrote it, or measure again";
    assert_eq!(told, expected);
    assert!(matches!(page(&[]), Err(ReportError::NoRun)));
    assert!(matches!(page(&vec![made_up::bare_run(); 17]), Err(ReportError::TooManyRuns { found: 17, .. })));
}

#[test]
fn files_are_read_back_or_refused_with_their_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let run = made_up::full();
    let good = file("good.json", &serde_json::to_vec(&run).unwrap());
    assert_eq!(page(&[read(&good).unwrap()]).unwrap(), page(&[run]).unwrap());
    let other = file("other.json", b"{\"format_version\": 7, \"started\": \"then\"}");
    assert!(matches!(read(&other), Err(ReportError::Version { found: 7, .. })));
    let cut = file("cut.json", b"{\"format_version\": 1, \"started\": ");
    let told = read(&cut).unwrap_err().to_string();
    assert!(told.contains("cut.json isn't one that stream-bench wrote: EOF while parsing"), "{told}");
    assert!(matches!(read(&directory.path().join("none.json")), Err(ReportError::Read { .. })));
    let mut crowd = made_up::bare_run();
    crowd.peers = (0..17).map(|index| made_up::peer(&format!("peer {index}"))).collect();
    let crowd = file("crowd.json", &serde_json::to_vec(&crowd).unwrap());
    assert!(matches!(read(&crowd), Err(ReportError::TooMany { what: "peers", found: 17, max: 16, .. })));
    let large = file("large.json", b"");
    fs::File::options().write(true).open(&large).unwrap().set_len(RESULT_BYTES_MAX + 1).unwrap();
    assert!(matches!(read(&large), Err(ReportError::TooLarge { .. })));
}

/// Renders `html` with the browser; None where there is none.
fn screenshot(directory: &Path, html: &str, width: u32, height: u32) -> Option<PathBuf> {
    let (source, picture) = (directory.join("page.html"), directory.join("page.png"));
    fs::write(&source, html).unwrap();
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--hide-scrollbars", "--force-device-scale-factor=1"]);
    command.arg(format!("--user-data-dir={}", directory.join("profile").display()));
    command.arg(format!("--screenshot={}", picture.display())).arg(format!("--window-size={width},{height}"));
    command.arg(format!("file://{}", source.display()));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut browser = match command.spawn() {
        Ok(browser) => browser,
        Err(error) => {
            println!("not rendered: chromium can't be started: {error}");
            return None;
        }
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = browser.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return Some(picture);
        }
        if Instant::now() > deadline {
            browser.kill().unwrap();
            browser.wait().unwrap();
            panic!("chromium hasn't rendered the page within 60 s");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_browser_shows_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let html = page(&[made_up::full(), made_up::later()]).unwrap();
    let Some(picture) = screenshot(directory.path(), &html, 1400, 2000) else { return };
    let picture = fs::read(picture).unwrap();
    // A PNG begins with its signature, and its first chunk has width and height (PNG, third edition, 11.2.1).
    assert_eq!(picture.get(..8), Some(b"\x89PNG\r\n\x1a\n".as_slice()));
    let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    assert_eq!((number(16), number(20)), (1400, 2000));
    let empty = "<!DOCTYPE html><title>blank</title>";
    let blank = fs::read(screenshot(directory.path(), empty, 1400, 2000).unwrap()).unwrap();
    // Nothing compresses as well as a blank page: a picture of text and plots is many times larger.
    assert!(picture.len() > 5 * blank.len(), "{} bytes, blank {}", picture.len(), blank.len());
}
