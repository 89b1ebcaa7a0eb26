//! Whoever takes packages and mirrors from a directory that is served: apt, pip, git, lftp, axel, and rclone behind a
//! prefix of NGINX.

use std::fs::{create_dir_all, read_dir, write};
use std::path::Path;
use std::process::{Command, Output};

use streamd::config::Settings;

use crate::harness::{Fixture, Nginx, TestDaemon, pattern, settings, sha256};
use crate::real_clients::installed;

/// Packages that are fetched at once, which apt asks for by a pipeline on one connection.
const PACKAGES: usize = 12;

fn daemon(root: &Path) -> TestDaemon {
    TestDaemon::start(Settings { root: Some(root.to_owned()), listing: true, ..settings() })
}

/// Runs a program that reads nothing of the user's, in `directory`.
fn run(directory: &Path, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", directory).env("LC_ALL", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(arguments).current_dir(directory).output().unwrap()
}

/// Runs a program, which has to succeed, and returns what it printed.
fn succeed(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = run(directory, program, arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}{failed}");
    said
}

/// Puts a repository of packages into the fixture, and returns their names.
fn make_debian_repository(fixture: &Fixture) -> Vec<String> {
    let mut index = String::new();
    let names: Vec<String> = (0..PACKAGES).map(|number| format!("demo{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let control = format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example>\n\
             Description: a package of a test\n"
        );
        fixture.write(&format!("built/{name}/DEBIAN/control"), control.as_bytes());
        fixture.write(&format!("built/{name}/usr/share/{name}/content"), &pattern(number * 50_000));
        let file = format!("{name}_1.0_all.deb");
        create_dir_all(fixture.path().join("root/debian")).unwrap();
        let (from, to) = (format!("built/{name}"), format!("root/debian/{file}"));
        succeed(fixture.path(), "dpkg-deb", &["--root-owner-group", "--build", &from, &to]);
        let package = std::fs::read(fixture.path().join(&to)).unwrap();
        let (bytes, digest) = (package.len(), sha256(&package));
        index += &format!("{control}Filename: ./{file}\nSize: {bytes}\nSHA256: {digest}\n\n");
    }
    fixture.write("root/debian/Packages", index.as_bytes());
    names
}

#[test]
fn apt_takes_packages_from_here() {
    if !["apt-get", "dpkg-deb"].into_iter().all(installed) {
        return;
    }
    let fixture = Fixture::new();
    let names = make_debian_repository(&fixture);
    let daemon = daemon(&fixture.path().join("root"));
    let system = fixture.path().join("system");
    for directory in ["etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial"] {
        create_dir_all(system.join(directory)).unwrap();
    }
    for directory in ["var/cache/apt/archives/partial", "var/lib/dpkg", "downloaded"] {
        create_dir_all(system.join(directory)).unwrap();
    }
    let source = format!("deb [trusted=yes] http://{}/debian/ ./\n", daemon.data());
    write(system.join("etc/apt/sources.list"), source).unwrap();
    write(system.join("var/lib/dpkg/status"), "").unwrap();
    let own = [
        format!("-oDir={}", system.display()),
        format!("-oDir::State::status={}", system.join("var/lib/dpkg/status").display()),
        "-oAPT::Sandbox::User=".to_owned(),
        "-oAcquire::Languages=none".to_owned(),
        "-oAcquire::http::Proxy=DIRECT".to_owned(),
        "-oAcquire::Retries=0".to_owned(),
    ];
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    succeed(&system, "apt-get", &[&own[..], &["update"]].concat());
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let directory = system.join("downloaded");
    succeed(&directory, "apt-get", &[&own[..], &["download"], &wanted].concat());
    for name in &names {
        let file = format!("{name}_1.0_all.deb");
        let [here, there] = [directory.join(&file), fixture.path().join("root/debian").join(&file)]
            .map(|path| std::fs::read(path).unwrap());
        assert!(here == there, "{name}");
    }
}

