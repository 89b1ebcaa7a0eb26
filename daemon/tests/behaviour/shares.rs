//! Tests of several directories, each below a path of its own: which of them a request is for, what its settings do
//! there, and what a reload makes of them.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;
use streamd::config::{Durability, EtagChoice, Settings, SharePath, ShareSettings};

use crate::harness::{
    Caching, Connection, FaultyFs, Fixture, Operation, Process, TEST_FLAGS, TestDaemon, command, drivers,
    get, lines_with, partials, put, request, send, settings, wait_until,
};

/// Returns a share with the defaults of the settings.
fn share(path: &str, root: &Path) -> ShareSettings {
    let path = Some(SharePath::parse(path).unwrap());
    ShareSettings { path, root: Some(root.to_owned()), ..ShareSettings::default() }
}

/// Returns a share that takes uploads, and avoids the disk's own time and its free space.
fn uploading(path: &str, root: &Path) -> ShareSettings {
    ShareSettings {
        uploads: true,
        durability: Durability::None,
        min_free_bytes: 0,
        min_free_inodes: 0,
        ..share(path, root)
    }
}

/// Three directories, and the daemon's settings for them.
struct Three {
    around: Fixture,
}

impl Three {
    fn new() -> Three {
        let around = Fixture::new();
        around.write("files/file", b"of files");
        around.write("files/iso/file", b"never seen");
        around.write("iso/file", b"of iso");
        around.write("iso/old/file", b"never seen");
        around.write("old/file", b"of old");
        around.write("old/sub/file", b"below old");
        std::fs::create_dir(around.path().join("allowed")).unwrap();
        Three { around }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.around.path().join(name)
    }

    fn settings(&self) -> Settings {
        let listed = ShareSettings { listing: true, ..share("/iso", &self.at("iso")) };
        let old = ShareSettings { etag: EtagChoice::Times, ..uploading("/iso/old", &self.at("old")) };
        Settings { root: Some(self.at("files")), share: vec![listed, old], cache_valid_ms: 0, ..settings() }
    }
}

#[test]
fn the_longest_path_decides_and_each_share_has_its_own_settings() {
    for driver in drivers() {
        let three = Three::new();
        let daemon = TestDaemon::start(Settings { driver, ..three.settings() });
        let body = |path: &str| get(daemon.data(), path, "").text();
        for (path, content) in [
            ("/file", "of files"),
            ("/iso/file", "of iso"),
            ("/iso/old/file", "of old"),
            ("/iso/old/sub/file", "below old"),
            ("/iso//old/../file", "of iso"),
        ] {
            assert_eq!(body(path), content, "{path} {driver:?}");
            // Known files are found by their whole names.
            assert_eq!(body(path), content, "{path} {driver:?}");
        }
        for (path, status) in [
            ("/", 404),
            ("/iso/", 200),
            ("/iso", 301),
            ("/iso/old/", 404),
            ("/isolated", 404),
            ("/iso/none", 404),
        ] {
            assert_eq!(get(daemon.data(), path, "").status, status, "{path} {driver:?}");
        }
        assert!(body("/iso/").contains("file"));
        // A file that is written anew in the same state keeps a tag that is made of its times alone.
        let tags = || {
            for name in ["old/file", "iso/file"] {
                three.around.write(name, b"again");
                three.around.set_modified(name, 1_000_000_000);
            }
            ["/iso/old/file", "/iso/file"]
                .map(|path| get(daemon.data(), path, "").field("ETag").unwrap().to_owned())
        };
        let (first, second) = (tags(), tags());
        assert_eq!((first[0] == second[0], first[1] == second[1]), (true, false), "{first:?} {second:?}");
        for (path, status) in [("/new", 405), ("/iso/new", 405), ("/iso/old/new", 201)] {
            let response = put(daemon.data(), path, "", b"content");
            assert_eq!(response.status, status, "{path} {driver:?}");
            if status == 405 {
                assert_eq!(response.field("Allow"), Some("GET, HEAD, OPTIONS"), "{path}");
            }
        }
        assert_eq!(std::fs::read(three.at("old/new")).unwrap(), b"content");
    }
}

