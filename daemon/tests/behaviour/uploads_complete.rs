//! Tests of when an upload is whole: never by a field that can't be understood, and always once all of a known
//! length is there.

use streamd::config::Settings;

use crate::harness::{
    Connection, Fixture, Response, TestDaemon, chunked, each_uploading, get, partials, put, request,
    request_text, send, write_text,
};

const PARTIAL: &str = "Content-Type: application/partial-upload\r\n";

/// The sha256sum and the CRC-32C of `hello`, as digest fields have them.
const SHA256: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const CRC32C: &str = "crc32c=:mnG7TA==:";

/// The digests of other bytes.
const OTHER: &str = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
const OTHER_CRC32C: &str = "crc32c=:AAAAAA==:";

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| Settings { cache_valid_ms: 0, ..settings }, test);
}

/// Sends a chunked body with trailer fields, each line ended by CRLF.
fn send_with_trailers(
    daemon: &TestDaemon,
    start: (&str, &str, &str),
    body: &[u8],
    trailers: &str,
) -> Response {
    let (method, path, fields) = start;
    let mut text =
        request_text(method, path, &format!("Transfer-Encoding: chunked\r\n{fields}")).into_bytes();
    let mut body = chunked(body, 2);
    body.truncate(body.len() - 2);
    text.extend_from_slice(&body);
    text.extend_from_slice(format!("{trailers}\r\n").as_bytes());
    let mut connection = Connection::open(daemon.data());
    connection.send(text);
    connection.response_to(method)
}

#[test]
fn a_field_that_cannot_be_understood_publishes_nothing() {
    each_daemon(|daemon, fixture| {
        for fields in [
            "Upload-Complete: 0\r\nUpload-Length: 100\r\n",
            "Upload-Complete: 0\r\nUpload-Length: 100\r\nUpload-Draft-Interop-Version: 6\r\n",
            "Upload-Complete: true\r\n",
            "Upload-Complete: ?1\r\nUpload-Length: five\r\n",
            "Upload-Offset: zero\r\n",
            "Upload-Incomplete: ?1\r\n",
            "Upload-Incomplete: ?1\r\nUpload-Draft-Interop-Version: 3\r\n",
            "Upload-Complete: ?0\r\nUpload-Draft-Interop-Version: 4\r\n",
            "Upload-Length: 100\r\n",
            "Content-Range: bytes 0-4/5\r\nUpload-Length: 99\r\n",
            "Content-Range: bytes 0-4/5\r\nUpload-Complete: ?1\r\n",
        ] {
            for method in ["PUT", "POST"] {
                let response = send(daemon.data(), method, "/file", fields, b"hello");
                assert_eq!(response.status, 400, "{method} {fields}");
                assert!(!response.problem().is_empty());
            }
        }
        // The body is longer or shorter than it says.
        for length in [4, 6] {
            let mut connection = Connection::open(daemon.data());
            let fields = format!("Transfer-Encoding: chunked\r\nUpload-Length: {length}\r\n");
            connection.send(request_text("PUT", "/file", &fields));
            connection.send(chunked(b"hello", 5));
            assert_eq!(connection.response_to("PUT").status, 400, "{length}");
        }
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
        assert_eq!(put(daemon.data(), "/file", "Upload-Length: 5\r\n", b"hello").status, 201);
        let agreed = "Content-Range: bytes 0-4/5\r\nUpload-Length: 5\r\n";
        assert_eq!(put(daemon.data(), "/file", agreed, b"HELLO").status, 204);
    });
}

#[test]
fn digests_behind_a_body_are_compared() {
    each_daemon(|daemon, fixture| {
        let put = |path: &str, fields: &str, trailers: &str| {
            send_with_trailers(daemon, ("PUT", path, fields), b"hello", trailers)
        };
        for trailer in [
            format!("Repr-Digest: {OTHER}\r\n"),
            format!("X: y\r\ncontent-digest: {OTHER}\r\n"),
            format!("Content-Digest: {CRC32C}, {OTHER}\r\n"),
            format!("Repr-Digest: {CRC32C}\r\nContent-Digest: {OTHER_CRC32C}\r\n"),
        ] {
            for fields in
                ["", "Trailer: Repr-Digest\r\n", "Content-Range: bytes 0-4/5\r\n", "Upload-Complete: ?1\r\n"]
            {
                let response = put("/file", fields, &trailer);
                let kind = response.problem_kind();
                assert_eq!(
                    (response.status, kind.as_str()),
                    (400, "digest-mismatched-values"),
                    "{fields} {trailer}"
                );
                let document = response.problem_document();
                let mismatched = &document["mismatched_digests"][0];
                assert!(mismatched["header"].is_string(), "{document}");
            }
        }
        let malformed = put("/file", "", "Repr-Digest: nonsense=\r\n");
        assert_eq!((malformed.status, malformed.problem_kind().as_str()), (400, "digest-invalid-values"));
        // A digest before the body counts as well.
        let both = put("/file", &format!("Repr-Digest: {OTHER}\r\n"), &format!("Repr-Digest: {SHA256}\r\n"));
        assert_eq!(both.status, 400);
        assert_eq!(get(daemon.data(), "/file", "").status, 404);
        for name in ["Repr-Digest", "Content-Digest"] {
            for digest in [SHA256, CRC32C] {
                let right = format!("{name}: {digest}\r\nX: y\r\n");
                assert_eq!(put("/file", "", &right).status / 100, 2, "{right}");
                assert_eq!(get(daemon.data(), "/file", "").text(), "hello");
                std::fs::remove_file(fixture.path().join("file")).unwrap();
            }
        }
        // An upload with a name of its own may begin again with an empty partial.
        let left = partials(fixture.path());
        assert!(left.iter().all(|(_, length)| *length == 0), "{left:?}");
    });
}

