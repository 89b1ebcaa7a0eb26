//! Tests of symbolic links and mounts: where links may lead, that listings have what is served, and that nothing shows
//! a directory of uploads.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use streamd::config::{DriverChoice, Durability, Settings, SharePath, ShareSettings, SymlinkChoice};

use crate::harness::{
    Fixture, Mountpoint, Process, TEST_FLAGS, TestDaemon, command, drivers, get, lines_with, or_skip, put,
    request, settings, wait_until,
};

const JSON: &str = "Accept: application/json\r\n";

/// A root with links of all kinds, beside two other directories.
struct Linked {
    around: Fixture,
}

/// The links of the root: their names, and whether they are followed beneath it, and anywhere.
const LINKS: [(&str, [bool; 2]); 8] = [
    ("absolute", [true, true]),
    ("absolute-directory", [true, true]),
    ("disk", [false, true]),
    ("disk-file", [false, true]),
    ("disk-relative", [false, true]),
    ("elsewhere", [false, false]),
    ("relative", [true, true]),
    ("staging", [false, false]),
];

impl Linked {
    fn new() -> Linked {
        let around = Fixture::new();
        around.write("root/releases/1/f", b"v1");
        around.write("root/.streamd-uploads/partial", b"part");
        around.write("disk/f", b"of disk");
        around.write("elsewhere/f", b"secret");
        let linked = Linked { around };
        for (link, target) in [
            ("relative", "releases/1".into()),
            ("absolute", linked.at("root/releases/1/f")),
            ("absolute-directory", linked.at("root/releases")),
            ("disk", linked.at("disk")),
            ("disk-file", linked.at("disk/f")),
            ("disk-relative", "../disk".into()),
            ("elsewhere", linked.at("elsewhere")),
            ("staging", ".streamd-uploads".into()),
        ] {
            symlink(target, linked.at("root").join(link)).unwrap();
        }
        linked
    }

    fn at(&self, name: &str) -> PathBuf {
        self.around.path().join(name)
    }

    fn settings(&self, driver: DriverChoice, symlinks: SymlinkChoice) -> Settings {
        let target = self.at("disk").to_str().unwrap().to_owned();
        Settings {
            driver,
            root: Some(self.at("root")),
            listing: true,
            symlinks,
            symlink_targets: if symlinks == SymlinkChoice::Anywhere { vec![target] } else { Vec::new() },
            uploads: true,
            durability: Durability::None,
            min_free_bytes: 0,
            cache_valid_ms: 0,
            ..settings()
        }
    }
}

