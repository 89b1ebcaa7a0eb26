//! Directories: nothing, or with `listing` a page for people and JSON for programs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::Errno;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use streamd::config::Settings;
use streamd::limits::Plane;
use streamd::telemetry::Outcome;

use crate::harness::{
    Caching, Connection, FaultyFs, Fixture, Operation, Response, TestDaemon, drivers, get, request,
    request_text, settings, wait_until,
};
use crate::uploads_digests::base64;

/// Names that HTML, URLs or both must escape, in the order of a listing.
const NAMES: [&str; 9] = [
    "\"quoted\" & 'so'.txt",
    "#x?y=z;.txt",
    "100%.txt",
    "<b>bold",
    "a b+c.txt",
    "back`tick|pipe~.txt",
    "javascript:alert(1)",
    "plain",
    "\u{fc}n\u{ef}.txt",
];

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    for name in NAMES {
        fixture.write(&format!("a <sub>/{name}"), name.as_bytes());
        fixture.set_modified(&format!("a <sub>/{name}"), 784_111_777);
    }
    fixture.write("a <sub>/inner/file", b"inner");
    std::os::unix::fs::symlink("/etc/passwd", fixture.path().join("a <sub>/link")).unwrap();
    fixture
}

fn listing(fixture: &Fixture) -> TestDaemon {
    TestDaemon::start(Settings { root: Some(fixture.path().to_owned()), listing: true, ..settings() })
}

/// Returns the values of all `href` attributes.
fn links(page: &str) -> Vec<&str> {
    page.split("href=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect()
}

#[test]
fn without_the_option_directories_do_not_exist() {
    let fixture = fixture();
    let daemon = TestDaemon::serving(fixture.path());
    for path in ["/", "/a%20%3Csub%3E", "/a%20%3Csub%3E/", "/a%20%3Csub%3E/inner/"] {
        for fields in ["", "Accept: application/json\r\n"] {
            let response = get(daemon.data(), path, fields);
            assert_eq!((response.status, response.problem().as_str()), (404, "no such file"), "{path}");
        }
    }
}

#[test]
fn json_has_every_name_as_it_is() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    let response = get(daemon.data(), "/a%20%3Csub%3E/", "Accept: text/html;q=0.5, application/json\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Content-Type"), Some("application/json"));
    assert_eq!(response.field("Vary"), Some("Accept"));
    assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"));
    let list: Vec<serde_json::Value> = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(list.len(), NAMES.len() + 1, "{list:?}");
    let first = (&list[0]["name"], &list[0]["type"], &list[0]["href"]);
    assert_eq!(first, (&"inner".into(), &"directory".into(), &"./inner/".into()));
    for (entry, name) in list[1..].iter().zip(NAMES) {
        let mut entry = entry.clone();
        let href = entry.as_object_mut().unwrap().remove("href").unwrap();
        let last = href.as_str().unwrap().strip_prefix("./").unwrap();
        assert_eq!(percent_decode_str(last).decode_utf8().unwrap(), name);
        let media_type = entry.as_object_mut().unwrap().remove("media_type").unwrap();
        assert_eq!(name.ends_with(".txt"), media_type == "text/plain; charset=utf-8", "{name}: {media_type}");
        let mtime = "1994-11-06T08:49:37Z";
        let expected =
            serde_json::json!({ "name": name, "type": "file", "size": name.len(), "mtime": mtime });
        assert_eq!(entry, expected);
    }
}

#[test]
fn every_link_of_the_page_leads_to_its_file() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    let response = get(daemon.data(), "/a%20%3Csub%3E/", "");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Content-Type"), Some("text/html; charset=utf-8"));
    let page = response.text();
    let links = links(&page);
    // Two ways up, and then the entries.
    assert_eq!(links[..3], ["../", "../", "./inner/"], "{page}");
    assert_eq!(links.len(), NAMES.len() + 3, "{page}");
    for (link, name) in links[3..].iter().zip(NAMES) {
        let last = link.strip_prefix("./").unwrap();
        assert_eq!(get(daemon.data(), &format!("/a%20%3Csub%3E/{last}"), "").text(), name, "{link}");
        assert_eq!(percent_decode_str(last).decode_utf8().unwrap(), name);
    }
    assert_eq!(get(daemon.data(), "/a%20%3Csub%3E/inner/", "").status, 200);
    // No link, which whoever mirrors would follow.
    assert!(page.contains("<form><button name=\"archive\" value=\"tar\">"), "{page}");
    let archive = get(daemon.data(), "/a%20%3Csub%3E/?archive=tar", "");
    assert_eq!(archive.field("Content-Type"), Some("application/x-tar"));
}

