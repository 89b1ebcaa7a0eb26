//! Tests of digests (RFC 9530) over real connections: compared before a file gets its name, and told to those who
//! ask.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use streamd::config::{EtagChoice, Settings};

use crate::harness::{
    Connection, Fixture, MIB, Response, TestDaemon, chunked, each_uploading, get, partials, pattern, put,
    request, request_text, wait_until, write_text,
};

const HELLO: &[u8] = b"hello, world";

/// The digests of [`HELLO`], computed by another program.
const SHA256: &str = "sha-256=:Ccp+TqpuiunH0mEWcSkYSINkTQffuny/vEyKLgg2DVs=:";
const CRC32C: &str = "crc32c=:aZmkHw==:";

/// The digests of `hello`.
const OTHER_SHA256: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const OTHER_CRC32C: &str = "crc32c=:mnG7TA==:";

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(
        |settings| Settings { cache_valid_ms: 0, etag: EtagChoice::Digest, ..settings },
        |daemon, fixture| {
            test(daemon, fixture);
            wait_until("all uploads to be gone", || partials(fixture.path()).is_empty());
        },
    );
}

fn send(address: SocketAddr, method: &str, path: &str, fields: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    connection.send(write_text(method, path, fields, body));
    connection.response_to(method)
}

/// Returns the tag that follows from a digest of `content`: 128 bits of it.
fn tag_of(content: &[u8]) -> String {
    let digits: String = Sha256::digest(content)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"sha256-{digits}\"")
}

#[test]
fn a_body_that_has_its_digest_becomes_the_file() {
    each_daemon(|daemon, _| {
        for (number, fields) in [
            format!("Repr-Digest: {SHA256}\r\n"),
            format!("Repr-Digest: {CRC32C}\r\n"),
            format!("Content-Digest: {SHA256}\r\n"),
            format!("Content-Digest: {CRC32C}\r\n"),
            format!("Repr-Digest: {SHA256}, {CRC32C}\r\nContent-Digest: {CRC32C}\r\n"),
            format!("Repr-Digest: {SHA256}\r\nRepr-Digest: {CRC32C}\r\n"),
            // Other algorithms are ignored here (RFC 9530 2).
            "Repr-Digest: md5=:AAAAAAAAAAAAAAAAAAAAAA==:, sha-512=:AA==:\r\n".to_owned(),
            format!("Repr-Digest: unixsum=:AA==:, {SHA256}\r\n"),
        ]
        .iter()
        .enumerate()
        {
            let path = format!("/file{number}");
            let response = put(daemon.data(), &path, fields, HELLO);
            assert_eq!(response.status, 201, "{fields}: {}", response.text());
            let seen = get(daemon.data(), &path, "");
            assert_eq!(seen.body, HELLO, "{fields}");
            assert_eq!(response.field("ETag"), seen.field("ETag"), "{fields}");
            // The tag is the same whatever digests came.
            assert_eq!(seen.field("ETag"), Some(tag_of(HELLO).as_str()), "{fields}");
            // The client didn't ask for a digest.
            assert_eq!(seen.field("Repr-Digest"), None);
        }
    });
}

#[test]
fn a_body_that_has_another_digest_is_400_and_no_file() {
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"content");
        for (header, digest, algorithm) in [
            ("Repr-Digest", OTHER_SHA256, "sha-256"),
            ("Repr-Digest", OTHER_CRC32C, "crc32c"),
            ("Content-Digest", OTHER_SHA256, "sha-256"),
            ("Content-Digest", OTHER_CRC32C, "crc32c"),
        ] {
            let fields = format!("{header}: {digest}\r\n");
            for path in ["/file", "/absent"] {
                let response = put(daemon.data(), path, &fields, HELLO);
                assert_eq!(response.status, 400, "{fields}");
                assert_eq!(response.problem_kind(), "digest-mismatched-values", "{fields}");
                let document = response.problem_document();
                let mismatched = &document["mismatched_digests"][0];
                assert_eq!(mismatched["algorithm"], algorithm, "{document}");
                assert_eq!(mismatched["header"], header, "{document}");
                let provided = digest.split_once('=').unwrap().1;
                assert_eq!(mismatched["provided_digest"], provided, "{document}");
            }
        }
        // A right digest doesn't make up for a wrong one, and isn't blamed for it.
        for (fields, blamed) in [
            (format!("Repr-Digest: {SHA256}, {OTHER_CRC32C}\r\n"), &[("Repr-Digest", "crc32c")][..]),
            (
                format!("Repr-Digest: {SHA256}\r\nContent-Digest: {OTHER_SHA256}\r\n"),
                &[("Content-Digest", "sha-256")],
            ),
            (
                format!("Repr-Digest: {OTHER_SHA256}\r\nContent-Digest: {SHA256}\r\n"),
                &[("Repr-Digest", "sha-256")],
            ),
            (
                format!("Repr-Digest: {OTHER_SHA256}, {OTHER_CRC32C}\r\nContent-Digest: {SHA256}\r\n"),
                &[("Repr-Digest", "sha-256"), ("Repr-Digest", "crc32c")],
            ),
        ] {
            let response = put(daemon.data(), "/file", &fields, HELLO);
            assert_eq!(response.status, 400, "{fields}");
            let document = response.problem_document();
            let mismatched = document["mismatched_digests"].as_array().unwrap().iter();
            let named: Vec<_> = mismatched
                .map(|digest| (digest["header"].as_str().unwrap(), digest["algorithm"].as_str().unwrap()))
                .collect();
            assert_eq!(named, blamed, "{fields}");
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
        assert_eq!(get(daemon.data(), "/absent", "").status, 404);
    });
}

