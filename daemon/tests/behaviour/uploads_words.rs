//! Tests that clients meant for another kind of server are told what this one takes.

use crate::harness::{TestDaemon, each_uploading, get, partials, send};

fn assert_told(daemon: &TestDaemon, request: (&str, &str, &str, &[u8]), status: u16, words: &[&str]) {
    let (method, path, fields, body) = request;
    let response = send(daemon.data(), method, path, fields, body);
    assert_eq!(response.status, status, "{method} {path} {fields}");
    let detail = response.problem();
    for word in words {
        assert!(detail.contains(word), "{method} {path} {fields}: {detail}");
    }
    assert!(!detail.contains("Upload-Complete"), "{detail}");
}

#[test]
fn clients_of_other_servers_are_told_what_this_one_takes() {
    each_uploading(
        |settings| settings,
        |daemon, fixture| {
            let form = b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nhello\r\n--x--\r\n";
            let of_form = "Content-Type: multipart/form-data; boundary=x\r\n";
            // The requests are those of `curl -F`, with and without `-X PUT`, and of `curl -d`.
            assert_told(daemon, ("POST", "/file", of_form, form), 415, &["form", "curl -T FILE URL"]);
            assert_told(daemon, ("PUT", "/file", of_form, form), 415, &["form", "curl -T FILE URL"]);
            let of_data = "Content-Type: application/x-www-form-urlencoded\r\n";
            assert_told(daemon, ("POST", "/file", of_data, b"a=b"), 415, &["form", "curl -T FILE URL"]);
            // The requests are those of docker push.
            for (method, path) in [
                ("POST", "/v2/image/blobs/uploads/"),
                ("POST", "/v2/a/image/blobs/uploads/?mount=sha256:0"),
                ("PATCH", "/v2/image/blobs/uploads/0123"),
            ] {
                assert_told(daemon, (method, path, "", b"x"), 404, &["registry", "docker save"]);
            }
            // The requests are those of tus 1.0: a creation, and an append to it.
            let tus = "Tus-Resumable: 1.0.0\r\n";
            let creation = format!("{tus}Upload-Length: 5\r\nUpload-Metadata: name aGVsbG8=\r\n");
            assert_told(daemon, ("POST", "/file", &creation, b""), 415, &["tus 1.0", "ietf-draft-05"]);
            let part = format!("{tus}Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n");
            assert_told(daemon, ("PATCH", "/file", &part, b"hello"), 415, &["tus 1.0", "ietf-draft-05"]);
            // A directory of that name can be used all the same.
            std::fs::create_dir(fixture.path().join("v2")).unwrap();
            assert_eq!(send(daemon.data(), "PUT", "/v2/file", "", b"hello").status, 201);
            assert_eq!(get(daemon.data(), "/file", "").status, 404);
            assert!(partials(fixture.path()).is_empty());
        },
    );
}
