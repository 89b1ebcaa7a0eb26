//! Tests of the counters of uploads: each request that brings something counts once.

use streamd::telemetry::{Label, UploadOutcome};

use crate::harness::{
    Connection, MIB, TestDaemon, each_uploading, pattern, put, put_text, request, request_text, send,
    wait_until,
};

/// Returns the counts of published, kept, refused and broken uploads; none of these tests has a disk that fails.
fn counts(daemon: &TestDaemon) -> [u64; 4] {
    let outcomes =
        [UploadOutcome::Published, UploadOutcome::Kept, UploadOutcome::Refused, UploadOutcome::BrokenOff];
    assert_eq!(UploadOutcome::ALL.len(), outcomes.len() + 1);
    assert_eq!(daemon.count(|worker| worker.uploads.get(UploadOutcome::Failed)), 0);
    outcomes.map(|outcome| daemon.count(|worker| worker.uploads.get(outcome)))
}

#[test]
fn each_request_counts_as_what_became_of_it() {
    each_uploading(
        |settings| settings,
        |daemon, _| {
            assert_eq!(put(daemon.data(), "/file", "", b"hello").status, 201);
            assert_eq!(put(daemon.data(), "/file", "", b"hello").status, 204);
            assert_eq!(counts(daemon), [2, 0, 0, 0]);
            assert_eq!(put(daemon.data(), "/file", "Content-Range: bytes 0-4/9\r\n", b"hello").status, 202);
            assert_eq!(put(daemon.data(), "/file", "If-None-Match: *\r\n", b"hello").status, 412);
            assert_eq!(counts(daemon), [2, 1, 1, 0]);
            let response = send(daemon.data(), "POST", "/file", "Upload-Complete: ?0\r\n", b"hello");
            let name = response.field("Location").unwrap().to_owned();
            let append = |offset: usize, complete: &str| {
                let fields = format!(
                    "Content-Type: application/partial-upload\r\nUpload-Offset: {offset}\r\n\
                     Upload-Complete: {complete}\r\n"
                );
                send(daemon.data(), "PATCH", &name, &fields, b"hello").status
            };
            assert_eq!(append(5, "?0"), 204);
            assert_eq!(counts(daemon), [2, 3, 1, 0]);
            assert_eq!(append(9, "?0"), 409);
            assert_eq!(append(10, "?1"), 204);
            assert_eq!(counts(daemon), [3, 3, 2, 0]);
            // These requests bring nothing.
            assert_eq!(request(daemon.data(), "HEAD", &name, "").status, 204);
            assert_eq!(request(daemon.data(), "DELETE", &name, "").status, 204);
            assert_eq!(request(daemon.data(), "DELETE", "/absent", "").status, 404);
            assert_eq!(request(daemon.data(), "DELETE", "/file", "").status, 204);
            assert_eq!(counts(daemon), [3, 3, 2, 0]);
            assert_eq!(daemon.count(|worker| worker.bytes_uploaded.get()), 6 * 5);
        },
    );
}

#[test]
fn bodies_that_break_off_count_too() {
    let content = pattern(3 * MIB);
    each_uploading(
        |settings| settings,
        |daemon, _| {
            for (count, expected) in [(2 * MIB, [0, 1, 0, 0]), (1_000, [0, 1, 0, 1])] {
                let mut connection = Connection::open(daemon.data());
                let text = put_text("/file", "", &content);
                connection.send(&text[..text.len() - content.len() + count]);
                connection.finish();
                connection.receive_what_comes();
                wait_until("its count", || counts(daemon) == expected);
            }
            assert_eq!(daemon.count(|worker| worker.bytes_uploaded.get()), 2 * MIB as u64 + 1_000);
            let mut connection = Connection::open(daemon.data());
            connection.send(request_text("PUT", "/file", "Transfer-Encoding: chunked\r\n") + "5\r\nhello!");
            assert_eq!(connection.response_to("PUT").status, 400);
            assert_eq!(counts(daemon), [0, 1, 1, 1]);
        },
    );
}
