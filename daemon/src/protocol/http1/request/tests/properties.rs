use super::*;
use crate::protocol::http1::framing::{Framed, frame};
use proptest::prelude::*;

/// Generates valid heads of every shape.
fn head() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]);
    let target = prop::sample::select(vec!["/", "/a/b.txt?q", "/../%61", "http://a:80/b", "https://[::1]"]);
    let version = prop::sample::select(vec!["HTTP/1.0", "HTTP/1.1", "HTTP/1.3"]);
    let fields = vec![
        "Range: bytes=0-1",
        "If-Match: \"a\"",
        "If-None-Match: *",
        "Connection: close",
        "Accept: application/json",
        "X: y",
        "Expect: 100-continue",
        "Empty:",
        "User-Agent: a (b; c)",
        "Repr-Digest: sha-256=:AAAA:",
        "Want-Repr-Digest: crc32c=1",
        "Content-Length: 7",
    ];
    (
        prop::sample::select(vec!["", "\r\n", "\r\n\r\n"]),
        method,
        target,
        version,
        prop::sample::subsequence(fields, 0..8).prop_shuffle(),
    )
        .prop_map(|(empty_lines, method, target, version, fields)| {
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            format!("{empty_lines}{method} {target} {version}\r\nHost: a\r\n{fields}\r\n")
        })
}

/// Generates heads that are valid but for a few bytes written over them.
fn damaged_head() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n\0 \t:%/#\\,x".to_vec()), any::<u8>()];
    (head(), prop::collection::vec((any::<prop::sample::Index>(), byte), 1..5)).prop_map(|(head, damage)| {
        let mut bytes = head.into_bytes();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn every_beginning_of_a_valid_head_is_incomplete(head in head()) {
        complete(&head);
        for cut in 0..head.len() {
            prop_assert_eq!(parse(&head.as_bytes()[..cut]), Ok(Progress::Incomplete), "cut at {}", cut);
        }
    }

    #[test]
    fn what_follows_a_head_changes_nothing(head in head(), follower: Vec<u8>) {
        let alone = parse(head.as_bytes());
        let followed = [head.as_bytes(), &follower].concat();
        prop_assert_eq!(parse(&followed), alone);
    }

    /// A verdict once given stays: where the bytes are split can't decide about a request.
    #[test]
    fn the_verdict_does_not_depend_on_splits(bytes in damaged_head()) {
        let whole = parse(&bytes);
        for cut in 0..bytes.len() {
            match (parse(&bytes[..cut]), &whole) {
                (Ok(Progress::Incomplete), _) => {}
                (Ok(complete), whole) => prop_assert_eq!(&Ok(complete), whole, "cut at {}", cut),
                (Err(early), Err(late)) => prop_assert_eq!(early.status(), late.status(), "cut at {}", cut),
                (Err(early), Ok(_)) => prop_assert!(false, "cut at {}: {}", cut, early),
            }
        }
    }

    #[test]
    fn a_damaged_head_is_never_read_as_more_than_it_is(bytes in damaged_head()) {
        if let Ok(Progress::Complete { request, head_bytes, .. }) = parse(&bytes) {
            prop_assert!(head_bytes <= bytes.len());
            prop_assert!(bytes[..head_bytes].ends_with(b"\r\n\r\n"));
            let line_feeds = memchr::memchr_iter(b'\n', &bytes[..head_bytes]);
            prop_assert!(line_feeds.into_iter().all(|at| at > 0 && bytes[at - 1] == b'\r'));
            prop_assert!(!bytes[..head_bytes].contains(&0));
            prop_assert_eq!(request.write.is_some(), !request.method.is_read());
            prop_assert!(!request.name.as_bytes().split(|byte| *byte == b'/').any(|segment| segment == b".."));
        }
    }

    /// The reader that hands requests on and the one that answers them judge alike, and see the same end: the
    /// first passes nothing that the second refuses, except faults of fields that uploads alone have.
    #[test]
    fn frame_agrees_with_parse(bytes in prop_oneof![damaged_head(), head().prop_map(String::into_bytes)]) {
        let framed = frame(&bytes);
        match parse(&bytes) {
            Ok(Progress::Incomplete) => prop_assert_eq!(framed, Ok(None)),
            Ok(Progress::Complete { request, head_bytes, .. }) => {
                let framed = framed.unwrap().unwrap();
                let Framed { target, body, .. } = framed;
                prop_assert_eq!((framed.head_bytes, body), (head_bytes, request.body));
                prop_assert_eq!(target, request.target.as_bytes());
            }
            Err(RequestError::MethodNotOffered { .. } | RequestError::FieldRepeated { .. }) => {}
            Err(error) => prop_assert_eq!(framed, Err(error)),
        }
    }

    #[test]
    fn no_bytes_panic(
        bytes: Vec<u8>,
        text in "(GET|HEAD|[!-~]{1,40}) [ -~]{0,20}( HTTP/[0-9.]{1,4})?\r\n.{0,80}",
    ) {
        let _ = parse(&bytes);
        let _ = parse(text.as_bytes());
    }
}

/// A known host saves its reading, and changes nothing else.
#[test]
fn a_known_host_is_not_told_again() {
    for (lines, known, told) in [
        ("GET /a HTTP/1.1\r\nHost: a:80", "a:80", None),
        ("GET /a HTTP/1.1\r\nHost: a:80", "a:8", Some("a:80")),
        ("GET /a HTTP/1.1\r\nHost: a:80", "", Some("a:80")),
        ("GET /a HTTP/1.1\r\nHost: A:80", "a:80", Some("A:80")),
        ("GET http://b/a HTTP/1.1\r\nHost: a:80", "a:80", Some("b")),
        ("PUT /a HTTP/1.1\r\nHost: a:80\r\nContent-Length: 1", "a:80", Some("a:80")),
        ("GET /a HTTP/1.0", "", None),
    ] {
        let head = format!("{lines}\r\n\r\n");
        let Ok(Progress::Complete { request, authority, .. }) =
            parse_knowing(head.as_bytes(), known.as_bytes(), Wanted::default())
        else {
            panic!("{head:?}");
        };
        assert_eq!(authority.map(|authority| authority.text), told.map(str::as_bytes), "{head:?} {known}");
        assert_eq!(request, super::complete(&head), "{head:?} {known}");
    }
    for lines in ["Host: a\r\nHost: a", "Host: a, a", "Host:", "X: y"] {
        let head = format!("GET /a HTTP/1.1\r\n{lines}\r\n\r\n");
        assert_eq!(
            parse_knowing(head.as_bytes(), b"a", Wanted::default()),
            parse(head.as_bytes()),
            "{lines:?}"
        );
    }
}
