//! Directories: nothing, or with `listing` a page for people and JSON for programs.

use percent_encoding::percent_decode_str;
use streamd::config::Settings;

use crate::harness::{Connection, Fixture, TestDaemon, get, request, request_text, settings};

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

/// The values of all `href` attributes.
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
    for path in ["/", "//", "//evil.example/..", "/a%20%3Csub%3E/..", "/?x=y", "http://test"] {
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
