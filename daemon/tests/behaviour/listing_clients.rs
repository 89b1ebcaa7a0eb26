//! Who reads listings besides people with curl: a browser, and clients that mirror what they find there.

use std::path::Path;
use std::process::{Command, Stdio};

use streamd::config::Settings;

use crate::harness::{Fixture, TestDaemon, settings};
use crate::real_clients::installed;

fn daemon(root: &Path) -> TestDaemon {
    TestDaemon::start(Settings { root: Some(root.to_owned()), listing: true, ..settings() })
}

/// The page is looked at in 1280 and 400 px, light and dark, and used by keyboard; the script says what is checked.
#[test]
fn people_can_use_the_page_in_a_browser() {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/listing_page.py");
    if !["python3", "chromium", "chromedriver"].into_iter().all(installed) {
        return;
    }
    let fixture = Fixture::new();
    for (name, bytes) in [("file2", 2000), ("file10", 10), ("file1.txt", 100), ("other", 1_500_000)] {
        fixture.write(&format!("shown/{name}"), &vec![0; bytes]);
    }
    fixture.write(&format!("shown/{}", "long".repeat(50)), b"");
    fixture.write("shown/sub/file", b"");
    let daemon = daemon(fixture.path());
    let url = format!("http://{}/shown/", daemon.data());
    let output = Command::new("python3").args([SCRIPT, &url]).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn rclone(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("rclone");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("RCLONE_CONFIG", "/dev/null").env("HOME", "/nonexistent");
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn rclone_and_wget_mirror_what_is_listed_and_each_listing_once() {
    let fixture = Fixture::new();
    for name in ["a:b", "file 2", "100%", "sub/file", "sub/deep/file", "\u{e4}?"] {
        fixture.write(&format!("root/{name}"), name.as_bytes());
    }
    std::os::unix::fs::symlink("sub/file", fixture.path().join("root/link")).unwrap();
    let daemon = daemon(&fixture.path().join("root"));
    let url = format!("http://{}/", daemon.data());
    let mirrored = |to: &str| {
        let mut names: Vec<String> =
            ["a:b", "file 2", "100%", "sub/file", "sub/deep/file", "\u{e4}?", "link"]
                .into_iter()
                .filter(|name| fixture.path().join(to).join(name).is_file())
                .map(str::to_owned)
                .collect();
        names.sort_unstable();
        names
    };
    if installed("rclone") {
        let to = fixture.path().join("by-rclone");
        let copied = rclone(&["copy", "--http-url", &url, ":http:", to.to_str().unwrap()]);
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        assert_eq!(
            mirrored("by-rclone"),
            ["100%", "a:b", "file 2", "link", "sub/deep/file", "sub/file", "\u{e4}?"]
        );
        let checked = rclone(&["check", "--download", "--http-url", &url, ":http:", to.to_str().unwrap()]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    if installed("wget") {
        let to = fixture.path().join("by-wget");
        let mut command = Command::new("wget");
        command.args(["--no-config", "--quiet", "-r", "-np", "-nH", "-P"]).arg(&to).arg(&url);
        command.env("LC_ALL", "C.UTF-8").env_remove("http_proxy");
        assert!(command.status().unwrap().success());
        assert!(to.join("sub/deep/file").is_file() && to.join("link").is_file());
        let listings = std::fs::read_dir(&to).unwrap().filter_map(Result::ok);
        let listings = listings.filter(|entry| entry.file_name().to_string_lossy().starts_with("index.html"));
        assert_eq!(listings.count(), 1, "what sorts is no link");
    }
}