#[test]
fn a_name_that_no_share_has_is_not_found_and_a_root_without_a_share_neither() {
    let three = Three::new();
    let daemon = TestDaemon::start(Settings { root: None, ..three.settings() });
    for path in ["/", "/file", "/isolated", "/.streamd-uploads/0"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(request(daemon.data(), method, path, "").status, 404, "{method} {path}");
        }
        assert_eq!(put(daemon.data(), path, "", b"").status, 405, "{path}");
    }
    assert_eq!(get(daemon.data(), "/iso/file", "").text(), "of iso");
}

#[test]
fn uploads_have_the_path_of_their_share_and_outlive_a_restart() {
    const PARTIAL: &str = "Content-Type: application/partial-upload\r\n";
    for driver in drivers() {
        let three = Three::new();
        let settings = Settings { driver, ..three.settings() };
        let daemon = TestDaemon::start(settings.clone());
        let created = send(daemon.data(), "POST", "/iso/old/whole", "Upload-Complete: ?0\r\n", b"fir");
        assert_eq!(created.status, 201, "{}", created.text());
        let location = created.field("Location").unwrap().to_owned();
        assert!(location.starts_with("/iso/old/.streamd-uploads/"), "{location}");
        let offset = |daemon: &TestDaemon| {
            let response = request(daemon.data(), "HEAD", &location, "");
            assert_eq!(response.status, 204);
            response.field("Upload-Offset").unwrap().to_owned()
        };
        assert_eq!(offset(&daemon), "3");
        assert_eq!(partials(&three.at("old")).len(), 1);
        // The upload has that name alone.
        let id = location.rsplit('/').next().unwrap();
        for path in [format!("/.streamd-uploads/{id}"), format!("/iso/.streamd-uploads/{id}")] {
            assert_eq!(get(daemon.data(), &path, "").status, 404, "{path}");
        }
        drop(daemon);
        let daemon = TestDaemon::start(settings);
        assert_eq!(offset(&daemon), "3");
        let fields = format!("{PARTIAL}Upload-Offset: 3\r\nUpload-Complete: ?1\r\n");
        let response = send(daemon.data(), "PATCH", &location, &fields, b"st");
        assert_eq!(response.status, 201, "{}", response.text());
        assert_eq!(get(daemon.data(), "/iso/old/whole", "").text(), "first");
        assert_eq!(std::fs::read(three.at("old/whole")).unwrap(), b"first");
        assert_eq!(request(daemon.data(), "DELETE", "/iso/old/whole", "").status, 204);
        assert_eq!(get(daemon.data(), "/iso/old/whole", "").status, 404);
    }
}

#[test]
fn a_share_in_another_serves_the_same_files_and_hides_its_uploads_from_both() {
    let around = Fixture::new();
    around.write("inner/file", b"one");
    let inner = around.path().join("inner");
    let share = ShareSettings { listing: true, ..uploading("/in", &inner) };
    let daemon = TestDaemon::start(Settings {
        root: Some(around.path().to_owned()),
        listing: true,
        share: vec![share],
        ..settings()
    });
    let created = send(daemon.data(), "POST", "/in/part", "Upload-Complete: ?0\r\n", b"part");
    let id = created.field("Location").unwrap().rsplit('/').next().unwrap().to_owned();
    symlink(".streamd-uploads", inner.join("link")).unwrap();
    symlink(inner.join(".streamd-uploads").join(&id), inner.join("absolute")).unwrap();
    symlink(format!("inner/.streamd-uploads/{id}"), around.path().join("link")).unwrap();
    for path in ["/link", "/inner/link/", "/in/link/", "/in/absolute", "/inner/absolute"] {
        assert_eq!(get(daemon.data(), path, "").status, 404, "{path}");
    }
    for path in
        [format!("/inner/.streamd-uploads/{id}"), format!("/inner/link/{id}"), format!("/in/link/{id}")]
    {
        assert_eq!(get(daemon.data(), &path, "").status, 404, "{path}");
    }
    for path in ["/inner/", "/in/"] {
        let listing = get(daemon.data(), path, "Accept: application/json\r\n").text();
        assert!(listing.contains("file") && !listing.contains("streamd-uploads"), "{path}: {listing}");
    }
    // Both paths tell of a publication at once, however long files are known.
    for content in ["two", "three"] {
        assert!(put(daemon.data(), "/in/file", "", content.as_bytes()).status < 300);
        for path in ["/in/file", "/inner/file"] {
            assert_eq!(get(daemon.data(), path, "").text(), content, "{path}");
        }
    }
}