#[test]
fn a_digest_field_that_is_none_is_400_before_the_body() {
    each_daemon(|daemon, fixture| {
        fixture.write("file", b"content");
        for value in [
            "sha-256",
            "sha-256=x",
            "sha-256=:x",
            "sha-256=:AAAA:",
            "sha-256=\"AAAA\"",
            "crc32c=:AAAAAAA=:",
            "crc32c=1",
            ":AAAA:",
            "sha-256=:CRC/:, ,",
            "SHA-256=:AAAA:",
        ] {
            for header in ["Repr-Digest", "Content-Digest"] {
                let mut connection = Connection::open(daemon.data());
                let fields = format!("Expect: 100-continue\r\nContent-Length: 5\r\n{header}: {value}\r\n");
                connection.send(request_text("PUT", "/file", &fields));
                let response = connection.response_to("PUT");
                assert_eq!(response.status, 400, "{header}: {value}");
                assert_eq!(response.problem_kind(), "digest-invalid-values", "{header}: {value}");
            }
        }
        assert_eq!(get(daemon.data(), "/file", "").text(), "content");
    });
}

#[test]
fn large_and_chunked_bodies_are_compared_too() {
    let content = pattern(9 * MIB + 11);
    let base64 = base64(&Sha256::digest(&content));
    each_daemon(|daemon, fixture| {
        let upload = |path: &str, digest: &str| {
            let mut connection = Connection::open(daemon.data());
            let fields = format!("Transfer-Encoding: chunked\r\nRepr-Digest: sha-256=:{digest}:\r\n");
            connection.send(request_text("PUT", path, &fields));
            connection.send(chunked(&content, 70_000));
            connection.response_to("PUT").status
        };
        assert_eq!(upload("/chunked", &base64), 201);
        let wrong = base64.replacen(&base64[..1], if base64.starts_with('A') { "B" } else { "A" }, 1);
        assert_eq!(upload("/wrong", &wrong), 400);
        let fields = format!("Content-Digest: sha-256=:{base64}:\r\n");
        assert_eq!(put(daemon.data(), "/length", &fields, &content).status, 201);
        let fields = format!("Content-Digest: sha-256=:{wrong}:\r\n");
        assert_eq!(put(daemon.data(), "/wrong", &fields, &content).status, 400);
        for path in ["/chunked", "/length"] {
            let seen = get(daemon.data(), path, "");
            assert_eq!(seen.field("ETag"), Some(tag_of(&content).as_str()));
            assert!(seen.body == content, "{path}");
        }
        assert!(!fixture.path().join("wrong").exists());
    });
}