fn names(daemon: &TestDaemon, path: &str) -> Vec<String> {
    let response = get(daemon.data(), path, JSON);
    assert_eq!(response.status, 200, "{path}");
    let list: Vec<serde_json::Value> = serde_json::from_slice(&response.body).unwrap();
    let mut names: Vec<_> = list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn links_are_followed_and_listed_as_the_settings_say() {
    let linked = Linked::new();
    for driver in drivers() {
        for (place, symlinks) in
            [SymlinkChoice::None, SymlinkChoice::Beneath, SymlinkChoice::Anywhere].into_iter().enumerate()
        {
            let daemon = TestDaemon::start(linked.settings(driver, symlinks));
            let is_followed = |follows: &[bool; 2]| place.checked_sub(1).is_some_and(|place| follows[place]);
            let case = format!("{driver:?} {symlinks:?}");
            for (link, follows) in &LINKS {
                let path = format!("/{link}");
                // What isn't served is as if it weren't there.
                let expected = if is_followed(follows) { [200, 301].as_slice() } else { &[404] };
                for method in ["GET", "HEAD"] {
                    let status = request(daemon.data(), method, &path, "").status;
                    assert!(expected.contains(&status), "{method} {path} {case}: {status}");
                }
            }
            let mut expected: Vec<&str> =
                LINKS.iter().filter(|(_, follows)| is_followed(follows)).map(|(link, _)| *link).collect();
            expected.push("releases");
            assert_eq!(names(&daemon, "/"), expected, "{case}");
            assert_eq!(names(&daemon, "/?sort=size"), expected, "{case}");
            assert_eq!(names(&daemon, "/?order=none"), expected, "{case}");
        }
        let daemon = TestDaemon::start(linked.settings(driver, SymlinkChoice::Anywhere));
        for (path, content) in [
            ("/absolute", "v1"),
            ("/absolute-directory/1/f", "v1"),
            ("/disk/f", "of disk"),
            ("/disk-file", "of disk"),
            ("/disk-relative/f", "of disk"),
            ("/relative/f", "v1"),
        ] {
            assert_eq!(get(daemon.data(), path, "").text(), content, "{path} {driver:?}");
        }
        assert_eq!(names(&daemon, "/disk/"), ["f"]);
        assert_eq!(names(&daemon, "/absolute-directory/"), ["1"]);
    }
}

#[test]
fn a_link_that_is_switched_is_followed_within_a_second() {
    let linked = Linked::new();
    linked.around.write("root/releases/2/f", b"v2");
    for driver in drivers() {
        let root = linked.at("root");
        let daemon = TestDaemon::start(Settings {
            cache_valid_ms: Settings::default().cache_valid_ms,
            ..linked.settings(driver, SymlinkChoice::Beneath)
        });
        let switch = |release: &str| {
            symlink(root.join(release), root.join("next")).unwrap();
            std::fs::rename(root.join("next"), root.join("now")).unwrap();
        };
        switch("releases/1");
        assert_eq!(get(daemon.data(), "/now/f", "").text(), "v1", "{driver:?}");
        switch("releases/2");
        wait_until("the other release", || get(daemon.data(), "/now/f", "").text() == "v2");
    }
}

#[test]
fn nothing_is_written_through_a_link_that_does_not_stay_beneath_the_root_from_where_it_is() {
    let linked = Linked::new();
    for driver in drivers() {
        for symlinks in [SymlinkChoice::None, SymlinkChoice::Beneath, SymlinkChoice::Anywhere] {
            let daemon = TestDaemon::start(linked.settings(driver, symlinks));
            let case = format!("{driver:?} {symlinks:?}");
            for path in [
                "/disk/new",
                "/disk-relative/new",
                "/elsewhere/new",
                "/absolute-directory/new",
                "/staging/new",
            ] {
                assert_eq!(put(daemon.data(), path, "", b"new").status, 409, "{path} {case}");
                assert_eq!(request(daemon.data(), "DELETE", path, "").status, 404, "{path} {case}");
            }
            let expected = if symlinks == SymlinkChoice::None { 409 } else { 201 };
            assert_eq!(put(daemon.data(), "/relative/new", "", b"new").status, expected, "{case}");
            let deleted = request(daemon.data(), "DELETE", "/relative/new", "").status;
            assert_eq!(deleted, if expected == 201 { 204 } else { 404 }, "{case}");
            assert!(!linked.at("disk/new").exists() && !linked.at("elsewhere/new").exists());
        }
    }
}

#[test]
fn a_link_that_is_not_followed_is_told_in_the_log_now_and_then() {
    let linked = Linked::new();
    let root = linked.at("root");
    for (choice, link, target) in [
        ("beneath", "elsewhere", linked.at("elsewhere").display().to_string()),
        ("none", "relative", "releases/1".to_owned()),
    ] {
        let daemon = Process::start(&["--root", root.to_str().unwrap(), "--symlinks", choice]);
        for _ in 0..20 {
            assert_eq!(get(daemon.data(), &format!("/{link}/f"), "").status, 404);
        }
        daemon.wait_for_line("a link is not followed");
        let log = daemon.stop();
        let lines = lines_with(&log, "message", "a link is not followed: symlinks says where links may lead");
        assert!(lines.len() <= 2, "{lines:?}");
        let line = &lines[0];
        assert_eq!((&line["link"], &line["target"]), (&link.into(), &target.into()), "{line}");
        assert_eq!((&line["symlinks"], &line["root"]), (&choice.into(), &root.to_str().unwrap().into()));
    }
}

#[test]
fn the_sandbox_shows_where_links_may_lead_and_nothing_else() {
    let linked = Linked::new();
    symlink(linked.at("disk"), linked.at("by-another-name")).unwrap();
    symlink(linked.at("by-another-name/f"), linked.at("root/by-another-name")).unwrap();
    let text = format!(
        "[[share]]\npath = \"/a\"\nroot = {:?}\nsymlinks = \"anywhere\"\nsymlink_targets = [{:?}]\n\
         [[share]]\npath = \"/b\"\nroot = {:?}\nlisting = true\n",
        linked.at("root"),
        linked.at("disk"),
        linked.at("root")
    );
    let path = linked.around.write("configuration/streamd.toml", text.as_bytes());
    let daemon = Process::start(&["--config", path.to_str().unwrap()]);
    for (path, status) in [
        ("/a/disk/f", 200),
        ("/a/disk-relative/f", 200),
        ("/a/by-another-name", 200),
        ("/a/elsewhere/f", 404),
        ("/a/absolute", 200),
        ("/b/disk/f", 404),
        ("/b/absolute", 200),
    ] {
        assert_eq!(get(daemon.data(), path, "").status, status, "{path}");
    }
}

/// Returns a share that lists and takes uploads.
fn uploading(path: &str, root: PathBuf) -> ShareSettings {
    ShareSettings {
        path: Some(SharePath::parse(path).unwrap()),
        root: Some(root),
        listing: true,
        uploads: true,
        durability: Durability::None,
        min_free_bytes: 0,
        min_free_inodes: 0,
        ..ShareSettings::default()
    }
}

#[test]
fn shares_whose_roots_lie_in_one_another_show_no_directory_of_uploads() {
    let around = Fixture::new();
    around.write("outer/file", b"of outer");
    around.write("outer/inner/file", b"of inner");
    let at = |name: &str| around.path().join(name);
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            share: vec![uploading("/outer", at("outer")), uploading("/inner", at("outer/inner"))],
            ..settings()
        });
        let fields = "Upload-Complete: ?0\r\n";
        let begin = |path: &str| {
            let response = crate::harness::send(daemon.data(), "POST", path, fields, b"part");
            assert_eq!(response.status, 201, "{path} {driver:?}");
            response.field("Location").unwrap().to_owned()
        };
        let (outer, inner) = (begin("/outer/new"), begin("/inner/new"));
        let (_, id) = inner.rsplit_once('/').unwrap();
        assert!(
            outer.starts_with("/outer/.streamd-uploads/") && inner.starts_with("/inner/.streamd-uploads/")
        );
        // Neither is an upload of the other's, whatever path it is asked for by.
        for path in [
            format!("/outer/inner/.streamd-uploads/{id}"),
            format!("/outer/.streamd-uploads/{id}"),
            "/outer/inner/.streamd-uploads/".to_owned(),
            "/outer/inner/.streamd-uploads".to_owned(),
        ] {
            for method in ["GET", "HEAD", "DELETE"] {
                assert_eq!(
                    request(daemon.data(), method, &path, "").status,
                    404,
                    "{method} {path} {driver:?}"
                );
            }
        }
        assert_eq!(names(&daemon, "/outer/"), ["file", "inner"], "{driver:?}");
        assert_eq!(names(&daemon, "/outer/inner/"), ["file"], "{driver:?}");
        assert_eq!(names(&daemon, "/inner/"), ["file"], "{driver:?}");
        let archive = get(daemon.data(), "/outer/?archive=tar", "").body;
        assert!(archive.windows(8).any(|bytes| bytes == b"of inner"));
        assert!(!archive.windows(7).any(|bytes| bytes == b"streamd"), "{driver:?}");
        for path in [outer, inner] {
            assert_eq!(request(daemon.data(), "HEAD", &path, "").field("Upload-Offset"), Some("4"), "{path}");
            assert_eq!(request(daemon.data(), "DELETE", &path, "").status, 204, "{path}");
        }
        // Whoever writes in both writes the same files.
        assert_eq!(put(daemon.data(), "/outer/inner/both", "", b"both").status, 201);
        assert_eq!(get(daemon.data(), "/inner/both", "").text(), "both");
        assert_eq!(request(daemon.data(), "DELETE", "/inner/both", "").status, 204);
    }
}

