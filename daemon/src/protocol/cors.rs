//! Decisions of the CORS protocol (Fetch standard, section 3.3): which page may read an answer, and what it is told.

/// The fields of answers that a page may read without being told so by anybody's settings: those of ranges, of files
/// and of uploads, besides the few that browsers always show.
pub const EXPOSED: &str = "Accept-Ranges, Allow, Content-Disposition, Content-Encoding, Content-Length, Content-Range, \
     ETag, Location, Repr-Digest, Retry-After, Upload-Complete, Upload-Id, Upload-Limit, Upload-Offset, X-Request-Id";

/// The fields of requests that a page may send without being named in anybody's settings: those of ranges, conditions
/// and uploads, and the token.
pub const ALLOWED: &str = "Authorization, Content-Digest, Content-Range, Content-Type, If-Match, If-Modified-Since, \
     If-None-Match, If-Range, If-Unmodified-Since, Range, Repr-Digest, Upload-Complete, \
     Upload-Draft-Interop-Version, Upload-Id, Upload-Length, Upload-Offset, Want-Repr-Digest, X-Request-Id";

/// The origin that an answer lets read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'o> {
    /// Any may.
    Any,
    /// This one may, which asked.
    Origin(&'o str),
    /// The one that asked may not, or nobody asked, while others may.
    Other,
}

/// Returns what an answer says to a request of `origin` where pages of `origins` may read.
#[must_use]
pub fn grant<'o>(origins: &[String], origin: Option<&'o [u8]>) -> Grant<'o> {
    if origins.iter().any(|allowed| allowed == "*") {
        return Grant::Any;
    }
    match origin {
        Some(origin) if is_named(origins, origin) => {
            std::str::from_utf8(origin).map_or(Grant::Other, Grant::Origin)
        }
        _ => Grant::Other,
    }
}

/// Whether an origin is one of `origins` by its own name: `*` is nobody's.
#[must_use]
pub fn is_named(origins: &[String], origin: &[u8]) -> bool {
    // Browsers write scheme and host in lower case, people may not.
    origin != b"*" && origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
}

/// A list with further members.
#[must_use]
pub fn with_further(list: &str, further: &[String]) -> String {
    further.iter().fold(list.to_owned(), |list, name| format!("{list}, {name}"))
}

#[cfg(test)]
mod tests {
    use super::{Grant, grant, is_named, with_further};

    #[test]
    fn an_answer_names_the_origin_that_asked_and_no_other() {
        let named = ["https://a.example".to_owned(), "http://localhost:3000".to_owned()];
        let any = ["*".to_owned()];
        for (origins, origin, expected) in [
            (&named[..], Some("https://a.example"), Grant::Origin("https://a.example")),
            (&named, Some("http://localhost:3000"), Grant::Origin("http://localhost:3000")),
            (&named, Some("http://a.example"), Grant::Other),
            (&named, Some("https://a.example:444"), Grant::Other),
            (&named, Some("https://a.example.evil"), Grant::Other),
            (&named, Some("null"), Grant::Other),
            (&named, Some("*"), Grant::Other),
            (&named, None, Grant::Other),
            (&any, Some("null"), Grant::Any),
            (&any, None, Grant::Any),
            (&[], Some("https://a.example"), Grant::Other),
        ] {
            assert_eq!(grant(origins, origin.map(str::as_bytes)), expected, "{origin:?}");
        }
    }

    #[test]
    fn whoever_is_let_in_with_everybody_is_not_named() {
        assert!(!is_named(&["*".to_owned()], b"https://a.example"));
        assert!(!is_named(&["*".to_owned()], b"*"));
        assert!(is_named(&["https://A.example".to_owned()], b"https://a.example"));
    }

    #[test]
    fn further_members_stand_behind_those_that_are_always_there() {
        assert_eq!(with_further("A, B", &["X-C".to_owned()]), "A, B, X-C");
        assert_eq!(with_further("A", &[]), "A");
    }
}