/// Encodes by another program than this one.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut child =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn whoever_asks_is_told_the_digest() {
    each_daemon(|daemon, _| {
        assert_eq!(put(daemon.data(), "/plain", "", HELLO).status, 201);
        let digested = format!("Repr-Digest: {SHA256}\r\n");
        assert_eq!(put(daemon.data(), "/digested", &digested, HELLO).status, 201);
        for path in ["/plain", "/digested"] {
            for method in ["GET", "HEAD"] {
                for (wanted, told) in [
                    ("sha-256=1", Some(SHA256)),
                    ("crc32c=10", Some(CRC32C)),
                    ("crc32c=3, sha-256=7", Some(SHA256)),
                    ("crc32c=7, sha-256=3", Some(CRC32C)),
                    ("md5=10, sha-256=1", Some(SHA256)),
                    ("sha-256=0", None),
                    ("md5=10", None),
                    ("", None),
                    ("sha-256=:x", None),
                ] {
                    let fields = format!("Want-Repr-Digest: {wanted}\r\n");
                    let response = request(daemon.data(), method, path, &fields);
                    assert_eq!((response.status, response.content_length()), (200, HELLO.len()));
                    assert_eq!(response.field("Repr-Digest"), told, "{method} {path} {wanted}");
                }
            }
            // The digest is the whole file's, whatever part is sent (RFC 9530 3).
            let part = get(daemon.data(), path, "Range: bytes=1-3\r\nWant-Repr-Digest: sha-256=1\r\n");
            assert_eq!((part.status, part.text().as_str()), (206, "ell"));
            assert_eq!(part.field("Repr-Digest"), Some(SHA256), "{path}");
        }
        assert_eq!(get(daemon.data(), "/absent", "Want-Repr-Digest: sha-256=1\r\n").status, 404);
    });
}

#[test]
fn an_upload_that_asks_is_told_the_digest() {
    each_uploading(
        |settings| settings,
        |daemon, _| {
            for (path, wanted, told) in [
                ("/sha", "sha-256=1", SHA256),
                ("/crc", "crc32c=1", CRC32C),
                ("/both", "crc32c=2, sha-256=1", CRC32C),
            ] {
                let response = put(daemon.data(), path, &format!("Want-Repr-Digest: {wanted}\r\n"), HELLO);
                assert_eq!((response.status, response.field("Repr-Digest")), (201, Some(told)), "{path}");
                let seen = get(daemon.data(), path, "");
                assert_eq!(response.field("ETag"), seen.field("ETag"));
                assert_ne!(seen.field("ETag"), Some(tag_of(HELLO).as_str()), "tags are made of other things");
            }
            // A client that doesn't ask gets no digest.
            let response = put(daemon.data(), "/plain", "", HELLO);
            assert_eq!(response.field("Repr-Digest"), None);
        },
    );
}

#[test]
fn the_tag_of_a_content_is_a_condition_like_any_other() {
    each_daemon(|daemon, fixture| {
        let digested = format!("Repr-Digest: {SHA256}\r\n");
        let tag = tag_of(HELLO);
        for (path, status) in [("/file", 201), ("/file", 204), ("/copy", 201)] {
            let response = put(daemon.data(), path, &digested, HELLO);
            assert_eq!((response.status, response.field("ETag")), (status, Some(tag.as_str())));
        }
        for path in ["/file", "/copy"] {
            let unchanged = get(daemon.data(), path, &format!("If-None-Match: {tag}\r\n"));
            assert_eq!((unchanged.status, unchanged.field("ETag")), (304, Some(tag.as_str())));
            let part = get(daemon.data(), path, &format!("If-Range: {tag}\r\nRange: bytes=0-4\r\n"));
            assert_eq!((part.status, part.text().as_str()), (206, "hello"));
            assert_eq!(get(daemon.data(), path, "If-Match: \"x\"\r\n").status, 412);
        }
        let unfit = put(daemon.data(), "/file", &format!("If-None-Match: {tag}\r\n"), b"new");
        assert_eq!(unfit.status, 412);
        let unfit = put(daemon.data(), "/file", "If-Match: \"sha256-0\"\r\n", b"new");
        assert_eq!(unfit.status, 412);
        let fit = put(daemon.data(), "/file", &format!("If-Match: {tag}\r\n"), b"new");
        assert_eq!(fit.status, 204);
        assert_eq!(request(daemon.data(), "DELETE", "/copy", &format!("If-Match: {tag}\r\n")).status, 204);
        assert!(!fixture.path().join("copy").exists());
    });
}

#[test]
fn a_file_changed_from_outside_is_another() {
    each_daemon(|daemon, fixture| {
        let digested = format!("Repr-Digest: {SHA256}, {CRC32C}\r\n");
        for is_longer in [false, true] {
            let published = put(daemon.data(), "/file", &digested, HELLO);
            assert_eq!(published.field("ETag"), Some(tag_of(HELLO).as_str()));
            // The file is changed in place, with the attribute that holds the digest.
            let content: &[u8] = if is_longer { b"hello, world!" } else { b"HELLO, WORLD" };
            fixture.write("file", content);
            let seen = get(daemon.data(), "/file", "Want-Repr-Digest: sha-256=1\r\n");
            assert_eq!(seen.body, content);
            assert_ne!(seen.field("ETag"), published.field("ETag"));
            let digest = format!("sha-256=:{}:", base64(&Sha256::digest(content)));
            assert_eq!(seen.field("Repr-Digest"), Some(digest.as_str()));
            let changed = get(daemon.data(), "/file", &format!("If-None-Match: {}\r\n", tag_of(HELLO)));
            assert_eq!(changed.status, 200);
        }
    });
}