/// A directory for each project, with its files: their listings are pages as pip wants them (PEP 503).
#[test]
fn pip_takes_the_listing_for_an_index() {
    const WHEEL: &str = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('demo.py', 'answer = 42\\n')
    wheel.writestr('demo-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')
    wheel.writestr('demo-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('demo-1.0.dist-info/RECORD', '')
";
    const FILE: &str = "demo-1.0-py3-none-any.whl";
    if !installed("python3") || !run(Path::new("/"), "python3", &["-m", "pip", "--version"]).status.success()
    {
        eprintln!("not tested with pip: it is not installed");
        return;
    }
    let fixture = Fixture::new();
    create_dir_all(fixture.path().join("root/simple/demo")).unwrap();
    let wheel = format!("root/simple/demo/{FILE}");
    succeed(fixture.path(), "python3", &["-c", WHEEL, &wheel]);
    let daemon = daemon(&fixture.path().join("root"));
    let url = format!("http://{}/simple/", daemon.data());
    let arguments = [
        &["-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check", "download"][..],
        &["--no-deps", "--trusted-host", "127.0.0.1", "--index-url", &url, "--dest", "taken", "demo==1.0"],
    ];
    succeed(fixture.path(), "python3", &arguments.concat());
    let [here, there] = [format!("taken/{FILE}"), wheel].map(|path| fixture.path().join(path));
    assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap());
}

/// The repository is one of files alone, as `git update-server-info` leaves it.
#[test]
fn git_clones_a_repository_of_files() {
    if !installed("git") {
        return;
    }
    let fixture = Fixture::new();
    let work = fixture.path().join("work");
    create_dir_all(&work).unwrap();
    let git = |arguments: &[&str]| {
        let named =
            ["-c", "user.name=Nobody", "-c", "user.email=nobody@example", "-c", "init.defaultBranch=main"];
        succeed(&work, "git", &[&named[..], arguments].concat())
    };
    git(&["init", "--quiet"]);
    for number in 0..5 {
        write(work.join(format!("file{number}")), pattern(number * 10_000)).unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "a commit"]);
    }
    git(&["clone", "--quiet", "--bare", ".", "../root/demo.git"]);
    git(&["-C", "../root/demo.git", "update-server-info"]);
    let daemon = daemon(&fixture.path().join("root"));
    let url = format!("http://{}/demo.git", daemon.data());
    git(&["clone", "--quiet", &url, "../cloned"]);
    assert_eq!(git(&["rev-parse", "HEAD"]), git(&["-C", "../cloned", "rev-parse", "HEAD"]));
    assert_eq!(std::fs::read(fixture.path().join("cloned/file4")).unwrap(), pattern(40_000));
}

#[test]
fn lftp_mirrors_a_tree_and_axel_fetches_a_file_by_parts() {
    let fixture = Fixture::new();
    for name in ["file 2", "100%", "sub/file", "sub/deep/file", "\u{e4}", "-x"] {
        fixture.write(&format!("root/{name}"), name.as_bytes());
    }
    let content = pattern(9 << 20);
    fixture.write("root/sub/long", &content);
    let daemon = daemon(&fixture.path().join("root"));
    let url = format!("http://{}/", daemon.data());
    if installed("lftp") {
        let script = format!("set cmd:fail-exit yes; set net:max-retries 1; mirror {url} mirrored");
        succeed(fixture.path(), "lftp", &["--norc", "-c", &script]);
        succeed(fixture.path(), "diff", &["-r", "root", "mirrored"]);
        // Nothing has changed, so that nothing is fetched.
        let script = format!("set cmd:fail-exit yes; mirror --verbose {url} mirrored");
        let said = succeed(fixture.path(), "lftp", &["--norc", "-c", &script]);
        assert!(!said.contains("Transferring"), "{said}");
    }
    if installed("axel") {
        succeed(fixture.path(), "axel", &["--quiet", "-n", "4", "-o", "by-axel", &format!("{url}sub/long")]);
        assert!(std::fs::read(fixture.path().join("by-axel")).unwrap() == content);
    }
}

/// Links are relative, so a proxy may put the tree wherever it likes.
#[test]
fn rclone_copies_what_nginx_has_below_a_prefix() {
    let fixture = Fixture::new();
    for name in ["a", "sub/b", "sub/deep/c d"] {
        fixture.write(&format!("root/{name}"), name.as_bytes());
    }
    let daemon = daemon(&fixture.path().join("root"));
    let nginx = Nginx::with_prefix("/files/", daemon.data());
    let (Some(nginx), true) = (nginx, installed("rclone")) else { return };
    // Without the slash too: the daemon leads there by a place that is relative.
    for path in ["files/", "files/sub"] {
        let url = format!("http://{}/{path}", nginx.address());
        let of = path.trim_start_matches("files/");
        let (from, to) = (format!("root/{of}"), format!("taken/{of}"));
        let arguments = ["--config=/dev/null", "copy", "--http-url", &url, ":http:", &to];
        succeed(fixture.path(), "rclone", &arguments);
        succeed(fixture.path(), "diff", &["-r", &from, &to]);
        assert!(read_dir(fixture.path().join(&to)).unwrap().count() > 0);
        std::fs::remove_dir_all(fixture.path().join("taken")).unwrap();
    }
}