#[test]
fn a_directory_without_its_slash_is_elsewhere_and_its_prefix_stays() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    for (path, location) in [
        ("/a%20%3Csub%3E", "./a%20%3Csub%3E/"),
        ("/a%20%3Csub%3E/inner?sort=size&x", "./inner/?sort=size&x"),
        ("//a%20%3Csub%3E", "./a%20%3Csub%3E/"),
        ("/a%20%3Csub%3E%2Finner", "./a%20%3Csub%3E%2Finner/"),
    ] {
        for (method, fields) in [("GET", ""), ("GET", "Accept: application/json\r\n"), ("HEAD", "")] {
            let response = request(daemon.data(), method, path, fields);
            assert_eq!((response.status, response.field("Location")), (301, Some(location)), "{path}");
        }
    }
}

#[test]
fn names_cannot_become_markup() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    let page = get(daemon.data(), "/a%20%3Csub%3E/", "").text();
    assert!(page.contains("<i>/</i>a &lt;sub&gt;</h1>"), "{page}");
    assert!(page.contains(">&quot;quoted&quot; &amp; &#39;so&#39;.txt</a>"), "{page}");
    assert!(page.contains(">&lt;b&gt;bold"), "{page}");
    assert!(!page.contains("<b>") && !page.contains("<sub>"), "{page}");
    assert!(!page.contains("passwd"), "{page}");
    assert!(links(&page).iter().all(|link| link.starts_with("./") || link.starts_with("../")), "{page}");
}

/// What a browser is told of the page is that its own style and script are to be run, and nothing else.
#[test]
fn the_page_has_a_policy_that_allows_what_it_is_made_of() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    let response = get(daemon.data(), "/", "");
    let page = response.text();
    let policy = response.field("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for tag in ["style", "script"] {
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        let (content, _) = rest.split_once(&format!("</{tag}>")).unwrap();
        let digest = base64(&Sha256::digest(content));
        assert!(policy.contains(&format!("{tag}-src 'sha256-{digest}'")), "{tag}: {policy}");
    }
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("://"), "{page}");
}

#[test]
fn the_root_and_strange_spellings_of_it_are_listed() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    for path in ["/", "//", "//evil.example/..", "/a%20%3Csub%3E/..", "/?x=y", "http://localhost"] {
        let response = get(daemon.data(), path, "");
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(links(&response.text()), ["./a%20%3Csub%3E/"], "{path}");
    }
    assert_eq!(get(daemon.data(), "/absent/", "").status, 404);
    assert_eq!(get(daemon.data(), "/a%20%3Csub%3E/plain/", "").status, 404);
}

