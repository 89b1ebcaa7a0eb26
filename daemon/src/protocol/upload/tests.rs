use super::*;
use crate::protocol::http1::request::{Progress, parse};
use proptest::prelude::*;

const UPLOAD: &str = "/a/.streamd-uploads/0123456789abcdef0123456789abcdef";
const PARTIAL: &str = "Content-Type: application/partial-upload\r\n";

fn step(method: &str, path: &str, fields: &str) -> Result<UploadStep, UploadRequestError> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    match parse(head.as_bytes()) {
        Ok(Progress::Complete { request, .. }) => UploadStep::of(&request),
        other => panic!("{head:?} gave {other:?}"),
    }
}

#[test]
fn creations_are_told_by_upload_complete() {
    let table = [
        ("", None),
        ("Content-Length: 5\r\n", None),
        ("Content-Length: 5\r\nUpload-Length: 5\r\n", None),
        ("Upload-Complete: ?1\r\n", Some((true, Some(0)))),
        ("Upload-Complete: ?0\r\n", Some((false, None))),
        ("Upload-Complete: ?1;a=b\r\n", Some((true, Some(0)))),
        ("Upload-Complete: ?1\r\nContent-Length: 5\r\n", Some((true, Some(5)))),
        ("Upload-Complete: ?1\r\nContent-Length: 5\r\nUpload-Length: 5\r\n", Some((true, Some(5)))),
        ("Upload-Complete: ?0\r\nContent-Length: 5\r\n", Some((false, None))),
        ("Upload-Complete: ?0\r\nContent-Length: 5\r\nUpload-Length: 9\r\n", Some((false, Some(9)))),
        ("Upload-Complete: ?0\r\nContent-Length: 5\r\nUpload-Length: 5\r\n", Some((false, Some(5)))),
        ("Upload-Complete: ?0\r\nUpload-Length: 0\r\n", Some((false, Some(0)))),
        ("Upload-Complete: ?1\r\nTransfer-Encoding: chunked\r\n", Some((true, None))),
        ("Upload-Complete: ?1\r\nTransfer-Encoding: chunked\r\nUpload-Length: 9\r\n", Some((true, Some(9)))),
        ("Upload-Complete: ?1\r\nUpload-Offset: 0\r\nContent-Length: 5\r\n", Some((true, Some(5)))),
        ("Content-Range: bytes 0-4/9\r\nUpload-Length: 9\r\nContent-Length: 5\r\n", None),
        ("Transfer-Encoding: chunked\r\nUpload-Length: 9\r\n", None),
    ];
    for (fields, expected) in table {
        let expected = expected
            .map_or(UploadStep::Neither, |(complete, length)| UploadStep::Create { complete, length });
        for method in ["PUT", "POST"] {
            assert_eq!(step(method, "/a/b", fields), Ok(expected), "{method} {fields:?}");
        }
    }
}

#[test]
fn appends_say_where_and_whether_they_are_the_last() {
    let table = [
        ("Upload-Offset: 0\r\nUpload-Complete: ?0\r\n", (0, false, None)),
        ("Upload-Offset: 7\r\nUpload-Complete: ?1\r\n", (7, true, Some(7))),
        ("Upload-Offset: 7\r\nUpload-Complete: ?0\r\nContent-Length: 3\r\n", (7, false, None)),
        ("Upload-Offset: 7\r\nUpload-Complete: ?1\r\nContent-Length: 3\r\n", (7, true, Some(10))),
        ("Upload-Offset: 7\r\nUpload-Complete: ?1\r\nTransfer-Encoding: chunked\r\n", (7, true, None)),
        (
            "Upload-Offset: 7\r\nUpload-Complete: ?0\r\nContent-Length: 3\r\nUpload-Length: 10\r\n",
            (7, false, Some(10)),
        ),
        (
            "Upload-Offset: 999999999999998\r\nUpload-Complete: ?1\r\nContent-Length: 1\r\n",
            (INTEGER_MAX - 1, true, Some(INTEGER_MAX)),
        ),
    ];
    for (fields, (offset, complete, length)) in table {
        let expected = UploadStep::Append { offset, complete, length };
        assert_eq!(step("PATCH", UPLOAD, &format!("{PARTIAL}{fields}")), Ok(expected), "{fields:?}");
    }
    let parameters =
        "Content-Type: Application/Partial-Upload ;a=b\r\nUpload-Offset: 1\r\nUpload-Complete: ?0\r\n";
    assert!(step("PATCH", UPLOAD, parameters).is_ok());
}

