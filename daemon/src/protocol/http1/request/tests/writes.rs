//! Tests of the fields that only methods that write have.

use super::*;
use crate::protocol::content_range::{ContentRange, ContentRangeError};
use crate::protocol::digest::{Digest, DigestError};
use crate::protocol::name::UploadId;
use crate::protocol::upload::UploadFields;

const WRITES: [(&str, Method); 4] =
    [("PUT", Method::Put), ("POST", Method::Post), ("PATCH", Method::Patch), ("DELETE", Method::Delete)];

fn head(method: &str, lines: &str) -> String {
    format!("{method} /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn write(lines: &str) -> WriteFields {
    *complete(head("PUT", lines)).write.unwrap()
}

#[test]
fn methods_are_reads_or_writes() {
    for (name, method) in WRITES {
        let request = complete(head(name, ""));
        assert_eq!((request.method, request.method.as_str(), method.is_read()), (method, name, false));
        let expected = WriteFields {
            authorization: None,
            host: Some(b"a".as_slice().into()),
            origin: None,
            is_cross_site: false,
            is_forwarded: false,
            content_range: Ok(None),
            content_type: None,
            content_encoding: None,
            repr_digest: Ok(vec![]),
            content_digest: Ok(vec![]),
            upload: UploadFields::default(),
            upload_id: Ok(None),
            is_tus: false,
            is_framed: false,
        };
        assert_eq!(request.write.as_deref(), Some(&expected), "{name}");
    }
    for name in ["GET", "HEAD"] {
        // A fault in a field that doesn't matter to a read is no reason to refuse it.
        let request = complete(head(name, "Content-Type: a\r\nContent-Type: b\r\nContent-Range: x\r\n"));
        assert!(request.method.is_read() && request.write.is_none(), "{name}");
    }
    assert_eq!(status("put / HTTP/1.1\r\n"), Some(501));
    assert_eq!(status("PUT * HTTP/1.1\r\nHost: a\r\n\r\n"), Some(400));
}

#[test]
fn fields_of_writes_are_read() {
    let fields = write(
        "authorization: Bearer secret\r\nORIGIN: http://a\r\nContent-Range: bytes 5-9/20\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
         Repr-Digest: md5=:AAAA:\r\nRepr-Digest: crc32c=:4waSgw==:\r\nContent-Digest: crc32c=:AAAAAA==:\r\n\
         Upload-Offset: 5\r\nUpload-Complete: ?0\r\nUpload-Length: 20\r\nUpload-Draft-Interop-Version: 9\r\n\
         Upload-Draft-Interop-Versions: 8\r\nupload-id: 00000000000000000000000000000a1f\r\n",
    );
    assert_eq!(fields.authorization.unwrap().bearer(), Some(b"secret".as_slice()));
    assert_eq!(fields.origin.as_deref(), Some(b"http://a".as_slice()));
    assert_eq!(fields.content_range, Ok(Some(ContentRange { first: 5, end: 10, total: 20 })));
    assert_eq!(fields.content_type.as_deref(), Some(b"text/plain; charset=utf-8".as_slice()));
    assert_eq!(fields.repr_digest, Ok(vec![Digest::Crc32c([0xe3, 0x06, 0x92, 0x83])]));
    assert_eq!(fields.content_digest, Ok(vec![Digest::Crc32c([0; 4])]));
    let upload = UploadFields {
        offset: Some(5),
        complete: Some(false),
        length: Some(20),
        interop_version: Some(9),
        ..UploadFields::default()
    };
    assert_eq!(fields.upload, upload);
    assert_eq!(fields.upload_id, Ok(Some(UploadId(0xa1f))));
    assert!(fields.is_framed);
    let request = complete(head("PUT", "Want-Repr-Digest: sha-256=1\r\nIf-None-Match: *\r\n"));
    assert_eq!(request.want_repr_digest(), Some(b"sha-256=1".as_slice()));
    assert_eq!(request.preconditions.if_none_match.as_deref(), Some(b"*".as_slice()));
}

#[test]
fn faults_of_values_are_kept() {
    let fields = write(
        "Content-Range: bytes 0-4/*\r\nRepr-Digest: sha-256\r\nContent-Digest: sha-256=:AA:,\r\n\
         Upload-Offset: five\r\nUpload-Complete: yes\r\nUpload-Id: 0000000000000000000000000000A1F\r\n",
    );
    assert_eq!(fields.content_range, Err(ContentRangeError::TotalUnknown));
    assert!(matches!(fields.repr_digest, Err(DigestError::NoBytes { .. })));
    assert_eq!(fields.content_digest, Err(DigestError::Malformed));
    assert!(fields.upload_id.is_err());
    let malformed = Some("Upload-Offset");
    assert_eq!(fields.upload, UploadFields { malformed, ..UploadFields::default() });
}

#[test]
fn fields_that_must_not_repeat_are_refused() {
    let names = [
        "Authorization",
        "Origin",
        "Content-Range",
        "Content-Type",
        "Upload-Offset",
        "Upload-Complete",
        "Upload-Length",
        "Upload-Draft-Interop-Version",
        "Upload-Id",
    ];
    for name in names {
        let lines = format!("{name}: 1\r\n{}: 1\r\n", name.to_lowercase());
        for (method, _) in WRITES {
            let error = parse(head(method, &lines).as_bytes()).unwrap_err();
            assert_eq!(error, RequestError::FieldRepeated { name }, "{method}");
            assert_eq!((error.status(), error.allow(true)), (400, None), "{method}");
        }
    }
}

#[test]
fn bodies_of_writes_are_framed_as_strictly() {
    let table = [
        ("Content-Length: 5\r\n", Ok((Body::Length(5), true))),
        ("Content-Length: 0\r\n", Ok((Body::None, true))),
        ("Transfer-Encoding: chunked\r\n", Ok((Body::Chunked, true))),
        ("", Ok((Body::None, false))),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
    ];
    for (lines, expected) in table {
        match expected {
            Ok(expected) => {
                let request = complete(head("PUT", lines));
                assert_eq!((request.body, request.write.unwrap().is_framed), expected, "{lines:?}");
            }
            Err(expected) => assert_eq!(status(head("PUT", lines)), Some(expected), "{lines:?}"),
        }
    }
}

#[test]
fn credentials_are_bearer_tokens_and_not_shown() {
    let table = [
        ("Bearer secret", Some("secret")),
        ("bearer  secret", Some("secret")),
        ("BEARER secret==", Some("secret==")),
        ("Bearer", None),
        ("Bearersecret", None),
        ("Basic secret", None),
        ("secret", None),
        ("", None),
    ];
    for (value, token) in table {
        let fields = write(&format!("Authorization: {value}\r\n"));
        let credentials = fields.authorization.as_ref().unwrap();
        assert_eq!(credentials.bearer(), token.map(str::as_bytes), "{value:?}");
        assert!(!format!("{fields:?}").contains("secret"), "{fields:?}");
    }
}

#[test]
fn media_types_are_compared_without_case_and_parameters() {
    let table = [
        ("Content-Type: text/plain\r\n", true),
        ("Content-Type: TEXT/Plain ; charset=utf-8\r\n", true),
        ("Content-Type: text/plainer\r\n", false),
        ("Content-Type: text\r\n", false),
        ("Content-Type:\r\n", false),
        ("", false),
    ];
    for (lines, expected) in table {
        assert_eq!(write(lines).has_content_type("text/plain"), expected, "{lines:?}");
    }
}