fn json_names(response: &Response) -> Vec<String> {
    let list: Vec<serde_json::Value> = serde_json::from_slice(&response.body).unwrap();
    list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

const JSON: &str = "Accept: application/json\r\n";

#[test]
fn the_query_says_the_order() {
    let fixture = Fixture::new();
    for (name, bytes, time) in [("file10", 1, 300), ("file2", 3, 100), ("File1", 2, 200)] {
        fixture.write(name, &[0; 3][..bytes]);
        fixture.set_modified(name, time);
    }
    std::fs::create_dir(fixture.path().join("zoo")).unwrap();
    let daemon = listing(&fixture);
    for (query, names) in [
        ("", ["zoo", "File1", "file2", "file10"]),
        ("?sort=name&desc", ["zoo", "file10", "file2", "File1"]),
        ("?sort=size", ["zoo", "file10", "File1", "file2"]),
        ("?desc=&sort=time", ["zoo", "file10", "File1", "file2"]),
        ("?sort=nothing", ["zoo", "File1", "file2", "file10"]),
    ] {
        let response = get(daemon.data(), &format!("/{query}"), JSON);
        assert_eq!(response.field("X-Listing"), None, "{query}");
        assert_eq!(json_names(&response), names, "{query}");
    }
    let mut unsorted = get(daemon.data(), "/?order=none", JSON);
    assert_eq!(unsorted.field("X-Listing"), Some("unsorted"));
    let text = unsorted.text();
    assert_eq!(text.matches("\"unsorted\":true").count(), 4, "{text}");
    let mut names = json_names(&unsorted);
    names.sort_unstable();
    assert_eq!(names, ["File1", "file10", "file2", "zoo"]);
    unsorted = get(daemon.data(), "/?order=none", "");
    assert!(unsorted.text().contains("In the order of the directory."), "{}", unsorted.text());
    let page = get(daemon.data(), "/?sort=size", "").text();
    assert!(page.contains("aria-sort=\"ascending\"><form><input type=\"hidden\" name=\"desc\">"), "{page}");
    assert!(page.contains("1 directory, 3 files, 6 B"), "{page}");
}

#[test]
fn what_is_served_is_listed_links_included() {
    let fixture = Fixture::new();
    fixture.write("root/sub/file", b"content");
    fixture.write("secret", b"secret");
    let at = |name: &str| fixture.path().join("root").join(name);
    for (target, link) in [
        ("sub/file", "to-file"),
        ("sub", "to-sub"),
        ("../root/sub", "around"),
        ("../secret", "outside"),
        ("/etc/passwd", "absolute"),
        ("absent", "dangling"),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
    for driver in drivers() {
        let root = Some(fixture.path().join("root"));
        let daemon = TestDaemon::start(Settings { driver, root, listing: true, ..settings() });
        let response = get(daemon.data(), "/", JSON);
        assert_eq!(json_names(&response), ["sub", "to-sub", "to-file"], "{driver:?}");
        let list: Vec<serde_json::Value> = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((&list[1]["type"], &list[2]["size"]), (&"directory".into(), &7.into()), "{driver:?}");
        assert_eq!(get(daemon.data(), "/to-file", "").text(), "content");
        assert_eq!(json_names(&get(daemon.data(), "/to-sub/", JSON)), ["file"]);
        for absent in ["around/", "outside", "absolute", "dangling", "loop"] {
            assert_eq!(get(daemon.data(), &format!("/{absent}"), "").status, 404, "{absent}");
        }
    }
}

/// Whatever bytes a name is made of, both forms lead to it.
#[test]
fn names_that_are_no_text_are_said_without_loss() {
    const RAW: [&[u8]; 5] = [b"\x01\x7f", b"back\\slash", b"line\nfeed", b"tab\there", b"\xe4\xff"];
    let fixture = Fixture::new();
    for name in RAW {
        std::fs::write(fixture.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let daemon = listing(&fixture);
    let list = get(daemon.data(), "/", JSON);
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list.body).unwrap();
    let page = get(daemon.data(), "/", "").text();
    let links = links(&page);
    for (place, name) in RAW.into_iter().enumerate() {
        let href = list[place]["href"].as_str().unwrap();
        assert_eq!(links[place], href);
        assert_eq!(get(daemon.data(), &href[1..], "").body, name, "{href}");
        let is_text = std::str::from_utf8(name).is_ok();
        assert_eq!(list[place].get("name_bytes").is_none(), is_text, "{href}");
        assert_eq!(list[place]["name"], String::from_utf8_lossy(name).as_ref(), "{href}");
    }
    assert_eq!(list[4]["name_bytes"], "%E4%FF");
}

#[test]
fn digests_are_listed_where_they_are_recorded() {
    let fixture = Fixture::new();
    fixture.write("written", b"by somebody else");
    let change = Settings { uploads: true, ..settings() };
    let root = Some(fixture.path().to_owned());
    let daemon = TestDaemon::start(Settings { root, listing: true, ..change });
    let put =
        "Content-Length: 3\r\nRepr-Digest: sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:\r\n\r\nabc";
    let mut connection = Connection::open(daemon.data());
    connection.send(format!("PUT /uploaded HTTP/1.1\r\nHost: localhost\r\n{put}"));
    assert_eq!(connection.response_to("PUT").status, 201);
    let list = get(daemon.data(), "/", JSON);
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list.body).unwrap();
    assert_eq!((list.len(), list[1].get("digests")), (2, None), "{list:?}");
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    if list[0]["digests"].is_null() {
        return println!("skipped: this file system doesn't tell the states of a file apart");
    }
    assert_eq!(list[0]["digests"]["sha256"], sha256, "{list:?}");
    let page = get(daemon.data(), "/", "").text();
    assert!(page.contains(&format!("<code title=\"sha-256 {sha256}\">")), "{page}");
}

#[test]
fn head_of_a_listing_has_no_body() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    let whole = get(daemon.data(), "/", "");
    let mut connection = Connection::open(daemon.data());
    connection.send(request_text("HEAD", "/", "") + &request_text("HEAD", "/", ""));
    for _ in 0..2 {
        assert_eq!(connection.response_to("HEAD").content_length(), whole.body.len());
    }
    assert_eq!(request(daemon.data(), "HEAD", "/", "Accept: application/json\r\n").status, 200);
}

/// The number of names, more than one piece of a listing holds, and more than were ever shown at once.
const MANY: usize = 12_000;

fn many() -> (Fixture, Vec<String>) {
    let fixture = Fixture::new();
    let mut names: Vec<String> =
        (0..MANY).map(|number| format!("pkg-{}.rpm", number * 7919 % MANY)).collect();
    names.iter().for_each(|name| drop(std::fs::File::create(fixture.path().join(name)).unwrap()));
    std::fs::create_dir(fixture.path().join("zoo")).unwrap();
    names.push("zoo/".to_owned());
    let number = |name: &str| name[4..].split_once('.').and_then(|(number, _)| number.parse::<usize>().ok());
    names.sort_unstable_by_key(|name| number(name));
    (fixture, names)
}

fn shown(page: &str) -> Vec<&str> {
    links(page).into_iter().filter_map(|link| link.strip_prefix("./")).collect()
}

#[test]
fn a_directory_of_any_length_is_listed_whole_and_in_order() {
    let (fixture, names) = many();
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, listing: true, ..settings() });
        let mut connection = Connection::open(daemon.data());
        // The request behind it on the connection is found where the last chunk ends.
        let fields = ["", "Accept: application/json\r\n"];
        connection.send(fields.map(|fields| request_text("GET", "/", fields)).concat());
        let page = connection.response_to("GET");
        assert_eq!(page.field("X-Listing"), None);
        assert_eq!(shown(&page.text()), names, "{driver:?}");
        let list = connection.response_to("GET");
        let list: Vec<serde_json::Value> = serde_json::from_slice(&list.body).unwrap();
        let name_of = |entry: &serde_json::Value| {
            let slash = if entry["type"] == "directory" { "/" } else { "" };
            format!("{}{slash}", entry["name"].as_str().unwrap())
        };
        assert_eq!(list.iter().map(name_of).collect::<Vec<_>>(), names, "{driver:?}");
        connection.send(request_text("HEAD", "/", "") + &request_text("GET", "/zoo/", ""));
        let head = connection.response_to("HEAD");
        assert_eq!((head.field("Transfer-Encoding"), head.field("Content-Length")), (Some("chunked"), None));
        assert_eq!(links(&connection.response_to("GET").text()), ["../", "../"], "{driver:?}");
        wait_until("all memory given back", || daemon.telemetry().budget.taken_bytes() == 0);
    }
}

