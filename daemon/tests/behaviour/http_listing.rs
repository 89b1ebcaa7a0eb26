//! Directories: nothing, or with `listing` a page for people and JSON for programs.

use fuser::Errno;
use percent_encoding::percent_decode_str;
use streamd::config::Settings;
use streamd::limits::Plane;
use streamd::telemetry::Outcome;

use crate::harness::{
    Caching, Connection, FaultyFs, Fixture, Operation, TestDaemon, drivers, get, request, request_text,
    settings, wait_until,
};

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
    for path in ["/a%20%3Csub%3E", "/a%20%3Csub%3E/"] {
        let response = get(daemon.data(), path, "Accept: text/html;q=0.5, application/json\r\n");
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.field("Content-Type"), Some("application/json"));
        assert_eq!(response.field("Vary"), Some("Accept"));
        let list: Vec<serde_json::Value> = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(list.len(), NAMES.len() + 1, "{list:?}");
        assert_eq!((&list[0]["name"], &list[0]["type"]), (&"inner".into(), &"directory".into()));
        for (entry, name) in list[1..].iter().zip(NAMES) {
            let mtime = "Sun, 06 Nov 1994 08:49:37 GMT";
            let expected =
                serde_json::json!({ "name": name, "type": "file", "size": name.len(), "mtime": mtime });
            assert_eq!(*entry, expected);
        }
    }
}

#[test]
fn every_link_of_the_page_leads_to_its_file() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    for path in ["/a%20%3Csub%3E", "/a%20%3Csub%3E/"] {
        let response = get(daemon.data(), path, "");
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.field("Content-Type"), Some("text/html; charset=utf-8"));
        let page = response.text();
        let links = links(&page);
        assert_eq!(links[..2], ["/", "/a%20%3Csub%3E/inner/"], "{page}");
        assert_eq!(links.len(), NAMES.len() + 2, "{page}");
        for (link, name) in links[2..].iter().zip(NAMES) {
            assert_eq!(get(daemon.data(), link, "").text(), name, "{link}");
            let last = link.rsplit_once('/').unwrap().1;
            assert_eq!(percent_decode_str(last).decode_utf8().unwrap(), name);
        }
        assert_eq!(get(daemon.data(), links[1], "").status, 200);
    }
}

#[test]
fn names_cannot_become_markup() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    let page = get(daemon.data(), "/a%20%3Csub%3E/", "").text();
    assert!(page.contains("<h1>/a &lt;sub&gt;</h1>") || page.contains("<h1>/a &lt;sub&gt;/</h1>"), "{page}");
    assert!(page.contains(">&quot;quoted&quot; &amp; &#39;so&#39;.txt</a>"), "{page}");
    assert!(page.contains(">&lt;b&gt;bold"), "{page}");
    assert!(!page.contains("<b>") && !page.contains("<sub>"), "{page}");
    assert!(!page.contains("passwd"), "{page}");
    assert!(links(&page).iter().all(|link| link.starts_with('/') && !link.starts_with("//")), "{page}");
}

#[test]
fn the_root_and_strange_spellings_of_it_are_listed() {
    let fixture = fixture();
    let daemon = listing(&fixture);
    for path in ["/", "//", "//evil.example/..", "/a%20%3Csub%3E/..", "/?x=y", "http://localhost"] {
        let response = get(daemon.data(), path, "");
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(links(&response.text()), ["/a%20%3Csub%3E/"], "{path}");
    }
    assert_eq!(get(daemon.data(), "/absent/", "").status, 404);
    assert_eq!(get(daemon.data(), "/a%20%3Csub%3E/plain/", "").status, 404);
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
    names.sort_unstable_by_key(|name| (!name.ends_with('/'), name.clone()));
    (fixture, names)
}

fn shown(page: &str) -> Vec<&str> {
    links(page).into_iter().map(|link| &link[1..]).collect()
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
        assert_eq!(shown(&connection.response_to("GET").text()), [""], "{driver:?}");
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