#[test]
fn a_part_with_a_wrong_digest_behind_it_is_taken_back() {
    each_daemon(|daemon, _| {
        let response = send(daemon.data(), "POST", "/file", "Upload-Complete: ?0\r\n", b"HELLO");
        let name = response.field("Location").unwrap();
        let append = |trailers: &str| {
            let fields = format!("{PARTIAL}Upload-Offset: 5\r\nUpload-Complete: ?1\r\n");
            send_with_trailers(daemon, ("PATCH", name, &fields), b"hello", trailers)
        };
        for wrong in [format!("Content-Digest: {OTHER}\r\n"), "Content-Digest: nonsense=\r\n".to_owned()] {
            assert_eq!(append(&wrong).status, 400, "{wrong}");
            assert_eq!(request(daemon.data(), "HEAD", name, "").field("Upload-Offset"), Some("5"), "{wrong}");
        }
        assert_eq!(append(&format!("Content-Digest: {SHA256}\r\n")).status, 201);
        assert_eq!(get(daemon.data(), "/file", "").text(), "HELLOhello");
    });
}

/// A client that cuts a file into chunks may not know that one is the last.
#[test]
fn all_of_a_known_length_is_whole() {
    each_daemon(|daemon, fixture| {
        let assert_whole = |response: &Response, length: usize, content: &str| {
            assert_eq!(response.status, 201, "{}", response.text());
            assert_eq!(response.field("Upload-Complete"), Some("?1"));
            assert_eq!(response.field("Upload-Offset"), Some(length.to_string().as_str()));
            assert_eq!(get(daemon.data(), "/file", "").text(), content);
            std::fs::remove_file(fixture.path().join("file")).unwrap();
            assert!(partials(fixture.path()).is_empty());
        };
        // All of the length comes with the creation.
        for (fields, body) in [
            ("Upload-Complete: ?0\r\nUpload-Length: 5\r\n", "hello"),
            ("Upload-Complete: ?1\r\n", "hello"),
            ("Upload-Complete: ?0\r\nUpload-Length: 0\r\n", ""),
        ] {
            let response = send(daemon.data(), "POST", "/file", fields, body.as_bytes());
            assert!(response.field("Upload-Limit").is_some());
            assert_eq!(response.field("Location").is_some(), fields.contains("?0"), "{fields}");
            assert_whole(&response, body.len(), body);
        }
        // All of the length comes with appends, in each version that is spoken: the first has no media type.
        for version in 5..=9 {
            let spoken = format!("Upload-Draft-Interop-Version: {version}\r\n");
            let media_type = if version == 5 { "" } else { PARTIAL };
            for last in ["?0", "?1"] {
                let created = format!("Upload-Complete: ?0\r\nUpload-Length: 10\r\n{spoken}");
                let mut connection = Connection::open(daemon.data());
                connection.send(write_text("POST", "/file", &created, b"HELLO"));
                assert_eq!(connection.response_to("POST").status, 104, "{version}");
                let response = connection.response_to("POST");
                assert_eq!((response.status, response.field("Upload-Offset")), (201, Some("5")), "{version}");
                let name = response.field("Location").unwrap().to_owned();
                let fields = format!("{media_type}{spoken}Upload-Offset: 5\r\nUpload-Complete: {last}\r\n");
                let response = send(daemon.data(), "PATCH", &name, &fields, b"hello");
                assert_whole(&response, 10, "HELLOhello");
                let described = request(daemon.data(), "HEAD", &name, "");
                assert_eq!(described.field("Upload-Complete"), Some("?1"));
            }
        }
    });
}