#[test]
fn a_client_that_knows_no_chunks_gets_a_long_listing_up_to_the_end_of_the_connection() {
    let (fixture, names) = many();
    let daemon = listing(&fixture);
    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut connection = Connection::open(daemon.data());
        connection.send(format!("GET / HTTP/1.0\r\n{fields}\r\n"));
        let head = connection.head();
        assert_eq!(head.field("Connection"), Some("close"), "{fields}");
        assert_eq!((head.field("Transfer-Encoding"), head.field("Content-Length")), (None, None), "{fields}");
        let page = String::from_utf8(connection.receive_to_end()).unwrap();
        assert!(page.ends_with("</body></html>\n"), "{fields}");
        assert_eq!(shown(&page), names, "{fields}");
    }
}

#[test]
fn a_reader_that_leaves_a_long_listing_costs_nobody_else_theirs() {
    let (fixture, names) = many();
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, listing: true, ..settings() });
        for left in 1..=3 {
            // Larger buffers would take all of it, where its reader is slow to leave.
            let mut connection = Connection::open_slow(daemon.data(), 4 << 10);
            connection.send(request_text("GET", "/", ""));
            assert_eq!(connection.head().status, 200);
            drop(connection);
            let gone = || daemon.count(|worker| worker.transfers.get(Outcome::PeerClosed));
            wait_until("the reader's leaving to be counted", || gone() == left);
        }
        assert_eq!(shown(&get(daemon.data(), "/", "").text()), names, "{driver:?}");
        wait_until("all memory given back", || daemon.telemetry().budget.taken_bytes() == 0);
    }
}