#[test]
fn streams_come_from_every_share() {
    let three = Three::new();
    let daemon = TestDaemon::start(three.settings());
    for (path, bytes, status) in
        [("/file", 8, 200), ("/iso/file", 6, 200), ("/iso/old/sub/file", 9, 200), ("/iso/none", 0, 404)]
    {
        let response = request(daemon.control(), "POST", &format!("/stream?path={path}"), "");
        assert_eq!(response.status, status, "{path}: {}", response.text());
        if status == 200 {
            let stream: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(stream["bytes_sent"], bytes, "{path}");
        }
    }
}

#[test]
fn a_reload_changes_brings_and_removes_shares() {
    let three = Three::new();
    let allowed = Fixture::new();
    allowed.write("new/file", b"of new");
    let roots_allowed = vec![allowed.path().display().to_string()];
    let before = Settings { roots_allowed, cache_valid_ms: 10_000, ..three.settings() };
    let daemon = TestDaemon::start(before.clone());
    assert_eq!(get(daemon.data(), "/iso/file", "").text(), "of iso");
    assert_eq!(put(daemon.data(), "/iso/old/a/b", "", b"").status, 409);
    // What runs goes on with the share that it began with.
    let mut waiting = Connection::open(daemon.data());
    waiting.send("PUT /iso/old/late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
    waiting.send(vec![7; 50_000]);
    wait_until("a partial", || partials(&three.at("old")).len() == 1);
    let old = ShareSettings { create_dirs: true, ..before.share[1].clone() };
    let elsewhere = Fixture::new();
    let mut after = before.clone();
    after.share = vec![
        old.clone(),
        share("/new", &allowed.path().join("new")),
        share("/sub", &three.at("old/sub")),
        share("/elsewhere", elsewhere.path()),
    ];
    assert_eq!(daemon.reload(after.clone()), ["share /elsewhere"]);
    assert_eq!(put(daemon.data(), "/iso/old/a/b", "", b"made").status, 201);
    for (path, expected) in [
        ("/new/file", "of new"),
        ("/sub/file", "below old"),
        // The share that had this path is gone, and the one around it has the name.
        ("/iso/file", "never seen"),
    ] {
        assert_eq!(get(daemon.data(), path, "").text(), expected, "{path}");
    }
    assert_eq!(get(daemon.data(), "/elsewhere/file", "").status, 404);
    after.share = Vec::new();
    assert_eq!(daemon.reload(after.clone()), Vec::<String>::new());
    assert_eq!(put(daemon.data(), "/iso/old/a/c", "", b"").status, 405);
    waiting.send(vec![7; 50_000]);
    assert_eq!(waiting.response_to("PUT").status, 201);
    assert_eq!(std::fs::read(three.at("old/late")).unwrap(), vec![7; 100_000]);
    // Its root was there at the start, but to write there again takes one.
    after.share = vec![old.clone(), before.share[0].clone()];
    assert_eq!(daemon.reload(after), ["share /iso/old"]);
    assert_eq!(get(daemon.data(), "/iso/file", "").text(), "of iso");
}

#[test]
fn a_root_that_was_replaced_is_told_of_with_its_share_and_opened_by_a_reload() {
    let three = Three::new();
    let daemon = TestDaemon::start(three.settings());
    let health = || get(daemon.control(), "/health", "").text();
    std::fs::rename(three.at("iso"), three.at("aside")).unwrap();
    three.around.write("iso/file", b"another");
    wait_until("the change to be seen", || health() == "OK\nroot replaced: reload");
    assert_eq!(get(daemon.data(), "/iso/file", "").text(), "of iso");
    assert_eq!(daemon.reload(three.settings()), Vec::<String>::new());
    assert_eq!(get(daemon.data(), "/iso/file", "").text(), "another");
    assert_eq!(get(daemon.data(), "/file", "").text(), "of files");
    wait_until("health", || health() == "OK");
}

/// Writes a configuration with a share that takes uploads, one that doesn't, and further lines.
fn configure(three: &Three, more: &str) -> String {
    let (files, iso, old) = (three.at("files"), three.at("iso"), three.at("old"));
    let text = format!(
        "root = {files:?}\nroots_allowed = [{:?}]\n[[share]]\npath = \"/iso\"\nroot = {iso:?}\n[[share]]\n\
         path = \"/old\"\nroot = {old:?}\nuploads = true\nmin_free_bytes = 0\n{more}",
        three.at("allowed")
    );
    three.around.write("configuration/streamd.toml", text.as_bytes()).to_str().unwrap().to_owned()
}

#[test]
fn the_sandbox_shows_every_root_and_lets_only_that_of_uploads_be_written() {
    let three = Three::new();
    for name in ["allowed/a/file", "hidden/file"] {
        three.around.write(name, b"content");
    }
    let path = configure(&three, "");
    let process = Process::start(&["--config", &path]);
    for (path, content) in [("/file", "of files"), ("/iso/file", "of iso"), ("/old/file", "of old")] {
        assert_eq!(get(process.data(), path, "").text(), content);
    }
    assert_eq!(put(process.data(), "/old/new", "", b"content").status, 201);
    assert_eq!(put(process.data(), "/iso/new", "", b"content").status, 405);
    let share =
        |path: &str, name: &str| format!("[[share]]\npath = \"{path}\"\nroot = {:?}\n", three.at(name));
    configure(&three, &(share("/a", "allowed/a") + &share("/hidden", "hidden")));
    process.signal(Signal::HUP);
    process.wait_for_line("\"reloaded\"");
    assert_eq!(get(process.data(), "/a/file", "").text(), "content");
    assert_eq!(get(process.data(), "/hidden/file", "").status, 404);
    let log = process.stop();
    let needing = lines_with(&log, "message", "needs restart");
    assert_eq!(needing.len(), 1, "{needing:?}");
    assert_eq!(needing[0]["setting"], "share /hidden");
    let opened = lines_with(&log, "message", "the root was opened");
    assert_eq!(opened[0]["share"], "/a", "{opened:?}");
}

#[test]
fn a_share_that_a_reload_brings_is_named_where_its_disk_does_not_answer() {
    let three = Three::new();
    let configure = |more: &str| {
        let (files, allowed) = (three.at("files"), env!("CARGO_TARGET_TMPDIR"));
        let text = format!("root = {files:?}\nroots_allowed = [{allowed:?}]\ndisk_timeout_ms = 500\n{more}");
        three.around.write("configuration/streamd.toml", text.as_bytes()).to_str().unwrap().to_owned()
    };
    let process = Process::start(&["--config", &configure("")]);
    // No root that was there at the start knows of this mount.
    let Some(file_system) = FaultyFs::mount(Caching::Through) else { return };
    let _healed = file_system.healed_at_end();
    for name in ["file", "other"] {
        std::fs::write(file_system.path().join(name), vec![b'x'; 300_000]).unwrap();
    }
    configure(&format!("[[share]]\npath = \"/new\"\nroot = {:?}\n", file_system.path()));
    process.signal(Signal::HUP);
    process.wait_for_line("\"reloaded\"");
    assert_eq!(get(process.data(), "/new/file", "").body.len(), 300_000);
    file_system.stall(Operation::Read);
    let response = get(process.data(), "/new/other", "");
    assert_eq!(response.status, 503);
    assert!(response.problem().contains("the disk of /new doesn't answer"), "{}", response.problem());
    process.wait_for_line("a mount doesn't answer");
    file_system.heal();
    wait_until("the mount to answer", || get(process.data(), "/new/other", "").body.len() == 300_000);
    let log = process.stop();
    let told = lines_with(&log, "message", "a mount doesn't answer: what needs it gets 503");
    assert_eq!(told[0]["mount"], file_system.path().to_str().unwrap(), "{told:?}");
}

#[test]
fn a_check_shows_the_shares_and_what_decides_about_a_path() {
    let three = Three::new();
    let path = configure(&three, "cache_control = \"no-cache\"\n");
    let checked = |flags: &[&str]| command(&[&TEST_FLAGS[..], flags].concat()).output().unwrap();
    let output = checked(&["--config", &path, "--check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let at = |name: &str| three.at(name).display().to_string();
    let table = format!(
        "shares         /iso  {}\n               /old  {}  uploads\n               /     {}\n",
        at("iso"),
        at("old"),
        at("files")
    );
    assert!(text.contains(&table), "{text}");
    let output = checked(&["--config", &path, "--check", "--path", "/old/file"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "configuration  good\nfile           {path}\npath           /old/file\nshare          /old\n\
         leads to       {}/file, a file of 6 bytes\nseen by        this host, by its own names\n\
         media type     application/octet-stream\nheaders        Cache-Control: no-cache\n\
         other origins  pages of none may read it: cors is not set\n\
         writes         taken of this host, but no web page\n",
        at("old")
    );
    assert_eq!(text, expected);
    let output = checked(&["--config", &path, "--check", "--path", "old"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let output = checked(&["--config", &path, "--path", "/old/a.txt"]);
    assert_eq!(output.status.code(), Some(2), "it takes --check");
}

#[test]
fn bad_tables_are_told_each_with_a_sentence() {
    let three = Three::new();
    let root = format!("root = {:?}\n", three.at("iso"));
    for (table, expected) in [
        (format!("[[share]]\n{root}"), "share.path: is missing"),
        ("[[share]]\npath = \"/a\"\n".to_owned(), "share.root: is missing for /a"),
        (format!("[[share]]\npath = \"a\"\n{root}"), "has no slash at its begin"),
        (format!("[[share]]\npath = \"/a/\"\n{root}"), "ends with a slash"),
        (format!("[[share]]\npath = \"/iso\"\n{root}"), "share.path: /iso is the path of another share too"),
        (
            format!("[[share]]\npath = \"/\"\n{root}"),
            "share.path: / is the share of the keys at the file's top",
        ),
        (format!("[[share]]\npath = \"/a\"\n{root}listnig = true\n"), "listnig"),
        (format!("[[share]]\npath = \"/a\"\n{root}listing = 7\n"), "expected true or false"),
        (
            format!("[[share]]\npath = \"/a\"\n{root}symlinks = \"anywhere\"\n"),
            "share.symlinks: \"anywhere\" needs",
        ),
        (
            format!("[[share]]\npath = \"/a\"\n{root}symlink_targets = [\"/\"]\n"),
            "share.symlink_targets: no link",
        ),
        ("[[share]]\npath = \"/a\"\nroot = \"/nonexistent\"\n".to_owned(), "/nonexistent: No such file"),
    ] {
        let path = configure(&three, &table);
        let output = command(&[&TEST_FLAGS[..], &["--config", &path, "--check"]].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap() + std::str::from_utf8(&output.stdout).unwrap();
        assert!(text.contains(expected) && text.contains(&format!("({path}:")), "{table}: {text}");
    }
}