#[test]
fn a_mount_of_a_directory_of_uploads_is_neither_served_nor_listed_nor_written_to() {
    let mountpoint = Mountpoint::new();
    let root = mountpoint.path().parent().unwrap();
    let staging = root.join(".streamd-uploads");
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join("partial"), "part").unwrap();
    std::fs::write(root.join("file"), "content").unwrap();
    symlink("mounted", root.join("link")).unwrap();
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            share: vec![uploading("/up", root.to_owned())],
            ..settings()
        });
        // It comes while the daemon runs.
        assert_eq!(names(&daemon, "/up/"), ["file", "link", "mounted"], "{driver:?}");
        if or_skip(mountpoint.bind(&staging)).is_none() {
            return;
        }
        assert_eq!(names(&daemon, "/up/"), ["file"], "{driver:?}");
        for path in ["/up/mounted/", "/up/mounted/partial", "/up/link/", "/up/link/partial"] {
            assert_eq!(get(daemon.data(), path, "").status, 404, "{path} {driver:?}");
        }
        let mounted = mountpoint.path().to_str().unwrap();
        let output = command(&[&TEST_FLAGS[..], &["--root", mounted]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(78) && said.contains("it lies in a directory of uploads"),
            "{said}"
        );
        for path in ["/up/mounted/new", "/up/link/new"] {
            assert_eq!(put(daemon.data(), path, "", b"new").status, 409, "{path} {driver:?}");
            assert_eq!(request(daemon.data(), "DELETE", path, "").status, 404, "{path} {driver:?}");
        }
        let archive = get(daemon.data(), "/up/?archive=tar", "");
        assert_eq!(archive.status, 200);
        assert!(!archive.body.windows(7).any(|bytes| bytes == b"partial"), "{driver:?}");
        assert!(mountpoint.unmount());
    }
}