#[test]
fn a_listing_that_can_not_be_read_to_its_end_does_not_look_whole() {
    for driver in drivers() {
        for version in ["1.1", "1.0"] {
            // Each case has a file system of its own: the kernel remembers names for a while.
            let Some(fs) = FaultyFs::mount(Caching::Through) else { return };
            (0..1_000).for_each(|number| fs.add_file(&format!("{number:04}")));
            let root = Some(fs.path().to_owned());
            let daemon = TestDaemon::start(Settings { driver, root, listing: true, ..settings() });
            // A failure before anything is sent is told by the status.
            fs.fail(Operation::LookUp, Errno::EIO, 0);
            assert_eq!(get(daemon.data(), "/", "").status, 500, "{driver:?} {version}");
            fs.fail(Operation::LookUp, Errno::EIO, 600);
            let mut connection = Connection::open(daemon.data());
            connection.send(format!("GET / HTTP/{version}\r\nHost: localhost\r\n\r\n"));
            let part = String::from_utf8(connection.receive_to_reset()).unwrap();
            assert!(part.starts_with("HTTP/1.1 200 OK\r\n"), "{driver:?} {version}: {part}");
            assert!(part.contains("0000") && !part.contains("</html>"), "{driver:?} {version}: {part}");
            assert!(!part.ends_with("0\r\n\r\n"), "{driver:?} {version}: {part}");
            let failed = || daemon.count(|worker| worker.transfers.get(Outcome::SourceFailed));
            wait_until("the failure to be counted", || failed() == 1);
            fs.heal();
        }
    }
}

/// A listing that isn't sent is closed as one that broke off is: on a disk thread.
#[test]
fn a_listing_for_which_there_is_no_room_after_all_is_closed_on_a_disk_thread() {
    /// The number of files, whose names take some 21 KB, and a page of several pieces.
    const FILES: usize = 200;
    const WAITING_BYTES_MAX: u64 = 1 << 20;
    /// The room is enough for the names and a piece (48 KiB), not for the requests (32 KiB) that wait behind it
    /// besides.
    const ROOM_BYTES: u64 = (48 + 21 + 16) << 10;
    let fixture = Fixture::new();
    for number in 0..FILES {
        fixture.write(&format!("{number:0100}"), b"");
    }
    for driver in drivers() {
        let daemon = TestDaemon::start(Settings {
            driver,
            root: Some(fixture.path().to_owned()),
            listing: true,
            waiting_bytes_max: WAITING_BYTES_MAX,
            ..settings()
        });
        let ended = || lane_ended(&daemon, "listing");
        // The data plane leaves an eighth to the control plane.
        let others = WAITING_BYTES_MAX * 7 / 8 - ROOM_BYTES;
        let budget = &daemon.telemetry().budget;
        let held = budget.reserve(Plane::Data(None), others, WAITING_BYTES_MAX).unwrap();
        let mut connection = Connection::open(daemon.data());
        let behind = request_text("GET", "/absent", "").repeat(150);
        connection.send([request_text("GET", "/", ""), behind].concat());
        assert_eq!(connection.receive_what_comes(), b"", "{driver:?}");
        assert_eq!(budget.refusals(), 1, "{driver:?}");
        wait_until("the directory to be closed", || ended() == 2);
        drop(held);
        wait_until("all memory given back", || budget.taken_bytes() == 0);
        assert_eq!(get(daemon.data(), "/", "").status, 200, "{driver:?}");
    }
}

fn lane_ended(daemon: &TestDaemon, name: &str) -> u64 {
    let disk = daemon.telemetry().disk();
    disk.lanes.iter().find(|lane| lane.name == name).unwrap().ended
}
