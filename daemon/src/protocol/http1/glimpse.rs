//! The readable parts of a refused request, for its line in the log and for the id in its answer; nothing is
//! decided by them.

use crate::protocol::http1::caller::Caller;
use crate::protocol::http1::fields::Fields;
use crate::protocol::http1::read_fields::Wanted;
use crate::protocol::http1::{head, line};

/// The readable parts of a request, whatever is wrong with the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse<'b> {
    /// The method, known or not, where it is a token (RFC 9110 9.1) of usual length.
    pub method: Option<&'b str>,
    /// The target as it came, for logs (escape it first).
    pub target: Option<&'b [u8]>,
    /// The `Range` field, where all fields could be read.
    pub range: Option<Box<[u8]>>,
    /// The names that the client gives itself and its request, where all fields could be read.
    pub caller: Option<Box<Caller>>,
    /// Whether the client prefers a page, where all fields could be read.
    pub prefers_html: bool,
}

impl<'b> Glimpse<'b> {
    /// Reads the request at the start of `buffer`, which need not be whole.
    #[must_use]
    pub fn of(buffer: &'b [u8]) -> Glimpse<'b> {
        let cut = head::cut(buffer);
        let (method, target) = line::tell(cut.line, cut.is_line_whole);
        let fields = cut.fields.and_then(|lines| Fields::parse(lines, None, false, Wanted::default()).ok());
        let range = fields.as_ref().and_then(Fields::range);
        let caller = fields.as_ref().and_then(Fields::caller);
        let prefers_html = fields.is_some_and(|fields| fields.accepted().prefers_html());
        Glimpse { method, target, range, caller, prefers_html }
    }

    /// Whether the request is answered without a body, whatever is wrong with it.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == Some("HEAD")
    }
}

#[cfg(test)]
mod tests {
    use super::Glimpse;

    #[test]
    fn as_much_is_told_as_has_come() {
        let table: [(&str, Option<&str>, Option<&str>); 17] = [
            ("", None, None),
            ("GET", None, None),
            ("GET ", Some("GET"), None),
            ("GET /a", Some("GET"), None),
            ("GET /a ", Some("GET"), Some("/a")),
            ("GET /a\r\n", Some("GET"), Some("/a")),
            ("\r\nHEAD /a HTTP/1.1\r\n\r\n", Some("HEAD"), Some("/a")),
            ("GET /a HTTP/1.1\n\n", Some("GET"), Some("/a")),
            ("BREW /a HTTP/1.1\r\n", Some("BREW"), Some("/a")),
            ("get /a HTTP/9.9\r\n", Some("get"), Some("/a")),
            ("GET * HTTP/1.1\r\n", Some("GET"), Some("*")),
            ("GET  /a HTTP/1.1\r\n", Some("GET"), None),
            (" /a HTTP/1.1\r\n", None, None),
            ("G\"T /a HTTP/1.1\r\n", None, None),
            ("\u{16}\u{3}\u{1} \u{1} ", None, None),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", None, None),
            ("GET /\u{1b}[m HTTP/1.1\r\n", Some("GET"), Some("/\u{1b}[m")),
        ];
        for (bytes, method, target) in table {
            let glimpse = Glimpse::of(bytes.as_bytes());
            assert_eq!((glimpse.method, glimpse.target), (method, target.map(str::as_bytes)), "{bytes:?}");
            assert_eq!(glimpse.is_head(), method == Some("HEAD"));
        }
        let long = format!("GET /{}", "a".repeat(9_000));
        assert!(Glimpse::of(long.as_bytes()).target.is_some_and(|target| target.starts_with(b"/aaa")));
    }

    #[test]
    fn fields_are_told_where_all_of_them_can_be_read() {
        let fields = "X-Request-Id: mine\r\nUser-Agent: a/1\r\nRange: bytes=0-\r\n";
        for (more, is_told) in [
            ("\r\n", true),
            ("Host: a\r\nHost: b\r\n\r\n", true),
            ("Content-Length: x\r\n\r\n", true),
            ("", false),
            ("X: y\n\r\n", false),
            ("nonsense\r\n\r\n", false),
        ] {
            let bytes = format!("BREW / HTTP/1.1\r\n{fields}{more}");
            let glimpse = Glimpse::of(bytes.as_bytes());
            let caller = glimpse.caller.as_deref();
            assert_eq!(caller.and_then(|caller| caller.id.as_deref()), is_told.then_some("mine"), "{more:?}");
            assert_eq!(caller.and_then(|caller| caller.agent()), is_told.then_some(&b"a/1"[..]));
            assert_eq!(glimpse.range.as_deref(), is_told.then_some(&b"bytes=0-"[..]));
        }
    }
}