#[test]
fn reads_and_removals_ask_nothing() {
    for method in ["GET", "HEAD", "DELETE"] {
        for path in ["/a", UPLOAD] {
            let fields = "Upload-Complete: ?1\r\nUpload-Offset: 5\r\n";
            assert_eq!(step(method, path, fields), Ok(UploadStep::Neither), "{method} {path}");
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let inconsistent = |stated, end| UploadRequestError::InconsistentLength { stated, end };
    let creations = [
        ("Upload-Complete: ?1\r\nUpload-Offset: 5\r\n", UploadRequestError::Offset { offset: 5 }, 400),
        // If these were accepted, a part would be published as the whole.
        ("Upload-Offset: 5\r\nContent-Length: 5\r\n", UploadRequestError::Offset { offset: 5 }, 400),
        ("Upload-Offset: 0\r\n", UploadRequestError::Offset { offset: 0 }, 400),
        (
            "Content-Range: bytes 0-4/5\r\nUpload-Length: 99\r\nContent-Length: 5\r\n",
            inconsistent(99, 5),
            400,
        ),
        ("Upload-Length: 99\r\nContent-Length: 5\r\n", inconsistent(99, 5), 400),
        ("Upload-Incomplete: ?1\r\nContent-Length: 5\r\n", UploadRequestError::Obsolete, 400),
        ("Upload-Complete: ?0\r\nUpload-Draft-Interop-Version: 4\r\n", UploadRequestError::Obsolete, 400),
        ("Upload-Complete: ?1\r\nContent-Range: bytes 0-4/9\r\n", UploadRequestError::ContentRange, 400),
        ("Upload-Complete: ?0\r\nContent-Range: nonsense\r\n", UploadRequestError::ContentRange, 400),
        ("Upload-Offset: 5\r\nContent-Range: bytes 5-8/9\r\n", UploadRequestError::ContentRange, 400),
        ("Upload-Complete: ?1\r\nUpload-Length: 9\r\nContent-Length: 5\r\n", inconsistent(9, 5), 400),
        ("Upload-Complete: ?1\r\nUpload-Length: 4\r\nContent-Length: 5\r\n", inconsistent(4, 5), 400),
        ("Upload-Complete: ?0\r\nUpload-Length: 4\r\nContent-Length: 5\r\n", inconsistent(4, 5), 400),
        ("Upload-Complete: ?1\r\nUpload-Length: 4\r\n", inconsistent(4, 0), 400),
        ("Upload-Complete: ?0\r\nContent-Length: 1000000000000000\r\n", UploadRequestError::TooLong, 413),
    ];
    for (fields, error, status) in creations {
        for method in ["PUT", "POST"] {
            assert_eq!(step(method, "/a/b", fields), Err(error), "{method} {fields:?}");
        }
        assert_eq!((error.status(), error.allow()), (status, None), "{fields:?}");
    }
    let appends = [
        ("", UploadRequestError::NoOffset, 400),
        ("Upload-Complete: ?1\r\n", UploadRequestError::NoOffset, 400),
        ("Upload-Offset: 5\r\n", UploadRequestError::NoComplete, 400),
        (
            "Upload-Offset: 5\r\nUpload-Complete: ?1\r\nContent-Range: x\r\n",
            UploadRequestError::ContentRange,
            400,
        ),
        ("Upload-Offset: 5\r\nUpload-Complete: ?0\r\nUpload-Length: 4\r\n", inconsistent(4, 5), 400),
        ("Upload-Offset: 5\r\nUpload-Complete: ?1\r\nUpload-Length: 9\r\n", inconsistent(9, 5), 400),
        (
            "Upload-Offset: 5\r\nUpload-Complete: ?1\r\nUpload-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            inconsistent(4, 5),
            400,
        ),
        (
            "Upload-Offset: 999999999999999\r\nUpload-Complete: ?0\r\nContent-Length: 1\r\n",
            UploadRequestError::TooLong,
            413,
        ),
        (
            "Upload-Offset: 1\r\nUpload-Complete: ?0\r\nContent-Length: 9223372036854775807\r\n",
            UploadRequestError::TooLong,
            413,
        ),
    ];
    for (fields, error, status) in appends {
        assert_eq!(step("PATCH", UPLOAD, &format!("{PARTIAL}{fields}")), Err(error), "{fields:?}");
        assert_eq!((error.status(), error.allow()), (status, None), "{fields:?}");
    }
    assert_eq!(inconsistent(4, 5).kind(), Kind::InconsistentLength);
    assert_eq!(UploadRequestError::NoOffset.kind(), Kind::AboutBlank);
}

/// If these values were ignored, a part would be published as the whole.
#[test]
fn values_that_a_field_cannot_have_are_refused() {
    let table = [
        ("Upload-Complete", &["1", "0", "true", "", "\"?1\"", "?2"][..]),
        ("Upload-Offset", &["-1", "x", "1000000000000000", "5.0", ""]),
        ("Upload-Length", &["-5", "6.0", "five", "?1"]),
        ("Upload-Draft-Interop-Version", &["9.0", "?1", ""]),
    ];
    for (field, values) in table {
        for value in values {
            let lines = format!("{PARTIAL}Content-Length: 5\r\n{field}: {value}\r\n");
            for (method, path) in [("PUT", "/a"), ("POST", "/a"), ("PATCH", UPLOAD)] {
                let error = step(method, path, &lines).unwrap_err();
                assert_eq!(
                    (error, error.status()),
                    (UploadRequestError::Malformed { field }, 400),
                    "{method} {value:?}"
                );
                assert!(error.to_string().contains(field));
            }
        }
    }
}

#[test]
fn the_first_version_that_is_known_has_no_media_type() {
    let fields = "Upload-Offset: 5\r\nUpload-Complete: ?1\r\nUpload-Draft-Interop-Version: ";
    assert!(step("PATCH", UPLOAD, &format!("{fields}5\r\n")).is_ok());
    assert_eq!(step("PATCH", UPLOAD, &format!("{fields}6\r\n")), Err(UploadRequestError::MediaType));
    let other = format!("Content-Type: text/plain\r\n{fields}5\r\n");
    assert_eq!(step("PATCH", UPLOAD, &other), Err(UploadRequestError::MediaType));
}

#[test]
fn a_media_type_that_is_no_part_is_415() {
    let fields = "Upload-Offset: 5\r\nUpload-Complete: ?1\r\n";
    for media_type in
        ["", "Content-Type: application/octet-stream\r\n", "Content-Type: application/partial-uploads\r\n"]
    {
        let error = step("PATCH", UPLOAD, &format!("{media_type}{fields}")).unwrap_err();
        assert_eq!((error, error.status()), (UploadRequestError::MediaType, 415), "{media_type:?}");
    }
}

#[test]
fn methods_fit_a_file_or_an_upload() {
    let table = [
        ("PATCH", "/a", "GET, HEAD, PUT, POST, DELETE, OPTIONS"),
        ("PATCH", "/.streamd-uploads/x", "GET, HEAD, PUT, POST, DELETE, OPTIONS"),
        ("PUT", UPLOAD, "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("POST", UPLOAD, "GET, HEAD, PATCH, DELETE, OPTIONS"),
    ];
    for (method, path, allow) in table {
        let error = step(method, path, &format!("{PARTIAL}Upload-Complete: ?1\r\n")).unwrap_err();
        assert_eq!((error.status(), error.allow()), (405, Some(allow)), "{method} {path}");
    }
}

#[test]
fn versions_that_are_known_get_a_104() {
    let table = [
        (None, None),
        (Some("6"), Some(6)),
        (Some("9"), Some(9)),
        (Some("5"), Some(5)),
        (Some("4"), None),
        (Some("10"), None),
        (Some("9.0"), None),
        (Some("?1"), None),
        (Some(""), None),
    ];
    for (value, expected) in table {
        let fields = UploadFields::parse(None, None, None, value.map(str::as_bytes));
        assert_eq!(fields.announced(), expected, "{value:?}");
    }
}

#[test]
fn answers_are_spelled_as_structured_fields() {
    assert_eq!((complete(true), complete(false)), ("?1", "?0"));
    assert_eq!(limit(1 << 40, Duration::from_secs(86_400)), "max-size=1099511627776, max-age=86400");
    assert_eq!(limit(u64::MAX, Duration::MAX), "max-size=999999999999999, max-age=999999999999999");
}

proptest! {
    /// Whatever a request says, no upload is taken for longer than the request says it is.
    #[test]
    fn lengths_never_contradict_the_body(
        offset in 0..20u64,
        is_append: bool,
        is_complete: bool,
        stated in prop::option::of(0..30u64),
        body in prop::option::of(0..20u64),
    ) {
        let offset = if is_append { offset } else { 0 };
        let mut fields = format!("{PARTIAL}Upload-Complete: {}\r\n", complete(is_complete));
        if is_append {
            fields += &format!("Upload-Offset: {offset}\r\n");
        }
        if let Some(stated) = stated {
            fields += &format!("Upload-Length: {stated}\r\n");
        }
        fields += &body.map_or("Transfer-Encoding: chunked\r\n".into(), |body| format!("Content-Length: {body}\r\n"));
        let found = if is_append { step("PATCH", UPLOAD, &fields) } else { step("PUT", "/a", &fields) };
        let length = match found {
            Ok(UploadStep::Create { complete, length }) => {
                prop_assert!(!is_append && complete == is_complete);
                length
            }
            Ok(UploadStep::Append { offset: found, complete, length }) => {
                prop_assert!(is_append && (found, complete) == (offset, is_complete));
                length
            }
            Ok(UploadStep::Neither) => return Err(TestCaseError::fail("no upload")),
            Err(UploadRequestError::InconsistentLength { stated: found, end }) => {
                prop_assert_eq!((Some(found), end), (stated, offset + body.unwrap_or(0)));
                prop_assert!(found < end || (is_complete && body.is_some() && found != end));
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        match body {
            Some(body) if is_complete => prop_assert_eq!(length, Some(offset + body)),
            _ => prop_assert_eq!(length, stated),
        }
        prop_assert!(length.is_none_or(|length| length >= offset + body.unwrap_or(0)));
    }

    #[test]
    fn no_fields_panic(values in prop::array::uniform4(prop::option::of("[ -~]{0,20}"))) {
        let [offset, complete, length, version] =
            values.each_ref().map(|value| value.as_deref().map(str::as_bytes));
        let fields = UploadFields::parse(offset, complete, length, version);
        prop_assert!([fields.offset, fields.length].into_iter().flatten().all(|value| value <= INTEGER_MAX));
    }
}
