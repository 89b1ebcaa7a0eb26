//! Answers as a strict client reads them.

/// The head of an answer.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Takes one from the beginning of `bytes`, if it is whole.
    pub(super) fn take(bytes: &mut Vec<u8>) -> Option<Head> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
        bytes.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let rest =
            status_line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("no status line: {text:?}"));
        let (status, reason) = rest.split_once(' ').unwrap_or_else(|| panic!("no reason: {text:?}"));
        assert!(status.len() == 3 && !reason.is_empty(), "not a status line: {status_line:?}");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
            assert!(
                !name.is_empty() && !name.contains(' ') && value == value.trim(),
                "not a field: {line:?}"
            );
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let head = Head {
            status: status.parse().expect("a status is a number"),
            fields: lines.map(field).collect(),
        };
        for name in ["content-length", "transfer-encoding", "etag", "date", "content-range", "connection"] {
            assert!(head.fields.iter().filter(|(of, _)| of == name).count() <= 1, "{name} twice: {text:?}");
        }
        Some(head)
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// Returns the length that it announces for its body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.field("content-length").map(|length| length.parse().expect("a length is a number"))
    }

    pub(super) fn is_interim(&self) -> bool {
        self.status < 200
    }

    pub(super) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Whether bytes that end within a head could have become one.
pub(super) fn may_begin_head(bytes: &[u8]) -> bool {
    let line = b"HTTP/1.1 ";
    let count = bytes.len().min(line.len());
    bytes[..count] == line[..count]
}