#[test]
fn parts_are_compared_each_and_the_whole_at_last() {
    let partial = "Content-Type: application/partial-upload\r\n";
    each_daemon(|daemon, _| {
        let begin = |digest: &str| {
            let fields =
                format!("Upload-Complete: ?0\r\nRepr-Digest: {digest}\r\nContent-Digest: {OTHER_SHA256}\r\n");
            let response = send(daemon.data(), "POST", "/file", &fields, b"hello");
            assert_eq!(response.status, 201, "{}", response.text());
            response.field("Location").unwrap().to_owned()
        };
        let append = |name: &str, fields: &str, body: &[u8]| {
            let fields = format!("{partial}Upload-Offset: 5\r\n{fields}");
            send(daemon.data(), "PATCH", name, &fields, body)
        };
        let name = begin(SHA256);
        // The body isn't the one that was sent: nothing of it stays.
        let fields = format!("Upload-Complete: ?1\r\nContent-Digest: {OTHER_SHA256}\r\n");
        let response = append(&name, &fields, b", world");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "digest-mismatched-values"));
        assert_eq!(response.field("Upload-Complete"), Some("?0"));
        assert_eq!(request(daemon.data(), "HEAD", &name, "").field("Upload-Offset"), Some("5"));
        let response = append(&name, "Upload-Complete: ?1\r\n", b", world");
        assert_eq!((response.status, response.field("ETag")), (201, Some(tag_of(HELLO).as_str())));
        // The file isn't the one that was promised.
        let name = begin(SHA256);
        let response = append(&name, "Upload-Complete: ?1\r\n", b", World");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "digest-mismatched-values"));
        assert_eq!(response.field("Upload-Complete"), Some("?1"));
        assert_eq!(get(daemon.data(), "/file", "").body, HELLO);
    });
}

#[test]
fn ranged_parts_are_compared_each_and_the_whole_at_last() {
    each_daemon(|daemon, _| {
        let part = |range: &str, digest: &str, body: &[u8]| {
            put(daemon.data(), "/file", &format!("Content-Range: bytes {range}/12\r\n{digest}"), body)
        };
        let wrong = format!("Content-Digest: {CRC32C}\r\n");
        let right = format!("Content-Digest: {OTHER_CRC32C}\r\n");
        assert_eq!(part("0-4", &wrong, b"hello").status, 400);
        let begun = part("0-4", &right, b"hello");
        assert_eq!(begun.status, 202);
        // Two uploads have begun by now, so the part needs the id.
        let id = format!("Upload-Id: {}\r\n", begun.field("Upload-Id").unwrap());
        assert_eq!(part("5-11", &(right + &id), b", world").status, 400);
        assert_eq!(part("1-1", &id, b"x").field("Upload-Offset"), Some("5"));
        let whole = format!("Repr-Digest: {SHA256}\r\n{id}");
        let response = part("5-11", &whole, b", world");
        assert_eq!(response.status, 201, "{}", response.text());
        assert_eq!(get(daemon.data(), "/file", "").body, HELLO);
        let other = format!("Repr-Digest: {OTHER_SHA256}\r\n");
        let begun = part("0-4", "", b"HELLO");
        let other = format!("{other}Upload-Id: {}\r\n", begun.field("Upload-Id").unwrap());
        assert_eq!(part("5-11", &other, b", WORLD").status, 400);
        assert_eq!(get(daemon.data(), "/file", "").body, HELLO);
    });
}

