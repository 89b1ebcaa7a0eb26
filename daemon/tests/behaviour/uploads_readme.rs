//! A test that the README's example of uploads works as it is written.

use std::path::Path;
use std::process::Command;

use crate::harness::{Fixture, MIB, Random, TestDaemon, drivers, uploading};
use streamd::config::Settings;

/// Returns the command lines of the section's first block, each with the status that its comment begins with.
fn example() -> Vec<(String, Option<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let section = readme.split_once("\n## Uploads\n").unwrap().1;
    let block = section.split_once("```sh\n").unwrap().1.split_once("\n```").unwrap().0;
    let lines = block.lines().filter(|line| !line.is_empty()).map(|line| {
        let (command, comment) = line.split_once("    #").unwrap_or((line, ""));
        let status = comment.trim_start().get(..3).filter(|status| status.parse::<u16>().is_ok());
        (command.trim_end().to_owned(), status.map(str::to_owned))
    });
    lines.collect()
}

#[test]
fn the_readme_example_does_what_it_says() {
    if !Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no curl");
        return;
    }
    let content = Random::seeded().bytes(8 * MIB);
    for driver in drivers() {
        let (fixture, place) = (Fixture::new(), Fixture::new());
        place.write("file", &content);
        let settings = Settings { driver, create_dirs: true, ..uploading(fixture.path()) };
        let daemon = TestDaemon::start(settings);
        // One shell runs all lines, since one sets a variable. Each answer's status goes to a line of its own.
        let mut script = "curl() { command curl -q --noproxy '*' -sS \"$@\"; }\n".to_owned();
        let mut expected = Vec::new();
        for (command, status) in example() {
            if command.starts_with("mkdir") || command.starts_with("streamd") {
                let started = "mkdir -p /srv/files\nstreamd --root /srv/files --uploads --create-dirs";
                assert!(started.contains(command.split(" --data-listen").next().unwrap()), "{command}");
                continue;
            }
            let command = command.replace("127.0.0.1:8080", &daemon.data().to_string());
            let is_assignment = command.starts_with("offset=");
            if is_assignment || status.is_none() {
                script += &format!("{command} || true\n");
            } else {
                let with_status = command.replacen("curl ", "curl -o /dev/null -w '%{http_code}\\n' ", 1);
                script += &format!("{with_status}\n");
                expected.extend(status);
            }
        }
        let output = Command::new("sh").args(["-c", &script]).current_dir(place.path()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let statuses: Vec<_> = printed.lines().collect();
        assert_eq!(statuses, expected, "{driver:?}: {}\n{script}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(fixture.path().join("dir/other")).unwrap() == content, "{driver:?}");
        assert!(!fixture.path().join("dir/file").exists(), "{driver:?}");
    }
}