/// Digests of the whole may come with any part, before it or behind it.
#[test]
fn the_digest_of_the_whole_counts_whichever_part_it_comes_with() {
    each_daemon(|daemon, fixture| {
        let (right, wrong) =
            (format!("Repr-Digest: {SHA256}\r\n"), format!("Repr-Digest: {OTHER_SHA256}\r\n"));
        let part = |path: &str, range: &str, fields: &str| {
            let (first, last) = range.split_once('-').unwrap();
            let body = &HELLO[first.parse().unwrap()..=last.parse().unwrap()];
            let range = format!("Content-Range: bytes {range}/12\r\n");
            let Some(trailer) = fields.strip_prefix("behind it ") else {
                return put(daemon.data(), path, &(range + fields), body);
            };
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", path, &(range + "Transfer-Encoding: chunked\r\n")));
            let chunks = chunked(body, 5);
            connection.send(&chunks[..chunks.len() - 2]);
            connection.send(format!("{trailer}\r\n"));
            connection.response_to("PUT")
        };
        let behind = |fields: &str| format!("behind it {fields}");
        let begin = |path: &str, fields: &str| {
            let begun = part(path, "0-4", fields);
            assert_eq!(begun.status, 202, "{}", begun.text());
            format!("Upload-Id: {}\r\n", begun.field("Upload-Id").unwrap())
        };
        // The digest comes with the first part, or one in the middle, and is compared at last.
        for (path, first, middle) in [
            ("/1", behind(&wrong), String::new()),
            ("/2", String::new(), wrong.clone()),
            ("/3", String::new(), behind(&wrong)),
        ] {
            begin(path, &first);
            assert_eq!(part(path, "5-8", &middle).status, 202, "{path}");
            let last = part(path, "9-11", "");
            assert_eq!(
                (last.status, last.problem_kind().as_str()),
                (400, "digest-mismatched-values"),
                "{path}"
            );
            assert!(!fixture.path().join(&path[1..]).exists());
        }
        // The two digests can't both be the file's: the part isn't taken.
        let id = begin("/file", &right);
        for conflicting in [wrong.clone() + &id, behind(&wrong)] {
            let refused = part("/file", "5-8", &conflicting);
            assert_eq!(refused.status, 400, "{conflicting}");
            assert!(refused.text().contains("an earlier part"), "{}", refused.text());
        }
        assert_eq!(part("/file", "5-8", &(right.clone() + &id)).status, 202);
        assert_eq!(part("/file", "9-11", &behind(&right)).status, 201);
        assert_eq!(get(daemon.data(), "/file", "").body, HELLO);
    });
}

/// The rule holds for an upload with a name of its own too.
#[test]
fn the_digest_of_the_whole_counts_with_each_append() {
    let append = "Content-Type: application/partial-upload\r\n";
    each_daemon(|daemon, fixture| {
        let begin = |fields: &str| {
            let fields = format!("Upload-Complete: ?0\r\n{fields}");
            let response = send(daemon.data(), "POST", "/file", &fields, b"hello");
            assert_eq!(response.status, 201, "{}", response.text());
            response.field("Location").unwrap().to_owned()
        };
        let go_on = |name: &str, offset: usize, fields: &str, body: &[u8]| {
            let fields = format!("{append}Upload-Offset: {offset}\r\n{fields}");
            send(daemon.data(), "PATCH", name, &fields, body)
        };
        let wrong = format!("Repr-Digest: {OTHER_SHA256}\r\n");
        let (last, more) = ("Upload-Complete: ?1\r\n", "Upload-Complete: ?0\r\n");
        let response = go_on(&begin(""), 5, &format!("{last}{wrong}"), b", world");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "digest-mismatched-values"));
        let name = begin("");
        assert_eq!(go_on(&name, 5, &format!("{more}{wrong}"), b", wo").status, 204);
        let response = go_on(&name, 9, last, b"rld");
        assert_eq!((response.status, response.problem_kind().as_str()), (400, "digest-mismatched-values"));
        assert!(!fixture.path().join("file").exists());
        // One digest is malformed, and one contradicts the first: nothing of the body is taken.
        let name = begin(&format!("Repr-Digest: {SHA256}\r\n"));
        for (digest, what) in [("Repr-Digest: sha-256=:AA==:\r\n", "malformed"), (&*wrong, "another")] {
            let response = go_on(&name, 5, &format!("{last}{digest}"), b", world");
            assert_eq!(response.status, 400, "{what}");
            assert_eq!(request(daemon.data(), "HEAD", &name, "").field("Upload-Offset"), Some("5"), "{what}");
        }
        assert_eq!(go_on(&name, 5, last, b", world").status, 201);
        assert_eq!(get(daemon.data(), "/file", "").body, HELLO);
    });
}

#[test]
fn a_digest_outlives_the_daemon() {
    for driver in crate::harness::drivers() {
        let fixture = Fixture::new();
        let settings = crate::harness::uploading(fixture.path());
        let start = || TestDaemon::start(Settings { driver, etag: EtagChoice::Digest, ..settings.clone() });
        let daemon = start();
        let response = put(daemon.data(), "/file", &format!("Repr-Digest: {SHA256}\r\n"), HELLO);
        assert_eq!(response.status, 201);
        drop(daemon);
        let seen = get(start().data(), "/file", "");
        assert_eq!(seen.field("ETag"), Some(tag_of(HELLO).as_str()), "{driver:?}");
    }
}
